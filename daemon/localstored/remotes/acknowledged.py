"""A home elsewhere as far as its receipts tell: it confirms what it signed for, and no more.

Nobody can be asked there. What a receipt said is the best that anybody knows, so a person must name
such a place before anything is decided by it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from localstore.errors import Refused
from localstore.layout import FileKind, HomePaths
from localstore.remotes import RemoteEntry
from localstored.bundles.destinations import acknowledged, read_destinations
from localstored.remotes.base import Capabilities, check_name, missing
from localstored.verify import sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

    from localstored.receipts import Line
    from localstored.remotes.base import Entry, Remote

_URL: Final = "destination:"


def destination_entries(home: Path) -> dict[str, RemoteEntry]:
    """The destinations of a home, as entries of remotes, by name."""
    return {name: RemoteEntry(name, _URL, id_) for name, id_ in read_destinations(home).items()}


def open_place(home: Path, entry: RemoteEntry, opener: Callable[[RemoteEntry], Remote]) -> Remote:
    """A destination by its receipts; any other entry by `opener`."""
    return AcknowledgedRemote(home, entry.id) if entry.url == _URL else opener(entry)


class AcknowledgedRemote:
    """What one destination acknowledged to a home."""

    def __init__(self, home: Path, replica: str) -> None:
        self._home, self._id = HomePaths(home), replica
        self._lines: dict[str, dict[str, Line]] = {}

    @property
    def id(self) -> str:
        """Its replica id."""
        return self._id

    @property
    def capabilities(self) -> Capabilities:
        """Nothing is read, and nothing is taken away."""
        return Capabilities(can_list=False, can_read=False, can_delete=False, max_parallel=4)

    def projects(self) -> Iterator[str]:
        """Nobody can list it."""
        yield from ()

    def list(self, prefix: str) -> Iterator[Entry]:  # noqa: ARG002 - the protocol's
        """Nobody can list it, stamps included: nobody else works there."""
        yield from ()

    def have(self, names: Collection[str]) -> Mapping[str, int]:
        """The sizes that it acknowledged."""
        found = {name: self._line(name) for name in names}
        return {name: line.size for name, line in found.items() if line is not None}

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Refused: ask there for a bundle."""
        where = f"{length} bytes of {name} from {offset}"
        raise Refused(f"{where}: nobody reads at a destination; ask there for a bundle")

    def digest(self, name: str, length: int) -> bytes:
        """SHA-256 of what it acknowledged, of all of it."""
        line = self._line(name)
        if line is None:
            raise missing(name)
        if line.size != length:
            raise Refused(f"{name} was acknowledged with {line.size} bytes, not {length}")
        return bytes.fromhex(line.sha256)

    def confirm(self, name: str, length: int, source: Path) -> bool:
        """Whether it acknowledged these very bytes, which are read here."""
        line = self._line(name)
        if line is None:
            raise missing(name)
        return line.size == length and sha256_of(source, length) == line.sha256

    def create(self, name: str, data: bytes) -> None:
        """Stamps are for others who work there at the same time: there are none."""
        if check_name(name)[1].kind is not FileKind.STAMP or data:
            raise Refused(f"{name}: nothing is sent to a destination; carry a bundle there")

    def append(self, name: str, offset: int, data: bytes) -> None:
        """Refused."""
        where = f"{len(data)} bytes of {name} from {offset}"
        raise Refused(f"{where}: nothing is sent to a destination; carry a bundle there")

    def delete(self, name: str) -> None:
        """As `create`."""
        self.create(name, b"")

    def close(self) -> None:
        """Nothing is open."""

    def _line(self, name: str) -> Line | None:
        project, file = check_name(name)
        if project not in self._lines:
            self._lines[project] = acknowledged(self._home.project(project), self._id)
        line = self._lines[project].get(file.name)
        return line if line is not None and line.size else None
