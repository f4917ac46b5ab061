"""Puts one file at its place below a folder: whole and checked, and never anywhere else.

No symbolic link below the folder is followed, and no file is written in place: what is there may
be a link to something of great value.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat as stat_module
import unicodedata
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Final

from localstore import crypto, durable
from localstore.errors import Forged, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from localstore.format.manifest import Entry

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OPEN_FOLDERS: Final = 64
_BUFFER_BYTES: Final = 1024 * 1024
_HOLE_BYTES: Final = 64 * 1024


class Folders:
    """Open folders below a root; no symbolic link is followed to any of them."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._open: OrderedDict[str, int] = OrderedDict()

    def close(self) -> None:
        """Close all of them."""
        for handle in (*self._open.values(), self._root):
            os.close(handle)

    def get(self, folder: str, *, make: bool) -> int:
        """A folder by its path below the root, "" for the root.

        Raises:
            FileNotFoundError: it is not there, and `make` is false.
            UsageError: a symbolic link or a file is in the way.
        """
        handle, known = self._root, folder
        while known and known not in self._open:
            known = known.rpartition("/")[0]
        if known:
            handle = self._open[known]
            self._open.move_to_end(known)
        while known != folder:
            name = folder[len(known) :].lstrip("/").partition("/")[0]
            known = f"{known}/{name}" if known else name
            handle = self._open[known] = self._enter(handle, name, known, make=make)
            if len(self._open) > _OPEN_FOLDERS:
                os.close(self._open.popitem(last=False)[1])
        return handle

    @staticmethod
    def _enter(above: int, name: str, folder: str, *, make: bool) -> int:
        try:
            return os.open(name, _FOLDER, dir_fd=above)
        except FileNotFoundError:
            if not make:
                raise
        except OSError as error:
            raise UsageError(
                f"{folder!r} is no folder, or a symbolic link: {error.strerror}",
                hint="restore into another folder, or take that out of the way",
            ) from None
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, dir_fd=above)
        return os.open(name, _FOLDER, dir_fd=above)


class Names:
    """Names that a file system may take for one, and which files have them by now."""

    def __init__(self, entries: list[Entry]) -> None:
        counts = Counter(_folded(entry.path) for entry in entries)
        self._alike = {entry.path for entry in entries if counts[_folded(entry.path)] > 1}
        self._made: dict[tuple[int, int], str] = {}

    def __contains__(self, entry: Entry) -> bool:
        return entry.path in self._alike

    def other(self, entry: Entry, found: os.stat_result) -> str | None:
        """The path of another entry that this file is."""
        path = self._made.get((found.st_dev, found.st_ino), entry.path)
        return None if path == entry.path else path

    def note(self, entry: Entry, found: os.stat_result) -> None:
        """This file is this entry."""
        if entry in self:
            self._made[found.st_dev, found.st_ino] = entry.path


class Writer:
    """Looks at files below a root, and writes them. Each thread has its own."""

    def __init__(self, root: Path, names: Names) -> None:
        self._folders, self._names = Folders(root), names

    def close(self) -> None:
        """Let go of all folders."""
        self._folders.close()

    def holds(self, entry: Entry) -> bool:
        """Whether the file is there with the right content."""
        folder, _, name = entry.path.rpartition("/")
        try:
            handle = os.open(name, _OLD, dir_fd=self._folders.get(folder, make=False))
        except (OSError, UsageError):
            return False  # `write` tells what is in the way
        try:
            found = os.fstat(handle)
            if not stat_module.S_ISREG(found.st_mode) or found.st_size != entry.size:
                return False
            if _hash_file(handle) != entry.hash or self._names.other(entry, found):
                return False
            self._names.note(entry, found)
            return True
        finally:
            os.close(handle)

    def write(self, entry: Entry, pieces: Iterable[tuple[memoryview, bool]]) -> None:
        """Write a file under a temporary name, check it, and give it its own.

        Raises:
            Forged: the bytes are not those of the entry's hash.
            UsageError: something is in the way, or the file system takes two names for one.
            OSError: the disk refused.
        """
        folder_name, _, name = entry.path.rpartition("/")
        folder = self._folders.get(folder_name, make=True)
        temporary = f"{durable.TEMPORARY_PREFIX}{secrets.token_hex(8)}"
        handle = os.open(temporary, _NEW, 0o666, dir_fd=folder)
        try:
            try:
                _fill(handle, entry, pieces)
                made = os.fstat(handle) if entry in self._names else None
            finally:
                os.close(handle)
            self._name(entry, folder, temporary, name)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            raise
        if made is not None:
            self._names.note(entry, made)

    def _name(self, entry: Entry, folder: int, temporary: str, name: str) -> None:
        if entry in self._names:
            with contextlib.suppress(FileNotFoundError):
                there = os.stat(name, dir_fd=folder, follow_symlinks=False)
                other = self._names.other(entry, there)
                if other:
                    raise UsageError(
                        f"{entry.path!r} and {other!r} are one name on this file system",
                        hint="restore to a file system that tells upper from lower case",
                    )
        try:
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except (IsADirectoryError, NotADirectoryError):
            raise UsageError(
                f"{entry.path!r} is a folder here, and a file of the version"
            ) from None


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", path).casefold())


def _hash_file(handle: int) -> bytes:
    hasher, buffer = crypto.content_hasher(), memoryview(bytearray(_BUFFER_BYTES))
    at = 0
    while count := os.preadv(handle, [buffer], at):
        hasher.update(buffer[:count])
        at += count
    return hasher.digest()


def check_size(entry: Entry) -> None:
    """Refuse an entry whose parts are longer or shorter than it, before any of them is read.

    Raises:
        Forged: they are.
    """
    total = sum(part.length for part in entry.parts)
    if total != entry.size:
        raise Forged(f"{entry.path!r} has {entry.size} bytes, its parts have {total}")


def _fill(handle: int, entry: Entry, pieces: Iterable[tuple[memoryview, bool]]) -> None:
    check_size(entry)
    hasher, at, written = crypto.content_hasher(), 0, 0
    for piece, zero in pieces:
        hasher.update(piece)
        if not (zero and len(piece) >= _HOLE_BYTES):
            durable.write_all(handle, piece, at)
            written = at + len(piece)
        at += len(piece)
    if not crypto.same(hasher.digest(), entry.hash):
        raise Forged(f"{entry.path!r} has other bytes than its hash says")
    if written < at:
        os.ftruncate(handle, at)
