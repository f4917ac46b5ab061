"""A remote that sends and receives no faster than it may: a token bucket for each direction."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from localstored.remotes.waiting import ASK_EVERY_S, never

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

    from localstored.remotes.base import Capabilities, Entry, Remote

_BURST_S: Final = 0.25  # of silence count; a longer one earns no more


class Allowance:
    """Bytes that may go, earned as time passes; shared by all threads of a remote.

    Who takes more than there is leaves a debt and waits until it is paid, so that the mean is the
    rate for pieces of any size.
    """

    def __init__(
        self,
        rate: int | None,
        *,
        clock: Callable[[], int],
        sleep: Callable[[float], object],
        check: Callable[[], None] = never,
    ) -> None:
        """`rate` in bytes per second, None: no limit; `clock` in µs."""
        self._rate, self._clock, self._sleep, self._check = rate, clock, sleep, check
        self._lock = threading.Lock()
        self._balance = 0.0
        self._then = clock()

    def _earn(self) -> None:
        """Add what was earned; a clock that was set back earns nothing, one that leapt little."""
        rate, now = self._rate or 0, self._clock()
        passed_s = max(0, now - self._then) / 1_000_000
        self._then = now
        self._balance = min(self._balance + passed_s * rate, rate * _BURST_S)

    def take(self, count: int) -> None:
        """Wait until `count` bytes may go.

        Raises:
            Stopped: `check` asked to stop; the bytes were not taken.
        """
        if not self._rate:
            return
        with self._lock:
            self._earn()
            self._balance -= count
            owed = -self._balance
        self._wait(owed / self._rate, count)

    def _wait(self, seconds: float, count: int) -> None:
        try:
            while seconds > 0:
                self._check()
                self._sleep(min(seconds, ASK_EVERY_S))
                seconds -= ASK_EVERY_S
        except BaseException:
            self.give_back(count)
            raise

    def give_back(self, count: int) -> None:
        """Bytes that were taken and did not go."""
        with self._lock:
            self._balance += count


class Limited:
    """`inner`, within two allowances."""

    def __init__(self, inner: Remote, *, upload: Allowance, download: Allowance) -> None:
        """`upload` counts what create and append send, `download` what read gets."""
        self._inner, self._upload, self._download = inner, upload, download

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
        return self._inner.projects()

    def list(self, prefix: str) -> Iterator[Entry]:
        """See `Remote.list`."""
        return self._inner.list(prefix)

    def have(self, names: Collection[str]) -> Mapping[str, int]:
        """See `Remote.have`."""
        return self._inner.have(names)

    def read(self, name: str, offset: int, length: int) -> bytes:
        """See `Remote.read`."""
        self._download.take(length)
        found = b""
        try:
            found = self._inner.read(name, offset, length)
        finally:
            self._download.give_back(length - len(found))
        return found

    def digest(self, name: str, length: int) -> bytes:
        """See `Remote.digest`."""
        return self._inner.digest(name, length)

    def create(self, name: str, data: bytes) -> None:
        """See `Remote.create`."""
        self._upload.take(len(data))
        self._inner.create(name, data)

    def append(self, name: str, offset: int, data: bytes) -> None:
        """See `Remote.append`."""
        self._upload.take(len(data))
        self._inner.append(name, offset, data)

    def delete(self, name: str) -> None:
        """See `Remote.delete`."""
        self._inner.delete(name)

    def confirm(self, name: str, length: int, source: Path) -> bool:
        """See `Remote.confirm`."""
        return self._inner.confirm(name, length, source)

    def close(self) -> None:
        """See `Remote.close`."""
        self._inner.close()
