"""Files, versions and facts of somebody who means harm and whose signature is good."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import zstandard

import localstore
from localstore import Api, settings
from localstore.artifacts.edits import Said
from localstore.artifacts.model import fold
from localstore.errors import AlreadyExists, Damaged, LocalStoreError, StoreError, UsageError
from localstore.format import spec
from localstore.format.manifest import Entry, Part, encode_pages
from localstore.format.objects import open_object, seal_object
from localstore.format.records import bounded
from localstore.format.spec import DataClass, RecordKind
from localstore.identity import now_us
from localstore.layout import HomePaths
from localstore.query import contents as contents_module
from localstore.query.contents import write_below
from localstore.rotation import revoke_device
from localstore.store.manifests import load_entries
from localstore.store.objects import ObjectFiles
from localstore.store.objects import store as store_objects
from localstore.store.restore import restore
from localstore.store.room import check_room
from localstore.tickets import enroll, make_ticket
from tests.attacks import hostile_records as hostile
from tests.cli.conftest import call
from tests.keys.conftest import carry, recover
from tests.keys.test_rotation import id_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from localstore.project import Project

FILE_CLASSES = (DataClass.CODE, DataClass.MEDIA, DataClass.SYSTEM, DataClass.ARTIFACTS)
MIB = 1 << 20
TINY = hostile.whole("t", b"x")


@pytest.fixture
def victim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """Project `digits` with runs `victim` and `other` and artifact `model`, a folder to work in."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for name in ("other", "victim"):
        with localstore.init(project="digits", id=name) as run:
            run.log({"n": 1})
            log_model(run, "good")
    yield Api().run("victim")._project
    localstore.finish()


def log_model(run: Any, content: str) -> None:
    artifact = localstore.Artifact("model", "model")
    with artifact.new_file("file") as file:
        file.write(content)
    run.log_artifact(artifact).wait()


def call_inert(*words: str) -> str:
    """Run a command; it neither breaks nor acts on a terminal."""
    outcome = call(*words)
    for text in (outcome.out, outcome.err):
        assert text.replace("\n", "").replace("\t", "").isprintable(), (words, text)
    return outcome.out


def use_every_command(folder: Path) -> None:
    versions = [f"model:{label}" for label in ("v0", "v2", "v3", "v1000000000", "latest")]
    for words in (
        "ls", "ls --json", "show victim", "show victim --json", "show victim --system",
        "logs victim", "files victim", "files victim --json",
        f"files victim --get * --root {folder}/f",
        f"checkout victim {folder}/a", f"checkout victim {folder}/b --json --run",
        "diff victim other", "diff other victim --json", "export victim --format csv",
        "artifact ls", "artifact ls --json", "artifact ls model", "artifact ls model --json",
        *(f"artifact show {one} --files" for one in versions),
        *(f"artifact show {one} --json" for one in versions),
        *(f"artifact get {one} --root {folder}/{one}" for one in versions),
        *(f"artifact verify {one}" for one in versions), "artifact diff model:v0 model:v2",
        "du", "du --json", "gc --dry-run", "verify", "verify --read-data --json",
        "gc --grace 0", "artifact ls model",
    ):  # fmt: skip
        call_inert(*words.split(" "))


def read_all() -> None:
    """What `Api` gives; errors of ours are answers."""
    api = Api()
    for run in api.runs():
        _ = (run.to_dict(), list(run.scan_history()), run.console(), run.lineage, repr(run))
        _ = (run.logged_artifacts(), run.used_artifacts(), run.system_metrics(pandas=False))
        for file in run.files():
            attempt(run.contents.read_file, file)
            attempt(run.media, {"_type": file.facts.get("kind"), "path": file.path})
    for one in [*api.artifacts(), *api.artifacts(name="model")]:
        _ = (one.created_at, one.ttl, one.metadata, one.tags, one.aliases, one.flags, repr(one))
        for method in (one.files, one.used_by, one.logged_by, one.verify, one.download):
            attempt(method)


def attempt(call: Any, *arguments: Any) -> None:
    try:
        call(*arguments)
    except LocalStoreError:
        return


CASES: dict[str, list[tuple[str, DataClass, hostile.Rows]]] = {
    **{
        f"files of class {data_class.name}": [
            ("run", data_class, hostile.of_kind(RecordKind.FILE, hostile.FILES))
        ]
        for data_class in FILE_CLASSES
    },
    **{
        f"facts {at}": [
            ("run", one, hostile.of_kind(RecordKind.FACTS, [row], now_us()))
            for one in (DataClass.CODE, DataClass.SYSTEM)
        ]
        for at, row in enumerate(hostile.FACTS)
    },
    "console": [("run", DataClass.CONSOLE, hostile.of_kind(RecordKind.OUTPUT, hostile.OUTPUTS))],
    "lineage": [("run", DataClass.META, hostile.of_kind(RecordKind.LINEAGE, hostile.LINEAGE))],
    "edits": [
        (where, DataClass.META, hostile.of_kind(RecordKind.EDIT, hostile.EDITS))
        for where in ("artifact", "run")
    ],
    "versions": [
        (where, one, hostile.of_kind(RecordKind.VERSION, hostile.VERSIONS))
        for where in ("artifact", "run")
        for one in (DataClass.ARTIFACTS, DataClass.CODE)
    ],
    "meta": [
        (where, DataClass.META, [[kind, now_us(), *row] for kind, *row in hostile.METAS])
        for where in ("artifact", "run")
    ],
    "times": [
        *(
            ("run", DataClass.MEDIA, hostile.of_kind(RecordKind.FILE, [TINY], at))
            for at in hostile.TIMES
        ),
        *(("run", DataClass.META, [[RecordKind.CONFIG, at, {"a": 1}, []]]) for at in hostile.TIMES),
        *(
            ("run", DataClass.SYSTEM, [[RecordKind.POINT, at, at, {"cpu": 1.0}]])
            for at in hostile.TIMES
        ),
        *(("run", DataClass.CONSOLE, [[RecordKind.OUTPUT, at, 1, "x"]]) for at in hostile.TIMES),
        *(
            ("artifact", DataClass.ARTIFACTS, [[RecordKind.VERSION, at, 5, b"t" * 32, {}]])
            for at in hostile.TIMES
        ),
    ],
}  # fmt: skip


@pytest.mark.parametrize("what", CASES)
def test_nonsense_that_is_signed_breaks_no_command_and_no_reader(
    victim: Project, tmp_path: Path, what: str
) -> None:
    places = {"run": victim.subject("victim"), "artifact": victim.artifact_subject("model")}
    for where, data_class, records in CASES[what]:
        hostile.write(victim, places[where], data_class, records)
    use_every_command(tmp_path / "out")
    read_all()
    made = [path for path in tmp_path.rglob("*") if path.is_file() and b"evil" in path.read_bytes()]
    assert all(path.is_relative_to(tmp_path / "out") for path in made), made
    checked_out = [path for path in made if path.relative_to(tmp_path / "out").parts[0] in "ab"]
    assert not any(part.lower() == ".git" for path in checked_out for part in path.parts)
    assert not (tmp_path / "up").exists()
    assert Api().artifact("model:v0").get_entry("file").read() == b"good"
    assert "n" in next(iter(Api().run("victim").scan_history()))


def test_one_file_that_no_disk_can_hold_does_not_keep_the_others_back(
    victim: Project, tmp_path: Path
) -> None:
    records = hostile.of_kind(RecordKind.FILE, hostile.FILES)
    hostile.write(victim, victim.subject("victim"), DataClass.MEDIA, records)
    outcome = call("files", "victim", "--get", "*", "--root", str(tmp_path / "out"))
    assert (tmp_path / "out" / "fine").read_bytes() == b"fine"
    assert (outcome.code, "l" * 100 in outcome.err) == (20, True)
    hostile.write(victim, victim.subject("victim"), DataClass.CODE, records)
    assert call("checkout", "victim", str(tmp_path / "code")).code == 20
    assert (tmp_path / "code" / "b").read_bytes() == b"evil"  # a name like any other


# ------------------------------------------------------------------ depth
def test_what_is_nested_too_deep_is_shown_as_text_and_all_else_as_it_is() -> None:
    for levels in (spec.MAX_NESTING - 2, spec.MAX_NESTING + 2, 900):
        for lists in (False, True):
            value = [1, 2, {"a": hostile.nested(levels, lists=lists), "b": [1, {"c": 2}]}]
            shown = bounded(value)
            assert (shown[:2], shown[2]["b"]) == ([1, 2], [1, {"c": 2}])
            assert (shown == value) == (levels < spec.MAX_NESTING - 1)
            assert ("too deep" in repr(shown)) == (shown != value)
    key: Any = ()
    for _ in range(900):
        key = (key,)
    assert "too deep" in repr(bounded([{key: 1}]))


def test_training_goes_on_with_values_deeper_than_python_goes() -> None:
    deep = hostile.nested(50_000, lists=True)
    with localstore.init(project="deep", id="one", config={"a": deep}) as run:
        run.log({"n": 1, "deep": deep})
        run.summary["deep"] = hostile.nested(50_000)
    found = Api().run("one")
    assert [row["n"] for row in found.scan_history()] == [1]
    assert call("show", "one", "--json").code == 0


# ------------------------------------------------------------------ objects
def test_another_zstd_makes_another_key_and_never_another_plaintext_under_one(
    victim: Project,
) -> None:
    content = b"".join(b"%d squared is %d\n" % (n, n * n) for n in range(20_000))
    made = {
        seal_object(
            DataClass.ARTIFACTS, content, victim.dedup,
            zstandard.ZstdCompressor(level=level, write_content_size=True),
        )
        for level in (1, 3, 9, 19)
    } | {seal_object(DataClass.ARTIFACTS, content, victim.dedup)}  # fmt: skip
    assert len({one.raw for one in made}) == len({one.key for one in made}) == 5
    for one in made:
        opened = open_object(one.raw, one.key, one.id, dedup_secret=victim.dedup)
        assert opened.content == content


def test_two_classes_never_share_an_object(victim: Project) -> None:
    one, other = (seal_object(c, b"same", victim.dedup) for c in FILE_CLASSES[:2])
    assert one.id != other.id
    assert one.key != other.key


def test_objects_that_change_places_are_noticed_and_named(victim: Project, tmp_path: Path) -> None:
    with localstore.init(project="digits", id="more") as run:
        log_model(run, "evil")
    entries = [Api().artifact(f"model:v{at}").get_entry("file")._entry for at in (0, 1)]
    paths = [ObjectFiles(victim.paths).path(one.parts[0].object_id) for one in entries]
    first, second = (path.read_bytes() for path in paths)
    paths[0].write_bytes(second)
    paths[1].write_bytes(first)
    for at, path in enumerate(paths):
        outcome = call("artifact", "get", f"model:v{at}", "--root", str(tmp_path / str(at)))
        assert (outcome.code, path.name in outcome.err) == (20, True)
        assert not (tmp_path / str(at) / "file").exists()


def test_a_file_of_another_run_s_object_needs_its_key_and_its_hash(victim: Project) -> None:
    entry = Api().artifact("model:v0").get_entry("file")._entry
    (part,) = entry.parts
    listed = [part.object_id, part.key, part.offset, part.length]
    body = {"size": entry.size, "hash": entry.hash}
    hostile.write(
        victim, victim.subject("victim"), DataClass.CODE,
        hostile.of_kind(RecordKind.FILE, [
            ["with key", {**body, "parts": [listed]}],
            ["without", {**body, "parts": [[part.object_id, bytes(32), *listed[2:]]]}],
            ["other hash", {**body, "hash": bytes(32), "parts": [listed]}],
            ["beyond", {**body, "parts": [[*listed[:2], part.offset + 1000, part.length]]}],
        ]),
    )  # fmt: skip
    contents = Api().run("victim").contents
    assert contents.read_file("with key") == b"good"
    for path in ("without", "other hash", "beyond"):
        with pytest.raises(Damaged):
            contents.read_file(path)


# ------------------------------------------------------------------ bombs
def bomb(project: Project, fill: bytes, times: int) -> Entry:
    """A file of one object of 15 MiB, again and again."""
    compressor = zstandard.ZstdCompressor(write_content_size=True)
    made = seal_object(DataClass.ARTIFACTS, fill * 15 * MIB, project.dedup, compressor)
    assert len(made.raw) < 10_000
    store_objects(ObjectFiles(project.paths), [(made.id, made.raw)])
    return Entry(
        "bomb", 15 * MIB * times, bytes(32), (Part(made.id, made.key, 0, 15 * MIB),) * times
    )


@pytest.fixture
def small_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that says it has 20 MiB left: no failure of a test may fill a real one."""
    ask = os.statvfs

    def small(path: Any) -> os.statvfs_result:
        facts = list(ask(path))
        facts[1], facts[4] = MIB, 20  # f_frsize, f_bavail
        return os.statvfs_result(facts)

    monkeypatch.setattr(os, "statvfs", small)


def test_files_that_do_not_fit_are_refused(
    victim: Project, tmp_path: Path, small_disk: None
) -> None:
    small = Entry("small", 1, bytes(32), ())
    files = ObjectFiles(victim.paths)
    with pytest.raises(StoreError, match="are free"):
        check_room(files, [small, bomb(victim, b"x", 3)], tmp_path)
    check_room(files, [small, bomb(victim, b"\0", 3)], tmp_path)  # holes take no room
    check_room(files, [replace(bomb(victim, b"x", 3), uri="s3://x")], tmp_path)
    check_room(files, [bomb(victim, b"x", 1)], tmp_path)


def test_a_restore_that_would_fill_the_disk_writes_nothing(
    victim: Project, tmp_path: Path, small_disk: None
) -> None:
    with pytest.raises(StoreError, match="are free"):
        restore(victim, [bomb(victim, b"x", 3)], tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_saved_code_that_would_fill_the_memory_is_not_read(victim: Project, tmp_path: Path) -> None:
    entry = bomb(victim, b"x", 20)
    listed = [[p.object_id, p.key, p.offset, p.length] for p in entry.parts]
    body = {"size": entry.size, "hash": entry.hash, "parts": listed}
    records = hostile.of_kind(
        RecordKind.FILE, [["code/bomb.py", body], hostile.whole("code/fine.py", b"pass")]
    )
    hostile.write(victim, victim.subject("victim"), DataClass.CODE, records)
    outcome = call("checkout", "victim", str(tmp_path / "code"))
    assert (outcome.code, "too many" in outcome.err) == (20, True)
    assert (tmp_path / "code" / "fine.py").read_bytes() == b"pass"
    assert call("diff", "victim", "other").code == 20


def test_a_version_of_too_many_files_is_damage(
    victim: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = Api().artifact("model:v0")._stored()[1]
    monkeypatch.setattr(spec, "MAX_VERSION_FILES", 0)
    with pytest.raises(Damaged, match="more than 0 files"):
        load_entries(victim, *version.manifests[0])
    with pytest.raises(UsageError, match="the most is 0"):
        encode_pages([Entry("one", 0, bytes(32), ())])  # and nobody writes what none reads


def test_a_writer_that_claims_the_last_number_keeps_nobody_from_logging(victim: Project) -> None:
    last = [[RecordKind.VERSION, 1, 10**9, b"z" * 32, {}]]
    hostile.write(victim, victim.artifact_subject("model"), DataClass.ARTIFACTS, last)
    with localstore.init(project="digits", id="later") as run:
        log_model(run, "one more")
        log_model(run, "and another")
    assert [one.version for one in Api().artifacts(name="model")] == [
        "v1000000000", "v2", "v1", "v0",
    ]  # fmt: skip
    assert Api().artifact("model:v2").get_entry("file").read() == b"and another"


@pytest.mark.parametrize("doubt", [{"deposit": True}, {"flag": "by a revoked device"}])
def test_a_number_keeps_its_meaning_whatever_a_lesser_machine_claims(doubt: dict[str, Any]) -> None:
    def claim(at: int, digest: bytes, **more: Any) -> Said:
        record = [RecordKind.VERSION, at, 3, digest * 32, {}]
        return Said(record=record, place=(bytes(16), at), **more)

    name = [RecordKind.ARTIFACT, 1, {"name": "model", "type": "model"}]
    said = [Said(record=name, place=(bytes(16), 0)), claim(5, b"\xee"), claim(6, b"\xdd")]
    said += [claim(1, b"\x00", **doubt), claim(2, b"\xdc", **doubt), claim(7, b"\xdd", **doubt)]
    for some in (said, said[::-1]):
        state = fold(some)
        assert state.find("v3").digest == b"\xdd" * 32
        assert sorted(one.label for one in state.versions) == [
            "v3",
            "v3.0000",
            "v3.dcdc",
            "v3.eeee",
        ]
    assert fold([said[0], *said[3:5]]).find("v3").digest == bytes(32)  # where nobody else claims it


# ------------------------------------------------------------------ races with links
def test_a_link_that_appears_while_a_file_is_written_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "root" / "sub").mkdir(parents=True)
    look = contents_module.place_below

    def swapped(root: Path, name: str) -> Path:
        place = look(root, name)
        if not (root / "sub").is_symlink():
            (root / "sub").rmdir()
            (root / "sub").symlink_to(tmp_path / "outside")
        return place

    monkeypatch.setattr(contents_module, "place_below", swapped)
    with pytest.raises(UsageError):
        write_below(tmp_path / "root", "sub/x", b"evil", replace=True)
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.mark.parametrize("replace_it", [False, True])
def test_a_link_at_the_place_of_a_run_s_file_is_not_written_through(
    tmp_path: Path, replace_it: bool
) -> None:
    (tmp_path / "outside").write_bytes(b"mine")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "x").symlink_to(tmp_path / "root" / "nowhere")
    if replace_it:
        write_below(tmp_path / "root", "x", b"new", replace=True)
        assert not (tmp_path / "root" / "x").is_symlink()
    else:
        with pytest.raises(AlreadyExists):
            write_below(tmp_path / "root", "x", b"new", replace=False)
    assert not (tmp_path / "root" / "nowhere").exists()
    (tmp_path / "root" / "hard").hardlink_to(tmp_path / "outside")
    write_below(tmp_path / "root", "hard", b"new", replace=True)
    assert (tmp_path / "outside").read_bytes() == b"mine"


def test_a_folder_that_becomes_a_link_again_and_again_leads_nothing_out(
    victim: Project, tmp_path: Path
) -> None:
    entry = Api().artifact("model:v0").get_entry("file")._entry
    entries = [replace(entry, path=f"sub/{at}") for at in range(60)]
    outside, sub, over = tmp_path / "outside", tmp_path / "root" / "sub", threading.Event()
    outside.mkdir()
    sub.parent.mkdir()

    def swap() -> None:
        while not over.is_set():
            for name in ("moved", "link"):
                attempt_os(os.rename, sub, tmp_path / "root" / name)
            attempt_os(os.symlink, outside, sub)
            attempt_os(os.unlink, sub)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(20):
            attempt(restore, victim, entries, tmp_path / "root")
    finally:
        over.set()
        thread.join()
    assert list(outside.iterdir()) == []


def attempt_os(call: Any, *arguments: Any) -> None:
    try:
        call(*arguments)
    except OSError:
        return


# ------------------------------------------------------------------ starting what others wrote
def plant(project: Project, run_id: str, folder: Any = ".") -> None:
    """Facts by which `checkout --run` would make a file in the folder where it starts."""
    code = "open('started', 'w').close()"
    facts = {"command": ["python", "-c", code], "folder": folder}
    record = [RecordKind.FACTS, now_us(), "environment", facts]
    hostile.write(project, project.subject(run_id), DataClass.SYSTEM, [record])


def other_machine(tmp_path: Path, kind: str) -> Project:
    """The project as a ticket's machine, or a machine that is revoked afterwards, has it."""
    home, laptop = HomePaths(tmp_path / "home"), HomePaths(tmp_path / "laptop")
    if kind == "deposit":
        ticket = make_ticket(Api().run("victim")._project, now_us() + 3_600_000_000)
        enroll(laptop, ticket, settings.load({"home": str(laptop.root)}))
        with localstore.init(project="digits", id="deposited", dir=laptop.root) as run:
            project = run._project
            plant(project, "deposited")
    else:
        recover(home, laptop)
        carry(home, laptop)
        project = Api(laptop.root).run("victim")._project
        plant(project, "victim")
    carry(laptop, home)
    if kind == "revoked":
        with localstore.init(project="digits", id="second", dir=laptop.root) as run:
            run.log({"n": 1})  # its certificate goes into the project
        carry(laptop, home)
        revoke_device(home, id_of(home, laptop))
    return project


@pytest.mark.parametrize(("kind", "run"), [("deposit", "deposited"), ("revoked", "victim")])
def test_code_of_a_machine_that_is_not_trusted_is_shown_and_not_started_unasked(
    victim: Project, tmp_path: Path, kind: str, run: str
) -> None:
    other_machine(tmp_path, kind)
    outcome = call("checkout", run, str(tmp_path / "code"), "--run")
    assert outcome.code == 2
    assert "only writes" in outcome.err if kind == "deposit" else "revoked" in outcome.err
    assert "open('started'" in outcome.err.replace("'\"'\"'", "'")
    assert "--yes" in outcome.err
    assert not (tmp_path / "code" / "started").exists()
    assert call("checkout", run, str(tmp_path / "again"), "--run", "--yes").code == 0
    assert (tmp_path / "again" / "started").exists()


@pytest.mark.parametrize("folder", ["../..", "/", "link", "\0", 7, None, "a" * 5000, "file"])
def test_a_hostile_folder_starts_nothing_outside(
    victim: Project, tmp_path: Path, folder: Any
) -> None:
    plant(victim, "victim", folder)
    outcome = call("checkout", "victim", str(tmp_path / "code"), "--run")
    assert (outcome.code, sys.executable in outcome.err) == (0, False)
    assert "in " + str(tmp_path / "code") in outcome.err
    assert (tmp_path / "code" / "started").exists()
