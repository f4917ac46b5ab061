"""Frees this disk of bytes that a remote provably has; what a run is stays listed here.

A byte goes only when a receipt proves that the remote has it, the remote has just said so again
from what lies there, its run is not alive, and its stub is durable. A kill at any point leaves the
bytes or the stub. Needs no key.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from localstore import pruned
from localstore.durable import sync_folder
from localstore.errors import Damaged, LocalStoreError, NotFound
from localstore.layout import HomePaths
from localstore.remotes import read_remotes
from localstore.store.gc import Collector, free, list_objects
from localstore.trust import read_project
from localstored.engine import now_us
from localstored.pruning.guards import COLLECTOR, PRUNER, Guard
from localstored.pruning.prunable import SHARED, Amount, Judge, Selection, acknowledged
from localstored.remotes import open_remote
from localstored.remotes.acknowledged import destination_entries, open_place
from localstored.remotes.base import Unreachable
from localstored.replica import replica_id
from localstored.verify import sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from localstore.layout import ProjectPaths
    from localstore.remotes import RemoteEntry
    from localstored.pruning.prunable import Candidate, Judged
    from localstored.remotes.base import Remote

BATCH: Final = 2048
_THREADS: Final = 8
_GRACE_US: Final = 3600 * 1_000_000

GONE: Final = "the remote does not hold it any more: was it set back to an old copy?"
OTHER: Final = "the remote holds other bytes"
UNSURE: Final = "the remote could not say whether it holds it"
COLLECTED: Final = "a collection is at work on the remote"
CHANGED: Final = "it changed meanwhile"


# ------------------------------------------------------------------ what is told
@dataclass(slots=True, kw_only=True)
class ProjectPruned:
    """What was pruned of one project, or would be, and what was not.

    Attributes:
        logs, objects: how many went. bytes: of both.
        subjects: runs and artifacts (hex) of which something went.
        held: what was meant and stays, by reason.
        problem: why nothing of it could be looked at; else empty.
    """

    project: str
    remote: str
    logs: int = 0
    objects: int = 0
    bytes: int = 0
    subjects: set[str] = field(default_factory=set)
    held: dict[str, Amount] = field(default_factory=dict)
    problem: str = ""

    def hold(self, reason: str, size: int) -> None:
        """Count what stays."""
        self.held.setdefault(reason, Amount()).add(size)

    def went(self, one: Candidate) -> None:
        """Count what went."""
        self.logs += one.object is None
        self.objects += one.object is not None
        self.bytes += one.size
        self.subjects |= one.subjects

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "project": self.project,
            "remote": self.remote,
            "logs": self.logs,
            "objects": self.objects,
            "bytes": self.bytes,
            "subjects": sorted(self.subjects),
            "held": {why: {"items": a.items, "bytes": a.bytes} for why, a in self.held.items()},
            "problem": self.problem or None,
        }


@dataclass(slots=True, kw_only=True)
class PruneReport:
    """What a prune did; `failed` says why a remote could not be asked."""

    dry_run: bool
    projects: list[ProjectPruned] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """What left this disk."""
        return sum(one.bytes for one in self.projects)

    @property
    def ok(self) -> bool:
        """Whether every remote and project could be looked at."""
        return not self.failed and not any(one.problem for one in self.projects)

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "ok": self.ok,
            "dry_run": self.dry_run,
            "bytes": self.bytes,
            "projects": [one.to_json() for one in self.projects],
            "failed": dict(self.failed),
        }


@dataclass(slots=True, kw_only=True)
class _Options:
    selection: Selection
    dry_run: bool
    clock: Callable[[], int]
    on_progress: Callable[[int], None] | None
    left_bytes: int | None  # how much is still to go; None: all
    counted: set[tuple[str, str]] = field(default_factory=set)  # of a dry run: project and name


# ------------------------------------------------------------------ the call
def prune(
    home: Path,
    *,
    remotes: Sequence[str] | None = None,
    projects: Iterable[str] | None = None,
    subjects: Iterable[str] | None = None,
    writers: Iterable[tuple[str, str]] = (),
    keep_subjects: Iterable[str] = (),
    keep_writers: Iterable[tuple[str, str]] = (),
    older_us: int = 0,
    classes: Iterable[int] | None = None,
    grace_us: int = _GRACE_US,
    limit_bytes: int | None = None,
    dry_run: bool = False,
    on_progress: Callable[[int], None] | None = None,
    clock: Callable[[], int] = now_us,
    opener: Callable[[RemoteEntry], Remote] = open_remote,
) -> PruneReport:
    """Remove bytes from this disk that a remote has, oldest first.

    Args:
        remotes: names; only what one of them has goes. None: all that were added. A destination
            whose receipts were carried here counts when it is named.
        projects: ids. subjects: runs and artifacts (hex); None: all.
        writers: besides `subjects`: (subject, writer id), what one process wrote of a subject.
        keep_subjects, keep_writers: what stays in any case.
        older_us: only what ended so long ago.
        classes: numbers of data classes; None: all.
        grace_us: objects that were stored or used so shortly ago stay.
        limit_bytes: stop once so much went.
        on_progress: told of bytes that went.

    Raises:
        NotFound: an unknown remote.
        BadSetting: `remotes.toml` breaks its form.
    """
    selection = Selection(
        subjects=None if subjects is None else frozenset(subjects),
        writers=frozenset(writers),
        keep_subjects=frozenset(keep_subjects),
        keep_writers=frozenset(keep_writers),
        before_us=clock() - older_us,
        classes=None if classes is None else frozenset(classes),
        grace_us=grace_us,
    )
    options = _Options(
        selection=selection,
        dry_run=dry_run,
        clock=clock,
        on_progress=on_progress,
        left_bytes=limit_bytes,
    )
    wanted = None if projects is None else frozenset(projects)
    report = PruneReport(dry_run=dry_run)
    known = read_remotes(home)
    if remotes is not None:
        known |= destination_entries(home)
    for entry in chosen(known, remotes):
        folders = [p for p in HomePaths(home).all_projects() if wanted is None or p.id in wanted]
        try:
            _prune_on(entry, folders, report, options, partial(open_place, home, opener=opener))
        except (LocalStoreError, OSError) as problem:
            report.failed[entry.name] = str(problem)
    return report


def chosen(known: dict[str, RemoteEntry], names: Sequence[str] | None) -> list[RemoteEntry]:
    """Some remotes by their names; all where none is named.

    Raises:
        NotFound: an unknown one.
    """
    for name in names or ():
        if name not in known:
            raise NotFound(f"no remote {name!r}; there are: {', '.join(known) or 'none'}")
    return list(known.values()) if names is None else [known[name] for name in names]


def _prune_on(
    entry: RemoteEntry,
    folders: list[ProjectPaths],
    report: PruneReport,
    options: _Options,
    opener: Callable[[RemoteEntry], Remote],
) -> None:
    remote: Remote | None = None
    try:
        for paths in folders:
            if not (paths.receipts / f"{entry.id}.jsonl").exists():
                continue
            if remote is None:
                remote = opener(entry)
            found = ProjectPruned(project=paths.id, remote=entry.name)
            report.projects.append(found)
            try:
                with pruned.lock(paths):
                    _prune_project(paths, remote, found, options)
            except Unreachable:
                raise
            except (LocalStoreError, OSError) as problem:
                found.problem = str(problem)
    finally:
        if remote is not None:
            remote.close()


def _prune_project(
    paths: ProjectPaths, remote: Remote, report: ProjectPruned, options: _Options
) -> None:
    """Judge, then have the remote asked once more, then remove.

    Raises:
        Damaged: what the logs refer to is not known, so nothing may go.
    """
    state = read_project(paths)
    collector = Collector(paths, state, grace_s=0.0, now_us=options.clock())
    collector.look()
    for name, problem in collector.report.held.items():
        raise Damaged(f"nothing of this project is pruned: {problem}", file=name)
    receipts = acknowledged(paths, remote.id)
    judge = Judge(paths, collector, receipts, options.selection, options.clock)
    judged = judge.judge(list_objects(paths).objects)
    report.held = judged.held
    if options.dry_run:  # what one remote lets go, the next one finds gone
        judged.candidates = [
            one for one in judged.candidates if (paths.id, one.name) not in options.counted
        ]
    todo = _within_limit(judged, options)
    if options.dry_run:
        for one in todo:
            options.counted.add((paths.id, one.name))
            report.went(one)
    elif todo:
        pruned.drop_stale_stubs(paths)
        collector.keeping = judge.keeping
        collector.look_again()
        _Removal(paths, remote, report, options, judge, collector).run(todo)


def _within_limit(judged: Judged, options: _Options) -> list[Candidate]:
    if options.left_bytes is None:
        return judged.candidates
    todo = []
    for one in judged.candidates:
        if options.left_bytes <= 0:
            break
        todo.append(one)
        options.left_bytes -= one.size
    return todo


class _Removal:
    """Removes from one project what one remote has."""

    def __init__(
        self,
        paths: ProjectPaths,
        remote: Remote,
        report: ProjectPruned,
        options: _Options,
        judge: Judge,
        collector: Collector,
    ) -> None:
        self._paths, self._remote = paths, remote
        self._report, self._options = report, options
        self._judge, self._collector = judge, collector
        self._confirmed: dict[str, str] = {}  # name of a log → why it is not sure; empty: it is
        self._threads: ThreadPoolExecutor

    def run(self, todo: list[Candidate]) -> None:
        """Confirm and remove, by batches: objects first, for logs say whose they are.

        Raises:
            Unreachable: the remote is gone; what went until then has its stubs.
        """
        writer = replica_id(self._paths.root.parent.parent)
        width = max(1, min(_THREADS, self._remote.capabilities.max_parallel))
        with Guard(self._paths, self._remote, writer, PRUNER, self._options.clock) as guard:
            # Our stamp is there by now: who collects from here on sees it.
            if guard.others(COLLECTOR):
                for one in todo:
                    self._report.hold(COLLECTED, one.size)
                return
            with ThreadPoolExecutor(width, "localstore-confirm") as self._threads:
                for batch in _batches([one for one in todo if one.object is not None]):
                    self._objects(self._sure(batch, guard))
                for batch in _batches([one for one in todo if one.object is None]):
                    self._logs(self._sure(batch, guard))

    # -------------------------------------------------------------- asking once more
    def _sure(self, batch: list[Candidate], guard: Guard) -> list[Candidate]:
        """Those that the remote says it has, with the logs without which they are noise."""
        logs = sorted({log for one in batch for log in one.needs} - self._confirmed.keys())
        self._confirmed.update(zip(logs, self._threads.map(self._why_not_log, logs), strict=True))
        why_not = [
            next(filter(None, (self._confirmed[log] for log in sorted(one.needs))), "")
            for one in batch
        ]
        sure = [one for one, reason in zip(batch, why_not, strict=True) if not reason]
        answers = dict(zip(sure, self._threads.map(self._why_not, sure), strict=True))
        out = []
        for one, reason in zip(batch, why_not, strict=True):
            said = reason or answers[one] or (COLLECTED if guard.expired else "")
            if said:
                self._report.hold(said, one.size)
            else:
                out.append(one)
        return out

    def _why_not_log(self, name: str) -> str:
        return self._ask(name, self._judge.logs[name].end)

    def _why_not(self, one: Candidate) -> str:
        return self._ask(one.name, one.size) if one.object is not None else ""

    def _ask(self, name: str, size: int) -> str:
        there = f"projects/{self._paths.id}/{name}"
        try:
            holds = self._remote.confirm(there, size, self._paths.file(name))
        except Unreachable:
            raise
        except NotFound:
            return GONE
        except FileNotFoundError:
            return CHANGED
        except LocalStoreError:
            return UNSURE
        return "" if holds else OTHER

    # -------------------------------------------------------------- removing
    def _objects(self, sure: list[Candidate]) -> None:
        """Stubs first, durable; then taken away, looked once more, and decided on."""
        found = {one.object.id: (one, one.object) for one in sure if one.object is not None}
        has = self._remote.id
        stubs = {id_: pruned.ObjectStub(one.size, has) for id_, (one, _) in found.items()}
        if not stubs:
            return
        pruned.add_object_stubs(self._paths, stubs, self._options.clock())
        free(self._collector, [file for _, file in found.values()])
        here = [id_ for id_, (_, file) in found.items() if file.path.exists()]
        for id_, (one, _) in found.items():
            if id_ in here:
                self._report.hold(SHARED, one.size)
            else:
                self._went(one)
        pruned.drop_object_stubs(self._paths, here)

    def _logs(self, sure: list[Candidate]) -> None:
        for one in sure:
            reason = self._remove_log(one)
            if reason:
                self._report.hold(reason, one.size)
            else:
                self._went(one)

    def _remove_log(self, one: Candidate) -> str:
        """The stub first, durable; then the bytes. Why not, else empty."""
        log, path = self._judge.logs[one.name], self._paths.file(one.name)
        refs = self._collector.references.refs_of(one.name)
        if any(self._is_here(object_id) for ids in refs.values() for object_id in ids):
            return SHARED  # nobody would find again whose they are
        stub = pruned.LogStub(
            subject=log.subject,
            segment=log.facts.file.segment,
            size=log.size,
            sha256=sha256_of(path, log.size),
            remote=self._remote.id,
            data_class=log.data_class,
            at_us=self._options.clock(),
            refs=refs,
        )
        pruned.write_stub(self._paths, stub)
        if path.stat().st_size != log.size:
            pruned.remove_stub(self._paths, stub.subject, stub.segment)
            return CHANGED
        path.unlink()
        sync_folder(path.parent)
        return ""

    def _is_here(self, object_id: str) -> bool:
        return (self._paths.objects / object_id[:2] / object_id).exists()

    def _went(self, one: Candidate) -> None:
        self._report.went(one)
        if self._options.on_progress is not None:
            self._options.on_progress(one.size)


def _batches(todo: list[Candidate]) -> Iterator[list[Candidate]]:
    rest = iter(todo)
    while batch := list(itertools.islice(rest, BATCH)):
        yield batch
