"""A project of one's own, and short words for what these tests do with its store."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from localstore import settings, tickets
from localstore.format.spec import DataClass
from localstore.identity import new_member, now_us
from localstore.layout import HomePaths
from localstore.projects import Projects
from localstore.store.ingest import Ingest
from localstore.store.restore import restore
from localstore.store.sources import Source
from localstore.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from localstore.format.manifest import Entry
    from localstore.project import Project

KIB, MIB = 1024, 1024 * 1024
HOUR_US = 3_600_000_000


@dataclass
class Store:
    """One project's store; every ingest is a new one, as of another process."""

    project: Project
    referred: list[bytes] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)

    def take(self, files: dict[str, Any], **words: Any) -> list[Entry]:
        """Ingest contents, files, or sources, by path."""
        data_class = words.pop("data_class", DataClass.ARTIFACTS)
        ingest = Ingest(self.project, data_class, **{"refer": self.referred.extend, **words})
        entries = ingest.run(
            [
                file if isinstance(file, Source) else Source(path, file)
                for path, file in files.items()
            ]
        )
        self.changed = ingest.changed
        return entries

    def give(self, entries: Sequence[Entry], root: Path, **words: Any) -> dict[str, bytes]:
        """Restore and read everything."""
        restore(self.project, entries, root, **words)
        return contents(root)

    def objects(self) -> set[str]:
        """Names of all objects that are here."""
        folder = self.project.paths.objects
        return {one.name for one in folder.glob("*/*") if not one.name.startswith(".")}

    def leftovers(self) -> list[Path]:
        """Temporary files that somebody left."""
        return [one for one in self.project.paths.root.rglob(".tmp-*") if one.is_file()]

    def bytes_of_objects(self) -> int:
        """What all objects weigh."""
        folder = self.project.paths.objects
        return sum(one.stat().st_size for one in folder.glob("*/*"))


def open_store(root: Path) -> Store:
    """The store of a home's project; both are made when they are not there."""
    home = HomePaths(root)
    vault = Vault(home)
    if not vault.exists:
        vault.create(new_member("someone"), "file")
    return Store(Projects(home, vault.load()).open_or_create("", "kept")[0])


def deposit_store(owner: Store, root: Path) -> Store:
    """The same project on a machine that may write to it and not read it."""
    home = HomePaths(root)
    raw = tickets.make_ticket(owner.project, now_us() + HOUR_US)
    tickets.enroll(home, raw, settings.load({"home": str(root)}))
    return Store(Projects(home, Vault(home).load()).open_or_create("", "kept")[0])


def contents(root: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def noise(seed: int, size: int) -> bytes:
    """Bytes that nothing compresses."""
    return random.Random(seed).randbytes(size)


def write(path: Path, content: bytes, *, age_s: int = 60) -> Path:
    """A file that was not changed just now, as far as its own times say."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    then = path.stat().st_mtime - age_s
    os.utime(path, (then, then))
    return path
