"""Manifests: which files a version holds and where their bytes stand (docs/format.md, 9.1, 9.2).

Pure. What decodes here is well formed and its paths are harmless as names; that the objects exist
and hold what the hashes say is for `localstore.store`.
"""

from __future__ import annotations

import itertools
import struct
import zlib
from collections import Counter
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

import msgspec

from localstore import crypto
from localstore.errors import BadName, Damaged, UsageError
from localstore.format import spec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MANIFEST_VERSION: Final = 1
MAX_LEVELS: Final = 8
_UNKNOWN_SIZE: Final = (1 << 64) - 1
_MAX_SIZE: Final = (1 << 63) - 1
# A page ends where a path's checksum says so: one new file changes one page, not all that follow.
_PAGE_MASK: Final = 0x3FF
_PAGE_BYTES: Final = 1024 * 1024
_MAX_FILE_BYTES: Final = spec.MAX_OBJECT_BYTES * 7 // 8 - _PAGE_BYTES  # padding costs at most 12 %
_U32: Final = struct.Struct("<I")
_SIZE: Final = struct.Struct("<BQ")
_encode: Final = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a file: `length` bytes at `offset` of an object's content."""

    object_id: bytes
    key: bytes = field(repr=False)
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a version, or a reference when it has a `uri`.

    Attributes:
        size: in bytes; None for a reference of unknown size.
        hash: BLAKE3 of the content, 32 bytes; empty for a reference of unknown content.
        parts: in order; their lengths add up to `size`. None for a reference.
    """

    path: str
    size: int | None
    hash: bytes
    parts: tuple[Part, ...] = field(repr=False)
    uri: str = ""


class _File(msgspec.Struct):
    path: str
    size: int | None = None
    hash: bytes = b""
    parts: list[tuple[bytes, bytes, int, int]] = []
    uri: str = ""


class _Page(msgspec.Struct):
    v: int
    files: list[_File] | None = None
    more: list[tuple[bytes, bytes]] | None = None


_decoder: Final = msgspec.msgpack.Decoder(_Page)


def check_path(path: str) -> str:
    """Accept the path of a file inside a version; returns it.

    Raises:
        BadName: absolute, empty, longer than 4,096 bytes, with empty, `.` or `..` parts or a zero
            byte, or not valid Unicode.
    """
    try:
        raw = path.encode()
    except UnicodeEncodeError:
        raise BadName(f"path {path!r} is not valid Unicode") from None
    if not raw or len(raw) > spec.MAX_PATH_BYTES:
        raise BadName(f"path {path[:80]!r} has {len(raw)} bytes, want 1 to {spec.MAX_PATH_BYTES}")
    if "\0" in path:
        raise BadName(f"path {path!r} holds a zero byte")
    if path.startswith("/"):
        raise BadName(f"path {path!r} is absolute, want one that is relative")
    for part in path.split("/"):
        if part in ("", ".", ".."):
            raise BadName(f"path {path!r} has the part {part!r}")
    return path


def in_order(entries: Iterable[Entry]) -> list[Entry]:
    """Entries by path: the order of code points, which is that of the bytes of UTF-8.

    Raises:
        UsageError: a path stands twice, or is a file and a folder at once.
    """
    ordered = sorted(entries, key=attrgetter("path"))
    check_paths([entry.path for entry in ordered])
    return ordered


def check_paths(paths: Sequence[str]) -> None:
    """Accept the paths of one version together.

    Raises:
        UsageError: one stands twice, or is a file and a folder at once.
    """
    files = set(paths)
    if len(files) < len(paths):
        twice = next(path for path, count in Counter(paths).items() if count > 1)
        raise UsageError(f"two files are called {twice!r}")
    for folder in {path.rpartition("/")[0] for path in paths}:
        for above in _self_and_above(folder):
            if above in files:
                raise UsageError(f"{above!r} is a file, and a folder with other files")


def _self_and_above(folder: str) -> Iterator[str]:
    while folder:
        yield folder
        folder = folder.rpartition("/")[0]


def version_digest(entries: Iterable[Entry]) -> bytes:
    """32 bytes that name a version by its paths and contents alone (docs/format.md, 9.2)."""
    pieces: list[bytes] = []
    for entry in sorted(entries, key=attrgetter("path")):
        path, uri = entry.path.encode(), entry.uri.encode()
        size = _UNKNOWN_SIZE if entry.size is None else entry.size
        pieces += (_U32.pack(len(path)), path, _SIZE.pack(bool(uri), size))
        pieces += (entry.hash or bytes(spec.HASH_BYTES), _U32.pack(len(uri)), uri)
    return crypto.digest(spec.LABEL_VERSION, b"".join(pieces))


# ------------------------------------------------------------------ pages
def encode_pages(entries: Iterable[Entry]) -> list[bytes]:
    """The entries in pages with files, in the order of their paths; one empty page for none.

    The same entries make the same pages. Who gets more than one puts them into objects and lists
    those with `encode_index`.

    Raises:
        UsageError: a path stands twice, a file has so many parts that no page can hold them, or
            there are more than MAX_VERSION_FILES.
    """
    pages: list[bytes] = []
    files: list[bytes] = []
    size = 0
    ordered = in_order(entries)
    if len(ordered) > spec.MAX_VERSION_FILES:
        most = f"the most is {spec.MAX_VERSION_FILES:,}"
        raise UsageError(f"{len(ordered):,} files, {most}", hint="make several artifacts, or tar")
    for entry in ordered:
        raw = _encode_file(entry)
        if len(raw) > _MAX_FILE_BYTES:
            raise UsageError(
                f"{entry.path!r} of {entry.size} bytes is cut into {len(entry.parts)} parts",
                hint='set chunking = "fixed", or split the file',
            )
        if size and size + len(raw) > _PAGE_BYTES:
            pages.append(_page("files", files))
            files, size = [], 0
        files.append(raw)
        size += len(raw)
        if zlib.crc32(entry.path.encode()) & _PAGE_MASK == 0:
            pages.append(_page("files", files))
            files, size = [], 0
    if files or not pages:
        pages.append(_page("files", files))
    return pages


def encode_index(pages: Sequence[tuple[bytes, bytes]]) -> bytes:
    """A page that lists other pages, each as its object's id and key."""
    return _page("more", [_encode(list(page)) for page in pages])


def _page(name: str, items: list[bytes]) -> bytes:
    head = b"\x82" + _encode("v") + _encode(MANIFEST_VERSION) + _encode(name)
    return head + b"\xdd" + len(items).to_bytes(4, "big") + b"".join(items)


def _encode_file(entry: Entry) -> bytes:
    fields: dict[str, Any] = {"path": entry.path}
    if entry.uri:
        fields["uri"] = entry.uri
    if entry.size is not None:
        fields["size"] = entry.size
    if entry.hash:
        fields["hash"] = entry.hash
    if not entry.uri:
        fields["parts"] = [[p.object_id, p.key, p.offset, p.length] for p in entry.parts]
    return _encode(fields)


def decode_page(raw: bytes) -> tuple[list[Entry], list[tuple[bytes, bytes]]]:
    """One page: its files, in the order of their paths, or (object id, key) of more pages.

    Raises:
        Damaged: not a manifest, or one that breaks docs/format.md, section 9.1.
    """
    try:
        page = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Damaged(f"not a manifest: {error}") from None
    if page.v != MANIFEST_VERSION:
        raise Damaged(f"a manifest of version {page.v}, of a newer localstore")
    if (page.files is None) == (page.more is None):
        raise Damaged("a manifest without files and without more pages, or with both")
    if page.files is None:
        return [], _checked_more(page.more or [])
    entries = [_entry(file) for file in page.files]
    if any(left.path >= right.path for left, right in itertools.pairwise(entries)):
        raise Damaged("a manifest whose paths are out of order")
    return entries, []


def _checked_more(more: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    if not more:
        raise Damaged("a manifest that lists no pages")
    for object_id, key in more:
        if len(object_id) != spec.HASH_BYTES or len(key) != spec.KEY_BYTES:
            raise Damaged("a manifest whose pages have no id or key")
    return more


def _entry(file: _File) -> Entry:
    try:
        check_path(file.path)
    except BadName as problem:
        raise Damaged(f"a manifest with the {problem}") from None
    if file.size is not None and not 0 <= file.size <= _MAX_SIZE:
        raise Damaged(f"{file.path!r} has {file.size} bytes")
    if len(file.hash) != spec.HASH_BYTES and (file.hash or not file.uri):
        raise Damaged(f"{file.path!r} has a hash of {len(file.hash)} bytes")
    parts = tuple(Part(*part) for part in file.parts)
    for part in parts:
        _check_part(file.path, part)
    # An unknown field may follow; that a file is a reference is said by its uri alone.
    if file.uri and parts:
        raise Damaged(f"{file.path!r} is a reference and has parts")
    if not file.uri and file.size != sum(part.length for part in parts):
        raise Damaged(f"{file.path!r} has {file.size} bytes, its parts have others")
    return Entry(file.path, file.size, file.hash, parts, file.uri)


def _check_part(path: str, part: Part) -> None:
    if len(part.object_id) != spec.HASH_BYTES or len(part.key) != spec.KEY_BYTES:
        raise Damaged(f"{path!r} has a part without id or key")
    if part.offset < 0 or part.length < 1 or part.offset + part.length > spec.MAX_OBJECT_BYTES:
        raise Damaged(f"{path!r} has a part of {part.length} bytes at {part.offset}")


def as_part(raw: object) -> Part | None:
    """A part as it stands in a FILE record; None for what is none of docs/format.md, 9.1."""
    match raw:
        case [bytes(object_id), bytes(key), int(offset), int(length), *_]:
            part = Part(object_id, key, offset, length)
        case _:
            return None
    try:
        _check_part("", part)
    except Damaged:
        return None
    return part


def is_size(value: object) -> bool:
    """Whether this may be the size of a file in bytes."""
    return type(value) is int and 0 <= value <= _MAX_SIZE
