"""What is taken into the store: files that people name, opened with care.

Nothing but regular files is ever opened: a pipe would block, a device may act. A symbolic link
stands for the file that it points to.
"""

from __future__ import annotations

import errno
import os
import stat as stat_module
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from localstore.errors import LocalStoreError, NotFound, NotPermitted, StoreError, UsageError
from localstore.store.filecache import Facts

if TYPE_CHECKING:
    from localstore import crypto

# O_NONBLOCK: between the look and the open somebody may have put a pipe there.
_OPEN: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_ZEROS_BYTES: Final = 512 * 1024
_KINDS: Final = {
    stat_module.S_IFDIR: "a directory",
    stat_module.S_IFIFO: "a named pipe",
    stat_module.S_IFSOCK: "a socket",
    stat_module.S_IFCHR: "a device",
    stat_module.S_IFBLK: "a device",
}


@dataclass(frozen=True, slots=True)
class Source:
    """One file of a version to be.

    Attributes:
        path: inside the version, with `/`.
        file: where it is, or its content.
        expected: what the file was when it was named; a difference is told, not refused.
    """

    path: str
    file: str | Path | bytes = field(repr=False)
    expected: os.stat_result | Facts | None = None

    def differs(self, facts: Facts) -> bool:
        """Whether the file is not the one that was named."""
        if self.expected is None:
            return False
        named = self.expected if isinstance(self.expected, Facts) else Facts.of(self.expected)
        now = (facts.size, facts.mtime_ns, facts.inode)
        return (named.size, named.mtime_ns, named.inode) != now


def look(file: str | Path) -> os.stat_result:
    """Stat a regular file.

    Raises:
        NotFound, NotPermitted, UsageError, StoreError: missing, unreadable, a directory, a pipe …
    """
    try:
        found = os.stat(file)  # noqa: PTH116 - once for every file, and twice as fast
    except (OSError, ValueError) as error:
        raise refusal(file, error) from None
    _check_kind(file, found)
    return found


def open_file(file: str | Path) -> tuple[int, os.stat_result]:
    """Open a regular file for reading; the caller closes the handle.

    Raises:
        NotFound, NotPermitted, UsageError, StoreError: as `look`.
    """
    try:
        handle = os.open(file, _OPEN)
    except (OSError, ValueError) as error:
        raise refusal(file, error) from None
    try:
        found = os.fstat(handle)
        _check_kind(file, found)
    except BaseException:
        os.close(handle)
        raise
    return handle, found


def _check_kind(file: str | Path, found: os.stat_result) -> None:
    if not stat_module.S_ISREG(found.st_mode):
        what = _KINDS.get(stat_module.S_IFMT(found.st_mode), "no regular file")
        raise UsageError(f"{str(file)!r} is {what}, want a regular file")


def refusal(file: str | Path, error: OSError | ValueError) -> LocalStoreError:
    """What is raised about a file that the system does not give."""
    name = repr(str(file))
    if isinstance(error, ValueError):
        return UsageError(f"{name} is no file name: {error}")
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        gone = Path(file).is_symlink()
        return NotFound(f"{name} is a link to nothing" if gone else f"there is no file {name}")
    if isinstance(error, PermissionError):
        return NotPermitted(f"{name} cannot be read: {error.strerror}", hint="check its mode")
    return StoreError(f"{name} cannot be read: {error.strerror}")


def hole_at(handle: int, at: int, size: int) -> int:
    """How many zeros that no disk holds stand at `at` of an open file; 0 where nobody knows."""
    try:
        return os.lseek(handle, at, os.SEEK_DATA) - at
    except OSError as error:
        return size - at if error.errno == errno.ENXIO else 0


def hash_zeros(hasher: crypto.Hasher, count: int) -> None:
    """Feed zeros to a hash; from a piece that stays in the processor's cache."""
    zeros = bytes(min(count, _ZEROS_BYTES))
    while count:
        piece = memoryview(zeros)[: min(count, len(zeros))]
        hasher.update(piece)
        count -= len(piece)


def unstable(source: Source) -> UsageError:
    """What is raised about a file that changed whenever it was read."""
    return UsageError(
        f"{str(source.file)!r} changes while it is read",
        hint="wait until its writer is done, or copy it first",
    )


# ------------------------------------------------------------------ folders
def walk(root: Path) -> list[tuple[str, str]]:
    """Every file below a folder, as (path inside it with `/`, file), sorted by the bytes of paths.

    Symbolic links to files and folders are followed.

    Raises:
        UsageError: `root` is no folder; or, by name: a folder that leads back to itself, a socket,
            pipe or device, or a name that is not valid UTF-8.
        NotFound, NotPermitted: a link to nothing; a folder that cannot be listed.
    """
    if not root.is_dir():
        if root.exists():
            raise UsageError(f"{str(root)!r} is no folder")
        raise NotFound(f"there is no folder {str(root)!r}")
    found: list[tuple[str, str]] = []
    folders = [_Folder(str(root), "", None)]
    while folders:
        folder = folders.pop()
        for entry in folder.entries():
            path = folder.inside + _utf8(entry)
            if _is_folder(entry):
                folders.append(_Folder(entry.path, f"{path}/", folder))
                continue
            if entry.is_symlink() or not entry.is_file():
                look(entry.path)
            found.append((path, entry.path))
    return sorted(found)


class _Folder:
    """A folder on the way down; refuses to be one of those above it."""

    def __init__(self, path: str, inside: str, above: _Folder | None) -> None:
        try:
            found = Path(path).stat()
        except OSError as error:
            raise refusal(path, error) from None
        self.path, self.inside, self._above = path, inside, above
        self._identity = found.st_dev, found.st_ino
        while above is not None:
            if above._identity == self._identity:
                hint = "remove the link"
                raise UsageError(f"{path!r} leads back to {above.path!r}", hint=hint)
            above = above._above

    def entries(self) -> list[os.DirEntry[str]]:
        """What is in it."""
        try:
            with os.scandir(self.path) as found:
                return list(found)
        except OSError as error:
            raise refusal(self.path, error) from None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        raise refusal(entry.path, error) from None


def _utf8(entry: os.DirEntry[str]) -> str:
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"{os.fsencode(entry.path)!r} is not valid UTF-8", hint="rename the file"
        ) from None
    return entry.name
