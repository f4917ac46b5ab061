"""All watches of a home at work, in one thread: each in its turn, none in the way of another."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from localstore.artifacts.background import FAILURES
from localstore.watching.folder import WatchedFolder
from localstore.watching.hints import NoHints, hints_for
from localstore.watching.patterns import Pattern
from localstore.watching.watches import path_of, read_watches

if TYPE_CHECKING:
    from collections.abc import Callable

    from localstore.artifacts.model import Version
    from localstore.errors import BadSetting
    from localstore.identity import Identity
    from localstore.layout import HomePaths
    from localstore.project import Project
    from localstore.settings import Settings
    from localstore.watching.folder import Work
    from localstore.watching.hints import Hints
    from localstore.watching.looking import Candidate
    from localstore.watching.taking import Result
    from localstore.watching.watches import Watch

IDLE_S: Final = 2.0  # after so long a change of `watch.toml` is seen


class Stopped(Exception):
    """Somebody asked for the end while a file was read; what is half done is done again."""


@dataclass(slots=True)
class _Active:
    folder: WatchedFolder
    hints: Hints
    place: tuple[int, int] | None  # which folder the hints are for
    due_s: float = 0.0
    soonest_s: float = 0.0  # hints do not make looks follow one another more closely
    renamed: set[str] = field(default_factory=set)


class Watching:
    """The watches of one home.

    Attributes:
        active: what is at work, by id.
    """

    def __init__(
        self,
        home: HomePaths,
        identity: Identity,
        options: Callable[[str, str], Settings],
        *,
        tell: Callable[[str, str, str], object],
        made: Callable[[Watch, Version], object] = lambda _watch, _version: None,
        wake: Callable[[], object] = lambda: None,
        stopping: Callable[[], bool] = lambda: False,
        events: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is read yet.

        Args:
            options: the settings for an entity and a project.
            tell: gets a watch's id, what is wrong in words without any name, and in full.
            made: gets each version, and by which watch it came.
            wake: is called from another thread when a round should come at once.
            stopping: whether to leave; asked while files are read.
            events: whether to use file events where there are any.
        """
        self._home, self._identity, self._options = home, identity, options
        self._tell, self._made = tell, made
        self._wake, self._stopping = wake, stopping
        self._events, self._clock = events, clock
        self.active: dict[str, _Active] = {}
        self._seen: tuple[int, int, int] | None = None

    # -------------------------------------------------------------- which watches
    def reload(self, *, force: bool = False) -> None:
        """Take over what `watch.toml` says now, if it changed.

        Raises:
            BadSetting: it breaks the rules, or none of its entries opens; the watches from before
                go on. An entry that does not open is told, and stops no other.
        """
        seen = self._stamp()
        if seen == self._seen and not force:
            return
        self._seen = seen
        problems: list[BadSetting] = []
        found = read_watches(self._home, self._identity.home_key, problems)
        if problems and not found:
            raise problems[0]
        for problem in problems:
            self._tell("?", "an entry does not open", str(problem))
        wanted = {one.id: one for one in found}
        for name in [name for name, one in self.active.items() if wanted.get(name) != _of(one)]:
            self.active.pop(name).hints.close()
        for name, watch in wanted.items():
            if name not in self.active:
                self.active[name] = _Active(self._folder(watch), NoHints(), None)

    def _stamp(self) -> tuple[int, int, int]:
        try:
            found = path_of(self._home).stat()
        except OSError:
            return 0, 0, 0
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _folder(self, watch: Watch) -> WatchedFolder:
        def tell(plain: str, full: str) -> None:
            self._tell(watch.id, plain, full)

        def open_project() -> tuple[Project, Settings]:
            from localstore.projects import Projects

            options = self._options(watch.entity, watch.project)
            projects = Projects(self._home, self._identity)
            return projects.open_or_create(options.entity, options.project)[0], options

        def carry_out(_candidate: Candidate, work: Work) -> Result:
            return work(self._check)

        return WatchedFolder(
            watch,
            open_project,
            tell=tell,
            carry_out=carry_out,
            made=lambda version: self._made(watch, version),
            clock=self._clock,
        )

    def _check(self, _done: int, _total: int) -> None:
        if self._stopping():
            raise Stopped

    # -------------------------------------------------------------- rounds
    def round(self) -> float:
        """One round of every watch that is due; returns the seconds until the next one.

        Raises:
            Stopped: `stopping` said so.
        """
        for one in list(self.active.values()):
            self._check(0, 0)
            hinted = one.hints.take()
            if hinted is not None:
                one.renamed |= hinted
                one.due_s = min(one.due_s, one.soonest_s)
            if self._clock() >= one.due_s or self._is_another(one):
                self._round_of(one)
        return self.due_in_s()

    def due_in_s(self) -> float:
        """Seconds until some watch is due, at most until `watch.toml` is to be looked at."""
        now = self._clock()
        return max(0.0, min([IDLE_S, *(one.due_s - now for one in self.active.values())]))

    def _round_of(self, one: _Active) -> None:
        self._renew_hints(one)
        renamed, one.renamed = one.renamed, set()
        try:
            one.folder.round(renamed)
        except FAILURES as error:
            self._tell(_of(one).id, f"a round failed: {type(error).__name__}", repr(error))
        now = self._clock()
        one.due_s = now + one.folder.due_in_s(hints=one.hints.live)
        one.soonest_s = now + one.folder.pause_after_look_s

    def _is_another(self, one: _Active) -> bool:
        """Whether another folder than the one that gives hints stands under the path."""
        if not self._events:
            return False
        return one.hints.dead or _place(_of(one).folder) != one.place

    def _renew_hints(self, one: _Active) -> None:
        """Hints are of a folder, not of a path: one that was replaced needs others."""
        if not self._is_another(one):
            return
        watch = _of(one)
        place = _place(watch.folder)
        one.hints.close()
        one.hints, one.place = NoHints(), place
        if place is not None:
            pattern = Pattern.read(watch.pattern)
            one.hints = hints_for(
                watch.folder,
                deep=pattern.folders or len(pattern.parts) > 1,
                wake=self._wake,
                tell=lambda why: self._tell(watch.id, "no file events", why),
            )

    def close(self) -> None:
        """Expect no more hints."""
        for one in self.active.values():
            one.hints.close()


def _of(one: _Active) -> Watch:
    return one.folder.watch


def _place(folder: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(folder)
    except OSError:
        return None
    return found.st_dev, found.st_ino
