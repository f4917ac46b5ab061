"""Bundles that people carry between homes: made, cut, gone on with, and imported again years later.

No file is ever thrown away, so any of them may be imported at any time, also one that was made
before a run was erased.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from localstore import crypto
from localstored.bundles.bundle import bundle_export, bundle_import
from localstored.bundles.carried import bundle_receipt, make_receipt
from localstored.bundles.destinations import acknowledged, read_destinations
from tests.simulation.baton import point
from tests.sync.makers import TAG

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

    from localstored.bundles.reports import ExportReport, ImportReport
    from localstored.crew import Crew
    from tests.sync.makers import Project


@dataclass
class Pocket:
    """All bundles and receipts that were ever made, and who made what."""

    folder: Path
    random: random.Random
    bundles: list[Path] = field(default_factory=list)
    receipts: list[Path] = field(default_factory=list)
    crew: Callable[[int], Crew] | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.latest = self.folder / "none"

    def export(self, home: Path, now_us: int, *, fresh: bool = False) -> ExportReport:
        """Into a new file, or one that is there; perhaps only what a destination lacks."""
        known = sorted(read_destinations(home))
        since = self.random.choice(known) if known and self.random.random() < 0.5 else None
        if fresh or not self.bundles or self.random.random() < 0.5:
            self.bundles.append(self.folder / f"{len(self.bundles)}.bundle")
            path = self.bundles[-1]
        else:
            path = self.random.choice(self.bundles)
        self.latest = path
        words = {"clock": lambda: now_us, "sleep": lambda _: point(), **self._crew()}
        return bundle_export(home, path, since=None if fresh else since, **words)

    def import_(self, home: Path, now_us: int, path: Path | None = None) -> ImportReport:
        """One of them, of whatever age."""
        chosen = path or self.random.choice(self.bundles)
        tags = frozenset({TAG})
        words: dict[str, Any] = {"clock": lambda: now_us, **self._crew()}
        return bundle_import(home, chosen, recipients=tags, **words)

    def acknowledge(self, home: Path, project: Project, now_us: int) -> None:
        """A receipt for all that a home holds, signed by its device."""
        cert = (project.paths.certs / project.cert.hex()).read_bytes()
        sign = functools.partial(crypto.sign, project.device_seed)
        path = self.folder / f"{len(self.receipts)}.receipt"
        signers = [(crypto.sign_public(project.device_seed), cert, sign)]
        make_receipt(home, path, signers=signers, clock=lambda: now_us)
        self.receipts.append(path)

    def file(self, home: Path, now_us: int) -> None:
        """A receipt comes back, to whomever."""
        bundle_receipt(home, self.random.choice(self.receipts), clock=lambda: now_us)

    def cut(self) -> None:
        """A stick is pulled: the end of the bundle that was made or gone on with last is gone."""
        path = self.latest
        if path.exists():
            size = path.stat().st_size
            with path.open("r+b") as file:
                file.truncate(self.random.randint(max(0, size - 3000), size))

    def rot(self) -> None:
        """A byte of a stick changes."""
        path = self.random.choice(self.bundles)
        if path.exists() and (size := path.stat().st_size):
            with path.open("r+b") as file:
                file.seek(self.random.randrange(size))
                was = file.read(1)[0]
                file.seek(-1, 1)
                file.write(bytes([was ^ 1 << self.random.randrange(8)]))

    def _crew(self) -> dict[str, Any]:
        return {} if self.crew is None else {"crew": self.crew}


def filed(project: Project, home: Path) -> dict[str, list[tuple[str, int, str]]]:
    """What each destination is known to hold: by its replica id name, size and SHA-256."""
    return {
        replica: [
            (line.name, line.size, line.sha256)
            for line in acknowledged(project.paths, replica).values()
            if line.size
        ]
        for replica in read_destinations(home).values()
    }


def sha256(data: bytes) -> str:
    """In hex."""
    return hashlib.sha256(data).hexdigest()
