"""Manifests: what is written is read again, and nothing else is."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localstore import crypto
from localstore.errors import BadName, Damaged, UsageError
from localstore.format import spec
from localstore.format.manifest import (
    Entry,
    Part,
    check_path,
    decode_page,
    encode_index,
    encode_pages,
    version_digest,
)

ids = st.binary(min_size=32, max_size=32)
names = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8
).filter(lambda name: name not in (".", ".."))
paths = st.lists(names, min_size=1, max_size=3).map("/".join)
parts = st.lists(st.builds(Part, ids, ids, st.integers(0, 2**20), st.integers(1, 2**20)))


@st.composite
def files(draw: st.DrawFn) -> Entry:
    pieces = tuple(draw(parts))
    return Entry(draw(paths), sum(piece.length for piece in pieces), draw(ids), pieces)


@st.composite
def references(draw: st.DrawFn) -> Entry:
    size = draw(st.none() | st.integers(0, 2**62))
    uri = draw(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
    return Entry(draw(paths), size, draw(st.just(b"") | ids), (), uri)


def harmonious(entries: list[Entry]) -> list[Entry]:
    """Without those whose names do not go together, in order."""
    kept: dict[str, Entry] = {}
    for entry in entries:
        if not any(f"{one}/".startswith(f"{entry.path}/") for one in kept) and not any(
            entry.path.startswith(f"{one}/") for one in kept
        ):
            kept[entry.path] = entry
    return sorted(kept.values(), key=lambda entry: entry.path.encode())


def read(pages: list[bytes]) -> list[Entry]:
    return [entry for page in pages for entry in decode_page(page)[0]]


@given(st.lists(files() | references(), max_size=6))
def test_what_is_written_is_read_in_the_order_of_paths(entries: list[Entry]) -> None:
    entries = harmonious(entries)
    assert read(encode_pages(reversed(entries))) == entries


def many(count: int) -> list[Entry]:
    return [
        Entry(f"d{n // 100}/f{n:06d}", 10, bytes(32), (Part(bytes(32), bytes(32), n, 10),))
        for n in range(count)
    ]


def test_many_files_come_in_several_pages_each_small_enough_for_an_object() -> None:
    entries = sorted(many(30_000), key=lambda entry: entry.path)
    pages = encode_pages(entries)
    assert len(pages) > 10
    assert max(map(len, pages)) < spec.MAX_OBJECT_BYTES * 7 // 8
    assert read(pages) == entries


def test_one_new_file_among_many_changes_few_pages() -> None:
    before = set(encode_pages(many(30_000)))
    after = encode_pages([*many(30_000), Entry("d50/new", 0, bytes(32), ())])
    assert len(set(after) - before) <= 2


def test_a_file_of_more_parts_than_a_page_can_hold_is_refused_by_name() -> None:
    part = Part(bytes(32), bytes(32), 0, 2**20)
    entry = Entry("huge.bin", 250_000 * 2**20, bytes(32), (part,) * 250_000)
    with pytest.raises(UsageError, match=r"huge\.bin.*250000 parts"):
        encode_pages([entry])


def test_an_index_lists_pages() -> None:
    listed = [(bytes([n]) * 32, bytes([n + 1]) * 32) for n in range(5)]
    assert decode_page(encode_index(listed)) == ([], listed)


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "/etc/passwd", "..", "../x", "a/../b", "a//b", "a/", "./a", "a/.", "a\0b",
        "\udcff", "x" * 4097,
    ],
)  # fmt: skip
def test_a_path_that_leads_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(BadName):
        check_path(path)


@pytest.mark.parametrize("path", ["a", "a/b", "…", "a\nb", "C:\\x", "a b/ c", "...", "CON", "-rf"])
def test_a_path_that_is_only_strange_is_taken(path: str) -> None:
    assert check_path(path) == path


FILE: dict[str, Any] = {"path": "a", "size": 3, "hash": bytes(32)}
PART: list[Any] = [bytes(32), bytes(32), 0, 3]


def page(*items: dict[str, Any], **more: Any) -> bytes:
    return msgspec.msgpack.encode({"v": 1, "files": list(items), **more})


def test_the_smallest_page_with_a_file_is_taken() -> None:
    entries, _ = decode_page(page({**FILE, "parts": [PART]}))
    assert entries == [Entry("a", 3, bytes(32), (Part(bytes(32), bytes(32), 0, 3),))]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xc0",
        b"\x80",
        page()[:-1],
        page() + b"\x00",
        msgspec.msgpack.encode({"v": 1}),
        page(v=2),
        page(more=[[bytes(32), bytes(32)]]),
        msgspec.msgpack.encode({"v": 1, "more": []}),
        msgspec.msgpack.encode({"v": 1, "more": [[bytes(31), bytes(32)]]}),
        page({**FILE, "path": "../x", "parts": [PART]}),
        page({**FILE, "path": "/x", "parts": [PART]}),
        page({**FILE, "path": "x\0", "parts": [PART]}),
        page({**FILE}),
        page({**FILE, "size": 4, "parts": [PART]}),
        page({**FILE, "size": -1, "parts": []}),
        page({**FILE, "hash": bytes(31), "parts": [PART]}),
        page({**FILE, "hash": b"", "parts": [PART]}),
        page({**FILE, "parts": [[bytes(32), bytes(32), -1, 3]]}),
        page({**FILE, "parts": [[bytes(32), bytes(32), 0, 0], PART]}),
        page({**FILE, "parts": [[bytes(32), bytes(32), 2**24, 3]]}),
        page({**FILE, "parts": [[bytes(16), bytes(32), 0, 3]]}),
        page({**FILE, "parts": [PART], "uri": "s3://x"}),
        page({**FILE, "path": "b", "parts": [PART]}, {**FILE, "parts": [PART]}),
        page({**FILE, "parts": [PART]}, {**FILE, "parts": [PART]}),
    ],
)
def test_a_page_that_breaks_the_rules_is_damage(raw: bytes) -> None:
    with pytest.raises(Damaged):
        decode_page(raw)


@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_damage(raw: bytes) -> None:
    with pytest.raises(Damaged):
        decode_page(b"\x82" + raw)


def test_what_a_newer_writer_adds_is_passed_over() -> None:
    assert decode_page(page({"path": "a", "uri": "s3://x", "colour": 7}, later=True))[0]


# ------------------------------------------------------------------ the digest
@given(st.permutations([Entry(f"p{n}", n, bytes([n]) * 32, ()) for n in range(5)]))
def test_the_digest_does_not_depend_on_the_order_of_files(entries: list[Entry]) -> None:
    assert version_digest(entries) == version_digest(sorted(entries, key=lambda e: e.path))


def test_the_digest_is_that_of_the_specification() -> None:
    entries = [
        Entry("b", 3, b"\x07" * 32, (Part(b"i" * 32, b"k" * 32, 0, 3),)),
        Entry("a", None, b"", (), "s3://x"),
    ]
    raw = (
        b"\x01\0\0\0a\x01" + b"\xff" * 8 + bytes(32) + b"\x06\0\0\0s3://x"
        b"\x01\0\0\0b\x00\x03\0\0\0\0\0\0\0" + b"\x07" * 32 + b"\0\0\0\0"
    )
    assert version_digest(entries) == crypto.digest(spec.LABEL_VERSION, raw)


def test_where_bytes_stand_is_no_part_of_the_digest() -> None:
    one = Entry("a", 3, bytes(32), (Part(b"i" * 32, b"k" * 32, 0, 3),))
    other = Entry("a", 3, bytes(32), (Part(b"j" * 32, b"l" * 32, 5, 3),))
    assert version_digest([one]) == version_digest([other])


@given(st.lists(files() | references(), min_size=1, max_size=4), st.integers(0, 3))
def test_any_other_path_size_hash_or_uri_is_another_version(
    entries: list[Entry], which: int
) -> None:
    entries = harmonious(entries)
    first = entries[0]
    others = [
        Entry(first.path + "x", first.size, first.hash, first.parts, first.uri),
        Entry(first.path, (first.size or 0) + 1, first.hash, first.parts, first.uri),
        Entry(first.path, first.size, bytes(31) + b"x", first.parts, first.uri),
        Entry(first.path, first.size, first.hash, first.parts, first.uri + "x"),
    ]
    other = [others[which], *entries[1:]]
    assert version_digest(other) != version_digest(entries)
