"""Which keys make which bytes: alike for everybody, whatever lies there."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localstored.remotes.base import MAX_PIECE_BYTES
from localstored.remotes.bucketkeys import (
    MERGE_COUNT,
    SETTLED_BYTES,
    Meta,
    Piece,
    Span,
    chain,
    length_of,
    piece_key,
    read_key,
    to_merge,
    within,
)
from tests.sync.contract import LINK, LOG, PROJECT

MD5 = "ab" * 16


def piece(start: int, end: int, letter: str = "a") -> Piece:
    return Piece(piece_key("x", start, end, letter * 32), start, end, "")


def of(*ends: int) -> list[Span]:
    """A log of pieces that end there."""
    return chain([piece(a, b) for a, b in zip((0, *ends), ends, strict=False)])


def told(spans: list[Span]) -> list[tuple[int, int, int]]:
    return [(span.piece.start, span.start, span.end) for span in spans]


def test_pieces_follow_one_another() -> None:
    assert told(chain([piece(5, 9), piece(0, 5), piece(9, 12)])) == [
        (0, 0, 5),
        (5, 5, 9),
        (9, 9, 12),
    ]


def test_the_piece_that_reaches_furthest_counts() -> None:
    assert told(chain([piece(0, 5), piece(0, 9), piece(5, 9)])) == [(0, 0, 9)]


def test_pieces_of_two_syncs_overlap_and_nothing_is_lost() -> None:
    """One sent 0-10 and 10-20, the other 0-12: the file has 20 bytes, before and after."""
    assert told(chain([piece(0, 10), piece(10, 20), piece(0, 12)])) == [(0, 0, 12), (10, 12, 20)]


def test_of_two_that_reach_equally_far_the_first_key_counts() -> None:
    for order in ("ab", "ba"):
        spans = chain([piece(0, 9, letter) for letter in order])
        assert [span.piece.key[-1] for span in spans] == ["a"]


def test_what_lies_behind_a_gap_does_not_count() -> None:
    assert told(chain([piece(0, 5), piece(6, 9)])) == [(0, 0, 5)]
    assert chain([piece(1, 5)]) == []


def test_an_empty_file_is_there() -> None:
    assert told(chain([piece(0, 0)])) == [(0, 0, 0)]
    assert told(chain([piece(0, 0), piece(0, 4)])) == [(0, 0, 4)]


PIECES = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 12)), max_size=12)


@given(PIECES, st.randoms())
def test_the_order_of_a_listing_does_not_matter(
    sizes: list[tuple[int, int]], rng: random.Random
) -> None:
    pieces = [piece(start, start + size) for start, size in sizes]
    shuffled = rng.sample(pieces, len(pieces))
    assert chain(pieces) == chain(shuffled)


@given(PIECES, st.tuples(st.integers(0, 30), st.integers(0, 12)))
def test_one_more_piece_never_makes_a_file_shorter(
    sizes: list[tuple[int, int]], more: tuple[int, int]
) -> None:
    pieces = [piece(start, start + size) for start, size in sizes]
    added = [*pieces, piece(more[0], sum(more))]
    assert length_of(chain(added)) >= length_of(chain(pieces))


@given(PIECES)
def test_a_chain_has_no_holes_and_reads_only_what_its_pieces_hold(
    sizes: list[tuple[int, int]],
) -> None:
    spans = chain([piece(start, start + size) for start, size in sizes])
    at = 0
    for span in spans:
        assert span.start == at
        assert span.piece.start <= span.start <= span.end <= span.piece.end
        at = span.end


def test_a_part_of_a_file_is_made_of_parts_of_pieces() -> None:
    assert told(list(within(of(5, 9, 12), 4, 10))) == [(0, 4, 5), (5, 5, 9), (9, 9, 10)]


@pytest.mark.parametrize(
    ("key", "size"),
    [
        (LOG, 4),  # a log has no bare key
        (f"{LOG}.000000000000-000000000004-{MD5}", 5),  # another size than it says
        (f"{LOG}.000000000005-000000000004-{MD5}", 0),
        (f"{LOG}.000000000000-{MAX_PIECE_BYTES + 1:012x}-{MD5}", MAX_PIECE_BYTES + 1),
        (f"{LOG}.0-4-{MD5}", 4),
        (f"{LOG}.000000000000-000000000004-{MD5.upper()}", 4),
        (f"{LOG}.000000000000-000000000004-{MD5[1:]}", 4),
        (f"{LINK}.000000000000-000000000004-{MD5}", 4),  # its first piece has its own name
        (f"{LINK}.000000000004-000000000008-{MD5}", 4),
        (f"projects/{PROJECT}/runs/../x.000000000000-000000000004-{MD5}", 4),
        (f"projects/{PROJECT}/local/x", 4),
        (LINK + "x" * 5000, 4),
        ("LOCALSTORE-REMOTE", 4),
        ("", 0),
    ],
)  # fmt: skip
def test_a_hostile_key_is_passed_over(key: str, size: int) -> None:
    assert read_key(Meta(key, size, "")) is None


def test_keys_are_read_as_they_are_made() -> None:
    key = piece_key(LOG, 5, 9, MD5)
    assert read_key(Meta(key, 4, "e")) == (LOG, Piece(key, 5, 9, "e"))
    assert read_key(Meta(LINK, 7, "e")) == (LINK, Piece(LINK, 0, 7, "e"))
    later = piece_key(LINK, MAX_PIECE_BYTES, MAX_PIECE_BYTES + 3, MD5)
    assert read_key(Meta(later, 3, "e")) is not None


def grow(sizes: list[int]) -> tuple[list[Span], int]:
    """A log that grew by `sizes`, merged as an append does; and how many bytes were sent again."""
    spans: list[Span] = []
    again = 0
    for size in sizes:
        end = length_of(spans)
        spans = [*spans, Span(piece(end, end + size), end, end + size)]
        small = to_merge(spans)
        if small:
            start, end = small[0].start, small[-1].end
            again += end - start
            kept = [span for span in spans if span.end <= start or span.start >= end]
            spans = sorted([*kept, Span(piece(start, end), start, end)], key=lambda one: one.start)
    return spans, again


@pytest.mark.parametrize("size", [200, 600, 5_000, 40_000, 300_000])
def test_a_log_that_grows_by_little_stays_in_few_pieces(size: int) -> None:
    spans, again = grow([size] * 4000)
    settled = sum(span.size >= SETTLED_BYTES for span in spans)
    assert len(spans) - settled <= 4 * (MERGE_COUNT - 1)
    assert settled <= length_of(spans) / SETTLED_BYTES
    assert again <= 4 * length_of(spans)


def test_a_log_that_grows_by_anything_stays_in_few_pieces() -> None:
    rng = random.Random(7)
    for _ in range(20):
        spans, again = grow([int(2 ** rng.uniform(0, 22)) for _ in range(300)])
        settled = sum(span.size >= SETTLED_BYTES for span in spans)
        assert len(spans) <= 2 * settled + (settled + 1) * 4 * MERGE_COUNT
        assert all(span.size <= MAX_PIECE_BYTES for span in spans)
        assert again <= 4 * length_of(spans)
