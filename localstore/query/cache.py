"""The list of runs, remembered: one sealed file for each project, deleted at any time.

A run's entry holds while names, sizes and times of its files stay as they were.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import msgspec
import zstandard

from localstore import crypto
from localstore.durable import replace_file
from localstore.errors import Damaged
from localstore.format import packing, spec
from localstore.query.info import Lineage, RunInfo, WriterFacts

if TYPE_CHECKING:
    from pathlib import Path

    from localstore.project import Project

_FILE: Final = "runs.cache"
_VERSION: Final = 3
_MOST: Final = 256 * 1024 * 1024


class SealedCache:
    """A map that one process may lose and any process may find again, sealed under the home's key.

    Attributes:
        entries: plain values; what cannot be read or is of another version is empty.
    """

    def __init__(self, project: Project, file: str, version: int) -> None:
        self._version = version
        self._path = project.paths.local / file
        self._key = crypto.derive(project.identity.home_key, spec.LABEL_CACHE)
        self._context = spec.LABEL_CACHE + spec.CACHE_MAGIC + project.id
        self.entries = self._load()

    def _load(self) -> dict[str, Any]:
        try:
            sealed = self._path.read_bytes()
            raw = crypto.decrypt_with_nonce(self._key, sealed, self._context)
            body = msgspec.msgpack.decode(packing.decompress(raw, _MOST), type=dict[str, Any])
            entries = body["runs"] if body.get("version") == self._version else {}
            return entries if isinstance(entries, dict) else {}
        except (OSError, Damaged, msgspec.DecodeError, KeyError):
            return {}

    def save(self) -> bool:
        """Write all entries; False when the store refuses, which is no error."""
        raw = msgspec.msgpack.encode({"version": self._version, "runs": self.entries})
        squeezed = zstandard.ZstdCompressor(level=1, write_content_size=True).compress(raw)
        try:
            replace_file(self._path, crypto.encrypt_with_nonce(self._key, squeezed, self._context))
        except OSError:
            return False
        return True


class RunCache:
    """Entries of one project by subject (hex)."""

    def __init__(self, project: Project) -> None:
        self._cache = SealedCache(project, _FILE, _VERSION)
        self._changed = False

    def get(self, subject: str, print_: list[Any]) -> RunInfo | None:
        """The remembered entry, if the run's files are as they were."""
        entry = self._cache.entries.get(subject)
        if entry is None or entry[0] != print_:
            return None
        body = dict(entry[1])
        body["writers"] = {key: _writer(facts) for key, facts in body["writers"].items()}
        body["definitions"] = [(name, definition) for name, definition in body["definitions"]]
        body["lineage"] = [Lineage(**link) for link in body["lineage"]]
        return RunInfo(**body)

    def put(self, subject: str, print_: list[Any], info: RunInfo) -> None:
        """Remember an entry."""
        self._cache.entries[subject] = [print_, asdict(info)]
        self._changed = True

    def save(self, present: frozenset[str]) -> None:
        """Write what changed, and forget runs that are gone; a store that refuses is no error."""
        gone = self._cache.entries.keys() - present
        if not self._changed and not gone:
            return
        for subject in gone:
            del self._cache.entries[subject]
        self._changed = not self._cache.save()


def _writer(facts: dict[str, Any]) -> WriterFacts:
    return WriterFacts(**{**facts, "closed": [tuple(log) for log in facts["closed"]]})


def fingerprint(folder: Path) -> list[Any]:
    """Name, size and time of each file of a run."""
    facts = []
    for path in sorted(folder.iterdir()):
        try:
            stat = path.stat()
        except FileNotFoundError:
            continue
        facts.append([path.name, stat.st_size, stat.st_mtime_ns])
    return facts
