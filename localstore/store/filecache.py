"""Which files were taken before, so that one that is as it was need not be read again.

A cache of this home, sealed; it may be deleted. A machine that may not read its project has none.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import zstandard

from localstore import crypto, durable
from localstore.errors import Damaged
from localstore.format import packing, spec
from localstore.format.manifest import Part

if TYPE_CHECKING:
    from localstore.project import Project

_FILE: Final = "files.cache"
_MOST_BYTES: Final = 48 * 1024 * 1024
_HEAD: Final = struct.Struct("<QqQq32s")
_PART: Final = struct.Struct("<32s32sII")
_ENTRY_BYTES: Final = 120  # what Python needs for one more key and value
# A file that was changed this shortly before it was read may change again without another time:
# clocks of file systems tick every 4 to 10 ms.
_FRESH_NS: Final = 50_000_000


@dataclass(frozen=True, slots=True)
class Facts:
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


class FileCache:
    """Hash and parts of files by path and class. Not for two threads at once."""

    def __init__(self, project: Project, data_class: int) -> None:
        self._kept = project.can_read
        self._path = project.paths.local / _FILE
        self._key = crypto.derive(project.identity.home_key, spec.LABEL_CACHE)
        self._context = spec.LABEL_CACHE + spec.CACHE_MAGIC + project.id + b"files"
        self._class = bytes((data_class,))
        self._entries: dict[bytes, bytes] | None = None
        self._changed = False

    def _loaded(self) -> dict[bytes, bytes]:
        if self._entries is None:
            self._entries = self._load() if self._kept else {}
        return self._entries

    def _load(self) -> dict[bytes, bytes]:
        try:
            sealed = self._path.read_bytes()
            raw = crypto.decrypt_with_nonce(self._key, sealed, self._context)
            raw = packing.decompress(raw, 4 * _MOST_BYTES)
            return msgspec.msgpack.decode(raw, type=dict[bytes, bytes])
        except (OSError, Damaged, msgspec.DecodeError):
            return {}

    def _name(self, path: str) -> bytes:
        return crypto.digest(spec.LABEL_CACHE, self._class, os.fsencode(path), size=16)

    def get(self, path: str, facts: Facts) -> tuple[bytes, tuple[Part, ...]] | None:
        """Hash and parts of a file that is as it was."""
        entries = self._loaded()
        name = self._name(path)
        raw = entries.get(name)
        if raw is None:
            return None
        size, mtime_ns, inode, ctime_ns, content_hash = _HEAD.unpack_from(raw)
        if facts != Facts(size, mtime_ns, inode, ctime_ns):
            return None
        entries[name] = entries.pop(name)  # asked last, forgotten last
        view = memoryview(raw)[_HEAD.size :]
        return content_hash, tuple(Part(*part) for part in _PART.iter_unpack(view))

    def put(self, path: str, facts: Facts, content_hash: bytes, parts: tuple[Part, ...]) -> None:
        """Remember a file; only one that had settled before it was read."""
        if not self._kept:
            return
        head = _HEAD.pack(facts.size, facts.mtime_ns, facts.inode, facts.ctime_ns, content_hash)
        pieces = (_PART.pack(p.object_id, p.key, p.offset, p.length) for p in parts)
        entries, name = self._loaded(), self._name(path)
        entries.pop(name, None)
        entries[name] = head + b"".join(pieces)
        self._changed = True

    def save(self) -> None:
        """Write what changed; a disk that refuses is no error."""
        if not self._changed or self._entries is None:
            return
        total = sum(len(raw) + _ENTRY_BYTES for raw in self._entries.values())
        for name in list(self._entries):
            if total <= _MOST_BYTES:
                break
            total -= len(self._entries.pop(name)) + _ENTRY_BYTES
        raw = msgspec.msgpack.encode(self._entries)
        squeezed = zstandard.ZstdCompressor(level=1, write_content_size=True).compress(raw)
        try:
            sealed = crypto.encrypt_with_nonce(self._key, squeezed, self._context)
            durable.replace_cache(self._path, sealed)
        except OSError:
            return
        self._changed = False
