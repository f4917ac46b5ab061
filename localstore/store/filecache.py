"""Which files were taken before, so that one that is as it was need not be read again.

A cache of this home, sealed; it may be deleted. A machine that may not read its project has none.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import zstandard

from localstore import crypto, durable
from localstore.errors import Damaged
from localstore.format import packing, spec
from localstore.format.manifest import Part

if TYPE_CHECKING:
    import os

    from localstore.project import Project

_FILE: Final = "files.cache"
_VERSION: Final = 1
_MOST_BYTES: Final = 36 * 1024 * 1024  # of paths, and of parts: 150,000 files
_FACTS: Final = struct.Struct("<QqQq")
_PART: Final = struct.Struct("<32s32sII")
_ENTRY_BYTES: Final = 150  # what Python needs for one more key and value
# A file that was changed this shortly before it was read may change again without another time:
# clocks of file systems tick every 4 to 10 ms.
_FRESH_NS: Final = 50_000_000


class Facts(NamedTuple):
    """What tells a changed file from one that is as it was."""

    size: int
    mtime_ns: int
    inode: int
    ctime_ns: int

    @classmethod
    def of(cls, stat: os.stat_result) -> Facts:
        """The facts in a stat."""
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_ino, stat.st_ctime_ns)

    def settled(self, now_ns: int) -> bool:
        """Whether any later change must show in the facts, seen from the time of reading."""
        return max(self.mtime_ns, self.ctime_ns) < now_ns - _FRESH_NS


class _Content(msgspec.Struct, array_like=True):
    version: int
    paths: dict[bytes, bytes]
    parts: dict[bytes, bytes]


class FileCache:
    """Hashes of files by path, and parts by hash and class. Not for two threads at once.

    What was asked for or put longest ago is forgotten first.
    """

    def __init__(self, project: Project, data_class: int) -> None:
        self._kept = project.can_read
        self._path = project.paths.local / _FILE
        self._key = crypto.derive(project.identity.home_key, spec.LABEL_CACHE)
        self._context = spec.LABEL_CACHE + spec.CACHE_MAGIC + project.id + b"files"
        self._class = bytes((data_class,))
        self._content: _Content | None = None
        self._changed = False

    def _loaded(self) -> _Content:
        if self._content is None:
            self._content = (self._load() if self._kept else None) or _Content(_VERSION, {}, {})
        return self._content

    def _load(self) -> _Content | None:
        try:
            sealed = self._path.read_bytes()
            raw = crypto.decrypt_with_nonce(self._key, sealed, self._context)
            raw = packing.decompress(raw, 4 * _MOST_BYTES)
            content = msgspec.msgpack.decode(raw, type=_Content)
        except (OSError, Damaged, msgspec.DecodeError):
            return None
        return content if content.version == _VERSION else None

    def hash_of(self, path: str, facts: Facts) -> bytes | None:
        """Hash of a file's content, when the file is as it was."""
        paths = self._loaded().paths
        name = _name(path)
        raw = paths.get(name)
        if raw is None or not raw.startswith(_FACTS.pack(*facts)):
            return None
        paths[name] = paths.pop(name)
        return raw[_FACTS.size :]

    def parts_of(self, content_hash: bytes) -> tuple[Part, ...] | None:
        """Where a content stands, when it was stored before."""
        parts, name = self._loaded().parts, content_hash + self._class
        raw = parts.get(name)
        if raw is None:
            return None
        parts[name] = parts.pop(name)
        return tuple([Part(*part) for part in _PART.iter_unpack(raw)])

    def put_path(self, path: str, facts: Facts, content_hash: bytes) -> None:
        """Remember a file; only one that had settled before it was read."""
        if not self._kept:
            return
        paths, name = self._loaded().paths, _name(path)
        paths.pop(name, None)
        paths[name] = _FACTS.pack(*facts) + content_hash
        self._changed = True

    def put_parts(self, content_hash: bytes, parts: tuple[Part, ...]) -> None:
        """Remember where a content stands; only once its objects are durable."""
        known, name = self._loaded().parts, content_hash + self._class
        known.pop(name, None)
        known[name] = b"".join([_PART.pack(p.object_id, p.key, p.offset, p.length) for p in parts])
        self._changed = True

    def save(self) -> None:
        """Write what changed; a disk that refuses is no error."""
        content = self._loaded()
        if not self._changed or not self._kept:
            return
        _bound(content.paths)
        _bound(content.parts)
        raw = msgspec.msgpack.encode(content)
        squeezed = zstandard.ZstdCompressor(level=1, write_content_size=True).compress(raw)
        try:
            sealed = crypto.encrypt_with_nonce(self._key, squeezed, self._context)
            durable.replace_cache(self._path, sealed)
        except OSError:
            return
        self._changed = False


def _name(path: str) -> bytes:
    raw = path.encode("utf-8", "surrogateescape")
    return crypto.digest(spec.LABEL_CACHE, raw, size=spec.ID_BYTES)


def _bound(entries: dict[bytes, bytes]) -> None:
    total = sum(map(len, entries.values())) + len(entries) * _ENTRY_BYTES
    for name in list(entries) if total > _MOST_BYTES else ():
        if total <= _MOST_BYTES:
            break
        total -= len(entries.pop(name)) + _ENTRY_BYTES
