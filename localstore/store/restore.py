"""Puts the files of a version into a folder, checked, and never anywhere else.

A manifest may come from a hostile device: paths are checked, and no symbolic link below the folder
is followed. Every file is written under a temporary name and gets its own when its hash fits.
"""

from __future__ import annotations

import queue
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from localstore import crypto
from localstore.errors import Forged, LocalStoreError, StoreError, UsageError
from localstore.format.manifest import Entry, check_path, in_order
from localstore.store.chunks import SMALL_BYTES
from localstore.store.objects import ObjectFiles
from localstore.store.opening import Objects
from localstore.store.placing import Names, Writer, check_size
from localstore.store.room import check_room
from localstore.store.threads import start, thread_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from localstore.project import Project

_TASK_FILES: Final = 500  # small ones, for one thread
_THREADS_FROM_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Restored:
    """What was done.

    Attributes:
        files: written now. kept: were there already, the same.
        size: bytes of all of these.
        references: entries that stand for something elsewhere; nothing was written for them.
    """

    files: int
    kept: int
    size: int
    references: tuple[Entry, ...]


def restore(
    project: Project,
    entries: Iterable[Entry],
    root: Path,
    *,
    path_prefix: str = "",
    progress: Callable[[int], None] | None = None,
) -> Restored:
    """Put files below `root`, which is made when it is not there.

    A file that is there with the same content is left alone; another one is replaced. What is
    whole is written even if other files are damaged; then the first problem is raised.

    Args:
        path_prefix: only paths that begin with it.
        progress: told of bytes that are written, or were there.

    Raises:
        BadName, UsageError: a path that leads out of `root`, a symbolic link or folder in the way,
            or two paths that are one on this file system.
        NotFound: an object is not here.
        Damaged, Forged: an object's or a file's bytes are wrong.
        StoreError: the disk refused.
    """
    wanted = [entry for entry in entries if entry.path.startswith(path_prefix)]
    for entry in wanted:
        check_path(entry.path)
    files = [entry for entry in in_order(wanted) if not entry.uri]
    references = tuple(entry for entry in in_order(wanted) if entry.uri)
    try:
        work = _Work(ObjectFiles(project.paths), root, files, progress)
        written = work.do(files)
    except OSError as error:
        raise StoreError(f"cannot restore into {str(root)!r}: {error}") from error
    total = sum(entry.size or 0 for entry in files)
    return Restored(written, len(files) - written, total, references)


class _Work:
    """Restores files: large ones one by one, objects opened ahead; small ones beside them."""

    def __init__(
        self,
        files: ObjectFiles,
        root: Path,
        entries: list[Entry],
        progress: Callable[[int], None] | None,
    ) -> None:
        self._files, self._root, self._names = files, root, Names(entries)
        self._progress = progress or (lambda _count: None)
        self._problems: list[LocalStoreError] = []
        self._error: BaseException | None = None
        self._done: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._tasks: queue.SimpleQueue[list[Entry]] = queue.SimpleQueue()

    def do(self, entries: list[Entry]) -> int:
        """Write what is not there yet; how many files that was.

        Raises:
            OSError: the disk refused.
            LocalStoreError: the first problem of a file, when all others are written.
        """
        empty = not (self._root.is_dir() and any(self._root.iterdir()))
        writer = Writer(self._root, self._names)
        try:
            todo = [entry for entry in entries if empty or not self._is_there(writer, entry)]
            check_room(self._files, todo, self._root)
            small = [entry for entry in todo if self._is_small(entry)]
            with self._beside(_by_object(small)):
                self._write_large(writer, [entry for entry in todo if not self._is_small(entry)])
                self._write_tasks(report=True)
        finally:
            writer.close()
        self._report()
        if self._error is not None:
            raise self._error
        if self._problems:
            note = f"{len(self._problems)} of {len(entries)} files were not restored"
            self._problems[0].add_note(note)
            raise self._problems[0]
        return len(todo)

    def _is_there(self, writer: Writer, entry: Entry) -> bool:
        there = writer.holds(entry)
        if there:
            self._progress(entry.size or 0)
        return there

    def _is_small(self, entry: Entry) -> bool:
        # What another name may be taken for is written by one thread, in order.
        return (entry.size or 0) < SMALL_BYTES and entry not in self._names

    def _write_large(self, writer: Writer, entries: list[Entry]) -> None:
        total = sum(entry.size or 0 for entry in entries)
        threads = thread_count() if total >= _THREADS_FROM_BYTES else 0
        coming = (part for entry in entries for part in entry.parts)
        with Objects(self._files, coming, threads=threads) as objects:
            for entry in entries:
                self._write(writer, entry, self._told(map(objects.piece, entry.parts)))

    @contextmanager
    def _beside(self, small: list[Entry]) -> Iterator[None]:
        """Have small files written by other threads meanwhile."""
        for at in range(0, len(small), _TASK_FILES):
            self._tasks.put(small[at : at + _TASK_FILES])
        helpers = min(thread_count(), -(-len(small) // _TASK_FILES)) - 1
        threads = start([self._write_tasks] * helpers)
        try:
            yield
        except BaseException as error:
            self._error = error
            raise
        finally:
            for thread in threads:
                thread.join()

    def _write_tasks(self, *, report: bool = False) -> None:
        try:
            writer = Writer(self._root, self._names)
            try:
                with Objects(self._files, ()) as objects:
                    while self._error is None:
                        for entry in self._tasks.get_nowait():
                            if self._write(writer, entry, map(objects.piece, entry.parts)):
                                self._done.put(entry.size or 0)
                        if report:
                            self._report()
            finally:
                writer.close()
        except queue.Empty:
            return
        except BaseException as error:  # noqa: BLE001 - it belongs to the caller's thread
            self._error = self._error or error

    def _write(
        self, writer: Writer, entry: Entry, pieces: Iterable[tuple[memoryview, bool]]
    ) -> bool:
        try:
            writer.write(entry, pieces)
        except LocalStoreError as problem:
            problem.add_note(f"file: {entry.path}")
            self._problems.append(problem)
            return False
        return True

    def _told(self, pieces: Iterable[tuple[memoryview, bool]]) -> Iterator[tuple[memoryview, bool]]:
        """The same pieces; `progress` hears of each, in the caller's thread."""
        for piece, zero in pieces:
            yield piece, zero
            self._progress(len(piece))

    def _report(self) -> None:
        while not self._done.empty():
            self._progress(self._done.get())


def _by_object(entries: list[Entry]) -> list[Entry]:
    """Files that share an object one after the other, so that it is opened once."""
    place: dict[bytes, int] = {}
    for entry in entries:
        for part in entry.parts:
            place.setdefault(part.object_id, len(place))

    def order(entry: Entry) -> tuple[int, int]:
        if not entry.parts:
            return -1, 0
        return place[entry.parts[0].object_id], entry.parts[0].offset

    return sorted(entries, key=order)


# ------------------------------------------------------------------ one file
def open_file(project: Project, entry: Entry) -> Iterator[memoryview]:
    """The content of one file, piece by piece.

    Each piece is checked against its object; that all pieces are the file is known at the end.

    Raises:
        UsageError: the entry is a reference.
        NotFound: an object is not here.
        Damaged, Forged: bytes are wrong; whoever used earlier pieces must forget them.
    """
    if entry.uri:
        raise UsageError(f"{entry.path!r} is a reference to {entry.uri!r}, not stored here")
    return _pieces(ObjectFiles(project.paths), entry)


def _pieces(files: ObjectFiles, entry: Entry) -> Iterator[memoryview]:
    check_size(entry)
    hasher = crypto.content_hasher()
    with Objects(files, ()) as objects:
        for part in entry.parts:
            piece, _ = objects.piece(part)
            hasher.update(piece)
            yield piece
    if not crypto.same(hasher.digest(), entry.hash):
        raise Forged(f"{entry.path!r} has other bytes than its hash says")


def read_file(project: Project, entry: Entry) -> bytes:
    """The whole content of one file, checked; for files that fit into memory.

    Raises:
        UsageError, NotFound, Damaged, Forged: as `open_file`.
    """
    return b"".join(open_file(project, entry))
