"""How files lie in a flat store of keys: docs/protocol.md, "A remote in a bucket". Pure.

A file's bytes are pieces, each under a key that nobody else's bytes can have; which pieces count is
decided here, alike for everybody who sees the same keys.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from localstore.errors import Refused
from localstore.layout import FileKind
from localstored.remotes.base import MAX_PIECE_BYTES, check_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_PIECE: Final = re.compile(r"(.+)\.([0-9a-f]{12})-([0-9a-f]{12})-([0-9a-f]{32})")
MAX_KEY_CHARS: Final = 400  # a name has 256 at most, the rest of a key 60
MERGE_COUNT: Final = 8  # so many pieces of one size become one of the next
SETTLED_BYTES: Final = 1024 * 1024  # a piece of this size is not sent again to be merged
_SMALLEST_LEVEL_BITS: Final = 10
_LEVEL_BITS: Final = 3  # a level is eight times the one before
_LEVELS: Final = 4


class KeyTaken(Exception):
    """A `put` of a new key that is there already, on a server that looks."""


class Meta(NamedTuple):
    """What a server says of one key: its size in bytes, its ETag without quotes."""

    key: str
    size: int
    etag: str


class Keys(Protocol):
    """A flat store of keys: a bucket, as far as we use one. Safe for many threads.

    Every method raises the errors of `localstored.remotes.base`, and `Stopped` when told to stop.
    """

    @property
    def ordered(self) -> bool:
        """Whether `list` answers in the order of the keys."""

    def put(self, key: str, data: bytes, *, only_new: bool = False) -> None:
        """Store a key, whole or not at all.

        Args:
            only_new: ask the server to refuse when the key is there. Many servers ignore it.

        Raises:
            KeyTaken: it was there, and the server looked.
        """

    def heads(self, keys: Sequence[str]) -> Sequence[Meta | None]:
        """What stands under each key; None where nothing does."""

    def get(self, key: str, start: int, end: int) -> bytes | None:
        """Bytes `start` to `end` as far as there are any; None when the key is not there."""

    def delete(self, keys: Sequence[str]) -> None:
        """Remove keys; a success also when they are not there."""

    def list(self, folder: str, after: str = "") -> Iterator[Meta]:
        """Every key below `folder` (no slash at its end) that comes after `after`."""

    def folders(self, folder: str) -> Sequence[str]:
        """The names of what lies directly below `folder` and has something below itself."""

    def close(self) -> None:
        """End connections."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes `start` to `end` of a file, under one key."""

    key: str
    start: int
    end: int
    etag: str


class Span(NamedTuple):
    """Bytes `start` to `end` of a file are to be taken from `piece`."""

    piece: Piece
    start: int
    end: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start


def piece_key(name: str, start: int, end: int, md5: str) -> str:
    """The key of a later piece, or of any piece of a log."""
    return f"{name}.{start:012x}-{end:012x}-{md5}"


def read_key(meta: Meta) -> tuple[str, Piece] | None:
    """Which piece of which file a listed key is; None for what is none of ours.

    A key whose size is not the one that it says, or that says too much, is passed over.
    """
    if len(meta.key) > MAX_KEY_CHARS:
        return None
    found = _PIECE.fullmatch(meta.key) if meta.key[-33:-32] == "-" else None
    name = found[1] if found else meta.key
    if found is None:
        start, end = 0, meta.size
    else:
        start, end = int(found[2], 16), int(found[3], 16)
    if not fits(name, start, end, bare=found is None) or end - start != meta.size:
        return None
    return name, Piece(meta.key, start, end, meta.etag)


def fits(name: str, start: int, end: int, *, bare: bool) -> bool:
    """Whether a file of this name may have such a piece."""
    kind = _kind(name)
    if kind is None or not 0 <= end - start <= MAX_PIECE_BYTES:
        return False
    if kind is FileKind.LOG:
        return not bare
    return bare or start >= MAX_PIECE_BYTES


@lru_cache(maxsize=256)  # the pieces of a file are listed together
def _kind(name: str) -> FileKind | None:
    try:
        return check_name(name)[1].kind
    except Refused:
        return None


def chain(pieces: Iterable[Piece]) -> list[Span]:
    """The bytes of a file from 0 on: at each position the piece that reaches furthest.

    Of two that reach equally far the one whose key comes first. An empty file is one empty span.
    """
    waiting = sorted(pieces, key=lambda piece: piece.start, reverse=True)
    spans: list[Span] = []
    at, best = 0, None
    while True:
        while waiting and waiting[-1].start <= at:
            one = waiting.pop()
            if best is None or (-one.end, one.key) < (-best.end, best.key):
                best = one
        if best is None or (best.end <= at and (spans or best.start)):
            return spans
        spans.append(Span(best, at, best.end))
        at = best.end


def length_of(spans: Sequence[Span]) -> int:
    """Bytes of a file."""
    return spans[-1].end if spans else 0


def within(spans: Sequence[Span], start: int, end: int) -> Iterator[Span]:
    """The parts of a file that bytes `start` to `end` lie in."""
    for span in spans:
        low, high = max(span.start, start), min(span.end, end)
        if low < high:
            yield Span(span.piece, low, high)


def to_merge(spans: Sequence[Span]) -> Sequence[Span]:
    """Small pieces at the end of a log that should become one: none, or two and more.

    Eight pieces of one level are merged, so a log has at most seven of each level behind its last
    settled piece, and a byte is sent again at most about once for each level.
    """
    run = _unsettled(spans)
    levels = _levels(run)
    for level in range(_LEVELS):
        if levels.count(level) >= MERGE_COUNT:
            first = next(at for at, one in enumerate(levels) if one <= level)
            return _as_fits(run[first:])
    return []


def _unsettled(spans: Sequence[Span]) -> Sequence[Span]:
    first = len(spans)
    while first and spans[first - 1].size < SETTLED_BYTES:
        first -= 1
    return spans[first:]


def _levels(run: Sequence[Span]) -> list[int]:
    """The level of each piece; one that stands before a greater one counts as great as that."""
    levels, highest = [], 0
    for span in reversed(run):
        own = max(0, span.size.bit_length() - _SMALLEST_LEVEL_BITS) // _LEVEL_BITS
        highest = max(highest, min(own, _LEVELS - 1))
        levels.append(highest)
    return levels[::-1]


def _as_fits(run: Sequence[Span]) -> Sequence[Span]:
    """As many as one piece can hold."""
    end = run[0].start + MAX_PIECE_BYTES
    chosen = [span for span in run if span.end <= end]
    return chosen if len(chosen) > 1 else []


def by_name(metas: Iterable[Meta], wanted: Callable[[str], bool]) -> dict[str, list[Piece]]:
    """The pieces of each file whose name is wanted."""
    found: dict[str, list[Piece]] = {}
    for meta in metas:
        known = read_key(meta)
        if known and wanted(known[0]):
            found.setdefault(known[0], []).append(known[1])
    return found
