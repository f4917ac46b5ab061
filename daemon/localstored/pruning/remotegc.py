"""Collects on a remote the objects that nothing refers to any more (docs/decisions/0011).

An object is condemned first and deleted after a time of grace, while nobody else is at work there
and every log that lives on the remote is known here. Needs no key.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from localstore import pruned
from localstore.crypto import random_bytes
from localstore.durable import create_file
from localstore.errors import Damaged, LocalStoreError, NotPermitted, RemoteError
from localstore.layout import FileKind, FileName, HomePaths, parse_name
from localstore.remotes import read_remotes
from localstore.store.references import References
from localstore.trust import read_project
from localstored import engine
from localstored.engine import now_us
from localstored.pruning.guards import COLLECTOR, Guard, first_seen
from localstored.pruning.prunable import acknowledged
from localstored.pruning.prune import chosen
from localstored.receipts import EMPTY_SHA256, Line, ReceiptFile
from localstored.remotes import open_remote
from localstored.remotes.base import Unreachable
from localstored.replica import replica_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from localstore.layout import ProjectPaths
    from localstore.remotes import RemoteEntry
    from localstored.remotes.base import Remote

GRACE_US: Final = 24 * 3600 * 1_000_000
_MAX_NAMES: Final = 4_000_000
_BATCH: Final = 256
_DEAD_STAMP_US: Final = 7 * 24 * 3600 * 1_000_000

AT_WORK: Final = "another sync, or a prune, is at work there, or was cut off within a day"
UNKNOWN_LOGS: Final = "logs there are not known here to the end"
UNKNOWN_LINKS: Final = "links or certificates there are not known here"


@dataclass(slots=True, kw_only=True)
class ProjectCollected:
    """What a collection found and did for one project on one remote.

    Attributes:
        objects: how many the remote has. unneeded, unneeded_bytes: that nothing refers to.
        waiting: of these, condemned too shortly ago.
        deleted, deleted_bytes: removed now, or in a dry run what would be.
        stamps: dead stamps that were taken away.
        held: why nothing may be deleted; empty when it may. hint: what to do about it.
    """

    project: str
    objects: int = 0
    unneeded: int = 0
    unneeded_bytes: int = 0
    waiting: int = 0
    deleted: int = 0
    deleted_bytes: int = 0
    stamps: int = 0
    held: str = ""
    hint: str = ""

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "project": self.project,
            "objects": self.objects,
            "unneeded": self.unneeded,
            "unneeded_bytes": self.unneeded_bytes,
            "waiting": self.waiting,
            "deleted": self.deleted,
            "deleted_bytes": self.deleted_bytes,
            "stamps": self.stamps,
            "held": self.held or None,
        }


@dataclass(slots=True, kw_only=True)
class CollectReport:
    """What a collection did on one remote."""

    remote: str
    dry_run: bool
    projects: list[ProjectCollected] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every project could be looked at."""
        return not any(one.held for one in self.projects)

    @property
    def deleted_bytes(self) -> int:
        """What the remote has less."""
        return sum(one.deleted_bytes for one in self.projects)

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "ok": self.ok,
            "remote": self.remote,
            "dry_run": self.dry_run,
            "deleted_bytes": self.deleted_bytes,
            "projects": [one.to_json() for one in self.projects],
        }


def collect(
    home: Path,
    *,
    remote: str,
    projects: Iterable[str] | None = None,
    grace_us: int = GRACE_US,
    dry_run: bool = False,
    clock: Callable[[], int] = now_us,
    opener: Callable[[RemoteEntry], Remote] = open_remote,
) -> CollectReport:
    """Delete on a remote what nothing refers to, as far as this home knows all that lives there.

    Args:
        remote: name from `remotes.toml`.
        projects: ids; None: all that are here.
        grace_us: what is found for the first time is deleted by a call this much later.
        dry_run: say what would go; nothing is written, here or there.

    Raises:
        NotFound: an unknown remote.
        NotPermitted: this remote lets its user delete nothing.
        Unreachable: it does not answer.
    """
    (entry,) = chosen(read_remotes(home), [remote])
    wanted = None if projects is None else frozenset(projects)
    report = CollectReport(remote=remote, dry_run=dry_run)
    there = opener(entry)
    try:
        if not (there.capabilities.can_delete and there.capabilities.can_list):
            raise NotPermitted(f"remote {remote!r} lets its user list or delete nothing")
        for paths in HomePaths(home).all_projects():
            if wanted is None or paths.id in wanted:
                found = ProjectCollected(project=paths.id)
                report.projects.append(found)
                one = _Collection(paths, there, found, clock, grace_us)
                try:
                    one.look() if dry_run else one.run()
                except Unreachable:
                    raise
                except (LocalStoreError, OSError) as problem:
                    found.held, found.hint = str(problem), getattr(problem, "hint", "")
    finally:
        there.close()
    return report


class _Held(LocalStoreError):
    """Why nothing may be deleted now."""


class _Collection:
    """One project on one remote."""

    def __init__(
        self,
        paths: ProjectPaths,
        remote: Remote,
        report: ProjectCollected,
        clock: Callable[[], int],
        grace_us: int,
    ) -> None:
        self._paths, self._remote, self._report = paths, remote, report
        self._clock, self._grace_us = clock, grace_us
        self._references = References(paths)

    def look(self) -> None:
        """What `run` would delete; writes nothing."""
        ripe = self._ripe(write=False)
        self._report.deleted, self._report.deleted_bytes = len(ripe), sum(ripe.values())

    def run(self) -> None:
        """Condemn, and delete what was condemned long enough ago.

        Raises:
            LocalStoreError: why nothing may be deleted.
        """
        writer = replica_id(self._paths.root.parent.parent)
        with pruned.lock(self._paths):
            guard = Guard(self._paths, self._remote, writer, COLLECTOR, self._clock)
            with guard:
                # Our stamp is there by now: who begins from here on sees it.
                self._check_alone(guard)
                ripe = self._ripe(write=True)
                try:
                    for batch in _batches(ripe):
                        self._check_alone(guard)
                        self._delete(self._still_unneeded(batch))
                finally:
                    # Also of an earlier call that was cut before it could tell.
                    if self._untold().exists():
                        self._tell_everybody(writer)
                self._sweep_stamps(guard)

    def _check_alone(self, guard: Guard) -> None:
        """A sync puts its stamp there before it relies on what it lists, a prune on what it asks.

        Raises:
            _Held: somebody may be relying on what is about to go.
        """
        if guard.expired:
            raise _Held("it takes too long", hint="run it again, it goes on")
        others = guard.others()
        if others:
            hint = "try again later; a sync that was cut off ends by `localstore sync now`"
            raise _Held(f"{AT_WORK} ({others[0]})", hint=hint)

    # -------------------------------------------------------------- what nothing refers to
    def _ripe(self, *, write: bool) -> dict[str, int]:
        """Sizes by id (hex) of unneeded objects whose time of grace is over."""
        theirs = self._listing()
        self._check_complete(theirs)
        needed = self._needed()
        objects = {name: size for name, size in theirs.items() if name.startswith("objects/")}
        sizes = {name.rpartition("/")[2]: size for name, size in objects.items()}
        unneeded = {one: size for one, size in sizes.items() if one not in needed}
        self._report.objects, self._report.unneeded = len(sizes), len(unneeded)
        self._report.unneeded_bytes = sum(unneeded.values())
        now = self._clock()
        seen = first_seen(self._condemned_file(), unneeded, now, write=write)
        ripe = {one: unneeded[one] for one in unneeded if now - seen[one] >= self._grace_us}
        self._report.waiting = len(unneeded) - len(ripe)
        return ripe

    def _condemned_file(self) -> Path:
        return self._paths.local / f"condemned-{self._remote.id}.json"

    def _listing(self) -> dict[str, int]:
        prefix = f"projects/{self._paths.id}/"
        out: dict[str, int] = {}
        for entry in self._remote.list(prefix):
            name = entry.name.removeprefix(prefix)
            try:
                parse_name(name)
            except Damaged:
                continue
            out[name] = entry.size
            if len(out) > _MAX_NAMES:
                raise RemoteError(f"it lists more than {_MAX_NAMES:,} files of one project")
        return out

    def _check_complete(self, theirs: Mapping[str, int]) -> None:
        """Everything that may refer to an object there is known here, byte for byte.

        Raises:
            _Held: something is not.
        """
        known = {path.name for folder in ("links", "certs") for path in self._folder(folder)}
        signed = [name for name in theirs if name.startswith(("links/", "certs/"))]
        if any(name.rpartition("/")[2] not in known for name in signed):
            raise _Held(UNKNOWN_LINKS, hint="`localstore sync now` first")
        self._needed()  # whose logs matter is known now
        files = map(parse_name, theirs)
        logs = [file for file in files if file.kind in (FileKind.LOG, FileKind.FORK)]
        ends = {log.file.name: log.end for log in self._references.logs()}
        receipts = acknowledged(self._paths, self._remote.id)
        unknown = [
            file.name
            for file in logs
            if file.subject not in self._erased
            and not self._is_known(file, theirs[file.name], ends, receipts)
        ]
        if unknown:
            hint = "`localstore sync now` first"
            raise _Held(f"{len(unknown)} {UNKNOWN_LOGS} ({unknown[0]})", hint=hint)

    def _folder(self, name: str) -> Iterator[Path]:
        folder = self._paths.root / name
        return folder.iterdir() if folder.is_dir() else iter(())

    def _is_known(
        self, file: FileName, size: int, ends: Mapping[str, int], receipts: Mapping[str, Line]
    ) -> bool:
        """Whether the bytes there are those here: as many, and acknowledged to be ours."""
        if file.kind is FileKind.FORK:
            return ends.get(file.name, -1) >= size  # named by the hash of its bytes
        line = receipts.get(file.name)
        if line is None or line.size < size:
            return False
        if file.name in ends:
            return ends[file.name] >= size
        stub = pruned.read_stub(self._paths, file.subject, file.segment)
        return stub is not None and stub.size >= size

    def _needed(self) -> Mapping[str, list[str]]:
        """Objects that logs here need, pruned ones included.

        Raises:
            Damaged: a log cannot be read; it may refer to anything.
        """
        state = read_project(self._paths)
        self._erased = state.erased(self._clock())
        self._references.look(self._erased)
        for name, problem in self._references.problems.items():
            hint = "`localstore repair` takes good bytes from a remote"
            raise Damaged(problem.problem, file=name, offset=problem.offset, hint=hint)
        return self._references.needed(state, self._erased)

    # -------------------------------------------------------------- deleting
    def _still_unneeded(self, batch: list[tuple[str, int]]) -> list[tuple[str, int]]:
        needed = self._needed()
        return [(one, size) for one, size in batch if one not in needed]

    def _delete(self, batch: list[tuple[str, int]]) -> None:
        if batch:
            create_file(self._untold(), b"")
        lines: list[Line] = []
        try:
            for one, size in batch:
                name = f"objects/{one[:2]}/{one}"
                self._remote.delete(f"projects/{self._paths.id}/{name}")
                lines.append(Line(name, 0, EMPTY_SHA256, self._clock()))
                self._report.deleted += 1
                self._report.deleted_bytes += size
        finally:
            if lines:
                ReceiptFile.of(self._paths, self._remote.id).append(lines)

    def _tell_everybody(self, writer: str) -> None:
        """A new stamp: what anybody remembers of this remote's listing counts no more."""
        stamp = f"projects/{self._paths.id}/stamps/{writer}-{random_bytes(8).hex()}"
        self._remote.create(stamp, b"")
        engine.forget_listing(self._paths, self._remote.id)
        self._untold().unlink(missing_ok=True)

    def _untold(self) -> Path:
        return self._paths.local / f"untold-{self._remote.id}"

    def _sweep_stamps(self, guard: Guard) -> None:
        for stamp in guard.stale(_DEAD_STAMP_US):
            self._remote.delete(stamp)
            self._report.stamps += 1


def _batches(found: Mapping[str, int]) -> Iterator[list[tuple[str, int]]]:
    rest = iter(sorted(found.items()))
    while batch := list(itertools.islice(rest, _BATCH)):
        yield batch
