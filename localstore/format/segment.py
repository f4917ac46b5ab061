"""Segments: the signed header, frames, heads and the chain (docs/format.md, section 6).

Nothing here needs a secret: a remote, a daemon and `verify` read as far as this module reads.
Opening what frames hold is for `localstore.format.stream`.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from localstore import crypto
from localstore.errors import Damaged, Forged, Torn
from localstore.format import spec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from localstore.crypto import Bytes

_HEADER: Final = struct.Struct("<8sBBBBI32s16s16s16s32s32s32sIIQ16sq32s112sHH")
_PREDECESSOR: Final = struct.Struct("<16s32sQ")
_FRAME: Final = struct.Struct("<2sBBIQ")
_CRC: Final = struct.Struct("<I")
_HEAD: Final = struct.Struct("<QQ32sQB7x64s")
_UNREF: Final = struct.Struct("<16sQ")
FRAME_HEADER_BYTES: Final = _FRAME.size
FRAME_OVERHEAD_BYTES: Final = _FRAME.size + _CRC.size
HEAD_BODY_BYTES: Final = _HEAD.size
_HEAD_ZEROS: Final = slice(57, 64)
# Work that a walk may spend on bytes that look like frames and are none. Honest damage costs a
# few frames; a hostile file may have a mark with a great length in every sixteen bytes.
_FALSE_FRAME_BYTES: Final = 8 * spec.MAX_FRAME_BODY_BYTES
_WINDOW_BYTES: Final = 1024 * 1024
NOTHING_SUPERSEDED: Final = -1
SEALED_TYPES: Final = frozenset(
    {spec.FrameType.COLUMNS, spec.FrameType.RECORDS, spec.FrameType.RECORD}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Predecessor:
    """What a segment continues: the head of an earlier one, as its writer saw it."""

    segment: bytes
    chain: bytes
    length: int  # bytes of the predecessor's log that the chain covers


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentHeader:
    """The clear, signed beginning of a segment; see format.md section 6.1 for each field."""

    data_class: int
    project: bytes
    subject: bytes
    segment: bytes
    writer: bytes
    pair: bytes
    device: bytes
    cert: bytes
    epoch: int
    started_us: int
    policy_tag: bytes
    supersedes: int
    commitment: bytes
    sealed_key: bytes
    predecessors: tuple[Predecessor, ...] = ()

    def context(self) -> bytes:
        """The hash that stands inside the sealed key: everything before it."""
        return crypto.digest(spec.LABEL_SEGMENT_CONTEXT, self._fixed(b"\0" * 112)[:_SEALED_KEY_AT])

    def _fixed(self, sealed_key: bytes) -> bytes:
        length = _HEADER.size + _PREDECESSOR.size * len(self.predecessors) + spec.SIGNATURE_BYTES
        return _HEADER.pack(
            spec.SEGMENT_MAGIC,
            spec.FORMAT_VERSION,
            spec.SUITE,
            self.data_class,
            0,
            length,
            self.project,
            self.subject,
            self.segment,
            self.writer,
            self.pair,
            self.device,
            self.cert,
            self.epoch,
            0,
            self.started_us,
            self.policy_tag,
            self.supersedes,
            self.commitment,
            sealed_key,
            len(self.predecessors),
            0,
        )

    def with_key(self, sealed_key: bytes) -> SegmentHeader:
        """The same header around another sealed segment key."""
        return replace(self, sealed_key=sealed_key)

    def encode(self, device_seed: bytes) -> bytes:
        """The header's bytes, signed with the writer's device key."""
        message = self._fixed(self.sealed_key) + b"".join(
            _PREDECESSOR.pack(p.segment, p.chain, p.length) for p in self.predecessors
        )
        return message + crypto.sign(device_seed, spec.SIGN_HEADER, message)


_SEALED_KEY_AT: Final = _HEADER.size - 4 - 112
MIN_HEADER_BYTES: Final = _HEADER.size + spec.SIGNATURE_BYTES


def decode_header(raw: Bytes) -> tuple[SegmentHeader, int]:
    """Parse and verify a segment's header.

    Args:
        raw: the beginning of a segment, at least as long as its header.

    Returns:
        The header, and the offset of the first frame.

    Raises:
        Torn: the bytes end inside the header.
        Damaged: another magic, a newer version, or an impossible length.
        Forged: the signature does not fit.
    """
    if len(raw) < _HEADER.size:
        raise Torn(f"a segment of {len(raw)} bytes ends inside its header")
    fields = _HEADER.unpack_from(raw)
    magic, version, suite, data_class, flags, length = fields[:6]
    if magic != spec.SEGMENT_MAGIC:
        raise Damaged("not a segment: wrong magic")
    if version != spec.FORMAT_VERSION or suite not in spec.SUPPORTED_SUITES or flags:
        raise Damaged(f"version {version}, suite {suite}, flags {flags} of a newer localstore")
    count = fields[-2]
    want = _HEADER.size + _PREDECESSOR.size * count + spec.SIGNATURE_BYTES
    if count > spec.MAX_PREDECESSORS or length != want or fields[-1] or fields[14]:
        raise Damaged(f"an impossible header: {length} bytes with {count} predecessors")
    if len(raw) < length:
        raise Torn(f"a segment of {len(raw)} bytes ends inside its header")
    end = length - spec.SIGNATURE_BYTES
    message = bytes(raw[:end])
    crypto.check_signature(fields[11], spec.SIGN_HEADER, message, raw[end:length])
    predecessors = tuple(
        Predecessor(segment=segment, chain=chain, length=size)
        for segment, chain, size in _PREDECESSOR.iter_unpack(message[_HEADER.size :])
    )
    header = SegmentHeader(
        data_class=data_class,
        project=fields[6],
        subject=fields[7],
        segment=fields[8],
        writer=fields[9],
        pair=fields[10],
        device=fields[11],
        cert=fields[12],
        epoch=fields[13],
        started_us=fields[15],
        policy_tag=fields[16],
        supersedes=fields[17],
        commitment=fields[18],
        sealed_key=fields[19],
        predecessors=predecessors,
    )
    return header, length


# ------------------------------------------------------------------ frames
@dataclass(frozen=True, slots=True)
class Frame:
    """One frame where it stands; `body` is a view of the segment's bytes."""

    kind: int
    index: int
    offset: int
    raw: Bytes

    @property
    def header(self) -> Bytes:
        """The 16 bytes that are authenticated with a sealed body."""
        return self.raw[:FRAME_HEADER_BYTES]

    @property
    def body(self) -> Bytes:
        """What stands between header and checksum."""
        return self.raw[FRAME_HEADER_BYTES : -_CRC.size]

    @property
    def end(self) -> int:
        """Offset of the byte after the frame."""
        return self.offset + len(self.raw)


def encode_frame(kind: int, index: int, body: bytes) -> bytes:
    """A frame in clear: HEAD, REF or UNREF. Sealed frames come from `crypto.FrameSealer`."""
    raw = _FRAME.pack(spec.FRAME_MARK, kind, 0, len(body), index) + body
    return raw + _CRC.pack(zlib.crc32(raw))


def decode_frame(buffer: memoryview, offset: int) -> Frame:
    """Parse the frame that starts at `offset`.

    Raises:
        Torn: the buffer ends inside the frame.
        Damaged: no mark, an impossible length, an unknown type, or a checksum that does not fit.
    """
    if len(buffer) - offset < FRAME_HEADER_BYTES:
        raise Torn("ends inside a frame header", offset=offset)
    mark, kind, flags, length, index = _FRAME.unpack_from(buffer, offset)
    if mark != spec.FRAME_MARK or flags:
        raise Damaged("no frame starts here", offset=offset)
    if length > spec.MAX_FRAME_BODY_BYTES:
        raise Damaged(f"a frame of {length} bytes, the most is 16 MiB", offset=offset)
    end = offset + FRAME_HEADER_BYTES + length
    if len(buffer) < end + _CRC.size:
        raise Torn("ends inside a frame", offset=offset)
    if _CRC.unpack_from(buffer, end)[0] != zlib.crc32(buffer[offset:end]):
        raise Damaged("a frame whose checksum does not fit", offset=offset)
    known = kind in spec.FrameType._value2member_map_
    if not known and not spec.FIRST_IGNORABLE_FRAME_TYPE <= kind <= spec.LAST_IGNORABLE_FRAME_TYPE:
        raise Damaged(f"frame type {kind} of a newer localstore", offset=offset)
    return Frame(kind, index, offset, buffer[offset : end + _CRC.size])


def scan_frames(buffer: memoryview, offset: int) -> Iterator[Frame | Damaged]:
    """Walk frames from `offset` to the end; damage is yielded, then passed over.

    After damage the walk goes on at the next frame that parses, so the loss is bounded by what was
    damaged. A frame that is cut off at the very end is yielded as `Torn`. The work is bounded too:
    a file that is nothing but false beginnings of frames is given up as one damage.
    """
    search = _Search(buffer)
    while offset < len(buffer):
        try:
            frame = decode_frame(buffer, offset)
        except Damaged as problem:
            search.spend(offset)
            found = search.next_frame(offset + 1)
            if found is None:
                yield _cut_or_damage(buffer, offset, problem)
                return
            yield Damaged(problem.problem, offset=offset)
            offset = found.offset
            continue
        yield frame
        offset = frame.end


class _Search:
    """Finds the next whole frame behind damage, with a bound on the bytes it sums in vain."""

    def __init__(self, buffer: memoryview) -> None:
        self._buffer = buffer
        self._left = _FALSE_FRAME_BYTES + 4 * len(buffer)

    def spend(self, offset: int) -> None:
        """Count what `decode_frame` summed at `offset` before it said no."""
        rest = len(self._buffer) - offset - FRAME_OVERHEAD_BYTES
        if rest < 0:
            return
        mark, _kind, flags, length, _index = _FRAME.unpack_from(self._buffer, offset)
        plausible = mark == spec.FRAME_MARK and not flags
        if plausible and length <= min(rest, spec.MAX_FRAME_BODY_BYTES):
            self._left -= FRAME_HEADER_BYTES + length

    def next_frame(self, start: int) -> Frame | None:
        """The first offset from `start` at which a whole frame with a good checksum stands."""
        for at in self._marks(start):
            if self._left < 0:
                return None
            try:
                return decode_frame(self._buffer, at)
            except Damaged:
                self.spend(at)
        return None

    def _marks(self, start: int) -> Iterator[int]:
        """Offsets of the mark; windows are copied, for a view cannot be searched."""
        overlap = len(spec.FRAME_MARK) - 1
        for window in range(start, len(self._buffer), _WINDOW_BYTES):
            data = bytes(self._buffer[window : window + _WINDOW_BYTES + overlap])
            at = data.find(spec.FRAME_MARK)
            while at >= 0:
                yield window + at
                at = data.find(spec.FRAME_MARK, at + 1)


def whole_frames_end(buffer: memoryview, offset: int) -> int:
    """The offset after the last whole frame from `offset`: as much as may be shipped.

    Raises:
        Damaged: something other than a cut at the end is wrong.
    """
    while offset < len(buffer):
        try:
            offset = decode_frame(buffer, offset).end
        except Torn as torn:
            # A damaged length also looks like a cut; but behind a cut there is nothing.
            if _Search(buffer).next_frame(offset + 1) is not None:
                raise Damaged(torn.problem, offset=offset) from torn
            problem = _cut_or_damage(buffer, offset, torn)
            if not isinstance(problem, Torn):
                raise problem from torn
            return offset
    return offset


def _cut_or_damage(buffer: memoryview, offset: int, problem: Damaged) -> Damaged:
    """A last frame that seems cut may be whole but for its length: then its checksum fits."""
    rest = len(buffer) - offset - FRAME_OVERHEAD_BYTES
    if not isinstance(problem, Torn) or not 0 <= rest <= spec.MAX_FRAME_BODY_BYTES:
        return problem
    mark, kind, flags, _length, index = _FRAME.unpack_from(buffer, offset)
    body = buffer[offset + FRAME_HEADER_BYTES : len(buffer) - _CRC.size]
    summed = zlib.crc32(body, zlib.crc32(_FRAME.pack(mark, kind, flags, rest, index)))
    if _CRC.unpack_from(buffer, len(buffer) - _CRC.size)[0] == summed:
        return Damaged("a frame whose length is wrong", offset=offset)
    return problem


# ------------------------------------------------------------------ heads and references
@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A signed statement on all that stands before it in its log."""

    count: int  # frames before this one
    length: int  # bytes before this one, the header included
    chain: bytes
    time_us: int
    final: bool


def encode_head(head: Head, segment: bytes, index: int, device_seed: bytes) -> bytes:
    """A HEAD frame, signed by the writer's device."""
    unsigned = _HEAD.pack(head.count, head.length, head.chain, head.time_us, head.final, bytes(64))[
        :-64
    ]
    signature = crypto.sign(device_seed, spec.SIGN_HEAD, segment + unsigned)
    return encode_frame(spec.FrameType.HEAD, index, unsigned + signature)


def decode_head(frame: Frame, segment: bytes, device: bytes) -> Head:
    """Parse and verify a HEAD frame.

    Raises:
        Damaged: the body is not a head, or a byte that must be zero is not.
        Forged: not signed by `device` for `segment`.
    """
    body = bytes(frame.body)
    if len(body) != _HEAD.size:
        raise Damaged("a head of a wrong length", offset=frame.offset)
    count, length, chain, time_us, final, signature = _HEAD.unpack(body)
    try:
        crypto.check_signature(device, spec.SIGN_HEAD, segment + body[:-64], signature)
    except Forged as error:
        raise Forged(error.problem, offset=frame.offset) from error
    if final > 1 or any(body[_HEAD_ZEROS]):
        raise Damaged("a head of a newer localstore", offset=frame.offset)
    return Head(count=count, length=length, chain=chain, time_us=time_us, final=bool(final))


def encode_ref(objects: list[bytes], index: int) -> bytes:
    """A REF frame: the 32-byte ids of objects that this segment refers to, in clear."""
    return encode_frame(spec.FrameType.REF, index, b"".join(objects))


def decode_ref(frame: Frame) -> list[bytes]:
    """The ids in a REF frame.

    Raises:
        Damaged: the body is not a list of ids.
    """
    body = bytes(frame.body)
    if len(body) % spec.HASH_BYTES:
        raise Damaged("a list of references of a wrong length", offset=frame.offset)
    return [body[at : at + spec.HASH_BYTES] for at in range(0, len(body), spec.HASH_BYTES)]


def encode_unref(cancelled: Sequence[tuple[bytes, int]], index: int) -> bytes:
    """An UNREF frame: (segment id, frame index) of REF frames that no longer count, in clear."""
    return encode_frame(spec.FrameType.UNREF, index, unref_body(cancelled))


def unref_body(cancelled: Sequence[tuple[bytes, int]]) -> bytes:
    """The body of an UNREF frame."""
    return b"".join(_UNREF.pack(*one) for one in cancelled)


def decode_unref(frame: Frame) -> list[tuple[bytes, int]]:
    """Which REF frames an UNREF frame cancels.

    Raises:
        Damaged: the body is not a list of such.
    """
    if len(frame.body) % _UNREF.size:
        raise Damaged("a list of cancelled references of a wrong length", offset=frame.offset)
    return list(_UNREF.iter_unpack(frame.body))


def first_chain(header: Bytes) -> bytes:
    """The chain value before any frame: over the header's bytes."""
    return crypto.digest(spec.LABEL_CHAIN, header)
