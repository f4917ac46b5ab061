"""Why a run that ends still waits: files that are read and sealed in the background."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from localstore.artifacts.background import Background, Pending

_SOON_S: Final = 0.5
_BAR_EVERY_S: Final = 0.2
_LINE_EVERY_S: Final = 30.0
_BAR_CELLS: Final = 24
_UNITS: Final = (("GB", 10**9), ("MB", 10**6), ("kB", 10**3), ("B", 1))
_DIGITS: Final = {"GB": 1, "MB": 1, "kB": 0, "B": 0}


def wait_for(background: Background, say: Callable[[str], None] | None) -> None:
    """Wait until everything in the background is durable, and show it when it takes a while.

    Args:
        say: one line to the person; None to be silent.
    """
    if background.wait(_SOON_S):
        return
    stream = sys.stderr
    bar = say is not None and stream is not None and stream.isatty()
    said = 0.0
    while not background.wait(_BAR_EVERY_S):
        line = progress_line(background.pending())
        if bar:
            stream.write(f"\r\x1b[K{line}")
            stream.flush()
        elif say is not None and time.monotonic() - said > _LINE_EVERY_S:
            said = time.monotonic()
            say(line)
    if bar:
        stream.write("\r\x1b[K")
        stream.flush()


def progress_line(pending: Pending) -> str:
    """What is waited for, and how far it is."""
    done, total = pending.done_bytes, max(pending.total_bytes, pending.done_bytes)
    names = ", ".join(pending.artifacts[:3]) + (" …" if pending.artifacts[3:] else "")
    names = "".join(one if one.isprintable() else "?" for one in names)
    if not total:
        return f"saving {names}"
    filled = _BAR_CELLS * done // total
    bar = "#" * filled + "." * (_BAR_CELLS - filled)
    unit, bytes_each = next(one for one in _UNITS if total >= one[1])
    far = f"{done / bytes_each:.{_DIGITS[unit]}f} of {total / bytes_each:.{_DIGITS[unit]}f} {unit}"
    return f"saving {names} [{bar}] {far}"
