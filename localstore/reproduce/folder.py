"""Puts files whose names come from a run into a new folder, and nowhere else.

Names are hostile: none leads out of the folder, follows a link, or lies in git's own folder, where
a file may be a program that git runs.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import unicodedata
from typing import TYPE_CHECKING, Final

from localstore.errors import AlreadyExists, BadName, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LONGEST_BYTES: Final = 4096
# A link or a file in the way, or a name that this disk does not take.
_BAD_NAMES: Final = frozenset(
    {errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL}
)
_FLAGS: Final = os.O_NOFOLLOW | os.O_CLOEXEC
# What Windows and macOS take for `.git`: short names, streams, trailing dots and blanks.
_GIT: Final = re.compile(r"\.git[. ]*(?::.*)?|git~\d+[. ]*", re.IGNORECASE | re.DOTALL)


def check_new(folder: Path) -> None:
    """Insist that a folder is not there yet, or is empty.

    Raises:
        AlreadyExists: something is there.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise AlreadyExists(f"{folder} is no folder", hint="name one that does not exist yet")
    if folder.is_dir() and any(folder.iterdir()):
        raise AlreadyExists(
            f"{folder} is not empty, and nothing in it may be lost",
            hint="name a folder that does not exist yet",
        )


def check_name(path: str) -> str:
    """A path that may be made inside a folder.

    Raises:
        BadName: it leads out of the folder, into `.git`, or no file can be called so.
    """
    parts = path.split("/")
    bad = not path or "\0" in path or "\\" in path or len(os.fsencode(path)) > _LONGEST_BYTES
    if bad or any(part in ("", ".", "..") or _is_git(part) for part in parts):
        raise BadName(f"refused to make a file called {path!r}")
    return path


def _is_git(part: str) -> bool:
    # macOS ignores such characters in names.
    shown = "".join(one for one in part if unicodedata.category(one) != "Cf")
    return _GIT.fullmatch(unicodedata.normalize("NFKC", shown)) is not None


def write_new(root: Path, path: str, content: bytes) -> None:
    """Write a file below `root`, through no link; a plain file that is there is replaced.

    Raises:
        BadName: the name is refused, or a link or a folder stands in its way.
        StoreError: the disk refused.
    """
    *folders, name = check_name(path).split("/")
    try:
        with _folder(root, folders) as parent:
            with contextlib.suppress(FileNotFoundError):
                if not stat.S_ISREG(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                    raise BadName(f"refused to write {path!r}: there is a link or a folder")
                os.unlink(name, dir_fd=parent)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS
            with os.fdopen(os.open(name, flags, 0o666, dir_fd=parent), "wb") as file:
                file.write(content)
    except OSError as error:
        if error.errno in _BAD_NAMES:
            raise BadName(f"refused to write {path!r}: {error.strerror}") from None
        raise StoreError(f"{root / path}: {error.strerror or error}") from error


@contextlib.contextmanager
def _folder(root: Path, folders: list[str]) -> Iterator[int]:
    """A descriptor of a folder below `root`, made where it is not there."""
    root.mkdir(parents=True, exist_ok=True)
    at = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in folders:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=at)
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | _FLAGS, dir_fd=at)
            os.close(at)
            at = below
        yield at
    finally:
        os.close(at)
