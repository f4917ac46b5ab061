"""Flips, cuts, swaps, transplants, bombs: every one is noticed, none costs more than what it hit.

Whatever the bytes are, a reader raises `Damaged` or one of its children, and nothing else.
"""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from localstore import crypto
from localstore.errors import Damaged, Forged, Torn
from localstore.format import columns, objects, packing, segment, signed, spec
from localstore.format.records import decode_record, decode_records, encode_records
from localstore.format.segment import Frame, scan_frames, whole_frames_end
from localstore.format.spec import Compression, FrameType, LinkKind
from localstore.layout import parse_name

from .walk import generate, open_key, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

many: Final = settings(max_examples=300, derandomize=True, deadline=None)
LOG: Final = generate.good_log()
OTHER: Final = generate.good_log("other")
STARTS: Final = [len(LOG.header) + sum(map(len, LOG.frames[:n])) for n in range(7)]
SEALED: Final = (0, 1, 4)  # the sealed frames of LOG; 2 is a REF, 3 and 5 are heads
FLIPS: Final = (0x01, 0x80)


def flipped(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """Every byte, each with its lowest and its highest bit flipped."""
    for at in range(len(raw)):
        for bit in FLIPS:
            yield at, raw[:at] + bytes((raw[at] ^ bit,)) + raw[at + 1 :]


def frame_at(offset: int) -> int:
    """Which frame of LOG holds a byte."""
    return max(n for n in range(6) if STARTS[n] <= offset)


# ------------------------------------------------------------------ signed files
SIGNED: Final = {
    magic: generate.signed_file(magic, 1, {"parents": [bytes(32)], "n": 1, "s": "text"})
    for magic in signed.SIGN_LABELS
}


@pytest.mark.parametrize("magic", SIGNED)
def test_no_byte_of_a_signed_file_can_be_flipped(magic: bytes) -> None:
    for at, raw in flipped(SIGNED[magic]):
        with pytest.raises(Damaged):
            signed.decode(raw, magic)
            pytest.fail(f"byte {at}")


@pytest.mark.parametrize("magic", SIGNED)
def test_a_signed_file_cut_anywhere_is_torn(magic: bytes) -> None:
    for cut in range(len(SIGNED[magic])):
        with pytest.raises(Torn):
            signed.decode(SIGNED[magic][:cut], magic)


@pytest.mark.parametrize("magic", SIGNED)
def test_a_signature_of_one_kind_is_none_of_another(magic: bytes) -> None:
    for other in signed.SIGN_LABELS.keys() - {magic}:
        with pytest.raises(Forged):
            signed.decode(other + SIGNED[magic][4:], other)


def test_a_signed_file_with_a_giant_length_is_refused() -> None:
    link = bytearray(SIGNED[b"LSLK"])
    link[80:84] = b"\xff" * 4
    with pytest.raises(Torn):
        signed.decode(bytes(link), b"LSLK")
    for magic, raw in SIGNED.items():
        most = spec.MAX_TICKET_BYTES if magic == b"LSTK" else spec.MAX_SIGNED_FILE_BYTES
        with pytest.raises(Damaged, match=f"the most is {most}"):
            signed.decode(raw + bytes(most), magic)


@many
@given(st.binary(max_size=60))
def test_any_signed_bytes_are_a_map_or_damaged(body: bytes) -> None:
    """The signer may be hostile: what it signs reaches the parser."""
    head = SIGNED[b"LSLK"][:80] + struct.pack("<I", len(body)) + body
    raw = generate.resign(head + bytes(64), spec.LINK_MAGIC)
    try:
        found = signed.decode(raw, spec.LINK_MAGIC)
    except Damaged:
        return
    assert all(isinstance(key, str) for key in found.body)


@pytest.mark.parametrize("body", [b"\x91" * 20_000, b"\x81\xa1a" * 15_000, b"\x81\x81\x01\x02\x03"])
def test_deep_and_strange_maps_are_damaged(body: bytes) -> None:
    head = SIGNED[b"LSLK"][:80] + struct.pack("<I", len(body)) + body
    with pytest.raises(Damaged):
        signed.decode(generate.resign(head + bytes(64), spec.LINK_MAGIC), spec.LINK_MAGIC)


# ------------------------------------------------------------------ segments
def test_no_byte_of_a_segment_s_header_can_be_flipped() -> None:
    for at, raw in flipped(LOG.header):
        with pytest.raises(Damaged):
            walk(raw, LOG.class_secret)
            pytest.fail(f"byte {at}")


def test_a_flipped_byte_costs_the_frame_that_it_hit_and_nothing_else() -> None:
    """Sealed frames before and behind it open; no head behind it vouches for it."""
    whole = [bytes(found) for found in LOG.frames]
    for at in range(STARTS[0], STARTS[6]):
        raw = LOG.raw[:at] + bytes((LOG.raw[at] ^ 0x10,)) + LOG.raw[at + 1 :]
        hit = frame_at(at)
        found = walk(raw, LOG.class_secret)
        good = [n for n in range(6) if n != hit]
        frames = [f for f in scan_frames(memoryview(raw), STARTS[0]) if isinstance(f, Frame)]
        assert [bytes(f.raw) for f in frames] == [whole[n] for n in good], at
        lost = [n for n in range(6) if n == hit or (n > hit and n in (3, 5))]
        assert [n for n in range(6) if found.verdicts[n] != "ok"] == lost, at
        assert found.vouched <= STARTS[hit]


@pytest.mark.parametrize("cut", range(len(LOG.header)))
def test_a_header_cut_anywhere_is_torn(cut: int) -> None:
    with pytest.raises(Torn):
        segment.decode_header(LOG.raw[:cut])


def test_a_log_cut_anywhere_keeps_all_whole_frames_and_is_never_final() -> None:
    for cut in range(STARTS[0], STARTS[6]):
        raw = LOG.raw[:cut]
        whole = sum(1 for n in range(1, 7) if STARTS[n] <= cut)
        torn = [] if cut in STARTS else ["torn"]
        found = walk(raw, LOG.class_secret)
        assert found.verdicts == ["ok"] * whole + torn, cut
        assert found.vouched == (STARTS[3] if whole >= 4 else 0)
        assert whole_frames_end(memoryview(raw), STARTS[0]) == STARTS[whole]


def test_a_damaged_length_is_not_taken_for_a_cut() -> None:
    """Else a remote would be sent a log without its end."""
    raw = bytearray(LOG.raw)
    raw[STARTS[1] + 6] = 0x7F  # the frame claims 8 MiB
    with pytest.raises(Damaged) as caught:
        whole_frames_end(memoryview(raw), STARTS[0])
    assert not isinstance(caught.value, Torn)
    assert caught.value.offset == STARTS[1]


@pytest.mark.parametrize("one", range(6))
@pytest.mark.parametrize("two", range(6))
def test_two_frames_cannot_change_places(one: int, two: int) -> None:
    frames = list(LOG.frames)
    frames[one], frames[two] = frames[two], frames[one]
    found = walk(LOG.header + b"".join(frames), LOG.class_secret)
    if one == two:
        assert found.verdicts == ["ok"] * 6
    else:
        assert "damaged" in found.verdicts
        assert found.vouched <= STARTS[min(one, two)]


@pytest.mark.parametrize("which", range(6))
def test_a_frame_cannot_be_dropped_or_repeated(which: int) -> None:
    for frames in (
        LOG.frames[:which] + LOG.frames[which + 1 :],
        LOG.frames[: which + 1] + LOG.frames[which:],
    ):
        found = walk(LOG.header + b"".join(frames), LOG.class_secret)
        assert found.verdicts != ["ok"] * len(frames) or which == 5
        assert found.vouched <= STARTS[5]
        # Dropping the last frame is a cut, which only a remembered head or receipt tells.
        assert found.vouched < STARTS[5] or len(frames) > 6 - (which == 5)


@pytest.mark.parametrize("which", SEALED)
def test_a_sealed_frame_opens_in_its_segment_alone(which: int) -> None:
    frames = list(LOG.frames)
    frames[which] = OTHER.frames[which]
    found = walk(LOG.header + b"".join(frames), LOG.class_secret)
    assert found.verdicts[which] == "forged"
    assert [found.verdicts[n] for n in SEALED if n != which] == ["ok", "ok"]


@pytest.mark.parametrize("at", range(16))
def test_a_sealed_frame_opens_with_its_own_header_alone(at: int) -> None:
    """Another type, index or length with a checksum that fits is forged."""
    raw = bytearray(LOG.frames[0])
    raw[at] ^= 1
    raw[-4:] = struct.pack("<I", zlib.crc32(raw[:-4]))
    opener = crypto.FrameOpener(LOG.key, LOG.id)
    with pytest.raises(Damaged):
        frame = segment.decode_frame(memoryview(bytes(raw)), 0)
        opener.open(frame.header, frame.body)


@pytest.mark.parametrize(
    "change",
    [
        {"project": bytes(32)},
        {"subject": bytes(16)},
        {"segment": bytes(16)},
        {"writer": bytes(16)},
        {"data_class": 1},
        {"pair": bytes(32)},
        {"cert": bytes(32)},
        {"epoch": 9},
        {"policy_tag": bytes([1]) * 16},
        {"supersedes": 0},
        {"started_us": 0},
        {"commitment": bytes(32)},
    ],
)
def test_a_member_cannot_put_another_s_key_under_a_header_of_their_own(
    change: dict[str, Any],
) -> None:
    """Signed again with any device key, the box inside still says where it belongs."""
    header, _ = segment.decode_header(LOG.header)
    thief = generate.fixed("thief")
    for stolen in (replace(header, **change), replace(header, device=crypto.sign_public(thief))):
        raw = stolen.encode(thief if stolen.device != header.device else generate.DEVICE_SEED)
        found, _ = segment.decode_header(raw)
        with pytest.raises(Forged):
            open_key(found, LOG.class_secret)


def test_heads_of_another_segment_or_device_are_forged() -> None:
    frame = segment.decode_frame(memoryview(LOG.frames[3]), 0)
    device = crypto.sign_public(generate.DEVICE_SEED)
    segment.decode_head(frame, LOG.id, device)
    with pytest.raises(Forged):
        segment.decode_head(frame, OTHER.id, device)
    with pytest.raises(Forged):
        segment.decode_head(frame, LOG.id, crypto.sign_public(generate.fixed("thief")))


def test_bytes_that_anybody_appends_are_vouched_for_by_nobody() -> None:
    """A remote can make a copy longer; it cannot make it better."""
    log = generate.good_log()
    log.frames = log.frames[:4]
    before = walk(log.raw, log.class_secret)
    log.refer("an object that the writer never named")
    after = walk(log.raw, log.class_secret)
    assert after.vouched == before.vouched == STARTS[3]


def test_a_key_of_small_order_is_refused() -> None:
    for public in (bytes(32), b"\x01" + bytes(31)):
        with pytest.raises(Forged):
            crypto.seal(public, bytes(32), bytes(32))
        with pytest.raises(Forged):
            crypto.check_signature(public, b"label", b"message", bytes(64))


def test_a_walk_over_false_frames_does_bounded_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hostile file may hold the beginning of a long frame in every sixteen bytes."""
    size = 2 * 1024 * 1024
    false = struct.pack("<2sBBIQ", b"LF", 2, 0, size // 2, 0)
    good = segment.encode_frame(FrameType.REF, 0, b"")
    summed, real = [0], zlib.crc32

    def counted(data: bytes) -> int:
        summed[0] += len(data)
        return real(data)

    monkeypatch.setattr(zlib, "crc32", counted)
    for raw in (false * (size // 16), (false + good) * (size // 36)):
        summed[0] = 0
        assert list(scan_frames(memoryview(raw), 0))
        with pytest.raises(Damaged):
            whole_frames_end(memoryview(raw), 0)
        assert summed[0] < 2 * (8 * spec.MAX_FRAME_BODY_BYTES + 6 * size)


def test_one_good_frame_is_found_behind_a_megabyte_of_noise() -> None:
    noise = generate.fixed("noise", 3_000_000)
    good = LOG.frames[2]
    for before in (0, 1, 1024 * 1024 - 1, 1024 * 1024, 1024 * 1024 + 1):
        raw = noise[:before] + good + noise[:5000] + good
        found = [f for f in scan_frames(memoryview(raw), 0) if isinstance(f, Frame)]
        assert [f.offset for f in found] == [before, before + len(good) + 5000]


@pytest.mark.parametrize("at", [8, 9, 11, 12, 196, 199, 376, 377, 378, 379])
def test_a_header_of_a_newer_version_is_refused_though_its_writer_signed_it(at: int) -> None:
    """Version, suite, flags, lengths, and bytes that must be zero."""
    raw = bytearray(LOG.header[:-64])
    raw[at] ^= 4
    signature = crypto.sign(generate.DEVICE_SEED, spec.SIGN_HEADER, bytes(raw))
    with pytest.raises(Damaged) as caught:
        segment.decode_header(bytes(raw) + signature + bytes(4096))
    assert not isinstance(caught.value, Forged)


@pytest.mark.parametrize("at", range(9, 128))
def test_padding_that_is_not_zero_is_damaged(at: int) -> None:
    """Else a hostile writer could hide bytes there, and one content had many frames."""
    plain = bytearray(struct.pack("<I", 5) + b"hello" + bytes(119))
    assert packing.unpad(bytes(plain)) == b"hello"
    plain[at] = 1
    with pytest.raises(Damaged):
        packing.unpad(bytes(plain))


@pytest.mark.parametrize("first", [2**63 - 1, -(2**63)])
def test_numbers_that_grow_beyond_64_bits_are_damaged(first: int) -> None:
    """With equal differences, and with differences of their own width."""
    step = 1 if first > 0 else -1
    head = packing.varint(0) + packing.varint(2) + packing.varint(2) + b"\0"
    start = columns._zigzag(first)
    for steps in (
        start + columns._zigzag(step) + b"\0",
        start + columns._zigzag(min(step, 0)) + b"\x01" + bytes((max(step, 0),)),
    ):
        with pytest.raises(Damaged, match="64 bits"):
            columns.decode_block(head + steps + b"\0\0\0" + b"\0")


# ------------------------------------------------------------------ tails
def tail() -> bytes:
    """Three records, sealed one by one."""
    bodies = [generate.pack(generate.point(step, loss=1.5)) for step in range(3)]
    sealed = (
        generate.seal_frame(LOG.key, LOG.id, FrameType.RECORD, at, body)
        for at, body in enumerate(bodies)
    )
    return b"".join(sealed)


def read_tail(raw: bytes) -> list[int]:
    """Sequence numbers of the records that open."""
    opener, found = crypto.FrameOpener(LOG.key, LOG.id), []
    for frame in scan_frames(memoryview(raw), 0):
        if isinstance(frame, Frame):
            decode_record(packing.unpad(opener.open(frame.header, frame.body)))
            found.append(frame.index)
    return found


def test_a_flipped_byte_of_a_tail_costs_one_record() -> None:
    size = len(tail()) // 3
    assert size == 188
    for at, raw in flipped(tail()):
        assert read_tail(raw) == [n for n in range(3) if n != at // size]


def test_a_tail_cut_anywhere_keeps_its_whole_records() -> None:
    for cut in range(len(tail())):
        assert read_tail(tail()[:cut]) == list(range(cut // 188))


# ------------------------------------------------------------------ objects
OBJECT: Final = objects.seal_object(7, b"content", generate.fixed("dedup"))


def test_no_byte_of_an_object_can_be_flipped() -> None:
    """Neither under its own name, nor under the name that fits the flipped bytes."""
    for _, raw in flipped(OBJECT.raw):
        for name in (OBJECT.id, crypto.sha256(raw)):
            with pytest.raises(Damaged):
                objects.open_object(raw, OBJECT.key, name)


def test_an_object_cut_anywhere_is_refused() -> None:
    for cut in range(len(OBJECT.raw)):
        raw = OBJECT.raw[:cut]
        with pytest.raises(Forged):
            objects.open_object(raw, OBJECT.key, OBJECT.id)
        with pytest.raises(Damaged):
            objects.open_object(raw, OBJECT.key, crypto.sha256(raw))


def test_a_giant_object_is_refused_before_it_is_hashed() -> None:
    with pytest.raises(Damaged, match="16 MiB"):
        objects.check_object(bytes(spec.MAX_OBJECT_BYTES + 1), bytes(32))


@many
@given(st.binary(min_size=128, max_size=160))
def test_any_plaintext_of_an_object_is_content_or_damaged(body: bytes) -> None:
    """Who knows the dedup secret may be hostile."""
    only_damaged(lambda: objects._unpack(memoryview(body)))


# ------------------------------------------------------------------ bombs and giant claims
def only_damaged(act: Callable[[], object]) -> bool:
    """Whether `act` succeeded; any other error than `Damaged` fails the test."""
    try:
        act()
    except Damaged:
        return False
    return True


def peak_bytes(act: Callable[[], object]) -> int:
    """The most memory that `act` took while it was refused."""
    tracemalloc.start()
    try:
        with pytest.raises(Damaged):
            act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def zstd_that_claims(size: int) -> bytes:
    return bytes.fromhex("28b52ffde0") + struct.pack("<Q", size) + b"\x01\x00\x00"


BOMBS: Final = {
    "a byte more than the limit": zstandard.ZstdCompressor(
        level=1, write_content_size=True
    ).compress(bytes(spec.MAX_FRAME_CONTENT_BYTES + 1)),
    "claims 2**62 bytes": zstd_that_claims(2**62),
    "claims nothing": zstd_that_claims(0),
    "states no size": zstandard.ZstdCompressor(write_content_size=False).compress(bytes(9000)),
    "bytes behind it": generate.zstd_of_equal_bytes(0, 1000) + b"x",
    "two frames": generate.zstd_of_equal_bytes(0, 1000) * 2,
    "a skippable frame": b"\x50\x2a\x4d\x18\x04\0\0\0abcd",
    "holds more than it claims": generate.zstd_of_equal_bytes(0, 1000).replace(
        b"\xe8\x02", b"\xe7\x02"
    ),
    "holds less than it claims": generate.zstd_of_equal_bytes(0, 1000).replace(
        b"\xe8\x02", b"\xe9\x02"
    ),
    "a window of 64 MiB": bytes.fromhex("28b52ffd8080")
    + struct.pack("<I", 10)
    + b"\x51\0\0"
    + b"a" * 10,
    "nothing": b"",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_zstd_bomb_is_refused_in_bounded_memory(name: str) -> None:
    assert (
        peak_bytes(lambda: packing.decompress(BOMBS[name], spec.MAX_FRAME_CONTENT_BYTES)) < 1 << 20
    )


@pytest.mark.parametrize(
    "content",
    [
        b"\0\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\0\x01\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\0\x01\x05\xdd\xff\xff\xff\xff",
        b"\0\x01\x05\xdf\xff\xff\xff\xff",
        b"\0\x01\x05\xc6\xff\xff\xff\xff",
    ],
)
def test_giant_lengths_in_records_are_refused_in_bounded_memory(content: bytes) -> None:
    assert peak_bytes(lambda: decode_records(content)) < 1 << 20


def test_a_small_block_cannot_claim_a_giant_number_of_values() -> None:
    rows = packing.varint(1024)
    head = b"\0" + rows + rows + b"\0" + b"\0\0\0" * 2
    content = head + packing.varint(100_000) + b"\0\x06\x01\xc0" * 100_000
    with pytest.raises(Damaged, match="values"):
        columns.decode_block(content)


def test_a_frame_of_an_impossible_length_takes_no_memory() -> None:
    header = struct.pack("<2sBBIQ", b"LF", 2, 0, 2**32 - 1, 0)
    assert peak_bytes(lambda: segment.decode_frame(memoryview(header + bytes(100)), 0)) < 1 << 20


# ------------------------------------------------------------------ any bytes at all
BLOCK: Final = columns.encode_block(
    0,
    [
        generate.point(s, a=s * 0.1, b=s, c=s % 2 == 0, d=[s], e="x", **({"f": 1} if s else {}))
        for s in range(5)
    ],
    columns.KeyTable(),
)
RECORDS: Final = encode_records(0, [generate.pack(generate.point(s, a=s)) for s in range(3)])


@many
@given(st.binary(max_size=80))
def test_any_bytes_are_content_or_damaged(raw: bytes) -> None:
    for decode in (decode_records, decode_record, columns.decode_block, packing.unpad):
        only_damaged(lambda decode=decode: decode(raw))  # type: ignore[misc]
    only_damaged(lambda: packing.decompress(b"\x28\xb5\x2f\xfd" + raw, 1 << 20))
    only_damaged(lambda: packing.unpad(struct.pack("<I", len(raw) | Compression.ZSTD << 28) + raw))
    only_damaged(lambda: segment.decode_header(raw))
    list(scan_frames(memoryview(raw + b"LF\x04\0" + raw), 0))
    only_damaged(lambda: objects.check_object(raw, crypto.sha256(raw)))


@pytest.mark.parametrize("good", [BLOCK, RECORDS], ids=["columns", "records"])
def test_every_flip_and_cut_of_a_content_is_content_or_damaged(good: bytes) -> None:
    """A hostile writer seals what it likes, so no tag protects the parser."""
    decode: Callable[[bytes], object] = columns.decode_block if good is BLOCK else decode_records
    for at in range(len(good)):
        for byte in (0x00, 0x01, 0x7F, 0x80, 0xFF, good[at] ^ 1, good[at] ^ 0x80):
            raw = good[:at] + bytes((byte,)) + good[at + 1 :]
            only_damaged(lambda raw=raw: decode(raw))  # type: ignore[misc]
        with pytest.raises(Damaged):
            decode(good[:at])


@many
@given(st.one_of(st.text(max_size=80), st.from_regex(r"[a-z]+/[0-9a-f./]{1,90}", fullmatch=True)))
def test_a_name_of_the_format_never_leaves_its_folder(name: str) -> None:
    if only_damaged(lambda: parse_name(name)):
        assert ".." not in name.split("/")
        assert not name.startswith("/")


@pytest.mark.parametrize("kind", [k for k in LinkKind if k is not LinkKind.GENESIS])
def test_fields_of_a_wrong_type_are_damaged(kind: LinkKind) -> None:
    raw = generate.signed_file(spec.LINK_MAGIC, kind, {"parents": "none", "epoch": True})
    found = signed.decode(raw, spec.LINK_MAGIC)
    for name, wanted, size in (("parents", list, None), ("epoch", int, None), ("x", bytes, 16)):
        with pytest.raises(Damaged):
            found.get(name, wanted, size)
