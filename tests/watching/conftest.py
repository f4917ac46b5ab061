"""A home, a folder beside it, and a watch at work."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from localstore import settings
from localstore.artifacts.entries import read_entries
from localstore.artifacts.reading import reader
from localstore.layout import HomePaths
from localstore.projects import Projects
from localstore.store.blobs import read_parts
from localstore.vault import Vault, open_or_create
from localstore.watching.folder import WatchedFolder
from localstore.watching.watches import Watch, add_watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from localstore.artifacts.model import Version
    from localstore.project import Project
    from localstore.settings import Settings

ID = "0123456789abcdef"
SETTLE_S = 0.1
LIMIT_S = 20.0
PYTHON = sys.executable


@dataclass(slots=True)
class Bench:
    """One home, and one folder that is watched.

    Attributes:
        told: what the watch said was wrong, in full.
    """

    home: HomePaths
    folder: Path
    told: list[str] = field(default_factory=list)

    def watch(self, **values: Any) -> Watch:
        """A watch of the folder, for an artifact `net`."""
        given: dict[str, Any] = {
            "id": ID,
            "folder": str(self.folder),
            "name": "net",
            "type": "model",
        }
        given |= {"project": "digits", "settle_s": SETTLE_S}
        return Watch(**{**given, **values})

    def at_work(self, watch: Watch | None = None, **more: Any) -> WatchedFolder:
        """The watch as a new process would begin with it."""
        return WatchedFolder(
            watch or self.watch(),
            lambda: (self.project(), self.options()),
            tell=lambda _plain, full: self.told.append(full),
            **more,
        )

    def added(self, **values: Any) -> Watch:
        """The same, written down in the home."""
        watch = self.watch(**values)
        add_watch(self.home, Vault(self.home).load().home_key, watch)
        return watch

    def options(self) -> Settings:
        return settings.load({"home": str(self.home.root)})

    def project(self) -> Project:
        """The project, opened anew."""
        identity = Vault(self.home).load()
        return Projects(self.home, identity).open_or_create("", "digits")[0]

    def versions(self, name: str = "net") -> tuple[Version, ...]:
        return reader(self.project()).read(name).versions

    def files(self, version: Version) -> dict[str, bytes]:
        """The contents of a version, by path."""
        project = self.project()
        return {
            entry.path: read_parts(project, entry.parts, entry.size or 0, entry.hash)
            for entry in read_entries(project, version)
        }

    def contents(self, name: str = "net") -> list[dict[str, bytes]]:
        """The contents of all versions, oldest first."""
        return [self.files(version) for version in self.versions(name)]

    def put(self, name: str, content: bytes) -> Path:
        """A file in the folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A home with a key, and an empty folder."""
    home = HomePaths(tmp_path / "home")
    open_or_create(home, settings.load({"home": str(home.root)}))
    folder = tmp_path / "out"
    folder.mkdir()
    return Bench(home, folder.resolve())


def until(done: Callable[[], object], limit_s: float = LIMIT_S) -> None:
    """Wait until something is so.

    Raises:
        AssertionError: it is not so in time.
    """
    deadline = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


def rounds(work: WatchedFolder, limit_s: float = LIMIT_S) -> int:
    """Rounds until nothing may come to rest any more; how many versions they made."""
    made = work.round()
    deadline = time.monotonic() + limit_s
    while work.settling:
        assert time.monotonic() < deadline, "it never comes to rest"
        time.sleep(0.02)
        made += work.round()
    return made
