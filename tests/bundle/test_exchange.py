"""Homes that meet by bundles alone end up the same, and nothing that was deleted comes back."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import pytest

from localstore.errors import Damaged, NotFound, UsageError
from localstore.format.spec import DataClass
from localstore.layout import HomePaths
from localstored.bundles.bundle import bundle_inspect
from localstored.remotes.base import MAX_PIECE_BYTES
from localstored.remotes.bundlefile import BundleFile
from tests.bundle.homes import acknowledge, device_of, export, file_receipt, import_
from tests.sync.makers import Log, Project, make_project, synced_bytes

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home that has the project."""
    return tmp_path / "home"


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """Another home of the same person."""
    return tmp_path / "desk"


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    """Where the stick is mounted."""
    folder = tmp_path / "stick"
    folder.mkdir()
    return folder


@pytest.fixture
def project(home: Path) -> Project:
    """One run that refers to one object, and what never leaves."""
    made = make_project(home)
    subject = made.run()
    made.log(subject, DataClass.ARTIFACTS, refs=[made.object(size=3000)])
    made.log(subject, DataClass.CONSOLE)
    return made


def what_leaves(home: Path, project: Project) -> dict[str, bytes]:
    """Everything but the console."""
    every = synced_bytes(home)
    return {name: data for name, data in every.items() if not _is_console(name, data)}


def _is_console(name: str, data: bytes) -> bool:
    return name.endswith(".log") and data[10] == DataClass.CONSOLE


def receipts_of(home: Path) -> list[str]:
    return sorted(path.name for path in home.glob("projects/*/receipts/*"))


# ------------------------------------------------------------------ there
def test_what_may_leave_arrives_and_what_may_not_is_named(
    home: Path, desk: Path, stick: Path, project: Project
) -> None:
    done = export(home, stick / "a.bundle", signers=[device_of(project)])
    assert done.ok
    assert done.signed == 1
    (pushed,) = done.sync.projects
    assert pushed.standing.held
    assert not done.sync.to_json()["failed"]

    taken = import_(desk, stick / "a.bundle")
    assert taken.ok, taken.to_json()
    assert synced_bytes(desk) == what_leaves(home, project)
    (signed,) = taken.signatures
    assert signed.who == "member"
    assert taken.projects == [project.id]


def test_a_bundle_is_no_proof_for_anybody(
    home: Path, desk: Path, stick: Path, project: Project
) -> None:
    assert export(home, stick / "a.bundle").ok
    assert import_(desk, stick / "a.bundle").ok
    assert receipts_of(home) == receipts_of(desk) == []
    assert not list(home.glob("projects/*/trust/*"))


def test_an_import_changes_neither_the_bundle_nor_its_time(
    home: Path, desk: Path, stick: Path, project: Project
) -> None:
    export(home, stick / "a.bundle")
    os.utime(stick / "a.bundle", (5, 5))
    before = (stick / "a.bundle").read_bytes()
    own = make_project(desk)
    own.run()
    for _ in range(2):
        assert import_(desk, stick / "a.bundle").ok
    assert (stick / "a.bundle").read_bytes() == before
    assert (stick / "a.bundle").stat().st_mtime == 5


def test_an_import_pushes_nothing_of_a_project_that_both_have(
    home: Path, desk: Path, stick: Path, project: Project
) -> None:
    export(home, stick / "a.bundle")
    import_(desk, stick / "a.bundle")
    here = Project(
        HomePaths(desk).project(project.id),
        project.user_seed,
        project.device_seed,
        project.cert,
        project.genesis,
    )
    here.run()
    before = (stick / "a.bundle").read_bytes()
    report = import_(desk, stick / "a.bundle")
    assert report.ok, report.to_json()
    assert report.sync.projects[0].pushed == 0
    assert (stick / "a.bundle").read_bytes() == before


def test_an_export_takes_nothing_from_the_bundle_that_it_goes_on_with(
    home: Path, desk: Path, stick: Path, project: Project
) -> None:
    """Two homes put their runs into one bundle; each keeps to its own until it imports."""
    export(home, stick / "a.bundle")
    import_(desk, stick / "a.bundle")
    theirs = Project(
        HomePaths(desk).project(project.id),
        project.user_seed,
        project.device_seed,
        project.cert,
        project.genesis,
    )
    theirs.run()
    before = synced_bytes(home)
    assert export(desk, stick / "a.bundle").ok
    project.run()
    now = synced_bytes(home)
    assert now.keys() > before.keys()
    assert export(home, stick / "a.bundle").ok
    assert synced_bytes(home) == now
    assert import_(home, stick / "a.bundle").ok
    assert import_(desk, stick / "a.bundle").ok
    assert what_leaves(home, project) == synced_bytes(desk)


def test_a_second_export_adds_only_what_is_new(
    home: Path, desk: Path, stick: Path, project: Project
) -> None:
    path = stick / "a.bundle"
    export(home, path)
    size = path.stat().st_size
    again = export(home, path)
    assert again.ok
    assert path.stat().st_size == size
    project.run()
    assert export(home, path).ok
    assert size < path.stat().st_size < 2 * size
    assert import_(desk, path).ok
    assert synced_bytes(desk) == what_leaves(home, project)


# ------------------------------------------------------------------ since a receipt
def meet(home: Path, desk: Path, stick: Path, project: Project, name: str = "a.bundle") -> None:
    """A bundle there, a receipt back."""
    assert export(home, stick / name).ok
    assert import_(desk, stick / name).ok
    acknowledge(desk, stick / "receipt", bundle=stick / name, signers=[device_of(project)])
    assert file_receipt(home, stick / "receipt", name="desk").ok


def test_since_a_receipt_only_what_is_new_goes_and_logs_go_on_where_they_were(
    home: Path, desk: Path, stick: Path, project: Project
) -> None:
    log = Log(project, project.subjects[0])
    log.records(50_000)
    meet(home, desk, stick, project)
    first = (stick / "a.bundle").stat().st_size
    log.records(100)
    done = export(home, stick / "b.bundle", since="desk")
    assert done.ok, done.to_json()
    assert done.assumed > 5
    assert (stick / "b.bundle").stat().st_size < first / 5
    assert done.sync.projects[0].pushed == 1

    taken = import_(desk, stick / "b.bundle")
    assert taken.ok, taken.to_json()
    assert taken.absent == 0
    assert synced_bytes(desk) == what_leaves(home, project)


def test_without_a_name_the_only_destination_is_meant(
    home: Path, desk: Path, stick: Path, project: Project
) -> None:
    with pytest.raises(NotFound, match="no destination"):
        export(home, stick / "b.bundle", since="")
    meet(home, desk, stick, project)
    assert export(home, stick / "b.bundle", since="").assumed
    with pytest.raises(NotFound, match="there are: desk"):
        export(home, stick / "c.bundle", since="moon")


def test_a_bundle_that_builds_on_a_missing_one_says_so_and_heals_in_any_order(
    home: Path, desk: Path, stick: Path, tmp_path: Path, project: Project
) -> None:
    log = Log(project, project.subjects[0])
    log.records(500)
    meet(home, desk, stick, project)
    log.records(300)
    project.run()
    assert export(home, stick / "b.bundle", since="desk").ok
    moon = tmp_path / "moon"

    early = import_(moon, stick / "b.bundle")
    assert not early.ok
    assert not (moon / "projects" / project.id / "FORMAT").exists()
    assert import_(moon, stick / "a.bundle").ok
    assert import_(moon, stick / "b.bundle").ok
    assert synced_bytes(moon) == what_leaves(home, project)


def test_a_log_that_is_another_version_is_not_continued(
    home: Path, desk: Path, stick: Path, project: Project
) -> None:
    """The receiver's copy has as many bytes as the sender assumes, and others."""
    log = Log(project, project.subjects[0])
    log.records(400)
    meet(home, desk, stick, project)
    copy = desk / log.path.relative_to(home)
    raw = bytearray(copy.read_bytes())
    raw[-40] ^= 1
    copy.write_bytes(raw)
    log.records(100)
    export(home, stick / "b.bundle", since="desk")
    taken = import_(desk, stick / "b.bundle")
    assert not taken.ok
    assert [name.rpartition("/")[2] for name in taken.unmet] == [log.path.name]
    assert copy.read_bytes() == bytes(raw)


def test_what_the_receiver_lost_is_said_to_be_absent(
    home: Path, desk: Path, stick: Path, project: Project
) -> None:
    meet(home, desk, stick, project)
    for path in desk.glob("projects/*/objects/*/*"):
        path.unlink()
    project.run()
    export(home, stick / "b.bundle", since="desk")
    assert import_(desk, stick / "b.bundle").absent == 1


# ------------------------------------------------------------------ any order, many times
def test_bundles_in_any_order_and_repeated_give_the_same(
    home: Path, stick: Path, tmp_path: Path, project: Project
) -> None:
    log = Log(project, project.subjects[0])
    for name in ("a", "b", "c"):
        log.records(200)
        project.run()
        assert export(home, stick / name).ok
    wanted = what_leaves(home, project)
    for number, order in enumerate(itertools.permutations("abcb")):
        other = tmp_path / f"other{number}"
        for name in order:
            assert import_(other, stick / name).ok
        assert synced_bytes(other) == wanted


def test_an_old_stick_brings_nothing_back(
    home: Path, desk: Path, stick: Path, tmp_path: Path, project: Project
) -> None:
    """Made before an erasure and imported after it, here, there, and where nobody knew the run."""
    subject = project.subjects[0]
    project.run()
    export(home, stick / "old")
    import_(desk, stick / "old")
    project.bury(subject)
    assert export(home, stick / "new").ok
    assert not list(home.glob(f"projects/*/runs/{subject}/*"))
    with BundleClosing(stick / "new") as names:
        assert not [name for name in names if subject in name]
    moon = tmp_path / "moon"
    for there in (desk, home, moon):
        assert import_(there, stick / "new").ok
        assert import_(there, stick / "old").ok
        left = [str(path) for path in there.rglob("*") if subject in path.name and path.is_file()]
        assert not left
        assert not list(there.glob(f"projects/*/*/{subject}/*"))
        assert not list(there.glob("projects/*/objects/*/*"))


def test_a_run_that_was_erased_leaves_the_bundle_that_is_gone_on_with(
    home: Path, desk: Path, stick: Path, project: Project
) -> None:
    subject = project.subjects[0]
    project.run()
    export(home, stick / "a")
    project.bury(subject)
    assert export(home, stick / "a").ok
    assert import_(desk, stick / "a").ok
    assert not list(desk.glob(f"projects/*/*/{subject}/*"))


class BundleClosing:
    """The names that a bundle offers."""

    def __init__(self, path: Path) -> None:
        self.bundle = BundleFile.for_reading(path)

    def __enter__(self) -> list[str]:
        return [entry.name for entry in self.bundle.list("")]

    def __exit__(self, *_: object) -> None:
        self.bundle.close()


# ------------------------------------------------------------------ cut and resumed
def test_an_export_that_was_cut_anywhere_is_finished_by_the_next_one(
    home: Path, stick: Path, tmp_path: Path, project: Project
) -> None:
    export(home, stick / "whole", signers=[device_of(project)])
    raw = (stick / "whole").read_bytes()
    for number, length in enumerate(range(50, len(raw), 997)):
        path = stick / f"cut{number}"
        path.write_bytes(raw[:length])
        assert export(home, path, signers=[device_of(project)]).ok
        there = tmp_path / f"there{number}"
        taken = import_(there, path)
        assert taken.ok, taken.to_json()
        assert len(taken.signatures) == 1
        assert synced_bytes(there) == what_leaves(home, project)


def test_what_is_whole_in_a_cut_bundle_arrives_and_the_rest_later(
    home: Path, stick: Path, tmp_path: Path, project: Project
) -> None:
    export(home, stick / "whole")
    raw, wanted = (stick / "whole").read_bytes(), what_leaves(home, project)
    for number, length in enumerate(range(84, len(raw), 1499)):
        path, there = stick / "cut", tmp_path / f"there{number}"
        path.write_bytes(raw[:length])
        early = import_(there, path)
        assert not early.ok
        assert synced_bytes(there).items() <= wanted.items()
        assert import_(there, stick / "whole").ok
        assert synced_bytes(there) == wanted


def test_a_large_object_goes_in_pieces_over_parts(
    home: Path, desk: Path, stick: Path, project: Project
) -> None:
    subject = project.run()
    large = [project.object(size=2 * MAX_PIECE_BYTES + 17 + n) for n in range(3)]
    project.log(subject, DataClass.ARTIFACTS, refs=large)
    done = export(home, stick / "a.bundle", part_bytes=8 << 20)
    assert done.ok
    assert len(done.parts) >= 3
    assert all(part.bytes < 8 << 20 for part in done.parts)
    taken = import_(desk, stick / "a.bundle.002")
    assert taken.ok, taken.to_json()
    assert synced_bytes(desk) == what_leaves(home, project)


def test_parts_that_are_too_small_and_folders_that_are_missing_are_refused(
    home: Path, stick: Path, project: Project
) -> None:
    with pytest.raises(UsageError, match="parts of 1000000 bytes"):
        export(home, stick / "a", part_bytes=1_000_000)
    with pytest.raises(NotFound, match="no folder"):
        export(home, stick / "not mounted" / "a")
    with pytest.raises(NotFound, match="no project"):
        export(home, stick / "a", projects=["ab" * 32])
    assert not list(stick.iterdir())


def test_on_fat_parts_stay_below_four_gibibytes(
    home: Path, stick: Path, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    real = BundleFile.for_writing

    def spy(path: Path, *, part_bytes: int = 0, now_us: int = 0) -> BundleFile:
        asked.append(part_bytes)
        return real(path, part_bytes=part_bytes, now_us=now_us)

    monkeypatch.setattr(BundleFile, "for_writing", spy)
    monkeypatch.setattr("localstored.bundles.bundle.file_system_of", lambda *_: "vfat")
    export(home, stick / "a")
    export(home, stick / "b", part_bytes=8 << 30)
    export(home, stick / "c", part_bytes=1 << 30)
    assert asked == [(4 << 30) - 1, (4 << 30) - 1, 1 << 30]


# ------------------------------------------------------------------ relay
def test_a_machine_without_a_key_passes_on_what_it_cannot_read(
    home: Path, desk: Path, stick: Path, tmp_path: Path, project: Project
) -> None:
    gate = tmp_path / "gate"
    export(home, stick / "a", signers=[device_of(project)])
    alone = import_(gate, stick / "a", recipients=frozenset())
    assert not alone.ok
    assert alone.skipped == [project.id]
    assert synced_bytes(gate) == {}

    taken = import_(gate, stick / "a", recipients=frozenset(), relay=True)
    assert taken.ok, taken.to_json()
    passed = export(gate, stick / "b")
    assert passed.ok, passed.to_json()
    assert passed.signed == 0
    assert not (gate / "identity").exists()
    assert import_(desk, stick / "b").ok
    assert synced_bytes(desk) == what_leaves(home, project)


def test_a_relay_takes_no_project_without_its_genesis(
    home: Path, stick: Path, tmp_path: Path, project: Project
) -> None:
    """Anybody could make a folder of any id by a bundle."""
    bundle = BundleFile.for_writing(stick / "a")
    bundle.create(f"projects/{'ab' * 32}/FORMAT", b"localstore 1\n")
    bundle.finish([], 1)
    bundle.close()
    gate = tmp_path / "gate"
    assert not import_(gate, stick / "a", relay=True).ok
    assert not (gate / "projects" / ("ab" * 32)).exists()


# ------------------------------------------------------------------ bad bundles
def test_every_file_of_a_bundle_may_be_damaged_and_the_others_arrive(
    home: Path, stick: Path, tmp_path: Path, project: Project
) -> None:
    export(home, stick / "whole", signers=[device_of(project)])
    raw, wanted = (stick / "whole").read_bytes(), what_leaves(home, project)
    hurt = 0
    for number, at in enumerate(range(100, len(raw), 601)):
        changed = bytearray(raw)
        changed[at] ^= 1
        (stick / "bad").write_bytes(changed)
        there = tmp_path / f"there{number}"
        report = import_(there, stick / "bad")
        assert not report.ok
        assert synced_bytes(there).items() <= wanted.items()
        hurt += len(wanted) - len(synced_bytes(there)) <= 2
    assert hurt


def test_a_bundle_that_was_changed_after_it_was_signed_is_told(
    home: Path, desk: Path, stick: Path, project: Project
) -> None:
    other = make_project(home)
    export(home, stick / "a", projects=[project.id])

    def forge(label: bytes, message: bytes) -> bytes:
        return device_of(project)[2](label, message[::-1])

    device, cert, _ = device_of(project)
    export(home, stick / "a", projects=[project.id], signers=[(device, cert, forge)])
    taken = import_(desk, stick / "a")
    assert not taken.ok
    assert taken.forged == 1
    assert synced_bytes(desk).keys() == {n for n in what_leaves(home, project) if other.id not in n}


def test_a_stranger_may_sign_and_is_named_as_one(
    home: Path, desk: Path, stick: Path, project: Project, tmp_path: Path
) -> None:
    stranger = make_project(tmp_path / "elsewhere")
    export(home, stick / "a", signers=[device_of(stranger)])
    taken = import_(desk, stick / "a")
    assert taken.ok
    assert [one.who for one in taken.signatures] == ["unknown"]


def test_something_else_than_a_bundle_is_refused(desk: Path, stick: Path) -> None:
    (stick / "a").write_bytes(b"holiday")
    with pytest.raises(Damaged, match="no bundle"):
        import_(desk, stick / "a")
    with pytest.raises(NotFound):
        import_(desk, stick / "b")


# ------------------------------------------------------------------ inspect
def test_what_is_inside_is_told_without_a_key(home: Path, stick: Path, project: Project) -> None:
    export(home, stick / "a", signers=[device_of(project)])
    found = bundle_inspect(stick / "a", verify=True)
    assert found.ok
    (content,) = found.projects
    assert content.project == project.id
    assert content.subjects == 1
    assert set(content.classes) == {"keys", "meta", "metrics", "artifacts"}
    assert content.classes["artifacts"].items == 2
    assert sum(one.items for one in content.classes.values()) == content.files.items
    assert [one.device for one in found.signatures] == [device_of(project)[0].hex()]


def test_inspect_reads_every_byte_when_asked(home: Path, stick: Path, project: Project) -> None:
    export(home, stick / "a")
    raw = bytearray((stick / "a").read_bytes())
    at = raw.index(b"LSOB") + 500
    raw[at] ^= 1
    (stick / "a").write_bytes(raw)
    assert bundle_inspect(stick / "a").ok
    found = bundle_inspect(stick / "a", verify=True)
    assert not found.ok
    assert len(found.damaged) == 1


# ------------------------------------------------------------------ the folder form
def test_a_folder_carries_the_same(home: Path, desk: Path, stick: Path, project: Project) -> None:
    done = export(home, stick / "runs", folder=True)
    assert done.ok
    assert done.form == "folder"
    assert export(home, stick / "runs").ok
    before = synced_bytes(stick / "runs")
    own = make_project(desk)
    assert import_(desk, stick / "runs").ok
    arrived = synced_bytes(desk)
    assert {n: d for n, d in arrived.items() if own.id not in n} == what_leaves(home, project)
    assert synced_bytes(stick / "runs") == before
    found = bundle_inspect(stick / "runs")
    assert [one.project for one in found.projects] == [project.id]


def test_names_in_a_folder_are_such_as_fat_holds(home: Path, stick: Path, project: Project) -> None:
    export(home, stick / "runs", folder=True)
    for path in (stick / "runs").rglob("*"):
        assert not set(path.name) & set('<>:"/\\|?*')
        assert path.name == path.name.lower() or path.name in ("FORMAT", "LOCALSTORE-REMOTE")
        assert not path.is_symlink()
        assert path.stat().st_nlink == 1 or path.is_dir()


# ------------------------------------------------------------------ policy
def test_a_rule_may_name_bundles(home: Path, desk: Path, stick: Path, project: Project) -> None:
    rule = '[rules.by-hand]\nclasses = ["metrics"]\nremotes = ["bundle"]\nleave = "never"\n'
    (home / "policy.toml").write_text(rule)
    done = export(home, stick / "a")
    assert done.ok
    assert any("by-hand" in note.reason for note in done.sync.projects[0].held)
    (content,) = bundle_inspect(stick / "a").projects
    assert "metrics" not in content.classes
    assert "meta" in content.classes


def test_what_only_leaves_by_hand_leaves_in_a_bundle(
    home: Path, stick: Path, project: Project
) -> None:
    (home / "policy.toml").write_text('[classes]\nmetrics = "manual"\n')
    assert export(home, stick / "a").ok
    (content,) = bundle_inspect(stick / "a").projects
    assert "metrics" in content.classes
