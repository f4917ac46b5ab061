"""Hints that something happened in a folder, from the system's file events where there are any.

A hint only makes a look come sooner: folders are looked at again and again all the same, so nothing
is lost where hints are missing, as on network file systems.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

_MOUNTS: Final = Path("/proc/self/mountinfo")
_NETWORK: Final = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "glusterfs", "gpfs", "lustre", "nfs", "nfs4"}
    | {"panfs", "pvfs2", "smb3", "smbfs", "virtiofs"}
)


class Hints(Protocol):
    """What a watch asks for hints."""

    @property
    def live(self) -> bool:
        """Whether hints can be expected at all."""

    @property
    def dead(self) -> bool:
        """Whether there were hints, and others must be asked for: their folder is gone."""

    def take(self) -> set[str] | None:
        """Names that were renamed into place since the last call; None when nothing happened."""

    def close(self) -> None:
        """Expect no more."""


class NoHints:
    """Where nobody gives hints."""

    live = False
    dead = False

    def take(self) -> set[str] | None:
        """Never anything."""
        return None

    def close(self) -> None:
        """Nothing."""


def hints_for(
    folder: str, *, deep: bool, wake: Callable[[], object], tell: Callable[[str], object]
) -> Hints:
    """Hints for a folder, where its file system, the system and what is installed give any.

    Args:
        deep: also for what happens in folders below.
        wake: is called from another thread when something happened.
        tell: gets the reason when hints were expected and there are none.
    """
    if sys.platform == "linux" and on_network(folder):
        return NoHints()
    try:
        return _Events(folder, deep=deep, wake=wake)
    except ImportError:
        return NoHints()
    except (OSError, RuntimeError) as error:
        tell(f"no file events ({error}); looking again and again instead")
        return NoHints()


def on_network(folder: str) -> bool:
    """Whether a folder lies on a file system that other machines write to, or on FUSE."""
    best, kind = "", ""
    try:
        lines = _MOUNTS.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return False
    for line in lines:
        before, _, after = line.partition(" - ")
        point = before.split(" ")[4].encode("utf-8", "surrogateescape")
        place = point.decode("unicode_escape").encode("latin-1", "replace")
        where = os.fsdecode(place).rstrip("/")
        if len(where) >= len(best) and f"{folder}/".startswith(f"{where}/"):
            best, kind = where, after.split(" ")[0]
    return kind in _NETWORK or kind.startswith("fuse")


class _Events:
    """Events of one folder; the thread that reads them belongs to watchdog."""

    def __init__(self, folder: str, *, deep: bool, wake: Callable[[], object]) -> None:
        from watchdog.events import (
            DirCreatedEvent,
            DirDeletedEvent,
            DirMovedEvent,
            FileClosedEvent,
            FileCreatedEvent,
            FileMovedEvent,
            FileSystemEvent,
            FileSystemEventHandler,
        )
        from watchdog.observers import Observer

        events = self

        class Handler(FileSystemEventHandler):
            def on_any_event(self, event: FileSystemEvent) -> None:
                events.happened(event, gone=isinstance(event, DirDeletedEvent))

        self._root, self._wake = folder, wake
        self._lock = threading.Lock()
        self._renamed: set[str] = set()
        self._any = self._gone = False
        self._observer = Observer()
        # Only what may complete a file: reads and each single write would drown the rest.
        meant: list[type[FileSystemEvent]] = [
            FileCreatedEvent, FileClosedEvent, FileMovedEvent,
            DirCreatedEvent, DirMovedEvent, DirDeletedEvent,
        ]  # fmt: skip
        self._observer.schedule(Handler(), folder, recursive=deep, event_filter=meant)
        self._observer.start()

    @property
    def live(self) -> bool:
        return self._observer.is_alive() and not self._gone

    @property
    def dead(self) -> bool:
        return not self.live

    def happened(self, event: object, *, gone: bool) -> None:
        """One event, in watchdog's thread."""
        source = os.fsdecode(getattr(event, "src_path", ""))
        target = getattr(event, "dest_path", "") or ""
        name = os.path.relpath(os.fsdecode(target), self._root) if target else ""
        with self._lock:
            self._any = True
            self._gone |= gone and source == self._root
            if name and not name.startswith(".."):
                self._renamed.add(name)
        self._wake()

    def take(self) -> set[str] | None:
        with self._lock:
            happened, renamed = self._any, self._renamed
            self._any, self._renamed = False, set()
        return renamed if happened else None

    def close(self) -> None:
        self._observer.stop()
        if self._observer.is_alive():
            self._observer.join(1.0)
