"""Processes of `localstore` that work beside the service, with keys that it does not have.

Each is started when there is something for it to do, again when it dies, later and later, and is
gone five seconds after the service. The other end of its stdin is ours: when that closes, however
we die, the child ends itself.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from localstored.service.agenda import FIRST_S, LONGEST_S

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from localstored.service.journal import Journal

TERM_S: Final = 4.0
READY_S: Final = 2.0  # before, it may not listen to signals yet, and would die of one
STABLE_S: Final = 60.0  # who lived so long gets a new series of attempts
AFTER_KEYLESS_S: Final = 600.0
AFTER_TAKEN_S: Final = 30.0
AFTER_BROKEN_S: Final = 3600.0
# What a child says with its exit code, and how long to leave it alone unless its files change.
_WAITS: Final = {0: 5.0, 11: AFTER_KEYLESS_S, 73: AFTER_TAKEN_S, 78: AFTER_BROKEN_S}
_MAX_DOUBLINGS: Final = 16


@dataclass(frozen=True, slots=True)
class ChildFacts:
    """A child as `status` shows it."""

    name: str
    pid: int | None
    restarts: int
    running: bool


class Child:
    """One process that is kept running while any of some files exists.

    Args:
        words: the command line. files: it runs while one of them is there, and is told by SIGHUP
            when one changes.
        monotonic: seconds on a clock that nobody sets.
    """

    def __init__(
        self,
        name: str,
        words: Sequence[str],
        files: Sequence[Path],
        journal: Journal,
        *,
        environment: Mapping[str, str],
        monotonic: Callable[[], float],
    ) -> None:
        self.name, self._words, self._files = name, list(words), list(files)
        self._journal, self._environment = journal, dict(environment)
        self._monotonic = monotonic
        self._process: subprocess.Popen[bytes] | None = None
        self._seen: list[tuple[int, int, int] | None] = []
        self._not_before = self._started_at = 0.0
        self._failures = self.restarts = 0
        self._untold = False

    @property
    def facts(self) -> ChildFacts:
        """How it is."""
        process = self._process
        pid = process.pid if process is not None else None
        return ChildFacts(self.name, pid, self.restarts, process is not None)

    def tick(self) -> None:
        """Look after it; wants to be called about each second."""
        now, seen = self._monotonic(), [_mark(path) for path in self._files]
        changed, self._seen = seen != self._seen, seen
        wanted = any(mark is not None for mark in seen)
        if self._process is not None:
            code = self._process.poll()
            if code is not None:
                self._note_end(code, now)
            else:
                self._untold |= changed
                self._tell(signal.SIGHUP if wanted else signal.SIGTERM, now)
        elif changed:
            self._not_before, self._failures = now, 0
        if self._process is None and wanted and now >= self._not_before:
            self._start(now)

    def stop(self) -> None:
        """Begin its end; waits for nothing."""
        if self._process is not None:
            with contextlib.suppress(OSError):
                self._process.terminate()
            self._close_pipe()

    def join(self, timeout_s: float) -> None:
        """Wait for its end, then make it."""
        if self._process is None:
            return
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    # -------------------------------------------------------------- steps
    def _tell(self, number: signal.Signals, now: float) -> None:
        """Tell of what changed, as soon as it listens."""
        if self._untold and self._process is not None and now - self._started_at >= READY_S:
            self._untold = False
            with contextlib.suppress(OSError):
                self._process.send_signal(number)

    def _start(self, now: float) -> None:
        try:
            self._process = subprocess.Popen(
                self._words,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                env=self._environment,
                start_new_session=True,
            )
        except OSError as error:
            self._wait(now)
            self._journal.warning("child", name=self.name, problem=error.strerror)
            return
        self._started_at, self._untold = now, False
        self._journal.info("child", name=self.name, pid=self._process.pid)

    def _note_end(self, code: int, now: float) -> None:
        self._close_pipe()
        self._process = None
        self.restarts += 1
        if now - self._started_at >= STABLE_S:
            self._failures = 0
        self._wait(now, code)
        say = self._journal.info if code == 0 else self._journal.warning
        say("child", name=self.name, ended=code, again_in_s=round(self._not_before - now, 1))

    def _wait(self, now: float, code: int | None = None) -> None:
        self._failures += 1
        ceiling = FIRST_S * 2.0 ** min(self._failures - 1, _MAX_DOUBLINGS)
        usual = min(ceiling, LONGEST_S)
        self._not_before = now + (usual if code is None else _WAITS.get(code, usual))

    def _close_pipe(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()


def _mark(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file does; None when it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
