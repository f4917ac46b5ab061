"""Where contents are cut: everywhere alike, and where the content says, not where it stands."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localstore.errors import UsageError
from localstore.store.chunks import Cutter
from tests.store.makers import KIB, MIB, Store, noise

SEED = b"a project's chunker seed, 32 byte"


def cut(content: bytes, *, seed: bytes = SEED, chunking: str = "cdc", step: int = 0) -> list[int]:
    """Lengths of all chunks, when bytes come `step` at a time."""
    cutter, lengths, waiting, at = Cutter(seed, chunking), list[int](), b"", 0
    step = step or len(content)
    while at < len(content):
        waiting += content[at : at + step]
        at += step
        found = cutter.cut(memoryview(waiting), last=at >= len(content))
        waiting = waiting[sum(found) :]
        lengths += found
    assert waiting == b""
    return lengths


def pieces(content: bytes) -> set[bytes]:
    found, at = set(), 0
    for length in cut(content):
        found.add(content[at : at + length])
        at += length
    return found


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 5), st.integers(0, 7 * MIB), st.integers(300 * KIB, 5 * MIB))
def test_chunks_are_the_content_however_it_arrives(seed: int, size: int, step: int) -> None:
    content = noise(seed, size)
    lengths = cut(content)
    assert sum(lengths) == size
    assert all(128 * KIB <= length <= 2 * MIB for length in lengths[:-1])
    assert cut(content, step=step) == lengths


def test_an_insertion_changes_the_chunks_around_it_alone() -> None:
    content = noise(1, 12 * MIB)
    before = pieces(content)
    after = pieces(content[:MIB] + b"inserted" + content[MIB:])
    assert len(after - before) <= 2


def test_the_cuts_are_those_of_all_earlier_versions() -> None:
    """Another chunker would store every unchanged file once more."""
    content = hashlib.shake_256(b"cut alike for ever").digest(4 * MIB)
    assert cut(content) == [
        674_232, 616_889, 239_230, 606_611, 525_978, 625_663, 624_230, 281_471,
    ]  # fmt: skip


def test_each_project_cuts_elsewhere() -> None:
    content = noise(2, 8 * MIB)
    assert cut(content) != cut(content, seed=b"another project's chunker seed ..")


@pytest.mark.parametrize("seed", [bytes(32), b"\xff" * 32, b"\x01" + bytes(31)])
def test_every_seed_is_taken(seed: bytes) -> None:
    assert sum(cut(noise(3, 3 * MIB), seed=seed)) == 3 * MIB


@given(st.integers(0, 9 * MIB))
@settings(deadline=None, max_examples=10)
def test_fixed_cuts_every_four_mebibytes(size: int) -> None:
    whole, rest = divmod(size, 4 * MIB)
    assert cut(bytes(size), chunking="fixed") == [4 * MIB] * whole + [rest] * bool(rest)


def test_a_file_of_a_hundred_gibibytes_is_cut_so_that_a_page_can_list_its_parts() -> None:
    assert Cutter(SEED, size=100 * 1024**3).window == 4 * MIB


def test_another_way_of_cutting_is_refused(store: Store) -> None:
    with pytest.raises(UsageError, match="'buzhash'"):
        store.take({}, chunking="buzhash")


def test_a_project_that_cuts_by_length_shows_lengths_of_chunks_alone(store: Store) -> None:
    content = noise(4, 9 * MIB)
    (entry,) = store.take({"a": content}, chunking="fixed")
    assert [part.length for part in entry.parts] == [4 * MIB, 4 * MIB, MIB]
