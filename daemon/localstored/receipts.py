"""What a remote acknowledged: `receipts/<remote id>.jsonl`, truth that outlives every cache.

One JSON line for each receipt; of two lines for one name the later one counts.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from localstore.durable import make_folder, sync_folder, write_all
from localstore.layout import FILE_MODE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from localstore.layout import ProjectPaths

EMPTY_SHA256: Final = hashlib.sha256().hexdigest()  # with size 0: the remote says it is gone
BATCH_LINES: Final = 64  # one fsync for so many; what a crash loses is asked for again
_PIECE_BYTES: Final = 1 << 20
_LAST_BYTES: Final = 2048  # a line has some 250


class Line(msgspec.Struct, frozen=True):
    """One acknowledgement: size in bytes, SHA-256 in hex, Unix time in microseconds."""

    name: str
    size: int
    sha256: str
    at_us: int


_decode: Final = msgspec.json.Decoder(Line).decode
_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class ReceiptFile:
    """The receipts of one remote for one project."""

    path: Path

    @classmethod
    def of(cls, paths: ProjectPaths, remote_id: str) -> ReceiptFile:
        """Where the receipts of a remote stand."""
        return cls(paths.receipts / f"{remote_id}.jsonl")

    def size(self) -> int:
        """Bytes of the file; 0 where there is none."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def batches(self, offset: int = 0) -> Iterator[tuple[list[Line], int]]:
        """The lines from byte `offset` on, some at a time, each time with the offset after them.

        A line that cannot be read is passed over: its file will be asked for again.
        """
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            file.seek(offset)
            rest = b""
            while piece := file.read(_PIECE_BYTES):
                whole, end, rest = (rest + piece).rpartition(b"\n")
                if end:
                    offset += len(whole) + 1
                    yield list(_lines(whole)), offset

    def last_us(self) -> int | None:
        """When the last receipt was written, Unix µs."""
        try:
            with self.path.open("rb") as file:
                file.seek(max(0, self.size() - _LAST_BYTES))
                lines = list(_lines(file.read()))
        except FileNotFoundError:
            return None
        return lines[-1].at_us if lines else None

    def append(self, lines: list[Line]) -> int:
        """Write lines down, durable on return; returns the size of the file after them."""
        new = not self.path.exists()
        make_folder(self.path.parent)
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, FILE_MODE)
        try:
            size = os.fstat(handle).st_size
            # A crash may have cut the last line; the next one must not grow on to it.
            gap = b"\n" if size and os.pread(handle, 1, size - 1) != b"\n" else b""
            # O_APPEND puts the bytes at the end whatever the offset: two syncs may append at once.
            write_all(handle, gap + b"".join(_encode(line) + b"\n" for line in lines), size)
            os.fsync(handle)
            end = os.fstat(handle).st_size
        finally:
            os.close(handle)
        if new:
            sync_folder(self.path.parent)
        return end


def _lines(data: bytes) -> Iterator[Line]:
    for raw in data.splitlines():
        try:
            yield _decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
