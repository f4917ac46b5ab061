"""One look at a watched folder: which files and folders are meant, and what tells a changed one.

Reads names and facts, never contents. Symbolic links are not followed, so that nothing outside the
folder is ever taken; every step down opens the folder itself, not its path.
"""

from __future__ import annotations

import os
import stat as stat_module
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, NamedTuple

from localstore.store.filecache import Facts
from localstore.watching.patterns import MAX_PARTS, marker_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from localstore.watching.patterns import Pattern

MOST_ENTRIES: Final = 200_000  # of one folder that are looked at; a bound, not a promise
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Stamp(NamedTuple):
    """What tells a changed file from one that is as it was, and which file it is."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> Stamp:
        """The stamp in a stat."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    @property
    def facts(self) -> Facts:
        """The same for the store."""
        return Facts(self.size, self.mtime_ns, self.inode, self.ctime_ns)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file or a folder that may become a version.

    Attributes:
        name: path below the watched folder, with `/`.
        files: path in the version and stamp of each file; one file stands under its own name.
        folder: whether it is a folder.
        complete: whether its marker is there; None where none is asked for.
        problem: why it is not taken as it stands, empty when all is well.
    """

    name: str
    files: tuple[tuple[str, Stamp], ...]
    folder: bool = False
    complete: bool | None = None
    problem: str = ""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(stamp.size for _, stamp in self.files)

    @property
    def newest_ns(self) -> int:
        """When the newest of its files was changed, Unix time in ns."""
        return max((stamp.mtime_ns for _, stamp in self.files), default=0)

    def path_of(self, inside: str) -> str:
        """Path below the watched folder of one of its files."""
        return f"{self.name}/{inside}" if self.folder else self.name


@dataclass(slots=True)
class Look:
    """What one look saw.

    Attributes:
        candidates: by name. problems: folders that could not be listed, with the reason.
    """

    candidates: dict[str, Candidate] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    entries: int = 0


def look(root: str, pattern: Pattern, marker: str = "") -> Look:
    """Look at the whole folder.

    Args:
        marker: template of the file that says that something is complete; empty for none.

    Raises:
        OSError: `root` is not there, is no folder, or cannot be listed.
    """
    seen = Look()
    with _opened(root) as handle:
        _Walk(seen, pattern, marker).down(handle, ())
    return seen


def look_again(root: str, candidate: Candidate) -> bool:
    """Whether every file of a candidate is as it was, and a folder has no others."""
    parts = candidate.name.split("/")
    try:
        with _opened(root) as handle, _below(handle, parts[:-1]) as parent:
            if not candidate.folder:
                now = os.stat(parts[-1], dir_fd=parent, follow_symlinks=False)
                return candidate.files == ((parts[-1], Stamp.of(now)),)
            with _below(parent, parts[-1:]) as folder:
                files, _, problem = _files_of(folder)
                return not problem and candidate.files == tuple(sorted(files.items()))
    except OSError:
        return False


@contextmanager
def _opened(path: str, parent: int | None = None) -> Iterator[int]:
    handle = os.open(path, _FOLDER, dir_fd=parent)
    try:
        yield handle
    finally:
        os.close(handle)


@contextmanager
def _below(handle: int, parts: list[str]) -> Iterator[int]:
    """A folder below an open one, without passing a link."""
    if not parts:
        yield handle
        return
    with _opened(parts[0], handle) as inner, _below(inner, parts[1:]) as last:
        yield last


class _Walk:
    """Down from the watched folder, only where the pattern leads."""

    def __init__(self, seen: Look, pattern: Pattern, marker: str) -> None:
        self._seen, self._pattern, self._marker = seen, pattern, marker

    def down(self, handle: int, path: tuple[str, ...]) -> None:
        with os.scandir(handle) as found:
            entries = {entry.name: entry for entry in found}
        self._seen.entries += len(entries)
        if self._seen.entries > MOST_ENTRIES:
            self._seen.problems["/".join(path)] = f"more than {MOST_ENTRIES:,} names"
            return
        for name, entry in entries.items():
            here = (*path, name)
            if self._pattern.fits(here) and not self._pattern.refuses(name):
                self._meant(handle, here, entry, entries)
            elif self._leads(entry, here):
                with self._guarded(here), _opened(name, handle) as inner:
                    self.down(inner, here)

    def _leads(self, entry: os.DirEntry[str], path: tuple[str, ...]) -> bool:
        shallow = len(path) < MAX_PARTS and not self._pattern.refuses(entry.name)
        return shallow and entry.is_dir(follow_symlinks=False) and self._pattern.leads_to(path)

    @contextmanager
    def _guarded(self, path: tuple[str, ...]) -> Iterator[None]:
        """What cannot be listed is told; what vanished meanwhile is not."""
        try:
            yield
        except FileNotFoundError:
            pass
        except OSError as error:
            self._seen.problems["/".join(path)] = error.strerror or str(error)

    def _meant(
        self,
        handle: int,
        path: tuple[str, ...],
        entry: os.DirEntry[str],
        beside: dict[str, os.DirEntry[str]],
    ) -> None:
        with self._guarded(path):
            if self._pattern.folders and entry.is_dir(follow_symlinks=False):
                with _opened(entry.name, handle) as inner:
                    self._add(_folder("/".join(path), inner, self._marker))
            elif not self._pattern.folders and entry.is_symlink():
                self._add(
                    Candidate("/".join(path), (), problem="a link, and links stay where they are")
                )
            elif not self._pattern.folders and entry.is_file(follow_symlinks=False):
                self._add(_file("/".join(path), entry, beside, self._marker))
            elif self._leads(entry, path):
                with _opened(entry.name, handle) as inner:
                    self.down(inner, path)

    def _add(self, candidate: Candidate) -> None:
        self._seen.candidates[candidate.name] = candidate


def _file(
    path: str, entry: os.DirEntry[str], beside: dict[str, os.DirEntry[str]], marker: str
) -> Candidate:
    stamp = Stamp.of(entry.stat(follow_symlinks=False))
    complete = None
    if marker:
        other = beside.get(marker_of(marker, entry.name))
        complete = other is not None and _not_older(other, stamp.mtime_ns)
    return Candidate(path, ((entry.name, stamp),), complete=complete, problem=_odd(entry.name))


def _not_older(marker: os.DirEntry[str], mtime_ns: int) -> bool:
    """A marker that was there before the content was written again says nothing of it."""
    try:
        return marker.stat(follow_symlinks=False).st_mtime_ns >= mtime_ns
    except OSError:
        return False


def _folder(path: str, handle: int, marker: str) -> Candidate:
    files, entries, problem = _files_of(handle)
    name = path.rpartition("/")[2]
    complete = None
    if marker:
        wanted = marker_of(marker, name)
        markers = [stamp for file, stamp in files.items() if fnmatchcase(file, wanted)]
        others = [stamp.mtime_ns for file, stamp in files.items() if not fnmatchcase(file, wanted)]
        complete = any(stamp.mtime_ns >= max(others, default=0) for stamp in markers)
    if entries > MOST_ENTRIES:
        problem = f"more than {MOST_ENTRIES:,} names"
    return Candidate(path, tuple(sorted(files.items())), True, complete, problem or _odd(name))


def _files_of(handle: int) -> tuple[dict[str, Stamp], int, str]:
    """Files below a folder by path, how many names there are, and why it is not taken."""
    files: dict[str, Stamp] = {}
    problem, count = "", 0
    waiting: list[tuple[str, ...]] = [()]
    while waiting and count <= MOST_ENTRIES:
        path = waiting.pop()
        with _below(handle, list(path)) as folder, os.scandir(folder) as found:
            for entry in found:
                count += 1
                inside = (*path, entry.name)
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(inside)
                    continue
                info = entry.stat(follow_symlinks=False)
                problem = problem or _odd(entry.name) or _kind_problem(info, entry.name)
                files["/".join(inside)] = Stamp.of(info)
    return files, count, problem


def _kind_problem(found: os.stat_result, name: str) -> str:
    if stat_module.S_ISREG(found.st_mode):
        return ""
    what = "a link" if stat_module.S_ISLNK(found.st_mode) else "no regular file"
    return f"{os.fsencode(name)!r} in it is {what}"


def _odd(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        return f"{os.fsencode(name)!r} is not valid UTF-8"
    return ""
