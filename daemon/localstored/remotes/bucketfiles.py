"""The files of a bucket, for reading: what lies there, and which bytes.

Holds nothing between calls: an answer is what the server said to it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, TypeVar

from localstore.errors import RemoteError
from localstore.layout import FileKind
from localstored.remotes.base import MAX_PIECE_BYTES, Busy, Entry, check_name, missing
from localstored.remotes.bucketkeys import (
    Meta,
    Piece,
    Span,
    by_name,
    chain,
    length_of,
    read_key,
    within,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from typing import IO

    from localstored.remotes.bucketkeys import Keys

T = TypeVar("T")

_MAX_UNFINISHED: Final = 200_000  # pieces of one folder that a listing holds in memory
_LOOKS: Final = 2  # a piece that was listed may have been merged away: list once more


class _Gone(Exception):
    """A key that was listed is not there any more, or shorter."""


class BucketFiles:
    """What lies in a bucket."""

    def __init__(self, keys: Keys, where: str) -> None:
        """`where` is the bucket's url, for people."""
        self._keys, self._where = keys, where

    # -------------------------------------------------------------- listing
    def entries(self, prefix: str) -> Iterator[Entry]:
        """Every file whose name begins with `prefix`; holds the pieces of one folder at a time."""
        pieces: dict[str, list[Piece]] = {}
        finished: set[str] = set()
        here, held = "", 0
        for meta, name, piece in self._known_below(prefix):
            folder = name.rpartition("/")[0]
            if folder != here:
                yield from _whole(pieces)
                finished.update([here] if pieces else [])
                pieces, here, held = {}, folder, 0
            if meta.key == name and meta.size < MAX_PIECE_BYTES:
                yield Entry(name, meta.size)
                continue
            held += 1
            if folder in finished or held > _MAX_UNFINISHED:
                raise RemoteError(f"{self._where} lists keys in no order, or too many in a folder")
            pieces.setdefault(name, []).append(piece)
        yield from _whole(pieces)

    def _known_below(self, prefix: str) -> Iterator[tuple[Meta, str, Piece]]:
        for meta in self._below(prefix):
            known = read_key(meta)
            if known is not None:
                yield meta, *known

    def _below(self, prefix: str) -> Iterator[Meta]:
        """The keys that begin with `prefix`, asked for by their folder."""
        folder = prefix.rpartition("/")[0] or "projects"
        if not f"{folder}/".startswith("projects/"):
            return
        after = prefix if len(prefix) > len(folder) + 1 else ""
        for meta in self._keys.list(folder, after):
            if meta.key.startswith(prefix):
                yield meta
            elif self._keys.ordered and meta.key > prefix:
                return

    # -------------------------------------------------------------- where bytes are
    def spans(self, name: str) -> list[Span]:
        """Where a file's bytes are now; nothing when it is not there."""
        _, file = check_name(name)
        if file.kind is FileKind.LOG:
            return chain(self._pieces(name))
        return self._spans_after(name, self._keys.heads([name])[0])

    def keys_of(self, name: str) -> list[str]:
        """Every key that belongs to a file, also those whose bytes count no more."""
        keys = [piece.key for piece in self._pieces(name)]
        return keys if check_name(name)[1].kind is FileKind.LOG else [name, *keys]

    def sizes(self, names: Collection[str]) -> Mapping[str, int]:
        """The sizes of those of `names` that are there."""
        logs = {name for name in names if check_name(name)[1].kind is FileKind.LOG}
        found = self._spans_of_logs(logs)
        others = sorted(set(names) - logs)
        for name, meta in zip(others, self._keys.heads(others) if others else (), strict=True):
            found[name] = self._spans_after(name, meta)
        return {name: length_of(spans) for name, spans in found.items() if spans}

    def _pieces(self, name: str) -> list[Piece]:
        """All pieces of a log, the later ones of another file."""
        return by_name(self._below(f"{name}."), name.__eq__).get(name, [])

    def _spans_after(self, name: str, first: Meta | None) -> list[Span]:
        """Of a file that is no log; `first` is what stands under its own name."""
        known = read_key(first) if first else None
        if known is None:
            return []
        later = self._pieces(name) if known[1].end == MAX_PIECE_BYTES else []
        return chain([known[1], *later])

    def _spans_of_logs(self, names: Iterable[str]) -> dict[str, list[Span]]:
        folders: dict[str, set[str]] = {}
        for name in names:
            folders.setdefault(name.rpartition("/")[0], set()).add(name)
        found: dict[str, list[Piece]] = {}
        for folder, wanted in folders.items():
            if len(wanted) == 1:
                found |= {name: self._pieces(name) for name in wanted}
            else:
                found |= by_name(self._keys.list(folder), wanted.__contains__)
        return {name: chain(pieces) for name, pieces in found.items()}

    # -------------------------------------------------------------- bytes
    def look(self, name: str, use: Callable[[Sequence[Span]], T]) -> T:
        """What `use` makes of a file's parts; once more when one vanished, as merging does.

        Raises:
            NotFound: no such file.
            Busy: the server lists what it does not have.
        """
        for _ in range(_LOOKS):
            spans = self.spans(name)
            if not spans:
                raise missing(name)
            try:
                return use(spans)
            except _Gone:
                continue
        raise Busy(f"{self._where} lists pieces of {name} that it does not have")

    def bytes_of(self, spans: Iterable[Span]) -> bytes:
        """The bytes of some parts; within `look`."""
        return b"".join(self.part(span) for span in spans)

    def part(self, span: Span) -> bytes:
        """The bytes of one part; within `look`."""
        before = span.piece.start
        found = self._keys.get(span.piece.key, span.start - before, span.end - before)
        if found is None or len(found) != span.size:
            raise _Gone(span.piece.key)
        return found

    def same(self, spans: Sequence[Span], here: IO[bytes], length: int) -> bool:
        """Whether the first `length` bytes are those of `here`; within `look`."""
        if length_of(spans) < length:
            return False
        return all(self._same_part(span, here) for span in within(spans, 0, length))

    def _same_part(self, span: Span, here: IO[bytes]) -> bool:
        """By the MD5 that the server computed, else by the bytes.

        An ETag that differs says nothing: with some encryptions it is the MD5 of something else.
        """
        piece = span.piece
        here.seek(piece.start)
        whole = here.read(piece.end - piece.start)
        if len(whole) == piece.end - piece.start and md5(whole) == piece.etag:
            return True
        ours = whole[span.start - piece.start : span.end - piece.start]
        return len(ours) == span.size and self.part(span) == ours


def md5(data: bytes) -> str:
    """In hex. It tells accidents; forgery is told by SHA-256 and signatures, elsewhere."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _whole(pieces: Mapping[str, list[Piece]]) -> Iterator[Entry]:
    for name, found in pieces.items():
        spans = chain(found)
        if spans:
            yield Entry(name, length_of(spans))
