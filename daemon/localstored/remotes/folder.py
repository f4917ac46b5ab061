"""A remote in a folder: a USB stick, a shared drive, another disk.

Every path is walked from the root by handles that follow no link, so that nothing planted in the
folder leads out of it. What returns from `create` and `append` would survive a pulled plug.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
import stat
import time
from typing import TYPE_CHECKING, Final

from localstore.durable import TEMPORARY_PREFIX, write_all
from localstore.errors import Conflict, NotFound, Refused, RemoteError
from localstore.layout import DIRECTORY_MODE, FILE_MODE
from localstore.remotes import read_marker
from localstored.remotes.base import (
    MAX_PIECE_BYTES,
    Capabilities,
    Entry,
    Full,
    Unreachable,
    check_name,
    check_piece,
    left_to_append,
    missing,
    same_bytes,
    split_name,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

_GONE: Final = frozenset(
    {errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.EROFS}
)
_NO_FSYNC: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES})
_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.EINVAL})
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_PROJECT: Final = re.compile(r"[0-9a-f]{64}")
_MAX_PARALLEL: Final = 4  # a disk gains little by more, a stick nothing
_DEEPEST: Final = 5  # projects/<id>/runs/<subject>/<file>
_STALE_TEMPORARY_S: Final = 86_400.0  # longer than any create takes


class FolderRemote:
    """A remote in `root`, which `localstore.remotes.claim_folder` made a remote of."""

    def __init__(self, root: Path, *, want_id: str = "") -> None:
        """Open the folder.

        Raises:
            Unreachable: no marker there, or that of another remote than `want_id`.
        """
        try:
            self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            # Of the very folder that is used from now on: the path may lead elsewhere any moment.
            self._id = read_marker(root, handle=self._root)
        except (NotFound, RemoteError) as error:
            self.close()
            raise Unreachable(str(error), hint=error.hint) from error
        except FileNotFoundError:
            hint = "is the disk mounted? `localstore remote add` makes a remote of a folder"
            raise Unreachable(f"no localstore remote in {root}", hint=hint) from None
        except OSError as error:
            raise Unreachable(f"{root} cannot be opened: {error.strerror}") from error
        self._where, self._has_links = root, True
        if want_id and want_id != self._id:
            self.close()
            hint = "mount the right disk there, or remove the remote and add it again"
            problem = f"another remote lies in {root}: {self._id}, want {want_id}"
            raise Unreachable(problem, hint=hint, permanent=True)

    def close(self) -> None:
        """Let the folder go, so that it can be unmounted."""
        if getattr(self, "_root", -1) >= 0:
            os.close(self._root)
            self._root = -1

    def __del__(self) -> None:
        """Do as `close` does, for a caller that cannot."""
        if getattr(self, "_root", -1) >= 0:
            self.close()

    @property
    def id(self) -> str:
        """See `Remote.id`."""
        return self._id

    @property
    def capabilities(self) -> Capabilities:
        """Everything is allowed; without hard links nobody can promise who wins a race."""
        return Capabilities(atomic_create=self._has_links, max_parallel=_MAX_PARALLEL)

    # -------------------------------------------------------------- reading
    def projects(self) -> Iterator[str]:
        """See `Remote.projects`."""
        with self._speaking("projects"):
            try:
                folder = os.open("projects", _FOLDER, dir_fd=self._root)
            except FileNotFoundError:
                return
            try:
                names = os.listdir(folder)  # noqa: PTH208 - of a handle, not of a path
            finally:
                os.close(folder)
        yield from sorted(name for name in names if _PROJECT.fullmatch(name))

    def list(self, prefix: str) -> Iterator[Entry]:
        """See `Remote.list`."""
        with self._speaking(prefix):
            for some in self._walk(self._root, "", prefix):
                yield from some

    def _walk(self, folder: int, path: str, prefix: str) -> Iterator[Sequence[Entry]]:
        """What each folder holds: one by one they would pass through each level above."""
        folders: list[str] = []
        found: list[Entry] = []
        with os.scandir(folder) as entries:
            for entry in entries:
                name = path + entry.name
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                elif entry.is_file(follow_symlinks=False) and name.startswith(prefix):
                    found += self._entry(folder, name, entry)
        if found:
            yield found
        for name in folders:
            below = f"{path}{name}/"
            wanted = below.startswith(prefix) or prefix.startswith(below)
            if wanted and below.count("/") < _DEEPEST:
                with self._opened(name, _FOLDER, folder) as handle:
                    yield from self._walk(handle, below, prefix)

    def _entry(self, folder: int, name: str, entry: os.DirEntry[str]) -> Iterator[Entry]:
        if entry.name.startswith(TEMPORARY_PREFIX):
            self._sweep(folder, entry)
            return
        try:
            split_name(name)
            yield Entry(name, entry.stat(follow_symlinks=False).st_size)
        except (Refused, FileNotFoundError):
            return  # not ours, or deleted meanwhile

    def _sweep(self, folder: int, entry: os.DirEntry[str]) -> None:
        """Remove what a killed `create` left."""
        with contextlib.suppress(OSError):
            age_s = time.time() - entry.stat(follow_symlinks=False).st_mtime
            if age_s > _STALE_TEMPORARY_S:
                os.unlink(entry.name, dir_fd=folder)

    def have(self, names: Collection[str]) -> Mapping[str, int]:
        """See `Remote.have`."""
        sizes = {}
        for name in names:
            with contextlib.suppress(NotFound), self._file(name, os.O_RDONLY) as handle:
                sizes[name] = os.fstat(handle).st_size
        return sizes

    def read(self, name: str, offset: int, length: int) -> bytes:
        """See `Remote.read`."""
        with self._file(name, os.O_RDONLY) as handle:
            return _read(handle, offset, length)

    def digest(self, name: str, length: int) -> bytes:
        """See `Remote.digest`."""
        with self._file(name, os.O_RDONLY) as handle:
            size = os.fstat(handle).st_size
            if length > size:
                raise Refused(f"{name} has {size} bytes, not {length}")
            return _sha256(handle, length).digest()

    def confirm(self, name: str, length: int, source: Path) -> bool:
        """See `Remote.confirm`."""
        with (
            source.open("rb") as here,
            self._file(name, os.O_RDONLY) as handle,
            open(handle, "rb", closefd=False) as there,
        ):
            ours, theirs = os.fstat(here.fileno()), os.fstat(handle)
            if os.path.samestat(ours, theirs) and ours.st_nlink == 1:
                # Whoever deletes ours because of this answer would delete the only one.
                raise Refused(f"{name} in {self._where} is the file of this home itself")
            return same_bytes(there, here, length)

    # -------------------------------------------------------------- writing
    def create(self, name: str, data: bytes) -> None:
        """See `Remote.create`."""
        check_piece(data)
        try:
            created = self._put(name, data)
        except NotFound:
            created = self._put(name, data)  # `delete` took the folder away under our feet
        if not created:
            with self._file(name, os.O_RDONLY) as handle:
                if os.fstat(handle).st_size != len(data) or _read(handle, 0, len(data)) != data:
                    raise Conflict(f"other bytes under {name}")

    def _put(self, name: str, data: bytes) -> bool:
        with self._speaking(name), self._parent(name, create=True) as folder:
            leaf = name.rpartition("/")[2]
            if _exists(leaf, folder):
                return False
            temporary = _temporary(folder, data)
            try:
                placed = self._place(temporary, leaf, folder)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=folder)
            _sync(folder)
            return placed

    def _place(self, temporary: str, leaf: str, folder: int) -> bool:
        """Give the temporary file its name; False when the name was taken meanwhile."""
        try:
            os.link(temporary, leaf, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # FAT and some FUSE have no hard links, and one user at a time: look, then rename.
            self._has_links = False
            if _exists(leaf, folder):
                return False
            os.rename(temporary, leaf, src_dir_fd=folder, dst_dir_fd=folder)
        return True

    def append(self, name: str, offset: int, data: bytes) -> None:
        """See `Remote.append`."""
        check_piece(data)
        with self._file(name, os.O_RDWR) as handle:
            # Two writers of the same bytes need no lock; it keeps two that differ apart.
            with contextlib.suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX)
            size = os.fstat(handle).st_size
            present = _read(handle, offset, len(data))
            rest = left_to_append(name, offset, data, size, present)
            if rest:
                write_all(handle, rest, offset + len(present))
            os.fsync(handle)

    def delete(self, name: str) -> None:
        """See `Remote.delete`; an emptied folder of a subject goes too, its name says too much."""
        folders, _, leaf = name.rpartition("/")
        with contextlib.suppress(NotFound), self._speaking(name):
            with self._parent(name) as folder:
                os.unlink(leaf, dir_fd=folder)
                _sync(folder)
            if folders.count("/") > 2:
                with self._parent(folders, checked=True) as above, contextlib.suppress(OSError):
                    os.rmdir(folders.rpartition("/")[2], dir_fd=above)

    # -------------------------------------------------------------- paths
    @contextlib.contextmanager
    def _speaking(self, name: str) -> Iterator[None]:
        """Turn what the system says into what the contract says."""
        try:
            yield
        except FileNotFoundError:
            raise missing(name) from None
        except OSError as error:
            if error.errno in _GONE:
                raise Unreachable(f"{self._where} is gone: {error.strerror}") from error
            if error.errno in _FULL:
                raise Full(f"{self._where} takes no more: {error.strerror}") from error
            if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EISDIR):
                raise Refused(f"{name} in {self._where} is a link or no file") from error
            raise RemoteError(f"{name} in {self._where}: {error.strerror}") from error

    @contextlib.contextmanager
    def _opened(self, name: str, flags: int, folder: int) -> Iterator[int]:
        handle = os.open(name, flags, dir_fd=folder)
        try:
            yield handle
        finally:
            os.close(handle)

    @contextlib.contextmanager
    def _parent(self, name: str, *, create: bool = False, checked: bool = False) -> Iterator[int]:
        """A handle of the folder that `name` lies in."""
        if not checked:
            check_name(name)
        with contextlib.ExitStack() as stack:
            folder = self._root
            for part in name.split("/")[:-1]:
                if create and not _exists(part, folder):
                    _make_folder(part, folder)
                folder = stack.enter_context(self._opened(part, _FOLDER, folder))
            yield folder

    @contextlib.contextmanager
    def _file(self, name: str, flags: int) -> Iterator[int]:
        leaf = name.rpartition("/")[2]
        with (
            self._speaking(name),
            self._parent(name) as folder,
            self._opened(leaf, flags | _FILE, folder) as handle,
        ):
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise Refused(f"{name} in {self._where} is no file")
            yield handle


def _exists(leaf: str, folder: int) -> bool:
    try:
        os.stat(leaf, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _make_folder(name: str, parent: int) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, DIRECTORY_MODE, dir_fd=parent)
    _sync(parent)


def _temporary(folder: int, data: bytes) -> str:
    name = TEMPORARY_PREFIX + secrets.token_hex(8)
    handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FILE, FILE_MODE, dir_fd=folder)
    try:
        write_all(handle, data, 0)
        os.fsync(handle)
    except BaseException:
        os.unlink(name, dir_fd=folder)
        raise
    finally:
        os.close(handle)
    return name


def _sync(folder: int) -> None:
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in _NO_FSYNC:
            raise


def _read(handle: int, offset: int, length: int) -> bytes:
    pieces = []
    while length > 0:
        piece = os.pread(handle, min(length, MAX_PIECE_BYTES), offset)
        if not piece:
            break
        pieces.append(piece)
        offset, length = offset + len(piece), length - len(piece)
    return b"".join(pieces)


def _sha256(handle: int, length: int) -> hashlib._Hash:
    state, offset = hashlib.sha256(), 0
    while offset < length:
        piece = _read(handle, offset, min(MAX_PIECE_BYTES, length - offset))
        if not piece:
            break
        state.update(piece)
        offset += len(piece)
    return state
