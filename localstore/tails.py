"""Tails in a node-local folder (`tail_dir`): where they lie, and how they come home.

Where the home is on NFS or Lustre, live tails can lie on the node's own disk. What a killed writer
left there is copied beside its log by the next process on that node that starts a run or syncs.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from localstore import crypto
from localstore.durable import create_file
from localstore.errors import BadName, Damaged
from localstore.format import spec
from localstore.format.segment import scan_frames
from localstore.format.spec import FrameType
from localstore.layout import FileKind, parse_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from localstore.layout import HomePaths

SILENT_S: Final = 10.0  # a live writer empties its tail within a second or so
_FORGOTTEN_S: Final = 86_400.0  # a frozen writer may wake up; after a day its tail may go


def tail_folder(tail_dir: str, project_id: str, subject: bytes) -> Path | None:
    """Where the live tails of a run lie; None: beside its logs."""
    return Path(tail_dir) / project_id / subject.hex() if tail_dir else None


def bring_home(tail_dir: str, home: HomePaths, *, now_s: float | None = None) -> int:
    """Copy silent tails of this node into the home; returns how many. Old ones are then removed.

    Copying twice, or a writer that wakes up later, does no harm: records carry sequence numbers.
    """
    count = 0
    now = time.time() if now_s is None else now_s
    for path, project_id, name in _local_tails(tail_dir):
        try:
            age_s = now - path.stat().st_mtime
            log = home.project(project_id).file(name).with_suffix(".log")
            if age_s < SILENT_S or not log.exists():
                continue
            view = memoryview(path.read_bytes())
        except (FileNotFoundError, BadName):
            continue
        items = (item for item in scan_frames(view, 0) if not isinstance(item, Damaged))
        content = b"".join(item.raw for item in items if item.kind == FrameType.RECORD)
        if content:
            digest = crypto.digest(spec.LABEL_FILE, content).hex()[:32]
            create_file(log.with_name(f"{log.stem}-{digest}.tail"), content)
            count += 1
        if age_s > _FORGOTTEN_S:
            path.unlink(missing_ok=True)
    return count


def _local_tails(tail_dir: str) -> Iterator[tuple[Path, str, str]]:
    root = Path(tail_dir)
    if not tail_dir or not root.is_dir():
        return
    for path in sorted(root.glob("*/*/*")):
        project_id, subject = path.parts[-3:-1]
        name = f"runs/{subject}/{path.name}"
        try:
            if parse_name(name).kind is FileKind.LIVE_TAIL:
                yield path, project_id, name
        except Damaged:
            continue
