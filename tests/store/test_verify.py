"""`verify` looks at objects: whole, here while they are needed, and what records say they are."""

from __future__ import annotations

import os
import random
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import localstore
from localstore.check import Inspection, inspect_home
from localstore.format.spec import CertKind, RecordKind
from localstore.layout import HomePaths, ProjectPaths
from localstore.project import Project as Opened
from localstore.query.api import Api
from localstore.reading import read_run
from localstore.remotes import add_remote
from localstore.store.gc import TAKEN_PREFIX, collect
from localstore.store.verify import Contents
from localstore.trust import Belief, read_project
from localstore.vault import Vault
from localstored.engine import sync_home
from localstored.repair import repair_home
from tests.sync.makers import Log, Project, make_project

if TYPE_CHECKING:
    from localstore.format.records import Record

S = "11" * 16
NO_TIME = 1_600_000_000_000_000


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project without keys."""
    return make_project(tmp_path / "home")


@pytest.fixture
def home() -> HomePaths:
    """A home with two versions of an artifact, of three files each, and a run with a file."""
    home = HomePaths(Path(os.environ["LOCALSTORE_HOME"]))
    folder = home.root.parent / "data"
    folder.mkdir()
    for name in ("one", "two", "three"):
        (folder / name).write_bytes(os.urandom(150_000))
    for _ in range(2):
        (folder / "one").write_bytes(os.urandom(150_000))
        artifact = localstore.Artifact("data", "dataset")
        artifact.add_dir(str(folder))
        artifact.save(project="digits")
    run = localstore.init(project="digits", id="first")
    run.save(str(folder / "two"), base_path=str(folder))
    run.finish()
    return home


def paths_of(home: HomePaths) -> ProjectPaths:
    (paths,) = home.all_projects()
    return paths


def inspect(home: HomePaths, *, read_data: bool = True) -> Inspection:
    return inspect_home(home, Vault(home).load(), read_data=read_data)


def inspect_closed(project: Project) -> Inspection:
    """Without keys; the run's logs stand alone here, so what else they lack is passed over."""
    found = inspect_home(HomePaths(project.paths.root.parents[1]), None)
    found.findings = [one for one in found.findings if "no log of class meta" not in one.problem]
    return found


def objects(paths: ProjectPaths) -> list[Path]:
    return sorted(path for path in (paths.root / "objects").rglob("*") if path.is_file())


class TestHere:
    def test_a_sound_home_has_nothing_wrong_and_every_object_was_opened(
        self, home: HomePaths
    ) -> None:
        found = inspect(home)
        assert found.ok, found.findings
        assert found.objects == len(objects(paths_of(home)))

    def test_a_missing_object_is_named_with_a_log_that_needs_it(self, home: HomePaths) -> None:
        paths = paths_of(home)
        for path in objects(paths):
            raw = path.read_bytes()
            path.unlink()
            for read_data in (False, True):
                (finding,) = inspect(home, read_data=read_data).findings
                assert finding.kind == "missing"
                assert finding.file == str(path.relative_to(paths.root))
                assert "refers to it" in finding.problem
                assert "runs/" in finding.problem
            path.write_bytes(raw)

    @pytest.mark.parametrize("seed", range(10))
    def test_a_flipped_bit_in_an_object_is_named_and_healed(
        self, home: HomePaths, tmp_path: Path, seed: int
    ) -> None:
        paths, chance = paths_of(home), random.Random(seed)
        add_remote(home.root, "stick", str(tmp_path / "stick"))
        assert sync_home(home.root).ok
        path = chance.choice(objects(paths))
        good = path.read_bytes()
        bad = bytearray(good)
        bad[chance.randrange(len(bad))] ^= 1 << chance.randrange(8)
        path.write_bytes(bad)
        (finding,) = inspect(home).findings
        assert (finding.kind, finding.file) == ("damaged", str(path.relative_to(paths.root)))
        assert repair_home(home.root, inspect(home).to_heal()).ok
        assert path.read_bytes() == good

    def test_missing_objects_come_back_from_a_remote(self, home: HomePaths, tmp_path: Path) -> None:
        add_remote(home.root, "stick", str(tmp_path / "stick"))
        assert sync_home(home.root).ok
        before = objects(paths_of(home))
        for path in before:
            path.unlink()
        assert len(inspect(home).findings) == len(before)
        assert repair_home(home.root, inspect(home).to_heal()).ok
        assert objects(paths_of(home)) == before
        assert inspect(home).ok

    def test_an_object_cut_short_is_named(self, home: HomePaths) -> None:
        path = objects(paths_of(home))[0]
        path.write_bytes(path.read_bytes()[:5])
        (finding,) = inspect(home).findings
        assert finding.kind == "damaged"


class TestNotHereOnPurpose:
    def test_what_was_freed_is_not_missed_though_a_remote_acknowledged_it(
        self, home: HomePaths, tmp_path: Path
    ) -> None:
        paths = paths_of(home)
        add_remote(home.root, "stick", str(tmp_path / "stick"))
        assert sync_home(home.root).ok
        Api().artifact("digits/data:v0").delete(delete_aliases=True)
        assert collect(paths, read_project(paths), grace_s=0).freed > 0
        assert inspect(home).ok
        assert sync_home(home.root).ok
        assert inspect(home).ok

    def test_what_a_collector_has_in_hand_is_a_note(self, home: HomePaths) -> None:
        for path in objects(paths_of(home)):
            path.rename(path.with_name(f"{TAKEN_PREFIX}{path.name}-{'0' * 16}"))
        found = inspect(home)
        assert found.ok
        assert any("localstore gc" in note for note in found.notes)

    def test_what_an_erased_run_named_is_not_missed(self, project: Project) -> None:
        Log(project, S).ref(secrets.token_bytes(32))
        assert len(inspect_closed(project).findings) == 1
        project.bury(S, NO_TIME)
        assert inspect_closed(project).ok

    def test_what_a_device_cancelled_that_was_revoked_since_is_neither_missed_nor_freed(
        self, project: Project
    ) -> None:
        gone, kept = secrets.token_bytes(32), project.object()
        log = Log(project, S)
        log.ref(gone)
        log.ref(kept)
        expired = project.writer()
        other = Log(project, S, writer=expired)
        other.unref(log, 0, 1)
        other.head()
        assert inspect_closed(project).ok
        state = read_project(project.paths)
        state.revoked = frozenset({expired[1]})
        header_belief = {state.judge_cancel(_header(other)).belief}
        assert header_belief == {Belief.FLAGGED}
        assert collect(project.paths, state, grace_s=0).freed == 0

    def test_a_machine_that_only_writes_hides_no_loss(self, project: Project) -> None:
        log = Log(project, S)
        log.ref(secrets.token_bytes(32))
        other = Log(project, S, writer=project.writer(CertKind.DEPOSIT, 1 << 61))
        other.unref(log, 0)
        other.head()
        assert [one.kind for one in inspect_closed(project).findings] == ["missing"]

    def test_an_unref_that_nobody_vouches_for_hides_no_loss(self, project: Project) -> None:
        log = Log(project, S)
        log.ref(secrets.token_bytes(32))
        log.unref(log, 0)
        assert [one.kind for one in inspect_closed(project).findings] == ["missing"]

    def test_references_of_a_wrong_length_are_damage(self, project: Project) -> None:
        from localstore.format.segment import encode_frame

        log = Log(project, S)
        log.append(encode_frame(5, 0, b"x" * 31))
        log.append(encode_frame(6, 1, b"x" * 23))
        found = inspect_closed(project).findings
        assert [one.kind for one in found] == ["damaged", "damaged"]
        assert len({one.offset for one in found}) == 2


def _header(log: Log) -> Any:
    from localstore.format.segment import decode_header

    return decode_header(log.path.read_bytes())[0]


class TestWhatRecordsSay:
    @pytest.fixture
    def opened(self, home: HomePaths) -> Opened:
        """The project, with its keys."""
        return Opened(paths_of(home), Vault(home).load())

    def version(self, opened: Opened) -> tuple[bytes, bytes]:
        """Id and key of a manifest."""
        subject = opened.artifact_subject("data")
        records = [
            record
            for content in read_run(opened, subject, [7], [])
            for record in content.records.values()
        ]
        manifest = next(one[4]["manifest"] for one in records if one[0] == RecordKind.VERSION)
        return manifest[0], manifest[1]

    def check(self, opened: Opened, *records: Record) -> list[str]:
        needed = {path.name for path in objects(opened.paths)}
        return [str(problem) for problem in Contents(opened, needed).check(records)]

    def test_a_manifest_of_another_version_is_named(self, opened: Opened) -> None:
        manifest, key = self.version(opened)
        record = [RecordKind.VERSION, 1, 0, bytes(32), {"manifest": [manifest, key]}]
        (problem,) = self.check(opened, record, record)
        assert manifest.hex() in problem
        assert "another version" in problem

    def test_a_manifest_with_a_wrong_key_is_named(self, opened: Opened) -> None:
        manifest, _ = self.version(opened)
        record = [RecordKind.VERSION, 1, 0, bytes(32), {"manifest": [manifest, bytes(32)]}]
        (problem,) = self.check(opened, record)
        assert manifest.hex() in problem

    def test_a_part_that_reaches_beyond_its_object_is_named(self, opened: Opened) -> None:
        manifest, key = self.version(opened)
        parts = [[manifest, key, 0, 10], [manifest, key, 5, 1 << 30]]
        (problem,) = self.check(opened, [RecordKind.FILE, 1, "a", {"parts": parts}])
        assert "shorter" in problem

    def test_an_object_that_does_not_open_is_named_once(self, opened: Opened) -> None:
        manifest, _ = self.version(opened)
        parts = [[manifest, bytes(32), 0, 10]] * 3
        assert len(self.check(opened, [RecordKind.FILE, 1, "a", {"parts": parts}])) == 1

    def test_nonsense_and_what_is_not_here_is_passed_over(self, opened: Opened) -> None:
        absent = secrets.token_bytes(32)
        found = self.check(
            opened,
            [RecordKind.VERSION, 1, 0, bytes(32), {"manifest": [absent, bytes(32)]}],
            [RecordKind.VERSION, 1, 0, bytes(32), {"manifest": 5}],
            [RecordKind.VERSION, 1],
            [RecordKind.FILE, 1, "a", {"parts": 5}],
            [RecordKind.FILE, 1, "a", {"parts": [[absent, bytes(32), 0, 1], 7, [1, 2]]}],
            [RecordKind.FILE, 1, "a", {"data": b"x"}],
        )
        assert found == []
