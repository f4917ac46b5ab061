"""Hints for the service: an empty file per subject, touched when something new is durable.

A hint says where to look, never what is there, and may be lost: the service looks everywhere now
and then. It lies in `local/wake/` of the project and never leaves. It must never cost the caller
more than one call of the system, and never fail.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

from localstore.layout import DIRECTORY_MODE, FILE_MODE

if TYPE_CHECKING:
    from pathlib import Path

    from localstore.layout import ProjectPaths

WAKE_FOLDER: Final = "wake"
LINKS: Final = "links"  # instead of a subject: links, certificates, keyslots of the project
_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def wake_folder(paths: ProjectPaths) -> Path:
    """Where the hints of a project lie."""
    return paths.local / WAKE_FOLDER


def touch(paths: ProjectPaths, subject: str) -> None:
    """Say that something of a subject is new and durable; never raises.

    Args:
        subject: 32 hex digits, or LINKS.
    """
    touch_file(f"{paths.root}/local/{WAKE_FOLDER}/{subject}")


def touch_file(hint: str) -> None:
    """The same for a path that the caller has put together once; never raises."""
    with contextlib.suppress(OSError):
        try:
            os.utime(hint, follow_symlinks=False)
        except FileNotFoundError:
            _create(hint)


def forget(paths: ProjectPaths, subject: str) -> None:
    """Take a hint back: what it is about was erased; never raises."""
    with contextlib.suppress(OSError):
        (wake_folder(paths) / subject).unlink()


def _create(hint: str) -> None:
    try:
        handle = os.open(hint, _FLAGS, FILE_MODE)
    except FileNotFoundError:
        # Two levels and no more: a project that was deleted meanwhile must not come back.
        folder = hint.rpartition("/")[0]
        for path in (folder.rpartition("/")[0], folder):
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, DIRECTORY_MODE)  # noqa: PTH102
        handle = os.open(hint, _FLAGS, FILE_MODE)
    os.close(handle)
