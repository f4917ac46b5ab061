"""All streams of one run in one process, and the thread that turns records into blocks.

The thread makes what is pending durable each second or each 1,024 records (docs/format.md,
section 6.5). It also bounds the memory that waits for a disk, and signs heads.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING, Any, Final

import msgspec

from localstore import crypto, wake
from localstore.format import spec
from localstore.format.spec import DataClass, RecordKind
from localstore.identity import now_us
from localstore.layout import ProjectPaths
from localstore.stream import MAX_PENDING_BYTES, Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from localstore.appending import SegmentPlan
    from localstore.format.records import Record
    from localstore.format.segment import Predecessor
    from localstore.stream import Refer

FLUSH_INTERVAL_S: Final = 1.0
# Great records: a block of them is made before the second is over.
PLENTY_BYTES: Final = MAX_PENDING_BYTES // 4
# A writer that runs ahead of the block maker waits for it here: about 10 MB of records.
MAX_BACKLOG_RECORDS: Final = 16 * spec.BLOCK_RECORDS
_BACKLOG_WAIT_S: Final = 0.2
# A class, and the policy tag that its segment carries; an empty tag is none.
Lane = tuple[DataClass, bytes]
_DROP_ORDER: Final = (
    DataClass.CONSOLE,
    DataClass.SYSTEM,
    DataClass.MEDIA,
    DataClass.CODE,
    DataClass.ARTIFACTS,
    DataClass.METRICS,
    DataClass.META,
)
_encode: Final = msgspec.msgpack.Encoder().encode


def _ignore(_points: list[Record]) -> None:
    """Points of other classes are in no summary."""


class Writer:
    """All streams of one run in one process, and the thread that carries their records.

    The thread starts with the first record. After a fork the child begins anew: other segments,
    another writer id, its own thread.
    """

    def __init__(
        self,
        plan: Callable[[Lane, bytes, tuple[Predecessor, ...]], SegmentPlan],
        *,
        warn: Callable[[str], None],
        on_points: Callable[[list[Record]], None],
        heartbeat_s: float = 30.0,
        keep: Callable[[DataClass, list[bytes], Refer], list[bytes]] | None = None,
    ) -> None:
        """Nothing is opened yet.

        Args:
            plan: called with a lane, this writer's id and a failed segment to continue.
            keep: moves great contents of records into objects; see `Stream`.
        """
        self._plan, self._warn, self._heartbeat_us = plan, warn, int(heartbeat_s * 1e6)
        self.on_points, self._keep = on_points, keep
        self._begin()

    def _begin(self) -> None:
        self.id = crypto.random_bytes(16)
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.streams: dict[Lane, Stream] = {}
        self.points: Stream | None = None  # the one of METRICS, for the shortest way there
        self._carrying = threading.Lock()
        self._wake = threading.Event()
        self._done = threading.Condition(threading.Lock())
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._folder: Path | None = None  # of the subject, as soon as something is durable there

    def after_fork(self) -> None:
        """In a forked child: leave the parent's segments to the parent."""
        old = self.streams
        self._begin()
        for stream in old.values():
            stream.abandon()

    def stream(self, data_class: DataClass, tag: bytes = b"") -> Stream:
        """The stream of a class and policy tag, made at first use; the lock is held."""
        found = self.streams.get((data_class, tag))
        if found is None:
            writer, keep = self.id, self._keep
            found = Stream(
                lambda before: self._plan((data_class, tag), writer, before),
                self.lock,
                self._warn,
                self.on_points if data_class == DataClass.METRICS else _ignore,
                None if keep is None else lambda bodies, refer: keep(data_class, bodies, refer),
            )
            self.streams[data_class, tag] = found
            if data_class == DataClass.METRICS:
                self.points = found
            if self._thread is None:
                self._start_thread()
        return found

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._run, name="localstore-writer", daemon=True)
        # Refused under a limit on threads, and while the interpreter shuts down: records are safe
        # in their tail, and `close` makes the blocks.
        with contextlib.suppress(RuntimeError):
            thread.start()
            self._thread = thread

    def append(self, data_class: DataClass, record: list[Any], tag: bytes = b"") -> None:
        """Take one record of any class."""
        with self.lock:
            stream = self.stream(data_class, tag)
            stream.append(_encode(record))
            self.relieve(stream)

    def refer(self, data_class: DataClass, objects: Sequence[bytes]) -> None:
        """Name objects that are durable in a REF frame, which stands before later records."""
        with self.lock:
            self.stream(data_class).refer(objects)

    def cancel(self, data_class: DataClass, references: Sequence[tuple[bytes, int]]) -> None:
        """Say of REF frames of this subject, by segment id and index, that they do not count."""
        with self.lock:
            self.stream(data_class).cancel(references)

    def relieve(self, stream: Stream) -> None:
        """After an append, with the lock held: wake the block maker, keep memory bounded."""
        full = len(stream.pending) % spec.BLOCK_RECORDS == 0
        if (full or stream.pending_bytes > PLENTY_BYTES) and not stream.refusing:
            self._wake.set()
        # A disk that is merely slow is waited for; one that refuses is not.
        if stream.pending_bytes > MAX_PENDING_BYTES * (1 if stream.refusing else 4):
            self._shed()

    def wait_for_room(self, stream: Stream) -> None:
        """Without the lock: let the block maker catch up, for a moment, unless the disk refuses."""
        much = len(stream.pending) > MAX_BACKLOG_RECORDS or stream.pending_bytes > MAX_PENDING_BYTES
        if much and not stream.refusing:
            with self._done:
                self._done.wait(_BACKLOG_WAIT_S)

    def _shed(self) -> None:
        waiting = sum(stream.pending_bytes for stream in self.streams.values())
        excess = waiting - MAX_PENDING_BYTES + MAX_PENDING_BYTES // 16  # not with every record
        for lane in sorted(self.streams, key=lambda lane: _DROP_ORDER.index(lane[0])):
            if excess > 0:
                excess -= self.streams[lane].shed(excess)

    # -------------------------------------------------------------- the block maker
    def _run(self) -> None:
        pid = self.pid
        while os.getpid() == pid:
            self._wake.wait(FLUSH_INTERVAL_S)
            self._wake.clear()
            if self._stopping:
                return
            self._carry_all()
            self._heads()

    def _carry_all(self, *, last: bool = False) -> bool:
        with self._carrying:
            with self.lock:
                streams = [stream for stream in self.streams.values() if stream.take()]
            done = [stream.carry(last=last) for stream in streams]
            if any(done):
                self._folder = next((s.present.folder for s in streams if s.present), None)
                self._wake_service()
            with self.lock:
                self._say_gaps()
        with self._done:
            self._done.notify_all()
        return all(done)

    def _wake_service(self) -> None:
        if self._folder is not None:
            wake.touch(ProjectPaths(self._folder.parent.parent), self._folder.name)

    def _say_gaps(self, *, at_last: bool = False) -> None:
        """Record in `meta` what streams dropped, once their disk takes records; with the lock."""
        for stream in list(self.streams.values()):
            if stream.dropped and (at_last or not stream.refusing):
                gaps, stream.dropped = stream.dropped, {}
                for reason, count in gaps.items():
                    record = _encode([RecordKind.GAP, now_us(), count, reason])
                    self.stream(DataClass.META).append(record)

    def _heads(self) -> None:
        """About every 30 s: heads for logs that grew, and for `meta` in any case, as heartbeat."""
        now = now_us()
        with self._carrying:
            for (data_class, _), stream in list(self.streams.items()):
                segment = stream.present
                if segment is not None and now - segment.last_head_us >= self._heartbeat_us:
                    beat = now if data_class == DataClass.META or len(self.streams) == 1 else 0
                    stream.head(after_us=beat)
                    self._wake_service()

    def flush(self) -> bool:
        """Make everything durable now; False when the disk refused some of it."""
        # Twice: a job that was under way leaves what came in meanwhile.
        return self._carry_all() and self._carry_all()

    def _stop_thread(self) -> None:
        thread, self._thread = self._thread, None
        self._stopping = True
        self._wake.set()
        if thread is not None:
            thread.join()

    def close(self, farewell: Callable[[list[list[Any]]], list[Any]] | None = None) -> int:
        """Flush, sign, close.

        Args:
            farewell: makes the last record of `meta` from [segment, class, frames, chain, tagged]
                of the other logs, so that one that is withheld or cut later is missed.

        Returns:
            How many records the disk never took.
        """
        self._stop_thread()
        with self.lock:
            self._say_gaps(at_last=True)
            for stream in self.streams.values():
                stream.try_now()
        # Twice: what came while a job was under way, or after the disk failed under a segment.
        self._carry_all(last=True)
        self._carry_all(last=True)
        with self.lock:
            streams, self.streams, self.points = self.streams, {}, None
        meta = streams.pop((DataClass.META, b""), None)
        ends = [stream.end() for stream in streams.values()]
        if meta is not None and farewell is not None:
            with self.lock:
                said = [
                    [end[0], int(lane[0]), *end[1:], int(bool(lane[1]))]
                    for lane, end in zip(streams, ends, strict=True)
                    if end
                ]
                meta.append(_encode(farewell(said)))
                meta.take()
            meta.carry(last=True)
        if meta is not None:
            meta.end()
            streams[DataClass.META, b""] = meta
        self._wake_service()
        return sum(one.waiting + sum(one.dropped.values()) for one in streams.values())
