"""Deleting runs: a signed tombstone, keyslots destroyed, bytes removed (design I10, N10).

A tombstone with a time to come is the trash; once it is in force it wins for ever, on every
replica that learns of it (docs/format.md, section 10.4).
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

from localstore.durable import sync_folder
from localstore.errors import NotFound, UsageError
from localstore.format.spec import LinkKind
from localstore.identity import now_us

if TYPE_CHECKING:
    from localstore.layout import ProjectPaths
    from localstore.project import Project

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
    effective, link = found
    if effective <= now_us():
        raise UsageError("that run is erased, and what is erased never comes back")
    project.add_link(LinkKind.RESTORE, {"tombstone": link})


def sweep(paths: ProjectPaths, erased: frozenset[str]) -> int:
    """Destroy keyslots first, then segments, of erased subjects; returns how many had any.

    Key-free. Objects stay: others may use them, and without manifest and keys they are noise.
    """
    swept = 0
    for subject in erased:
        for folder in (paths.keys / subject, paths.runs / subject, paths.root / "stubs" / subject):
            if folder.is_dir():
                shutil.rmtree(folder)
                sync_folder(folder.parent)
                swept += 1
    return swept
