"""Whether files fit on a disk, asked before the first byte is written.

A list of files may name one small object a million times: what it would take is known from the list
alone. Zeros take no room, they become holes.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

from localstore.errors import LocalStoreError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from localstore.format.manifest import Entry
    from localstore.store.objects import ObjectFiles


def check_room(files: ObjectFiles, entries: Iterable[Entry], root: Path) -> None:
    """Insist that files fit below a folder.

    Args:
        entries: those that will be written; references take nothing.
        root: an existing folder.

    Raises:
        StoreError: they are larger than what is free there.
    """
    entries = [entry for entry in entries if not entry.uri]
    wanted = sum(entry.size or 0 for entry in entries)
    found = os.statvfs(root)
    free = found.f_bavail * found.f_frsize
    if wanted > free:
        wanted -= _zeros(files, entries, wanted - free)
    if wanted > free:
        raise StoreError(
            f"the files take {wanted:,} bytes, and {free:,} are free in {str(root)!r}",
            hint="nothing was written; another folder, or a part of the files",
        )


def _zeros(files: ObjectFiles, entries: list[Entry], enough: int) -> int:
    """Bytes of objects that are used again and again and hold nothing but zeros."""
    used: Counter[bytes] = Counter()
    keys: dict[bytes, bytes] = {}
    for entry in entries:
        for part in entry.parts:
            used[part.object_id] += part.length
            keys.setdefault(part.object_id, part.key)
    total = 0
    for name, size in used.most_common():
        try:
            content = files.read_object(name, keys[name]).content
        except LocalStoreError:
            continue  # whoever writes the files tells of it
        if size <= len(content) or total >= enough:
            break
        total += size if not content.lstrip(b"\0") else 0
    return total
