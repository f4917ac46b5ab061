"""Runs that ended, on a stick that has them: made without the engine, key-free."""

from __future__ import annotations

import hashlib
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from localstore.format.spec import DataClass
from localstore.layout import parse_name
from localstore.remotes import read_remotes
from localstored.pruning.prune import prune
from localstored.pruning.restoring import restore
from localstored.receipts import Line, ReceiptFile
from localstored.remotes.base import MAX_PIECE_BYTES
from localstored.remotes.memory import MemoryRemote
from tests.sync.makers import NOW_US, Log, Project, make_project, with_remote

if TYPE_CHECKING:
    from pathlib import Path

    from localstored.pruning.prune import PruneReport
    from localstored.pruning.restoring import RestoreReport
    from localstored.remotes.base import Remote

DAY_US = 86_400_000_000
REMOTE = "5e" * 8


@dataclass
class Run:
    """One run: its subject, and what it made."""

    subject: str
    logs: dict[DataClass, Log]
    objects: list[bytes]

    def names(self, *classes: DataClass) -> list[str]:
        """The names of its logs of some classes."""
        return [self.logs[one].name for one in classes]


def ended_run(
    project: Project,
    *,
    objects: list[bytes] | None = None,
    closed: bool = True,
    ended_us: int = NOW_US - 40 * DAY_US,
) -> Run:
    """A run with a log of each class, one object in media, and all logs closed."""
    subject = secrets.token_hex(16)
    project.keyslot(subject)
    made = [project.object(DataClass.MEDIA)] if objects is None else objects
    logs = {}
    for data_class in (
        DataClass.META,
        DataClass.METRICS,
        DataClass.SYSTEM,
        DataClass.CONSOLE,
        DataClass.MEDIA,
    ):
        log = logs[data_class] = Log(project, subject, data_class)
        log.records(300)
        if data_class is DataClass.MEDIA and made:
            log.ref(*made)
        log.head(time_us=ended_us, final=closed)
    return Run(subject, logs, made)


def object_path(project: Project, object_id: bytes) -> Path:
    """Where an object lies."""
    return project.paths.objects / object_id.hex()[:2] / object_id.hex()


def push_all(project: Project, remote: Remote) -> None:
    """What a sync would have done: every file there, and a receipt for each."""
    lines = []
    for name in project.paths.names():
        if not parse_name(name).kind.syncs:
            continue
        data, there = project.paths.file(name).read_bytes(), f"projects/{project.id}/{name}"
        size = remote.have([there]).get(there)
        if size is None:
            remote.create(there, data[:MAX_PIECE_BYTES])
            size = min(len(data), MAX_PIECE_BYTES)
        if size < len(data):
            remote.append(there, size, data[size:])
        lines.append(Line(name, len(data), hashlib.sha256(data).hexdigest(), NOW_US))
    ReceiptFile.of(project.paths, remote.id).append(lines)


@dataclass
class World:
    """A home with one project, and a remote in memory that `remotes.toml` names."""

    home: Path
    project: Project
    remote: MemoryRemote

    def prune(self, **words: Any) -> PruneReport:
        """Prune with this remote, now."""
        given = {"clock": lambda: NOW_US, "opener": lambda entry: self.remote, **words}
        return prune(self.home, **given)

    def restore(self, **words: Any) -> RestoreReport:
        """Pull from this remote, now."""
        given = {"clock": lambda: NOW_US, "opener": lambda entry: self.remote, **words}
        return restore(self.home, **given)

    def files(self) -> dict[str, bytes]:
        """Every file of the project that replicas exchange, by name."""
        return {
            name: self.project.paths.file(name).read_bytes()
            for name in self.project.paths.names()
            if "/." not in name
        }

    def push(self) -> None:
        """Bring everything to the remote."""
        push_all(self.project, self.remote)


def make_world(folder: Path) -> World:
    """A home, a stick's entry in its `remotes.toml`, and a remote of that id in memory."""
    home = with_remote(folder / "home", folder / "stick")
    (entry,) = read_remotes(home).values()
    return World(home, make_project(home), MemoryRemote(entry.id))


def touch_now(path: Path, now_us: int = NOW_US) -> None:
    """As if a file had changed just now, by the clock of these tests."""
    os.utime(path, ns=(now_us * 1000, now_us * 1000))
