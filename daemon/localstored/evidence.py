"""Finds out what inventories do not say: whether two files of one name hold the same bytes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from localstore.errors import Damaged, NotFound, Refused
from localstore.format import spec
from localstore.layout import FileKind
from localstored.incoming import read_exactly
from localstored.plan import Differs, Same
from localstored.remotes.base import MAX_PIECE_BYTES
from localstored.report import Note
from localstored.verify import file_digest, sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from localstore.layout import FileName, ProjectPaths
    from localstored.inventory import Item
    from localstored.plan import Evidence, View
    from localstored.remotes.base import Remote


class Witness:
    """Compares files of one project with those of one remote."""

    def __init__(self, paths: ProjectPaths, remote: Remote) -> None:
        self._paths, self._remote = paths, remote

    def compare(
        self, items: Iterable[Item], sizes: View, problems: list[Note]
    ) -> dict[str, Evidence]:
        """Evidence by name; a file that cannot be compared stands in `problems` instead."""
        found: dict[str, Evidence] = {}
        for item in items:
            try:
                found[item.name] = self._compare(item, sizes.remote[item.name])
            except (Damaged, Refused, NotFound, OSError) as problem:
                problems.append(Note(item.name, f"cannot be compared: {problem}"))
        return found

    def _compare(self, item: Item, theirs: int) -> Evidence:
        path, there = self._paths.file(item.name), self._remote_name(item.name)
        both = min(item.size, theirs)
        own = sha256_of(path, both)
        if self._remote.digest(there, both).hex() == own:
            return Same(own)
        if item.file.kind is not FileKind.LOG:
            return Differs("", "")
        return Differs(file_digest(path, item.size), self._file_digest(there, theirs))

    def _file_digest(self, there: str, size: int) -> str:
        state = hashlib.blake2b(digest_size=spec.HASH_BYTES, person=spec.LABEL_FILE)
        for offset in range(0, size, MAX_PIECE_BYTES):
            length = min(MAX_PIECE_BYTES, size - offset)
            state.update(read_exactly(self._remote, there, offset, length))
        return state.hexdigest()[:32]

    # -------------------------------------------------------------- forks inside a longer log
    def inside_ours(self, fork: FileName, size: int, log: Item) -> bool:
        """Whether the remote's fork is the beginning of our log."""
        if size > log.size:
            return False
        return file_digest(self._paths.file(log.name), size) == fork.hash

    def inside_theirs(self, fork: Item) -> bool:
        """Whether our fork is the beginning of the remote's log."""
        log = self._remote_name(f"runs/{fork.file.subject}/{fork.file.segment}.log")
        own = sha256_of(self._paths.file(fork.name), fork.size)
        return self._remote.digest(log, fork.size).hex() == own

    def _remote_name(self, name: str) -> str:
        return f"projects/{self._paths.id}/{name}"
