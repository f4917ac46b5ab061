"""One seeded scheduler: of all clients exactly one runs, and it passes the baton at every point."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence


class Crash(BaseException):
    """The process ends here; nothing may catch it, as nothing catches SIGKILL."""


def _closed() -> threading.Lock:
    """A lock that the next one to acquire it waits for."""
    lock = threading.Lock()
    lock.acquire()
    return lock


class Task:
    """One client's work, in a thread that runs only while it holds the baton."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.go = _closed()
        self.ended = self.dead = False
        self.problem: BaseException | None = None
        self._work = work
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self.go.acquire()
        try:
            self._work()
        except Crash:
            pass
        except BaseException as problem:  # noqa: BLE001 - told by the scheduler's thread
            self.problem = problem
        self.ended = True
        _HERE.baton.passed.release()


class _Here(threading.local):
    """What the thread that runs belongs to."""

    def __init__(self) -> None:
        self.task: Task | None = None
        self.baton: Baton = NOBODY


class Baton:
    """Runs tasks, one step at a time, in an order drawn from `random`."""

    def __init__(self, random: random.Random | None = None) -> None:
        self._random = random
        self.passed = _closed()
        self.steps = 0

    def run(self, works: Sequence[Callable[[], object]]) -> None:
        """Run all to their ends; raises what one of them raised."""
        assert self._random is not None
        tasks = [self._task(work) for work in works]
        running = list(tasks)
        while running:
            task = self._random.choice(running)
            self.steps += 1
            task.go.release()
            self.passed.acquire()
            if task.ended:
                task.thread.join()
                running.remove(task)
        for task in tasks:
            if task.problem is not None:
                raise task.problem

    def _task(self, work: Callable[[], object]) -> Task:
        def here() -> None:
            _HERE.task, _HERE.baton = task, self
            work()

        task = Task(here)
        task.thread.start()
        return task


NOBODY = Baton()
_HERE = _Here()


def point() -> None:
    """Let another client run here, perhaps."""
    task = _HERE.task
    if task is not None:
        _HERE.baton.passed.release()
        task.go.acquire()


def inside() -> bool:
    """Whether a client runs, not the test."""
    return _HERE.task is not None


def crash() -> NoReturn:
    """The client's process dies here, and does nothing more."""
    if _HERE.task is not None:
        _HERE.task.dead = True
    raise Crash


def check_alive() -> None:
    """Nothing that a dead process still meant to do, in `finally` or elsewhere, happens."""
    if _HERE.task is not None and _HERE.task.dead:
        raise Crash
