"""Makes a version of what has come to rest: the files as one look saw them, or nothing.

Between the look and the record a file may change, vanish, or be another behind a link. So the
content is stored first, then every file is looked at once more, and only then a version is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localstore.artifacts.draft import Draft, Gathered
from localstore.artifacts.model import RunRef
from localstore.artifacts.writing import Logging, Request, hash_file
from localstore.errors import LocalStoreError
from localstore.store.sources import Source
from localstore.watching.looking import look_again
from localstore.watching.memory import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from localstore.artifacts.model import Version
    from localstore.project import Project
    from localstore.settings import Settings
    from localstore.watching.looking import Candidate
    from localstore.watching.memory import Memory
    from localstore.watching.watches import Watch

WATCHED = "watched"  # the key in a version's metadata under which stands who took it


class Changed(LocalStoreError):
    """What was to be taken is not what was looked at; it is looked at again."""


class Outcome(Enum):
    """What became of a candidate."""

    VERSION = "a new version"
    SAME = "content that is there already"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a candidate, and the version that holds it, where one was asked for."""

    outcome: Outcome
    version: Version | None = None


class _Fixed(Draft):
    """Exactly the files that a look saw."""

    def __init__(self, root: Path, candidate: Candidate) -> None:
        super().__init__()
        self._root, self._candidate = root, candidate

    def gather(self, _hash_file: Callable[[Path], tuple[int, bytes]]) -> Gathered:
        one = self._candidate
        sources = [
            Source(path, self._root / one.path_of(path), stamp.facts) for path, stamp in one.files
        ]
        facts = {path: stamp.facts for path, stamp in one.files}
        return Gathered(sources, [], facts, one.size)


class Taker:
    """Takes candidates of one watch into one project."""

    def __init__(
        self,
        project: Project,
        watch: Watch,
        options: Settings,
        memory: Memory,
        *,
        warn: Callable[[str], None],
    ) -> None:
        self._project, self._watch, self._options = project, watch, options
        self._memory, self._warn = memory, warn
        self._root = Path(watch.folder)

    def take(
        self, candidate: Candidate, progress: Callable[[int, int], None] = lambda _d, _t: None
    ) -> Result:
        """Make a version, unless the content is the newest one already.

        Args:
            progress: told bytes done since the last call, and bytes in all; what it raises ends it.

        Raises:
            Changed: it is not as it was when it was looked at.
            LocalStoreError: a file cannot be read, or the disk refused.
        """
        content = self._known_content(candidate)
        if content is not None and content in self._contents_before(candidate):
            self._memory.put(candidate, content)
            return Result(Outcome.SAME)
        return self._log(candidate, progress)

    def _contents_before(self, candidate: Candidate) -> set[bytes]:
        before = self._memory.of(candidate)
        return {self._memory.newest.content, *([before.content] if before else [])} - {UNKNOWN}

    def _known_content(self, candidate: Candidate) -> bytes | None:
        """What the candidate holds, if it may be what was taken before; else it is not read."""
        before = self._memory.of(candidate)
        sizes = {self._memory.newest.size, before.size if before else -1}
        return self._content(candidate) if candidate.size in sizes else None

    def _content(self, candidate: Candidate) -> bytes:
        """Hash all files.

        Raises:
            Changed: one of them changed meanwhile.
        """
        hashes = [
            (path, hash_file(self._root / candidate.path_of(path))[1])
            for path, _ in candidate.files
        ]
        self._confirm(candidate, ())
        return self._memory.content_key(hashes, folder=candidate.folder)

    def _log(self, candidate: Candidate, progress: Callable[[int, int], None]) -> Result:
        logged = Logging(
            self._project,
            self._request(candidate),
            _Fixed(self._root, candidate),
            self._options,
            warn=self._warn,
            progress=progress,
            confirm=lambda changed: self._confirm(candidate, changed),
        ).run()
        if logged.entries is None:
            content = self._content(candidate)
        else:
            hashes = [(entry.path, entry.hash) for entry in logged.entries]
            content = self._memory.content_key(hashes, folder=candidate.folder)
        self._memory.put(candidate, content, newest=True)
        return Result(Outcome.VERSION if logged.fresh else Outcome.SAME, logged.version)

    def _request(self, candidate: Candidate) -> Request:
        watch, project = self._watch, self._project
        run = RunRef(id=watch.run, project=project.name, entity=project.entity)
        return Request(
            name=watch.name,
            type=watch.type,
            metadata={WATCHED: self._facts(candidate)},
            aliases=watch.aliases,
            run=run if watch.run else None,
        )

    def _facts(self, candidate: Candidate) -> dict[str, Any]:
        return {"by": self._watch.id, "path": candidate.name}

    def _confirm(self, candidate: Candidate, changed: Sequence[str]) -> None:
        if changed or not look_again(str(self._root), candidate):
            raise Changed(f"{candidate.name!r} changed while it was read")
