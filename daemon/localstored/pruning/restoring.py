"""Brings pruned bytes back from a remote: checked, in their place, and only then without a stub.

May be killed at any point and called again. Needs no key.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from localstore import pruned
from localstore.durable import make_folder, sync_folder
from localstore.errors import Damaged, LocalStoreError, NotFound
from localstore.layout import HomePaths, object_name, parse_name
from localstore.remotes import read_remotes
from localstore.store.references import References
from localstore.trust import read_project
from localstored.engine import now_us
from localstored.incoming import Incoming
from localstored.pruning.prune import chosen
from localstored.remotes import open_remote
from localstored.verify import sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from localstore.layout import FileName, ProjectPaths
    from localstore.remotes import RemoteEntry
    from localstored.remotes.base import Remote

_BATCH: Final = 256
_THREADS: Final = 8


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a pull has come in one project: files and bytes, done and to do."""

    project: str
    done_items: int
    items: int
    done_bytes: int
    bytes: int


@dataclass(slots=True, kw_only=True)
class ProjectRestored:
    """What came back of one project.

    Attributes:
        items, bytes: files that came back. here: files that were meant and were here already.
        failed: what did not, by name, with the reason.
    """

    project: str
    items: int = 0
    bytes: int = 0
    here: int = 0
    failed: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "project": self.project,
            "items": self.items,
            "bytes": self.bytes,
            "here": self.here,
            "failed": dict(self.failed),
        }


@dataclass(slots=True, kw_only=True)
class RestoreReport:
    """What a pull did; `unreachable` says which remotes did not answer, and why."""

    dry_run: bool
    projects: list[ProjectRestored] = field(default_factory=list)
    unreachable: dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether everything that was meant is here."""
        return not any(one.failed for one in self.projects)

    @property
    def items(self) -> int:
        """How many files came back."""
        return sum(one.items for one in self.projects)

    @property
    def bytes(self) -> int:
        """Their bytes."""
        return sum(one.bytes for one in self.projects)

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "ok": self.ok,
            "dry_run": self.dry_run,
            "items": self.items,
            "bytes": self.bytes,
            "projects": [one.to_json() for one in self.projects],
            "unreachable": dict(self.unreachable),
        }


def restore(
    home: Path,
    *,
    projects: Iterable[str] | None = None,
    subjects: Iterable[str] | None = None,
    writers: Iterable[tuple[str, str]] = (),
    objects: Iterable[str] = (),
    remotes: Sequence[str] | None = None,
    classes: Iterable[int] | None = None,
    dry_run: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    clock: Callable[[], int] = now_us,
    opener: Callable[[RemoteEntry], Remote] = open_remote,
) -> RestoreReport:
    """Bring back what was pruned.

    Args:
        projects: ids; None: all.
        subjects: runs and artifacts (hex), with what their logs refer to; None: all.
        writers: besides: (subject, writer id), what one process wrote of an artifact.
        objects: besides: single objects, by id (hex).
        remotes: names; only from these. None: from where it is, else from any that has it.
        classes: numbers of the classes of logs; objects come with any of them. None: all.

    Raises:
        NotFound: an unknown remote.
        BadSetting: `remotes.toml` breaks its form.
    """
    report = RestoreReport(dry_run=dry_run)
    sources = _Sources(chosen(read_remotes(home), remotes), opener, report)
    wanted = None if projects is None else frozenset(projects)
    meant = _Meant(
        subjects=None if subjects is None else frozenset(subjects),
        writers=frozenset(writers),
        objects=frozenset(objects),
        classes=None if classes is None else frozenset(classes),
    )
    try:
        for paths in HomePaths(home).all_projects():
            if wanted is None or paths.id in wanted:
                found = ProjectRestored(project=paths.id)
                report.projects.append(found)
                with pruned.lock(paths):
                    pull = _Pull(paths, sources, found, on_progress, dry_run=dry_run)
                    pull.run(meant, clock())
    finally:
        sources.close()
    return report


@dataclass(frozen=True, slots=True, kw_only=True)
class _Meant:
    subjects: frozenset[str] | None
    writers: frozenset[tuple[str, str]]
    objects: frozenset[str]
    classes: frozenset[int] | None

    def has(self, stub: pruned.LogStub) -> bool:
        chosen = self.subjects is None or stub.subject in self.subjects
        return chosen and (self.classes is None or stub.data_class in self.classes)

    def has_log(self, name: str, written: Collection[str]) -> bool:
        """Whether what a log refers to is meant; `written` are the logs of `writers`."""
        if self.subjects is None or name in written:
            return True
        return parse_name(name).subject in self.subjects


class _Sources:
    """Remotes, opened when they are asked for the first time."""

    def __init__(
        self,
        entries: Iterable[RemoteEntry],
        opener: Callable[[RemoteEntry], Remote],
        report: RestoreReport,
    ) -> None:
        self._entries = {entry.id: entry for entry in entries}
        self._opener, self._report = opener, report
        self._open: dict[str, Remote | None] = {}

    def for_stub(self, remote_id: str) -> Iterator[Remote]:
        """The remotes to ask, the one that a stub names first."""
        others = (one for one in self._entries if one != remote_id)
        for one in itertools.chain((remote_id,), others):
            if one in self._entries:
                remote = self._get(one)
                if remote is not None:
                    yield remote

    def _get(self, remote_id: str) -> Remote | None:
        if remote_id not in self._open:
            entry = self._entries[remote_id]
            self._open[remote_id] = None
            try:
                self._open[remote_id] = self._opener(entry)
            except (LocalStoreError, OSError) as problem:
                self._report.unreachable[entry.name] = str(problem)
        return self._open[remote_id]

    def close(self) -> None:
        """Let all of them go."""
        for remote in self._open.values():
            if remote is not None:
                remote.close()


@dataclass(frozen=True, slots=True)
class _File:
    """One file to fetch: of a log the hash that its stub knows."""

    file: FileName
    size: int
    remote: str
    sha256: str = ""


class _Pull:
    """One project."""

    def __init__(
        self,
        paths: ProjectPaths,
        sources: _Sources,
        report: ProjectRestored,
        on_progress: Callable[[Progress], None] | None,
        *,
        dry_run: bool,
    ) -> None:
        self._paths, self._sources, self._report = paths, sources, report
        self._on_progress, self._dry_run = on_progress, dry_run
        self._todo = self._todo_bytes = 0

    def run(self, meant: _Meant, now: int) -> None:
        """Logs first, for they say which objects belong to them; then objects."""
        if not self._dry_run:
            pruned.drop_stale_stubs(self._paths)
        stubs = [stub for stub in pruned.absent_logs(self._paths) if meant.has(stub)]
        logs = [_File(parse_name(s.name), s.size, s.remote, s.sha256) for s in stubs]
        objects = self._objects(meant, now)
        self._todo = len(logs) + len(objects)
        self._todo_bytes = sum(one.size for one in (*logs, *objects))
        if self._dry_run:
            self._report.items, self._report.bytes = self._todo, self._todo_bytes
            return
        for one in self._fetch_all(logs):
            pruned.remove_stub(self._paths, one.file.subject, one.file.segment)
        rest = deque(objects)
        while rest:
            batch = [rest.popleft() for _ in range(min(_BATCH, len(rest)))]
            back = [one.file.hash for one in self._fetch_all(batch)]
            pruned.drop_object_stubs(self._paths, back)

    def _objects(self, meant: _Meant, now: int) -> list[_File]:
        """Pruned objects that are meant and not here."""
        stubs = pruned.object_stubs(self._paths)
        out = []
        for object_id in sorted(self._needed(meant, now) & stubs.keys()):
            file = parse_name(object_name(bytes.fromhex(object_id)))
            if self._paths.file(file.name).exists():
                self._report.here += 1
            else:
                stub = stubs[object_id]
                out.append(_File(file, stub.size, stub.remote))
        return out

    def _needed(self, meant: _Meant, now: int) -> set[str]:
        state = read_project(self._paths)
        erased, references = state.erased(now), References(self._paths)
        references.look(erased)
        needed: Mapping[str, list[str]] = references.needed(state, erased)
        places = ((log.file, log.header.writer.hex()) for log in references.logs())
        written = {file.name for file, by in places if (file.subject, by) in meant.writers}
        return {
            object_id
            for object_id, logs in needed.items()
            if object_id in meant.objects or any(meant.has_log(one, written) for one in logs)
        }

    # -------------------------------------------------------------- fetching
    def _fetch_all(self, files: list[_File]) -> list[_File]:
        """Fetch files beside each other; those that are here, durable, afterwards."""
        if not files:
            return []
        with ThreadPoolExecutor(self._width(), "localstore-pull") as threads:
            reasons = []
            for one, reason in zip(files, threads.map(self._fetch, files), strict=True):
                reasons.append(reason)
                self._count(one, reason)
        return [one for one, reason in zip(files, reasons, strict=True) if not reason]

    def _width(self) -> int:
        for remote in self._sources.for_stub(""):
            return max(1, min(_THREADS, remote.capabilities.max_parallel))
        return 1

    def _count(self, one: _File, reason: str) -> None:
        if reason:
            self._report.failed[one.file.name] = reason
            return
        self._report.items += 1
        self._report.bytes += one.size
        if self._on_progress is not None:
            done = self._report
            self._on_progress(
                Progress(self._paths.id, done.items, self._todo, done.bytes, self._todo_bytes)
            )

    def _fetch(self, one: _File) -> str:
        """Why it did not come; else empty."""
        reason = "no remote that answers has it"
        for remote in self._sources.for_stub(one.remote):
            try:
                self._fetch_from(remote, one)
            except NotFound:
                continue
            except (LocalStoreError, OSError) as problem:
                reason = str(problem)
            else:
                return ""
        return reason

    def _fetch_from(self, remote: Remote, one: _File) -> None:
        with Incoming(self._paths, remote).fetched(one.file, one.size) as landing:
            if one.sha256 and _other_bytes(landing, one):
                raise Damaged("the remote has other bytes than were pruned", file=one.file.name)
            _place(landing, self._paths.file(one.file.name))


def _other_bytes(landing: Path, one: _File) -> bool:
    return landing.stat().st_size != one.size or sha256_of(landing, one.size) != one.sha256


def _place(landing: Path, path: Path) -> None:
    """Give a whole file its name, unless it came back meanwhile."""
    make_folder(path.parent)
    try:
        os.link(landing, path)
    except FileExistsError:
        pass
    except OSError:
        # No hard links on this file system; what comes back has one content only.
        if not path.exists():
            landing.replace(path)
    sync_folder(path.parent)
