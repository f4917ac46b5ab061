"""The artifacts of a project, as this machine's keys open them.

A segment is opened once for each process, and as a rule once for each home: what it said is kept in
a sealed cache. A log that an artifact's name does not lead to is refused.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from localstore import trust
from localstore.artifacts.edits import Said
from localstore.artifacts.model import ArtifactState, fold, named
from localstore.artifacts.names import check_name
from localstore.errors import Damaged, Forged, NotFound, NotPermitted
from localstore.format import spec
from localstore.format.segment import decode_header
from localstore.format.spec import DataClass, RecordKind
from localstore.identity import now_us
from localstore.query.cache import SealedCache
from localstore.reading import read_run, read_segment
from localstore.tails import tail_folder
from localstore.trust import Belief

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from localstore.format.records import Record
    from localstore.project import Project
    from localstore.reading import SegmentContent

_CLASSES: Final = (DataClass.META, DataClass.ARTIFACTS, DataClass.CODE)
_SAVE_AFTER: Final = 64  # new segments, before the sealed cache is written again
_FILE: Final = "artifacts.cache"
_VERSION: Final = 1
_OF_META: Final = frozenset({RecordKind.ARTIFACT, RecordKind.EDIT})

_Print = list[list[Any]]
_readers: dict[tuple[int, str, str], ArtifactReader] = {}
# When the links and certificates were written that a project has taken in.
_seen: WeakKeyDictionary[Project, list[int]] = WeakKeyDictionary()


class ArtifactReader:
    """Reads artifacts of one project; remembers what each segment said.

    Attributes:
        problems: damage that was met, by the name of its file.
    """

    def __init__(self, project: Project, tail_dir: str = "") -> None:
        """Nothing is read yet.

        Raises:
            NotPermitted: this machine may not read the project.
        """
        if not project.can_read:
            raise NotPermitted(
                "this machine may log artifacts and read none",
                hint="read them on a machine of the person who made its ticket",
            )
        self.project, self._tail_dir, self._lock = project, tail_dir, threading.RLock()
        self.problems: dict[str, Damaged] = {}
        self._folded: dict[bytes, tuple[dict[str, _Print], ArtifactState | None]] = {}
        self._cache = SealedCache(project, _FILE, _VERSION)
        self.trust = _trust_print(project)
        if self._cache.entries.get("trust") != self.trust:
            self._cache.entries = {"trust": self.trust, "subjects": {}}
        self._new = 0

    # -------------------------------------------------------------- artifacts
    def read(self, name: str) -> ArtifactState:
        """One artifact; without versions when there is none of this name, or it was erased."""
        subject = self.project.artifact_subject(check_name(name))
        found = None if self._hidden(subject) else self._state(subject)
        return found or ArtifactState(name=name, type="")

    def require(self, name: str) -> ArtifactState:
        """One artifact.

        Raises:
            NotFound: there is none of this name.
        """
        state = self.read(name)
        if not state.versions:
            raise NotFound(
                f"no artifact {name!r} in project {self.project.name!r}",
                hint="`localstore artifact ls` lists the artifacts of this store",
            )
        return state

    def all(self) -> list[ArtifactState]:
        """Every artifact that has a version, by name."""
        runs = self.project.paths.runs
        folders = sorted(runs.iterdir()) if runs.is_dir() else []
        subjects = [bytes.fromhex(path.name) for path in folders if _is_subject(path.name)]
        states = [self._state(one) for one in subjects if not self._hidden(one)]
        self.save(frozenset(one.hex() for one in subjects))
        found = [state for state in states if state is not None and state.versions]
        return sorted(found, key=lambda state: state.name)

    def _hidden(self, subject: bytes) -> bool:
        """Erased, or in the trash."""
        return subject.hex() in self.project.state.tombstones and (
            subject.hex() in self.project.state.erased(now_us())
            or subject.hex() in self.project.state.trashed(now_us())
        )

    def _state(self, subject: bytes) -> ArtifactState | None:
        """None when these are no records of an artifact."""
        with self._lock:
            files = _files(self.project.paths.runs / subject.hex(), self._tails(subject))
            before = self._folded.get(subject)
            if before is not None and before[0] == files:
                return before[1]
            folder = f"runs/{subject.hex()}"
            problems = {n: p for n, p in self.problems.items() if not n.startswith(folder)}
            self.problems = problems
            state = self._fold(subject, self._said(subject, files))
            if not any(name.startswith(folder) for name in self.problems):
                self._folded[subject] = files, state
            return state

    def _fold(self, subject: bytes, said: list[Said]) -> ArtifactState | None:
        names = [name for name, _ in named(said)]
        own = [name for name in names if self.project.artifact_subject(name) == subject]
        if not own:
            return None
        if len(set(names)) > 1:
            folder = f"runs/{subject.hex()}"
            strange = next(name for name in names if name not in own)
            self.problems[folder] = Forged(f"records of artifact {strange!r}", file=folder)
            said = [one for one in said if not _names_another(one, own[0])]
        return fold(said)

    # -------------------------------------------------------------- records
    def _said(self, subject: bytes, files: dict[str, _Print]) -> list[Said]:
        """The records of one artifact that count; a run's folder has none."""
        if any(name.endswith(".fork") for name in files):
            return list(self._read_whole(subject))
        subjects = self._cache.entries["subjects"]
        known = subjects.setdefault(subject.hex(), {})
        out: list[Said] = []
        for file, print_ in sorted(files.items()) if known is not False else ():
            if file not in known or known[file][0] != print_:
                rows, settled = self._read_one(subject, file, print_)
                if rows is None:  # a run's folder will never be an artifact's
                    subjects[subject.hex()] = False
                    self._new += 1
                    return []
                known.pop(file, None)
                if settled:
                    known[file] = [print_, rows]
                    self._new += 1
            else:
                rows = known[file][1]
            out += (_said(file, row) for row in rows)
        for gone in list(known.keys() - files.keys()) if known else ():
            del known[gone]
        return out

    def _tails(self, subject: bytes) -> Path | None:
        return tail_folder(self._tail_dir, self.project.paths.id, subject)

    def _read_one(
        self, subject: bytes, file: str, print_: _Print
    ) -> tuple[list[list[Any]] | None, bool]:
        """What one log says as plain values, and whether that may be remembered.

        None for the values when the log shows that the folder is a run's.
        """
        name = f"runs/{subject.hex()}/{file}"
        try:
            if _class_of(self.project.paths.file(name)) not in _CLASSES:
                return [], True
            content = read_segment(self.project, name, tails=self._tail_files(subject, print_))
        except FileNotFoundError:
            return [], False
        except (OSError, NotPermitted, Damaged) as problem:
            self.problems[name] = _as_damage(problem, name)
            return [], False
        if content.problems:
            self.problems[name] = content.problems[0]
        if any(self._begins_run(record, subject) for record in content.records.values()):
            return None, True
        return [_row(one) for one in self._kept(content)], not content.problems

    def _begins_run(self, record: Record, subject: bytes) -> bool:
        match record:
            case [RecordKind.START, _, {"id": str(run_id)}, *_]:
                return self.project.subject(run_id) == subject
            case _:
                return False

    def _tail_files(self, subject: bytes, print_: _Print) -> list[Path]:
        places = [self.project.paths.runs / subject.hex(), self._tails(subject)]
        names = [str(fact[0]) for fact in print_[1:]]
        return [place / name for place in places if place is not None for name in names]

    def _read_whole(self, subject: bytes) -> Iterator[Said]:
        """All logs at once, for a subject with two versions of one."""
        problems: list[Damaged] = []
        for content in read_run(self.project, subject, _CLASSES, problems, self._tails(subject)):
            yield from self._kept(content)
        self.problems |= {problem.file: problem for problem in problems}

    def _kept(self, content: SegmentContent) -> Iterator[Said]:
        """The records of an artifact that stand in a class where they count."""
        header = content.header
        device = self.project.state.devices.get(header.cert)
        flagged = content.verdict.belief is Belief.FLAGGED
        for sequence, record in sorted(content.records.items()):
            if _belongs(record[0], header.data_class):
                yield Said(
                    record=record,
                    place=(header.segment, sequence),
                    writer=header.writer,
                    data_class=header.data_class,
                    flag=content.verdict.reason if flagged else "",
                    deposit=device is None or device.deposit,
                )

    def save(self, present: frozenset[str] | None = None) -> None:
        """Write the sealed cache, when much is new or `present` names all subjects there are."""
        subjects: dict[str, Any] = self._cache.entries["subjects"]
        gone = subjects.keys() - present if present is not None else set()
        for subject in gone:
            del subjects[subject]
        if gone or self._new > (0 if present is not None else _SAVE_AFTER):
            self._cache.save()
            self._new = 0


def reader(project: Project, tail_dir: str = "") -> ArtifactReader:
    """The reader of a project, kept for this process while nobody's word changed its weight.

    Raises:
        NotPermitted: this machine may not read the project.
    """
    key = (os.getpid(), str(project.paths.root), tail_dir)
    found = _readers.get(key)
    _learn(project)
    if found is None or found.trust != _trust_print(project):
        found = _readers[key] = ArtifactReader(project, tail_dir)
    found.project = project
    return found


def _learn(project: Project) -> None:
    """Take in links and certificates that came since the project was opened; one's own too."""
    if not project.can_read:
        return
    stamps = [_stamp(folder) for folder in (project.paths.links, project.paths.certs)]
    if _seen.get(project) != stamps:
        project.state = trust.read_project(project.paths, own_keys=project.identity.own_keys())
        _seen[project] = stamps


def _stamp(folder: Path) -> int:
    return folder.stat().st_mtime_ns if folder.is_dir() else 0


def _class_of(path: Path) -> int:
    """The class of a log, by its header.

    Raises:
        OSError, Damaged: it cannot be read.
    """
    with path.open("rb") as file:
        return decode_header(file.read(spec.MAX_HEADER_BYTES))[0].data_class


def _as_damage(problem: Exception, name: str) -> Damaged:
    if isinstance(problem, Damaged):
        return problem if problem.file else problem.at(name)
    why = problem.strerror if isinstance(problem, OSError) else problem
    return Damaged(f"it cannot be read: {why}", file=name)


def _belongs(kind: int, data_class: int) -> bool:
    if data_class == DataClass.META:
        return kind in _OF_META
    return kind == RecordKind.VERSION and data_class in (DataClass.ARTIFACTS, DataClass.CODE)


def _names_another(said: Said, own: str) -> bool:
    return said.record[0] == RecordKind.ARTIFACT and [n for n, _ in named([said])] != [own]


def _row(said: Said) -> list[Any]:
    sequence = said.place[1]
    return [sequence, said.record, said.writer, int(said.data_class), said.flag, said.deposit]


def _said(file: str, row: list[Any]) -> Said:
    sequence, record, writer, data_class, flag, deposit = row
    return Said(
        record=record,
        place=(bytes.fromhex(file.removesuffix(".log")), sequence),
        writer=writer,
        data_class=data_class,
        flag=flag,
        deposit=deposit,
    )


def _trust_print(project: Project) -> list[Any]:
    """What verdicts depend on: the links that count, and whose certificates are here."""
    devices: Iterable[bytes] = project.state.devices
    return [sorted(project.state.tips), sorted(devices)]


def _is_subject(name: str) -> bool:
    return len(name) == 32 and all(digit in "0123456789abcdef" for digit in name)


def _files(folder: Path, elsewhere: Path | None) -> dict[str, _Print]:
    """Each log and fork with the sizes and times of its files; a change makes it read again."""
    facts: dict[str, list[Any]] = {}
    for place in (folder, elsewhere):
        if place is None or not place.is_dir():
            continue
        with os.scandir(place) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    facts[entry.name] = [entry.name, status.st_size, status.st_mtime_ns]
    out: dict[str, _Print] = {}
    for name, fact in facts.items():
        if name.endswith((".log", ".fork")):
            out[name] = [fact]
    for name, fact in sorted(facts.items()):
        log = f"{name[:32]}.log"
        if name not in out and log in out:
            out[log].append(fact)
    return out
