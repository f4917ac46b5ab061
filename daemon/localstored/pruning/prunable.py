"""What may leave this disk because a remote has it: judged by the files here and by receipts.

Asks no remote and removes nothing. Whoever is about to remove asks the remote once more.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from localstore.errors import Damaged
from localstore.format import segment, spec
from localstore.format.spec import DataClass
from localstore.layout import FileKind, object_name
from localstored.receipts import ReceiptFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from localstore.layout import ProjectPaths
    from localstore.store.gc import Collector, ObjectFile
    from localstore.store.references import LogFacts
    from localstored.receipts import Line

ALIVE_US: Final = 24 * 3600 * 1_000_000
# What a run is, which versions there are, from which code: small, and what lists are made from.
_STAY: Final = frozenset({DataClass.META, DataClass.ARTIFACTS, DataClass.CODE})
# Of these each process stands for itself: an artifact is never finished, its versions are.
_BY_WRITER: Final = frozenset({DataClass.ARTIFACTS, DataClass.CODE})
_HEAD_BYTES: Final = segment.FRAME_OVERHEAD_BYTES + segment.HEAD_BODY_BYTES

NO_RECEIPT: Final = "the remote has not acknowledged it"
ALIVE: Final = "its run is alive, or was so within a day"
SHARED: Final = "something that stays needs it"
IN_USE: Final = "stored or used within the grace time"
NOT_CLOSED: Final = "its writer did not close it"
STAYS: Final = "it lists what there is, and is small"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What somebody wants to prune; ids in hex.

    Attributes:
        subjects, writers: only these subjects, and what these processes wrote of these subjects;
            None: everything.
        keep_subjects, keep_writers: not these.
        before_us: only what ended by then (Unix time in µs). classes: numbers; None: all.
        grace_us: objects that were stored or used so shortly ago stay.
    """

    subjects: frozenset[str] | None = None
    writers: frozenset[tuple[str, str]] = frozenset()
    keep_subjects: frozenset[str] = frozenset()
    keep_writers: frozenset[tuple[str, str]] = frozenset()
    before_us: int
    classes: frozenset[int] | None = None
    grace_us: int = 3600 * 1_000_000

    def has(self, log: Log) -> bool:
        """Whether a log, and what it refers to, is meant."""
        place = log.subject, log.writer
        if log.subject in self.keep_subjects or place in self.keep_writers:
            return False
        chosen = self.subjects is None or log.subject in self.subjects or place in self.writers
        return chosen and log.ended_us <= self.before_us

    def has_class(self, data_class: int) -> bool:
        """Whether bytes of a class are meant."""
        return self.classes is None or data_class in self.classes


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """One log as far as pruning goes; ids in hex.

    Attributes:
        size: bytes of the file; whole frames end at `end`.
        ended_us: when it was closed, or last changed.
        closed: its writer's final head stands at its end, so it never grows again.
        alive: it may still grow.
    """

    facts: LogFacts
    size: int
    end: int
    ended_us: int
    closed: bool
    alive: bool

    @property
    def name(self) -> str:
        """Relative to the project."""
        return self.facts.file.name

    @property
    def subject(self) -> str:
        """The run or artifact."""
        return self.facts.file.subject

    @property
    def writer(self) -> str:
        """The process that wrote it."""
        return self.facts.header.writer.hex()

    @property
    def data_class(self) -> int:
        """Number of its class."""
        return self.facts.header.data_class


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Bytes that a receipt proves.

    Attributes:
        name: relative to the project. size: in bytes. needs: logs that the remote must have, too.
        ended_us: when the newest log that is about it ended.
        subjects: whose bytes they are. object: the file, where it is an object.
    """

    name: str
    size: int
    needs: frozenset[str]
    ended_us: int
    subjects: frozenset[str]
    object: ObjectFile | None = None


@dataclass(slots=True)
class Amount:
    """So many files, and their bytes."""

    items: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        """One more."""
        self.items += 1
        self.bytes += size


@dataclass(slots=True, kw_only=True)
class Judged:
    """What may go, oldest first, and what may not, by reason."""

    candidates: list[Candidate] = field(default_factory=list)
    held: dict[str, Amount] = field(default_factory=dict)

    def hold(self, reason: str, size: int) -> None:
        """Count what stays."""
        self.held.setdefault(reason, Amount()).add(size)


def acknowledged(paths: ProjectPaths, remote_id: str) -> dict[str, Line]:
    """The last receipt of a remote for each name."""
    batches = ReceiptFile.of(paths, remote_id).batches()
    return {line.name: line for lines, _ in batches for line in lines}


def read_logs(paths: ProjectPaths, facts: Iterable[LogFacts], now_us: int) -> dict[str, Log]:
    """Every log of a project by name, forks left out."""
    files = _Files(paths)
    return {
        one.file.name: log
        for one in facts
        if one.file.kind is FileKind.LOG and (log := _read_log(files, one, now_us)) is not None
    }


class _Files:
    """Which files lie beside a log: one listing for each subject."""

    def __init__(self, paths: ProjectPaths) -> None:
        self.paths = paths
        self._beside: dict[str, dict[str, int]] = {}

    def tails_changed_us(self, subject: str, own: str) -> int:
        """When a live tail of a segment changed last; 0 where it has none."""
        beside = self._listing(subject)
        return max((beside.get(f"{own}.t{which}", 0) for which in (0, 1)), default=0)

    def _listing(self, subject: str) -> dict[str, int]:
        if subject not in self._beside:
            found = {}
            with os.scandir(self.paths.runs / subject) as entries:
                for entry in entries:
                    if entry.name.endswith((".t0", ".t1")):
                        found[entry.name] = entry.stat(follow_symlinks=False).st_mtime_ns // 1000
            self._beside[subject] = found
        return self._beside[subject]


def _read_log(files: _Files, facts: LogFacts, now_us: int) -> Log | None:
    path = files.paths.file(facts.file.name)
    try:
        status = path.stat(follow_symlinks=False)
        head = _closing_head(path, facts)
        tails_us = files.tails_changed_us(facts.file.subject, facts.file.segment)
    except FileNotFoundError:
        return None
    changed_us = max(status.st_mtime_ns // 1000, tails_us)
    recent = now_us - changed_us < ALIVE_US
    return Log(
        facts=facts,
        size=status.st_size,
        end=facts.end,
        ended_us=head.time_us if head is not None else changed_us,
        closed=head is not None and facts.end == status.st_size,
        alive=recent and (head is None or tails_us > 0),
    )


def _closing_head(path: Path, facts: LogFacts) -> segment.Head | None:
    """The final head at the end of a log, which its writer's device signed; else None."""
    with path.open("rb") as handle:
        size = os.fstat(handle.fileno()).st_size
        if size <= _HEAD_BYTES:
            return None
        view = memoryview(mmap.mmap(handle.fileno(), size, access=mmap.ACCESS_READ))
    try:
        frame = segment.decode_frame(view, size - _HEAD_BYTES)
        if frame.kind != spec.FrameType.HEAD:
            return None
        head = segment.decode_head(frame, facts.header.segment, facts.header.device)
    except Damaged:
        return None
    fits = head.length == frame.offset and head.count == frame.index
    return head if head.final and fits else None


# ------------------------------------------------------------------ the judgement
class Judge:
    """Decides for one project and one remote.

    Args:
        collector: after a look.
        objects: those that are here.
    """

    def __init__(
        self,
        paths: ProjectPaths,
        collector: Collector,
        receipts: Mapping[str, Line],
        selection: Selection,
        clock: Callable[[], int],
    ) -> None:
        self._paths, self._collector, self._receipts = paths, collector, receipts
        self._selection, self._now_us = selection, clock()
        facts = list(collector.references.logs())
        self.logs = read_logs(paths, facts, self._now_us)
        self._forked = {one.file.segment for one in facts if one.file.kind is FileKind.FORK}
        self._alive = {log.subject for log in self.logs.values() if log.alive}
        writers = (log for log in self.logs.values() if log.alive)
        self._alive_writers = {(log.subject, log.writer) for log in writers}
        self._going: dict[str, frozenset[str]] = {}  # objects that may go, and who names them
        self._meta: dict[str, list[str]] = {}
        for log in self.logs.values():
            if log.data_class == DataClass.META:
                self._meta.setdefault(log.subject, []).append(log.name)

    def judge(self, objects: Iterable[ObjectFile]) -> Judged:
        """What may go."""
        out = Judged()
        for log in self.logs.values():
            if self._selection.has(log) and self._selection.has_class(log.data_class):
                self._judge_log(out, log)
        for one in objects:
            self._judge_object(out, one)
        out.candidates.sort(key=lambda one: (one.ended_us, one.name))
        return out

    def keeping(self, naming: Mapping[str, list[str]]) -> frozenset[str]:
        """Of objects and the logs that name them now, those that must stay.

        What a log names that did not name it when it was judged stays: somebody begins to use it.
        """
        return frozenset(
            one
            for one, names in naming.items()
            if one not in self._going or not self._going[one].issuperset(self._living(names))
        )

    def _living(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if not self._is_elsewhere(name)]

    def _may_all_go(self, names: list[str]) -> bool:
        return all(
            name in self.logs and self._selection.has(self.logs[name]) and self._is_over(name)
            for name in self._living(names)
        )

    def _is_elsewhere(self, name: str) -> bool:
        """A pruned log: what it refers to was judged when it went."""
        return name not in self.logs and not self._paths.file(name).exists()

    def _is_over(self, name: str) -> bool:
        log = self.logs[name]
        if log.data_class in _BY_WRITER:
            return (log.subject, log.writer) not in self._alive_writers
        return log.subject not in self._alive

    def _judge_log(self, out: Judged, log: Log) -> None:
        reason = self._why_log_stays(log)
        if reason == STAYS:
            return
        if reason:
            out.hold(reason, log.size)
            return
        needs = frozenset([log.name, *self._meta.get(log.subject, ())])
        out.candidates.append(
            Candidate(
                name=log.name,
                size=log.size,
                needs=needs,
                ended_us=log.ended_us,
                subjects=frozenset([log.subject]),
            )
        )

    def _why_log_stays(self, log: Log) -> str:
        if log.data_class in _STAY or log.facts.cancels or log.facts.file.segment in self._forked:
            return STAYS
        if not self._is_over(log.name):
            return ALIVE
        if not log.closed:
            return NOT_CLOSED
        return "" if self._is_acknowledged(log) else NO_RECEIPT

    def _is_acknowledged(self, log: Log) -> bool:
        line = self._receipts.get(log.name)
        return line is not None and line.size >= log.end

    def _judge_object(self, out: Judged, one: ObjectFile) -> None:
        names = self._collector.naming.get(one.id, [])
        logs = [self.logs[name] for name in names if name in self.logs]
        if not any(map(self._selection.has, logs)):
            return  # nobody asked for it, or nothing needs it: that is `gc`'s
        if not self._selection.has_class(_object_class(one.path)):
            return
        reason = self._why_object_stays(one, names, logs)
        if reason:
            out.hold(reason, one.size)
            return
        self._going[one.id] = frozenset(log.name for log in logs)
        metas = (name for log in logs for name in self._meta.get(log.subject, ()))
        out.candidates.append(
            Candidate(
                name=object_name(bytes.fromhex(one.id)),
                size=one.size,
                needs=frozenset([*(log.name for log in logs), *metas]),
                ended_us=max(log.ended_us for log in logs),
                subjects=frozenset(log.subject for log in logs),
                object=one,
            )
        )

    def _why_object_stays(self, one: ObjectFile, names: list[str], logs: list[Log]) -> str:
        if not all(self._is_over(log.name) for log in logs):
            return ALIVE
        if not self._may_all_go(names):
            return SHARED
        if self._now_us - one.mtime_ns // 1000 < self._selection.grace_us:
            return IN_USE
        line = self._receipts.get(object_name(bytes.fromhex(one.id)))
        proved = line is not None and line.sha256 == one.id and line.size == one.size
        return "" if proved and all(map(self._is_acknowledged, logs)) else NO_RECEIPT


def _object_class(path: Path) -> int:
    try:
        with path.open("rb") as handle:
            header = handle.read(8)
    except FileNotFoundError:
        return -1
    return header[6] if len(header) == 8 and header.startswith(spec.OBJECT_MAGIC) else -1
