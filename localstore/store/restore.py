"""Puts the files of a version into a folder, checked, and never anywhere else.

A manifest may come from a hostile device: paths are checked, and no symbolic link below the folder
is followed. Every file is written under a temporary name and gets its own when its hash fits.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat as stat_module
import unicodedata
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from localstore import crypto, durable
from localstore.errors import Forged, LocalStoreError, StoreError, UsageError
from localstore.format.manifest import Entry, check_path, in_order
from localstore.store.chunks import SMALL_BYTES
from localstore.store.objects import ObjectFiles
from localstore.store.opening import Objects
from localstore.store.sealing import thread_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from localstore.project import Project

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OPEN_FOLDERS: Final = 64
_BUFFER_BYTES: Final = 1024 * 1024
_HOLE_BYTES: Final = 64 * 1024
_THREADS_FROM_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Restored:
    """What was done.

    Attributes:
        files: written now. kept: were there already, the same.
        size: bytes of all of these.
        references: entries that stand for something elsewhere; nothing was written for them.
    """

    files: int
    kept: int
    size: int
    references: tuple[Entry, ...]


class _Folders:
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
        if not folder:
            return self._root
        if folder in self._open:
            self._open.move_to_end(folder)
            return self._open[folder]
        above, _, name = folder.rpartition("/")
        handle = self._enter(self.get(above, make=make), name, folder, make=make)
        self._open[folder] = handle
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


class _Target:
    """The files below a root, as they are found and written."""

    def __init__(self, root: Path, entries: list[Entry]) -> None:
        self._folders = _Folders(root)
        counts = Counter(_folded(entry.path) for entry in entries)
        self._alike = {entry.path for entry in entries if counts[_folded(entry.path)] > 1}
        self._made: dict[tuple[int, int], str] = {}

    def close(self) -> None:
        """Let go of all folders."""
        self._folders.close()

    def holds(self, entry: Entry) -> bool:
        """Whether the file is there with the right content."""
        folder, _, name = entry.path.rpartition("/")
        try:
            handle = os.open(name, _OLD, dir_fd=self._folders.get(folder, make=False))
        except OSError:
            return False
        try:
            found = os.fstat(handle)
            if not stat_module.S_ISREG(found.st_mode) or found.st_size != entry.size:
                return False
            if _hash_file(handle) != entry.hash or self._is_another(entry, found):
                return False
            self._note(entry, found)
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
                made = os.fstat(handle) if entry.path in self._alike else None
            finally:
                os.close(handle)
            # Other folders were opened meanwhile? No: pieces come from objects alone.
            self._name(entry, folder, temporary, name)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            raise
        if made is not None:
            self._note(entry, made)

    def _name(self, entry: Entry, folder: int, temporary: str, name: str) -> None:
        if entry.path in self._alike:
            with contextlib.suppress(FileNotFoundError):
                there = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if self._is_another(entry, there):
                    other = self._made[there.st_dev, there.st_ino]
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

    def _is_another(self, entry: Entry, found: os.stat_result) -> bool:
        return self._made.get((found.st_dev, found.st_ino), entry.path) != entry.path

    def _note(self, entry: Entry, found: os.stat_result) -> None:
        if entry.path in self._alike:
            self._made[found.st_dev, found.st_ino] = entry.path


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", path).casefold())


def _hash_file(handle: int) -> bytes:
    hasher, buffer = crypto.content_hasher(), memoryview(bytearray(_BUFFER_BYTES))
    at = 0
    while count := os.preadv(handle, [buffer], at):
        hasher.update(buffer[:count])
        at += count
    return hasher.digest()


def _fill(handle: int, entry: Entry, pieces: Iterable[tuple[memoryview, bool]]) -> None:
    hasher, at, written = crypto.content_hasher(), 0, 0
    for piece, zero in pieces:
        hasher.update(piece)
        if not (zero and len(piece) >= _HOLE_BYTES):
            durable.write_all(handle, piece, at)
            written = at + len(piece)
        at += len(piece)
    if at != entry.size or not crypto.same(hasher.digest(), entry.hash):
        raise Forged(f"{entry.path!r} has other bytes than its hash says")
    if written < at:
        os.ftruncate(handle, at)


# ------------------------------------------------------------------ whole versions
def restore(
    project: Project,
    entries: Iterable[Entry],
    root: Path,
    *,
    path_prefix: str = "",
    progress: Callable[[int], None] | None = None,
) -> Restored:
    """Put files below `root`, which is made when it is not there.

    A file that is there with the same content is left alone; another one is replaced. What is
    whole is written even if other files are damaged; then the first problem is raised.

    Args:
        path_prefix: only paths that begin with it.
        progress: told of bytes that stand in their place.

    Raises:
        BadName, UsageError: a path that leads out of `root`, a symbolic link or folder in the way,
            or two paths that are one on this file system.
        NotFound: an object is not here.
        Damaged, Forged: an object's or a file's bytes are wrong.
        StoreError: the disk refused.
    """
    wanted = [entry for entry in entries if entry.path.startswith(path_prefix)]
    for entry in wanted:
        check_path(entry.path)
    files = [entry for entry in in_order(wanted) if not entry.uri]
    references = tuple(entry for entry in in_order(wanted) if entry.uri)
    try:
        target = _Target(root, files)
        try:
            kept, todo = _divide(target, files, progress)
            _write_all(ObjectFiles(project.paths), target, _by_object(todo), progress)
        finally:
            target.close()
    except OSError as error:
        raise StoreError(f"cannot restore into {str(root)!r}: {error}") from error
    return Restored(len(todo), len(kept), sum(entry.size or 0 for entry in files), references)


def _divide(
    target: _Target, files: list[Entry], progress: Callable[[int], None] | None
) -> tuple[list[Entry], list[Entry]]:
    kept: list[Entry] = []
    todo: list[Entry] = []
    for entry in files:
        if target.holds(entry):
            kept.append(entry)
            if progress:
                progress(entry.size or 0)
        else:
            todo.append(entry)
    return kept, todo


def _by_object(entries: list[Entry]) -> list[Entry]:
    """Small files that share an object one after the other, so that it is opened once."""
    place: dict[bytes, int] = {}
    for entry in entries:
        for part in entry.parts:
            place.setdefault(part.object_id, len(place))

    def order(entry: Entry) -> tuple[int, int]:
        first = entry.parts[0]
        return place[first.object_id], first.offset

    small = [entry for entry in entries if entry.parts and (entry.size or 0) < SMALL_BYTES]
    others = [entry for entry in entries if not (entry.parts and (entry.size or 0) < SMALL_BYTES)]
    return others + sorted(small, key=order)


def _write_all(
    files: ObjectFiles,
    target: _Target,
    entries: list[Entry],
    progress: Callable[[int], None] | None,
) -> None:
    total = sum(entry.size or 0 for entry in entries)
    threads = thread_count() if total >= _THREADS_FROM_BYTES else 0
    coming = (part for entry in entries for part in entry.parts)
    problems: list[LocalStoreError] = []
    with Objects(files, coming, threads=threads) as objects:
        for entry in entries:
            try:
                target.write(entry, map(objects.piece, entry.parts))
            except LocalStoreError as problem:
                problem.add_note(f"file: {entry.path}")
                problems.append(problem)
                continue
            if progress:
                progress(entry.size or 0)
    if problems:
        problems[0].add_note(f"{len(problems)} of {len(entries)} files were not restored")
        raise problems[0]


# ------------------------------------------------------------------ one file
def open_file(project: Project, entry: Entry) -> Iterator[memoryview]:
    """The content of one file, piece by piece.

    Each piece is checked against its object; that all pieces are the file is known at the end.

    Raises:
        UsageError: the entry is a reference.
        NotFound: an object is not here.
        Damaged, Forged: bytes are wrong; whoever used earlier pieces must forget them.
    """
    if entry.uri:
        raise UsageError(f"{entry.path!r} is a reference to {entry.uri!r}, not stored here")
    return _pieces(ObjectFiles(project.paths), entry)


def _pieces(files: ObjectFiles, entry: Entry) -> Iterator[memoryview]:
    hasher, size = crypto.content_hasher(), 0
    with Objects(files, ()) as objects:
        for part in entry.parts:
            piece, _ = objects.piece(part)
            hasher.update(piece)
            size += len(piece)
            yield piece
    if size != entry.size or not crypto.same(hasher.digest(), entry.hash):
        raise Forged(f"{entry.path!r} has other bytes than its hash says")


def read_file(project: Project, entry: Entry) -> bytes:
    """The whole content of one file, checked; for files that fit into memory.

    Raises:
        UsageError, NotFound, Damaged, Forged: as `open_file`.
    """
    return b"".join(open_file(project, entry))
