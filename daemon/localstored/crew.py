"""Who carries out steps: so many at once as a remote bears, and fewer when it complains."""

from __future__ import annotations

import contextlib
import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from localstored.remotes.base import Stopped, Unreachable

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable

T = TypeVar("T")
LOOK_S: Final = 0.5  # how long nobody asks what else is urgent


class Crew(Protocol):
    """Runs tasks, perhaps several at once. Belongs to the thread that made it."""

    def start(self, task: Callable[[], object]) -> None:
        """Have a task run, now or later."""

    def next(self, timeout_s: float) -> object | None:
        """What the next task that ended gave, or None when none ends in time.

        Raises:
            BaseException: what that task raised.
        """

    def close(self) -> None:
        """Let everybody go when they have ended what they do."""


class Threads:
    """Threads of this process, started as they are needed.

    A remote that hangs keeps its thread for ever; so nothing waits for threads, not even the end of
    the process.
    """

    def __init__(self, width: int) -> None:
        self._width, self._threads, self._flying = width, 0, 0
        self._todo: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._ended: SimpleQueue[tuple[object, BaseException | None]] = SimpleQueue()

    def start(self, task: Callable[[], object]) -> None:
        """See `Crew.start`."""
        self._flying += 1
        self._todo.put(task)
        if self._threads < min(self._width, self._flying):
            self._threads += 1
            threading.Thread(target=self._work, name="localstored-step", daemon=True).start()

    def _work(self) -> None:
        while (task := self._todo.get()) is not None:
            try:
                ended: tuple[object, BaseException | None] = (task(), None)
            except BaseException as problem:  # noqa: BLE001 - raised where the end is asked for
                ended = (None, problem)
            self._ended.put(ended)

    def next(self, timeout_s: float) -> object | None:
        """See `Crew.next`."""
        try:
            found, problem = self._ended.get(timeout=timeout_s)
        except Empty:
            return None
        self._flying -= 1
        if problem is not None:
            raise problem
        return found

    def close(self) -> None:
        """See `Crew.close`."""
        for _ in range(self._threads):
            self._todo.put(None)


class Inline:
    """No thread: a task runs when its end is asked for; which one, chance says or the order."""

    def __init__(self, width: int, chance: random.Random | None = None) -> None:
        self.width, self._chance = width, chance
        self._waiting: list[Callable[[], object]] = []

    def start(self, task: Callable[[], object]) -> None:
        """See `Crew.start`."""
        self._waiting.append(task)

    def next(self, timeout_s: float) -> object | None:  # noqa: ARG002 - nothing to wait for
        """See `Crew.next`."""
        if not self._waiting:
            return None
        at = self._chance.randrange(len(self._waiting)) if self._chance is not None else 0
        return self._waiting.pop(at)()

    def close(self) -> None:
        """See `Crew.close`."""
        self._waiting.clear()


class Width:
    """How many steps go at once: one more for each round that went well, half after trouble."""

    def __init__(self, most: int) -> None:
        self.most = max(1, most)
        self._least = min(2, self.most)
        self._now = float(self._least)

    @property
    def now(self) -> int:
        """So many at once."""
        return int(min(self._now, self.most))

    def went_well(self) -> None:
        """One step ended without complaint."""
        self._now = min(self._now + 1 / self._now, float(self.most))

    def complained(self) -> None:
        """The remote was too busy for one step, or does not answer."""
        self._now = max(self._now / 2, float(self._least))


def carry_out(
    tasks: Iterable[Callable[[], T]],
    crew: Crew,
    width: Width,
    done: Callable[[T], None],
    between: Callable[[], None],
) -> None:
    """Run tasks in order, so many at once as `width` says at that moment.

    Args:
        done: takes what each task gives, in this thread, in the order of their ends.
        between: is called in this thread before each start, and at least each half second.

    Raises:
        Unreachable, Stopped: the first that `done` or `between` raised. What runs then is waited
            for, and what it gives is handed to `done`, too.
    """
    waiting, flying, more = iter(tasks), 0, True
    try:
        while more or flying:
            while more and flying < width.now:
                between()
                task = next(waiting, None)
                more = task is not None
                if task is not None:
                    crew.start(task)
                    flying += 1
            ended = crew.next(LOOK_S) if flying else None
            if ended is not None:
                flying -= 1
                done(ended)  # type: ignore[arg-type] # a crew gives what its tasks give
            between()
    except (Unreachable, Stopped):
        while flying:
            ended = crew.next(LOOK_S)
            if ended is not None:
                flying -= 1
                with contextlib.suppress(Unreachable, Stopped):
                    done(ended)  # type: ignore[arg-type] # the same
        raise
