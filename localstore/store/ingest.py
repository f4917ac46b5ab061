"""Takes files into the store: read once, cut, known again or sealed, durable when it returns.

The order that keeps a collector harmless without a lock: objects are pinned or made, then referred
to durably, then looked for once more; what is missing by then is stored anew.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from localstore import crypto
from localstore.format.manifest import (
    Entry,
    Part,
    check_path,
    check_paths,
    encode_index,
    encode_pages,
)
from localstore.store.chunks import SMALL_BYTES, ChunkIndex, Cutter
from localstore.store.filecache import Facts, FileCache
from localstore.store.objects import ObjectFiles, vanishing
from localstore.store.sealing import Hand, Sealer, Slot, disk_errors
from localstore.store.sources import Source, hash_zeros, hole_at, look, open_file, refusal, unstable
from localstore.store.streams import Slabs, Stream
from localstore.store.threads import Beside, thread_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from localstore.project import Project

_ROUNDS: Final = 3
_TRIES: Final = 3
_MANIFEST_LEVEL: Final = 3
_FAN: Final = 10_000  # pages that one page lists: 700 KB
_THREADS_FROM_BYTES: Final = 4 * 1024 * 1024


_Seen = tuple[Source, Facts]  # no facts of a content in memory


@dataclass(slots=True)
class _Taken:
    """A source that was read, and the pieces of chunks that it is: (slot, offset, length)."""

    source: Source
    hash: bytes
    size: int
    facts: Facts | None = None  # of a file that had settled before it was read
    pieces: list[tuple[Slot, int, int]] = field(default_factory=list)
    parts: tuple[Part, ...] | None = None  # of a content that is here

    def entry(self) -> Entry:
        parts = self.parts
        if parts is None:
            parts = tuple([Part(s.object_id, s.key, at, size) for s, at, size in self.pieces])
        return Entry(self.source.path, self.size, self.hash, parts)


class Ingest:
    """Takes files of one class into one project.

    Attributes:
        changed: paths of files that were not as their sources' `expected` said.
        new_bytes: of contents in pieces that the store had not; without manifests.
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
        self.new_bytes = 0
        self._project, self._class, self._refer = project, int(data_class), refer
        self._rehash, self._progress = rehash, progress or (lambda _count: None)
        self._seed, self._chunking = project.chunker_seed(), chunking
        self._cutter = Cutter(self._seed, chunking)
        self._objects = ObjectFiles(project.paths)
        self._index = ChunkIndex(project)
        self._cache = FileCache(project, data_class)
        self._pinned: dict[bytes, bool] = {}
        self._folder = str(Path.cwd())
        self._owner = 0
        self._counts: queue.SimpleQueue[int] = queue.SimpleQueue()

    def run(
        self, sources: Iterable[Source], seen: Mapping[str, Facts] | None = None
    ) -> list[Entry]:
        """Take all sources; every object is durable and referred to.

        Args:
            seen: of files that were looked at just now, by their paths in the version.

        Returns:
            One entry for each source, by path.

        Raises:
            BadName, UsageError: a path breaks the rules, stands twice, or a file is no regular one
                or never holds still.
            NotFound, NotPermitted: a file is missing or cannot be read.
            StoreError: the disk refused, or objects vanish as fast as they are stored.
        """
        self._owner = threading.get_ident()
        todo = sorted(sources, key=attrgetter("path"))
        check_paths([check_path(source.path) for source in todo])
        entries: dict[str, Entry] = {}
        sized = [(one, self._look(one, seen or {})) for one in todo]
        for attempt in range(_ROUNDS):
            self._pinned.clear()
            with disk_errors():
                entries |= self._take(sized, trust=not (self._rehash or attempt))
            gone = self._gone(entries.values())
            sized = [one for one in sized if gone and _uses(entries[one[0].path], gone)]
            if not sized:
                self._index.save()
                self._cache.save()
                return sorted(entries.values(), key=attrgetter("path"))
        raise vanishing()

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
            with (
                disk_errors(),
                Sealer(self._project, self._class, self._index, self._refer) as sealer,
            ):
                slots = [Slot(len(page)) for page in pages]
                hand = Hand(self._class, self._project.dedup, _MANIFEST_LEVEL)
                for page, slot in zip(pages, slots, strict=True):
                    sealer.seal(memoryview(page), slot, hand)
                sealer.finish()
            if all(self._objects.has(slot.object_id) for slot in slots):
                self._index.save()
                return [(slot.object_id, slot.key) for slot in slots]
        raise vanishing()

    def _gone(self, entries: Iterable[Entry]) -> set[bytes]:
        ids = {part.object_id for entry in entries for part in entry.parts}
        return {object_id for object_id in ids if not self._objects.has(object_id)}

    # -------------------------------------------------------------- one round
    def _look(self, source: Source, seen: Mapping[str, Facts]) -> Facts:
        if isinstance(source.file, bytes):
            return Facts(len(source.file), 0, 0, 0)
        return seen.get(source.path) or Facts.of(look(source.file))

    def _take(self, sources: list[_Seen], *, trust: bool) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        large = [one for one in sources if one[1].size >= SMALL_BYTES]
        small = [one for one in sources if one[1].size < SMALL_BYTES]
        taken = self._take_new(
            list(self._unknown(large, entries, trust=trust)),
            self._unknown(small, entries, trust=trust),
        )
        while taken:
            one = taken.pop()  # what it holds is free for the entry that comes of it
            entry = entries[one.source.path] = one.entry()
            self._cache.put_parts(one.hash, entry.parts)
            if one.facts is not None and not isinstance(one.source.file, bytes):
                self._cache.put_path(self._absolute(one.source.file), one.facts, one.hash)
        held = [object_id for object_id, here in self._pinned.items() if here]
        if held:
            self._refer(held)
        return entries

    def _unknown(
        self, sources: Iterable[_Seen], entries: dict[str, Entry], *, trust: bool
    ) -> Iterator[tuple[Source, int]]:
        """Sources that must be read, with their sizes; the others become entries."""
        for source, facts in sources:
            if isinstance(source.file, bytes):
                yield source, len(source.file)
                continue
            known = self._known(source.path, source.file, facts) if trust else None
            if known is None:
                yield source, facts.size
                continue
            entries[source.path] = known
            self._tell(source, facts)
            self._advance(facts.size)

    def _known(self, path: str, file: str | Path, facts: Facts) -> Entry | None:
        """The entry of a file that is as it was, and whose objects are here."""
        content_hash = self._cache.hash_of(self._absolute(file), facts)
        parts = self._here(content_hash) if content_hash else None
        if content_hash is None or parts is None:
            return None
        return Entry(path, facts.size, content_hash, parts)

    def _here(self, content_hash: bytes) -> tuple[Part, ...] | None:
        """The parts of a content that was stored before, pinned."""
        parts = self._cache.parts_of(content_hash)
        for part in parts or ():
            here = self._pinned.get(part.object_id)
            if here is None:
                here = self._objects.pin(part.object_id) is not None
                self._pinned[part.object_id] = here
            if not here:
                return None
        return parts

    def _take_new(
        self, large: list[tuple[Source, int]], small: Iterable[tuple[Source, int]]
    ) -> list[_Taken]:
        """Read sources, of these sizes, and have their chunks sealed; small ones beside large."""
        total = sum(size for _, size in large)
        if total < _THREADS_FROM_BYTES:
            small = list(small)
            total += sum(size for _, size in small)
        threads = thread_count() if total >= _THREADS_FROM_BYTES else 0
        slabs = Slabs(self._cutter.window, threads + 3)
        with Sealer(
            self._project, self._class, self._index, self._refer, threads=threads
        ) as sealer:
            beside = Beside(
                lambda: self._take_small(small, sealer, slabs), alone=not (large and threads)
            )
            with beside:
                taken = [self._take_large(source, size, sealer, slabs) for source, size in large]
                taken += beside.result()
            sealer.finish()
        self._report()
        self.new_bytes += sealer.new_bytes
        return taken

    def _advance(self, count: int) -> None:
        """So many bytes are done; told in the thread that called `run`."""
        self._counts.put(count)
        if threading.get_ident() == self._owner:
            self._report()

    def _report(self) -> None:
        while not self._counts.empty():
            self._progress(self._counts.get())

    def _absolute(self, file: str | Path) -> str:
        name = str(file)
        return name if name.startswith("/") else f"{self._folder}/{name}"

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

    def _take_small(
        self, sources: Iterable[tuple[Source, int]], sealer: Sealer, slabs: Slabs
    ) -> list[_Taken]:
        stream = Stream(self._cutter, sealer, slabs)
        taken = []
        for source, _ in sources:
            if sealer.failed:
                break
            taken.append(self._read_whole(source, stream))
        _lay_out(taken, stream.finish())
        return taken

    def _read(self, source: Source, stream: Stream) -> _Taken | None:
        """Read a source into a stream; None when it changed meanwhile."""
        hasher = crypto.content_hasher()
        if isinstance(source.file, bytes):
            hasher.update(source.file)
            stream.write(source.file)
            self._advance(len(source.file))
            return _Taken(source, hasher.digest(), len(source.file))
        now = time.time_ns()
        handle, before = open_file(source.file)
        try:
            at = self._read_all(handle, before, stream, hasher)
            facts = self._same(source, source.file, before)
        except OSError as error:
            raise refusal(source.file, error) from None
        finally:
            os.close(handle)
        if facts is None or at != facts.size:
            return None
        return _Taken(source, hasher.digest(), at, facts if facts.settled(now) else None)

    def _read_all(
        self, handle: int, found: os.stat_result, stream: Stream, hasher: crypto.Hasher
    ) -> int:
        """Read an open file into a stream; holes are not read. How many bytes it has."""
        at, sparse = 0, found.st_blocks * 512 < found.st_size
        while at < found.st_size:
            skipped = 0
            if sparse:
                begin = at - stream.pending
                hole = hole_at(handle, begin, found.st_size)
                skipped = max(0, begin + stream.zeros(hole) - at) if hole > SMALL_BYTES else 0
            if skipped:
                hash_zeros(hasher, skipped)
                count = skipped
            else:
                room = stream.room()[: found.st_size - at]
                count = os.preadv(handle, [room], at)
                hasher.update(room[:count])
                stream.advance(count)
            if not count:
                break
            self._advance(count)
            at += count
        return at

    def _read_whole(self, source: Source, stream: Stream) -> _Taken:
        if isinstance(source.file, bytes):
            content, kept = source.file, None
        else:
            content, kept = self._read_small(source, source.file)
        one = _Taken(source, crypto.content_hash(content), len(content), kept)
        one.parts = self._here(one.hash)
        if one.parts is None:
            stream.write(content)
        self._advance(len(content))
        return one

    def _read_small(self, source: Source, file: str | Path) -> tuple[bytes, Facts | None]:
        for _ in range(_TRIES):
            now = time.time_ns()
            handle, before = open_file(file)
            try:
                content = os.pread(handle, before.st_size + 1, 0)
                facts = self._same(source, file, before)
            except OSError as error:
                raise refusal(file, error) from None
            finally:
                os.close(handle)
            if facts is not None and len(content) == facts.size:
                return content, facts if facts.settled(now) else None
        raise unstable(source)

    def _same(self, source: Source, file: str | Path, before: os.stat_result) -> Facts | None:
        """The facts of a file that was read, if those under its name are still the same."""
        facts = Facts.of(before)
        if Facts.of(look(file)) != facts:
            return None
        self._tell(source, facts)
        return facts


def _uses(entry: Entry, gone: set[bytes]) -> bool:
    return any(part.object_id in gone for part in entry.parts)


def _lay_out(taken: list[_Taken], slots: list[Slot]) -> None:
    """Say which pieces of chunks each of the files is that were laid end to end."""
    at = used = 0
    for one in taken:
        left = one.size if one.parts is None else 0
        while left:
            slot = slots[at]
            length = min(left, slot.length - used)
            one.pieces.append((slot, used, length))
            left, used = left - length, used + length
            if used == slot.length:
                at, used = at + 1, 0
