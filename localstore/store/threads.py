"""Threads that help for the time of one call; where none can be had, the caller works alone."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_T = TypeVar("_T")
_LEAST, _MOST = 2, 8


def thread_count() -> int:
    """How many threads seal or restore: one for each processor that we may use, 2 to 8."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # pragma: no cover - macOS
        count = os.cpu_count() or 1
    return max(_LEAST, min(_MOST, count))


def start(loops: Sequence[Callable[[], None]]) -> list[threading.Thread]:
    """Start a thread for each loop; fewer, or none, when the interpreter is shutting down."""
    started: list[threading.Thread] = []
    for loop in loops:
        thread = threading.Thread(target=loop, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            break
        started.append(thread)
    return started


class Beside(Generic[_T]):
    """Work that a thread of its own does while the caller does something else.

    Use as a context manager: leaving it waits for the thread.
    """

    def __init__(self, work: Callable[[], _T], *, alone: bool = False) -> None:
        """`alone`: start no thread; then, or where none is to be had, `result` does the work."""
        self._work = work
        self._found: list[_T] = []
        self._error: BaseException | None = None
        self._threads = [] if alone else start([self._run])

    def _run(self) -> None:
        try:
            self._found.append(self._work())
        except BaseException as error:  # noqa: BLE001 - it belongs to the caller's thread
            self._error = error

    def result(self) -> _T:
        """What the work gave, once it is done; raises what it raised."""
        if not self._threads:
            return self._work()
        self._join()
        if self._error is not None:
            raise self._error
        return self._found.pop()

    def _join(self) -> None:
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Beside[_T]:
        return self

    def __exit__(self, *_: object) -> None:
        self._join()
