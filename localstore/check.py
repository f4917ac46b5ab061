"""`localstore verify`: what is wrong with a home's bytes, by file and offset. Changes nothing.

Three levels (docs/format.md, section 14): every file is what its name says; hashes, signatures,
chains and heads fit; with keys and `read_data`, every frame opens and decodes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from localstore import pruned, trust
from localstore.errors import Damaged, Forged, LocalStoreError, NotPermitted, Torn
from localstore.format import signed, spec
from localstore.format.objects import check_object
from localstore.format.segment import scan_frames
from localstore.format.spec import DataClass
from localstore.format.version import check_format
from localstore.identity import now_us
from localstore.layout import FileKind, FileName, log_name, parse_name
from localstore.project import Project
from localstore.reading import (
    FrameWalk,
    SegmentContent,
    closed_logs,
    read_segment,
    tagged_logs,
)
from localstore.store.gc import TAKEN_PREFIX
from localstore.store.verify import Contents, NamedObjects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from localstore.format.segment import Predecessor, SegmentHeader
    from localstore.identity import Identity
    from localstore.layout import HomePaths, ProjectPaths

_SIGNED: Final = {
    FileKind.LINK: spec.LINK_MAGIC,
    FileKind.CERT: spec.CERT_MAGIC,
    FileKind.KEYSLOT: spec.KEYSLOT_MAGIC,
}
# Of other classes a rule may keep some on the machine where they were made.
_TRAVELS: Final = frozenset({DataClass.META, DataClass.METRICS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: damaged, missing, stray (a file that is none of the format's), or unbelieved (whole,
            but nobody known vouches for it, perhaps because another file is damaged).
        file: relative to the project. offset: in bytes.
        problem: what is wrong.
    """

    kind: str
    project: str
    file: str
    offset: int
    problem: str

    def __str__(self) -> str:
        return f"{self.kind}: projects/{self.project}/{self.file} at {self.offset}: {self.problem}"


@dataclass(slots=True, kw_only=True)
class Inspection:
    """What was looked at and what was found."""

    files: int = 0
    bytes: int = 0
    projects: int = 0
    opened: int = 0  # segments whose every frame was decrypted
    objects: int = 0  # objects that were decrypted
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # cuts by a kill: nothing is wrong with them

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    def to_heal(self) -> list[tuple[str, str]]:
        """Project id and name of each file that other bytes should stand in."""
        return [
            (one.project, one.file)
            for one in self.findings
            if one.kind in ("damaged", "missing") and is_file_name(one.file)
        ]


def inspect_home(
    home: HomePaths,
    identity: Identity | None,
    *,
    read_data: bool = False,
    on_file: Callable[[str], None] | None = None,
) -> Inspection:
    """Look at every file of every project.

    Args:
        identity: needed for `read_data`; without it, or without the project's keys, frames stay
            closed and a note says so.
        on_file: called with each name, for a progress display.
    """
    out = Inspection()
    for paths in home.all_projects():
        out.projects += 1
        _ProjectCheck(paths, out, on_file).run(identity if read_data else None)
        if read_data and identity is None:
            out.notes.append(f"project {paths.id[:16]}: no key here, frames were not opened")
    return out


class _ProjectCheck:
    """One project on its way through the levels."""

    def __init__(
        self, paths: ProjectPaths, out: Inspection, on_file: Callable[[str], None] | None
    ) -> None:
        self.paths, self.out, self._on_file = paths, out, on_file
        self._chains: dict[str, dict[int, bytes]] = {}
        self._wanted: list[tuple[str, Predecessor]] = []
        self._headers: dict[str, SegmentHeader] = {}
        self._damaged: set[str] = set()
        self._named, self._needed = NamedObjects(paths), dict[str, list[str]]()
        self._pruned_logs = 0

    def run(self, identity: Identity | None) -> None:
        for name in self.paths.names():
            if self._on_file is not None:
                self._on_file(name)
            self._check_name(name)
        self._check_wanted()
        self._check_meta()
        self._check_receipts()
        self._check_writers()
        self._check_objects()
        if identity is not None:
            self._open_all(identity)

    def _say(self, problem: LocalStoreError, name: str, kind: str = "damaged") -> None:
        offset = problem.offset if isinstance(problem, Damaged) else 0
        text = problem.problem if isinstance(problem, Damaged) else str(problem)
        finding = Finding(kind=kind, project=self.paths.id, file=name, offset=offset, problem=text)
        if finding not in self.out.findings:
            self.out.findings.append(finding)
        self._damaged.add(name)

    # -------------------------------------------------------------- without keys
    def _check_name(self, name: str) -> None:
        if "/.tmp-" in name:
            self.out.notes.append(f"{name}: left by a crash, harmless")
            return
        if f"/{TAKEN_PREFIX}" in name:
            self.out.notes.append(f"{name}: `localstore gc` has it in hand, or was killed with it")
            return
        try:
            file = parse_name(name)
        except Damaged as problem:
            self._say(problem, name, "stray")
            return
        try:
            raw = self.paths.file(name).read_bytes()
        except FileNotFoundError:
            return  # erased or finished while we looked
        except OSError as error:
            self._say(Damaged(f"cannot be read: {error.strerror}"), name)
            return
        self.out.files += 1
        self.out.bytes += len(raw)
        try:
            self._check_bytes(file, raw)
        except Damaged as problem:
            self._say(problem, name)

    def _check_bytes(self, file: FileName, raw: bytes) -> None:
        match file.kind:
            case FileKind.FORMAT:
                check_format(raw, self.paths.id)
            case FileKind.LINK | FileKind.CERT | FileKind.KEYSLOT:
                self._check_signed(file, raw)
            case FileKind.LOG | FileKind.FORK:
                self._check_log(file, raw)
            case FileKind.TAIL_COPY | FileKind.LIVE_TAIL:
                self._check_tail(file, raw)
            case FileKind.OBJECT:
                check_object(raw, bytes.fromhex(file.hash))

    def _check_signed(self, file: FileName, raw: bytes) -> None:
        found = signed.decode(raw, _SIGNED[file.kind])
        if not found.hash.hex().startswith(file.hash):
            raise Forged("its bytes do not hash to its name")
        if found.project not in (signed.NO_PROJECT, bytes.fromhex(self.paths.id)):
            raise Forged("it belongs to another project")

    def _check_log(self, file: FileName, raw: bytes) -> None:
        walk = FrameWalk(file.name, raw)
        header = walk.header
        found = (header.project.hex(), header.subject.hex(), header.segment.hex())
        if found != (self.paths.id, file.subject, file.segment):
            raise Forged("a segment that belongs to another project, run or name")
        self._headers[file.name] = header
        if file.kind is FileKind.LOG:
            self._chains[file.segment] = walk.chains
            self._wanted += ((file.subject, one) for one in header.predecessors)
        for problem in (*walk.problems, *self._named.add(file, walk)):
            self._frame_problem(problem, file, len(raw))

    def _check_tail(self, file: FileName, raw: bytes) -> None:
        copy = file.kind is FileKind.TAIL_COPY
        if copy and not signed.file_hash(raw).hex().startswith(file.hash):
            raise Forged("its bytes do not hash to its name")
        for item in scan_frames(memoryview(raw), 0):
            if isinstance(item, Damaged) and (copy or not isinstance(item, Torn)):
                self._frame_problem(item, file, len(raw))

    def _frame_problem(self, problem: Damaged, file: FileName, length: int) -> None:
        if isinstance(problem, Torn):
            cut = length - problem.offset
            self.out.notes.append(f"{file.name}: a write was cut {cut} bytes before the end")
        else:
            self._say(problem, file.name)

    def _check_wanted(self) -> None:
        """A later segment remembers how long its predecessor was, and the chain there."""
        for subject, wanted in self._wanted:
            segment = wanted.segment.hex()
            name, chains = log_name(subject, segment), self._chains.get(segment)
            if chains is None:
                if not self._pruned(subject, segment):
                    problem = Damaged("a later segment continues it, and it is not here")
                    self._say(problem, name, "missing")
            elif max(chains) < wanted.length:
                problem = Damaged(f"a later segment saw {wanted.length} bytes", offset=max(chains))
                self._say(problem, name, "missing")
            elif chains.get(wanted.length) != wanted.chain:
                problem = Forged("a later segment saw other bytes here", offset=wanted.length)
                self._say(problem, name)

    def _pruned(self, subject: str, segment: str) -> bool:
        return bool(segment) and pruned.is_pruned(self.paths, subject, segment)

    def _check_meta(self) -> None:
        """Every run begins with a `meta` log, which says what the others are."""
        runs: dict[str, set[int]] = {}
        for name, header in self._headers.items():
            runs.setdefault(name.rsplit("/", 1)[0], set()).add(header.data_class)
        for folder, classes in runs.items():
            if DataClass.META not in classes and not self._damaged_below(folder):
                self._say(Damaged("no log of class meta of this run is here"), folder, "missing")

    def _damaged_below(self, folder: str) -> bool:
        return any(name.startswith(folder + "/") for name in self._damaged)

    def _check_receipts(self) -> None:
        """What a remote acknowledged from here was here."""
        latest: dict[str, int] = {}
        if self.paths.receipts.is_dir():
            for path in sorted(self.paths.receipts.glob("*.jsonl")):
                # Later lines win; of several remotes the one that has most.
                for name, size in dict(_acknowledged(path.read_bytes())).items():
                    latest[name] = max(latest.get(name, 0), size)
        state = self._state()
        erased = state.erased(now_us()) if state else frozenset()
        for name, size in sorted(latest.items()):
            try:
                file = parse_name(name)
            except Damaged:
                continue
            # Whether an object should be here is for the logs to say: others were freed.
            if file.kind is FileKind.OBJECT or file.subject in erased:
                continue
            if self._pruned(file.subject, file.segment):
                continue
            path = self.paths.file(name)
            have = path.stat().st_size if path.exists() else 0
            if have < size and file.kind is not FileKind.KEYSLOT:
                problem = Damaged(
                    f"a remote acknowledged {size} bytes, {have} are here", offset=have
                )
                self._say(problem, name, "missing")

    def _state(self) -> trust.ProjectState | None:
        try:
            return trust.read_project(self.paths)
        except Damaged as problem:
            self._say(problem, "links", "unbelieved")
            return None

    def _check_writers(self) -> None:
        """Whoever signed a segment must be somebody that the project knows."""
        state = self._state()
        if state is None:
            return
        for name, header in self._headers.items():
            verdict = state.judge(header)
            if verdict.belief is trust.Belief.REFUSED:
                self._say(Forged(verdict.reason), name, "unbelieved")
            elif verdict.belief is trust.Belief.FLAGGED:
                self.out.notes.append(f"{name}: {verdict.reason}")
        for name_hash in sorted(state.missing):
            problem = Damaged("a later link names it, and it is not here")
            self._say(problem, f"links/{name_hash.hex()}", "missing")
        for what, reason in state.refused:
            if "/" not in what:
                self._say(Damaged(f"not believed: {reason}"), f"links/{what}", "unbelieved")

    def _check_objects(self) -> None:
        """What a log needs is here, or somebody must have it."""
        state = self._state()
        if state is None:
            return
        self._add_stubs()
        self._needed = self._named.needed(state, state.erased(now_us()))
        for one in self._named.absent(self._needed):
            if one.taken:
                what = "is needed: run `localstore gc`, which puts it back"
                self.out.notes.append(f"{one.name}: {what}")
                continue
            more = f" and {len(one.logs) - 1} more" if len(one.logs) > 1 else ""
            problem = Damaged(f"{one.logs[0]}{more} refers to it, and it is not here")
            self._say(problem, one.name, "missing")

        self._note_pruned()

    def _add_stubs(self) -> None:
        """What pruned logs refer to is needed as well."""
        for subject, segment in pruned.stub_places(self.paths):
            if log_name(subject, segment) in self._headers:
                continue
            try:
                stub = pruned.read_stub(self.paths, subject, segment)
            except Damaged as problem:
                self._say(problem, problem.file)
                continue
            if stub is not None:
                self._pruned_logs += 1
                self._named.add_stub(stub)

    def _note_pruned(self) -> None:
        if self._pruned_logs or self._named.pruned:
            what = f"{self._pruned_logs} logs and {self._named.pruned} objects were pruned here"
            self.out.notes.append(f"project {self.paths.id[:16]}: {what}; `localstore pull`")

    # -------------------------------------------------------------- with keys
    def _open_all(self, identity: Identity) -> None:
        try:
            project = Project(self.paths, identity)
        except (NotPermitted, Damaged) as problem:
            self.out.notes.append(f"project {self.paths.id[:16]} was not opened: {problem}")
            return
        objects = Contents(project, self._needed)
        for name in self._headers:
            try:
                content = read_segment(project, name)
            except (NotPermitted, Damaged) as problem:
                self._say(problem, name)
                continue
            except FileNotFoundError:
                continue
            self.out.opened += 1
            self._check_closed(content)
            for damage in content.problems:
                if not isinstance(damage, Torn):
                    self._say(damage, name)
            for damage in objects.check(content.records.values()):
                self._say(damage, damage.file)
        self.out.objects += objects.opened

    def _check_closed(self, content: SegmentContent) -> None:
        """A writer names the other logs that it closed: none may be missing or replaced."""
        subject, tagged = content.header.subject.hex(), tagged_logs(content)
        for segment, data_class, chain in closed_logs(content):
            name, chains = log_name(subject, segment.hex()), self._chains.get(segment.hex())
            if chains is None and self._pruned(subject, segment.hex()):
                continue
            if chains is None and (data_class not in _TRAVELS or segment in tagged):
                what = "its writer closed it, and it is not here: it may not leave its machine"
                self.out.notes.append(f"{name}: {what}")
            elif chains is None:
                self._say(Damaged("its writer closed it, and it is not here"), name, "missing")
            elif chain not in chains.values() and name not in self._damaged:
                self._say(Damaged("its writer closed it with other bytes"), name, "missing")


def is_file_name(name: str) -> bool:
    """Whether the format has files of this name."""
    try:
        parse_name(name)
    except Damaged:
        return False
    return True


def _acknowledged(raw: bytes) -> Iterator[tuple[str, int]]:
    for line in raw.splitlines():
        try:
            entry = json.loads(line)
            name, size = entry["name"], entry["size"]
        except (ValueError, KeyError, TypeError):
            continue
        if isinstance(name, str) and isinstance(size, int):
            yield name, size
