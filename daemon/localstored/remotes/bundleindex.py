"""What a bundle holds: the outcome of its records, played in order. No file is touched here.

Every name is checked before it is kept, every number against what stands before it, and how much
is kept is bounded, whatever the records say.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from localstore.errors import Damaged, Refused
from localstore.layout import FileKind
from localstored.remotes.base import MAX_PIECE_BYTES, check_name
from localstored.remotes.bundleformat import (
    FIRST_IGNORABLE_KIND,
    LAST_IGNORABLE_KIND,
    Kind,
    decode_assumed,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localstored.remotes.bundleformat import Record

MAX_FILES: Final = 1_000_000  # of one bundle, assumed ones too; about 600 MB here
MAX_EXTENTS: Final = 4_000_000  # pieces; 16 TiB of large objects
MAX_FILE_BYTES: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Extent:
    """One piece: bytes from `offset` of a file stand at byte `at` of part `part`."""

    part: int
    at: int
    offset: int
    length: int
    sha256: bytes


@dataclass(slots=True)
class Held:
    """One file of a bundle.

    Attributes:
        base: bytes that are assumed, and not in here; `base_sha256` is theirs.
        size: bytes in all. extents: the pieces after the base, in order, without gaps.
    """

    base: int = 0
    base_sha256: bytes = b""
    size: int = 0
    extents: list[Extent] = field(default_factory=list)


class Index:
    """The files of a bundle by name."""

    def __init__(self) -> None:
        self.files: dict[str, Held] = {}
        self.extents = 0
        self.last_put = ""  # the file that a cut may have left incomplete
        self.ended = False  # nothing changed since an END
        self.signed = False  # somebody vouched for it since

    def apply(self, record: Record, data: bytes, part: int, data_at: int) -> None:
        """Play one record.

        Args:
            data: of a record that is no piece; its hash was compared.
            data_at: where in its part the data of a piece stand.

        Raises:
            Damaged, Refused: it does not fit what stands before it; nothing was changed.
        """
        if record.kind != Kind.PUT and record.offset:
            raise Damaged("a record with an offset that means nothing")
        if record.kind in (Kind.PUT, Kind.DELETE, Kind.ASSUMED):
            self.ended = False
        match record.kind:
            case Kind.PUT:
                self._put(record, part, data_at)
            case Kind.DELETE:
                self._delete(record)
            case Kind.ASSUMED:
                self._assume(_text(record.name), data)
            case Kind.END:
                self.ended, self.signed = True, False
            case Kind.SIGNATURE:
                self.signed = True
            case Kind.NEXT:
                return
            case kind if not FIRST_IGNORABLE_KIND <= kind <= LAST_IGNORABLE_KIND:
                raise Damaged(f"a record of the unknown kind {kind}")

    def _put(self, record: Record, part: int, data_at: int) -> None:
        name = _checked(record.name)
        held = self.files.get(name)
        size = held.size if held is not None else 0
        if record.offset != size or size + record.length > MAX_FILE_BYTES:
            raise Refused(f"a piece of {name} at {record.offset}, where {size} is its size")
        if held is not None and held.extents and not record.length:
            raise Refused(f"an empty piece of {name}")
        if self.extents >= MAX_EXTENTS:
            raise Refused(f"more than {MAX_EXTENTS} pieces")
        held = held if held is not None else self._new(name)
        held.extents.append(Extent(part, data_at, record.offset, record.length, record.sha256))
        held.size += record.length
        self.extents += 1
        self.last_put = name

    def _delete(self, record: Record) -> None:
        held = self.files.pop(_checked(record.name), None)
        self.extents -= len(held.extents) if held is not None else 0

    def _assume(self, folder: str, data: bytes) -> None:
        new: dict[str, Held] = {}
        for assumed in decode_assumed(data):
            name = _checked((folder + assumed.name).encode("ascii", "replace"))
            if name in self.files or name in new or assumed.size > MAX_FILE_BYTES:
                raise Refused(f"{name} is assumed beside what is there")
            new[name] = Held(assumed.size, assumed.sha256, assumed.size)
        if len(self.files) + len(new) > MAX_FILES:
            raise Refused(f"more than {MAX_FILES} files in one bundle")
        self.files |= new

    def _new(self, name: str) -> Held:
        if len(self.files) >= MAX_FILES:
            raise Refused(f"more than {MAX_FILES} files in one bundle")
        return self.files.setdefault(name, Held())

    def incomplete(self) -> str:
        """The file that a cut in the bundle may have cut; empty when there is none.

        Whoever was cut had put pieces of full length, and no shorter one behind them.
        """
        held = self.files.get(self.last_put)
        if self.ended or held is None or _grows(self.last_put):
            return ""
        full = held.extents and held.extents[-1].length == MAX_PIECE_BYTES
        return self.last_put if full else ""

    def projects(self) -> list[str]:
        """Ids of the projects that have files, sorted."""
        return sorted({name.split("/", 2)[1] for name in self.files})


def sizes(files: Mapping[str, Held], prefix: str) -> dict[str, int]:
    """Sizes in bytes of the files whose names begin with `prefix`."""
    return {name: held.size for name, held in files.items() if name.startswith(prefix)}


def _grows(name: str) -> bool:
    return check_name(name)[1].kind is FileKind.LOG


def _text(name: bytes) -> str:
    return name.decode("ascii", "replace")


def _checked(raw: bytes) -> str:
    name = _text(raw)
    check_name(name)
    return name
