"""What a watch took before, so that a restart takes nothing twice.

A cache of this home, sealed, with names as keyed hashes; it may be deleted. Without it files are
read once more, and the same content still makes no second version.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from localstore import crypto, durable
from localstore.errors import Damaged
from localstore.format import spec

if TYPE_CHECKING:
    from localstore.project import Project
    from localstore.watching.looking import Candidate

_MOST: Final = 100_000  # names of one watch; what was seen longest ago is forgotten first
_VERSION: Final = b"W1"
_ENTRY: Final = struct.Struct("<16s16sQ16s")
_STAMP: Final = struct.Struct("<QQqq")
UNKNOWN: Final = bytes(16)


class Taken(NamedTuple):
    """What is remembered of a name: its stamps, its size and its content, as keyed hashes."""

    stamps: bytes
    size: int
    content: bytes = UNKNOWN


class Memory:
    """What one watch took. Not for two threads at once."""

    def __init__(self, project: Project, watch_id: str) -> None:
        """Read what there is; what does not open counts as nothing."""
        home_key = project.identity.home_key
        self._key = crypto.derive(home_key, spec.LABEL_CACHE)
        self._context = spec.LABEL_CACHE + spec.CACHE_MAGIC + project.id + watch_id.encode()
        self._path = project.paths.local / f"watch-{watch_id}.cache"
        self._taken: dict[bytes, Taken] = {}
        self._changed = False
        # The newest version of this watch: size, number of files, content.
        self.newest = Taken(UNKNOWN, -1)
        self._load()

    def _load(self) -> None:
        try:
            sealed = self._path.read_bytes()
            raw = crypto.decrypt_with_nonce(self._key, sealed, self._context)
        except (OSError, Damaged):
            return
        if raw[:2] != _VERSION or (len(raw) - 2) % _ENTRY.size:
            return
        for name, stamps, size, content in _ENTRY.iter_unpack(raw[2:]):
            self._taken[name] = Taken(stamps, size, content)
        self.newest = self._taken.pop(UNKNOWN, self.newest)

    def of(self, candidate: Candidate) -> Taken | None:
        """What is remembered of a candidate's name."""
        return self._taken.get(self._name(candidate))

    def has(self, candidate: Candidate) -> bool:
        """Whether the candidate is as it was when it was dealt with."""
        before = self.of(candidate)
        return before is not None and before.stamps == self._stamps(candidate)

    def put(self, candidate: Candidate, content: bytes = UNKNOWN, *, newest: bool = False) -> None:
        """Remember that a candidate was dealt with as it is.

        Args:
            content: keyed hash of what it holds, `UNKNOWN` where nobody read it.
            newest: it became the newest version of this watch.
        """
        name = self._name(candidate)
        taken = Taken(self._stamps(candidate), candidate.size, content)
        self._taken.pop(name, None)
        self._taken[name] = taken
        self.newest = taken if newest else self.newest
        self._changed = True

    def content_key(self, hashes: list[tuple[str, bytes]], *, folder: bool) -> bytes:
        """A keyed hash of a candidate's contents; of one file its name does not count."""
        parts = [
            piece
            for path, found in sorted(hashes)
            for piece in (path.encode() + b"\0" if folder else b"", found)
        ]
        return crypto.keyed_digest(self._key, spec.LABEL_CACHE, *parts, size=16)

    def save(self) -> None:
        """Write what changed; a disk that refuses is no error."""
        if not self._changed:
            return
        for name in list(self._taken)[: max(0, len(self._taken) - _MOST)]:
            del self._taken[name]
        rows = [_ENTRY.pack(UNKNOWN, *self.newest)] if self.newest.size >= 0 else []
        rows += [_ENTRY.pack(name, *taken) for name, taken in self._taken.items()]
        sealed = crypto.encrypt_with_nonce(self._key, b"".join([_VERSION, *rows]), self._context)
        try:
            durable.replace_cache(self._path, sealed)
        except OSError:
            return
        self._changed = False

    def _name(self, candidate: Candidate) -> bytes:
        raw = candidate.name.encode("utf-8", "surrogateescape")
        return crypto.keyed_digest(self._key, spec.LABEL_CACHE, b"name", raw, size=16)

    def _stamps(self, candidate: Candidate) -> bytes:
        # Not the device: its number may be another after a restart of the machine.
        parts = [
            path.encode("utf-8", "surrogateescape")
            + b"\0"
            + _STAMP.pack(stamp.inode, stamp.size, stamp.mtime_ns, stamp.ctime_ns)
            for path, stamp in candidate.files
        ]
        return crypto.keyed_digest(self._key, spec.LABEL_CACHE, b"stamps", *parts, size=16)
