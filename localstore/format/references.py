"""Which objects logs need: REF and UNREF frames (docs/format.md, section 6.4).

Pure and key-free. A REF keeps an object whoever wrote it; an UNREF counts only when a head that
fits vouches for it, and for whom the caller believes. Ids of objects, subjects and segments are in
hex here, as in the names of files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from localstore import crypto
from localstore.errors import Damaged, Torn
from localstore.format import segment, spec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from localstore.format.segment import Frame


class RefFrame(NamedTuple):
    """One REF frame by its place: subject and segment in hex, index of the frame."""

    subject: str
    segment: str
    frame: int


@dataclass(slots=True)
class Scan:
    """What a stretch of a log says of objects.

    Attributes:
        end: offset after the last whole frame.
        next_index: the index that the next frame must have.
        refs: object ids by the index of the REF frame that names them.
        cancels: whether an UNREF frame stands there.
        gap: offset of the first frame before which frames are missing; None when none is.
    """

    end: int
    next_index: int = 0
    refs: dict[int, frozenset[str]] = field(default_factory=dict)
    cancels: bool = False
    gap: int | None = None

    def _take(self, frame: Frame) -> None:
        if frame.kind == spec.FrameType.REF:
            ids = frozenset(one.hex() for one in segment.decode_ref(frame))
            # A frame that is out of place may repeat an index: each keeps what it names.
            self.refs[frame.index] = self.refs.get(frame.index, frozenset()) | ids
        elif frame.kind == spec.FrameType.UNREF:
            segment.decode_unref(frame)
            self.cancels = True
        if frame.index > self.next_index and self.gap is None:
            self.gap = frame.offset
        self.next_index = max(self.next_index, frame.index + 1)
        self.end = frame.end


def scan(view: memoryview, offset: int, next_index: int = 0, *, whole: bool = True) -> Scan:
    """Walk the frames from `offset` and keep what they say of objects.

    Args:
        offset: at a frame boundary.
        next_index: the index that the frame there must have.
        whole: the bytes end where the log ends. Else the last frame may go on behind them.

    Raises:
        Damaged: something other than a cut at the end is wrong.
    """
    found = Scan(offset, next_index)
    while found.end < len(view):
        try:
            frame = segment.decode_frame(view, found.end)
        except Torn:
            if whole:
                segment.whole_frames_end(view, found.end)
            break
        found._take(frame)
    return found


def vouched_cancels(view: memoryview) -> dict[tuple[str, int], int]:
    """What the UNREF frames of a log cancel, as far as a head that fits vouches for them.

    Returns:
        (segment, index of a REF frame) → when (µs) the head that vouches was signed.

    Raises:
        Damaged: the header cannot be read, or its signature does not fit.
    """
    header, start = segment.decode_header(bytes(view[: spec.MAX_HEADER_BYTES]))
    chain, offset, count = segment.first_chain(view[:start]), start, 0
    pending: list[tuple[str, int]] = []
    heads: list[tuple[Frame, bytes, int]] = []
    while offset < len(view):
        try:
            frame = segment.decode_frame(view, offset)
            if frame.index != count:
                break
            if frame.kind == spec.FrameType.UNREF:
                pending += ((one.hex(), index) for one, index in segment.decode_unref(frame))
        except Damaged:
            break
        if frame.kind == spec.FrameType.HEAD:
            if pending:
                heads.append((frame, chain, len(pending)))
            if frame.body[56:57] == b"\1":
                break  # final: what follows it is damage
        chain = crypto.chain_step(chain, (frame.raw,))
        offset, count = frame.end, count + 1
    return _vouched(header, heads, pending)


def _vouched(
    header: segment.SegmentHeader,
    heads: list[tuple[Frame, bytes, int]],
    pending: list[tuple[str, int]],
) -> dict[tuple[str, int], int]:
    """The last head that fits vouches for all before it; earlier ones tell since when."""
    out: dict[tuple[str, int], int] = {}
    for frame, chain, known in reversed(heads):
        try:
            head = segment.decode_head(frame, header.segment, header.device)
        except Damaged:
            continue
        if (head.count, head.length, head.chain) == (frame.index, frame.offset, chain):
            out |= dict.fromkeys(pending[:known], head.time_us)
    return out


@dataclass(frozen=True, slots=True)
class LogRefs:
    """The REF frames of one log or fork.

    Attributes:
        name: relative to the project.
        refs: object ids by the index of the frame.
    """

    name: str
    subject: str
    segment: str
    refs: Mapping[int, frozenset[str]]


def needed(logs: Iterable[LogRefs], cancelled: Iterable[RefFrame] = ()) -> dict[str, list[str]]:
    """Which objects are needed, and by which logs and forks (each once).

    Args:
        logs: those whose subject is not erased.
        cancelled: REF frames that an UNREF which counts names. Of two versions of a log that have
            other objects in that frame, nobody knows which one was meant: then it has no effect.
    """
    logs = list(logs)
    gone = set(cancelled)
    gone -= ambiguous(logs, gone)
    out: dict[str, list[str]] = {}
    for log in logs:
        for index, ids in log.refs.items():
            if (log.subject, log.segment, index) in gone:
                continue
            for one in ids:
                names = out.setdefault(one, [])
                if not names or names[-1] != log.name:
                    names.append(log.name)
    return out


def ambiguous(logs: Iterable[LogRefs], cancelled: set[RefFrame]) -> set[RefFrame]:
    """REF frames that stand with other objects in another version of their log."""
    seen: dict[RefFrame, frozenset[str]] = {}
    out = set()
    segments = {(one.subject, one.segment) for one in cancelled}
    for log in logs:
        if (log.subject, log.segment) not in segments:
            continue
        for index, ids in log.refs.items():
            frame = RefFrame(log.subject, log.segment, index)
            if seen.setdefault(frame, ids) != ids:
                out.add(frame)
    return out
