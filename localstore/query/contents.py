"""What a run has beside its history: files, facts, console, measurements of its machine."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from localstore import crypto
from localstore.errors import AlreadyExists, Damaged, NotFound, UsageError
from localstore.format.manifest import Part, check_path
from localstore.format.spec import DataClass, RecordKind
from localstore.query.history import Table, merge
from localstore.query.listing import in_project
from localstore.reading import read_run
from localstore.tails import tail_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from localstore.format.records import Record
    from localstore.project import Project
    from localstore.reading import SegmentContent

WITH_FILES = (DataClass.CODE, DataClass.SYSTEM, DataClass.ARTIFACTS, DataClass.MEDIA)
STREAMS = {1: "stdout", 2: "stderr"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFile:
    """One file that belongs to a run.

    Attributes:
        path: relative, with `/`. size: bytes. hash: BLAKE3, 32 bytes.
        facts: what was recorded about it, such as `kind`, `width`, `caption`.
    """

    path: str
    data_class: int
    size: int
    hash: bytes
    facts: dict[str, Any]
    time_us: int
    data: bytes | None = field(default=None, repr=False)
    parts: tuple[Part, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class OutputLine:
    """A piece of what the program printed."""

    time_us: int
    stream: str
    text: str


class RunContents:
    """The other classes of one run, each read when it is asked for.

    Attributes:
        problems: damage that was met.
    """

    def __init__(self, project: Project, subject: bytes, tail_dir: str) -> None:
        self._project, self._subject = project, subject
        self._tails = tail_folder(tail_dir, project.paths.id, subject)
        self._read: dict[int, list[SegmentContent]] = {}
        self.problems: list[Damaged] = []

    def _segments(self, data_class: int) -> list[SegmentContent]:
        if data_class not in self._read:
            found: list[Damaged] = []
            contents = read_run(self._project, self._subject, (data_class,), found, self._tails)
            self._read[data_class] = contents
            self.problems += [in_project(self._project, problem) for problem in found]
        return self._read[data_class]

    def _records(self, data_class: int) -> Iterator[Record]:
        """All records of a class but points, by (time, writer, sequence)."""
        found = [
            (record[1], content.header.writer, sequence, record)
            for content in self._segments(data_class)
            for sequence, record in content.records.items()
        ]
        for *_, record in sorted(found, key=lambda item: item[:3]):
            yield record

    # -------------------------------------------------------------- files
    def files(self, classes: Iterable[int] = WITH_FILES) -> list[RunFile]:
        """The files of some classes, each in its newest version, sorted by path."""
        newest: dict[str, RunFile] = {}
        for data_class in classes:
            for record in self._records(data_class):
                file = _as_file(record, data_class)
                if file is not None:
                    newest[file.path] = file
        return [newest[path] for path in sorted(newest)]

    def file(self, path: str, classes: Iterable[int] = WITH_FILES) -> RunFile:
        """One file by its path.

        Raises:
            NotFound: the run has no such file.
        """
        found = self.files(classes)
        for file in found:
            if file.path == path:
                return file
        some = ", ".join(file.path for file in found[:8]) + (" …" if found[8:] else "")
        raise NotFound(f"the run has no file {path!r}", hint=f"it has {some or 'none'}")

    def read_file(self, path: str | RunFile, classes: Iterable[int] = WITH_FILES) -> bytes:
        """The content of one file, checked against its hash.

        Raises:
            NotFound: the run has no such file, or its bytes have not arrived here.
            Damaged: they are not what was recorded.
        """
        file = self.file(path, classes) if isinstance(path, str) else path
        if file.data is None:
            from localstore.store.blobs import read_parts

            return read_parts(self._project, file.parts, file.size, file.hash)
        if not crypto.same(crypto.content_hash(file.data), file.hash):
            raise Damaged(f"{file.path!r} is not what was recorded")
        return file.data

    # -------------------------------------------------------------- the rest
    def facts(self, what: str) -> dict[str, Any]:
        """The newest facts of a kind (`git`, `environment`, `host`); empty when there are none."""
        found: dict[str, Any] = {}
        for data_class in (DataClass.CODE, DataClass.SYSTEM):
            for record in self._records(data_class):
                match record:
                    case [RecordKind.FACTS, _, str(kind), dict(body), *_] if kind == what:
                        found = body
        return found

    def console(self) -> list[OutputLine]:
        """What the program printed, in order; a text that ends in CR is replaced by the next."""
        out = []
        for record in self._records(DataClass.CONSOLE):
            match record:
                case [RecordKind.OUTPUT, int(when), int(stream), str(text), *_]:
                    out.append(OutputLine(when, STREAMS.get(stream, "stdout"), text))
        return out

    def system(self) -> Table:
        """Measurements of the machine, as a table whose steps count the samples."""
        return merge(self._segments(DataClass.SYSTEM))


def _as_file(record: Record, data_class: int) -> RunFile | None:
    match record:
        case [
            RecordKind.FILE, int(when), str(path),
            {"size": int(size), "hash": bytes(hash_), **rest}, *_,
        ]:  # fmt: skip
            data = rest.pop("data", None)
            parts = _as_parts(rest.pop("parts", []))
        case _:
            return None
    if parts is None or (data is not None and not isinstance(data, bytes)):
        return None  # of a later localstore, or nonsense
    facts = {key: value for key, value in rest.items() if isinstance(key, str)}
    return RunFile(
        path=path, data_class=int(data_class), size=size, hash=hash_, facts=facts,
        time_us=when, data=data, parts=parts,
    )  # fmt: skip


def _as_parts(lists: object) -> tuple[Part, ...] | None:
    if not isinstance(lists, list):
        return None
    out = []
    for one in lists:
        match one:
            case [bytes(object_id), bytes(key), int(offset), int(length), *_]:
                out.append(Part(object_id, key, offset, length))
            case _:
                return None
    return tuple(out)


def write_below(root: Path, name: str, content: bytes, *, replace: bool) -> Path:
    """Write a file of a run below a folder.

    Raises:
        UsageError: its path leads elsewhere.
        AlreadyExists: there is another file of this name, and `replace` is not given.
    """
    try:
        check_path(name)
    except Damaged as problem:
        raise UsageError(f"{name!r} is no path below a folder") from problem
    target = root / name
    if not target.resolve().is_relative_to(root.resolve()):
        raise UsageError(f"{name!r} leads out of {str(root)!r}")
    if target.exists() and not replace:
        if target.is_file() and target.read_bytes() == content:
            return target
        raise AlreadyExists(f"{str(target)!r} is there", hint="replace=True writes over it")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name[:100]}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    with os.fdopen(os.open(temporary, flags, 0o666), "wb") as file:
        file.write(content)
    temporary.replace(target)
    return target
