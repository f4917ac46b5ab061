"""What is to be done with one remote, and when: hints, whole syncs, looks, and how long to wait.

Pure: it knows no remote, no thread and no clock but the seconds that it is given. Those are seconds
that nobody sets (`time.monotonic`); after a suspend or a jump of the wall clock the caller says
`unblock` and wants everything anew.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

FIRST_S: Final = 1.0
LONGEST_S: Final = 300.0
AGAIN_S: Final = 5.0
PERMANENT_S: Final = 3600.0  # what only a person can mend is tried again now and then, all the same
MAX_RETRY_AFTER_S: Final = 3600.0  # a server must not be able to send us away for ever
# A float overflows at 2.0**1024; the ceiling is reached after nine doublings.
_MAX_DOUBLINGS: Final = 16
MAX_SUBJECTS: Final = 2000  # more are a whole sync


@dataclass(frozen=True, slots=True)
class Work:
    """One thing to do.

    Attributes:
        hints: subjects by project id, for a sync of those alone.
        full: a sync with everything. look: only whether others changed something.
    """

    hints: Mapping[str, frozenset[str]] = field(default_factory=dict)
    full: bool = False
    look: bool = False


class Agenda:
    """What is to be done with one remote.

    Args:
        uniform: a random number between two.

    Attributes:
        failures: how often it failed since it last went well.
        permanent: whether the last failure wants a person.
        held: nothing is done by itself: a pause, no network.
    """

    def __init__(self, uniform: Callable[[float, float], float]) -> None:
        self._uniform = uniform
        self._hints: dict[str, set[str]] = {}
        self._fresh: dict[str, set[str]] = {}  # those of the hints that no urgent() has told
        self._full = self._look = False
        self._blocked_until = -math.inf
        self._again_at, self._partly = math.inf, 0
        self.failures, self.permanent, self.held = 0, False, False

    # -------------------------------------------------------------- what comes in
    def add(self, hints: Mapping[str, Iterable[str]]) -> None:
        """Subjects that have something new."""
        for project, subjects in hints.items():
            new = set(subjects)
            self._hints.setdefault(project, set()).update(new)
            self._fresh.setdefault(project, set()).update(new)
        if self.queued > MAX_SUBJECTS:
            self.want_full()

    def want_full(self) -> None:
        """Everything is to be compared; hints are in it."""
        self._full = True
        self._take_hints()

    def want_look(self) -> None:
        """See whether others changed something there."""
        self._look = True

    def succeeded(self) -> None:
        """The last work went well."""
        self.failures, self.permanent, self._blocked_until = 0, False, -math.inf

    def went_partly(self, now: float) -> None:
        """Some files failed: everything again in a while; meanwhile hints are acted on as ever."""
        self._partly += 1
        self._again_at = now + AGAIN_S + self._delay_s(self._partly)

    def went_wholly(self) -> None:
        """A sync with everything left nothing undone."""
        self._partly, self._again_at = 0, math.inf

    def failed(self, now: float, *, retry_after_s: float | None, permanent: bool) -> float:
        """The last work failed; what it left undone is in the next one.

        Returns:
            Seconds until the next attempt.
        """
        self.want_full()
        self.failures += 1
        self.permanent = permanent
        wait_s = PERMANENT_S if permanent else self._delay_s(self.failures)
        if retry_after_s is not None and not permanent:
            wait_s = max(wait_s, min(retry_after_s, MAX_RETRY_AFTER_S))
        self._blocked_until = now + wait_s
        return wait_s

    def _delay_s(self, failures: int) -> float:
        ceiling = FIRST_S * 2.0 ** min(failures - 1, _MAX_DOUBLINGS)
        # Full jitter: a lid that opens, or a server that comes back, wakes every machine of a lab
        # at once, and equal delays would make them meet there again and again.
        return self._uniform(0.0, min(ceiling, LONGEST_S))

    def unblock(self) -> None:
        """Wait no longer: the network came back, a file changed, a person asked."""
        self._blocked_until = -math.inf

    # -------------------------------------------------------------- what comes out
    @property
    def queued(self) -> int:
        """Subjects that wait."""
        return sum(map(len, self._hints.values()))

    def take(self, now: float) -> Work | None:
        """The next thing to do; None when there is none, or it is not time."""
        if self.held or now < self._blocked_until:
            return None
        if self._full or now >= self._again_at:
            self._full = self._look = False
            self._again_at = math.inf
            self._take_hints()
            return Work(full=True)
        if self._hints:
            return Work(hints=self._take_hints())
        if self._look:
            self._look = False
            return Work(look=True)
        return None

    def _take_hints(self) -> dict[str, frozenset[str]]:
        hints, self._hints, self._fresh = self._hints, {}, {}
        return {project: frozenset(subjects) for project, subjects in hints.items()}

    def urgent(self) -> dict[str, frozenset[str]]:
        """What is new since the last time, for work under way that lets small things go first.

        It stays on the agenda: afterwards it is looked at properly.
        """
        fresh, self._fresh = self._fresh, {}
        return {project: frozenset(subjects) for project, subjects in fresh.items()}

    def wait_s(self, now: float) -> float | None:
        """How long nothing can be due; None: until something comes in."""
        waiting = self._full or self._look or bool(self._hints)
        due = max(self._blocked_until, -math.inf if waiting else self._again_at)
        if self.held or due == math.inf:
            return None
        return max(0.0, due - now)

    @property
    def blocked_until(self) -> float | None:
        """Until when nothing is tried by itself; None: it may be tried."""
        return None if self._blocked_until == -math.inf else self._blocked_until
