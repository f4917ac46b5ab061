"""Reads which objects the logs of a project need; key-free (docs/format.md, section 6.4).

A second look reads only logs that are new or grew. Of a log that was pruned its stub says what it
refers to. What cannot be read is named, for whoever is about to delete something: an object that
nothing seems to need may be named by just that log.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from localstore import pruned
from localstore.errors import Damaged, Torn
from localstore.format import segment, spec
from localstore.format.references import LogRefs, RefFrame, Scan, needed, scan, vouched_cancels
from localstore.layout import FileName, log_name, parse_name
from localstore.trust import Belief

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from localstore.layout import ProjectPaths
    from localstore.trust import ProjectState

_PIECE_BYTES: Final = 4 * spec.MAX_FRAME_BODY_BYTES
_BELIEVED: Final = frozenset({Belief.TRUSTED})


@dataclass(slots=True, kw_only=True)
class _Log:
    """One log or fork as far as it was read."""

    file: FileName
    inode: int
    size: int
    header: segment.SegmentHeader
    scan: Scan
    cancels: dict[tuple[str, int], int]


@dataclass(frozen=True, slots=True)
class LogFacts:
    """One log or fork that is here.

    Attributes:
        size: of the file, in bytes. end: after its last whole frame.
        refers, cancels: whether REF, and UNREF, frames stand in it.
    """

    file: FileName
    header: segment.SegmentHeader
    size: int
    end: int
    refers: bool
    cancels: bool


class References:
    """The REF and UNREF frames of one project.

    Attributes:
        problems: logs that could not be read whole, by name: what they name is not known.
    """

    def __init__(self, paths: ProjectPaths) -> None:
        self._paths = paths
        self._logs: dict[str, _Log] = {}
        self._stubs: dict[str, tuple[int, pruned.LogStub]] = {}  # with the time of change, ns
        self._changed = False
        self.problems: dict[str, Damaged] = {}

    def look(self, spared: Collection[str] = ()) -> bool:
        """Read what is new since the last look.

        Args:
            spared: subjects (hex) whose logs do not matter.

        Returns:
            Whether anything was new, or is gone.
        """
        before, self._changed = set(self._logs), False
        self.problems = {}
        seen = set()
        for file in self._files(spared):
            try:
                if self._read(file):
                    seen.add(file.name)
            except FileNotFoundError:
                continue
            except OSError as error:
                self.problems[file.name] = Damaged(
                    f"cannot be read: {error.strerror}", file=file.name
                )
            except Damaged as problem:
                self.problems[file.name] = problem.at(file.name)
        self._logs = {name: log for name, log in self._logs.items() if name in seen}
        return self._look_at_stubs(spared) or self._changed or before != seen

    def _look_at_stubs(self, spared: Collection[str]) -> bool:
        """Take in what pruned logs refer to; whether anything changed."""
        before, self._stubs = self._stubs, {}
        for subject, own in pruned.stub_places(self._paths):
            name = log_name(subject, own)
            # A log that cannot be read is no less here: its stub may be old.
            if subject in spared or name in self._logs or name in self.problems:
                continue
            try:
                self._take_stub(name, subject, own, before)
            except Damaged as problem:
                self.problems[problem.file] = problem
        return self._stubs != before

    def _take_stub(
        self, name: str, subject: str, own: str, before: dict[str, tuple[int, pruned.LogStub]]
    ) -> None:
        with contextlib.suppress(FileNotFoundError):
            at_ns = pruned.stub_path(self._paths, subject, own).stat().st_mtime_ns
            known = before.get(name)
            if known is not None and known[0] == at_ns:
                self._stubs[name] = known
                return
            stub = pruned.read_stub(self._paths, subject, own)
            if stub is not None:
                self._stubs[name] = at_ns, stub

    def logs(self) -> Iterator[LogFacts]:
        """What the last look found of each log and fork that is here."""
        for log in self._logs.values():
            refs = bool(log.scan.refs)
            yield LogFacts(log.file, log.header, log.size, log.scan.end, refs, log.scan.cancels)

    def refs_of(self, name: str) -> dict[int, frozenset[str]]:
        """Object ids (hex) by REF frame, of one log that is here."""
        return dict(self._logs[name].scan.refs)

    def needed(
        self,
        state: ProjectState,
        erased: Collection[str],
        believed: Collection[Belief] = _BELIEVED,
        also: Collection[RefFrame] = (),
    ) -> dict[str, list[str]]:
        """Objects (hex) that are needed, and by which logs and forks.

        Args:
            erased: subjects (hex) whose tombstone is in force.
            believed: whose UNREF frames count. Who deletes takes the default.
            also: REF frames that do not count either.
        """
        living = [log for log in self._logs.values() if log.file.subject not in erased]
        cancelled = [
            RefFrame(log.file.subject, *one)
            for log in living
            if log.cancels and state.judge_cancel(log.header).belief in believed
            for one in log.cancels
        ]
        here = (
            LogRefs(log.file.name, log.file.subject, log.file.segment, log.scan.refs)
            for log in living
        )
        elsewhere = (
            LogRefs(stub.name, stub.subject, stub.segment, stub.refs)
            for _, stub in self._stubs.values()
            if stub.subject not in erased
        )
        return needed((*here, *elsewhere), (*cancelled, *also))

    def _files(self, spared: Collection[str]) -> Iterator[FileName]:
        for folder in _names(self._paths.runs):
            if folder not in spared:
                for leaf in _names(self._paths.runs / folder):
                    if leaf.endswith((".log", ".fork")):
                        with contextlib.suppress(Damaged):
                            yield parse_name(f"runs/{folder}/{leaf}")

    def _read(self, file: FileName) -> bool:
        """Take in one file; False when not even its header is whole yet."""
        # Opened even if nothing is new: on a network file system that is what asks the server.
        handle = os.open(self._paths.file(file.name), os.O_RDONLY | os.O_NOFOLLOW)
        try:
            status = os.fstat(handle)
            known = self._logs.get(file.name)
            if known is not None and known.inode != status.st_ino:
                known = None
            if known is None or known.size > status.st_size:
                known = _begin(file, handle, status.st_ino)
            if known is None:
                return False
            if known.scan.end < status.st_size:
                _go_on(known, handle, status.st_size)
                self._changed = True
            self._logs[file.name] = known
        finally:
            os.close(handle)
        return True


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _begin(file: FileName, handle: int, inode: int) -> _Log | None:
    raw = os.pread(handle, spec.MAX_HEADER_BYTES, 0)
    try:
        header, start = segment.decode_header(raw)
    except Torn:
        return None  # its writer has just begun: it names nothing yet
    if (header.subject.hex(), header.segment.hex()) != (file.subject, file.segment):
        raise Damaged("the header of another segment")
    return _Log(file=file, inode=inode, size=start, header=header, scan=Scan(start), cancels={})


def _go_on(log: _Log, handle: int, size: int) -> None:
    """Read from the last whole frame to `size`, by pieces.

    Raises:
        Damaged: frames are broken or missing, and with them perhaps references.
    """
    found = log.scan
    while found.end < size:
        piece = os.pread(handle, min(_PIECE_BYTES, size - found.end), found.end)
        whole = found.end + len(piece) >= size or not piece
        try:
            more = scan(memoryview(piece), 0, found.next_index, whole=whole)
        except Damaged as problem:
            raise Damaged(problem.problem, offset=found.end + problem.offset) from problem
        if more.gap is not None:
            raise Damaged("frames are missing before this one", offset=found.end + more.gap)
        _join(found, more)
        if whole:
            break
    log.size = size
    if found.cancels:
        log.cancels = vouched_cancels(memoryview(os.pread(handle, size, 0)))


def _join(found: Scan, more: Scan) -> None:
    for index, ids in more.refs.items():
        found.refs[index] = found.refs.get(index, frozenset()) | ids
    found.end += more.end
    found.next_index, found.cancels = more.next_index, found.cancels or more.cancels
