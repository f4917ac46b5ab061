"""Tails of writers that have gone silent: copied, so that what they hold leaves too.

A live tail belongs to its writer and never leaves. When one that holds records has not changed for
a while, its writer is dead or frozen: its whole frames become an immutable file beside the log,
named by its hash. A writer that wakes up later loses nothing: its records carry sequence numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from localstore.crypto import digest
from localstore.durable import create_file
from localstore.errors import Damaged, Torn
from localstore.format import segment, spec
from localstored.inventory import live_tails

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from localstore.layout import ProjectPaths

SILENT_S: Final = 3.0  # a live writer empties a tail within a second or so
_NS: Final = 1_000_000_000

Growth = tuple[int, int]  # size in bytes, time of change in ns


def silent_tails(
    projects: Iterable[ProjectPaths], now_s: float, sleep: Callable[[float], object]
) -> dict[Path, Growth]:
    """Tails that hold records and do not grow.

    Waits once, for as long as the youngest of them needs to prove it: at most SILENT_S.
    """
    folders = list(projects)
    tails = _growth(folders)
    ages_s = [now_s - mtime_ns / _NS for _, mtime_ns in tails.values()]
    # A time of change in the future comes of a clock that was set: one whole wait decides.
    youngest = min((age if age >= 0 else 0.0 for age in ages_s), default=SILENT_S)
    if youngest >= SILENT_S:
        return tails
    sleep(SILENT_S - youngest)
    after = _growth(folders)
    return {path: growth for path, growth in tails.items() if after.get(path) == growth}


def _growth(projects: Sequence[ProjectPaths]) -> dict[Path, Growth]:
    found = {}
    for paths in projects:
        for path, status in live_tails(paths):
            if status.st_size:
                found[path] = (status.st_size, status.st_mtime_ns)
    return found


def copy_tails(tails: Iterable[Path]) -> list[Damaged]:
    """Write a copy of each segment's silent tails beside its log; again is harmless.

    Returns:
        What was damaged in them; what is whole before the damage was copied.
    """
    problems: list[Damaged] = []
    for log in sorted({path.with_suffix(".log") for path in tails}):
        frames = sorted(_frames(log, problems))
        content = b"".join(dict(frames).values())
        if content and log.exists():
            name = digest(spec.LABEL_FILE, content).hex()[:32]
            create_file(log.with_name(f"{log.stem}-{name}.tail"), content)
    return problems


def _frames(log: Path, problems: list[Damaged]) -> Iterable[tuple[int, bytes]]:
    for suffix in (".t0", ".t1"):
        path = log.with_suffix(suffix)
        try:
            view = memoryview(path.read_bytes())
        except FileNotFoundError:
            continue
        yield from tail_frames(view, f"runs/{log.parent.name}/{path.name}", problems)


def tail_frames(
    view: memoryview, name: str, problems: list[Damaged]
) -> Iterable[tuple[int, bytes]]:
    """Sequence number and bytes of each whole RECORD frame; a cut at the end is no damage."""
    offset = 0
    while offset < len(view):
        try:
            frame = segment.decode_frame(view, offset)
        except Torn:
            return
        except Damaged as problem:
            problems.append(problem.at(name))
            return
        if frame.kind == spec.FrameType.RECORD:
            yield frame.index, bytes(frame.raw)
        offset = frame.end
