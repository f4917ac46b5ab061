"""References: content that stays where it is, by URI. Nothing is copied and no network is asked.

Of `file://` the size and the hash are looked up; of all else the caller may say them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from localstore.errors import UsageError
from localstore.format.manifest import Entry
from localstore.store.sources import look, walk

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_OBJECTS: Final = 10_000_000
_MAX_URI_CHARS: Final = 8192
_URI: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^\x00-\x20\x7f]*)")
_HASH: Final = re.compile(r"[0-9a-fA-F]{64}")
_PLAIN: Final = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/!$&'()*+,;=:@"
)


@dataclass(frozen=True, slots=True)
class FileReference:
    """A file or folder of this machine that is named and not copied.

    Attributes:
        checksum: whether contents are hashed. max_objects: how many files a folder may have.
    """

    target: Path
    checksum: bool
    max_objects: int

    def entry(self, path: str, hash_file: Callable[[Path], tuple[int, bytes]]) -> Entry:
        """What stands at `path` in the version, for a file."""
        if self.checksum:
            size, content = hash_file(self.target)
        else:
            size, content = look(self.target).st_size, b""
        return Entry(path, size, content, (), file_uri(self.target))


def files_of(prefix: str, folder: FileReference) -> dict[str, FileReference]:
    """One reference for each file below a folder, by its path in the version.

    Raises:
        UsageError: more files than `max_objects`; what `walk` refuses.
        NotFound: it is gone.
    """
    files = walk(folder.target)
    if len(files) > folder.max_objects:
        raise UsageError(
            f"{str(folder.target)!r} has {len(files)} files, max_objects is {folder.max_objects}"
        )
    above = f"{prefix}/" if prefix else ""
    return {above + path: replace(folder, target=Path(file)) for path, file in files}


def read_reference(
    uri: object,
    name: str | None,
    checksum: bool | str | bytes,
    max_objects: int | None,
    size: int | None,
) -> tuple[str, Entry | FileReference]:
    """What `add_reference` was given, as a path in the version and what stands there.

    Raises:
        UsageError: no URI, no name to be had, or a checksum or size that is none.
        NotFound, NotPermitted: a `file://` that is not here.
    """
    if not isinstance(uri, str) or len(uri) > _MAX_URI_CHARS or not _is_unicode(uri):
        raise UsageError(f"{str(uri)[:80]!r} is no URI of at most {_MAX_URI_CHARS} characters")
    local = uri.startswith("file://")
    parts = _URI.fullmatch(uri)
    if parts is None and not local:
        raise UsageError(
            f"{uri[:200]!r} is no URI",
            hint="want file:///path, https://…, s3://… or gs://…; add_file() takes a path",
        )
    if local:
        target = _local_path(uri)
        if not target.is_dir():
            look(target)
        path = (target.name if name is None and not target.is_dir() else name) or ""
        return path, FileReference(target, bool(checksum), max_objects or MAX_OBJECTS)
    rest = parts[2] if parts else ""
    path = name or rest.partition("?")[0].partition("#")[0].rstrip("/").rpartition("/")[2]
    if not path:
        raise UsageError(f"{uri[:200]!r} has no last part to be named after", hint="give name=…")
    return path, Entry(path, _size(size), _hash(checksum), (), uri)


def _size(size: int | None) -> int | None:
    if size is None or (type(size) is int and 0 <= size < 1 << 63):
        return size
    raise UsageError(f"size is {size!r}, want bytes as a number from 0 up")


def _hash(checksum: bool | str | bytes) -> bytes:
    """What the caller knows of the content; unknown as a rule."""
    if isinstance(checksum, bool):
        return b""
    if isinstance(checksum, bytes) and len(checksum) == 32:
        return checksum
    if isinstance(checksum, str) and _HASH.fullmatch(checksum):
        return bytes.fromhex(checksum)
    raise UsageError(f"checksum is {checksum!r:.80}, want a BLAKE3 hash as 64 hex digits")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _local_path(uri: str) -> Path:
    rest = uri.removeprefix("file://")
    if rest.startswith("localhost/"):
        rest = rest.removeprefix("localhost")
    if not rest.startswith("/"):
        raise UsageError(f"{uri[:200]!r} names no file of this machine", hint="want file:///path")
    as_written = Path(rest)
    if "%" not in rest or as_written.exists():
        return as_written
    raw = re.sub(rb"%([0-9a-fA-F]{2})", lambda found: bytes([int(found[1], 16)]), rest.encode())
    try:
        return Path(raw.decode())
    except UnicodeDecodeError:
        return as_written


def file_uri(file: Path) -> str:
    """`file://` and the absolute path, with everything unusual as %XX."""
    raw = str(file.absolute()).encode()
    return "file://" + "".join(chr(b) if b in _PLAIN else f"%{b:02X}" for b in raw)
