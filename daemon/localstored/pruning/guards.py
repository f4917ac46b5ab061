"""Stamps that keep a prune and a collection of one remote from each other's way.

Both put their stamp there first and look for the other's then: at least one of two that meet sees
the other and leaves (docs/decisions/0011). A stamp that nobody takes away stops counting after a
day.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from localstore.durable import make_folder, replace_cache
from localstore.errors import LocalStoreError, RemoteError
from localstored.stamps import MAX_STAMPS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from types import TracebackType

    from localstore.layout import ProjectPaths
    from localstored.remotes.base import Remote

COLLECTOR: Final = "f" * 16
PRUNER: Final = "e" * 16
STALE_US: Final = 24 * 3600 * 1_000_000
# Who holds a guard must be done long before others stop to respect it.
LEASE_US: Final = STALE_US // 2
_OPEN: Final = ".open"


class Guard:
    """A stamp of this replica on a remote; a context manager.

    Args:
        writer: id of this replica, 16 hex digits.
        kind: COLLECTOR or PRUNER.
        clock: Unix time in microseconds.
    """

    def __init__(
        self,
        paths: ProjectPaths,
        remote: Remote,
        writer: str,
        kind: str,
        clock: Callable[[], int],
    ) -> None:
        self._paths, self._remote, self._clock = paths, remote, clock
        self._own = f"stamps/{writer}-{kind}{_OPEN}"
        self._since_us = 0

    def __enter__(self) -> Guard:
        self._remote.create(self._there(self._own), b"")
        self._since_us = self._clock()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._remote.delete(self._there(self._own))
        except LocalStoreError:
            if error is None:
                raise

    def _there(self, name: str) -> str:
        return f"projects/{self._paths.id}/{name}"

    @property
    def expired(self) -> bool:
        """Whether it was taken so long ago that others may soon pass it over."""
        return not 0 <= self._clock() - self._since_us < LEASE_US

    def others(self, kind: str = "") -> list[str]:
        """Open stamps of anybody else, first seen less than a day ago.

        Args:
            kind: only those of a COLLECTOR or a PRUNER.
        """
        young = first_seen(self._seen_file(), self._open_stamps(), self._clock())
        return sorted(
            name
            for name, seen_us in young.items()
            if name != self._own
            and (not kind or name.endswith(f"-{kind}{_OPEN}"))
            and self._clock() - seen_us < STALE_US
        )

    def stale(self, age_us: int) -> list[str]:
        """Open stamps of anybody else that were first seen that long ago; names on the remote."""
        seen = first_seen(self._seen_file(), self._open_stamps(), self._clock())
        old = [name for name, at_us in seen.items() if self._clock() - at_us >= age_us]
        return [self._there(name) for name in sorted(old) if name != self._own]

    def _seen_file(self) -> Path:
        return self._paths.local / f"stamps-{self._remote.id}.json"

    def _open_stamps(self) -> list[str]:
        prefix = self._there("stamps/")
        skip = len(prefix) - len("stamps/")
        names: list[str] = []
        for count, entry in enumerate(self._remote.list(prefix)):
            if count >= MAX_STAMPS:
                raise RemoteError(f"the remote lists more than {MAX_STAMPS} stamps")
            names.append(entry.name[skip:])
        return [name for name in names if name.endswith(_OPEN)]


def first_seen(
    file: Path, names: Iterable[str], now_us: int, *, write: bool = True
) -> dict[str, int]:
    """When each of some names was first seen here (µs), kept in a file that may be lost.

    Names that are gone are forgotten: what comes again is new.

    Args:
        write: False: only ask.
    """
    before: dict[str, object] = {}
    try:
        raw = json.loads(file.read_text("utf-8"))
        before = raw if isinstance(raw, dict) else {}
    except (OSError, ValueError):
        pass
    out = {}
    for name in names:
        at_us = before.get(name)
        # A time to come is one of a clock that was set back since.
        out[name] = at_us if isinstance(at_us, int) and at_us <= now_us else now_us
    if write and out != before:
        make_folder(file.parent)
        replace_cache(file, json.dumps(out, sort_keys=True).encode())
    return out
