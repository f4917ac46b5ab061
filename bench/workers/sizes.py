"""Bytes of folders and memory of processes, as everybody in the bench measures them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def size_of(folder: Path) -> int:
    """Bytes of all files; one that goes away meanwhile counts as nothing."""
    total = 0
    for above, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += (Path(above) / name).lstat().st_size
    return total


def tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    try:
        below = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    except OSError:
        below = []
    return [pid, *(one for child in below for one in tree(int(child)))]


def resident_mb(root: int | None = None) -> float:
    """Memory of a process and its descendants, in MB; of this one, if none is named."""
    pages = 0
    for pid in tree(root or os.getpid()):
        try:
            pages += int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
        except (OSError, IndexError):
            continue
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
