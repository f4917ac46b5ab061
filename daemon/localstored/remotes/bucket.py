"""A remote in a bucket. No key is written with other bytes than it had.

docs/protocol.md, "A remote in a bucket", is what this page does; `Keys` knows the server.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import threading
from typing import TYPE_CHECKING, Final

from localstore.errors import Conflict, NotFound, Refused, RemoteError
from localstore.layout import FileKind
from localstore.remotes import MARKER_FILE, new_marker, parse_marker
from localstored.remotes.base import (
    MAX_PIECE_BYTES,
    Busy,
    Capabilities,
    Unreachable,
    check_name,
    check_piece,
    left_to_append,
    missing,
)
from localstored.remotes.bucketfiles import BucketFiles, md5
from localstored.remotes.bucketkeys import (
    KeyTaken,
    Piece,
    Span,
    length_of,
    piece_key,
    to_merge,
    within,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from localstored.remotes.base import Entry
    from localstored.remotes.bucketkeys import Keys

_PROJECT: Final = re.compile(r"[0-9a-f]{64}")
_MAX_MARKER_BYTES: Final = 4096


class BucketRemote:
    """A remote below a prefix of a bucket, which `claim_bucket` made a remote."""

    def __init__(self, keys: Keys, *, where: str, want_id: str = "") -> None:
        """Ask for the marker.

        Args:
            where: the url, for people.

        Raises:
            Unreachable: no answer, no marker there, or that of another remote than `want_id`.
        """
        found = _marker(keys, where)
        if not found:
            hint = "`localstore remote add` makes a remote of a bucket"
            raise Unreachable(f"no localstore remote in {where}", hint=hint, permanent=True)
        if want_id and want_id != found:
            raise Unreachable(
                f"another remote lies in {where}: {found}, want {want_id}",
                hint="`localstore remote rm`, then `add`, takes it as a new one",
                permanent=True,
            )
        self._id, self._keys, self._where = found, keys, where
        self._files = BucketFiles(keys, where)
        self._lock = threading.Lock()
        self._never_replaces: bool | None = None

    def close(self) -> None:
        """See `Remote.close`."""
        self._keys.close()

    @property
    def id(self) -> str:
        """See `Remote.id`."""
        return self._id

    @property
    def capabilities(self) -> Capabilities:
        """Everything is allowed; `atomic_create` is known from the first create on."""
        return Capabilities(atomic_create=bool(self._never_replaces), max_parallel=16)

    def never_replaces(self) -> bool:
        """Whether the server looks when it is asked not to replace a key; it is asked once."""
        with self._lock:
            if self._never_replaces is None:
                self._never_replaces = looks_before_it_puts(self._keys, self._id)
            return self._never_replaces

    # -------------------------------------------------------------- reading
    def projects(self) -> Iterator[str]:
        """See `Remote.projects`."""
        for name in sorted(set(self._keys.folders("projects"))):
            if _PROJECT.fullmatch(name):
                yield name

    def list(self, prefix: str) -> Iterator[Entry]:
        """See `Remote.list`."""
        return self._files.entries(prefix)

    def have(self, names: Collection[str]) -> Mapping[str, int]:
        """See `Remote.have`."""
        return self._files.sizes(names)

    def read(self, name: str, offset: int, length: int) -> bytes:
        """See `Remote.read`."""
        _, file = check_name(name)
        if file.kind is not FileKind.LOG and offset < MAX_PIECE_BYTES:
            end = min(offset + length, MAX_PIECE_BYTES)
            found = self._keys.get(name, offset, end)
            if found is None:
                raise missing(name)
            if offset + len(found) < MAX_PIECE_BYTES or len(found) == length:
                return found  # most files are one piece: no question where others are
        return self._files.look(
            name, lambda spans: self._files.bytes_of(within(spans, offset, offset + length))
        )

    def digest(self, name: str, length: int) -> bytes:
        """See `Remote.digest`; reads it all, because a server computes no SHA-256 for us."""

        def hashed(spans: Sequence[Span]) -> bytes:
            if length > length_of(spans):
                raise Refused(f"{name} has {length_of(spans)} bytes, not {length}")
            state = hashlib.sha256()
            for span in within(spans, 0, length):
                state.update(self._files.part(span))
            return state.digest()

        return self._files.look(name, hashed)

    def confirm(self, name: str, length: int, source: Path) -> bool:
        """See `Remote.confirm`; where the server's ETag is no MD5, the bytes are read back."""
        with source.open("rb") as here:
            return self._files.look(name, lambda spans: self._files.same(spans, here, length))

    # -------------------------------------------------------------- writing
    def create(self, name: str, data: bytes) -> None:
        """See `Remote.create`."""
        _, file = check_name(name)
        check_piece(data)
        if file.kind is FileKind.LOG:
            self._create_log(name, data)
        elif self.never_replaces():
            try:
                self._keys.put(name, data, only_new=True)
            except KeyTaken:
                self._must_hold(name, data, len(data))
        else:
            if self._keys.heads([name])[0] is None:
                self._keys.put(name, data)  # who replaces it at this moment is found by `confirm`
            else:
                self._must_hold(name, data, len(data))

    def _create_log(self, name: str, data: bytes) -> None:
        if self._files.spans(name):
            self._must_hold(name, data, len(data))
            return
        self._keys.put(piece_key(name, 0, len(data), md5(data)), data)
        if length_of(self._files.spans(name)) > len(data):
            self._must_hold(name, data, None)  # somebody else made it at once, and got further
        else:
            self._must_hold(name, data, len(data))

    def _must_hold(self, name: str, data: bytes, size: int | None) -> None:
        """Hold what stands there against `data`.

        Args:
            size: how long it has to be; None: at least as long as `data`.

        Raises:
            Conflict: other bytes.
        """
        with io.BytesIO(data) as ours:
            try:
                same = self._files.look(
                    name,
                    lambda spans: (
                        size in (None, length_of(spans))
                        and self._files.same(spans, ours, len(data))
                    ),
                )
            except NotFound:
                raise Busy(f"{self._where}: {name} vanished while it was made") from None
        if not same:
            raise Conflict(f"other bytes under {name}")

    def append(self, name: str, offset: int, data: bytes) -> None:
        """See `Remote.append`."""
        check_piece(data)
        _, file = check_name(name)

        def left(spans: Sequence[Span]) -> tuple[Sequence[Span], bytes]:
            present = self._files.bytes_of(within(spans, offset, offset + len(data)))
            return spans, left_to_append(name, offset, data, length_of(spans), present)

        spans, rest = self._files.look(name, left)
        if not rest:
            return
        size = length_of(spans)
        if file.kind is not FileKind.LOG and size < MAX_PIECE_BYTES:
            raise Refused(f"{name} is whole: what is no log has {MAX_PIECE_BYTES} bytes first")
        added = Piece(
            piece_key(name, size, size + len(rest), md5(rest)), size, size + len(rest), ""
        )
        self._keys.put(added.key, rest)
        if file.kind is FileKind.LOG:
            with contextlib.suppress(RemoteError):  # the bytes are there; the next append merges
                self._merge(name, [*spans, Span(added, added.start, added.end)])

    def _merge(self, name: str, spans: Sequence[Span]) -> None:
        """Make one piece of many small ones; they go when the server has confirmed it."""
        small = to_merge(spans)
        if not small:
            return
        start, end = small[0].start, small[-1].end
        data = b"".join(self._keys.get(*_whole_part(span)) or b"" for span in small)
        if len(data) != end - start:
            return  # another sync merges them at this moment
        key = piece_key(name, start, end, md5(data))
        self._keys.put(key, data)
        there = self._keys.heads([key])[0]
        if there is None or there.size != len(data):
            return
        if there.etag != md5(data) and self._keys.get(key, 0, len(data)) != data:
            return
        covered = [one.piece for one in small if start <= one.piece.start and one.piece.end <= end]
        self._keys.delete([piece.key for piece in covered if piece.key != key])

    def delete(self, name: str) -> None:
        """See `Remote.delete`."""
        check_name(name)
        self._keys.delete(self._files.keys_of(name))


def _whole_part(span: Span) -> tuple[str, int, int]:
    before = span.piece.start
    return span.piece.key, span.start - before, span.end - before


# ------------------------------------------------------------------ the marker
def claim_bucket(keys: Keys, where: str) -> str:
    """Make a remote of a place in a bucket and return its id; the same id when it was one.

    Raises:
        Unreachable: no answer, no such bucket, or these credentials may not.
        RemoteError: a marker of a newer version.
    """
    found = _marker(keys, where)
    if found:
        return found
    with contextlib.suppress(KeyTaken):
        keys.put(MARKER_FILE, new_marker(), only_new=True)
    found = _marker(keys, where)
    if not found:
        raise Busy(f"{where} does not show what was just put there")
    return found


def _marker(keys: Keys, where: str) -> str:
    """The id in the marker; empty where there is none."""
    content = keys.get(MARKER_FILE, 0, _MAX_MARKER_BYTES)
    if content is None:
        return ""
    try:
        return parse_marker(content, f"{where}/{MARKER_FILE}")
    except RemoteError as error:
        ours = content.startswith(b"localstore-remote ")
        hint = "upgrade localstore" if ours else "behind a captive portal, sign in first"
        raise Unreachable(str(error), hint=hint, permanent=ours) from None


def looks_before_it_puts(keys: Keys, id_: str) -> bool:
    """Whether the server refuses to replace a key when asked to (If-None-Match).

    The marker is put again as it stands: a server that does not look stores the same bytes.
    """
    try:
        keys.put(MARKER_FILE, new_marker(id_), only_new=True)
    except KeyTaken:
        return True
    except Busy:
        raise
    except Unreachable as error:
        if not error.permanent:
            raise
    except RemoteError:
        return False  # 501: it knows the question and declines
    return False
