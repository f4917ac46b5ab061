"""Frees objects that nothing needs, beside running writers and other collectors, without a lock.

A writer makes sure of an object in four steps: pin or create it, name it in a REF frame, look
whether it is still there (else store it again), write the record that uses it. A collector takes an
object away by renaming it, and only then reads the references that decide: whoever named it before
is seen, whoever names it later finds nothing under its name and stores it again. The time of grace
only saves that work. The name that an object is taken to is the collector's own, so that no other
one deletes by what it read too early.

Needs no key: the sync engine frees by the same steps.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from localstore import pruned
from localstore.durable import TEMPORARY_PREFIX, sync_folder
from localstore.errors import AlreadyExists
from localstore.layout import FILE_MODE
from localstore.store.references import References

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

    from localstore.format.references import RefFrame
    from localstore.layout import ProjectPaths
    from localstore.trust import ProjectState

GRACE_S: Final = 3600.0
TAKEN_PREFIX: Final = ".gc-"
_NAME: Final = re.compile(r"(?P<taken>\.gc-)?(?P<id>[0-9a-f]{64})(?(taken)-[0-9a-f]{16})")
_BATCH: Final = 2048  # objects that are away at once, while the references are read once more
# A writer may be filling its temporary file just now, whatever the grace for objects is.
_TEMPORARY_S: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectFile:
    """One object as it lies here: id in hex, size in bytes, time of its last change or pin."""

    id: str
    path: Path
    size: int
    mtime_ns: int


@dataclass(slots=True, kw_only=True)
class Listing:
    """What lies in the folder of objects.

    Attributes:
        objects: by their names. taken: objects that a collector took away and has not decided on.
        temporaries: files in the making, or left by a crash: path, size, time of last change (ns).
    """

    objects: list[ObjectFile] = field(default_factory=list)
    taken: list[ObjectFile] = field(default_factory=list)
    temporaries: list[tuple[Path, int, int]] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Report:
    """What a collection found and did in one project.

    Attributes:
        project: its id.
        unneeded: objects that nothing needs and that are older than the grace.
        young, young_bytes: objects that nothing needs and that are younger.
        freed, freed_bytes: what was removed. spared: what somebody named or pinned meanwhile.
        returned: what a killed collector had taken away and is needed.
        leftovers, leftover_bytes: what crashes left, removed (or found, in a dry run).
        held: why nothing may be freed: names, and what is wrong with them.
    """

    project: str
    dry_run: bool
    unneeded: list[ObjectFile] = field(default_factory=list)
    young: int = 0
    young_bytes: int = 0
    freed: int = 0
    freed_bytes: int = 0
    spared: int = 0
    returned: int = 0
    leftovers: int = 0
    leftover_bytes: int = 0
    held: dict[str, str] = field(default_factory=dict)


def list_objects(paths: ProjectPaths) -> Listing:
    """Everything in the folder of objects, in one pass."""
    found = Listing()
    top = paths.root / "objects"
    for folder in sorted(_entries(top), key=lambda entry: entry.name):
        if not folder.is_dir(follow_symlinks=False):
            _sort_in(found, top / folder.name, folder, "")
            continue
        for entry in _entries(top / folder.name):
            _sort_in(found, top / folder.name / entry.name, entry, folder.name)
    return found


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except (FileNotFoundError, NotADirectoryError):
        return


def _sort_in(found: Listing, path: Path, entry: os.DirEntry[str], folder: str) -> None:
    try:
        if not entry.is_file(follow_symlinks=False):
            return
        status = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return
    if entry.name.startswith(TEMPORARY_PREFIX):
        found.temporaries.append((path, status.st_size, status.st_mtime_ns))
        return
    name = _NAME.fullmatch(entry.name)
    if name is None or name["id"][:2] != folder:
        return  # `verify` names it
    one = ObjectFile(id=name["id"], path=path, size=status.st_size, mtime_ns=status.st_mtime_ns)
    (found.taken if name["taken"] else found.objects).append(one)


def collect(
    paths: ProjectPaths,
    state: ProjectState,
    *,
    grace_s: float = GRACE_S,
    dry_run: bool = False,
    only: Collection[str] | None = None,
    now_us: int | None = None,
    given_up: Collection[RefFrame] = (),
) -> Report:
    """Free the objects of one project that nothing needs.

    Safe beside running writers and other collectors, with any grace.

    Args:
        grace_s: what was stored or pinned within so many seconds stays, by the clock of the disk.
        dry_run: list, change nothing.
        only: ids (hex) of the objects that may go; None: all.
        now_us: decides which tombstones are in force; None: by this machine's clock.
        given_up: in a dry run: REF frames to read as if they were cancelled already.

    Raises:
        OSError: the disk refused; what was taken away is back under its name.
    """
    collector = Collector(paths, state, grace_s=grace_s, now_us=now_us)
    collector.look(given_up if dry_run else ())
    report = collector.report
    report.dry_run = dry_run
    listing = list_objects(paths)
    report.unneeded = collector.unneeded(listing.objects, only)
    if dry_run:
        collector.count_leftovers(listing)
        return report
    if only is None:
        collector.sweep(listing)
    for at in range(0, len(report.unneeded), _BATCH):
        if report.held:
            break
        free(collector, report.unneeded[at : at + _BATCH])
    if not report.held:
        _tidy(paths, collector, only)
    return report


def _tidy(paths: ProjectPaths, collector: Collector, only: Collection[str] | None) -> None:
    """Forget pruned objects that nothing needs any more."""
    stubs = pruned.object_stubs(paths)
    gone = {one for one in stubs if one not in collector.naming and (only is None or one in only)}
    if gone:
        with contextlib.suppress(AlreadyExists), pruned.lock(paths):
            pruned.drop_object_stubs(paths, gone)


def free(collector: Collector, batch: list[ObjectFile]) -> None:
    """Take some objects away, look once more, and decide on each."""
    away: list[ObjectFile] = []
    collector.look()  # the batches before took their time
    try:
        for one in batch:
            taken = collector.take(one)
            if taken is not None:
                away.append(taken)
        if away:
            collector.look()
        while away:
            collector.decide(away[-1])
            away.pop()
    finally:
        for taken in away:
            collector.put_back(taken)


class Collector:
    """The single steps of a collection, in the order in which `collect` makes them.

    Attributes:
        naming: after a `look`: objects (hex) that logs need, and the names of these logs.
        references: what the logs say.
        keeping: of objects and the logs that name them, those that must stay: all of them.
    """

    def __init__(
        self,
        paths: ProjectPaths,
        state: ProjectState,
        *,
        grace_s: float,
        now_us: int | None = None,
    ) -> None:
        self._paths, self._state, self._grace_s = paths, state, grace_s
        self._erased = state.erased(time.time_ns() // 1000 if now_us is None else now_us)
        self.references = References(paths)
        self.keeping: Callable[[Mapping[str, list[str]]], Collection[str]] = _all_of
        self._needed: Collection[str] = frozenset()
        self.naming: Mapping[str, list[str]] = {}
        self._now_ns = _disk_time_ns(paths.root / "objects")
        self.report = Report(project=paths.id, dry_run=False)

    def look(self, given_up: Collection[RefFrame] = ()) -> None:
        """Read which objects are needed, as the logs say now; may forbid to free anything."""
        if self.references.look(self._erased):
            self.naming = self.references.needed(self._state, self._erased, also=given_up)
            self._needed = self.keeping(self.naming)
        for name, problem in self.references.problems.items():
            self.report.held[name] = problem.problem

    def look_again(self) -> None:
        """Decide anew on what is needed, also where no log changed."""
        self.references.look(self._erased)
        self.naming = self.references.needed(self._state, self._erased)
        self._needed = self.keeping(self.naming)

    def unneeded(
        self, objects: list[ObjectFile], only: Collection[str] | None = None
    ) -> list[ObjectFile]:
        """Those that nothing needs and that are older than the grace, by id."""
        out = []
        for one in objects:
            if one.id in self._needed or (only is not None and one.id not in only):
                continue
            if self._is_young(one.mtime_ns):
                self.report.young += 1
                self.report.young_bytes += one.size
            else:
                out.append(one)
        return sorted(out, key=lambda one: one.id)

    def _is_young(self, mtime_ns: int, grace_s: float | None = None) -> bool:
        grace_ns = int((self._grace_s if grace_s is None else grace_s) * 1e9)
        return grace_ns > 0 and mtime_ns > self._now_ns - grace_ns

    def take(self, one: ObjectFile) -> ObjectFile | None:
        """Rename an object to a name of this collector alone.

        Returns:
            Where it is now; None when it is gone, or is needed or pinned by now.
        """
        if one.id in self._needed or self.report.held or self._was_pinned(one):
            self.report.spared += 1
            return None
        own = one.path.parent / f"{TAKEN_PREFIX}{one.id}-{secrets.token_hex(8)}"
        try:
            one.path.rename(own)
        except FileNotFoundError:
            return None
        return ObjectFile(id=one.id, path=own, size=one.size, mtime_ns=one.mtime_ns)

    def decide(self, taken: ObjectFile) -> None:
        """After another `look`: remove what was taken, or put it back."""
        if taken.id in self._needed or self.report.held or self._was_pinned(taken):
            self.put_back(taken)
            self.report.spared += 1
            return
        with contextlib.suppress(FileNotFoundError):
            taken.path.unlink()
            self.report.freed += 1
            self.report.freed_bytes += taken.size

    def _was_pinned(self, one: ObjectFile) -> bool:
        try:
            return one.path.stat(follow_symlinks=False).st_mtime_ns != one.mtime_ns
        except FileNotFoundError:
            return False  # another collector has it, or took it for left behind and has decided

    def put_back(self, taken: ObjectFile) -> None:
        """Give an object its name again, unless a writer has stored it anew."""
        path = taken.path.with_name(taken.id)
        with contextlib.suppress(FileNotFoundError):
            if path.exists():
                sync_folder(path.parent)  # the new one first: its name may not be durable yet
                taken.path.unlink()
            else:
                taken.path.rename(path)
                sync_folder(path.parent)

    # -------------------------------------------------------------- what crashes left
    def sweep(self, listing: Listing) -> None:
        """Remove old temporary files; decide again on what a killed collector had taken."""
        for path, size, _ in self._stale(listing):
            path.unlink(missing_ok=True)
            self.report.leftovers += 1
            self.report.leftover_bytes += size
        if listing.taken:
            self.look()
        for one in listing.taken:
            self.decide_again(one)

    def decide_again(self, taken: ObjectFile) -> None:
        """The same for what another has taken, who may be at it still: one of both succeeds."""
        if taken.id in self._needed or self.report.held or self._is_young(taken.mtime_ns):
            self.put_back(taken)
            self.report.returned += 1
            return
        self.decide(taken)

    def count_leftovers(self, listing: Listing) -> None:
        """What `sweep` would look at."""
        sizes = [size for _, size, _ in self._stale(listing)] + [one.size for one in listing.taken]
        self.report.leftovers, self.report.leftover_bytes = len(sizes), sum(sizes)

    def _stale(self, listing: Listing) -> list[tuple[Path, int, int]]:
        grace_s = max(self._grace_s, _TEMPORARY_S)
        return [one for one in listing.temporaries if not self._is_young(one[2], grace_s)]


def _all_of(naming: Mapping[str, list[str]]) -> Collection[str]:
    return naming


def _disk_time_ns(folder: Path) -> int:
    """Now, by the clock that also stamps the files: of a file server where there is one."""
    probe = folder / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
    try:
        handle = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, FILE_MODE)
    except OSError:
        return time.time_ns()  # a disk that only reads; nothing can be freed there either
    try:
        return os.fstat(handle).st_mtime_ns
    finally:
        os.close(handle)
        probe.unlink(missing_ok=True)
