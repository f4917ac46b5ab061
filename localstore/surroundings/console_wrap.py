"""Stdout and stderr where they are objects of Python and no descriptors: Jupyter, pytest's capture.

Their `write` is wrapped. Only what Python writes is seen; what it prints is never changed, and it
never fails for us.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any, Final

# Text that waits for our thread, characters; more is counted and left out.
_MAX_WAITING_CHARS: Final = 4 << 20


class Wrap:
    """The `write` of `sys.stdout` and `sys.stderr`, or of one of them, with an ear in it."""

    def __init__(self) -> None:
        # Reentrant: a signal's handler may print while a print is under way.
        self._lock = threading.RLock()
        self._texts: list[tuple[int, str]] = []
        self._waiting = 0
        self._lost = 0
        self._pid = os.getpid()
        self._active = True
        self._wrapped: list[tuple[Any, Any, Any]] = []

    def add(self, stream: int) -> bool:
        """Listen to stream 1 or 2; returns whether that can be done."""
        target: Any = sys.stdout if stream == 1 else sys.stderr
        before = getattr(target, "write", None)
        if before is None:
            return False

        def write(text: Any, *more: Any) -> Any:
            written = before(text, *more)
            self._take(stream, text)
            return written

        own = getattr(target, "__dict__", {}).get("write")
        try:
            target.write = write
        except (AttributeError, TypeError):
            return False
        self._wrapped.append((target, write, own))
        return True

    def _take(self, stream: int, text: object) -> None:
        if not self._active or self._pid != os.getpid() or not isinstance(text, str):
            return
        with self._lock:
            if self._waiting + len(text) > _MAX_WAITING_CHARS:
                self._lost += len(text)
                return
            self._waiting += len(text)
            self._texts.append((stream, text))

    def take(self) -> tuple[list[tuple[int, bytes]], int]:
        """What was written since the last call, by stream, and how many characters were lost."""
        with self._lock:
            texts, lost = self._texts, self._lost
            self._texts, self._waiting, self._lost = [], 0, 0
        return [(stream, text.encode("utf-8", "replace")) for stream, text in texts], lost

    def restore(self) -> None:
        """Put the methods back; where someone wrapped ours, it stays and only passes on."""
        self._active = False
        for target, ours, own in self._wrapped:
            if getattr(target, "write", None) is not ours:
                continue
            if own is None:
                del target.write
            else:
                target.write = own
        self._wrapped = []
