"""Retry, limits and counts: around any remote, by a clock that the test turns."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from localstore.errors import Conflict
from localstored.remotes import retrying as retrying_module
from localstored.remotes.base import MAX_PIECE_BYTES, Busy, Entry, Stopped, Unreachable
from localstored.remotes.counted import Counted
from localstored.remotes.limited import Allowance, Limited
from localstored.remotes.memory import MemoryRemote
from localstored.remotes.retrying import LONGEST_S, TRIES, Retrying
from localstored.remotes.waiting import ASK_EVERY_S
from tests.sync.contract import LINK, LOG, PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator


class Time:
    """A clock in µs that runs when somebody sleeps."""

    def __init__(self) -> None:
        self.us = 1_000_000_000
        self.slept: list[float] = []

    def clock(self) -> int:
        return self.us

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.us += round(seconds * 1_000_000)


class Failing(MemoryRemote):
    """Fails so many times first."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self.errors = list(errors)

    def fail(self) -> None:
        if self.errors:
            raise self.errors.pop(0)

    def create(self, name: str, data: bytes) -> None:
        self.fail()
        super().create(name, data)

    def list(self, prefix: str) -> Iterator[Entry]:
        for entry in super().list(prefix):
            yield entry
            self.fail()


def retrying(inner: MemoryRemote, at: Time, share: float = 1.0) -> Retrying:
    return Retrying(inner, sleep=at.sleep, random=lambda: share)


def waits(at: Time) -> float:
    return round(sum(at.slept), 6)


# ------------------------------------------------------------------ retry
def test_what_fails_in_passing_is_tried_again_with_growing_waits() -> None:
    at, inner = Time(), Failing(*[Busy("503")] * (TRIES - 1))
    retrying(inner, at).create(LINK, b"x")
    assert inner.have([LINK]) == {LINK: 1}
    assert waits(at) == 1 + 2 + 4


def test_what_fails_for_long_is_for_the_caller() -> None:
    at, inner = Time(), Failing(*[Busy("503")] * TRIES)
    with pytest.raises(Busy):
        retrying(inner, at).create(LINK, b"x")
    assert inner.errors == []


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_wait_is_anything_between_nothing_and_its_ceiling(share: float) -> None:
    at = Time()
    retrying(Failing(Busy("503")), at, share).create(LINK, b"x")
    assert waits(at) == share


def test_a_remote_that_says_when_is_not_asked_before() -> None:
    at = Time()
    retrying(Failing(Busy("slow down", retry_after_s=7.5)), at, 0.0).create(LINK, b"x")
    assert waits(at) == 7.5


def test_a_remote_that_wants_to_be_left_alone_for_long_is_left_to_the_caller() -> None:
    at = Time()
    with pytest.raises(Busy) as caught:
        retrying(Failing(Busy("later", retry_after_s=LONGEST_S + 1)), at).create(LINK, b"x")
    assert caught.value.retry_after_s == LONGEST_S + 1
    assert at.slept == []


@pytest.mark.parametrize("error", [Unreachable("gone"), Conflict("other"), Stopped()])
def test_nothing_else_is_tried_again(error: Exception) -> None:
    at = Time()
    with pytest.raises(type(error)):
        retrying(Failing(error), at).create(LINK, b"x")
    assert at.slept == []


def test_a_wait_ends_when_somebody_asks_to_stop() -> None:
    at = Time()

    def check() -> None:
        if waits(at) >= 1:
            raise Stopped

    remote = Retrying(
        Failing(Busy("later", retry_after_s=200)), sleep=at.sleep, random=lambda: 1.0, check=check
    )
    with pytest.raises(Stopped):
        remote.create(LINK, b"x")
    assert waits(at) <= 1 + ASK_EVERY_S


def test_a_listing_that_breaks_names_each_file_once() -> None:
    inner = Failing()
    names = [f"projects/{PROJECT}/links/{at:064x}" for at in range(10)]
    for name in names:
        inner.create(name, b"x")
    inner.errors = [Busy("503"), Busy("503")]
    found = [entry.name for entry in retrying(inner, Time()).list("projects/")]
    assert sorted(found) == names


def test_a_listing_too_long_to_remember_that_breaks_is_for_the_caller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retrying_module, "_MAX_LISTED", 3)
    inner = Failing()
    for at in range(10):
        inner.create(f"projects/{PROJECT}/links/{at:064x}", b"x")
    listing = retrying(inner, Time()).list("projects/")
    found = [next(listing).name for _ in range(5)]
    inner.errors = [Busy("503")]
    with pytest.raises(Busy):
        found += [entry.name for entry in listing]
    assert len(set(found)) == len(found)


# ------------------------------------------------------------------ limits
def limited(at: Time, upload: int | None = None, download: int | None = None) -> Limited:
    return Limited(
        MemoryRemote(),
        upload=Allowance(upload, clock=at.clock, sleep=at.sleep),
        download=Allowance(download, clock=at.clock, sleep=at.sleep),
    )


@pytest.mark.parametrize("piece", [1_000, 50_000, MAX_PIECE_BYTES])
def test_a_limit_holds_within_a_tenth_for_pieces_of_any_size(piece: int) -> None:
    at, rate = Time(), 2 * 1024 * 1024
    remote = limited(at, upload=rate)
    count = max(8, 40 * 1024 * 1024 // piece // 20)
    began = at.us
    remote.create(LOG, bytes(piece))
    for number in range(1, count):
        remote.append(LOG, number * piece, bytes(piece))
    seconds = (at.us - began) / 1_000_000
    assert count * piece / seconds == pytest.approx(rate, rel=0.1)


def test_what_is_read_pays_for_what_came_and_not_for_what_was_asked() -> None:
    at = Time()
    remote = limited(at, download=1000)
    remote.create(LINK, bytes(500))
    began = at.us
    for _ in range(20):
        at.us += 1  # the answer takes no time
        remote.read(LINK, 0, 500)
    assert (at.us - began) / 1_000_000 == pytest.approx(20 * 500 / 1000, rel=0.1)


def test_directions_and_questions_do_not_pay_for_one_another() -> None:
    at = Time()
    remote = limited(at, upload=10)
    remote.create(LINK, b"0123456789" * 10)
    at.slept.clear()
    assert remote.read(LINK, 0, 100) and remote.have([LINK]) and list(remote.list("projects/"))
    assert at.slept == []


def test_silence_earns_a_moment_and_no_more() -> None:
    at = Time()
    remote = limited(at, upload=1000)
    at.us += 10**12
    remote.create(LINK, bytes(5000))
    assert waits(at) == pytest.approx(4.75, abs=0.01)


def test_a_clock_that_leaps_a_year_neither_blocks_nor_floods() -> None:
    at = Time()
    remote = limited(at, upload=1000)
    remote.create(LOG, bytes(1000))
    for leap in (-(10**13) * 3, 10**13 * 3):
        at.us += leap
        at.slept.clear()
        remote.append(LOG, remote.have([LOG])[LOG], bytes(1000))
        assert 0.5 <= waits(at) <= 2.0


def test_a_wait_for_bytes_ends_when_somebody_asks_to_stop_and_takes_none() -> None:
    at, stop = Time(), False

    def check() -> None:
        if stop:
            raise Stopped

    allowance = Allowance(1000, clock=at.clock, sleep=at.sleep, check=check)
    stop = True
    with pytest.raises(Stopped):
        allowance.take(1_000_000)
    stop = False
    at.slept.clear()
    allowance.take(1000)
    assert waits(at) <= 1.0


def test_threads_share_one_limit() -> None:
    rate, count, piece = 2_000_000, 24, 25_000
    allowance = Allowance(rate, clock=lambda: time.monotonic_ns() // 1000, sleep=time.sleep)
    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: allowance.take(piece), range(count)))
    assert time.monotonic() - began >= count * piece / rate * 0.9


# ------------------------------------------------------------------ counts
def test_what_went_is_counted_once_and_what_failed_is_not() -> None:
    at = Time()
    inner = Failing(Busy("503"))
    counted = Counted(Retrying(inner, sleep=at.sleep, random=lambda: 1.0), clock=at.clock)
    counted.create(LINK, b"12345")
    counted.create(LOG, b"123")
    counted.append(LOG, 3, b"456")
    with pytest.raises(Conflict):
        counted.create(LINK, b"other")
    assert counted.read(LOG, 1, 100) == b"23456"
    found = counted.counts()
    assert (found.requests, found.failures) == (5, 1)
    assert (found.sent_bytes, found.received_bytes) == (11, 5)
    assert found.busy_s == 1.0


def test_a_rate_is_that_of_the_last_seconds() -> None:
    at = Time()
    counted = Counted(MemoryRemote(), clock=at.clock)
    counted.create(LOG, bytes(1000))
    for number in range(1, 60):
        at.sleep(0.5)
        counted.append(LOG, number * 1000, bytes(1000))
    assert counted.counts().send_rate == pytest.approx(2000, rel=0.1)
    at.sleep(30)
    assert counted.counts().send_rate == 0.0


def test_a_clock_that_leaps_gives_no_absurd_rate() -> None:
    at = Time()
    counted = Counted(MemoryRemote(), clock=at.clock)
    rng = random.Random(3)
    counted.create(LOG, b"")
    size = 0
    for _ in range(200):
        at.us += rng.choice([-(10**13), 10**13, 1000, 500_000])
        counted.append(LOG, size, bytes(100))
        size += 100
        assert 0 <= counted.counts().send_rate <= size * 4


def test_a_listing_that_is_left_halfway_is_no_failure() -> None:
    at = Time()
    counted = Counted(MemoryRemote(), clock=at.clock)
    for number in range(3):
        counted.create(f"projects/{PROJECT}/links/{number:064x}", b"x")
    listing = counted.list("projects/")
    next(iter(listing))
    listing.close()  # type: ignore[attr-defined]
    assert counted.counts().failures == 0


def test_counts_of_many_threads_add_up() -> None:
    counted = Counted(MemoryRemote(), clock=lambda: time.monotonic_ns() // 1000)
    gate = threading.Barrier(8)

    def work(number: int) -> None:
        gate.wait()
        for at in range(100):
            counted.create(f"projects/{PROJECT}/links/{number * 100 + at:064x}", b"12")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    found = counted.counts()
    assert (found.requests, found.sent_bytes) == (800, 1600)
