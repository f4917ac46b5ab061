"""A remote that tries again what failed in passing. Every verb may be repeated (protocol, 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from localstored.remotes.base import Busy
from localstored.remotes.waiting import never, wait

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

    from localstored.remotes.base import Capabilities, Entry, Remote

T = TypeVar("T")

FIRST_S: Final = 1.0
LONGEST_S: Final = 300.0
TRIES: Final = 4  # what fails longer is for the caller, who knows what else there is to do
_MAX_LISTED: Final = 100_000  # names that a broken listing remembers to go on


def pause_s(failures: int, error: Busy, random: Callable[[], float]) -> float:
    """Seconds before the next try.

    Raises:
        Busy: the remote wants to be left alone for longer than we wait.
    """
    wanted = error.retry_after_s or 0.0
    if wanted > LONGEST_S:
        raise error
    # Full jitter: a network that comes back wakes every daemon of a lab at once, and equal
    # delays would let them meet again and again.
    return max(wanted, random() * min(LONGEST_S, FIRST_S * 2.0 ** min(failures - 1, 16)))


def try_again(
    ask: Callable[[], T],
    *,
    sleep: Callable[[float], object],
    random: Callable[[], float],
    check: Callable[[], None] = never,
    tries: int = TRIES,
) -> T:
    """What `ask` answers, asked up to `tries` times while it raises `Busy`."""
    failures = 0
    while True:
        try:
            return ask()
        except Busy as error:
            failures += 1
            if failures >= tries:
                raise
            wait(pause_s(failures, error, random), sleep, check)


class Retrying:
    """`inner`, asked up to four times while it is `Busy`; nothing else is tried again."""

    def __init__(
        self,
        inner: Remote,
        *,
        sleep: Callable[[float], object],
        random: Callable[[], float],
        check: Callable[[], None] = never,
        tries: int = TRIES,
    ) -> None:
        """`random` gives numbers from 0 to 1; `check` raises `Stopped` to end a wait."""
        self._inner, self._sleep, self._random = inner, sleep, random
        self._check, self._tries = check, tries

    def _again(self, ask: Callable[[], T]) -> T:
        return try_again(
            ask, sleep=self._sleep, random=self._random, check=self._check, tries=self._tries
        )

    @property
    def id(self) -> str:
        """See `Remote.id`."""
        return self._inner.id

    @property
    def capabilities(self) -> Capabilities:
        """See `Remote.capabilities`."""
        return self._again(lambda: self._inner.capabilities)

    def projects(self) -> Iterator[str]:
        """See `Remote.projects`."""
        yield from self._again(lambda: list(self._inner.projects()))

    def list(self, prefix: str) -> Iterator[Entry]:
        """See `Remote.list`; a listing that breaks is begun anew, and what was told is left out."""
        told: set[str] = set()
        failures = count = 0
        while True:
            try:
                for entry in self._inner.list(prefix):
                    if entry.name in told:
                        continue
                    count += 1
                    if count <= _MAX_LISTED:
                        told.add(entry.name)
                    yield entry
                return
            except Busy as error:
                failures += 1
                if failures >= self._tries or count > _MAX_LISTED:
                    raise
                wait(pause_s(failures, error, self._random), self._sleep, self._check)

    def have(self, names: Collection[str]) -> Mapping[str, int]:
        """See `Remote.have`."""
        return self._again(lambda: self._inner.have(names))

    def read(self, name: str, offset: int, length: int) -> bytes:
        """See `Remote.read`."""
        return self._again(lambda: self._inner.read(name, offset, length))

    def digest(self, name: str, length: int) -> bytes:
        """See `Remote.digest`."""
        return self._again(lambda: self._inner.digest(name, length))

    def create(self, name: str, data: bytes) -> None:
        """See `Remote.create`."""
        self._again(lambda: self._inner.create(name, data))

    def append(self, name: str, offset: int, data: bytes) -> None:
        """See `Remote.append`."""
        self._again(lambda: self._inner.append(name, offset, data))

    def delete(self, name: str) -> None:
        """See `Remote.delete`."""
        self._again(lambda: self._inner.delete(name))

    def confirm(self, name: str, length: int, source: Path) -> bool:
        """See `Remote.confirm`."""
        return self._again(lambda: self._inner.confirm(name, length, source))

    def close(self) -> None:
        """See `Remote.close`."""
        self._inner.close()
