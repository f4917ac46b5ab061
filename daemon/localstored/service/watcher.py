"""Watches a home for hints: which subjects of which projects have something new.

Events say when to look, the folders say what is there: an event that is lost costs time, until the
next rescan, and nothing else. Few folders are watched and none recursively: the home, the folder of
projects, and `local/wake` of each project. Where events cannot be had (a network file system, a
limit of the system) the same folders are polled.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from localstore.layout import DIRECTORY_MODE, FORMAT_FILE, HomePaths
from localstore.wake import LINKS, wake_folder
from localstored.place import file_system_of, is_network, read_mounts
from localstored.service.journal import Level

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from watchdog.events import FileSystemEvent
    from watchdog.observers.api import BaseObserver, ObservedWatch

    from localstore.layout import ProjectPaths
    from localstored.service.journal import Journal

DEBOUNCE_S: Final = 0.1
POLL_S: Final = 1.0
# A thread each. The wake folders of more projects than that are looked at each second instead.
MAX_WATCHED_PROJECTS: Final = 100
MAX_HINTS: Final = 100_000
_HINT: Final = re.compile(rf"[0-9a-f]{{32}}|{LINKS}")
_LIMITS: Final = frozenset({errno.ENOSPC, errno.EMFILE, errno.ENFILE})

Hints = dict[str, set[str]]  # subjects (32 hex digits, or LINKS) by project id


def take_hints(paths: ProjectPaths) -> set[str]:
    """The hints of a project, which are removed first: whatever comes later makes a new one."""
    found: set[str] = set()
    folder = wake_folder(paths)
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if len(found) >= MAX_HINTS:
                break
            if _HINT.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    (folder / entry.name).unlink()
                    found.add(entry.name)
    return found


@dataclass(slots=True)
class _Seen:
    """What events said since the last look; guarded by the watcher's lock."""

    home: bool = False
    projects: bool = False
    wakes: set[str] = field(default_factory=set)


class Watcher:
    """Tells of hints, of projects that come and go, and of changed files of the home itself.

    Args:
        on_hints: called with subjects by project id. on_home: something in the home's own folder
            changed. on_projects: called with the ids of projects that came or went.
        network: whether to poll; None: by the kind of the home's file system.

    Attributes:
        how: "events" or "polling". problem: why it is not events, when it could be.
    """

    def __init__(
        self,
        home: Path,
        journal: Journal,
        *,
        on_hints: Callable[[Hints], None],
        on_home: Callable[[], None],
        on_projects: Callable[[frozenset[str]], None],
        network: bool | None = None,
    ) -> None:
        self._home, self._journal = HomePaths(home), journal
        self._on_hints, self._on_home, self._on_projects = on_hints, on_home, on_projects
        if network is None:
            network = is_network(file_system_of(home.resolve(), read_mounts()))
        self.how, self.problem = "polling" if network else "events", ""
        self._lock, self._changed = threading.Lock(), threading.Event()
        self._seen = _Seen()
        self._observer: BaseObserver | None = None
        self._watches: dict[Path, ObservedWatch] = {}
        self._known: dict[str, ProjectPaths] = {}
        self._polled: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    # -------------------------------------------------------------- from outside
    def start(self) -> None:
        """Begin to watch; what was touched before is not told."""
        self._home.projects.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        self._watch_all()
        self._thread.start()

    def stop(self) -> None:
        """Begin the end; waits for nothing."""
        self._stop.set()
        self._changed.set()
        if self._observer is not None:
            self._observer.stop()

    def join(self, timeout_s: float) -> None:
        """Wait for the end, so long at most."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def rescan(self) -> None:
        """Look at all folders anew, whatever events say."""
        with self._lock:
            self._seen.projects = True
            self._seen.wakes |= set(self._known)
        self._changed.set()

    @property
    def is_alive(self) -> bool:
        """Whether it still does its work."""
        return self._thread.is_alive()

    @property
    def folders(self) -> int:
        """How many folders are watched or polled."""
        return len(self._watches) + len(self._polled)

    # -------------------------------------------------------------- events
    def _noted(self, path: Path) -> Any:
        """A handler that notes where something happened, and nothing more."""
        from watchdog.events import FileSystemEventHandler

        watcher = self

        class Handler(FileSystemEventHandler):
            def on_any_event(self, event: FileSystemEvent) -> None:
                watcher._note(path, event)

        return Handler()

    def _note(self, folder: Path, event: FileSystemEvent) -> None:
        name = Path(os.fsdecode(event.src_path)).name
        if event.is_directory and folder == self._home.root and name != folder.name:
            return  # state/ and others change all the time
        with self._lock:
            if folder == self._home.root:
                self._seen.home = True
            elif folder == self._home.projects or event.event_type == "deleted":
                self._seen.projects = True
            else:
                self._seen.wakes.add(folder.parents[1].name)
        self._changed.set()

    # -------------------------------------------------------------- what is watched
    def _watch_all(self) -> None:
        """Watch what is there now, forget what is gone."""
        self._known = {paths.id: paths for paths in self._home.all_projects()}
        wanted = {self._home.root, self._home.projects}
        self._polled = {
            id_: self._polled.get(id_, 0) for id_ in list(self._known)[MAX_WATCHED_PROJECTS:]
        }
        for id_, paths in self._known.items():
            if id_ not in self._polled and _make_wake_folder(paths):
                wanted.add(wake_folder(paths))
        try:
            self._watch(wanted)
        except OSError as error:
            if self.how == "polling" or error.errno not in _LIMITS:
                raise
            self._fall_back(error)
            self._watch(wanted)

    def _fall_back(self, error: OSError) -> None:
        """Poll from now on: the system gives no more watches."""
        self.how, self.problem = "polling", f"no events to be had: {error.strerror}"
        self._journal.warning(
            "watching", how="polling", why=error.strerror, hint="raise fs.inotify.max_user_watches"
        )
        if self._observer is not None:
            self._observer.stop()
        self._observer, self._watches = None, {}

    def _watch(self, wanted: Iterable[Path]) -> None:
        observer = self._observer or self._new_observer()
        alive = {emitter.watch for emitter in observer.emitters if emitter.is_alive()}
        wanted = set(wanted)
        for folder in list(self._watches):
            if folder not in wanted or self._watches[folder] not in alive:
                with contextlib.suppress(KeyError):
                    observer.unschedule(self._watches[folder])
                del self._watches[folder]
        for folder in wanted - set(self._watches):
            try:
                self._watches[folder] = observer.schedule(
                    self._noted(folder), str(folder), event_filter=_event_filter()
                )
            except (FileNotFoundError, NotADirectoryError):
                continue  # deleted under us

    def _new_observer(self) -> BaseObserver:
        from watchdog.observers import Observer
        from watchdog.observers.polling import PollingObserver

        made = PollingObserver(timeout=POLL_S) if self.how == "polling" else Observer()
        made.name, made.daemon = "watchdog", True
        made.start()
        self._observer = made
        return made

    # -------------------------------------------------------------- the loop
    def _run(self) -> None:
        while not self._stop.is_set():
            # Let the other hints of the same moment arrive: one sync for all of them.
            if self._changed.wait(POLL_S if self._polled else None):
                self._stop.wait(DEBOUNCE_S)
            self._changed.clear()
            try:
                self.look()
            except OSError as error:
                self._journal.on_change(
                    "watcher", Level.WARNING, "watching", problem=error.strerror
                )

    def look(self) -> None:
        """Act on what was seen."""
        with self._lock:
            seen, self._seen = self._seen, _Seen()
        if seen.projects:
            before = set(self._known)
            self._watch_all()
            changed = before ^ set(self._known)
            if changed:
                seen.wakes |= changed & set(self._known)
                self._on_projects(frozenset(changed))
        if seen.home:
            self._on_home()
        self._tell(seen.wakes | self._polled_wakes())

    def _tell(self, wakes: set[str]) -> None:
        hints = {id_: take_hints(self._known[id_]) for id_ in wakes if id_ in self._known}
        hints = {id_: subjects for id_, subjects in hints.items() if subjects}
        if hints:
            self._on_hints(hints)

    def _polled_wakes(self) -> set[str]:
        """Projects without a watch in whose folder a hint was made or removed since."""
        changed = set()
        for id_, before in self._polled.items():
            try:
                now = wake_folder(self._known[id_]).stat().st_mtime_ns
            except OSError:
                continue
            if now != before:
                self._polled[id_] = now
                changed.add(id_)
        return changed


def _make_wake_folder(paths: ProjectPaths) -> bool:
    """Make the folder of hints; never a project that is gone."""
    folder = wake_folder(paths)
    if folder.is_dir():
        return True
    with contextlib.suppress(OSError):
        if (paths.root / FORMAT_FILE).exists():
            for path in (paths.local, folder):
                with contextlib.suppress(FileExistsError):
                    path.mkdir(mode=DIRECTORY_MODE)
            return True
    return False


def _event_filter() -> list[type[FileSystemEvent]]:
    """Without a filter a large folder drowns its watcher in events of reading."""
    from watchdog.events import (
        DirCreatedEvent,
        DirDeletedEvent,
        DirMovedEvent,
        FileAttribEvent,
        FileCreatedEvent,
        FileModifiedEvent,
        FileMovedEvent,
    )

    return [
        FileCreatedEvent,
        FileModifiedEvent,
        FileMovedEvent,
        FileAttribEvent,
        DirCreatedEvent,
        DirDeletedEvent,
        DirMovedEvent,
    ]
