"""One watch at work: look, wait until it rests, take, remember, retire what is surplus.

Whatever goes wrong with one file is told once and tried again, later and later; it never ends the
watch and never keeps other files from being taken.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from localstore.artifacts.background import FAILURES
from localstore.errors import StoreError
from localstore.watching.looking import Look, look
from localstore.watching.memory import Memory
from localstore.watching.patterns import Pattern
from localstore.watching.resting import Rest
from localstore.watching.retiring import retire
from localstore.watching.taking import Changed, Outcome, Result, Taker
from localstore.watching.writers import has_writer

if TYPE_CHECKING:
    from collections.abc import Collection

    from localstore.artifacts.model import Version
    from localstore.project import Project
    from localstore.settings import Settings
    from localstore.watching.looking import Candidate, Stamp
    from localstore.watching.watches import Watch

BACK: Final = "the folder is there again"
_FIRST_RETRY_S: Final = 2.0
_LAST_RETRY_S: Final = 300.0
_MOST_DOUBLINGS: Final = 16
_LEAST_POLL_S: Final = 1.0
_MOST_POLL_S: Final = 30.0
_SHARE: Final = 20  # looking may take one part in so many of the time
_REOPEN_S: Final = 60.0  # keys may have been rotated meanwhile


Progress = Callable[[int, int], None]
Work = Callable[[Progress], Result]
CarryOut = Callable[["Candidate", Work], Result]


def at_once(_candidate: Candidate, work: Work) -> Result:
    """Do the work here and now."""
    return work(lambda _done, _total: None)


@dataclass(slots=True)
class _Failure:
    candidate: Candidate
    tries: int
    until_s: float


class WatchedFolder:
    """One watch at work, in one thread.

    Attributes:
        watch: what is watched. counts: outcomes and troubles, by word.
        waiting: names that are on their way: still changing, open, or to be tried again.
        missing: whether the folder was not there, or closed to us, at the last look.
    """

    def __init__(
        self,
        watch: Watch,
        open_project: Callable[[], tuple[Project, Settings]],
        *,
        tell: Callable[[str, str], object],
        carry_out: CarryOut = at_once,
        made: Callable[[Version], object] = lambda _version: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is looked at yet.

        Args:
            open_project: where versions go; called again now and then.
            tell: gets what went wrong, in words without any name, and in full.
            carry_out: does the work of one candidate, here or elsewhere, and returns its result.
            made: gets each version.
            clock: seconds, never going back.
        """
        self.watch = watch
        self.counts: Counter[str] = Counter()
        self.waiting: set[str] = set()
        self._open_project, self._tell = open_project, tell
        self._carry_out, self._made, self._clock = carry_out, made, clock
        self._pattern = Pattern.read(watch.pattern)
        self._rest = Rest(watch.settle_s)
        self._failures: dict[str, _Failure] = {}
        self._known: dict[str, tuple[tuple[str, Stamp], ...]] = {}
        self._told: set[str] = set()
        self._project: tuple[Project, Settings] | None = None
        self._opened_s = 0.0
        self._memory: Memory | None = None
        self._pause_until_s = 0.0
        self._look_took_s = 0.0
        self.missing = False

    # -------------------------------------------------------------- one round
    def round(self, renamed: Collection[str] = ()) -> int:
        """Look once and take what has come to rest; returns how many versions were made.

        Raises:
            BaseException: what `carry_out` raises to end it; nothing else.
        """
        if self._clock() < self._pause_until_s:
            return 0
        try:
            return self._take_all(self._resting(renamed))
        except FAILURES as error:
            self._trouble("the store", error)
            self._pause_until_s = self._clock() + self._retry_s(self.counts["rounds failed"])
            self.counts["rounds failed"] += 1
            self._project = None
            return 0

    def _look(self) -> Look | None:
        """One look; None, told once, while the folder is not there or cannot be listed."""
        try:
            seen = look(self.watch.folder, self._pattern, self.watch.complete_when)
        except OSError as error:
            if not self.missing:
                self._tell("the folder cannot be listed", f"{self.watch.folder}: {error.strerror}")
            self.missing = True
            self._rest, self.waiting = Rest(self.watch.settle_s), set()
            return None
        if self.missing:
            self._tell(BACK, f"{self.watch.folder} is there again")
        self.missing = False
        return seen

    def _resting(self, renamed: Collection[str]) -> list[Candidate]:
        before = self._clock()
        seen = self._look()
        now = self._clock()
        if seen is None:
            return []
        self._tell_problems(seen)
        resting = self._rest.look(seen.candidates, now, renamed)
        self.waiting = {name for name, one in seen.candidates.items() if not one.problem}
        self._failures = {k: one for k, one in self._failures.items() if k in seen.candidates}
        new = self._not_known(resting, now) if resting else []
        self._look_took_s = self._clock() - before
        return new

    def _not_known(self, resting: list[Candidate], now_s: float) -> list[Candidate]:
        memory = self._remembered()
        self._known = {
            one.name: one.files
            for one in resting
            if self._known.get(one.name) == one.files or memory.has(one)
        }
        known = self._known.keys()
        self.waiting -= known
        return [one for one in resting if one.name not in known and self._may_try(one, now_s)]

    def _take_all(self, resting: list[Candidate]) -> int:
        """Take what nobody writes; how many versions that made.

        Of more than `keep` at once the older ones would be deleted as soon as they are made. They
        are passed over, but not before the newer ones are safe.
        """
        able = [one for one in resting if not self._is_written(one)]
        keep = self.watch.keep if able and self._can_read else None
        chosen = able if keep is None else able[-keep:]
        outcomes = [self._take(one) for one in chosen]
        if None not in outcomes:
            for one in able[: len(able) - len(chosen)]:
                self._remembered().put(one)
                self.waiting.discard(one.name)
                self.counts["passed over"] += 1
        if self._memory is not None:
            self._memory.save()
        made = outcomes.count(Outcome.VERSION)
        if made:
            self._retire()
        self.counts["rounds failed"] = 0
        return made

    # -------------------------------------------------------------- one candidate
    def _take(self, candidate: Candidate) -> Outcome | None:
        """Take one; None when that did not work."""
        if self._pause_until_s > self._clock():
            return None
        project, options = self._opened()
        taker = Taker(project, self.watch, options, self._remembered(), warn=self._warn)
        try:
            result = self._carry_out(candidate, lambda progress: taker.take(candidate, progress))
        except Changed:
            self.counts["changed meanwhile"] += 1
            return None
        except FAILURES as error:
            self._failed(candidate, error)
            return None
        self._failures.pop(candidate.name, None)
        self.waiting.discard(candidate.name)
        self.counts[result.outcome.value] += 1
        if result.version is not None:
            self._made(result.version)
        return result.outcome

    def _is_written(self, candidate: Candidate) -> bool:
        root = Path(self.watch.folder)
        return any(
            has_writer(str(root / candidate.path_of(path)), stamp)
            for path, stamp in candidate.files
        )

    def _failed(self, candidate: Candidate, error: BaseException) -> None:
        before = self._failures.get(candidate.name)
        same = before is not None and before.candidate.files == candidate.files
        tries = before.tries + 1 if before is not None and same else 1
        wait_s = self._retry_s(tries - 1)
        self._failures[candidate.name] = _Failure(candidate, tries, self._clock() + wait_s)
        self.counts["failures"] += 1
        self._trouble(f"a file ({candidate.name})", error)
        if isinstance(error, StoreError | OSError | MemoryError):
            self._pause_until_s = self._clock() + wait_s  # the disk, not this one file

    def _may_try(self, candidate: Candidate, now_s: float) -> bool:
        failure = self._failures.get(candidate.name)
        if failure is None or failure.candidate.files != candidate.files:
            return True
        return now_s >= failure.until_s

    @staticmethod
    def _retry_s(tries: int) -> float:
        return min(_LAST_RETRY_S, _FIRST_RETRY_S * 2.0 ** min(tries, _MOST_DOUBLINGS))

    def _retire(self) -> None:
        project, options = self._opened()
        if self.watch.keep is None:
            return
        try:
            gone = retire(project, self.watch, options, self._warn)
        except FAILURES as error:
            self._trouble("old versions", error)
            return
        self.counts["deleted"] += len(gone)

    # -------------------------------------------------------------- where it goes
    def _opened(self) -> tuple[Project, Settings]:
        now = self._clock()
        if self._project is None or now - self._opened_s > _REOPEN_S:
            self._project, self._opened_s = self._open_project(), now
        return self._project

    @property
    def _can_read(self) -> bool:
        return self._opened()[0].can_read

    def _remembered(self) -> Memory:
        if self._memory is None:
            self._memory = Memory(self._opened()[0], self.watch.id)
        return self._memory

    # -------------------------------------------------------------- telling
    def _tell_problems(self, seen: Look) -> None:
        for where, why in seen.problems.items():
            self._once("a folder in it cannot be listed", f"{where or '.'}: {why}")
        for one in seen.candidates.values():
            if one.problem:
                self._once("a name is passed over", f"{one.name!r} is not taken: {one.problem}")

    def _trouble(self, what: str, error: BaseException) -> None:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error) or repr(error)
        plain = what.partition(" (")[0]
        self._once(f"{plain}: {type(error).__name__}", f"{what}: {why}")

    def _warn(self, message: str) -> None:
        self._once("a warning of the store", message)

    def _once(self, plain: str, full: str) -> None:
        if full not in self._told:
            if len(self._told) > 10_000:
                self._told.clear()
            self._told.add(full)
            self._tell(plain, full)

    @property
    def in_trouble(self) -> bool:
        """Whether the folder or the store is closed to us, or a file was given up for now."""
        return bool(self.missing or self._failures or self.counts["rounds failed"])

    # -------------------------------------------------------------- when to look again
    def hurry(self, settle_s: float) -> None:
        """Wait for no file longer than this from now on."""
        self._rest.settle_s = min(self._rest.settle_s, settle_s)

    @property
    def settling(self) -> bool:
        """Whether something changed so lately that it may come to rest soon."""
        return self._rest.due_in_s(self._clock()) is not None

    @property
    def pause_after_look_s(self) -> float:
        """How long to leave the folder alone after a look, whatever happens in it."""
        return min(_LEAST_POLL_S, 0.05 + self._look_took_s * _SHARE / 2)

    def due_in_s(self, *, hints: bool) -> float:
        """Seconds until the next look, when no hint comes before.

        Args:
            hints: whether hints can be expected.
        """
        now = self._clock()
        often = min(_MOST_POLL_S, max(_LEAST_POLL_S, self._look_took_s * _SHARE))
        least = max(0.05, min(self.watch.settle_s, often) / 2, self._look_took_s * _SHARE / 4)
        waits = [_MOST_POLL_S if hints and not self.waiting else often]
        settling = self._rest.due_in_s(now)
        if settling is not None:
            waits.append(max(least, settling))
        return max(min(waits), self._pause_until_s - now)
