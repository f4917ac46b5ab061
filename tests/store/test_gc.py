"""What nothing needs is freed, and nothing else, whoever writes or collects at the same time."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from localstore import crypto
from localstore.erase import sweep
from localstore.errors import NotFound
from localstore.format import segment
from localstore.layout import ProjectPaths
from localstore.store.gc import TAKEN_PREFIX, Collector, Report, collect, list_objects
from localstore.store.objects import ObjectFiles
from localstore.trust import read_project
from tests.sync.makers import NOW_US, Log, Project, make_project

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
S = "11" * 16
OLD_S = 7200.0


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project without runs."""
    return make_project(tmp_path / "home")


def where(project: Project, object_id: bytes) -> Path:
    """Where an object lies."""
    return project.paths.root / "objects" / object_id.hex()[:2] / object_id.hex()


def age(path: Path, seconds: float = OLD_S) -> None:
    """Let a file have been changed so long ago."""
    at = time.time() - seconds
    os.utime(path, (at, at))


def free(project: Project, **words: object) -> Report:
    """Collect with no time of grace."""
    given = {"grace_s": 0.0, "now_us": NOW_US, **words}
    return collect(project.paths, read_project(project.paths), **given)  # type: ignore[arg-type]


def files(project: Project) -> dict[str, bytes]:
    """Everything below the project."""
    root = project.paths.root
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


class TestWhatIsFreed:
    def test_what_nothing_needs_goes_and_what_a_log_names_stays(self, project: Project) -> None:
        kept, gone = project.object(), project.object(size=900)
        Log(project, S).ref(kept)
        report = free(project)
        assert where(project, kept).exists()
        assert not where(project, gone).exists()
        assert (report.freed, report.freed_bytes) == (1, 908)
        assert [one.id for one in report.unneeded] == [gone.hex()]
        assert free(project).freed == 0

    def test_a_dry_run_lists_and_changes_nothing(self, project: Project) -> None:
        gone = project.object(size=900)
        leftover = where(project, gone).with_name(".tmp-0123")
        leftover.write_bytes(b"12345")
        age(leftover)
        before = files(project)
        report = free(project, dry_run=True)
        assert files(project) == before
        assert [(one.id, one.size) for one in report.unneeded] == [(gone.hex(), 908)]
        assert (report.freed, report.leftovers, report.leftover_bytes) == (0, 1, 5)

    def test_what_is_young_waits_for_its_time(self, project: Project) -> None:
        young, old = project.object(), project.object()
        age(where(project, old))
        report = free(project, grace_s=3600.0)
        assert where(project, young).exists()
        assert not where(project, old).exists()
        assert (report.freed, report.young, report.young_bytes) == (1, 1, 508)

    def test_the_clock_is_that_of_the_disk(
        self, project: Project, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gone = project.object()
        monkeypatch.setattr(time, "time_ns", lambda: 1 << 61)  # a host that is far ahead
        assert free(project, grace_s=3600.0).young == 1
        assert where(project, gone).exists()

    def test_a_version_that_was_deleted_gives_its_objects_back(self, project: Project) -> None:
        gone, shared = project.object(), project.object()
        log, other = Log(project, S), Log(project, S)
        log.ref(gone, shared)
        log.ref(shared)
        assert free(project).freed == 0
        other.unref(log, 0)
        other.head()
        assert free(project).freed == 1
        assert where(project, shared).exists()

    def test_a_deleted_run_gives_its_objects_back_and_they_are_all(self, project: Project) -> None:
        gone, shared = project.object(), project.object()
        Log(project, S).ref(gone, shared)
        Log(project, "22" * 16).ref(shared)
        project.bury(S)
        state = read_project(project.paths)
        assert sweep(project.paths, state.erased(NOW_US)) == 1
        assert free(project).freed == 1
        assert [one.id for one in list_objects(project.paths).objects] == [shared.hex()]

    def test_only_what_was_asked_for_goes(self, project: Project) -> None:
        one, other = project.object(), project.object()
        assert free(project, only={one.hex()}).freed == 1
        assert where(project, other).exists()

    def test_a_project_without_objects_has_nothing_to_free(self, project: Project) -> None:
        assert free(project).freed == 0
        assert free(project, dry_run=True).unneeded == []

    def test_what_is_no_object_is_left_to_verify(self, project: Project) -> None:
        folder = where(project, project.object()).parent
        strays = [folder / "note", folder / ("0" * 64), folder.parent / "note", folder / ".gc-x"]
        for stray in strays:
            stray.write_bytes(b"mine")
        (folder / ("ab" * 32)).symlink_to(strays[0])
        assert free(project).freed == 1
        assert all(stray.exists() for stray in strays)
        assert (folder / ("ab" * 32)).is_symlink()

    def test_thousands_go_in_one_call(self, project: Project) -> None:
        kept = [project.object(size=150) for _ in range(20)]
        for _ in range(2100):
            project.object(size=150)
        Log(project, S).ref(*kept)
        assert free(project).freed == 2100
        assert len(list_objects(project.paths).objects) == 20


class TestHeld:
    @pytest.fixture(
        params=["flipped", "missing frame", "no header", "pruned", "unreadable"],
    )
    def spoil(self, request: pytest.FixtureRequest) -> Callable[[Project, Log], None]:
        """What may hide a reference."""

        def spoil(project: Project, log: Log) -> None:
            raw = bytearray(log.path.read_bytes())
            if request.param == "flipped":
                raw[-130] ^= 1
            elif request.param == "missing frame":
                raw += segment.encode_ref([], log.count + 1)
            elif request.param == "no header":
                raw[:8] = bytes(8)
            elif request.param == "pruned":
                stub = project.paths.root / "stubs" / S / log.id.hex()
                stub.parent.mkdir(parents=True)
                stub.write_text("{}")
                log.path.unlink()
                return
            else:
                log.path.unlink()
                log.path.symlink_to("/nowhere")
                return
            log.path.write_bytes(raw)

        return spoil

    def test_nothing_is_freed_while_a_log_may_hide_a_reference(
        self, project: Project, spoil: Callable[[Project, Log], None]
    ) -> None:
        gone = project.object()
        log = Log(project, S)
        log.records(200)
        spoil(project, log)
        report = free(project)
        assert report.held
        assert report.freed == 0
        assert where(project, gone).exists()
        assert [one.id for one in report.unneeded] == [gone.hex()]

    def test_what_a_dead_collector_took_is_put_back_then(self, project: Project) -> None:
        gone = project.object()
        taken = where(project, gone).with_name(f"{TAKEN_PREFIX}{gone.hex()}-{'0' * 16}")
        where(project, gone).rename(taken)
        Log(project, S).path.write_bytes(b"nonsense" * 100)
        assert free(project).returned == 1
        assert where(project, gone).exists()

    def test_a_log_that_breaks_while_objects_are_away_brings_them_back(
        self, project: Project
    ) -> None:
        gone = project.object()
        collector = Collector(project.paths, read_project(project.paths), grace_s=0.0)
        collector.look()
        (one,) = collector.unneeded(list_objects(project.paths).objects)
        taken = collector.take(one)
        assert taken is not None
        Log(project, S).path.write_bytes(b"nonsense" * 100)
        collector.look()
        collector.decide(taken)
        assert where(project, gone).exists()
        assert collector.report.spared == 1

    def test_damage_in_a_run_that_is_erased_holds_nothing(self, project: Project) -> None:
        Log(project, S).path.write_bytes(b"nonsense" * 100)
        project.object()
        project.bury(S)
        assert free(project).freed == 1


class TestLeftovers:
    def test_old_temporary_files_go_and_young_ones_stay(self, project: Project) -> None:
        folder = where(project, project.object()).parent
        old, older, young = folder / ".tmp-1", folder.parent / ".tmp-2", folder / ".tmp-3"
        for path in (old, older, young):
            path.write_bytes(b"12345")
        age(old)
        age(older)
        report = free(project)
        assert (report.leftovers, report.leftover_bytes) == (2, 10)
        assert [path.exists() for path in (old, older, young)] == [False, False, True]

    @pytest.mark.parametrize("stored_anew", [False, True])
    @pytest.mark.parametrize("needed", [False, True])
    def test_what_a_dead_collector_took_is_decided_again(
        self, project: Project, needed: bool, stored_anew: bool
    ) -> None:
        one = project.object()
        path = where(project, one)
        raw = path.read_bytes()
        path.rename(path.with_name(f"{TAKEN_PREFIX}{one.hex()}-{'0' * 16}"))
        if stored_anew:
            path.write_bytes(raw)
        if needed:
            Log(project, S).ref(one)
        free(project)
        assert [one.name for one in path.parent.iterdir()] == [one.hex()] * needed

    def test_what_was_pinned_before_it_was_taken_comes_back(self, project: Project) -> None:
        one = project.object()
        path = where(project, one)
        path.rename(path.with_name(f"{TAKEN_PREFIX}{one.hex()}-{'0' * 16}"))
        assert free(project, grace_s=3600.0).returned == 1
        assert path.exists()

    def test_a_disk_error_on_the_way_puts_everything_back(
        self, project: Project, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gone = [project.object() for _ in range(5)]

        def refuse(path: Path, missing_ok: bool = False) -> None:
            if path.name.startswith(TAKEN_PREFIX):
                raise OSError(5, "input/output error")
            path.rename(path.with_name("gone"))

        monkeypatch.setattr(Path, "unlink", refuse)
        with pytest.raises(OSError, match="input/output"):
            free(project)
        assert all(where(project, one).exists() for one in gone)
        assert not list(project.paths.root.rglob(f"{TAKEN_PREFIX}*"))

    def test_a_folder_that_only_reads_can_be_listed(self, project: Project) -> None:
        gone = project.object()
        paths = ProjectPaths(project.paths.root)
        folder = paths.root / "objects"
        folder.chmod(0o500)
        try:
            report = free(project, dry_run=True)
        finally:
            folder.chmod(0o700)
        assert [one.id for one in report.unneeded] == [gone.hex()]


class TestBesideWriters:
    @pytest.fixture
    def collector(self, project: Project) -> Collector:
        """One that has seen what there is."""
        found = Collector(project.paths, read_project(project.paths), grace_s=0.0)
        found.look()
        return found

    def test_an_object_that_is_named_while_it_is_away_comes_back(
        self, project: Project, collector: Collector
    ) -> None:
        one = project.object()
        (found,) = collector.unneeded(list_objects(project.paths).objects)
        taken = collector.take(found)
        assert taken is not None
        Log(project, S).ref(one)
        collector.look()
        collector.decide(taken)
        assert where(project, one).exists()

    def test_an_object_that_was_pinned_or_named_since_is_not_touched(
        self, project: Project, collector: Collector
    ) -> None:
        pinned, named = project.object(), project.object()
        age(where(project, pinned))
        found = {one.id: one for one in collector.unneeded(list_objects(project.paths).objects)}
        os.utime(where(project, pinned))
        Log(project, S).ref(named)
        collector.look()
        assert collector.take(found[pinned.hex()]) is None
        assert collector.take(found[named.hex()]) is None
        assert collector.report.spared == 2
        assert where(project, pinned).exists()
        assert where(project, named).exists()

    def test_a_pin_that_was_on_its_way_brings_an_object_back(
        self, project: Project, collector: Collector
    ) -> None:
        one = project.object()
        age(where(project, one))
        (found,) = collector.unneeded(list_objects(project.paths).objects)
        taken = collector.take(found)
        assert taken is not None
        os.utime(taken.path)  # it looked the name up before, and changed the time after
        collector.look()
        collector.decide(taken)
        assert where(project, one).exists()

    def test_a_reader_finds_an_object_while_it_is_away(
        self, project: Project, collector: Collector
    ) -> None:
        one = project.object()
        (found,) = collector.unneeded(list_objects(project.paths).objects)
        assert collector.take(found) is not None
        files = ObjectFiles(project.paths)
        assert crypto.sha256(files.read(one)) == one
        with pytest.raises(NotFound):
            files.read(bytes(32))

    def test_an_object_that_was_stored_anew_stays_as_it_is(
        self, project: Project, collector: Collector
    ) -> None:
        one = project.object()
        (found,) = collector.unneeded(list_objects(project.paths).objects)
        taken = collector.take(found)
        assert taken is not None
        where(project, one).write_bytes(b"anew")
        Log(project, S).ref(one)
        collector.look()
        collector.decide(taken)
        assert where(project, one).read_bytes() == b"anew"
        assert not taken.path.exists()

    def test_what_another_collector_has_is_left_to_it(
        self, project: Project, collector: Collector
    ) -> None:
        project.object()
        (found,) = collector.unneeded(list_objects(project.paths).objects)
        taken = collector.take(found)
        assert taken is not None
        assert collector.take(found) is None
        taken.path.unlink()
        collector.decide(taken)
        collector.put_back(taken)
        assert collector.report.freed == 0


# ------------------------------------------------------------------ in any order
def schedules(folder: Path, first: int, count: int) -> subprocess.Popen[str]:
    """Play some schedules in a process of their own."""
    words = [sys.executable, "-m", "tests.store.schedules", str(folder), str(first), str(count)]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def results(players: list[subprocess.Popen[str]]) -> dict[str, int]:
    """What they counted together, when none of them saw a loss."""
    total: dict[str, int] = {}
    for player in players:
        out, _ = player.communicate()
        assert player.returncode == 0
        found = json.loads(out)
        assert found.pop("problems") == []
        for name, number in found.items():
            total[name] = total.get(name, 0) + number
    return total


def memory_folder(tmp_path: Path) -> Path:
    """A folder in memory where there is one: thousands of schedules sync thousands of files."""
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK):
        return tmp_path
    return shared / f"localstore-test-{secrets.token_hex(8)}"


def play(tmp_path: Path, first: int, count: int) -> dict[str, int]:
    """Play schedules in two processes."""
    import shutil

    folder = memory_folder(tmp_path)
    try:
        halves = [(folder / "0", first), (folder / "1", first + count // 2)]
        return results([schedules(where, at, count // 2) for where, at in halves])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_no_order_of_writers_and_collectors_loses_what_a_writer_relies_on(tmp_path: Path) -> None:
    counted = play(tmp_path, 0, 1000)
    assert counted["schedules"] == 1000
    assert counted["killed"] > 50
    assert counted["finished"] > 1000


@pytest.mark.fuzz
def test_ten_thousand_orders_lose_nothing(tmp_path: Path) -> None:
    counted = play(tmp_path, 1000, 10_000)
    assert counted["schedules"] == 10_000
