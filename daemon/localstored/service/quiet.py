"""Writers that went quiet: what stands in their tails alone is copied, so that it leaves, too.

A writer leaves a hint with each block and each sign of life. After some seconds without one its
tails are looked at twice: those that hold records and do not grow belong to the dead or frozen.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from localstore.layout import HomePaths
from localstore.wake import LINKS
from localstored.tails import SILENT_S, copy_tails

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from localstored.service.journal import Journal

QUIET_S: Final = SILENT_S + 2.0
_FORGET_S: Final = 3600.0
MAX_WATCHED: Final = 10_000

Growth = dict["Path", tuple[int, int]]  # size in bytes, time of change in ns


class QuietWriters:
    """Subjects that were written to lately.

    Args:
        on_copied: called with the subjects whose tails were copied, by project id.
        monotonic: seconds on a clock that nobody sets.
    """

    def __init__(
        self,
        home: Path,
        journal: Journal,
        on_copied: Callable[[dict[str, set[str]]], None],
        monotonic: Callable[[], float],
    ) -> None:
        self._home, self._journal = HomePaths(home), journal
        self._on_copied, self._monotonic = on_copied, monotonic
        self._lock = threading.Lock()
        self._last: dict[tuple[str, str], float] = {}
        self._seen: dict[tuple[str, str], tuple[float, Growth]] = {}

    def add(self, hints: Mapping[str, Iterable[str]]) -> None:
        """These were written to just now."""
        now = self._monotonic()
        with self._lock:
            for project, subjects in hints.items():
                for subject in subjects:
                    if subject != LINKS and len(self._last) < MAX_WATCHED:
                        self._last[project, subject] = now

    def look(self) -> None:
        """Copy the tails of those that went quiet; wants to be called every few seconds."""
        now, copied = self._monotonic(), dict[str, set[str]]()
        with self._lock:
            quiet = [key for key, at in self._last.items() if now - at >= QUIET_S]
        for project, subject in quiet:
            growth = _growth(self._home.project(project).runs / subject)
            seen_at, before = self._seen.get((project, subject), (now, None))
            if growth and growth != before:
                self._seen[project, subject] = (now, growth)
                continue
            if growth and now - seen_at < SILENT_S:
                continue
            if growth:
                self._copy(growth)
                copied.setdefault(project, set()).add(subject)
            self._forget((project, subject), now)
        if copied:
            self._on_copied(copied)

    def _forget(self, key: tuple[str, str], before: float) -> None:
        with self._lock:
            if self._last.get(key, before) < before:
                self._last.pop(key, None)
        self._seen.pop(key, None)

    def _copy(self, growth: Growth) -> None:
        for problem in copy_tails(growth):
            self._journal.warning("tail", damaged=problem)


def _growth(folder: Path) -> Growth:
    """The live tails in a folder that hold records."""
    found: Growth = {}
    try:
        for path in folder.glob("*.t[01]"):
            status = path.stat()
            if status.st_size:
                found[path] = (status.st_size, status.st_mtime_ns)
    except OSError:
        return {}
    return found
