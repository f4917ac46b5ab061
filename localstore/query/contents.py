"""What a run has beside its history: files, facts, console, measurements of its machine."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from localstore import crypto, pruned
from localstore.errors import AlreadyExists, BadName, Damaged, NotFound, StoreError, UsageError
from localstore.format.manifest import Entry, Part, as_part, check_path, is_size
from localstore.format.spec import HASH_BYTES, DataClass, RecordKind
from localstore.query.history import Table, merge
from localstore.query.listing import in_project
from localstore.reading import read_run
from localstore.store.placing import Folders
from localstore.tails import tail_folder
from localstore.trust import Belief

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from localstore.format.records import Record
    from localstore.project import Project
    from localstore.pruned import LogStub
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
    """A piece of what the program printed.

    Attributes:
        stream: `stdout` or `stderr`; all is `stdout` where both led to one place.
        text: whole lines; one that ends in CR is what a line showed for a while, and the next
            text of the same writer and stream replaces it.
        writer: tells the run's processes apart, 16 bytes.
    """

    time_us: int
    stream: str
    text: str
    writer: bytes = b""


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
        for _, record in self._by_writer(data_class):
            yield record

    def _by_writer(self, data_class: int) -> Iterator[tuple[bytes, Record]]:
        found = [
            (record[1], content.header.writer, sequence, record)
            for content in self._segments(data_class)
            for sequence, record in content.records.items()
        ]
        for _, writer, _, record in sorted(found, key=lambda item: item[:3]):
            yield writer, record

    def pruned(self, data_class: int) -> LogStub | None:
        """A log of a class that was pruned here; None when all of the class is here."""
        return next((one for one in self._stubs() if one.data_class == data_class), None)

    def _stubs(self) -> list[LogStub]:
        return list(pruned.absent_logs(self._project.paths, self._subject.hex()))

    def check_here(self, data_class: DataClass, what: str) -> None:
        """Make sure that no log of a class was pruned here.

        Raises:
            Pruned: one was.
        """
        stub = self.pruned(data_class)
        if stub is not None:
            raise pruned.error(self._project.paths, f"{what} of this run", stub.remote)

    # -------------------------------------------------------------- files
    def files(self, classes: Iterable[int] = WITH_FILES) -> list[RunFile]:
        """The files of some classes, each in its newest version, sorted by path."""
        newest: dict[str, RunFile] = {}
        for data_class in classes:
            for record in self._records(data_class):
                file = _as_file(record, data_class)
                if file is None:
                    continue
                before = newest.get(file.path)
                if before is None or before.time_us <= file.time_us:
                    newest[file.path] = file
        return [newest[path] for path in sorted(newest)]

    def file(self, path: str, classes: Iterable[int] = WITH_FILES) -> RunFile:
        """One file by its path.

        Raises:
            NotFound: the run has no such file; Pruned: it may be one of those that were pruned.
        """
        found = self.files(classes)
        for file in found:
            if file.path == path:
                return file
        for data_class in classes:
            self.check_here(DataClass(data_class), f"a part of the files, perhaps {path!r},")
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

    def write_file(self, file: RunFile, root: Path, *, replace: bool) -> Path:
        """Write one file below a folder, in pieces, checked against its hash.

        Raises:
            UsageError: its path leads elsewhere.
            AlreadyExists: there is another file of this name, and `replace` is not given.
            NotFound, Damaged: as `read_file`.
        """
        if file.data is not None or not file.parts:
            return write_below(root, file.path, self.read_file(file), replace=replace)
        target = place_below(root, file.path)
        if not replace and _is_another(target, file):
            raise _in_the_way(target)
        from localstore.store.objects import ObjectFiles
        from localstore.store.restore import restore

        objects = ObjectFiles(self._project.paths)
        for part in file.parts:
            if not objects.has(part.object_id):
                raise self._absent(file, part)
        restore(self._project, [Entry(file.path, file.size, file.hash, file.parts)], root)
        return target

    def _absent(self, file: RunFile, part: Part) -> NotFound:
        what, stub = f"{file.path!r}", pruned.object_stub(self._project.paths, part.object_id.hex())
        if stub is not None:
            return pruned.error(self._project.paths, what, stub.remote)
        return NotFound(
            f"the bytes of {what} are not here", hint="`localstore sync now` fetches them"
        )

    # -------------------------------------------------------------- who wrote it
    def doubts(self) -> list[str]:
        """Why to think twice before the code of this run is started, each once.

        Whoever may write to a project may add segments to any of its runs, and their facts and
        files count: those of machines that only write, of other people, of revoked devices.
        """
        found: dict[str, None] = {}
        for data_class in (DataClass.META, *WITH_FILES):
            for content in self._segments(data_class):
                device = self._project.state.devices.get(content.header.cert)
                if content.verdict.belief is Belief.FLAGGED:
                    found[f"parts of it were written {content.verdict.reason}"] = None
                elif device is None or device.user != self._project.identity.user:
                    found["parts of it were written by another person"] = None
                elif device.deposit:
                    found["parts of it were written by a machine that only writes"] = None
        return list(found)

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
        """What the program printed, in order.

        Raises:
            Pruned: it is not here any more.
        """
        self.check_here(DataClass.CONSOLE, "the output")
        out: list[OutputLine] = []
        for writer, record in self._by_writer(DataClass.CONSOLE):
            match record:
                case [RecordKind.OUTPUT, int(when), int(stream), str(text), *_]:
                    line = OutputLine(when, STREAMS.get(stream, "stdout"), text, writer)
                    # Once more in another segment, when the disk failed under the first.
                    if out[-1:] != [line]:
                        out.append(line)
        return out

    def system(self) -> Table:
        """Measurements of the machine, as a table whose steps count the samples.

        Raises:
            Pruned: they are not here any more.
        """
        self.check_here(DataClass.SYSTEM, "the measurements of the machine")
        return merge(self._segments(DataClass.SYSTEM))


def _is_another(target: Path, file: RunFile) -> bool:
    """Whether something else stands there."""
    try:
        found = target.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_size != file.size:
            return True
        with target.open("rb") as stream:
            return crypto.stream_hash(stream) != file.hash
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise StoreError(f"{str(target)!r}: {error.strerror}") from error


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
    held = sum(part.length for part in parts) if data is None else len(data)
    if not is_size(size) or size != held or len(hash_) != HASH_BYTES:
        return None
    facts = {key: value for key, value in rest.items() if isinstance(key, str)}
    return RunFile(
        path=path, data_class=int(data_class), size=size, hash=hash_, facts=facts,
        time_us=when, data=data, parts=parts,
    )  # fmt: skip


def _as_parts(lists: object) -> tuple[Part, ...] | None:
    if not isinstance(lists, list):
        return None
    parts = [as_part(one) for one in lists]
    return tuple(part for part in parts if part is not None) if None not in parts else None


def write_below(root: Path, name: str, content: bytes, *, replace: bool) -> Path:
    """Write a file of a run below a folder, through no link.

    Raises:
        UsageError: its path leads elsewhere.
        AlreadyExists: there is another file of this name, and `replace` is not given.
        StoreError: the disk refused, or takes no such name.
    """
    target = place_below(root, name)
    try:
        folders = Folders(root)
        try:
            folder = folders.get(name.rpartition("/")[0], make=True)
            if replace or not _is_there(folder, target, content):
                _write_in(folder, target.name, content)
        finally:
            folders.close()
    except IsADirectoryError:
        raise _in_the_way(target) from None
    except OSError as error:
        raise StoreError(f"{str(target)!r}: {error.strerror}") from error
    return target


def _is_there(folder: int, target: Path, content: bytes) -> bool:
    """Whether this very file stands there.

    Raises:
        AlreadyExists: something else does.
    """
    try:
        found = os.stat(target.name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    if stat.S_ISREG(found.st_mode) and found.st_size == len(content):
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        with os.fdopen(os.open(target.name, flags, dir_fd=folder), "rb") as file:
            if file.read(len(content) + 1) == content:
                return True
    raise _in_the_way(target)


def _write_in(folder: int, name: str, content: bytes) -> None:
    temporary = f".{secrets.token_hex(8)}.part"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        with os.fdopen(os.open(temporary, flags, 0o666, dir_fd=folder), "wb") as file:
            file.write(content)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise


def place_below(root: Path, name: str) -> Path:
    """Where a file of a run goes below a folder.

    Raises:
        UsageError: its path leads elsewhere.
    """
    try:
        check_path(name)
    except (Damaged, BadName) as problem:
        raise UsageError(f"{name!r} is no path below a folder") from problem
    target = root / name
    try:
        inside = target.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # a name too long for the disk; links in a circle
        inside = True
    if not inside:
        raise UsageError(f"{name!r} leads out of {str(root)!r}")
    return target


def _in_the_way(target: Path) -> AlreadyExists:
    return AlreadyExists(
        f"{str(target)!r} is there", hint="replace=True, or --force, writes over it"
    )
