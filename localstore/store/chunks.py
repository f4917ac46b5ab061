"""Where contents are cut, and which pieces are here already.

The index is a cache of this home, sealed, in 256 files by the first byte of a chunk's hash; it may
be deleted. A machine that may not read its project keeps it in memory alone.
"""

from __future__ import annotations

import bisect
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import pyfastcdc

from localstore import crypto, durable
from localstore.errors import Damaged, UsageError
from localstore.format import spec

if TYPE_CHECKING:
    from localstore.project import Project

SMALL_BYTES: Final = 128 * 1024  # smaller files are laid end to end and cut together
_KIB: Final = 1024
_LEAST, _WANTED, _MOST = 128 * _KIB, 512 * _KIB, 2048 * _KIB
_FIXED: Final = 4096 * _KIB
# Of a file beyond this the parts of an average chunk would fill a manifest's page.
_HUGE_BYTES: Final = 64 * _KIB**3


class Cutter:
    """Finds where chunks end. Not for two threads at once."""

    def __init__(self, seed: bytes, chunking: str = "cdc", *, size: int = 0) -> None:
        """`seed`: the project's chunker seed. `size`: of the file, when it is one large file.

        Raises:
            UsageError: `chunking` is neither "cdc" nor "fixed".
        """
        if chunking not in ("cdc", "fixed"):
            raise UsageError(f"chunking is {chunking!r}, want 'cdc' or 'fixed'")
        self._cdc: pyfastcdc.FastCDC | None = None
        self.window = _FIXED
        if chunking == "cdc" and size < _HUGE_BYTES:
            number = int.from_bytes(seed[:8], "little") >> 1 or 1  # the library takes 63 bits
            self._cdc = pyfastcdc.FastCDC(_WANTED, min_size=_LEAST, max_size=_MOST, seed=number)
            self.window = _MOST

    def cut(self, view: memoryview, *, last: bool) -> list[int]:
        """Lengths of the chunks at the front of `view`.

        Args:
            last: nothing follows, so everything is cut; otherwise at most `window` bytes are left,
                whose end is not certain yet.
        """
        if self._cdc is None:
            whole, rest = divmod(len(view), _FIXED)
            return [_FIXED] * whole + ([rest] if last and rest else [])
        lengths: list[int] = []
        left = len(view)
        if not left:
            return lengths
        for chunk in self._cdc.cut_buf(view):
            if not last and left < self.window:
                break
            lengths.append(chunk.length)
            left -= chunk.length
        return lengths


_RECORD: Final = spec.HASH_BYTES + spec.HASH_BYTES + spec.KEY_BYTES
_SHARD_RECORDS: Final = 16384  # 256 files of 1.5 MiB: four million chunks
_LOADED_BYTES: Final = 48 * 1024 * 1024


class _Shard:
    """The chunks whose hashes begin with one byte: a sorted table, and what is new."""

    __slots__ = ("gone", "new", "table")

    def __init__(self, table: bytes) -> None:
        self.table = table
        self.new: dict[bytes, bytes] = {}
        self.gone: set[bytes] = set()

    def get(self, name: bytes) -> bytes | None:
        if name in self.new:
            return self.new[name]
        if name in self.gone:
            return None
        at = bisect.bisect_left(range(len(self.table) // _RECORD), name, key=self._name)
        record = self.table[at * _RECORD : (at + 1) * _RECORD]
        return record[32:] if record.startswith(name) else None

    def _name(self, index: int) -> bytes:
        return self.table[index * _RECORD : index * _RECORD + 32]

    def merged(self, table: bytes) -> bytes:
        """A table, perhaps a newer one of another process, with what is new here."""
        records = {table[at : at + 32]: table[at + 32 : at + _RECORD] for at in _steps(table)}
        for name in self.gone:
            records.pop(name, None)
        room = max(0, _SHARD_RECORDS - len(self.new))
        kept = dict(list(records.items())[:room])
        kept.update(self.new)
        return b"".join(name + kept[name] for name in sorted(kept))


def _steps(table: bytes) -> range:
    return range(0, len(table), _RECORD)


class ChunkIndex:
    """Which object holds a chunk, by the chunk's keyed hash. Any number of threads may use it."""

    def __init__(self, project: Project) -> None:
        self._kept = project.can_read
        self._folder = project.paths.local / "chunks"
        self._key = crypto.derive(project.identity.home_key, spec.LABEL_CACHE)
        self._context = spec.LABEL_CACHE + spec.CACHE_MAGIC + project.id + b"chunks"
        self._shards: OrderedDict[int, _Shard] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: bytes) -> tuple[bytes, bytes] | None:
        """Id and key of the object that holds this chunk, if one is known."""
        with self._lock:
            value = self._shard(name).get(name)
        return (value[:32], value[32:]) if value else None

    def put(self, name: bytes, object_id: bytes, key: bytes) -> None:
        """Remember an object."""
        with self._lock:
            self._shard(name).new[name] = object_id + key

    def forget(self, name: bytes) -> None:
        """Its object is gone."""
        with self._lock:
            shard = self._shard(name)
            shard.new.pop(name, None)
            shard.gone.add(name)

    def save(self) -> None:
        """Write what is new; a disk that refuses is no error."""
        with self._lock:
            for number in self._shards:
                self._save(number)

    def _shard(self, name: bytes) -> _Shard:
        number = name[0]
        shard = self._shards.get(number)
        if shard is None:
            shard = self._shards[number] = _Shard(self._load(number))
            self._shed(number)
        self._shards.move_to_end(number)
        return shard

    def _shed(self, keep: int) -> None:
        """Bound the memory: the shards that were asked longest ago go, but not out of memory."""
        while self._kept and sum(len(s.table) for s in self._shards.values()) > _LOADED_BYTES:
            number = next(iter(self._shards))
            if number == keep:
                break
            self._save(number)
            del self._shards[number]

    def _load(self, number: int) -> bytes:
        if not self._kept:
            return b""
        try:
            sealed = (self._folder / f"{number:02x}").read_bytes()
            table = crypto.decrypt_with_nonce(self._key, sealed, self._context + bytes([number]))
        except (OSError, Damaged):
            return b""
        return table if len(table) % _RECORD == 0 else b""

    def _save(self, number: int) -> None:
        shard = self._shards[number]
        if not self._kept or not (shard.new or shard.gone):
            return
        shard.table = shard.merged(self._load(number))
        sealed = crypto.encrypt_with_nonce(self._key, shard.table, self._context + bytes([number]))
        shard.new, shard.gone = {}, set()
        try:
            durable.make_folder(self._folder)
            durable.replace_cache(self._folder / f"{number:02x}", sealed)
        except OSError:
            return
