"""Threads that help for the time of one call; where none can be had, the caller works alone."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
