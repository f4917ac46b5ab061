"""Processes beside the service: started, restarted, stopped, and never orphans."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from localstore import settings
from localstored.service.children import AFTER_BROKEN_S, AFTER_KEYLESS_S, READY_S, Child
from tests.daemon.conftest import FakeClock, Said, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SERVE = """
import pathlib, signal, sys
here = pathlib.Path(sys.argv[1])
signal.signal(signal.SIGHUP, lambda *_: (here / "reloaded").touch())
(here / "started").touch()
sys.stdin.read()
(here / "ended").touch()
"""
STUBBORN = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(sys.argv[1], "started").touch()
time.sleep(60)
"""


PARENT = """
import io, sys, time
from pathlib import Path
from localstored.service.children import Child
from localstored.service.journal import Journal
home = Path(sys.argv[1])
words = [sys.executable, "-c", sys.argv[2], str(home)]
journal = Journal(io.StringIO())
files = [home / "watch.toml"]
child = Child("c", words, files, journal, environment={}, monotonic=time.monotonic)
child.tick()
time.sleep(60)
"""


class Nursery:
    """A child of some program, and its file."""

    def __init__(self, home: Path, said: Said, clock: FakeClock, code: str) -> None:
        self.file, self.clock, self.home = home / "watch.toml", clock, home
        self.child = Child(
            "watching",
            [sys.executable, "-c", code, str(home)],
            [self.file],
            said.journal,
            environment=settings.child_environment(home),
            monotonic=clock,
        )

    def until_ended(self) -> None:
        """Let it notice that its process is gone."""

        def gone() -> bool:
            self.child.tick()
            return not self.child.facts.running

        wait_until(gone)


@pytest.fixture
def nursery(home: Path, said: Said, clock: FakeClock) -> Iterator[Nursery]:
    made = Nursery(home, said, clock, SERVE)
    yield made
    made.child.stop()
    made.child.join(5)


def test_it_runs_while_its_file_is_there(nursery: Nursery, home: Path) -> None:
    nursery.child.tick()
    assert not nursery.child.facts.running
    nursery.file.touch()
    nursery.child.tick()
    wait_until((home / "started").exists)
    nursery.file.unlink()
    nursery.clock.now += READY_S
    nursery.child.tick()
    nursery.until_ended()
    nursery.clock.now += 1000
    nursery.child.tick()
    assert not nursery.child.facts.running


def test_it_is_told_when_its_file_changed(nursery: Nursery, home: Path) -> None:
    nursery.file.touch()
    nursery.child.tick()
    wait_until((home / "started").exists)
    nursery.clock.now += READY_S
    nursery.file.write_text("x")
    nursery.child.tick()
    wait_until((home / "reloaded").exists)


def test_a_change_while_it_starts_does_not_kill_it(nursery: Nursery, home: Path) -> None:
    """Python listens to no signal in its first moments, and one ends it."""
    nursery.file.touch()
    nursery.child.tick()
    pid = nursery.child.facts.pid
    nursery.file.write_text("x")
    nursery.child.tick()
    wait_until((home / "started").exists)
    assert not (home / "reloaded").exists()
    nursery.clock.now += READY_S
    nursery.child.tick()
    wait_until((home / "reloaded").exists)
    assert (nursery.child.facts.pid, nursery.child.restarts) == (pid, 0)


def _ticked(nursery: Nursery) -> bool:
    """Half a second later; whether it runs again."""
    nursery.clock.now += 0.5
    nursery.child.tick()
    return nursery.child.facts.running


def test_killed_it_comes_again_later_and_later(nursery: Nursery, home: Path) -> None:
    nursery.file.touch()
    waits = []
    for _ in range(4):
        nursery.child.tick()
        pid = nursery.child.facts.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        nursery.until_ended()
        before = nursery.clock.now
        wait_until(lambda: _ticked(nursery))
        waits.append(nursery.clock.now - before)
        nursery.child.stop()
        nursery.child.join(5)
    assert waits[0] <= 1.0
    assert waits == sorted(waits)
    assert waits[-1] >= 4 * waits[0]


@pytest.mark.parametrize(("code", "wait_s"), [(11, AFTER_KEYLESS_S), (78, AFTER_BROKEN_S)])
def test_one_that_wants_a_person_is_left_alone_until_its_file_changes(
    home: Path, said: Said, clock: FakeClock, code: int, wait_s: float
) -> None:
    made = Nursery(home, said, clock, f"import sys; sys.exit({code})")
    made.file.touch()
    made.child.tick()
    made.until_ended()
    clock.now += wait_s - 1
    running = []
    made.child.tick()
    running.append(made.child.facts.running)
    made.file.write_text("mended")
    made.child.tick()
    running.append(made.child.facts.running)
    assert running == [False, True]
    made.child.stop()
    made.child.join(5)


def test_a_stubborn_one_is_gone_in_time(
    home: Path, said: Said, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Nursery(home, said, clock, STUBBORN)
    made.file.touch()
    made.child.tick()
    wait_until((home / "started").exists)
    pid = made.child.facts.pid
    assert pid is not None
    began = time.monotonic()
    made.child.stop()
    made.child.join(0.3)
    assert time.monotonic() - began < 2
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_when_the_service_dies_its_end_of_the_pipe_ends_the_child(home: Path) -> None:
    (home / "watch.toml").touch()
    service = subprocess.Popen([sys.executable, "-c", PARENT, str(home), SERVE])
    try:
        wait_until((home / "started").exists)
    finally:
        service.kill()
        service.wait(10)
    wait_until((home / "ended").exists)


def test_a_program_that_is_not_there_is_a_warning(home: Path, said: Said, clock: FakeClock) -> None:
    child = Child(
        "watching",
        [str(home / "nothing")],
        [home],
        said.journal,
        environment={},
        monotonic=clock,
    )
    child.tick()
    assert "No such file" in said.text
