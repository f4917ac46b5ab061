"""A remote in memory: for tests, and the shortest reading of the contract."""

from __future__ import annotations

import hashlib
import io
import threading
from typing import TYPE_CHECKING

from localstore.errors import Conflict, Refused
from localstored.remotes.base import (
    Capabilities,
    Entry,
    check_name,
    check_piece,
    left_to_append,
    missing,
    same_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path


class MemoryRemote:
    """Files in a dict; safe for many threads."""

    def __init__(self, id_: str = "00" * 8) -> None:
        self._id = id_
        self._files: dict[str, bytearray] = {}
        self._lock = threading.Lock()

    @property
    def id(self) -> str:
        """See `Remote.id`."""
        return self._id

    @property
    def capabilities(self) -> Capabilities:
        """Everything is allowed, one at a time."""
        return Capabilities(max_parallel=1)

    def projects(self) -> Iterator[str]:
        """See `Remote.projects`."""
        with self._lock:
            found = {name.split("/")[1] for name in self._files}
        yield from sorted(found)

    def list(self, prefix: str) -> Iterator[Entry]:
        """See `Remote.list`."""
        with self._lock:
            found = [Entry(n, len(d)) for n, d in self._files.items() if n.startswith(prefix)]
        yield from found

    def have(self, names: Collection[str]) -> Mapping[str, int]:
        """See `Remote.have`."""
        for name in names:
            check_name(name)
        with self._lock:
            return {name: len(self._files[name]) for name in names if name in self._files}

    def read(self, name: str, offset: int, length: int) -> bytes:
        """See `Remote.read`."""
        with self._lock:
            return bytes(self._file(name)[offset : offset + length])

    def digest(self, name: str, length: int) -> bytes:
        """See `Remote.digest`."""
        with self._lock:
            data = self._file(name)
            if length > len(data):
                raise Refused(f"{name} has {len(data)} bytes, not {length}")
            return hashlib.sha256(data[:length]).digest()

    def create(self, name: str, data: bytes) -> None:
        """See `Remote.create`."""
        check_name(name)
        check_piece(data)
        with self._lock:
            if self._files.setdefault(name, bytearray(data)) != data:
                raise Conflict(f"other bytes under {name}")

    def append(self, name: str, offset: int, data: bytes) -> None:
        """See `Remote.append`."""
        check_piece(data)
        with self._lock:
            file = self._file(name)
            present = bytes(file[offset : offset + len(data)])
            file += left_to_append(name, offset, data, len(file), present)

    def delete(self, name: str) -> None:
        """See `Remote.delete`."""
        check_name(name)
        with self._lock:
            self._files.pop(name, None)

    def confirm(self, name: str, length: int, source: Path) -> bool:
        """See `Remote.confirm`."""
        with source.open("rb") as here, self._lock:
            return same_bytes(io.BytesIO(self._file(name)), here, length)

    def close(self) -> None:
        """See `Remote.close`."""

    def _file(self, name: str) -> bytearray:
        check_name(name)
        if name not in self._files:
            raise missing(name)
        return self._files[name]
