"""The remotes of a simulation: a folder, a bucket, a stick. Each runs the shipped code."""

from __future__ import annotations

import random
import shutil
from typing import TYPE_CHECKING, Protocol

from localstore.remotes import MARKER_FILE, RemoteEntry, claim_folder, new_marker, parse_marker
from localstored.remotes.base import Unreachable
from localstored.remotes.bucket import BucketRemote
from localstored.remotes.folder import FolderRemote
from tests.simulation.faults import Net, Server, Weather, Wire
from tests.sync.makers import contents

if TYPE_CHECKING:
    from pathlib import Path

    from localstored.remotes.base import Remote


class Place(Protocol):
    """Where a remote lies, and what may happen to it as a whole."""

    entry: RemoteEntry
    set_back: bool

    def open(self, weather: Weather, client: int) -> Remote:
        """The remote as one client reaches it."""

    def copy(self) -> None:
        """Somebody makes a backup."""

    def restore(self) -> None:
        """Somebody puts the last backup in its place."""

    def contents(self) -> dict[str, bytes]:
        """Every file, but stamps."""


class FolderPlace:
    """A shared drive; all reach it at once. A stick where `plugs`: one at a time."""

    def __init__(self, name: str, path: Path, *, plugs: bool = False) -> None:
        path.mkdir()
        self.entry = RemoteEntry(name, str(path), claim_folder(path))
        self.set_back, self.plugged = False, 0 if plugs else None
        self._path, self._backup = path, path.with_name(f"{path.name}-backup")
        self.copy()

    def open(self, weather: Weather, client: int) -> Remote:
        if self.plugged not in (None, client):
            raise Unreachable("the stick is in another machine")
        return Net(FolderRemote(self._path, want_id=self.entry.id), weather)

    def copy(self) -> None:
        shutil.rmtree(self._backup, ignore_errors=True)
        shutil.copytree(self._path, self._backup)

    def restore(self) -> None:
        shutil.rmtree(self._path)
        shutil.copytree(self._backup, self._path)
        self.set_back = True

    def contents(self) -> dict[str, bytes]:
        return contents(FolderRemote(self._path))


class BucketPlace:
    """A bucket of a server that knows no conditional PUT."""

    def __init__(self, name: str) -> None:
        self._server = Server()
        marker = new_marker()
        self._server.keys[MARKER_FILE] = marker
        id_ = parse_marker(marker, name)
        self.entry = RemoteEntry(name, "s3://simulated/here", id_)
        self.set_back = False
        self._backup = dict(self._server.keys)

    def open(self, weather: Weather, client: int) -> Remote:
        return BucketRemote(Wire(self._server, weather), where="s3://simulated", want_id="")

    def copy(self) -> None:
        self._backup = dict(self._server.keys)

    def restore(self) -> None:
        self._server.keys = dict(self._backup)
        self.set_back = True

    def contents(self) -> dict[str, bytes]:
        return contents(self.open(Weather(random.Random(0)), 0))
