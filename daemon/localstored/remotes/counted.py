"""A remote that counts: requests, bytes, time, and how fast it is just now."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

    from localstored.remotes.base import Capabilities, Entry, Remote

_WINDOW_US: Final = 10_000_000  # a rate is over the last ten seconds
_GRAIN_US: Final = 250_000


@dataclass(frozen=True, slots=True)
class Counts:
    """What went over one remote since it was opened.

    Attributes:
        requests: verbs that were asked; `failures` of them raised.
        sent_bytes, received_bytes: of those that succeeded.
        busy_s: time spent in them, over all threads.
        send_rate, receive_rate: bytes per second over the last ten seconds.
    """

    requests: int = 0
    failures: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    busy_s: float = 0.0
    send_rate: float = 0.0
    receive_rate: float = 0.0


class _Rate:
    """Bytes per second, from sums of a quarter of a second."""

    def __init__(self, began_us: int) -> None:
        self._began, self._sums = began_us, deque[tuple[int, int]]()

    def add(self, now_us: int, count: int) -> None:
        if self._sums and 0 <= now_us - self._sums[-1][0] < _GRAIN_US:
            at, before = self._sums.pop()
            self._sums.append((at, before + count))
        else:
            self._sums.append((now_us, count))
        self._forget(now_us)

    def _forget(self, now_us: int) -> None:
        # Also what lies in the future: a clock that was set back.
        while self._sums and not 0 <= now_us - self._sums[0][0] < _WINDOW_US:
            self._sums.popleft()

    def at(self, now_us: int) -> float:
        self._forget(now_us)
        over_us = min(_WINDOW_US, max(_GRAIN_US, now_us - self._began))
        return sum(count for _, count in self._sums) * 1_000_000 / over_us


class Counted:
    """`inner`, counted. Safe for many threads."""

    def __init__(self, inner: Remote, *, clock: Callable[[], int]) -> None:
        """`clock` in µs."""
        self._inner, self._clock = inner, clock
        self._lock = threading.Lock()
        self._requests = self._failures = self._sent = self._received = self._busy_us = 0
        self._send_rate, self._receive_rate = _Rate(clock()), _Rate(clock())

    def counts(self) -> Counts:
        """What was counted until now."""
        with self._lock:
            now = self._clock()
            return Counts(
                self._requests,
                self._failures,
                self._sent,
                self._received,
                self._busy_us / 1_000_000,
                self._send_rate.at(now),
                self._receive_rate.at(now),
            )

    @contextlib.contextmanager
    def _counting(self) -> Iterator[None]:
        began, done = self._clock(), False
        try:
            yield
            done = True
        except GeneratorExit:
            done = True  # whoever listed had seen enough
            raise
        finally:
            with self._lock:
                self._requests += 1
                self._failures += not done
                self._busy_us += max(0, self._clock() - began)

    def _went(self, sent: int, received: int) -> None:
        with self._lock:
            self._sent += sent
            self._received += received
            if sent:
                self._send_rate.add(self._clock(), sent)
            if received:
                self._receive_rate.add(self._clock(), received)

    @property
    def id(self) -> str:
        """See `Remote.id`."""
        return self._inner.id

    @property
    def capabilities(self) -> Capabilities:
        """See `Remote.capabilities`."""
        return self._inner.capabilities

    def projects(self) -> Iterator[str]:
        """See `Remote.projects`."""
        with self._counting():
            yield from self._inner.projects()

    def list(self, prefix: str) -> Iterator[Entry]:
        """See `Remote.list`."""
        with self._counting():
            yield from self._inner.list(prefix)

    def have(self, names: Collection[str]) -> Mapping[str, int]:
        """See `Remote.have`."""
        with self._counting():
            return self._inner.have(names)

    def read(self, name: str, offset: int, length: int) -> bytes:
        """See `Remote.read`."""
        with self._counting():
            found = self._inner.read(name, offset, length)
        self._went(0, len(found))
        return found

    def digest(self, name: str, length: int) -> bytes:
        """See `Remote.digest`."""
        with self._counting():
            return self._inner.digest(name, length)

    def create(self, name: str, data: bytes) -> None:
        """See `Remote.create`."""
        with self._counting():
            self._inner.create(name, data)
        self._went(len(data), 0)

    def append(self, name: str, offset: int, data: bytes) -> None:
        """See `Remote.append`."""
        with self._counting():
            self._inner.append(name, offset, data)
        self._went(len(data), 0)

    def delete(self, name: str) -> None:
        """See `Remote.delete`."""
        with self._counting():
            self._inner.delete(name)

    def confirm(self, name: str, length: int, source: Path) -> bool:
        """See `Remote.confirm`."""
        with self._counting():
            return self._inner.confirm(name, length, source)

    def close(self) -> None:
        """See `Remote.close`."""
        self._inner.close()
