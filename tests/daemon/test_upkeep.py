"""Looking after the store: what the daily round finds, what is freed, and that it can be ended."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING

import pytest

from localstore import settings
from localstore.remotes import read_remotes
from localstored.remotes import open_remote
from localstored.service import chores, patrol, upkeep
from localstored.service.desk import Desk
from localstored.service.patrol import Patrol
from localstored.service.quiet import QuietWriters
from localstored.service.schedule import Schedule
from localstored.service.upkeep import Upkeep
from tests.daemon.conftest import FakeClock, Said, wait_until
from tests.sync.conftest import sync
from tests.sync.makers import Log, Project, make_project, with_remote

if TYPE_CHECKING:
    from pathlib import Path

BUDGET = 1 << 30


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    return tmp_path / "stick"


@pytest.fixture
def home(tmp_path: Path, stick: Path) -> Path:
    return with_remote(tmp_path / "home", stick)


@pytest.fixture
def project(home: Path) -> Project:
    made = make_project(home)
    for _ in range(3):
        made.log(made.run(), refs=[made.object()])
    sync(home)
    return made


def flip(path: Path) -> None:
    """One bit, somewhere in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


class TestPatrol:
    def test_a_whole_store_is_read_and_nothing_is_wrong(self, home: Path, project: Project) -> None:
        done = Patrol(home).here(BUDGET)
        assert done.whole
        assert done.files == len(list(project.paths.names()))
        assert done.findings == []

    @pytest.mark.parametrize("what", ["objects/*/*", "runs/*/*.log", "keys/*/*", "links/*"])
    def test_one_flipped_bit_is_named(self, home: Path, project: Project, what: str) -> None:
        path = sorted(project.paths.root.glob(what))[0]
        flip(path)
        (finding,) = Patrol(home).here(BUDGET).findings
        assert finding.name == str(path.relative_to(project.paths.root))
        assert finding.project == project.id

    def test_a_slice_at_a_time_everything_is_read_once(self, home: Path, project: Project) -> None:
        rounds: list[patrol.Round] = []
        while not rounds or not rounds[-1].whole:
            rounds.append(Patrol(home).here(1))
            assert len(rounds) < 100
        assert sum(one.files for one in rounds) == len(list(project.paths.names()))
        assert max(one.files for one in rounds) == 1

    def test_what_a_remote_holds_is_compared_with_what_it_acknowledged(
        self, home: Path, stick: Path, project: Project
    ) -> None:
        entry = read_remotes(home)["stick"]
        assert Patrol(home).there(open_remote(entry), BUDGET).findings == []
        path = sorted((stick / "projects" / project.id).glob("objects/*/*"))[0]
        flip(path)
        cut = sorted((stick / "projects" / project.id).glob("runs/*/*.log"))[0]
        os.truncate(cut, cut.stat().st_size - 1)
        findings = Patrol(home).there(open_remote(entry), BUDGET).findings
        assert {one.name for one in findings} == {
            str(one.relative_to(stick / "projects" / project.id)) for one in (path, cut)
        }
        assert {one.remote for one in findings} == {entry.id}

    @pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"": [1, 2]}', b'{"": "x"}'])
    def test_a_cursor_of_another_form_begins_anew(
        self, home: Path, project: Project, content: bytes
    ) -> None:
        (home / "state").mkdir(exist_ok=True)
        (home / "state" / patrol.CURSOR_FILE).write_bytes(content)
        assert Patrol(home).here(BUDGET).whole

    def test_files_that_vanish_meanwhile_are_no_damage(self, home: Path, project: Project) -> None:
        def vanish() -> None:
            for path in project.paths.objects.glob("*/*"):
                path.unlink(missing_ok=True)

        assert Patrol(home, vanish).here(BUDGET).findings == []


class TestChores:
    def test_damage_is_remembered_until_it_is_mended(
        self, home: Path, project: Project, said: Said
    ) -> None:
        desk = Desk(home, said.journal)
        keeper = Upkeep(said.journal, settings.child_environment(home))
        path = sorted(project.paths.objects.glob("*/*"))[0]
        good = path.read_bytes()
        flip(path)
        keeper.verify(desk)
        (found,) = desk.state.damage()
        assert found["name"] == str(path.relative_to(project.paths.root))
        assert "error damage" in said.text
        path.write_bytes(good)
        keeper.verify(desk)
        assert desk.state.damage() == []

    def test_what_nothing_needs_is_freed_and_what_is_needed_stays(
        self, home: Path, project: Project, said: Said
    ) -> None:
        needed = {path.name for path in project.paths.objects.glob("*/*")}
        unneeded = project.object()
        old = time.time() - 7200
        for path in project.paths.objects.glob("*/*"):
            os.utime(path, (old, old))
        keeper = Upkeep(said.journal, settings.child_environment(home))
        keeper.collect(Desk(home, said.journal))
        left = {path.name for path in project.paths.objects.glob("*/*")}
        assert left == needed
        assert unneeded.hex() not in left
        assert "freed=1" in said.text

    def test_without_a_key_nothing_expires_and_nobody_is_asked(
        self, home: Path, said: Said
    ) -> None:
        Upkeep(said.journal, settings.child_environment(home)).expire(Desk(home, said.journal))
        assert said.text == ""

    def test_a_chore_that_hangs_ends_with_the_service(
        self, home: Path, said: Said, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            upkeep, "_CHORES", (sys.executable, "-c", "import time; time.sleep(60)")
        )
        keeper = Upkeep(said.journal, settings.child_environment(home))
        schedule, desk = Schedule(said.journal), Desk(home, said.journal)
        schedule.add("verify", 3600, lambda: keeper.verify(desk), first_s=0)
        schedule.start()
        wait_until(lambda: keeper._running)
        (process,) = keeper._running
        keeper.stop()
        schedule.stop()
        assert process.wait(5) != 0

    def test_its_answer_is_one_json_object(
        self, home: Path, project: Project, capsys: pytest.CaptureFixture[str]
    ) -> None:
        chores.chores(["collect", str(home), "--grace", "3600"], standalone_mode=False)
        assert json.loads(capsys.readouterr().out)["freed"] == 0


class TestQuiet:
    def test_the_tail_of_a_dead_writer_is_copied_once_it_fell_silent(
        self, home: Path, project: Project, said: Said, clock: FakeClock
    ) -> None:
        subject = project.run()
        log = Log(project, subject)
        from tests.sync.makers import frame

        tail = log.path.with_suffix(".t0")
        tail.write_bytes(frame(0, kind=1))
        told: list[dict[str, set[str]]] = []
        quiet = QuietWriters(home, said.journal, told.append, clock)
        quiet.add({project.id: {subject}})
        quiet.look()
        clock.now += 6
        quiet.look()
        assert not told
        tail.write_bytes(frame(0, kind=1) + frame(1, kind=1))
        clock.now += 4
        quiet.look()
        assert not told  # it grew: its writer lives
        clock.now += 4
        quiet.look()
        assert told == [{project.id: {subject}}]
        clock.now += 60
        quiet.look()
        assert len(told) == 1
        assert quiet._last == {}

    def test_a_writer_without_a_tail_is_forgotten(
        self, home: Path, project: Project, said: Said, clock: FakeClock
    ) -> None:
        quiet = QuietWriters(home, said.journal, lambda _: None, clock)
        quiet.add({project.id: {project.subjects[0], "links"}, "ab" * 32: {"cd" * 16}})
        clock.now += 10
        quiet.look()
        assert quiet._last == {}


class TestSchedule:
    def test_a_job_that_fails_ends_no_other_and_is_told_once(self, said: Said) -> None:
        schedule, runs = Schedule(said.journal), [0, 0]

        def bad() -> None:
            runs[0] += 1
            raise ZeroDivisionError

        def good() -> None:
            runs[1] += 1

        schedule.add("bad", 0.05, bad, first_s=0)
        schedule.add("good", 0.05, good, first_s=0)
        schedule.start()
        try:
            wait_until(lambda: min(runs) >= 3)
            assert said.text.count("ZeroDivisionError") == 1
            assert set(schedule.next_us()) == {"bad", "good"}
        finally:
            schedule.stop()
        assert not schedule.is_alive

    def test_a_clock_that_was_set_a_year_ahead_or_back_stops_no_job(self, said: Said) -> None:
        schedule, runs = Schedule(said.journal), []
        schedule.add("job", 0.1, lambda: runs.append(1), first_s=365 * 86_400)
        schedule.start()
        try:
            schedule.again()
            wait_until(lambda: runs)
        finally:
            schedule.stop()

    def test_a_slow_job_never_overlaps_itself(self, said: Said) -> None:
        schedule, at_once, most = Schedule(said.journal), [0], [0]

        def slow() -> None:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
            time.sleep(0.15)
            at_once[0] -= 1

        schedule.add("slow", 0.02, slow, first_s=0)
        schedule.start()
        try:
            wait_until(lambda: most[0] and not at_once[0])
        finally:
            schedule.stop()
        assert most == [1]
