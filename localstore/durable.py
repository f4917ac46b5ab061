"""The ways this project puts bytes on disk: create a file whole, replace it, make a folder.

What returns here would survive a power cut. Appending to a segment is for `localstore.appending`.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import re
import secrets
import sys
from functools import cache
from typing import TYPE_CHECKING, Final

from localstore.layout import DIRECTORY_MODE, FILE_MODE

if TYPE_CHECKING:
    from pathlib import Path

TEMPORARY_PREFIX: Final = ".tmp-"
# Some network file systems cannot sync a folder; their rename is as durable as they are.
_NO_FSYNC: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES})

# Where syncfs() is known to reach the disk: FUSE, for one, takes the call and does nothing.
_SYNCABLE: Final = frozenset(
    {
        0xEF53,  # ext2, ext3, ext4
        0x58465342,  # xfs
        0x9123683E,  # btrfs
        0xF2F52010,  # f2fs
        0x2FC12FC1,  # zfs
        0x01021994,  # tmpfs
    }
)
_SYNCFS_TELLS_ERRORS: Final = (5, 8)  # before this version of Linux it returned 0 whatever happened


def make_folder(path: Path) -> Path:
    """Make a folder and its missing parents, mode 0700, each durable in its parent."""
    if path.is_dir():
        return path
    make_folder(path.parent)
    try:
        path.mkdir(mode=DIRECTORY_MODE)
    except FileExistsError:
        return path
    sync_folder(path.parent)
    return path


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_FSYNC:
            raise
    finally:
        os.close(handle)


@cache
def _libc() -> ctypes.CDLL | None:
    """The C library, where it has a syncfs() that tells when it failed."""
    if sys.platform != "linux":
        return None
    version = re.match(r"(\d+)\.(\d+)", os.uname().release)
    if version is None or tuple(map(int, version.groups())) < _SYNCFS_TELLS_ERRORS:
        return None
    library = ctypes.CDLL(None, use_errno=True)
    return library if hasattr(library, "syncfs") and hasattr(library, "fstatfs") else None


def sync_disk(handle: int) -> bool:
    """Make everything that was written to the file system of an open folder durable, at once.

    Args:
        handle: opened before the first of the writes, or an error of theirs would not be told.

    Returns:
        False when nothing was done: this system, or this file system, cannot promise it.

    Raises:
        OSError: the disk refused.
    """
    library = _libc()
    if library is None:
        return False
    facts = (ctypes.c_long * 64)()
    if library.fstatfs(handle, facts) or facts[0] not in _SYNCABLE:
        return False
    if library.syncfs(handle):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return True


def sync_file(path: Path) -> None:
    """Make the bytes of a file durable that was written and closed."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_all(handle: int, content: bytes | bytearray | memoryview, offset: int) -> None:
    """Write every byte at `offset`, however short the single writes turn out.

    Raises:
        OSError: the disk refused; some of the bytes may be written.
    """
    view = memoryview(content)
    while view:
        done = os.pwrite(handle, view, offset)
        if done == 0:
            raise OSError(errno.ENOSPC, "the disk took no bytes")
        view, offset = view[done:], offset + done


def _temporary(path: Path, content: bytes, *, sync: bool = True) -> Path:
    make_folder(path.parent)
    temporary = path.parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        handle = os.open(temporary, flags, FILE_MODE)
    except OSError as problem:
        problem.filename = str(path)  # a person knows no other name
        raise
    try:
        write_all(handle, content, 0)
        if sync:
            os.fsync(handle)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)
    return temporary


def replace_cache(path: Path, content: bytes) -> None:
    """`replace_file` for what may be lost: after a power cut it may be old, empty or gone."""
    temporary = _temporary(path, content, sync=False)
    try:
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def replace_file(path: Path, content: bytes) -> None:
    """Put `content` under `path`, whole or not at all, over what is there."""
    temporary = _temporary(path, content)
    try:
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def create_file(path: Path, content: bytes) -> bool:
    """Put `content` under `path` if nothing is there; whole or not at all.

    Returns:
        False when the name was taken. Of many that try at once exactly one gets True.
    """
    if path.exists():
        return False
    temporary = _temporary(path, content)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
            raise
        # No hard links here (FAT, some FUSE): rename does, for names that hold one content only.
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)
    return True


def give_memory_back() -> None:
    """Return what was freed to the system: a long process keeps what one busy hour took, else."""
    gc.collect()
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        if hasattr(library, "malloc_trim"):
            library.malloc_trim(0)
