"""Deleting runs: a signed tombstone, keyslots destroyed, bytes removed (design I10, N10).

A tombstone with a time to come is the trash; once it is in force it wins for ever, on every
replica that learns of it (docs/format.md, section 10.4).
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final

from localstore import wake
from localstore.durable import sync_folder
from localstore.errors import NotFound, UsageError
from localstore.format.spec import LinkKind
from localstore.identity import now_us

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from localstore.layout import ProjectPaths
    from localstore.project import Project
    from localstore.remotes import RemoteEntry

_DAY_US: Final = 86_400 * 1_000_000


def delete_run(project: Project, subject: bytes, *, now: bool = False, days: float = 7.0) -> int:
    """Put a run into the trash, or erase it here at once.

    Args:
        subject: the run's folder.
        now: no trash: keyslots and bytes go at once.
        days: how long it stays in the trash.

    Returns:
        When (µs) the deletion is in force.

    Raises:
        NotPermitted: a deposit-only machine.
    """
    stands = project.state.tombstones.get(subject.hex())
    when = now_us() + (0 if now else int(days * _DAY_US))
    if stands is None or when < stands[0]:
        project.add_link(LinkKind.TOMBSTONE, {"subject": subject, "effective": when})
    sweep(project.paths, project.state.erased(now_us()))
    return project.state.tombstones[subject.hex()][0]


def undelete_run(project: Project, subject: bytes) -> None:
    """Take a run out of the trash.

    Raises:
        NotFound: it is not in the trash.
        UsageError: its deletion is in force.
    """
    found = project.state.tombstones.get(subject.hex())
    if found is None:
        raise NotFound("that run is not in the trash")
    while found is not None:  # two machines may have put it there
        effective, link = found
        if effective <= now_us():
            raise UsageError("that run is erased, and what is erased never comes back")
        project.add_link(LinkKind.RESTORE, {"tombstone": link})
        found = project.state.tombstones.get(subject.hex())


def sweep(paths: ProjectPaths, erased: frozenset[str]) -> int:
    """Destroy keyslots first, then segments, of erased subjects; returns how many had any.

    Key-free. Objects stay until `localstore gc` or a sync frees those that nobody else uses;
    without manifest and keys they are noise.
    """
    swept = 0
    for subject in erased:
        for folder in _folders(paths, subject):
            if folder.is_dir():
                shutil.rmtree(folder)
                sync_folder(folder.parent)
                swept += 1
        wake.forget(paths, subject)
    if erased:
        swept += _sweep_quarantine(paths, erased)
    if swept:
        # The sealed lists of runs quote config and summary; that of chunks holds keys of objects.
        for cache in (*paths.local.glob("*.cache"), *paths.local.glob("chunks/*")):
            cache.unlink(missing_ok=True)
    return swept


def _sweep_quarantine(paths: ProjectPaths, erased: frozenset[str]) -> int:
    """What `repair` put aside of erased subjects."""
    swept = 0
    if paths.quarantine.is_dir():
        for path in sorted(paths.quarantine.iterdir()):
            # Named after the file that it was: keys-<subject>-…, runs-<subject>-…
            if path.name.partition("-")[2][:32] in erased:
                path.unlink(missing_ok=True)
                swept += 1
    return swept


def _folders(paths: ProjectPaths, subject: str) -> tuple[Path, ...]:
    """Everything of one subject, its keyslots first."""
    return paths.keys / subject, paths.runs / subject, paths.root / "stubs" / subject


def extent(paths: ProjectPaths, subject: str) -> tuple[int, int]:
    """How many files of a subject (hex) lie here, and their bytes. Key-free."""
    sizes = [
        file.stat().st_size
        for folder in _folders(paths, subject)
        if folder.is_dir()
        for file in folder.iterdir()
    ]
    return len(sizes), sum(sizes)


# ------------------------------------------------------------------ how far it has come
class Progress(Enum):
    """How far an erasure has come in one place."""

    TRASH = "in the trash"  # the tombstone is not in force yet
    PENDING = "pending"  # something is there, or was when we last heard
    DONE = "done"  # everything that was there is acknowledged to be gone
    NEVER_THERE = "never there"  # as far as this home knows


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """One tombstone: its subject (hex), when it is in force (µs), and how far it has come.

    Attributes:
        here: on this disk. remotes: by the remote's name.
    """

    subject: str
    effective_us: int
    here: Progress
    remotes: Mapping[str, Progress] = field(default_factory=dict)


def erasure_status(
    paths: ProjectPaths,
    tombstones: Mapping[str, tuple[int, bytes]],
    remotes: Iterable[RemoteEntry],
    now_us: int,
) -> list[Erasure]:
    """How far the erasures of one project have come, soonest first. Key-free, asks no remote.

    What a remote did is read from its receipts (docs/format.md, section 12): of a file that it
    acknowledged to be gone, the last line has size 0. Nothing else is believed.

    Args:
        tombstones: as `ProjectState` has them: subject hex → (effective µs, link).
        remotes: those of this home.
    """
    held = {one.name: _held(paths.receipts / f"{one.id}.jsonl") for one in remotes}
    out = []
    for subject, (effective, _) in sorted(tombstones.items(), key=lambda item: (item[1], item[0])):
        waiting = effective > now_us
        there = {
            name: Progress.TRASH if waiting else _progress(files.get(subject))
            for name, files in held.items()
        }
        here = Progress.PENDING if extent(paths, subject)[0] else Progress.DONE
        out.append(
            Erasure(
                subject=subject,
                effective_us=effective,
                here=Progress.TRASH if waiting else here,
                remotes=there,
            )
        )
    return out


def _progress(sizes: Mapping[str, int] | None) -> Progress:
    if sizes is None:
        return Progress.NEVER_THERE
    return Progress.PENDING if any(sizes.values()) else Progress.DONE


def _held(receipts: Path) -> dict[str, dict[str, int]]:
    """By subject (hex): the last size that a remote acknowledged for each file."""
    out: dict[str, dict[str, int]] = {}
    for name, size in _acknowledged(receipts):
        folder, _, rest = name.partition("/")
        subject, _, file = rest.partition("/")
        if folder in ("runs", "keys") and file:
            out.setdefault(subject, {})[name] = size
    return out


def _acknowledged(path: Path) -> Iterator[tuple[str, int]]:
    """Name and size of each line that can be read; a torn last one is none."""
    if not path.exists():
        return
    data = path.read_bytes()
    for raw in data[: data.rfind(b"\n") + 1].splitlines():
        try:
            line = json.loads(raw)
        except ValueError:  # not UTF-8 included
            continue
        match line:
            case {"name": str(name), "size": int(size)}:
                yield name, size
