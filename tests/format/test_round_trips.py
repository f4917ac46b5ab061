"""What is written is read again, bit by bit: columns, records, frames, segments, objects."""

from __future__ import annotations

import math
import struct
from typing import Any, Final

import msgspec
import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from localstore import crypto
from localstore.errors import Damaged
from localstore.format import columns, objects, segment, signed, spec
from localstore.format.packing import Reader, compress, unpad, varint
from localstore.format.records import decode_records, encode_records
from localstore.format.spec import DataClass, FrameType, LinkKind

from . import stranger
from .walk import generate, rows, walk

few: Final = settings(max_examples=60, derandomize=True, deadline=None)
pack: Final = msgspec.msgpack.encode

ints: Final = st.one_of(
    st.integers(-(2**63), 2**64 - 1), st.sampled_from([0, -1, 2**53 + 1, 2**63 - 1, -(2**63)])
)
floats: Final = st.one_of(
    st.floats(), st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.1, 0.5])
)
texts: Final = st.text(st.characters(codec="utf-8"), max_size=8)
plain: Final = st.one_of(st.none(), st.booleans(), ints, floats, texts, st.binary(max_size=8))
values: Final = st.one_of(
    plain,
    st.lists(plain, max_size=3),
    st.fixed_dictionaries({"_type": texts, "x": plain}),
    st.dictionaries(texts, plain, min_size=1, max_size=2),
)
# A key of a list's few makes columns meet; one strategy for each key makes columns of one type.
keys: Final = st.one_of(st.sampled_from(["loss", "a.b", "ü", ""]), texts)
steps: Final = st.one_of(st.integers(0, 5), st.integers(-(2**62), 2**62 - 1))
point: Final = st.builds(
    lambda step, time, found: [1, time, step, found],
    steps,
    st.integers(-(2**62), 2**62 - 1),
    st.dictionaries(keys, values, max_size=4),
)
one_type: Final = st.sampled_from([ints, floats, st.booleans(), texts]).flatmap(
    lambda kind: st.lists(kind, min_size=1, max_size=20)
)


def bits(value: Any) -> Any:
    """The value with its type and, for floats, its bits: NaN equals itself, 1 is not 1.0."""
    if isinstance(value, float):
        return ("float", struct.pack(">d", value))
    if isinstance(value, list | tuple):
        return [bits(one) for one in value]
    if isinstance(value, dict):
        return {key: bits(one) for key, one in value.items()}
    return (type(value).__name__, value)


def expected(points: list[list[Any]]) -> tuple[list[int], list[int], dict[str, Any]]:
    """Rows by the words of format.md, chapter 8, computed the slow way."""
    steps: list[int] = []
    times: list[int] = []
    table: list[dict[str, Any]] = []
    for _, time, step, found in points:
        if not steps or steps[-1] != step:
            steps.append(step)
            times.append(time)
            table.append({})
        times[-1] = time
        table[-1] |= columns.flatten(found)
    names = dict.fromkeys(name for row in table for name in row)
    by_name = {
        name: [[at, bits(row[name])] for at, row in enumerate(table) if name in row]
        for name in names
    }
    return steps, times, by_name


@few
@given(st.lists(point, min_size=1, max_size=12))
def test_columns_hold_every_value_of_every_point(points: list[list[Any]]) -> None:
    raw = columns.encode_block(3, points, columns.KeyTable())
    block = columns.decode_block(raw)
    steps, times, by_name = expected(points)
    assert (block.first_sequence, block.record_count) == (3, len(points))
    assert (list(block.steps), list(block.times_us)) == (steps, times)
    found = {k: [[at, bits(v)] for at, v in cells] for k, cells in rows(block).items()}
    assert found == by_name
    theirs = stranger.read_columns(raw)["columns"]
    assert {k: [[at, bits(v)] for at, v in cells] for k, cells in theirs.items()} == by_name


@few
@given(one_type)
@example([0, 2**62] * 3)
@example([0, -(2**62), 2**62] * 700)
@example([1_767_225_600_000_000_000, 0] * 512)
@example([-(2**63), -1])
@example([1.5, math.nan])
@example([struct.unpack("<d", b"\1\0\0\0\0\0\xf8\x7f")[0]] * 2)
@example([3.4e38, 3.5e38])
def test_a_column_of_one_type_comes_back_bit_by_bit(cells: list[Any]) -> None:
    points = [[1, at, at, {"v": cell}] for at, cell in enumerate(cells)]
    block = columns.decode_block(columns.encode_block(0, points, columns.KeyTable()))
    assert bits(list(block.columns[0].values)) == bits(cells)


@few
@given(st.text(min_size=1, max_size=5))
def test_a_key_of_any_text_does_not_stop_a_block(name: str) -> None:
    """Lone surrogates are no UTF-8: the value stays, its name is shown with replacements."""
    block = columns.decode_block(
        columns.encode_block(0, [[1, 0, 0, {name: 1}]], columns.KeyTable())
    )
    assert list(block.columns[0].values) == [1]
    if not any(0xD800 <= ord(letter) < 0xE000 for letter in name):
        assert block.names == {0: name}


def test_key_names_stand_in_the_first_blocks_and_in_the_last() -> None:
    table = columns.KeyTable()

    def names(step: int, *, last: bool = False) -> set[str]:
        found = {"a": 1, f"new-{step}": 1}
        raw = columns.encode_block(step, [[1, 0, step, found]], table, last=last)
        return set(columns.decode_block(raw).names.values())

    seen = [names(block) for block in range(1, 9)]
    assert seen[0] == {"a", "new-1"}
    assert seen[1] == {"a", "new-1", "new-2"}
    assert seen[2] == {"new-3"}
    assert len(seen[3]) == 5
    assert seen[4] == {"new-5"}
    assert len(seen[7]) == 9
    assert len(names(9, last=True)) == 10


@few
@given(st.integers(0, 2**40), st.lists(st.lists(plain, max_size=3), max_size=6))
def test_records_come_back_as_they_were(first: int, tails: list[list[Any]]) -> None:
    whole = [[at + 1, -at, *tail] for at, tail in enumerate(tails)]
    raw = encode_records(first, [pack(record) for record in whole])
    found_first, found = decode_records(raw)
    assert (found_first, bits(found)) == (first, bits(whole))


@few
@given(st.integers(0, 2**64 - 1))
def test_a_number_of_64_bits_comes_back(number: int) -> None:
    reader = Reader(varint(number))
    assert reader.varint() == number
    assert not reader.left


def test_a_number_beyond_64_bits_is_refused() -> None:
    with pytest.raises(Damaged):
        Reader(varint(2**64)).varint()


@few
@given(
    st.integers(0, 2**64 - 1),
    st.one_of(st.binary(max_size=300), st.binary(max_size=3).map(lambda piece: piece * 5000)),
)
def test_a_sealed_frame_opens_to_what_was_sealed(index: int, content: bytes) -> None:
    key, owner = generate.fixed("key"), generate.fixed("segment", 16)
    squeezed, how = compress(content, zstandard.ZstdCompressor(write_content_size=True))
    raw = bytes(crypto.FrameSealer(key, owner).seal(FrameType.RECORDS, index, squeezed, how))
    frame = segment.decode_frame(memoryview(raw), 0)
    assert (frame.kind, frame.index, frame.end) == (FrameType.RECORDS, index, len(raw))
    opened = crypto.FrameOpener(key, owner).open(frame.header, frame.body)
    assert unpad(opened) == content
    assert len(opened) == crypto.padme(4 + len(squeezed))


@pytest.mark.parametrize("size", [0, 1, 123, 124, 125, 3995, 3996, 3999, 4000, 8188, 8189, 100_000])
def test_sizes_around_each_bound_of_the_sealer(size: int) -> None:
    """One sealer for short, long and short again: its buffer is reused."""
    key, owner = generate.fixed("key"), generate.fixed("segment", 16)
    sealer, opener = crypto.FrameSealer(key, owner), crypto.FrameOpener(key, owner)
    for length in (size, 0, size):
        content = generate.fixed("content", length)
        frame = segment.decode_frame(memoryview(bytes(sealer.seal(2, 7, content))), 0)
        assert unpad(opener.open(frame.header, frame.body)) == content


def test_a_content_that_no_reader_would_take_is_not_sealed() -> None:
    sealer = crypto.FrameSealer(bytes(32), bytes(16))
    longest = spec.MAX_FRAME_BODY_BYTES - (1 << 18) - 4
    assert len(sealer.seal(2, 0, bytes(longest))) <= spec.MAX_FRAME_BODY_BYTES
    for size in (longest + 1, spec.MAX_FRAME_BODY_BYTES, 2 * spec.MAX_FRAME_BODY_BYTES):
        with pytest.raises(Damaged):
            sealer.seal(2, 0, bytes(size))


def test_no_nonce_repeats() -> None:
    sealer = crypto.FrameSealer(bytes(32), bytes(16))
    nonces = {bytes(sealer.seal(3, at, b"")[16:40]) for at in range(2000)}
    assert len(nonces) == 2000


@few
@given(st.integers(0, 255), st.binary(max_size=2000), st.booleans())
def test_an_object_opens_to_its_content(data_class: int, content: bytes, press: bool) -> None:
    secret = generate.fixed("dedup")
    compressor = zstandard.ZstdCompressor(write_content_size=True) if press else None
    made = objects.seal_object(data_class, content * 3, secret, compressor)
    opened = objects.open_object(made.raw, made.key, made.id, dedup_secret=secret)
    assert (opened.data_class, opened.content) == (data_class, content * 3)
    assert made == objects.seal_object(data_class, content * 3, secret, compressor)


def test_an_object_that_is_too_long_is_not_made() -> None:
    with pytest.raises(Damaged):
        objects.seal_object(7, bytes(spec.MAX_OBJECT_BYTES + 1), bytes(32))
    with pytest.raises(Damaged):
        objects.seal_object(7, generate.fixed("long", spec.MAX_OBJECT_BYTES - 100), bytes(32))


# ------------------------------------------------------------------ what parses marshals back
bodies: Final = st.dictionaries(
    texts,
    st.one_of(plain, st.lists(plain, max_size=3), st.dictionaries(st.integers(0, 9), plain)),
    max_size=5,
)


@few
@given(bodies)
def test_a_signed_file_that_parses_marshals_to_the_same_bytes(body: dict[str, Any]) -> None:
    raw = generate.signed_file(spec.LINK_MAGIC, LinkKind.LABEL, body)
    found = signed.decode(raw, spec.LINK_MAGIC)
    again = signed.encode(
        found.magic,
        found.kind,
        project=found.project,
        seed=generate.USER_SEED,
        created_us=found.created_us,
        body=dict(found.body),
    )
    assert again == raw


@pytest.mark.parametrize(
    "body",
    [
        b"\x81\xd9\x01a\x01",  # a key in a longer form
        b"\x81\xa1a\xcc\x01",  # a number in a longer form
        b"\x81\xa1a\xca\0\0\0\0",  # a float of 32 bits
        b"\x82\xa1a\x01\xa1a\x02",  # a key twice
        b"\x81\xa1a\xc7\x01\x05\x00",  # an extension in a longer form
        b"\xde\x00\x01\xa1a\x01",  # a map in a longer form
        b"\x81\xa1a\xdc\x00\x00",  # an array in a longer form
        b"\x81\xa1a\xc5\x00\x01a",  # bytes in a longer form
    ],
)
def test_a_signed_body_has_one_form_only(body: bytes) -> None:
    """Else two readers might read two things into one signature."""
    link = generate.genesis()
    raw = link[:80] + struct.pack("<I", len(body)) + body + bytes(64)
    with pytest.raises(Damaged, match="shortest"):
        signed.decode(generate.resign(raw, spec.LINK_MAGIC), spec.LINK_MAGIC)


def test_a_header_that_parses_marshals_to_the_same_bytes() -> None:
    before = segment.Predecessor(segment=bytes(16), chain=bytes(32), length=5)
    for predecessors in ((), (before,), (before,) * spec.MAX_PREDECESSORS):
        log = generate.Log("many", DataClass.META, predecessors=predecessors)
        header, length = segment.decode_header(log.header)
        assert length == len(log.header) <= spec.MAX_HEADER_BYTES
        assert header.encode(generate.DEVICE_SEED) == log.header
        assert walk(log.raw, log.class_secret).verdicts == []


def test_frames_in_clear_that_parse_marshal_to_the_same_bytes() -> None:
    log = generate.good_log()
    view = memoryview(log.raw)
    for frame in segment.scan_frames(view, len(log.header)):
        assert isinstance(frame, segment.Frame)
        if frame.kind == FrameType.HEAD:
            head = segment.decode_head(frame, log.id, crypto.sign_public(generate.DEVICE_SEED))
            again = segment.encode_head(head, log.id, frame.index, generate.DEVICE_SEED)
        elif frame.kind == FrameType.REF:
            again = segment.encode_ref(segment.decode_ref(frame), frame.index)
        else:
            again = segment.encode_frame(frame.kind, frame.index, bytes(frame.body))
        assert again == bytes(frame.raw)


@pytest.mark.parametrize("change", [(56, 2), (57, 1), (63, 255)])
def test_a_head_with_a_byte_that_must_be_zero_is_refused(change: tuple[int, int]) -> None:
    log = generate.good_log()
    body = bytearray(log.frames[3][16:-4])
    body[change[0]] = change[1]
    signature = crypto.sign(generate.DEVICE_SEED, spec.SIGN_HEAD, log.id + bytes(body[:64]))
    raw = segment.encode_frame(FrameType.HEAD, 3, bytes(body[:64]) + signature)
    frame = segment.decode_frame(memoryview(raw), 0)
    with pytest.raises(Damaged, match="newer"):
        segment.decode_head(frame, log.id, crypto.sign_public(generate.DEVICE_SEED))
