"""How a process ends, and what a fork does: hooks that are installed with the first run.

Importing this module installs nothing (invariant I12). The code of a `raise SystemExit(n)` outside
a `with` block stays unknown: Python shows it to no hook, and forgets it before `atexit`.
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import os
import signal
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from localstore.sdk.run import Run


class _Process:
    """What is known about the end of this process."""

    def __init__(self) -> None:
        self.runs: weakref.WeakSet[Run] = weakref.WeakSet()
        self.exit_code = 0
        self.installed = False

    def install(self) -> None:
        if self.installed:
            return
        self.installed = True
        atexit.register(self.finish_all)
        os.register_at_fork(after_in_child=self.after_fork)
        self._watch_exceptions()
        self._watch_exit()
        self._watch_termination()

    def _watch_exceptions(self) -> None:
        before = sys.excepthook

        def hook(
            kind: type[BaseException], error: BaseException, trace: TracebackType | None
        ) -> None:
            self.exit_code = 130 if issubclass(kind, KeyboardInterrupt) else 1
            before(kind, error, trace)

        sys.excepthook = hook

    def _watch_exit(self) -> None:
        before = sys.exit

        def leave(status: Any = None, /) -> Any:
            self._leaves_with(status)
            before(status)

        sys.exit = leave
        self._watch_quitters()

    def _watch_quitters(self) -> None:
        """`exit` and `quit`, which `site` makes, raise SystemExit without a call of `sys.exit`."""
        quitter = type(getattr(builtins, "exit", None))
        if quitter.__module__ != "_sitebuiltins":
            return
        before = quitter.__call__

        def leave(itself: Any, code: Any = None) -> Any:
            self._leaves_with(code)
            before(itself, code)

        quitter.__call__ = leave  # type: ignore[method-assign]

    def _leaves_with(self, status: object) -> None:
        if threading.current_thread() is threading.main_thread():  # in another, it ends that alone
            self.exit_code = exit_code_of(status)

    def _watch_termination(self) -> None:
        """SIGTERM unwinds the main thread, so that no lock is held when runs are finished."""
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            return

        def terminate(number: int, _frame: FrameType | None) -> None:
            sys.exit(128 + number)

        with contextlib.suppress(ValueError):  # a sub-interpreter has no signals
            signal.signal(signal.SIGTERM, terminate)

    def finish_all(self) -> None:
        for run in list(self.runs):
            run.finish(exit_code=self.exit_code)

    def after_fork(self) -> None:
        for run in list(self.runs):
            run.after_fork()


def exit_code_of(status: object) -> int:
    """The code with which a process leaves for `sys.exit(status)`."""
    if status is None:
        return 0
    return status & 0xFF if isinstance(status, int) else 1


_process = _Process()


def watch(run: Run) -> None:
    """Finish this run with the process, and let go of it in forked children."""
    _process.install()
    _process.runs.add(run)


def forget(run: Run) -> None:
    """The run is finished."""
    _process.runs.discard(run)
