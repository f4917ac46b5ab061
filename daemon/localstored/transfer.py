"""Carries out steps. Holds no ifs about policy; one bad file never stops the others.

A push is claimed only when the remote, asked to look at its bytes, confirms that they are ours. It
may be killed at any byte: what the remote holds then is the beginning of what we have, and the next
push goes on from there. A step is carried out in any thread, and says what it did in an `Outcome`.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, assert_never

from localstore import wake
from localstore.durable import sync_folder
from localstore.errors import Conflict, Damaged, LocalStoreError, Refused
from localstore.layout import FileKind, FileName, parse_name
from localstored import plan
from localstored.catalog import ABSENT, UNKNOWN
from localstored.gate import Withheld
from localstored.incoming import Incoming
from localstored.receipts import EMPTY_SHA256, Line
from localstored.remotes.base import MAX_PIECE_BYTES, Busy, Full, Stopped, Unreachable
from localstored.report import Note
from localstored.verify import check_file, sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import BinaryIO

    from localstore.layout import ProjectPaths
    from localstored.plan import Step
    from localstored.remotes.base import Remote

_TRIES: Final = 4  # another sync of this home may push the same file; each time it got further


@dataclass(slots=True)
class Outcome:
    """What one step did.

    Attributes:
        lines: what the remote acknowledged. sizes: what it has now, by name; see `catalog`.
        pushed, pulled, erased: files. pushed_bytes, pulled_bytes: bytes.
        notes: (list of the report, note). failed: it has to be tried again.
        busy, full: what the remote complained of.
        ended: the sync with this remote is over.
        unneeded: id of an object that may be freed here.
    """

    step: Step
    lines: list[Line] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    pushed: int = 0
    pushed_bytes: int = 0
    pulled: int = 0
    pulled_bytes: int = 0
    erased: int = 0
    notes: list[tuple[str, Note]] = field(default_factory=list)
    failed: bool = False
    busy: bool = False
    full: bool = False
    ended: Unreachable | Stopped | None = None
    unneeded: str = ""

    def note(self, where: str, reason: str, offset: int | None = None) -> None:
        """Something that a person should know of."""
        self.notes.append((where, Note(self.step.name, reason, offset)))


class Carrier:
    """Moves files between one project and one remote. Safe for many threads."""

    def __init__(self, paths: ProjectPaths, remote: Remote, clock: Callable[[], int]) -> None:
        self._paths, self._remote, self._clock = paths, remote, clock
        self._incoming = Incoming(paths, remote)

    def carry_out(self, step: Step, check: Callable[[], None]) -> Outcome:
        """Carry out one step.

        Args:
            check: is called before the step and between its pieces; may raise Stopped, Withheld.
        """
        out = Outcome(step)
        try:
            check()
            self._do(step, out, check)
        except (Unreachable, Stopped) as problem:
            out.ended, out.failed = problem, True
        except Withheld as problem:
            out.note("held", problem.held.reason)
            out.failed = True
        except (LocalStoreError, OSError) as problem:
            out.failed = True
            out.busy, out.full = isinstance(problem, Busy), isinstance(problem, Full)
            _sort_in(out, problem)
        if out.failed and plan.changes_remote(step):
            out.sizes[_name_there(step)] = UNKNOWN
        return out

    def _do(self, step: Step, out: Outcome, check: Callable[[], None]) -> None:  # noqa: C901 - one flat table of all steps
        match step:
            case plan.PushCreate(name, size):
                self._push(name, name, size, None, out, check)
            case plan.PushAppend(name, offset, size):
                self._push(name, name, size, offset, out, check)
            case plan.PullCreate(name, size):
                whole = self._incoming.create(name, parse_name(name), size, check)
                self._pulled(name, whole, 0, out)
            case plan.PullAppend(name, offset, size):
                whole = self._incoming.append(parse_name(name), offset, size, check)
                self._pulled(name, whole, offset, out)
            case plan.Fork():
                self._fork(step, out, check)
            case plan.Heal(name, size):
                self._check_own(name)
                self._remote.delete(self._there(name))
                self._push(name, name, size, None, out, check)
            case plan.Settle(name, size, sha256):
                self._acknowledged(name, size, sha256, out)
            case plan.EraseRemote(name):
                self._remote.delete(self._there(name))
                self._acknowledged(name, 0, EMPTY_SHA256, out)
                out.sizes[name], out.erased = ABSENT, 1
            case plan.EraseLocal(name):
                self._erase(parse_name(name), out)
            case plan.Hold(_, reason):
                out.note("held", reason)
            case plan.Refuse(_, reason):
                raise Refused(reason)
            case _:
                assert_never(step)

    def _fork(self, step: plan.Fork, out: Outcome, check: Callable[[], None]) -> None:
        out.note("forks", str(step))
        if step.push_as:
            self._push(step.name, step.push_as, step.push_size, None, out, check)
        if step.pull_as:
            self._incoming.create(step.name, parse_name(step.pull_as), step.pull_size, check)
            out.pulled += 1
            out.pulled_bytes += step.pull_size

    def _there(self, name: str) -> str:
        return f"projects/{self._paths.id}/{name}"

    # -------------------------------------------------------------- out
    def _push(
        self,
        name: str,
        as_name: str,
        size: int,
        start: int | None,
        out: Outcome,
        check: Callable[[], None],
    ) -> None:
        """Bring the first `size` bytes of a file to the remote, of which it has `start`.

        Raises:
            Conflict: the remote does not confirm our bytes.
        """
        path, there = self._paths.file(name), self._there(as_name)
        sha256 = self._check_own(name)
        out.pushed_bytes += self._send(path, there, size, start, check)
        if not self._remote.confirm(there, size, path):
            if parse_name(as_name).kind is not FileKind.OBJECT:
                raise Conflict("the remote does not confirm the bytes that it was sent")
            # What stood there was not the beginning of this object: nobody can want it.
            self._remote.delete(there)
            out.pushed_bytes += self._send(path, there, size, None, check)
            if not self._remote.confirm(there, size, path):
                raise Conflict("the remote does not confirm the bytes that it was sent")
        out.sizes[as_name], out.pushed = size, out.pushed + 1
        self._acknowledged(as_name, size, sha256 or sha256_of(path, size), out)

    def _check_own(self, name: str) -> str:
        """Hold a file of ours against its name; its SHA-256 where that was computed on the way."""
        file = parse_name(name)
        if file.kind is not FileKind.LOG:
            check_file(self._paths.file(name), file, self._paths.id)
        return file.hash if file.kind is FileKind.OBJECT else ""

    def _send(
        self, path: Path, there: str, size: int, start: int | None, check: Callable[[], None]
    ) -> int:
        """Returns how many bytes were sent."""
        with path.open("rb") as source:
            for _ in range(_TRIES):
                try:
                    return self._send_from(source, there, size, start, check)
                except Conflict:
                    start = self._agreed(path, there, size)
        raise Conflict("somebody else keeps writing to it on the remote")

    def _send_from(
        self, source: BinaryIO, there: str, size: int, start: int | None, check: Callable[[], None]
    ) -> int:
        source.seek(start or 0)
        at = start or 0
        while at < size or start is None:
            piece = source.read(min(MAX_PIECE_BYTES, size - at))
            if at < size and not piece:
                raise Damaged(f"{size - at} bytes shorter than it was", offset=at)
            if start is None:
                self._remote.create(there, piece)
                start = 0
            else:
                self._remote.append(there, at, piece)
            at += len(piece)
            if at < size:
                check()
        return max(0, at - (start or 0))

    def _agreed(self, path: Path, there: str, size: int) -> int | None:
        """How many bytes the remote has of ours; None: it has no such file.

        Raises:
            Conflict: it has other bytes.
        """
        theirs = self._remote.have([there]).get(there)
        if theirs is None:
            return None
        both = min(theirs, size)
        if self._remote.digest(there, both).hex() != sha256_of(path, both):
            raise Conflict("the remote holds other bytes under this name")
        return both

    def _acknowledged(self, name: str, size: int, sha256: str, out: Outcome) -> None:
        out.lines.append(Line(name, size, sha256, self._clock()))

    # -------------------------------------------------------------- in
    def _pulled(self, name: str, size: int, before: int, out: Outcome) -> None:
        if size == before:
            return
        out.pulled, out.pulled_bytes = 1, size - before
        self._acknowledged(name, size, sha256_of(self._paths.file(name), size), out)

    def _erase(self, file: FileName, out: Outcome) -> None:
        if file.kind is FileKind.OBJECT:
            out.unneeded = file.hash  # all at once, when nobody has named them meanwhile
            return
        path = self._paths.file(file.name)
        path.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):  # its last file went at the same moment
            sync_folder(path.parent)
        if path.parent.parent != self._paths.root:
            with contextlib.suppress(OSError):
                path.parent.rmdir()  # a subject's folder; not empty until its last file is gone
            wake.forget(self._paths, file.subject)
        out.erased = 1


def _name_there(step: Step) -> str:
    return step.push_as or step.name if isinstance(step, plan.Fork) else step.name


def _sort_in(out: Outcome, problem: LocalStoreError | OSError) -> None:
    pulls = isinstance(out.step, plan.PullCreate | plan.PullAppend | plan.Fork)
    if isinstance(problem, Damaged):
        # Our own damage stands in the inventory or shows when a file is about to leave.
        out.note("refused" if pulls else "damaged", problem.problem, problem.offset)
    elif isinstance(problem, Refused):
        out.note("refused", str(problem))
    else:
        out.note("errors", str(problem))
