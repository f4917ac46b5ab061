"""What a version shall hold, collected piece by piece before it is logged.

Errors come when a thing is named, as far as a look at the disk tells in a few milliseconds. Nothing
is copied to disk: small files are read at once, so that a later change cannot alter the version;
great ones are remembered as they were, and a change is told.
"""

from __future__ import annotations

import os
import threading
import weakref
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from localstore.artifacts.references import FileReference, files_of
from localstore.errors import NotFound, UsageError
from localstore.format.manifest import Entry, check_path, check_paths
from localstore.store.filecache import Facts
from localstore.store.sources import Source, look, open_file, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MEMORY_BYTES: Final = 32 * 1024 * 1024  # of small files of all drafts of this process
_SMALL_BYTES: Final = 8 * 1024 * 1024
_AT_ONCE: Final = 500  # files of a folder that are looked at when it is named


class _Budget:
    """How much content the drafts of this process hold in memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.used = 0

    def take(self, size: int) -> bool:
        with self._lock:
            fits = self.used + size <= MEMORY_BYTES
            self.used += size if fits else 0
            return fits

    def give(self, size: int) -> None:
        with self._lock:
            self.used -= size


_budget = _Budget()


class _Held:
    """The share of one draft; given back once, at the latest with the draft."""

    def __init__(self) -> None:
        self._bytes = 0

    def take(self, size: int) -> bool:
        taken = _budget.take(size)
        self._bytes += size if taken else 0
        return taken

    def release(self) -> None:
        _budget.give(self._bytes)
        self._bytes = 0


@dataclass(slots=True)
class _Folder:
    """A folder whose files are found when the version is made."""

    prefix: str
    root: Path
    removed: list[str] = field(default_factory=list)

    def sources(self) -> list[Source]:
        found = [Source(self.prefix + path, file) for path, file in walk(self.root)]
        for gone in self.removed:
            found = [source for source in found if not _within(source.path, gone)]
        return found


@dataclass(frozen=True, slots=True)
class Gathered:
    """A draft in full.

    Attributes:
        sources: what must be read. ready: what needs no reading.
        facts: of each source that is a file, by its path in the version.
        total_bytes: of all sources.
    """

    sources: list[Source]
    ready: list[Entry]
    facts: dict[str, Facts]
    total_bytes: int

    @property
    def count(self) -> int:
        """How many files and references."""
        return len(self.sources) + len(self.ready)


_Item = Source | Entry | FileReference


class Draft:
    """Files, folders, references and contents by their path in the version."""

    def __init__(self) -> None:
        self._items: dict[str, _Item] = {}
        self._folders: list[_Folder] = []
        self._trees: list[tuple[str, FileReference]] = []
        self._held = _Held()
        self.frozen = False
        weakref.finalize(self, self._held.release)

    # -------------------------------------------------------------- collecting
    def add_file(
        self, file: Path, path: str, *, snapshot: bool = True, overwrite: bool = False
    ) -> None:
        """One file.

        Args:
            snapshot: whether a small one is read at once.
            overwrite: replace what has this path.

        Raises:
            UsageError, NotFound, NotPermitted: the path is taken or no path; the file is missing,
                no regular file, or cannot be read.
        """
        facts = look(file)
        self._put(path, self._source(path, file.absolute(), facts, snapshot), overwrite=overwrite)

    def _source(self, path: str, file: Path, facts: os.stat_result, snapshot: bool) -> Source:
        small = snapshot and facts.st_size <= _SMALL_BYTES
        if small and self._held.take(facts.st_size):
            content = read_file(file, facts.st_size)
            if len(content) == facts.st_size:
                return Source(path, content)
        handle, facts = open_file(file)  # whether it can be read is asked now
        os.close(handle)
        return Source(path, file, facts)

    def add_folder(self, root: Path, prefix: str) -> None:
        """All files below a folder; of a great one they are found when the version is made.

        Raises:
            UsageError, NotFound, NotPermitted: no folder; or what `walk` refuses, if it is small.
        """
        if prefix:
            check_path(prefix)
        folder = _Folder(f"{prefix}/" if prefix else "", root.absolute())
        if not root.is_dir() or _count(root, _AT_ONCE) <= _AT_ONCE:
            self._check_open()
            for path, file in walk(folder.root):
                name = check_path(folder.prefix + path)
                self._items[name] = self._source(name, Path(file), look(file), True)
        else:
            self._check_open()
            self._folders.append(folder)

    def add_content(self, path: str, content: bytes, *, overwrite: bool = False) -> None:
        """A file that exists nowhere but here.

        Raises:
            UsageError: the path is taken, or no path.
        """
        self._put(path, Source(path, content), overwrite=overwrite)

    def add_reference(self, path: str, reference: Entry | FileReference) -> None:
        """Something that stays where it is.

        Raises:
            UsageError: the path is taken, or no path.
        """
        if isinstance(reference, FileReference) and reference.target.is_dir():
            self._check_open()
            self._trees.append((check_path(path) if path else "", reference))
        else:
            self._put(path, reference)

    def keep(self, entries: Iterable[Entry]) -> None:
        """Files of an earlier version, whose bytes are in the store."""
        self._items |= {entry.path: entry for entry in entries}

    def _put(self, path: str, item: _Item, *, overwrite: bool = False) -> None:
        self._check_open()
        check_path(path)
        if path in self._items and not overwrite:
            raise UsageError(
                f"{path!r} is in this artifact already", hint="overwrite=True replaces it"
            )
        above = path.rpartition("/")[0]
        while above:
            if above in self._items:
                raise UsageError(f"{above!r} is a file of this artifact, and {path!r} is below it")
            above = above.rpartition("/")[0]
        self._items[path] = item

    def _check_open(self) -> None:
        if self.frozen:
            raise UsageError(
                "this artifact is logged; its content cannot change",
                hint="new_draft() makes a copy that can",
            )

    def remove(self, path: str) -> None:
        """Take back a file, or all below a folder.

        Raises:
            NotFound: there is nothing of this path.
        """
        self._check_open()
        path = path.rstrip("/")
        gone = [name for name in self._items if _within(name, path)]
        folders = [one for one in self._folders if _meet(one.prefix, path)]
        if not gone and not folders:
            raise NotFound(f"there is no {path!r} in this artifact")
        for name in gone:
            del self._items[name]
        for folder in folders:
            folder.removed.append(path)

    # -------------------------------------------------------------- in the background
    def gather(self, hash_file: Callable[[Path], tuple[int, bytes]]) -> Gathered:
        """Find what folders hold and look at what references name.

        Raises:
            UsageError, NotFound, NotPermitted, StoreError: names the file that is wrong.
        """
        items: dict[str, _Item] = {
            source.path: source for folder in self._folders for source in folder.sources()
        }
        for prefix, tree in self._trees:
            items |= files_of(prefix, tree)
        items |= self._items
        sources, ready, facts, total = [], list[Entry](), dict[str, Facts](), 0
        for path, item in items.items():
            check_path(path)
            if isinstance(item, FileReference):
                ready.append(item.entry(path, hash_file))
            elif isinstance(item, Entry):
                ready.append(replace(item, path=path))
            elif isinstance(item.file, bytes):
                sources.append(item)
                total += len(item.file)
            else:
                sources.append(item)
                facts[path] = found = Facts.of(look(item.file))
                total += found.size
        check_paths([*(one.path for one in ready), *(one.path for one in sources)])
        sources.sort(key=lambda one: one.path.encode())
        return Gathered(sources, ready, facts, total)

    def release(self) -> None:
        """Forget contents that were held in memory: the version is made."""
        self._items = {path: item for path, item in self._items.items() if _light(item)}
        self._held.release()


def _light(item: _Item) -> bool:
    return not (isinstance(item, Source) and isinstance(item.file, bytes))


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _meet(prefix: str, path: str) -> bool:
    """Whether a folder that was added under `prefix` may hold `path`."""
    return f"{path}/".startswith(prefix) or prefix.startswith(f"{path}/")


def _count(root: Path, enough: int) -> int:
    """How many entries are below a folder; stops counting when there are more than `enough`."""
    waiting, found = [str(root)], 0
    while waiting and found <= enough:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    found += 1
                    if found > enough:
                        break
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except OSError:
            continue  # `walk` will say what is wrong
    return found


def read_file(file: Path, most: int) -> bytes:
    """The content of a regular file, up to one byte more than `most`.

    Raises:
        UsageError, NotFound, NotPermitted, StoreError: see `store.sources.open_file`.
    """
    handle, _ = open_file(file)
    with os.fdopen(handle, "rb") as opened:
        return opened.read(most + 1)
