"""One service for one home: locks, leases, and the dead."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from localstore.errors import AlreadyExists
from localstored.service.instance import DEAD_AFTER_S, LEASE_FILE, Lease, Owner, only_instance
from tests.daemon.conftest import FakeClock, wait_until

if TYPE_CHECKING:
    from pathlib import Path

HOLD = """
import sys, time
from pathlib import Path
from localstored.service.instance import only_instance
with only_instance(Path(sys.argv[1]), network=sys.argv[2] == "network"):
    print("held", flush=True)
    time.sleep(60)
"""


def elsewhere(nonce: str = "b" * 32) -> Owner:
    """A process on another host."""
    return Owner(host="node7", boot="another/boot", pid=4711, started="1", nonce=nonce)


def lease(home: Path, clock: FakeClock, owner: Owner | None = None) -> Lease:
    return Lease(home, owner=owner, sleep=clock.sleep, monotonic=clock)


class TestLock:
    def test_a_second_service_is_refused_and_told_of_the_home(self, home: Path) -> None:
        with (
            only_instance(home),
            pytest.raises(AlreadyExists, match=str(home)),
            only_instance(home),
        ):
            pass
        with only_instance(home):
            pass

    @pytest.mark.parametrize("kind", ["local", "network"])
    def test_the_place_of_a_killed_service_is_free_at_once(self, home: Path, kind: str) -> None:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(home), kind], stdout=subprocess.PIPE
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"held\n"
            with pytest.raises(AlreadyExists), only_instance(home, network=kind == "network"):
                pass
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=10)
        with only_instance(home, network=kind == "network"):
            pass

    def test_without_locks_the_lease_alone_keeps_a_second_one_out(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def no_locks(_handle: int, _how: int) -> None:
            raise OSError(37, "no locks available")

        monkeypatch.setattr(fcntl, "flock", no_locks)
        monkeypatch.setattr("localstored.service.instance._SETTLE_S", 0.0)
        with only_instance(home) as held:
            assert held is not None
            held.beat()
            threading.Timer(0.1, held.beat).start()
            with pytest.raises(AlreadyExists), only_instance(home):
                pass
        assert not (home / LEASE_FILE).exists()


class TestLease:
    def test_a_living_owner_on_another_host_is_left_alone(
        self, home: Path, clock: FakeClock
    ) -> None:
        there = lease(home, clock, elsewhere())
        there.take()

        def beat_meanwhile(seconds: float) -> None:
            clock.now += seconds
            if clock.now % 10 < 1:
                there.beat()

        here = Lease(home, sleep=beat_meanwhile, monotonic=clock)
        with pytest.raises(AlreadyExists, match="node7"):
            here.take()
        assert there.holds()

    def test_an_owner_elsewhere_that_fell_silent_for_a_minute_is_dead(
        self, home: Path, clock: FakeClock
    ) -> None:
        there, here = lease(home, clock, elsewhere()), lease(home, clock)
        there.take()
        began = clock.now
        here.take()
        assert clock.now - began >= DEAD_AFTER_S
        assert here.holds()
        assert not there.beat()

    def test_who_wakes_up_after_it_was_taken_for_dead_does_no_harm(
        self, home: Path, clock: FakeClock
    ) -> None:
        there, here = lease(home, clock, elsewhere()), lease(home, clock)
        there.take()
        here.take()
        there.release()
        assert here.beat()
        assert here.holds()

    def test_the_clock_of_no_host_matters(self, home: Path, clock: FakeClock) -> None:
        there, here = lease(home, clock, elsewhere()), lease(home, clock)
        there.take()
        year_s = 365 * 86_400
        os.utime(home / LEASE_FILE, (2e9 + year_s, 2e9 + year_s))
        here.take()
        assert here.holds()

    def test_a_dead_process_of_this_boot_is_known_at_once(
        self, home: Path, clock: FakeClock
    ) -> None:
        process = subprocess.Popen([sys.executable, "-c", "pass"])
        process.wait(10)
        dead = replace(Owner.here(), pid=process.pid, started="12345", nonce="c" * 32)
        lease(home, clock, dead).take()
        began, here = clock.now, lease(home, clock)
        here.take()
        assert clock.now - began < 5
        assert here.holds()

    def test_a_pid_that_came_again_is_not_its_first_owner(
        self, home: Path, clock: FakeClock
    ) -> None:
        before = replace(Owner.here(), started="1", nonce="d" * 32)
        lease(home, clock, before).take()
        here = lease(home, clock)
        here.take()
        assert here.holds()

    def test_garbage_in_the_file_is_taken_for_a_stranger_who_may_live(
        self, home: Path, clock: FakeClock
    ) -> None:
        (home / LEASE_FILE).write_bytes(b"\xff" * 5000)
        began, here = clock.now, lease(home, clock)
        here.take()
        assert clock.now - began >= DEAD_AFTER_S
        assert here.holds()

    def test_of_two_that_bury_the_same_dead_one_at_most_one_lives(
        self, home: Path, clock: FakeClock
    ) -> None:
        lease(home, clock, elsewhere()).take()
        first, second = lease(home, FakeClock()), lease(home, FakeClock())
        dead = (home / LEASE_FILE).read_bytes()
        first._bury(dead)
        assert first._create()
        second._bury(dead)
        assert not second._create()
        assert first.holds()

    def test_without_hard_links_it_is_still_one(
        self, home: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def no_links(*_: object) -> None:
            raise PermissionError(1, "no hard links here")

        monkeypatch.setattr(os, "link", no_links)
        first, second = lease(home, clock), lease(home, clock)
        first.take()
        assert not second._create()
        assert first.holds()


def hold_a_moment(home: str, barrier: object, wins: object) -> None:
    """In a process of its own: try to be the one."""
    from pathlib import Path

    barrier.wait()  # type: ignore[attr-defined]
    try:
        with only_instance(Path(home), network=True):
            wins.put(os.getpid())  # type: ignore[attr-defined]
            threading.Event().wait(4)
    except AlreadyExists:
        pass


def test_of_many_that_start_at_once_exactly_one_serves(home: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier, wins = context.Barrier(6), context.Queue()
    processes = [
        context.Process(target=hold_a_moment, args=(str(home), barrier, wins)) for _ in range(6)
    ]
    try:
        for process in processes:
            process.start()
        wait_until(lambda: not wins.empty())
        wait_until(lambda: sum(process.is_alive() for process in processes) == 1)
        assert wins.get(timeout=5)
        assert wins.empty()
    finally:
        for process in processes:
            process.kill()
            process.join(5)
