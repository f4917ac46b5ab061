"""How much a project's files, versions and classes take: as people see them, once, and on disk."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from localstore import pruned
from localstore.artifacts.entries import read_entries
from localstore.artifacts.reading import reader
from localstore.errors import Damaged, LocalStoreError, NotFound, StoreError
from localstore.format import spec
from localstore.format.manifest import as_part, is_size
from localstore.format.segment import decode_header
from localstore.format.spec import DataClass, RecordKind
from localstore.layout import FileKind, parse_name
from localstore.reading import read_run
from localstore.store.gc import list_objects

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from localstore.artifacts.model import ArtifactState, Version
    from localstore.format.manifest import Part
    from localstore.layout import ProjectPaths
    from localstore.project import Project
    from localstore.store.gc import ObjectFile

_OBJECT_CLASS_AT: Final = 6  # offset of the class in an object's header
_FILE_CLASSES: Final = (
    DataClass.CODE,
    DataClass.MEDIA,
    DataClass.SYSTEM,
    DataClass.ARTIFACTS,
)
KEYS: Final = "keys"
OTHER: Final = "other"


@dataclass(slots=True)
class Amount:
    """Bytes in three ways.

    Attributes:
        logical: of all files of all versions, each as often as it stands somewhere; logs as they
            lie on disk.
        unique: the same with equal pieces once. stored: on disk.
    """

    logical: int = 0
    unique: int = 0
    stored: int = 0

    def __iadd__(self, other: Amount) -> Amount:
        self.logical += other.logical
        self.unique += other.unique
        self.stored += other.stored
        return self


@dataclass(slots=True, kw_only=True)
class ArtifactUsage:
    """One artifact; what it shares with others is counted in each of them."""

    name: str
    type: str
    versions: int
    amount: Amount


@dataclass(slots=True, kw_only=True)
class Usage:
    """One project.

    Attributes:
        classes: by the name of the class; `keys` for keyslots, `other` for the rest.
        artifacts: by name; empty without keys.
        readable: whether keys were here: else only `stored` is known.
        total: of all classes.
        pruned: bytes that were pruned here and that remotes have.
        problems: what could not be counted, and why.
    """

    project: str
    readable: bool
    classes: dict[str, Amount] = field(default_factory=dict)
    artifacts: list[ArtifactUsage] = field(default_factory=list)
    total: Amount = field(default_factory=Amount)
    pruned: int = 0
    problems: list[StoreError] = field(default_factory=list)


def measure(paths: ProjectPaths, project: Project | None) -> Usage:
    """How much a project takes here.

    Args:
        project: open for reading; None: only what is stored is known, by class.
    """
    usage = Usage(project=paths.id, readable=project is not None)
    objects = list_objects(paths)
    _add_objects(usage, objects.objects)
    _add_files(usage, paths)
    here = {one.id for one in objects.objects}
    usage.pruned = sum(stub.size for stub in pruned.absent_logs(paths))
    stubs = pruned.object_stubs(paths)
    usage.pruned += sum(stub.size for one, stub in stubs.items() if one not in here)
    if project is not None:
        sizes = {one.id: one.size for one in objects.objects}
        _Contents(usage, project, sizes).add()
    for amount in usage.classes.values():
        usage.total += amount
    return usage


def _class_name(number: int) -> str:
    known = number in DataClass._value2member_map_
    return DataClass(number).name.lower() if known else f"class {number}"


def _at(usage: Usage, name: str) -> Amount:
    return usage.classes.setdefault(name, Amount())


# ------------------------------------------------------------------ on disk, without keys
def _add_objects(usage: Usage, objects: Iterable[ObjectFile]) -> None:
    for one in objects:
        with contextlib.suppress(FileNotFoundError):
            _at(usage, _object_class(one.path)).stored += one.size


def _object_class(path: Path) -> str:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        header = os.pread(handle, _OBJECT_CLASS_AT + 1, 0)
    finally:
        os.close(handle)
    whole = len(header) > _OBJECT_CLASS_AT and header.startswith(spec.OBJECT_MAGIC)
    return _class_name(header[_OBJECT_CLASS_AT]) if whole else OTHER


def _add_files(usage: Usage, paths: ProjectPaths) -> None:
    """Logs and tails count for the class of their segment, as they are."""
    classes: dict[str, str] = {}
    tails: list[tuple[str, int]] = []
    for name, path, size in _files_of(paths):
        kind, segment = _kind_of(name)
        if kind in (FileKind.LOG, FileKind.FORK):
            classes[segment] = _log_class(path)
            _add_same(_at(usage, classes[segment]), size)
        elif kind in (FileKind.TAIL_COPY, FileKind.LIVE_TAIL):
            tails.append((segment, size))
        else:
            _at(usage, KEYS if kind is FileKind.KEYSLOT else OTHER).stored += size
    for segment, size in tails:
        _add_same(_at(usage, classes.get(segment, OTHER)), size)


def _files_of(paths: ProjectPaths) -> Iterator[tuple[str, Path, int]]:
    """All files but objects: name, path, size."""
    for path in sorted(paths.root.rglob("*")):
        name = str(path.relative_to(paths.root))
        with contextlib.suppress(FileNotFoundError):
            if not name.startswith("objects/") and not path.is_symlink() and path.is_file():
                yield name, path, path.stat().st_size


def _kind_of(name: str) -> tuple[FileKind | None, str]:
    try:
        file = parse_name(name)
    except Damaged:
        return None, ""
    return file.kind, file.segment


def _add_same(amount: Amount, size: int) -> None:
    amount += Amount(size, size, size)


def _log_class(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return _class_name(decode_header(file.read(spec.MAX_HEADER_BYTES))[0].data_class)
    except (Damaged, FileNotFoundError):
        return OTHER


# ------------------------------------------------------------------ contents, with keys
class _Contents:
    """Adds the files of versions and of runs."""

    def __init__(self, usage: Usage, project: Project, sizes: dict[str, int]) -> None:
        self._usage, self._project, self._sizes = usage, project, sizes
        self._seen: set[tuple[bytes, int, int]] = set()

    def add(self) -> None:
        artifacts = reader(self._project).all()
        for state in artifacts:
            self._usage.artifacts.append(self._artifact(state))
        known = {self._project.artifact_subject(state.name).hex() for state in artifacts}
        self._add_runs(known)

    def _artifact(self, state: ArtifactState) -> ArtifactUsage:
        own: set[tuple[bytes, int, int]] = set()
        objects: set[bytes] = set()
        amount = Amount()
        for version in state.versions:
            where = _at(self._usage, _class_name(version.data_class))
            objects.update(manifest for manifest, _ in version.manifests)
            for size, parts in self._files(state, version):
                amount.logical += size
                where.logical += size
                where.unique += _new(self._seen, parts)
                amount.unique += _new(own, parts)
                objects.update(part.object_id for part in parts)
        amount.stored = sum(self._sizes.get(one.hex(), 0) for one in objects)
        return ArtifactUsage(
            name=state.name, type=state.type, versions=len(state.versions), amount=amount
        )

    def _files(
        self, state: ArtifactState, version: Version
    ) -> Iterable[tuple[int, tuple[Part, ...]]]:
        try:
            entries = read_entries(self._project, version)
        except NotFound:
            # Its manifest is on another machine: how much is known, and not what it shares.
            return [(version.size, ())]
        except LocalStoreError as problem:
            where = f"{state.name}:{version.label}"
            self._usage.problems.append(Damaged(str(problem), file=where))
            return [(version.size, ())]
        return [(entry.size or 0, entry.parts) for entry in entries if not entry.uri]

    def _add_runs(self, artifacts: set[str]) -> None:
        runs = self._project.paths.runs
        for folder in sorted(runs.iterdir()) if runs.is_dir() else ():
            if folder.name in artifacts or len(folder.name) != 2 * spec.ID_BYTES:
                continue
            problems: list[Damaged] = []
            subject = bytes.fromhex(folder.name)
            for content in read_run(self._project, subject, _FILE_CLASSES, problems):
                where = _at(self._usage, _class_name(content.header.data_class))
                for record in content.records.values():
                    match record:
                        case [RecordKind.FILE, _, _, {"parts": list(raw)} as body, *_]:
                            parts = [part for one in raw if (part := as_part(one))]
                            where.logical += body["size"] if is_size(body.get("size")) else 0
                            where.unique += _new(self._seen, parts)
                        case _:
                            pass
            self._usage.problems += problems


def _new(seen: set[tuple[bytes, int, int]], parts: Iterable[Part]) -> int:
    """Bytes of those pieces that were not there before."""
    fresh = {(one.object_id, one.offset, one.length) for one in parts} - seen
    seen |= fresh
    return sum(length for _, _, length in fresh)
