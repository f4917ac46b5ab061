"""Whose turn it is, and which number comes next: among the processes of one home.

Machines that do not see each other may still give one number twice; readers tell them apart.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from typing import TYPE_CHECKING, Final

from localstore.artifacts.model import MAX_NUMBER
from localstore.durable import make_folder
from localstore.errors import StoreError
from localstore.layout import FILE_MODE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from localstore.project import Project

_WAIT_S: Final = 20.0
_TURN: Final = "turn"


def _folder(project: Project, subject: bytes) -> Path:
    return project.paths.local / "versions" / subject.hex()


@contextlib.contextmanager
def turn(project: Project, subject: bytes) -> Iterator[None]:
    """Between reading an artifact and adding to it no other process of this home does the same.

    Where files cannot be locked, or somebody keeps the lock, it goes on without: then two processes
    may record one content twice, which readers show once.
    """
    handle = -1
    try:
        path = make_folder(_folder(project, subject)) / _TURN
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
        _wait(handle)
    except OSError:
        pass
    try:
        yield
    finally:
        if handle >= 0:
            with contextlib.suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_UN)  # a forked child may hold it too
            os.close(handle)


def _wait(handle: int) -> None:
    deadline = time.monotonic() + _WAIT_S
    while time.monotonic() < deadline:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES, errno.EINTR):
                return
            time.sleep(0.005)
        else:
            return


def claim(project: Project, subject: bytes, highest: int) -> int:
    """The next number of an artifact, which no other process of this home gets.

    Args:
        highest: the greatest number that is known, -1 for none.

    Raises:
        StoreError: the disk refused, or there is no number left.
    """
    folder = _folder(project, subject)
    try:
        make_folder(folder)
        taken = [int(path.name) for path in folder.iterdir() if path.name.isdigit()]
        number = max([highest, *(one for one in taken if one <= MAX_NUMBER)]) + 1
        while not _create(folder / str(number)):
            number += 1
        for old in taken:
            if old < number:
                (folder / str(old)).unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"no version number can be taken: {error.strerror}") from error
    if number > MAX_NUMBER:
        raise StoreError(f"an artifact has at most {MAX_NUMBER} versions")
    return number


def _create(path: Path) -> bool:
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, FILE_MODE))
    except FileExistsError:
        return False
    return True
