"""What all workers of a service share: policy, conditions, pause, and where things are written.

Policy files are read again when they changed; who is in the middle of a transfer asks `check`,
which ends it when what it was allowed by has changed.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Final

from localstore.layout import HomePaths
from localstored.policy import Conditions
from localstored.policyfile import Book
from localstored.service.journal import Level
from localstored.service.state import State

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from localstored.conditions import World
    from localstored.service.journal import Journal
    from localstored.service.state import Pause

RECIPIENTS_FILE: Final = "recipients"
LOOK_S: Final = 0.5  # between two looks at the policy's files
_BATTERY_STEP: Final = 5
_MINUTES_STEP: Final = 10


def now_us() -> int:
    """Unix time in microseconds."""
    return time.time_ns() // 1000


def read_recipients(home: Path) -> frozenset[str]:
    """Tags of this home's keys, which stand in clear beside them."""
    try:
        text = (HomePaths(home).identity / RECIPIENTS_FILE).read_text("ascii")
    except (OSError, UnicodeDecodeError):
        return frozenset()
    return frozenset(text.split())


class Desk:
    """What the workers of one home share; safe from several threads.

    Args:
        world: knows the conditions; None: nobody does.
        clock: Unix time in µs. monotonic: seconds on a clock that nobody sets.
    """

    def __init__(
        self,
        home: Path,
        journal: Journal,
        *,
        world: World | None = None,
        clock: Callable[[], int] = now_us,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.home, self.journal, self.state = home, journal, State(home)
        self.world, self.clock, self.monotonic = world, clock, monotonic
        self._lock = threading.Lock()
        self._book = Book.read(home)
        self._looked_at = monotonic()
        self._pause: Pause | None = self.state.pause()
        self._tell_problems()

    # -------------------------------------------------------------- policy
    def book(self) -> Book:
        """The policy in force; files that changed are read again within half a second."""
        with self._lock:
            if self.monotonic() - self._looked_at >= LOOK_S:
                if not self._book.is_current():
                    self._book = self._book.renewed()
                    self._tell_problems()
                self._looked_at = self.monotonic()
            return self._book

    def _tell_problems(self) -> None:
        problems = [str(problem) for problem in self._book.problems()]
        if problems:
            self.journal.on_change("policy", Level.ERROR, "policy", problem="; ".join(problems))
        elif self.journal.forget("policy"):
            self.journal.notice("policy", problem="none any more")

    def recipients(self) -> frozenset[str]:
        """Tags of this home's keys."""
        return read_recipients(self.home)

    # -------------------------------------------------------------- conditions
    def conditions(self) -> Conditions:
        """The world now, as far as it is known."""
        return self.world.now() if self.world is not None else Conditions()

    def mark(self) -> tuple[object, ...]:
        """Differs when a transfer under way has to be decided anew."""
        book = self.book()
        if not book.files() and not any(True for _ in book.problems()):
            return (book.fingerprint,)
        now = self.conditions()
        percent = now.battery_percent
        return (
            book.fingerprint,
            (now.online, now.metered, now.captive, now.networks, now.interfaces),
            (now.on_battery, percent // _BATTERY_STEP if percent is not None else None),
            now.minute // _MINUTES_STEP,
        )

    # -------------------------------------------------------------- pause
    def paused(self) -> Pause | None:
        """The pause in force, None when there is none (any more)."""
        pause = self._pause
        return pause if pause is not None and pause.holds(self.clock()) else None

    def set_pause(self, until_us: int | None) -> None:
        """Sync nothing by itself; transfers under way end within two seconds."""
        self.state.set_pause(until_us)
        self._pause = self.state.pause()

    def clear_pause(self) -> None:
        """Go on."""
        self.state.clear_pause()
        self._pause = None

    def read_pause(self) -> None:
        """Take over what somebody else wrote down."""
        with contextlib.suppress(OSError):
            self._pause = self.state.pause()
