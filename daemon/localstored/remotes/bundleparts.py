"""The files of a bundle: NAME, NAME.002, NAME.003 … and what a scan finds in them.

A scan reads the heads of records and passes over their data. What is damaged costs the records that
it hit: the scan goes on at the next head whose checksum fits, after a bounded search.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from localstore.durable import write_all
from localstore.errors import Damaged, NotFound, Torn, UsageError
from localstore.layout import FILE_MODE
from localstored.remotes.base import Unreachable
from localstored.remotes.bundleformat import (
    MARK,
    MAX_RECORD_BYTES,
    PART_HEADER_BYTES,
    RECORD_HEAD_MOST_BYTES,
    PartHeader,
    Record,
    decode_part,
    decode_record,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_PARTS: Final = 9_999
_WINDOW_BYTES: Final = 64 * 1024  # many small records are read at once
_SEARCH_BYTES: Final = 2 * MAX_RECORD_BYTES  # one damaged record hides the next one no longer
_SEARCH_MARKS: Final = 10_000  # of a part: a hostile one may be full of marks
_MAX_DAMAGES: Final = 100  # of a part
_SUFFIX: Final = re.compile(r"(?P<stem>.+)\.(?P<number>\d{3,4})")
_FLAGS: Final = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def part_path(path: Path, number: int) -> Path:
    """Where part `number` of a bundle stands; the first has the bundle's own name."""
    return path if number == 1 else path.with_name(f"{path.name}.{number:03d}")


def first_part(path: Path) -> Path:
    """The bundle's own name, when a person named another of its parts."""
    found = _SUFFIX.fullmatch(path.name)
    if found and int(found["number"]) > 1 and path.with_name(found["stem"]).exists():
        return path.with_name(found["stem"])
    return path


# ------------------------------------------------------------------ what a scan finds
@dataclass(frozen=True, slots=True)
class Found:
    """A record, and where it stands: offsets in bytes from the start of its part."""

    record: Record
    at: int

    @property
    def data_at(self) -> int:
        """Where its data begin."""
        return self.at + len(self.record.raw)

    @property
    def end(self) -> int:
        """The byte after it."""
        return self.at + self.record.size


@dataclass(frozen=True, slots=True)
class Hole:
    """Bytes of a part that are no records; `cut` when nothing whole follows."""

    at: int
    end: int
    problem: str
    cut: bool = False


class Part:
    """One open part."""

    def __init__(self, path: Path, handle: int, header: PartHeader) -> None:
        self.path, self.header, self._handle = path, header, handle

    @classmethod
    def open(cls, path: Path, *, write: bool = False) -> Part:
        """Open one that is there.

        Raises:
            NotFound: it is not there.
            Torn, Damaged: it is no part of a bundle, or its header is damaged.
            UsageError: it is no file.
            Unreachable: it cannot be read; when writing, another export has it open.
        """
        handle = _open(path, os.O_RDWR if write else os.O_RDONLY)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise UsageError(f"{path} is no file")
            if write:
                _lock(handle, path)
            try:
                header = decode_part(os.pread(handle, PART_HEADER_BYTES, 0))
            except Damaged as problem:
                raise problem.at(str(path)) from None
        except BaseException:
            os.close(handle)
            raise
        return cls(path, handle, header)

    @classmethod
    def create(cls, path: Path, header: PartHeader) -> Part:
        """Make one, durable on return but for its name.

        Raises:
            OSError: something stands there, or the disk refused.
        """
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, FILE_MODE)
        try:
            _lock(handle, path)
            write_all(handle, header.encode(), 0)
            os.fsync(handle)
        except BaseException:
            os.close(handle)
            path.unlink(missing_ok=True)
            raise
        return cls(path, handle, header)

    def close(self) -> None:
        """Let the file go."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    @property
    def size(self) -> int:
        """Bytes of the file now."""
        return os.fstat(self._handle).st_size

    def read(self, at: int, length: int) -> bytes:
        """At most `length` bytes from `at`."""
        return os.pread(self._handle, length, at)

    def write(self, at: int, *pieces: bytes) -> None:
        """Write at the end; what a failure wrote of it is taken back where the disk allows."""
        begun = at
        try:
            for piece in pieces:
                write_all(self._handle, piece, at)
                at += len(piece)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._handle, begun)
            raise

    def truncate(self, size: int) -> None:
        """Cut the file."""
        os.ftruncate(self._handle, size)

    def sync(self) -> None:
        """Make the bytes durable."""
        os.fsync(self._handle)

    # -------------------------------------------------------------- the scan
    def scan(self) -> Iterator[Found | Hole]:
        """Every record in order, and what is no record."""
        window, at, size = _Window(self), PART_HEADER_BYTES, self.size
        marks, damages = _SEARCH_MARKS, 0
        while at < size:
            try:
                found = Found(decode_record(*window.around(at)), at)
                if found.end > size:
                    raise Torn("ends inside a record")
            except Damaged as problem:
                after, marks = self._next(window, at + 1, size, marks)
                damages += 1
                if after is None or damages > _MAX_DAMAGES:
                    yield Hole(at, size, problem.problem, cut=after is None)
                    return
                yield Hole(at, after, problem.problem)
                at = after
            else:
                yield found
                at = found.end

    def _next(self, window: _Window, at: int, size: int, marks: int) -> tuple[int | None, int]:
        """Where the next whole record begins, and how many more marks may be tried."""
        end = min(size, at + _SEARCH_BYTES)
        while at < end and marks:
            raw, start = window.around(at)
            mark = raw.find(MARK, start)
            if mark < 0:
                at += max(1, len(raw) - start - len(MARK) + 1)
                continue
            at, marks = at + mark - start, marks - 1
            with contextlib.suppress(Damaged):
                if Found(decode_record(*window.around(at)), at).end <= size:
                    return at, marks
            at += 1
        return None, marks


class _Window:
    """A few of a part's bytes, so that small records cost no read each."""

    def __init__(self, part: Part) -> None:
        self._part, self._raw, self._start = part, b"", 0

    def around(self, at: int) -> tuple[bytes, int]:
        """Bytes that hold at least a whole head from `at` on, and where in them `at` is."""
        if not self._start <= at <= self._start + len(self._raw) - RECORD_HEAD_MOST_BYTES:
            self._raw, self._start = self._part.read(at, _WINDOW_BYTES), at
        return self._raw, at - self._start


def _open(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags | _FLAGS)
    except FileNotFoundError:
        raise NotFound(f"no bundle {path}") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UsageError(f"{path} is a link; name the file itself") from None
        raise Unreachable(f"{path} cannot be opened: {error.strerror}") from error


def _lock(handle: int, path: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Unreachable(f"{path}: another export writes to this bundle") from None
    except OSError:
        return  # no locks on this file system; one person, one stick
