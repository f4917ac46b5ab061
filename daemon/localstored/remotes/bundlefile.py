"""A remote in a file: a bundle, which a person carries to where no network goes.

The file only grows: a record for each piece, each deletion, each list of what the receiver has
already. So it may be cut anywhere, and the next export goes on there. One process writes it at a
time; it is durable at groups of records and at its end, not after each of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from localstore.errors import Conflict, Damaged, NotFound, Refused, Torn
from localstore.format import spec
from localstore.layout import FileKind
from localstored.remotes.base import (
    MAX_PIECE_BYTES,
    Capabilities,
    Entry,
    Unreachable,
    check_name,
    check_piece,
    left_to_append,
    missing,
)
from localstored.remotes.bundleformat import (
    PART_HEADER_BYTES,
    RECORD_LEAST_BYTES,
    SIGNATURE_BYTES,
    Kind,
    Signature,
    encode_assumed,
    make_record,
    next_chain,
    signed_message,
)
from localstored.remotes.bundleopening import add_part, begun, scanned, speaking
from localstored.remotes.bundlescan import UNSURE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from localstored.remotes.bundleformat import Assumed
    from localstored.remotes.bundleindex import Extent, Held
    from localstored.remotes.bundlescan import Findings, Scan

LEAST_PART_BYTES: Final = 8 * 1024 * 1024  # what a person may ask for
FAT_PART_BYTES: Final = 4 * 1024**3 - 1  # the largest file of FAT
_GROUP_BYTES: Final = UNSURE_BYTES // 2  # between two times that the disk is asked to keep them


@dataclass(frozen=True, slots=True)
class Signer:
    """A device that vouches: its public key, its certificate (the file), and how it signs.

    `sign` takes a label of `localstore.format.spec` and a message.
    """

    device: bytes
    cert: bytes
    sign: Callable[[bytes, bytes], bytes]


class BundleFile:
    """A bundle as a remote. Made by `for_reading` and `for_writing`."""

    def __init__(self, scan: Scan, *, part_bytes: int, writable: bool) -> None:
        self._scan, self._part_bytes, self._writable = scan, part_bytes, writable
        self._index = scan.index
        self._local: Callable[[str], Path | None] = lambda _: None
        self._fits: dict[str, bool] = {}
        self._sorted: list[str] | None = None  # all names, of a bundle that is only read
        self._incomplete = "" if writable else scan.index.incomplete()
        self._unsynced, self._lock = 0, threading.RLock()
        self._last: tuple[int, int, bytes] = (0, 0, b"")  # the piece that was read last

    # -------------------------------------------------------------- opening
    @classmethod
    def for_reading(
        cls, path: Path, *, local: Callable[[str], Path | None] | None = None
    ) -> BundleFile:
        """Open a bundle to take from it; it is not changed.

        Args:
            local: where the file of a remote's name lies here. A log of which the bundle has the
                end alone is offered where its beginning lies here, with the assumed bytes.

        Raises:
            NotFound: no such file. Unreachable: it cannot be read.
            Damaged: not a bundle, or not the first part of one.
        """
        try:
            bundle = cls(scanned(path, write=False), part_bytes=0, writable=False)
        except OSError as error:
            raise Unreachable(f"{path} cannot be read: {error.strerror}") from error
        if local is not None:
            bundle._local = local
        return bundle

    @classmethod
    def for_writing(cls, path: Path, *, part_bytes: int = 0, now_us: int = 0) -> BundleFile:
        """Begin a bundle, or go on with the one that is there.

        Args:
            part_bytes: each part is smaller; 0: one part of any size.
            now_us: Unix time in microseconds, for a new one.

        Raises:
            UsageError: another file stands there.
            Damaged: the bundle is damaged, or lacks parts; what was cut at its end is no damage.
            Unreachable: it cannot be written, or another export writes to it.
            Full: no room.
        """
        with speaking(path):
            try:
                scan = scanned(path, write=True)
            except (NotFound, Torn):
                scan = begun(path, now_us)
        return cls(scan, part_bytes=part_bytes, writable=True)

    def close(self) -> None:
        """Make it durable, and let its files go."""
        with self._lock:
            try:
                if self._writable:
                    self.flush()
            finally:
                self._scan.close()

    @property
    def id(self) -> str:
        """See `Remote.id`."""
        return self._scan.header.bundle.hex()

    @property
    def created_us(self) -> int:
        """When it was begun, Unix time in microseconds, as its writer claims."""
        return self._scan.header.created_us

    @property
    def findings(self) -> Findings:
        """What opening it found beside its files."""
        return self._scan.findings

    @property
    def path(self) -> Path:
        """Its first part."""
        return self._scan.path

    @property
    def incomplete(self) -> str:
        """The file that the end of a cut bundle may have cut, which is not offered; or empty."""
        return self._incomplete

    @property
    def files(self) -> Mapping[str, Held]:
        """Everything that the records say, by name: also what is not offered."""
        return self._index.files

    @property
    def capabilities(self) -> Capabilities:
        """Written by one at a time; what is only read cannot be deleted from."""
        if self._writable:
            return Capabilities(max_parallel=1)
        return Capabilities(can_delete=False, max_parallel=4)

    # -------------------------------------------------------------- reading
    def projects(self) -> Iterator[str]:
        """See `Remote.projects`."""
        with self._lock:
            found = {name.split("/", 2)[1] for name in self._index.files}
        yield from sorted(found)

    def list(self, prefix: str) -> Iterator[Entry]:
        """See `Remote.list`; of a bundle that is written also what is assumed."""
        with self._lock:
            named = [(name, self._index.files[name]) for name in self._names(prefix)]
        for name, held in named:
            if self._offers(name, held):
                yield Entry(name, held.size)

    def _names(self, prefix: str) -> Sequence[str]:
        """Names that begin with `prefix`: a hostile bundle has many projects, each is asked for."""
        if self._writable:
            return [name for name in self._index.files if name.startswith(prefix)]
        if self._sorted is None:
            self._sorted = sorted(self._index.files)
        first = bisect_left(self._sorted, prefix)
        return self._sorted[first : bisect_left(self._sorted, f"{prefix}\x7f")]

    def have(self, names: Collection[str]) -> Mapping[str, int]:
        """See `Remote.have`."""
        found = {}
        for name in names:
            with contextlib.suppress(NotFound):
                found[name] = self._held(name).size
        return found

    def read(self, name: str, offset: int, length: int) -> bytes:
        """See `Remote.read`; what is assumed is read here."""
        held, pieces = self._held(name), []
        length = max(0, min(length, held.size - offset))
        while length > 0:
            piece = self._piece(name, held, offset, length)
            pieces.append(piece)
            offset, length = offset + len(piece), length - len(piece)
        return b"".join(pieces)

    def _piece(self, name: str, held: Held, offset: int, length: int) -> bytes:
        """Some bytes from `offset` on, at least one."""
        if offset < held.base:
            return self._assumed(name, offset, min(length, held.base - offset, MAX_PIECE_BYTES))
        at = bisect_right(held.extents, offset, key=lambda extent: extent.offset) - 1
        extent = held.extents[at]
        begin = offset - extent.offset
        return self._data(extent)[begin : begin + length]

    def _assumed(self, name: str, offset: int, length: int) -> bytes:
        path = self._local(name)
        if path is None:
            raise Refused(f"the first bytes of {name} are not in this bundle")
        with path.open("rb") as file:
            file.seek(offset)
            piece = file.read(length)
        if not piece:
            raise Refused(f"{name} became shorter here")
        return piece

    def _data(self, extent: Extent) -> bytes:
        """A whole piece, checked against its record.

        Raises:
            Damaged: the bytes are not those that were written.
        """
        number, at, data = self._last
        if (number, at) == (extent.part, extent.at) and len(data) == extent.length:
            return data
        part = self._scan.parts[extent.part]
        with speaking(part.path):
            data = part.read(extent.at, extent.length)
        if hashlib.sha256(data).digest() != extent.sha256:
            raise Damaged("data whose hash does not fit", file=str(part.path), offset=extent.at)
        self._last = extent.part, extent.at, data
        return data

    def peek(self, name: str, length: int) -> bytes:
        """The first bytes of a file's first piece as they lie there, unchecked and maybe fewer."""
        held = self._index.files[name]
        if held.base or not held.extents:
            return b""
        first = held.extents[0]
        with speaking(self.path):
            return self._scan.parts[first.part].read(first.at, min(length, first.length))

    def damage(self, name: str) -> str:
        """What is wrong with the bytes of a file; empty when they are those that were written."""
        try:
            for extent in self._index.files[name].extents:
                self._data(extent)
        except Damaged as problem:
            return str(problem)
        return ""

    def digest(self, name: str, length: int) -> bytes:
        """See `Remote.digest`."""
        held = self._held(name)
        if length > held.size:
            raise Refused(f"{name} has {held.size} bytes, not {length}")
        if self._writable and held.base:
            if length != held.base:
                raise Refused(f"the first bytes of {name} are not in this bundle")
            return held.base_sha256
        state, at = hashlib.sha256(), 0
        while at < length:
            piece = self._piece(name, held, at, length - at)
            state.update(piece)
            at += len(piece)
        return state.digest()

    def confirm(self, name: str, length: int, source: Path) -> bool:
        """See `Remote.confirm`; of assumed bytes their hash is compared."""
        held = self._held(name)
        if length > held.size:
            return False
        at = 0
        with source.open("rb") as here, contextlib.suppress(Damaged):
            if self._writable and held.base:
                if _sha256(here, held.base) != held.base_sha256:
                    return False
                at = held.base
            while at < length:
                piece = self._piece(name, held, at, length - at)
                if here.read(len(piece)) != piece:
                    return False
                at += len(piece)
        return at >= length

    def _held(self, name: str) -> Held:
        check_name(name)
        held = self._index.files.get(name)
        if held is None or not self._offers(name, held):
            raise missing(name)
        return held

    # -------------------------------------------------------------- what is offered
    def _offers(self, name: str, held: Held) -> bool:
        if self._writable:
            return True
        if not held.extents or name == self._incomplete:
            return False
        return not held.base or self._continues(name, held)

    def _continues(self, name: str, held: Held) -> bool:
        """Whether the bytes that are assumed before the first piece lie here."""
        if name not in self._fits:
            self._fits[name] = self._look(name, held)
        return self._fits[name]

    def _look(self, name: str, held: Held) -> bool:
        if check_name(name)[1].kind is not FileKind.LOG:
            return False
        path = self._local(name)
        try:
            if path is None or path.stat().st_size < held.base:
                return False
            with path.open("rb") as file:
                return _sha256(file, held.base) == held.base_sha256
        except OSError:
            return False

    def unmet(self) -> Sequence[str]:
        """Logs whose end is here in vain: their beginning is not here, or is another."""
        return sorted(
            name
            for name, held in self._index.files.items()
            if held.base and held.extents and not self._continues(name, held)
        )

    # -------------------------------------------------------------- writing
    def create(self, name: str, data: bytes) -> None:
        """See `Remote.create`."""
        check_piece(data)
        check_name(name)
        with self._lock:
            self._check_writable()
            held = self._index.files.get(name)
            if held is None:
                self._record(Kind.PUT, name, data)
            elif held.base or held.size != len(data) or self.read(name, 0, len(data)) != data:
                raise Conflict(f"other bytes under {name}")

    def append(self, name: str, offset: int, data: bytes) -> None:
        """See `Remote.append`."""
        check_piece(data)
        with self._lock:
            held = self._held(name)
            self._check_writable()
            inside = offset < held.size and offset >= held.base
            present = self.read(name, offset, len(data)) if inside else b""
            if offset < held.base:
                present = b"?" + data  # nobody can compare: never the same
            rest = left_to_append(name, offset, data, held.size, present)
            if rest:
                self._record(Kind.PUT, name, rest, held.size)

    def delete(self, name: str) -> None:
        """See `Remote.delete`."""
        check_name(name)
        with self._lock:
            self._check_writable()
            if name in self._index.files:
                self._record(Kind.DELETE, name)

    def assume(self, project: str, files: Iterable[Assumed]) -> None:
        """Write down what the receiver is known to hold of a project, but for what is in here."""
        folder = f"projects/{project}/"
        with self._lock:
            self._check_writable()
            new = (file for file in files if folder + file.name not in self._index.files)
            for data in encode_assumed(new):
                self._record(Kind.ASSUMED, folder, data)

    def finish(self, signers: Sequence[Signer], now_us: int) -> None:
        """Say that everything is in, let devices vouch for it, and make it durable."""
        with self._lock:
            self._check_writable()
            scan, index = self._scan, self._index
            if index.ended and (index.signed or not signers):
                self.flush()
                return
            self._record(Kind.END, "")
            for signer in signers:
                # It signs what is before it, which the end of a part must be, too.
                self._make_room(RECORD_LEAST_BYTES + SIGNATURE_BYTES + len(signer.cert))
                message = signed_message(
                    scan.header.bundle, scan.count, scan.chain, signer.cert, now_us
                )
                said = signer.sign(spec.SIGN_BUNDLE, message)
                signature = Signature(signer.device, now_us, said, signer.cert)
                self._record(Kind.SIGNATURE, "", signature.encode())
            self.findings.ended = True
            self.flush()

    def flush(self) -> None:
        """Make everything durable that was written."""
        with self._lock, speaking(self.path):
            if self._unsynced:
                self._scan.parts[self._scan.number].sync()
                self._unsynced = 0

    def parts(self) -> Sequence[Path]:
        """The files of this bundle, in order."""
        return [self._scan.parts[number].path for number in sorted(self._scan.parts)]

    def _check_writable(self) -> None:
        if not self._writable:
            raise Refused("this bundle is only read")

    def _record(self, kind: Kind, name: str, data: bytes = b"", offset: int = 0) -> None:
        scan = self._scan
        self._make_room(RECORD_LEAST_BYTES + len(name) + len(data))
        record = make_record(kind, scan.count, name, data, offset)
        self._write(record.raw, data)
        data_at = scan.end + len(record.raw)
        self._index.apply(record, data, scan.number, data_at)
        scan.end, scan.count = scan.end + record.size, scan.count + 1
        scan.chain = next_chain(scan.chain, record)
        self._unsynced += record.size
        if self._unsynced >= _GROUP_BYTES:
            self.flush()

    def _write(self, *pieces: bytes) -> None:
        part = self._scan.parts[self._scan.number]
        with speaking(part.path):
            part.write(self._scan.end, *pieces)

    def _make_room(self, size: int) -> None:
        """Close this part, and begin the next one, when a record of this size does not fit."""
        scan = self._scan
        if scan.number not in scan.parts:  # it could not be made when it was its turn
            add_part(scan)
        if not self._part_bytes or scan.end + size + RECORD_LEAST_BYTES < self._part_bytes:
            return
        if PART_HEADER_BYTES + size + RECORD_LEAST_BYTES >= self._part_bytes:
            raise Refused(f"{size} bytes do not fit in a part of {self._part_bytes}")
        last = make_record(Kind.NEXT, scan.count)
        self._write(last.raw)
        scan.end, scan.count = scan.end + last.size, scan.count + 1
        scan.chain = next_chain(scan.chain, last)
        self._unsynced += last.size
        self.flush()
        scan.advance()
        add_part(scan)


def _sha256(file: BinaryIO, length: int) -> bytes:
    """Of the first bytes; the file stands behind them then."""
    state = hashlib.sha256()
    while length > 0:
        piece = file.read(min(MAX_PIECE_BYTES, length))
        if not piece:
            break
        state.update(piece)
        length -= len(piece)
    return state.digest()
