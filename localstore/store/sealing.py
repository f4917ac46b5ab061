"""Turns chunks into objects, by some threads at once: known again, or sealed and made durable.

Memory is bounded by the slabs that hold chunks: who has none left waits. Groups of new objects
become durable in the background while the next chunks are sealed.
"""

from __future__ import annotations

import queue
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import zstandard

from localstore import crypto
from localstore.errors import LocalStoreError, StoreError
from localstore.format.objects import ObjectSealer
from localstore.store.objects import Group, ObjectFiles
from localstore.store.threads import start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import TracebackType

    from localstore.project import Project
    from localstore.store.chunks import ChunkIndex

_LEVEL: Final = 1
_BATCH_BYTES: Final = 96 * 1024 * 1024
_SAMPLE_BYTES: Final = 16 * 1024  # four of these are tried before a whole chunk is compressed
_WORTH: Final = 0.97


class Slot:
    """The object of one chunk, once it is known."""

    __slots__ = ("key", "length", "object_id")

    def __init__(self, length: int) -> None:
        self.object_id = self.key = b""
        self.length = length


class Slab:
    """A buffer that chunks are views of; goes back when the last of its users lets go."""

    __slots__ = ("_home", "_lock", "_users", "view")

    def __init__(self, size: int, home: queue.SimpleQueue[Slab]) -> None:
        self.view = memoryview(bytearray(size))
        self._home, self._users, self._lock = home, 0, threading.Lock()

    def hold(self) -> None:
        """One more user."""
        with self._lock:
            self._users += 1

    def release(self) -> None:
        """One user less."""
        with self._lock:
            self._users -= 1
            done = self._users == 0
        if done:
            self._home.put(self)


class _Batch:
    """Objects that become durable together, and all ids that were relied on meanwhile."""

    def __init__(self, files: ObjectFiles) -> None:
        self.group = Group(files)
        self.fresh: list[bytes] = []
        self.chunks: list[tuple[bytes, bytes, bytes]] = []
        self.size = self.users = 0


class Hand:
    """What one thread needs to seal chunks of one class, used again for each of them."""

    def __init__(self, data_class: int, dedup_secret: bytes, level: int = _LEVEL) -> None:
        self._sealer = ObjectSealer(data_class, dedup_secret)
        self._compressor = zstandard.ZstdCompressor(level=level, write_content_size=True)

    def seal(self, chunk: memoryview) -> tuple[bytes, bytes, memoryview]:
        """Id, key and bytes of a chunk's object; the bytes until the next call."""
        return self._sealer.seal(chunk, self._compressor if self._worth(chunk) else None)

    def _worth(self, chunk: memoryview) -> bool:
        """Whether samples of a chunk become smaller."""
        size = len(chunk)
        if size <= 4 * _SAMPLE_BYTES:
            return True
        step = size // 4
        sample = b"".join(chunk[at : at + _SAMPLE_BYTES] for at in range(0, 4 * step, step))
        return len(self._compressor.compress(sample)) < _WORTH * len(sample)


@contextmanager
def disk_errors() -> Iterator[None]:
    """Tell errors of the store's disk from those of the files that are read."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"the disk refused an object: {error}",
            hint="nothing was lost; free some space and do it again",
        ) from error


class Sealer:
    """Seals chunks of one class into objects of one project.

    Use as a context manager: leaving it by an error removes what has no name yet.

    Attributes:
        new_bytes: of chunks whose objects were not here.
    """

    def __init__(
        self,
        project: Project,
        data_class: int,
        index: ChunkIndex,
        refer: Callable[[Sequence[bytes]], None],
        *,
        relied: Iterable[bytes] = (),
        threads: int = 0,
    ) -> None:
        """Args:
        refer: called in the caller's thread. relied: ids that are pinned and referred to already.
        threads: 0 seals in the caller's thread.
        """
        self.files, self.new_bytes = ObjectFiles(project.paths), 0
        self._dedup, self._class, self._index = project.dedup, int(data_class), index
        self._refer, self._owner = refer, threading.get_ident()
        self._changed = threading.Condition()
        self._relied = set(relied)
        self._pending: dict[bytes, tuple[bytes, bytes]] = {}
        self._batch = _Batch(self.files)
        self._error: BaseException | None = None
        self._jobs: queue.SimpleQueue[tuple[memoryview, Slot, Slab] | None] = queue.SimpleQueue()
        self._full: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self._durable: queue.SimpleQueue[_Batch] = queue.SimpleQueue()
        self._hand = Hand(self._class, self._dedup)
        self._threads = self._start(threads) if threads else []

    def _start(self, count: int) -> list[threading.Thread]:
        """Threads that seal, and a last one that commits; all or none."""
        threads = start([*[self._seal_jobs] * count, self._commit_batches])
        if len(threads) <= count:
            for _ in threads:
                self._jobs.put(None)
            for thread in threads:
                thread.join()
            return []
        return threads

    def _stop(self, threads: list[threading.Thread]) -> None:
        for _ in threads:
            self._jobs.put(None)
        for thread in threads[:-1]:
            thread.join()
        self._full.put(None)
        if threads:
            threads[-1].join()

    def __enter__(self) -> Sealer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._error = self._error or error
        self._stop(self._threads)
        self._threads = []
        self._batch.group.close()

    @property
    def failed(self) -> bool:
        """Whether nothing more will be sealed."""
        return self._error is not None

    # -------------------------------------------------------------- the caller's threads
    def submit(self, chunk: memoryview, slab: Slab) -> Slot:
        """Have a chunk sealed; its slot is filled when `finish` returns.

        Another thread may submit chunks as well, if there are threads that seal.

        Raises:
            StoreError: the disk refused one of the chunks before.
        """
        self._check()
        slot = Slot(len(chunk))
        if not self._threads:
            with disk_errors():
                self.seal(chunk, slot, self._hand)
        else:
            slab.hold()
            self._jobs.put((chunk, slot, slab))
        if self._batch.size >= _BATCH_BYTES:
            self._close_batch()
        if threading.get_ident() == self._owner:
            self._refer_durable()
        return slot

    def finish(self) -> None:
        """Wait until every slot is filled, and every object durable and referred to.

        Raises:
            StoreError: the disk refused.
        """
        threads, self._threads = self._threads, []
        if threads:
            for _ in threads[:-1]:
                self._jobs.put(None)
            for thread in threads[:-1]:
                thread.join()
            self._full.put(self._batch)
            self._full.put(None)
            threads[-1].join()
            self._batch = _Batch(self.files)
        else:
            self._close_batch()
        self._check()
        self._refer_durable()

    def _close_batch(self) -> None:
        with self._changed:
            batch, self._batch = self._batch, _Batch(self.files)
        if self._threads:
            self._full.put(batch)
        else:
            self._commit(batch)
            self._check()

    def _refer_durable(self) -> None:
        while not self._durable.empty():
            batch = self._durable.get()
            for name, object_id, key in batch.chunks:
                self._index.put(name, object_id, key)
                self._pending.pop(name, None)
            if batch.fresh:
                self._refer(batch.fresh)

    def _check(self) -> None:
        if self._error is not None:
            with disk_errors():
                raise self._error

    # -------------------------------------------------------------- any thread
    def seal(self, chunk: memoryview, slot: Slot, hand: Hand) -> None:
        """Find or make the object of a chunk."""
        name = crypto.chunk_hash(self._dedup, self._class, chunk)
        known = self._pending.get(name) or self._index.get(name)
        if known is not None:
            if self._rely(known[0]):
                slot.object_id, slot.key = known
                return
            self._index.forget(name)
        slot.object_id, slot.key, raw = hand.seal(chunk)
        with self._changed:
            batch = self._batch
            batch.users += 1
        try:
            written = batch.group.put(slot.object_id, raw)
            with self._changed:
                self.new_bytes += len(chunk) if written else 0
                batch.size += len(raw)
                batch.chunks.append((name, slot.object_id, slot.key))
                self._pending[name] = slot.object_id, slot.key
                self._note(slot.object_id, batch)
        finally:
            with self._changed:
                batch.users -= 1
                self._changed.notify_all()

    def _rely(self, object_id: bytes) -> bool:
        """Use an object that the index knows, so that it is durable; False when it is gone."""
        if object_id not in self._relied:
            if self.files.pin(object_id) is None:
                return False
            with self._changed:
                self._note(object_id, self._batch)
        return True

    def _note(self, object_id: bytes, batch: _Batch) -> None:
        if object_id not in self._relied:
            self._relied.add(object_id)
            batch.fresh.append(object_id)

    def _seal_jobs(self) -> None:
        hand = Hand(self._class, self._dedup)
        while (job := self._jobs.get()) is not None:
            chunk, slot, slab = job
            try:
                if self._error is None:
                    self.seal(chunk, slot, hand)
            except BaseException as error:  # noqa: BLE001 - it belongs to the caller's thread
                self._error = self._error or error
            finally:
                del chunk, job
                slab.release()

    def _commit_batches(self) -> None:
        while (batch := self._full.get()) is not None:
            self._commit(batch)

    def _commit(self, batch: _Batch) -> None:
        with self._changed:
            self._changed.wait_for(lambda: batch.users == 0)
        try:
            if self._error is None:
                batch.group.commit()
                self._durable.put(batch)
        except (OSError, LocalStoreError) as error:
            self._error = self._error or error
        finally:
            batch.group.close()
