"""Work that training does not wait for: one thread for each run and process, one job after another.

A failure is told and counted by whoever made the queue; it never reaches training.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from localstore.errors import LocalStoreError, UsageError
from localstore.sdk.values import FOREIGN_ERRORS

if TYPE_CHECKING:
    from collections.abc import Callable

_NICE: Final = 10
FAILURES: Final = (LocalStoreError, *FOREIGN_ERRORS, MemoryError, EOFError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """What is not durable yet.

    Attributes:
        artifacts: labels of the jobs, in order.
        done_bytes, total_bytes: of these jobs; the total grows while folders are walked.
    """

    artifacts: tuple[str, ...] = ()
    done_bytes: int = 0
    total_bytes: int = 0


class Job:
    """One piece of work, from its submission to its end.

    Attributes:
        error: why it failed; None while it runs and when it is well.
    """

    def __init__(
        self, queue: Background, label: str, work: Callable[[Job], None], total_bytes: int
    ) -> None:
        self.label, self.total_bytes, self.done_bytes = label, total_bytes, 0
        self._queue = queue
        self.error: BaseException | None = None
        self.pid = os.getpid()
        self._work, self._over = work, threading.Event()

    def __call__(self, count: int) -> None:
        """More bytes are done: a job is its own progress function."""
        self.done_bytes += count

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self._over.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end; False when it has not come in time (s).

        Raises:
            UsageError: the process that does the work is another one.
        """
        if self.pid != os.getpid() and not self.over:
            raise UsageError(
                f"{self.label!r} is stored by the process that this one was forked from",
                hint="wait for it before the fork, or log it here",
            )
        return self.over or self._queue.wait(timeout, job=self)

    def carry_out(self) -> None:
        """Do it; afterwards `error` says how it went."""
        try:
            self._work(self)
        except BaseException as error:
            self.error = error
            raise
        finally:
            self._over.set()


class Background:
    """A queue and the thread that works it off, which starts with the first job."""

    def __init__(self, failed: Callable[[str, BaseException], None]) -> None:
        """`failed` is told, in the thread, the label of a job and why it failed."""
        self._failed = failed
        self._begin()

    def _begin(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._jobs: deque[Job] = deque()  # the first one is under way
        self._thread: threading.Thread | None = None
        self._closed = False

    def after_fork(self) -> None:
        """In a forked child: the parent's jobs are the parent's."""
        self._begin()

    def submit(self, label: str, work: Callable[[Job], None], total_bytes: int = 0) -> Job:
        """Do this later, after what was submitted before.

        Args:
            label: by which people know it.
            work: is called with the job, which is a function that takes bytes done.
            total_bytes: how much it will be, as far as that is known.

        Raises:
            UsageError: the queue is closed.
        """
        job = Job(self, label, work, total_bytes)
        with self._changed:
            if self._closed:
                raise UsageError(f"{label!r} comes too late: the run is finished")
            self._jobs.append(job)
            self._keep_going()
        return job

    def _keep_going(self) -> None:
        """See to it that somebody works; with the lock."""
        if self._jobs and (self._thread is None or not self._thread.is_alive()):
            thread = threading.Thread(target=self._run, name="localstore-files", daemon=True)
            # Refused under a limit on threads and at the very end; then `wait` does the work.
            self._thread = None
            with contextlib.suppress(RuntimeError):
                thread.start()
                self._thread = thread

    def _run(self) -> None:
        _give_way()
        pid = os.getpid()
        while os.getpid() == pid:
            with self._changed:
                if not self._jobs:
                    self._thread = None
                    return
                job = self._jobs[0]
            self._carry_out(job)

    def _carry_out(self, job: Job) -> None:
        try:
            job.carry_out()
        except FAILURES as error:
            self._failed(job.label, error)
        finally:
            with self._changed:
                with contextlib.suppress(ValueError):
                    self._jobs.remove(job)
                self._changed.notify_all()

    def pending(self) -> Pending:
        """What is not durable yet."""
        with self._changed:
            jobs = list(self._jobs)
        return Pending(
            artifacts=tuple(job.label for job in jobs),
            done_bytes=sum(job.done_bytes for job in jobs),
            total_bytes=sum(max(job.total_bytes, job.done_bytes) for job in jobs),
        )

    def wait(
        self, timeout: float | None = None, *, label: str | None = None, job: Job | None = None
    ) -> bool:
        """Wait until nothing is pending.

        Args:
            timeout: in seconds; None for as long as it takes.
            label, job: wait for jobs of this label, or for this job, only.

        Returns:
            False when the time was over first. What failed is not pending any more.
        """
        if threading.current_thread() is self._thread:
            return False  # a job that waits for its own end
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._changed:
                self._keep_going()
                if not any(label in (None, o.label) and job in (None, o) for o in self._jobs):
                    return True
                left = 1.0 if deadline is None else min(deadline - time.monotonic(), 1.0)
                if left <= 0:
                    return False
                if self._thread is not None:
                    self._changed.wait(left)
                    continue
                first = self._jobs[0]
            self._carry_out(first)

    def close(self) -> None:
        """Take no more jobs; the thread ends when those there are done."""
        with self._changed:
            self._closed = True


def _give_way() -> None:
    """Let training go first: this thread, and those that it starts, are nicer than others."""
    if sys.platform == "linux":  # elsewhere it would be the whole process
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
