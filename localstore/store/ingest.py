"""Takes files into the store: read once, cut, known again or sealed, durable when it returns.

The order that keeps a collector harmless without a lock: objects are pinned or made, then referred
to durably, then looked for once more; what is missing by then is stored anew.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from localstore import crypto
from localstore.errors import StoreError
from localstore.format.manifest import Entry, Part, check_path, encode_index, encode_pages, in_order
from localstore.store.chunks import SMALL_BYTES, ChunkIndex, Cutter
from localstore.store.filecache import Facts, FileCache
from localstore.store.objects import ObjectFiles
from localstore.store.sealing import Sealer, Slot, thread_count
from localstore.store.sources import Source, look, open_file, unstable
from localstore.store.streams import Slabs, Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from localstore.project import Project

_ROUNDS: Final = 3
_TRIES: Final = 3
_FAN: Final = 10_000  # pages that one page lists: 700 KB
_THREADS_FROM_BYTES: Final = 4 * 1024 * 1024


@dataclass(slots=True)
class _Taken:
    """A source that was read, and the pieces of chunks that it is: (slot, offset, length)."""

    source: Source
    hash: bytes
    size: int
    facts: Facts | None = None  # of a file that had settled before it was read
    pieces: list[tuple[Slot, int, int]] = field(default_factory=list)

    def entry(self) -> Entry:
        parts = tuple(Part(s.object_id, s.key, at, length) for s, at, length in self.pieces)
        return Entry(self.source.path, self.size, self.hash, parts)


class Ingest:
    """Takes files of one class into one project.

    Attributes:
        changed: paths of files that were not as their sources' `expected` said.
    """

    def __init__(
        self,
        project: Project,
        data_class: int,
        *,
        refer: Callable[[Sequence[bytes]], None],
        rehash: bool = False,
        progress: Callable[[int], None] | None = None,
        chunking: str = "cdc",
    ) -> None:
        """Nothing is read or written before `run`.

        Args:
            refer: makes REF frames for these object ids durable; called in the caller's thread.
            rehash: read every file, also those that look as they were.
            progress: told of bytes that were read or recognised.
            chunking: "cdc" follows the content; "fixed" cuts every 4 MiB.

        Raises:
            UsageError: an unknown chunking.
        """
        self.changed: list[str] = []
        self._project, self._class, self._refer = project, int(data_class), refer
        self._rehash, self._progress = rehash, progress or (lambda _count: None)
        self._seed, self._chunking = project.chunker_seed(), chunking
        self._cutter = Cutter(self._seed, chunking)
        self._objects = ObjectFiles(project.paths)
        self._index = ChunkIndex(project)
        self._cache = FileCache(project, data_class)

    def run(self, sources: Iterable[Source]) -> list[Entry]:
        """Take all sources; every object is durable and referred to.

        Returns:
            One entry for each source, by path.

        Raises:
            BadName, UsageError: a path breaks the rules, stands twice, or a file is no regular one
                or never holds still.
            NotFound, NotPermitted: a file is missing or cannot be read.
            StoreError: the disk refused, or objects vanish as fast as they are stored.
        """
        named = list(sources)
        in_order(Entry(check_path(source.path), None, b"", ()) for source in named)
        entries: dict[str, Entry] = {}
        todo = sorted(named, key=lambda source: source.path.encode())
        for attempt in range(_ROUNDS):
            entries |= self._take(todo, trust=not (self._rehash or attempt))
            gone = self._gone(entries.values())
            todo = [one for one in todo if _uses(entries[one.path], gone)]
            if not todo:
                self._index.save()
                self._cache.save()
                return in_order(entries.values())
        raise StoreError("objects vanish from the store while it is written")

    def store_manifest(self, entries: Iterable[Entry]) -> tuple[bytes, bytes]:
        """Store the pages of a version; all objects are durable and referred to.

        Returns:
            Id and key of the first page's object.

        Raises:
            UsageError: a path stands twice, or a file has too many parts for a page.
            StoreError: the disk refused.
        """
        found = self._store_pages(encode_pages(entries))
        while len(found) > 1:
            index = [encode_index(found[at : at + _FAN]) for at in range(0, len(found), _FAN)]
            found = self._store_pages(index)
        return found[0]

    def _store_pages(self, pages: list[bytes]) -> list[tuple[bytes, bytes]]:
        for _ in range(_ROUNDS):
            with Sealer(self._project, self._class, self._index, self._refer) as sealer:
                slots = [Slot(len(page)) for page in pages]
                for page, slot in zip(pages, slots, strict=True):
                    sealer.seal(memoryview(page), slot)
                sealer.finish()
            if all(self._objects.has(slot.object_id) for slot in slots):
                self._index.save()
                return [(slot.object_id, slot.key) for slot in slots]
        raise StoreError("objects vanish from the store while it is written")

    def _gone(self, entries: Iterable[Entry]) -> set[bytes]:
        ids = {part.object_id for entry in entries for part in entry.parts}
        return {object_id for object_id in ids if not self._objects.has(object_id)}

    # -------------------------------------------------------------- one round
    def _take(self, sources: list[Source], *, trust: bool) -> dict[str, Entry]:
        sizes = {source.path: self._size(source) for source in sources}
        threads = thread_count() if sum(sizes.values()) >= _THREADS_FROM_BYTES else 0
        slabs = Slabs(self._cutter.window, threads + 2)
        with Sealer(
            self._project, self._class, self._index, self._refer, threads=threads
        ) as sealer:
            entries = self._known(sources, sealer) if trust else {}
            new = [source for source in sources if source.path not in entries]
            large = [one for one in new if sizes[one.path] >= SMALL_BYTES]
            small = [one for one in new if sizes[one.path] < SMALL_BYTES]
            taken = [self._take_large(one, sizes[one.path], sealer, slabs) for one in large]
            taken += self._take_small(small, sealer, slabs)
            sealer.finish()
        for one in taken:
            entry = entries[one.source.path] = one.entry()
            if one.facts is not None and not isinstance(one.source.file, bytes):
                self._cache.put(_absolute(one.source.file), one.facts, one.hash, entry.parts)
        return entries

    @staticmethod
    def _size(source: Source) -> int:
        if isinstance(source.file, bytes):
            return len(source.file)
        return look(source.file).st_size

    def _known(self, sources: list[Source], sealer: Sealer) -> dict[str, Entry]:
        """Entries of files that are as they were, and whose objects are here."""
        entries = {}
        for source in sources:
            if isinstance(source.file, bytes):
                continue
            facts = Facts.of(look(source.file))
            known = self._cache.get(_absolute(source.file), facts)
            if known is not None and all(sealer.rely(part.object_id) for part in known[1]):
                self._tell(source, facts)
                self._progress(facts.size)
                entries[source.path] = Entry(source.path, facts.size, *known)
        return entries

    def _tell(self, source: Source, facts: Facts) -> None:
        if source.differs(facts) and source.path not in self.changed:
            self.changed.append(source.path)

    def _take_large(self, source: Source, size: int, sealer: Sealer, slabs: Slabs) -> _Taken:
        for _ in range(_TRIES):
            stream = Stream(Cutter(self._seed, self._chunking, size=size), sealer, slabs)
            taken = self._read(source, stream)
            slots = stream.finish()
            if taken is not None:
                taken.pieces = [(slot, 0, slot.length) for slot in slots]
                return taken
        raise unstable(source)

    def _take_small(self, sources: list[Source], sealer: Sealer, slabs: Slabs) -> list[_Taken]:
        stream = Stream(self._cutter, sealer, slabs)
        taken = [self._read_whole(source, stream) for source in sources]
        _lay_out(taken, stream.finish())
        return taken

    def _read(self, source: Source, stream: Stream) -> _Taken | None:
        """Read a source into a stream; None when it changed meanwhile."""
        hasher = crypto.content_hasher()
        if isinstance(source.file, bytes):
            hasher.update(source.file)
            stream.write(source.file)
            self._progress(len(source.file))
            return _Taken(source, hasher.digest(), len(source.file))
        now = time.time_ns()
        handle, before = open_file(source.file)
        try:
            at = 0
            while at < before.st_size:
                room = stream.room()[: before.st_size - at]
                count = os.preadv(handle, [room], at)
                if not count:
                    break
                hasher.update(room[:count])
                stream.advance(count)
                self._progress(count)
                at += count
            facts = self._same(source, source.file, handle, before)
        finally:
            os.close(handle)
        if facts is None or at != facts.size:
            return None
        return _Taken(source, hasher.digest(), at, facts if facts.settled(now) else None)

    def _read_whole(self, source: Source, stream: Stream) -> _Taken:
        if isinstance(source.file, bytes):
            content, kept = source.file, None
        else:
            content, kept = self._read_small(source, source.file)
        stream.write(content)
        self._progress(len(content))
        return _Taken(source, crypto.content_hash(content), len(content), kept)

    def _read_small(self, source: Source, file: Path) -> tuple[bytes, Facts | None]:
        for _ in range(_TRIES):
            now = time.time_ns()
            handle, before = open_file(file)
            try:
                content = os.pread(handle, before.st_size + 1, 0)
                facts = self._same(source, file, handle, before)
            finally:
                os.close(handle)
            if facts is not None and len(content) == facts.size:
                return content, facts if facts.settled(now) else None
        raise unstable(source)

    def _same(
        self, source: Source, file: Path, handle: int, before: os.stat_result
    ) -> Facts | None:
        """The facts of a file that was read, if they are still those from before."""
        facts = Facts.of(before)
        if Facts.of(os.fstat(handle)) != facts or Facts.of(look(file)) != facts:
            return None
        self._tell(source, facts)
        return facts


def _absolute(file: Path) -> str:
    return str(file.absolute())


def _uses(entry: Entry, gone: set[bytes]) -> bool:
    return any(part.object_id in gone for part in entry.parts)


def _lay_out(taken: list[_Taken], slots: list[Slot]) -> None:
    """Say which pieces of chunks each of the files is that were laid end to end."""
    at = used = 0
    for one in taken:
        left = one.size
        while left:
            slot = slots[at]
            length = min(left, slot.length - used)
            one.pieces.append((slot, used, length))
            left, used = left - length, used + length
            if used == slot.length:
                at, used = at + 1, 0
