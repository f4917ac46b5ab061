"""The ways this project puts bytes on disk: create a file whole, replace it, make a folder.

What returns here would survive a power cut. Appending to a segment is for `localstore.appending`.
"""

from __future__ import annotations

import errno
import os
import secrets
from typing import TYPE_CHECKING, Final

from localstore.layout import DIRECTORY_MODE, FILE_MODE

if TYPE_CHECKING:
    from pathlib import Path

TEMPORARY_PREFIX: Final = ".tmp-"
# Some network file systems cannot sync a folder; their rename is as durable as they are.
_NO_FSYNC: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES})


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


def write_all(handle: int, content: bytes | memoryview, offset: int) -> None:
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


def _temporary(path: Path, content: bytes) -> Path:
    make_folder(path.parent)
    temporary = path.parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    handle = os.open(temporary, flags, FILE_MODE)
    try:
        write_all(handle, content, 0)
        os.fsync(handle)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)
    return temporary


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
