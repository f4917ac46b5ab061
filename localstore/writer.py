"""The write path: records into tails at once, into sealed blocks a moment later.

`Stream.append` is all that training waits for: one sealed record, one `pwrite`. A background
thread turns what is pending into a block each second or each 1,024 records, makes it durable, and
empties the tail that held it (docs/format.md, section 6.5). Nothing here raises into training:
what the disk refuses is kept in bounded memory, and what is dropped is counted.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec
import zstandard

from localstore import crypto
from localstore.durable import make_folder, sync_folder, write_all
from localstore.format import spec
from localstore.format.columns import KeyTable, encode_block
from localstore.format.packing import ZSTD_LEVEL, compress
from localstore.format.records import decode_record, encode_records
from localstore.format.segment import (
    NOTHING_SUPERSEDED,
    Head,
    Predecessor,
    SegmentHeader,
    encode_head,
    first_chain,
)
from localstore.format.spec import DataClass, FrameType, RecordKind
from localstore.identity import now_us

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from localstore.format.records import Record
    from localstore.project import Pair, Project

FLUSH_INTERVAL_S: Final = 1.0
# What may wait in memory while the disk takes nothing: a few minutes of a busy run.
MAX_PENDING_BYTES: Final = 32 * 1024 * 1024
# Great records: a block of them is made before the second is over.
PLENTY_BYTES: Final = MAX_PENDING_BYTES // 4
# A writer that runs ahead of the block maker waits for it here: about 10 MB of records.
MAX_BACKLOG_RECORDS: Final = 16 * spec.BLOCK_RECORDS
_BACKLOG_WAIT_S: Final = 0.2
# One block in the log: far below the limit of a frame, and more than any record.
MAX_BATCH_BYTES: Final = 12 * 1024 * 1024
MAX_RECORD_BYTES: Final = 8 * 1024 * 1024
# A disk that took no new segment is not asked again by the next thousand records.
_REOPEN_AFTER_S: Final = 0.25
_LONGEST_S: Final = 60.0
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
_DROP_ORDER: Final = (
    DataClass.CONSOLE,
    DataClass.SYSTEM,
    DataClass.MEDIA,
    DataClass.CODE,
    DataClass.ARTIFACTS,
    DataClass.METRICS,
    DataClass.META,
)
_RECORD: Final = int(FrameType.RECORD)
_encode: Final = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentPlan:
    """All that a new segment needs to know before its header is signed."""

    project: Project
    subject: bytes
    pair: Pair
    writer: bytes
    data_class: DataClass
    policy_tag: bytes = bytes(16)
    supersedes: int = NOTHING_SUPERSEDED
    predecessors: tuple[Predecessor, ...] = ()
    tail_folder: Path | None = None


class _Untrusted(OSError):
    """What was written to a file may be gone, whatever the disk says next."""


class Segment:
    """One segment's files, open for appending by this process alone."""

    def __init__(self, plan: SegmentPlan) -> None:
        """Create the log with its header.

        Raises:
            OSError: the disk refused.
        """
        key, self.id = crypto.random_bytes(32), crypto.random_bytes(16)
        header = SegmentHeader(
            data_class=plan.data_class,
            project=plan.project.id,
            subject=plan.subject,
            segment=self.id,
            writer=plan.writer,
            pair=plan.pair.public,
            device=crypto.sign_public(plan.project.device_seed),
            cert=plan.project.cert,
            epoch=plan.pair.epoch,
            started_us=now_us(),
            policy_tag=plan.policy_tag,
            supersedes=plan.supersedes,
            commitment=crypto.derive(key, spec.LABEL_COMMIT, self.id),
            sealed_key=bytes(112),
            predecessors=plan.predecessors,
        )
        recipient = plan.pair.classes[plan.data_class]
        sealed = crypto.seal(recipient, key, header.context())
        raw = header.with_key(sealed).encode(plan.project.device_seed)
        self._device_seed = plan.project.device_seed
        self.record_sealer = crypto.FrameSealer(key, self.id)
        self._block_sealer = crypto.FrameSealer(key, self.id)
        self.folder = make_folder(plan.project.paths.runs / plan.subject.hex())
        self._tail_folder = make_folder(plan.tail_folder) if plan.tail_folder else self.folder
        self._log = self._open(self.folder / f"{self.id.hex()}.log")
        self.tails: list[int | None] = [None, None]
        try:
            write_all(self._log, raw, 0)
        except OSError:
            self.discard()
            raise
        self.chain, self.length, self.count = first_chain(raw), len(raw), 0
        self._durable = (self.chain, self.length)
        self.last_head_us = header.started_us
        self._head_length = 0
        self._named = False

    @staticmethod
    def _open(path: Path) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(path, flags, 0o600)

    def open_tail(self, which: int) -> int:
        """Make one of the two tails at its first use; returns the file handle.

        Raises:
            OSError: the disk refused.
        """
        handle = self._open(self._tail_folder / f"{self.id.hex()}.t{which}")
        self.tails[which] = handle
        return handle

    def empty_tail(self, which: int) -> None:
        """Forget the records of a tail; they stand in a durable block."""
        handle = self.tails[which]
        if handle is not None:
            os.ftruncate(handle, 0)

    def append_block(self, kind: FrameType, content: bytes, compression: int) -> None:
        """Append one sealed frame to the log; on failure the log is as it was.

        Raises:
            OSError: the disk refused.
        """
        self._append(bytes(self._block_sealer.seal(kind, self.count, content, compression)))

    def append_head(self, *, final: bool) -> None:
        """Sign what the log holds.

        Raises:
            OSError: the disk refused.
        """
        head = Head(
            count=self.count,
            length=self.length,
            chain=self.chain,
            time_us=now_us(),
            final=final,
        )
        self._append(encode_head(head, self.id, self.count, self._device_seed))
        self.last_head_us, self._head_length = head.time_us, self.length

    @property
    def vouched(self) -> bool:
        """Whether the last frame is a head."""
        return self._head_length == self.length

    def _append(self, frame: bytes) -> None:
        try:
            write_all(self._log, frame, self.length)
        except OSError:
            # Bytes of a frame that nobody has seen whole: take them back.
            os.ftruncate(self._log, self.length)
            raise
        self.chain = crypto.chain_step(self.chain, (frame,))
        self.length += len(frame)
        self.count += 1

    def sync(self) -> None:
        """Make the log durable, and once its name.

        Raises:
            _Untrusted: the disk refused; a second attempt would say yes and have lost the bytes.
        """
        try:
            os.fdatasync(self._log)
        except OSError as error:
            raise _Untrusted(error.errno, error.strerror) from error
        self._durable = (self.chain, self.length)
        if not self._named:
            sync_folder(self.folder)
            self._named = True

    def close(self, *, keep_tails: bool) -> None:
        """Close the files; tails are removed unless their records stand nowhere else."""
        for which, handle in enumerate(self.tails):
            if handle is None:
                continue
            _close(handle)
            if not keep_tails:
                _remove(self._tail_folder / f"{self.id.hex()}.t{which}")
        self.tails = [None, None]
        _close(self._log)

    def discard(self) -> None:
        """Take back a segment that never became one."""
        self.close(keep_tails=False)
        _remove(self.folder / f"{self.id.hex()}.log")

    def as_predecessor(self) -> Predecessor:
        """This segment as a later one names it: as far as the disk ever acknowledged it."""
        chain, length = self._durable
        return Predecessor(segment=self.id, chain=chain, length=length)


def _close(handle: int) -> None:
    """Close a file; what its disk says only now concerns nothing that was promised."""
    with contextlib.suppress(OSError):
        os.close(handle)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # on a disk that refuses: a copy too many
        path.unlink(missing_ok=True)


@dataclass(slots=True)
class _Batch:
    """Records that one job of the block maker carries into the log of one segment.

    `frames` are what is left to append to `segment`, None until it was encoded for that segment.
    """

    segment: Segment | None
    first_sequence: int
    bodies: list[bytes]
    tail: int
    frames: list[tuple[FrameType, bytes]] | None = None
    points: list[Record] = field(default_factory=list)


class Stream:
    """The records of one class, on their way into segments.

    One segment as a rule. Another begins when the disk failed under the first one: a file whose
    fsync failed is never trusted again, and what it did not acknowledge is written anew.

    `lock` is the writer's. `append` and `take` are called with it held, `carry` without it, by the
    block maker alone.
    """

    def __init__(
        self,
        plan: Callable[[tuple[Predecessor, ...]], SegmentPlan],
        lock: threading.Lock,
        warn: Callable[[str], None],
        on_points: Callable[[list[Record]], None],
    ) -> None:
        """`on_points` sees the points that a job made durable, in order."""
        self._plan, self._lock, self._warn, self._on_points = plan, lock, warn, on_points
        self._segment: Segment | None = None
        self._failed: list[Segment] = []
        self._held: _Batch | None = None
        self.pending: list[bytes] = []
        self.pending_bytes = 0
        self._sequence = 0  # of the next record in the present segment
        self._live = 0
        self._offset = 0
        self.refusing = False
        self._reopen_at = 0.0
        self._table = KeyTable()
        self._compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_content_size=True)
        self.dropped: dict[str, int] = {}
        self.recorded = 0

    # -------------------------------------------------------------- in training's thread
    def append(self, body: bytes) -> None:
        """Take one record; when this returns, a SIGKILL does not lose it.

        Where the disk refuses, the record waits in memory, and a warning is given once.
        """
        try:
            segment = self._segment
            if segment is None:
                segment = self._open()
            frame = segment.record_sealer.seal(_RECORD, self._sequence, body)
            size = len(frame)
            handle = segment.tails[self._live]
            if handle is None:
                handle = segment.open_tail(self._live)
            done = os.pwrite(handle, frame, self._offset)
            if done != size:
                write_all(handle, frame[done:], self._offset + done)
            self._offset += size
        except OSError as error:
            self._say_refused(error)
        self._sequence += 1
        self.recorded += 1
        self.pending.append(body)
        self.pending_bytes += len(body)

    def _open(self) -> Segment:
        """A new segment, in which all records that wait in memory come first.

        Raises:
            OSError: the disk refused; a moment ago, perhaps.
        """
        if time.monotonic() < self._reopen_at:
            raise OSError(errno.EIO, "no new segment a moment ago")
        self._reopen_at = time.monotonic() + _REOPEN_AFTER_S
        before = tuple(old.as_predecessor() for old in self._failed[-1:])
        segment = Segment(self._plan(before))
        held = self._held
        first, live = (0, 0) if held is None else (len(held.bodies), 1 - held.tail)
        try:
            offset = self._copy_pending(segment, live, first)
        except OSError:
            segment.discard()
            raise
        if held is not None:
            held.segment, held.first_sequence, held.frames = segment, 0, None
        self._segment, self._table = segment, KeyTable()
        self._sequence = first + len(self.pending)
        self._live, self._offset = live, offset
        self._reopen_at = 0.0
        return segment

    def _copy_pending(self, segment: Segment, live: int, first: int) -> int:
        """The tail of a new segment holds what waits: that of the old one will go first."""
        offset = 0
        for at, body in enumerate(self.pending):
            handle = segment.tails[live]
            if handle is None:
                handle = segment.open_tail(live)
            frame = segment.record_sealer.seal(_RECORD, first + at, body)
            write_all(handle, frame, offset)
            offset += len(frame)
        return offset

    def _say_refused(self, error: OSError) -> None:
        if not self.refusing:
            self.refusing = True
            self._warn(
                f"the disk refuses records ({error.strerror}); training goes on, up to "
                f"{MAX_PENDING_BYTES >> 20} MiB of records wait in memory"
            )

    def drop(self, reason: str, count: int = 1) -> None:
        """Count records that were not taken."""
        self.dropped[reason] = self.dropped.get(reason, 0) + count

    def shed(self, excess_bytes: int) -> int:
        """Drop the oldest waiting records until `excess_bytes` are free; returns bytes freed.

        Their sequence numbers are never used again: a hole that a GAP record explains.
        """
        freed = count = 0
        while freed < excess_bytes and count < len(self.pending):
            freed += len(self.pending[count])
            count += 1
        del self.pending[:count]
        self.pending_bytes -= freed
        if count:
            self.drop("no space on the disk", count)
        return freed

    # -------------------------------------------------------------- in the block maker's thread
    def take(self) -> bool:
        """Make the pending records the next job and turn to the other tail; the lock is held."""
        if self._held is None and self.pending:
            first = self._sequence - len(self.pending)
            self._held = _Batch(self._segment, first, self.pending, self._live)
            self.pending, self.pending_bytes = [], 0
            self._live, self._offset = 1 - self._live, 0
        return self._held is not None

    def carry(self, *, last: bool = False) -> bool:
        """Write the job's records as blocks and make them durable.

        Returns:
            False when the disk refused; the job is kept and will be tried again.
        """
        batch = self._held
        if batch is None:
            return True
        try:
            if batch.segment is None:
                with self._lock:
                    batch.segment = self._segment or self._open()
            segment = batch.segment
            if batch.frames is None:
                batch.points = []
                batch.frames = list(self._blocks(batch, batch.points, last=last))
            while batch.frames:
                kind, content = batch.frames[0]
                segment.append_block(kind, *compress(content, self._compressor))
                del batch.frames[0]
            segment.sync()
            segment.empty_tail(batch.tail)
        except OSError as error:
            self._retreat(error)
            return False
        with self._lock:
            self._held = None
            self._on_points(batch.points)
        self._recover()
        return True

    def _blocks(
        self, batch: _Batch, all_points: list[Record], *, last: bool
    ) -> Iterator[tuple[FrameType, bytes]]:
        """The batch as contents of frames: points turned into columns, the rest row by row."""
        at, end = batch.first_sequence, batch.first_sequence + len(batch.bodies)
        for bodies in _portions(batch.bodies):
            final = last and at + len(bodies) == end
            for points, some in _runs_of_a_kind(bodies):
                if points:
                    yield FrameType.COLUMNS, encode_block(at, points, self._table, last=final)
                    all_points += points
                else:
                    yield FrameType.RECORDS, encode_records(at, some)
                at += len(some)

    def _retreat(self, error: OSError) -> None:
        """No space: try the same file again later. Anything else: never trust this file again."""
        with self._lock:
            self._say_refused(error)
            untrusted = isinstance(error, _Untrusted) or error.errno not in _NO_SPACE
            if untrusted and self._segment is not None:
                self._reopen_at = time.monotonic() + min(2 ** len(self._failed) - 1, _LONGEST_S)
                self._failed.append(self._segment)
                self._segment = None
                if self._held is not None:
                    self._held.segment = None

    def _recover(self) -> None:
        """All that waited is durable: failed segments' tails are copies now."""
        for segment in self._failed:
            segment.close(keep_tails=False)
        self._failed.clear()
        if not self.refusing:
            return
        with self._lock:
            self.refusing = False
        self._warn("the disk takes records again")

    def head(self, *, final: bool = False, after_us: int = 0) -> None:
        """Sign the log if it grew, or if its last head is older than `after_us`."""
        segment = self._segment
        due = segment is not None and (
            final or not segment.vouched or segment.last_head_us < after_us
        )
        if segment is None or not due:
            return
        try:
            segment.append_head(final=final)
            segment.sync()
        except OSError as error:
            self._retreat(error)

    def end(self) -> tuple[bytes, int, bytes] | None:
        """Sign and close; the segment's id, frames and chain, None when the disk refused some."""
        segment, whole = self._segment, not self.waiting
        if whole:
            self.head(final=True)
        whole = whole and segment is not None and segment is self._segment
        facts = (segment.id, segment.count, segment.chain) if segment and whole else None
        self.close()
        return facts

    def not_yet_carried(self) -> list[bytes]:
        """Bodies of the records that `on_points` has not seen; the lock is held."""
        return [*(self._held.bodies if self._held else ()), *self.pending]

    @property
    def waiting(self) -> int:
        """Records that stand in no durable block."""
        return len(self.pending) + (len(self._held.bodies) if self._held else 0)

    @property
    def present(self) -> Segment | None:
        """The segment that is written now."""
        return self._segment

    def try_now(self) -> None:
        """Ask a disk that refused once more, without delay."""
        self._reopen_at = 0.0

    def close(self) -> None:
        """Close the files; tails stay where they are the only place of a record."""
        for segment in (*self._failed, self._segment):
            if segment is not None:
                segment.close(keep_tails=bool(self.waiting))
        self._failed.clear()
        self._segment = None

    def abandon(self) -> None:
        """In a forked child: let go of the parent's files and records."""
        for segment in (*self._failed, self._segment):
            if segment is not None:
                segment.close(keep_tails=True)


def _portions(bodies: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Records in portions that fit into a frame: by count, and for great records by bytes."""
    start = size = 0
    for at, body in enumerate(bodies):
        if at - start == spec.BLOCK_RECORDS or size + len(body) > MAX_BATCH_BYTES:
            yield bodies[start:at]
            start, size = at, 0
        size += len(body)
    yield bodies[start:]


def _runs_of_a_kind(bodies: Sequence[bytes]) -> list[tuple[list[Record], list[bytes]]]:
    """Split records where points and others meet; points are decoded, others have an empty list."""
    runs: list[tuple[list[Record], list[bytes]]] = []
    for body in bodies:
        # A msgpack array's second byte is its first element: kinds are small positive integers.
        point = body[1] == RecordKind.POINT
        if not runs or bool(runs[-1][0]) != point:
            runs.append(([], []))
        if point:
            runs[-1][0].append(decode_record(body))
        runs[-1][1].append(body)
    return runs


class Writer:
    """All streams of one run in one process, and the thread that carries their records.

    The thread starts with the first record. After a fork the child begins anew: other segments,
    another writer id, its own thread.
    """

    def __init__(
        self,
        plan: Callable[[DataClass, bytes, tuple[Predecessor, ...]], SegmentPlan],
        *,
        warn: Callable[[str], None],
        on_points: Callable[[list[Record]], None],
        heartbeat_s: float = 30.0,
    ) -> None:
        """`plan` is called with a class, this writer's id and a failed segment to continue."""
        self._plan, self._warn, self._heartbeat_us = plan, warn, int(heartbeat_s * 1e6)
        self.on_points = on_points
        self._begin()

    def _begin(self) -> None:
        self.id = crypto.random_bytes(16)
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.streams: dict[DataClass, Stream] = {}
        self._carrying = threading.Lock()
        self._wake = threading.Event()
        self._done = threading.Condition(threading.Lock())
        self._stopping = False
        self._thread: threading.Thread | None = None

    def after_fork(self) -> None:
        """In a forked child: leave the parent's segments to the parent."""
        old = self.streams
        self._begin()
        for stream in old.values():
            stream.abandon()

    def stream(self, data_class: DataClass) -> Stream:
        """The stream of a class, made at first use; the lock is held."""
        found = self.streams.get(data_class)
        if found is None:
            writer = self.id
            found = Stream(
                lambda before: self._plan(data_class, writer, before),
                self.lock,
                self._warn,
                self.on_points,
            )
            self.streams[data_class] = found
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

    def append(self, data_class: DataClass, record: list[Any]) -> None:
        """Take one record of any class."""
        with self.lock:
            stream = self.stream(data_class)
            stream.append(_encode(record))
            self.relieve(stream)

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
        for data_class in _DROP_ORDER:
            stream = self.streams.get(data_class)
            if stream is not None and excess > 0:
                excess -= stream.shed(excess)

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
            with self.lock:
                self._say_gaps()
        with self._done:
            self._done.notify_all()
        return all(done)

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
            for data_class, stream in list(self.streams.items()):
                segment = stream.present
                if segment is not None and now - segment.last_head_us >= self._heartbeat_us:
                    beat = now if data_class == DataClass.META or len(self.streams) == 1 else 0
                    stream.head(after_us=beat)

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
            farewell: makes the last record of `meta` from [segment, class, frames, chain] of the
                other logs, so that one that is withheld or cut later is missed.

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
            streams, self.streams = self.streams, {}
        meta = streams.pop(DataClass.META, None)
        ends = [stream.end() for stream in streams.values()]
        if meta is not None and farewell is not None:
            with self.lock:
                said = [
                    [end[0], int(kind), *end[1:]]
                    for kind, end in zip(streams, ends, strict=True)
                    if end
                ]
                meta.append(_encode(farewell(said)))
                meta.take()
            meta.carry(last=True)
        if meta is not None:
            meta.end()
            streams[DataClass.META] = meta
        return sum(one.waiting + sum(one.dropped.values()) for one in streams.values())
