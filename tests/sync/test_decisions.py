"""The pure middle: the plan, and where the catalog lies."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

import pytest

from localstore.errors import AlreadyExists, BadSetting, LocalStoreError, NotFound, RemoteError
from localstore.layout import ProjectPaths, parse_name
from localstore.policy.rules import RuleRef
from localstore.remotes import add_remote, claim_folder, read_remotes, remove_remote
from localstored import plan
from localstored.catalog import Catalog, There
from localstored.inventory import Item
from localstored.place import catalog_path, file_system_of, is_network
from localstored.plan import Differs, Evidence, Same, View, questions
from localstored.policy import Decision, Held, Leaves

S, G, H = "11" * 16, "22" * 16, "33" * 16
LOG = f"runs/{S}/{G}.log"
LINK = f"links/{'44' * 32}"
SLOT = f"keys/{S}/{H}-{G}"
OBJECT = f"objects/55/{'55' * 32}"
FORK = f"runs/{S}/{G}-{H}.fork"
RULE = RuleRef("built-in", "", "console")


def item(name: str, size: int = 10, data_class: int = 0, tag: str = "00" * 16) -> Item:
    return Item(parse_name(name), size, data_class, tag)


# ------------------------------------------------------------------ plan
def view(
    mine: dict[str, int],
    theirs: dict[str, int],
    *,
    held: bool = False,
    live: bool = False,
    evidence: dict[str, Evidence] | None = None,
    cursors: dict[str, int] | None = None,
    **more: object,
) -> View:
    def decision(_: Item) -> Decision:
        return Held("it stays", RULE) if held else Leaves(RULE)

    return View(
        local={n: Item(parse_name(n), size, 1, live=live) for n, size in mine.items()},
        remote=theirs,
        decide=decision,
        evidence=evidence or {},
        cursors=cursors or {},
        **more,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("given", "want"),
    [
        (view({LOG: 10}, {}), [plan.PushCreate(LOG, 10)]),
        (view({LOG: 10}, {}, held=True), [plan.Hold(LOG, "it stays", 10, str(RULE))]),
        (view({}, {LOG: 10}), [plan.PullCreate(LOG, 10)]),
        (view({}, {LOG: 10}, pruned=frozenset({LOG})), []),
        (view({LOG: 10}, {LOG: 10}, cursors={LOG: 10}), []),
        (view({LOG: 15}, {LOG: 10}, cursors={LOG: 10}), [plan.PushAppend(LOG, 10, 15)]),
        (view({LOG: 10}, {LOG: 15}, cursors={LOG: 10}), [plan.PullAppend(LOG, 10, 15)]),
        (view({LOG: 10}, {LOG: 15}, cursors={LOG: 10}, live=True), []),
        (
            view({LOG: 10}, {LOG: 15}, cursors={LOG: 10}, held=True),
            [plan.PullAppend(LOG, 10, 15)],
        ),
        (view({LOG: 10}, {LOG: 10}, evidence={LOG: Same("cc")}), [plan.Settle(LOG, 10, "cc")]),
        (view({LOG: 12}, {LOG: 9}, evidence={LOG: Same("cc")}), [plan.PushAppend(LOG, 9, 12)]),
        (
            view({LOG: 12}, {LOG: 9}, evidence={LOG: Differs("aa" * 16, H)}),
            [plan.Fork(LOG, f"runs/{S}/{G}-{'aa' * 16}.fork", 12, FORK, 9)],
        ),
        (
            view({LOG: 12, FORK: 9}, {LOG: 9}, evidence={LOG: Differs("aa" * 16, H)}, held=True),
            [plan.Hold(FORK, "it stays", 9, str(RULE))],
        ),
        (view({LINK: 9}, {LINK: 8}, evidence={LINK: Differs("", "")}), [plan.Heal(LINK, 9)]),
        (view({LINK: 9}, {LINK: 99}, evidence={LINK: Same("cc")}), [plan.Heal(LINK, 9)]),
        (view({LOG: 10}, {}, damaged=frozenset({LOG})), []),
        (view({}, {LOG: 10}, damaged=frozenset({LOG})), []),
        (view({}, {OBJECT: 10}), []),
        (view({}, {OBJECT: 9}, wanted=frozenset({OBJECT})), [plan.PullCreate(OBJECT, 9)]),
        (
            view({LOG: 10}, {LOG: 10, SLOT: 5}, erased=frozenset({S})),
            [plan.EraseRemote(SLOT), plan.EraseLocal(LOG), plan.EraseRemote(LOG)],
        ),
        (
            view({}, {}, erased=frozenset({S}), damaged=frozenset({LOG}), tails=frozenset({LOG})),
            [plan.EraseLocal(LOG)],
        ),
    ],
)
def test_a_plan_for_every_case(given: View, want: list[plan.Step]) -> None:
    assert plan.plan(given) == want


def test_a_size_over_the_limit_is_refused_without_a_question() -> None:
    given = view({LINK: 9}, {LINK: 1 << 40})
    assert questions(given) == []
    assert isinstance(plan.plan(given)[0], plan.Refuse)


def test_only_what_nobody_knows_is_asked() -> None:
    given = view({LOG: 10, LINK: 5, SLOT: 5}, {LOG: 10, LINK: 5}, cursors={LINK: 5})
    assert [asked.name for asked in questions(given)] == [LOG]


@pytest.mark.parametrize(
    "step",
    [
        plan.PushCreate(LOG, 1),
        plan.PushAppend(LOG, 1, 2),
        plan.PullCreate(LOG, 1),
        plan.PullAppend(LOG, 1, 2),
        plan.Fork(LOG, FORK, 1, "", 2),
        plan.Heal(LOG, 1),
        plan.Settle(LOG, 1, "aa"),
        plan.EraseRemote(LOG),
        plan.EraseLocal(LOG),
        plan.Hold(LOG, "why"),
        plan.Refuse(LOG, "why"),
    ],
)
def test_every_step_can_be_printed(step: plan.Step) -> None:
    assert LOG in str(step)
    assert plan.step_to_json(step)["name"] == LOG
    assert str(plan.step_to_json(step)["step"]).islower()


# ------------------------------------------------------------------ the catalog's place
MOUNTS = "\n".join(
    [
        "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw",
        "30 22 0:40 / /home rw shared:2 - nfs4 server:/home rw",
        "31 30 0:41 / /home/me/local rw - xfs /dev/vdb rw",
        "32 22 0:42 / /mnt/my\\040disk rw - fuse.sshfs me@there rw",
        "33 22 0:43 / /data rw - ext4 /dev/vdc rw",
        "34 22 0:44 / /data rw - lustre mds:/data rw",
        "broken line",
    ]
)


@pytest.mark.parametrize(
    ("path", "kind", "network"),
    [
        ("/tmp/x", "ext4", False),
        ("/home/me", "nfs4", True),
        ("/home/me/local/store", "xfs", False),
        ("/homestead", "ext4", False),
        ("/mnt/my disk/x", "fuse.sshfs", True),
        ("/data/x", "lustre", True),
    ],
)
def test_a_file_system_is_that_of_the_deepest_mount(path: str, kind: str, network: bool) -> None:
    assert file_system_of(Path(path), MOUNTS) == kind
    assert is_network(kind) is network


def test_a_catalog_never_lies_on_a_network_file_system(tmp_path: Path) -> None:
    paths = ProjectPaths(tmp_path / ("ab" * 32))
    mounts = f"22 1 0:1 / {tmp_path} rw - nfs4 server:/x rw"
    node = Path("/var/tmp/node")
    assert catalog_path(paths, "", node) == paths.local / "catalog.db"
    assert catalog_path(paths, mounts, node).parent == node
    other = ProjectPaths(tmp_path / ("cd" * 32))
    assert catalog_path(other, mounts, node) != catalog_path(paths, mounts, node)


def test_a_catalog_of_another_version_is_thrown_away(tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "catalog.db"
    with closing(Catalog(path, "00" * 8)) as catalog:
        catalog.set_size("FORMAT", 5)
    with closing(Catalog(path, "00" * 8)) as catalog:
        assert catalog.there("FORMAT") == {"FORMAT": There(5, 0)}
    with closing(Catalog(path, "11" * 8)) as catalog:
        assert catalog.there("FORMAT") == {}
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma user_version = 99")
    with closing(Catalog(path, "00" * 8)) as catalog:
        assert catalog.there("FORMAT") == {}


# ------------------------------------------------------------------ remotes.toml
@pytest.mark.parametrize("name", ["stick", "my disk", 'a"b', "été 💾", "a.b", "x]y", "#"])
def test_a_remote_of_any_allowed_name_is_read_back(tmp_path: Path, name: str) -> None:
    entry = add_remote(tmp_path / "home", name, str(tmp_path / f"a {name}"))
    assert read_remotes(tmp_path / "home") == {name: entry}
    assert remove_remote(tmp_path / "home", name) == entry
    assert read_remotes(tmp_path / "home") == {}


def test_a_remote_below_a_disk_that_is_not_mounted_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(RemoteError, match=re.escape(f"no folder {tmp_path / 'stick'}")):
        add_remote(tmp_path / "home", "stick", str(tmp_path / "stick/localstore"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_remote_keeps_its_id(tmp_path: Path) -> None:
    assert claim_folder(tmp_path / "s") == claim_folder(tmp_path / "s")
    first = add_remote(tmp_path / "one", "a", str(tmp_path / "s"))
    second = add_remote(tmp_path / "two", "b", str(tmp_path / "s"))
    assert first.id == second.id
    with pytest.raises(AlreadyExists, match="'a'"):
        add_remote(tmp_path / "one", "c", str(tmp_path / "s"))
    with pytest.raises(AlreadyExists):
        add_remote(tmp_path / "one", "a", str(tmp_path / "t"))


@pytest.mark.parametrize("url", ["", "https://example.org", "home", "home/inside", "."])
def test_a_place_that_cannot_be_a_remote_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadSetting):
        add_remote(tmp_path / "home", "x", url)
    assert not list(tmp_path.rglob("LOCALSTORE-REMOTE"))


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "[other]",
        "remotes = 1",
        '[remotes.x]\nurl = "/x"',
        '[remotes.x]\nurl = "/x"\nid = "short"',
        f'[remotes.x]\nurl = "/x"\nid = "{"0" * 16}"\nmore = 1',
        '[remotes."a/b"]\nurl = "/x"\nid = "0000000000000000"',
    ],
)
def test_a_file_of_another_form_is_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "remotes.toml").write_text(text)
    with pytest.raises(LocalStoreError):
        read_remotes(tmp_path)


def test_forgetting_an_unknown_remote_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        remove_remote(tmp_path, "x")
