"""A cap on what a store takes: warns first, then prunes what remotes provably have.

What has no receipt never goes, however full the store is.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from localstored.engine import now_us
from localstored.pruning.prune import prune
from localstored.remotes import open_remote

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from localstore.remotes import RemoteEntry
    from localstored.remotes.base import Remote

_NEAR: Final = 0.9


@dataclass(slots=True, kw_only=True)
class CapReport:
    """How a store stands to its cap.

    Attributes:
        state: `ok`; `near`: 90 % of the cap are reached; `over`: more than the cap, and nothing
            more may go.
        size_bytes: now. freed_bytes: what was pruned.
        text: one line for a person; empty while all is well.
    """

    state: str
    size_bytes: int
    cap_bytes: int
    freed_bytes: int = 0
    text: str = ""

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "state": self.state,
            "size_bytes": self.size_bytes,
            "cap_bytes": self.cap_bytes,
            "freed_bytes": self.freed_bytes,
            "text": self.text or None,
        }


def enforce_cap(
    home: Path,
    cap_bytes: int,
    *,
    clock: Callable[[], int] = now_us,
    opener: Callable[[RemoteEntry], Remote] = open_remote,
) -> CapReport:
    """Keep a store below a size: warn from 90 % of it on, beyond it prune what receipts prove.

    The oldest ended runs go first, until 90 % are reached. What has no receipt never goes.
    """
    size = store_bytes(home)
    if size < _NEAR * cap_bytes:
        return CapReport(state="ok", size_bytes=size, cap_bytes=cap_bytes)
    if size <= cap_bytes:
        said = f"the store takes {_gib(size)} of {_gib(cap_bytes)}; beyond that it is pruned"
        return CapReport(state="near", size_bytes=size, cap_bytes=cap_bytes, text=said)
    goal = size - int(_NEAR * cap_bytes)
    prune(home, limit_bytes=goal, clock=clock, opener=opener)
    left = store_bytes(home)
    if left <= cap_bytes:
        said = f"the store reached its cap of {_gib(cap_bytes)}: {_gib(size - left)} were pruned"
    else:
        said = (
            f"the store takes {_gib(left)}, its cap is {_gib(cap_bytes)}, and no remote provably "
            "has more of what could go: sync, delete runs, or raise `store_cap`"
        )
    state = "over" if left > cap_bytes else "near" if left >= _NEAR * cap_bytes else "ok"
    return CapReport(
        state=state, size_bytes=left, cap_bytes=cap_bytes, freed_bytes=size - left, text=said
    )


def store_bytes(home: Path) -> int:
    """What all files of a home take, in bytes as people count them."""
    total = 0
    folders = [str(home)]
    while folders:
        total += _folder_bytes(folders.pop(), folders)
    return total


def _folder_bytes(folder: str, more: list[str]) -> int:
    total = 0
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                if entry.is_dir(follow_symlinks=False):
                    more.append(entry.path)
                else:
                    total += entry.stat(follow_symlinks=False).st_size
    return total


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
