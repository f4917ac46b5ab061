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
from localstore.query.info import RunInfo, WriterFacts

if TYPE_CHECKING:
    from pathlib import Path

    from localstore.project import Project

_FILE: Final = "runs.cache"
_VERSION: Final = 2
_MOST: Final = 256 * 1024 * 1024


class RunCache:
    """Entries of one project by subject (hex)."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._path = project.paths.local / _FILE
        self._key = crypto.derive(project.identity.home_key, spec.LABEL_CACHE)
        self._context = spec.LABEL_CACHE + spec.CACHE_MAGIC + project.id
        self._entries = self._load()
        self._changed = False

    def _load(self) -> dict[str, Any]:
        try:
            sealed = self._path.read_bytes()
            raw = crypto.decrypt_with_nonce(self._key, sealed, self._context)
            body = msgspec.msgpack.decode(packing.decompress(raw, _MOST), type=dict[str, Any])
            entries = body["runs"] if body.get("version") == _VERSION else {}
            return entries if isinstance(entries, dict) else {}
        except (OSError, Damaged, msgspec.DecodeError, KeyError):
            return {}

    def get(self, subject: str, print_: list[Any]) -> RunInfo | None:
        """The remembered entry, if the run's files are as they were."""
        entry = self._entries.get(subject)
        if entry is None or entry[0] != print_:
            return None
        body = dict(entry[1])
        body["writers"] = {key: _writer(facts) for key, facts in body["writers"].items()}
        body["definitions"] = [(name, definition) for name, definition in body["definitions"]]
        return RunInfo(**body)

    def put(self, subject: str, print_: list[Any], info: RunInfo) -> None:
        """Remember an entry."""
        self._entries[subject] = [print_, asdict(info)]
        self._changed = True

    def save(self, present: frozenset[str]) -> None:
        """Write what changed, and forget runs that are gone; a store that refuses is no error."""
        gone = self._entries.keys() - present
        if not self._changed and not gone:
            return
        for subject in gone:
            del self._entries[subject]
        raw = msgspec.msgpack.encode({"version": _VERSION, "runs": self._entries})
        squeezed = zstandard.ZstdCompressor(level=1, write_content_size=True).compress(raw)
        try:
            replace_file(self._path, crypto.encrypt_with_nonce(self._key, squeezed, self._context))
        except OSError:
            return
        self._changed = False


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
