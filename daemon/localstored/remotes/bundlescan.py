"""Opens a bundle: all its parts in order, their records played, what is wrong with them named."""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from localstore import crypto
from localstore.errors import Damaged, Forged, NotFound, Refused, UsageError
from localstore.format import spec
from localstored.remotes.base import Unreachable
from localstored.remotes.bundleformat import (
    PART_HEADER_BYTES,
    Kind,
    PartHeader,
    decode_signature,
    first_chain,
    next_chain,
    signed_message,
)
from localstored.remotes.bundleindex import Index
from localstored.remotes.bundleparts import MAX_PARTS, Found, Part, part_path

if TYPE_CHECKING:
    from pathlib import Path

    from localstored.remotes.bundleparts import Hole

MAX_NOTES: Final = 100
_MAX_HOLES: Final = 1_000  # then the rest is left alone
_PARTS_AHEAD: Final = 16  # how many missing ones in a row are looked beyond
# What the disk may not have kept when the power went, although later bytes are there.
UNSURE_BYTES: Final = 128 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Vouched:
    """A signature of a bundle that fits.

    Attributes:
        device, cert: the Ed25519 public key that signed, and its certificate, as it claims.
        time_us: Unix time in microseconds, as the signer claims.
        records: how many records it covers, from the first on.
    """

    device: bytes
    cert: bytes
    time_us: int
    records: int


@dataclass(slots=True)
class Findings:
    """What opening a bundle found beside its files.

    Attributes:
        holes: bytes that are no whole records: part, offset, problem.
        refused: records that do not fit, or name what no file of a remote is called.
        missing: parts that are not there, or are not what their names say.
        signatures: those that fit. forged: how many do not.
        unchecked: signatures behind a hole, which nobody can check.
        records: how many were read. parts: how many files. size: bytes of all of them.
        ended: whether the export came to its end.
    """

    holes: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    signatures: list[Vouched] = field(default_factory=list)
    forged: int = 0
    unchecked: int = 0
    records: int = 0
    parts: int = 0
    size: int = 0
    ended: bool = False

    @property
    def whole(self) -> bool:
        """Whether every record is there, to the end of the export."""
        return self.ended and not (self.holes or self.refused or self.missing)


class Scan:
    """Reads a bundle from its first part on.

    Attributes:
        parts: the open ones, by number. index: what the records say.
        number, end: the last part, and where in it the next record goes.
        count, chain, before: records so far, the hash over them, bytes of the parts before.
        first_hole: where the first one of the last part begins; 0: it has none.
        holes_before: how many the parts before it have.
        recent: the latest records of the last part.
    """

    def __init__(self, path: Path, first: Part) -> None:
        self.path, self.parts, self.index = path, {1: first}, Index()
        self.header, self.findings = first.header, Findings()
        self.number, self.end, self.count, self.before = 1, PART_HEADER_BYTES, 0, 0
        self.chain = first_chain(self.header.bundle, self.header.created_us)
        self.recent: deque[Found] = deque()
        self.first_hole = 0
        self.holes_before = 0
        self._unbroken, self._holes = True, 0

    def close(self) -> None:
        """Let all parts go."""
        for part in self.parts.values():
            part.close()
        self.parts.clear()

    def run(self) -> None:
        """Take in every part.

        Raises:
            Damaged: the first is not the first part of a bundle.
        """
        header = self.header
        if header.number != 1 or header.start or header.records or header.chain != self.chain:
            raise Damaged("not the first part of a bundle").at(str(self.path), 0)
        goes_on = self._take(self.parts[1])
        while self._may_go_on() and (goes_on or self._more()):
            if not goes_on and self.number in self.parts and not self.first_hole:
                self._hole(f"{part_path(self.path, self.number)} ends early")
            part = self._open_next()
            goes_on = part is not None and self._take(part)
        self.findings.records = self.count
        self.findings.parts = len(self.parts)
        self.findings.size = sum(part.size for part in self.parts.values())
        self.findings.ended = self.index.ended and not goes_on

    def _may_go_on(self) -> bool:
        return self.number < MAX_PARTS and self._holes < _MAX_HOLES

    def _more(self) -> bool:
        ahead = range(self.number + 1, self.number + 1 + _PARTS_AHEAD)
        return any(part_path(self.path, number).exists() for number in ahead)

    def _hole(self, problem: str) -> None:
        self._unbroken, self._holes = False, self._holes + 1
        if len(self.findings.holes) < MAX_NOTES:
            self.findings.holes.append(problem)

    # -------------------------------------------------------------- parts
    def _open_next(self) -> Part | None:
        self.advance()
        path = part_path(self.path, self.number)
        try:
            part = Part.open(path)
        except NotFound:
            self._without(f"{path} is missing")
            return None
        except (Damaged, UsageError, Unreachable) as problem:
            self._without(str(problem))
            return None
        wrong = self._wrong(part.header)
        if wrong:
            part.close()
            self._without(f"{path} {wrong}")
            return None
        self.parts[self.number] = part
        self._follows(part)
        return part

    def advance(self) -> None:
        """Go to the beginning of the next part."""
        self.before += self.end - PART_HEADER_BYTES
        self.number, self.end = self.number + 1, PART_HEADER_BYTES
        self.first_hole, self.holes_before = 0, len(self.findings.holes)
        self.recent.clear()

    def _without(self, problem: str) -> None:
        self._unbroken = False
        if len(self.findings.missing) < MAX_NOTES:
            self.findings.missing.append(problem)

    def _wrong(self, header: PartHeader) -> str:
        if header.bundle != self.header.bundle:
            return f"belongs to another bundle, {header.bundle.hex()}"
        if header.number != self.number:
            return f"is part {header.number} of this bundle"
        return ""

    def _follows(self, part: Part) -> None:
        header = part.header
        where = (header.start, header.records, header.chain)
        if where != (self.before, self.count, self.chain):
            if self._unbroken:
                self._hole(f"{part.path} does not follow the part before it")
            self.before, self.count, self.chain = where

    # -------------------------------------------------------------- records
    def _take(self, part: Part) -> bool:
        """Play a part's records; returns whether it says that another follows."""
        goes_on = False
        for found in part.scan():
            if isinstance(found, Found):
                goes_on = found.record.kind == Kind.NEXT
                self._play(part, found)
                self.end = found.end
            else:
                self._pass_over(part, found)
                goes_on = False
        return goes_on

    def _pass_over(self, part: Part, hole: Hole) -> None:
        self.first_hole = self.first_hole or hole.at
        rest = "" if hole.cut else f"; {hole.end - hole.at} bytes passed over"
        self._hole(f"{part.path} at byte {hole.at}: {hole.problem}{rest}")

    def _play(self, part: Part, found: Found) -> None:
        record = found.record
        if self._unbroken and record.index != self.count:
            self._hole(f"{part.path} at byte {found.at}: record {record.index}, want {self.count}")
        try:
            data = b"" if record.kind == Kind.PUT else _data(part, found)
            if record.kind == Kind.SIGNATURE:
                self._check(data)
            self.index.apply(record, data, self.number, found.data_at)
        except (Damaged, Refused) as problem:
            if len(self.findings.refused) < MAX_NOTES:
                self.findings.refused.append(f"{part.path} at byte {found.at}: {problem}")
        self.count, self.chain = record.index + 1, next_chain(self.chain, record)
        self._keep_recent(found)

    def _keep_recent(self, found: Found) -> None:
        self.recent.append(found)
        while self.recent and self.recent[0].at < found.end - UNSURE_BYTES:
            self.recent.popleft()

    def _check(self, data: bytes) -> None:
        said = decode_signature(data)
        if not self._unbroken:
            self.findings.unchecked += 1
            return
        message = signed_message(
            self.header.bundle, self.count, self.chain, said.cert, said.time_us
        )
        try:
            crypto.check_signature(said.device, spec.SIGN_BUNDLE, message, said.signature)
        except Forged:
            self.findings.forged += 1
            return
        if len(self.findings.signatures) < MAX_NOTES:
            vouched = Vouched(said.device, said.cert, said.time_us, self.count)
            self.findings.signatures.append(vouched)

    def unsure(self) -> int:
        """Where in the last part the first record stands whose data are not whole; 0: nowhere.

        A power cut may have kept heads of the latest records and lost their data.
        """
        for found in self.recent:
            try:
                _data(self.parts[self.number], found)
            except Damaged:
                return found.at
        return 0


def _data(part: Part, found: Found) -> bytes:
    """A record's data.

    Raises:
        Damaged: not those that its head names.
    """
    data = part.read(found.data_at, found.record.length)
    if hashlib.sha256(data).digest() != found.record.sha256:
        raise Damaged("data whose hash does not fit")
    return data
