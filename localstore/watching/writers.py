"""Whether somebody has a file open for writing, where the system can tell.

On Linux a read lease is refused while there is a writer, in whatever process or container of this
kernel. It is given back at once. Nobody knows the writers of other machines on a network disk.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from localstore.watching.looking import Stamp

if TYPE_CHECKING:
    from collections.abc import Iterator

_OPEN: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
_WRITES: Final = os.O_WRONLY | os.O_RDWR


def has_writer(path: str, stamp: Stamp) -> bool:
    """Whether a file is open for writing, as far as this machine can tell.

    A file that is gone, or not as it was, counts as written: it is looked at again.
    """
    try:
        handle = os.open(path, _OPEN)
    except PermissionError:
        return False  # reading it will say so
    except OSError:
        return True
    try:
        if Stamp.of(os.fstat(handle)) != stamp:
            return True
        leased = _lease_refused(handle)
    finally:
        os.close(handle)
    return (stamp.device, stamp.inode) in _open_for_writing() if leased is None else leased


def _lease_refused(handle: int) -> bool | None:
    """Whether a writer keeps a read lease from being given; None where nobody can say."""
    if sys.platform != "linux":
        return None
    import fcntl

    try:
        # Who opens the file in the moment of the lease makes the kernel send this signal. The
        # usual one, SIGIO, would end a program that does not expect it; this one does nothing.
        fcntl.fcntl(handle, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def _open_for_writing() -> set[tuple[int, int]]:
    """Device and inode of files that processes of this user have open for writing; a hint."""
    found = set()
    for process in _own_processes():
        try:
            for entry in os.scandir(process / "fd"):
                try:
                    flags = (process / "fdinfo" / entry.name).read_text().split("flags:")[1]
                    if int(flags.split()[0], 8) & _WRITES:
                        facts = entry.stat()
                        found.add((facts.st_dev, facts.st_ino))
                except (OSError, IndexError, ValueError):
                    continue
        except OSError:
            continue
    return found


def _own_processes() -> Iterator[Path]:
    own = os.getuid()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if path.stat().st_uid == own:
                yield path
        except OSError:
            continue
