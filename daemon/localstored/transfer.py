"""Carries out a plan's steps. Holds no ifs about policy; one bad file never stops the others.

A push is claimed only when the remote, asked to look at its bytes, confirms that they are ours. It
may be killed at any byte: what the remote holds then is the beginning of what we have, and the next
push goes on from there.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, assert_never

from localstore.durable import sync_folder
from localstore.errors import Conflict, Damaged, LocalStoreError, Refused
from localstore.layout import FileKind, FileName, parse_name
from localstored import plan
from localstored.incoming import Incoming
from localstored.receipts import BATCH_LINES, EMPTY_SHA256, Line
from localstored.remotes.base import MAX_PIECE_BYTES, Unreachable
from localstored.report import Note
from localstored.verify import check_file, sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from typing import BinaryIO

    from localstore.layout import ProjectPaths
    from localstored.catalog import Catalog
    from localstored.plan import Step
    from localstored.receipts import ReceiptFile
    from localstored.remotes.base import Remote
    from localstored.report import ProjectReport

_TRIES: Final = 4  # another sync of this home may push the same file; each time it got further


class Carrier:
    """Moves files between one project and one remote, and writes down what happened."""

    def __init__(
        self,
        paths: ProjectPaths,
        remote: Remote,
        catalog: Catalog,
        receipts: ReceiptFile,
        report: ProjectReport,
        clock: Callable[[], int],
        free: Callable[[frozenset[str]], int],
    ) -> None:
        """`free` frees objects (ids in hex) here, as far as nothing needs them; counts them."""
        self._paths, self._remote, self._report = paths, remote, report
        self._catalog, self._receipts, self._clock = catalog, receipts, clock
        self._incoming, self._free = Incoming(paths, remote), free
        self._lines: list[Line] = []
        self._unneeded: set[str] = set()

    def carry_out(self, steps: Iterable[Step], on_step: Callable[[Step], None]) -> None:
        """Carry out steps in order; what fails stands in the report.

        Raises:
            Unreachable: the remote is gone; what was done until then is written down.
        """
        try:
            for step in steps:
                self._try(step)
                on_step(step)
            self._free_objects()
        finally:
            self.flush()

    def _try(self, step: Step) -> None:
        pulls = isinstance(step, plan.PullCreate | plan.PullAppend | plan.Fork)
        try:
            self._do(step)
        except Unreachable:
            raise
        except Damaged as problem:
            # Our own damage stands in the inventory or shows when a file is about to leave.
            notes = self._report.refused if pulls else self._report.damaged
            notes.append(Note(step.name, problem.problem, problem.offset))
        except Refused as problem:
            self._report.refused.append(Note(step.name, str(problem)))
        except (LocalStoreError, OSError) as problem:
            self._report.errors.append(Note(step.name, str(problem)))

    def _do(self, step: Step) -> None:  # noqa: C901 - one flat table of all steps
        match step:
            case plan.PushCreate(name, size):
                self._push(name, name, size, None)
            case plan.PushAppend(name, offset, size):
                self._push(name, name, size, offset)
            case plan.PullCreate(name, size):
                self._pulled(name, self._incoming.create(name, parse_name(name), size), 0)
            case plan.PullAppend(name, offset, size):
                self._pulled(name, self._incoming.append(parse_name(name), offset, size), offset)
            case plan.Fork():
                self._fork(step)
            case plan.Heal(name, size):
                self._check_own(name)
                self._remote.delete(self._incoming.remote_name(name))
                self._push(name, name, size, None)
            case plan.Settle(name, size, sha256):
                self._note_receipt(name, size, sha256)
            case plan.EraseRemote(name):
                self._remote.delete(self._incoming.remote_name(name))
                self._note_receipt(name, 0, EMPTY_SHA256)
                self._report.erased += 1
            case plan.EraseLocal(name):
                self._erase(parse_name(name))
            case plan.Hold(name, reason):
                self._report.held.append(Note(name, reason))
            case plan.Refuse(name, reason):
                raise Refused(reason)
            case _:
                assert_never(step)

    def _fork(self, step: plan.Fork) -> None:
        self._report.forks.append(Note(step.name, str(step)))
        if step.push_as:
            self._push(step.name, step.push_as, step.push_size, None)
        if step.pull_as:
            self._incoming.create(step.name, parse_name(step.pull_as), step.pull_size)
            self._report.pulled += 1
            self._report.pulled_bytes += step.pull_size

    # -------------------------------------------------------------- out
    def _push(self, name: str, as_name: str, size: int, start: int | None) -> None:
        """Bring the first `size` bytes of a file to the remote, of which it has `start`."""
        path = self._paths.file(name)
        self._check_own(name)
        with path.open("rb") as source:
            self._report.pushed_bytes += self._send(source, path, as_name, size, start)
        self._acknowledge(path, as_name, size)
        self._report.pushed += 1

    def _check_own(self, name: str) -> None:
        file = parse_name(name)
        if file.kind is not FileKind.LOG:
            check_file(self._paths.file(name), file, self._paths.id)

    def _send(self, source: BinaryIO, path: Path, name: str, size: int, start: int | None) -> int:
        """Returns how many bytes were sent."""
        there = self._incoming.remote_name(name)
        for _ in range(_TRIES):
            try:
                return self._send_from(source, there, size, start)
            except Conflict:
                start = self._agreed(path, there, size)
        raise Conflict("somebody else keeps writing to it on the remote")

    def _send_from(self, source: BinaryIO, there: str, size: int, start: int | None) -> int:
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

    def _acknowledge(self, path: Path, name: str, size: int) -> None:
        """Let the remote look at what it has, and believe nothing else.

        Raises:
            Conflict: the remote does not hold our bytes.
        """
        there = self._incoming.remote_name(name)
        if not self._remote.confirm(there, size, path):
            raise Conflict("the remote does not confirm the bytes that it was sent")
        self._note_receipt(name, size, sha256_of(path, size))

    # -------------------------------------------------------------- in
    def _pulled(self, name: str, size: int, before: int) -> None:
        if size == before:
            return
        self._report.pulled += 1
        self._report.pulled_bytes += size - before
        self._note_receipt(name, size, sha256_of(self._paths.file(name), size))

    def _erase(self, file: FileName) -> None:
        if file.kind is FileKind.OBJECT:
            self._unneeded.add(file.hash)  # all at once, when nobody has named them meanwhile
            return
        path = self._paths.file(file.name)
        path.unlink(missing_ok=True)
        sync_folder(path.parent)
        if path.parent.parent != self._paths.root:
            with contextlib.suppress(OSError):
                path.parent.rmdir()  # a subject's folder; not empty until its last file is gone
        self._report.erased += 1

    def _free_objects(self) -> None:
        if self._unneeded:
            gone, self._unneeded = frozenset(self._unneeded), set()
            try:
                self._report.erased += self._free(gone)
            except (LocalStoreError, OSError) as problem:
                self._report.errors.append(Note("objects", str(problem)))

    # -------------------------------------------------------------- receipts
    def note_gone(self, names: Iterable[str]) -> None:
        """Write down that the remote has erased files: another home asked it to."""
        for name in names:
            self._note_receipt(name, 0, EMPTY_SHA256)
        self.flush()

    def _note_receipt(self, name: str, size: int, sha256: str) -> None:
        self._lines.append(Line(name, size, sha256, self._clock()))
        if len(self._lines) >= BATCH_LINES:
            self.flush()

    def flush(self) -> None:
        """Make the receipts durable, then the cursors that follow from them."""
        if self._lines:
            self._receipts.append(self._lines)
            self._lines = []
            self._catalog.catch_up(self._receipts)
        self._catalog.save()
