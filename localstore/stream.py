"""The records of one class on their way into segments: tail first, block a moment later.

`Stream.append` is all that training waits for: one sealed record, one `pwrite`. Nothing here
raises into training: what the disk refuses waits in memory, and what is dropped is counted.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import zstandard

from localstore.appending import Segment, SegmentPlan, Untrusted
from localstore.durable import write_all
from localstore.format import spec
from localstore.format.columns import KeyTable, encode_block
from localstore.format.packing import ZSTD_LEVEL, compress
from localstore.format.records import decode_record, encode_records
from localstore.format.segment import unref_body
from localstore.format.spec import FrameType, RecordKind

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from localstore.format.records import Record
    from localstore.format.segment import Predecessor

Refer = Callable[[Sequence[bytes]], None]
# What may wait in memory while the disk takes nothing: a few minutes of a busy run.
MAX_PENDING_BYTES: Final = 32 * 1024 * 1024
# One block in the log: far below the limit of a frame, and more than any record.
MAX_BATCH_BYTES: Final = 12 * 1024 * 1024
MAX_RECORD_BYTES: Final = 8 * 1024 * 1024
# A disk that took no new segment is not asked again by the next thousand records.
_REOPEN_AFTER_S: Final = 0.25
_LONGEST_S: Final = 60.0
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
_RECORD: Final = int(FrameType.RECORD)
_CLEAR: Final = frozenset({FrameType.REF, FrameType.UNREF})


@dataclass(slots=True)
class _Batch:
    """Records that one job of the block maker carries into the log of one segment.

    `frames` are what is left to append to `segment`, None until it was encoded for that segment.
    """

    segment: Segment | None
    first_sequence: int
    bodies: list[bytes]
    tail: int
    clear: list[tuple[FrameType, bytes]]
    settled: bool = False
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
        settle: Callable[[list[bytes], Refer], list[bytes]] | None = None,
    ) -> None:
        """Nothing is opened yet.

        Args:
            on_points: sees the points that a job made durable, in order.
            settle: moves great contents of records into objects, after it has called what it is
                given, which makes references to them durable; returns as many records.
        """
        self._plan, self._lock, self._warn, self._on_points = plan, lock, warn, on_points
        self._settle = settle
        self._clear: list[tuple[FrameType, bytes]] = []
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

    # -------------------------------------------------------------- in training's thread
    def append(self, body: bytes) -> int:
        """Take one record; when this returns, a SIGKILL does not lose it.

        Returns:
            How many records wait to become a block.

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
        pending = self.pending
        pending.append(body)
        self.pending_bytes += len(body)
        return len(pending)

    def refer(self, objects: Sequence[bytes]) -> None:
        """Name objects (32-byte ids) in a REF frame that stands before later records.

        The objects are durable already; the frame is with the next job.
        """
        if objects:
            self._clear.append((FrameType.REF, b"".join(objects)))

    def cancel(self, references: Sequence[tuple[bytes, int]]) -> None:
        """Say of REF frames of this subject, by segment id and index, that they no longer count."""
        if references:
            self._clear.append((FrameType.UNREF, unref_body(references)))

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
        if self._held is None and (self.pending or self._clear):
            first = self._sequence - len(self.pending)
            self._held = _Batch(self._segment, first, self.pending, self._live, self._clear)
            self.pending, self.pending_bytes, self._clear = [], 0, []
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
            if not batch.settled:
                self._move_contents(batch, segment)
            if batch.frames is None:
                batch.points = []
                batch.frames = batch.clear + list(self._blocks(batch, batch.points, last=last))
            while batch.frames:
                kind, content = batch.frames[0]
                if kind in _CLEAR:
                    segment.append_clear(kind, content)
                else:
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

    def _move_contents(self, batch: _Batch, segment: Segment) -> None:
        """Great contents stand in the tail alone; the log gets references to objects."""

        def refer(objects: Sequence[bytes]) -> None:
            segment.append_clear(FrameType.REF, b"".join(objects))
            segment.sync()

        if self._settle is not None:
            batch.bodies = self._settle(batch.bodies, refer)
        batch.settled = True

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
            untrusted = isinstance(error, Untrusted) or error.errno not in _NO_SPACE
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
        """Records, and references, that stand in no durable block."""
        held = self._held
        in_job = len(held.bodies) + len(held.clear) if held else 0
        return len(self.pending) + len(self._clear) + in_job

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
