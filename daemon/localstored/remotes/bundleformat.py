"""The bytes of a bundle (docs/protocol.md, section "Bundles"): pure, no file and no clock.

A part is a header, then records back to back. A record says by itself what it is, and by a hash
over all records before it where it belongs; its data are checked when they are read.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from localstore.errors import Damaged, Torn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAGIC: Final = b"LSBN\r\n\x1a\n"
VERSION: Final = 1
MARK: Final = b"LSBR"
MAX_DATA_BYTES: Final = 4 * 1024 * 1024  # a piece
MAX_NAME_BYTES: Final = 256
HASH_BYTES: Final = 32
_PART: Final = struct.Struct("<8sB3xI8sQ32sQQ")
_RECORD: Final = struct.Struct("<4sBBHIQQ32s")
_CRC: Final = struct.Struct("<I")
_ASSUMED: Final = struct.Struct("<Q32sH")
_SIGNATURE: Final = struct.Struct("<32sQ64s")
PART_HEADER_BYTES: Final = _PART.size + _CRC.size
RECORD_LEAST_BYTES: Final = _RECORD.size + _CRC.size
SIGNATURE_BYTES: Final = _SIGNATURE.size  # and the certificate behind it
MAX_CERT_BYTES: Final = 64 * 1024
RECORD_HEAD_MOST_BYTES: Final = RECORD_LEAST_BYTES + MAX_NAME_BYTES
MAX_RECORD_BYTES: Final = RECORD_HEAD_MOST_BYTES + MAX_DATA_BYTES
FIRST_IGNORABLE_KIND: Final = 64
LAST_IGNORABLE_KIND: Final = 127
_CHAIN: Final = b"localstore bundle 1\0"


class Kind(IntEnum):
    """What a record does."""

    PUT = 1  # a piece of a file, from `offset` on
    DELETE = 2  # the file is gone
    ASSUMED = 3  # files that the receiver is known to hold, and that are not in here
    NEXT = 4  # the bundle goes on in the next part
    END = 5  # whatever was to go in is in
    SIGNATURE = 6  # a device vouches for all records before


@dataclass(frozen=True, slots=True)
class PartHeader:
    """The first bytes of each part.

    Attributes:
        bundle: 8 random bytes, the same in all parts.
        number: from 1. created_us: of the bundle, the same in all parts.
        start: bytes of records in the parts before. records: how many those are.
        chain: the hash over them.
    """

    bundle: bytes
    number: int
    created_us: int
    start: int = 0
    records: int = 0
    chain: bytes = b""

    def encode(self) -> bytes:
        """The header's bytes."""
        chain = self.chain or first_chain(self.bundle, self.created_us)
        raw = _PART.pack(
            MAGIC, VERSION, self.number, self.bundle, self.start, chain,
            self.created_us, self.records,
        )  # fmt: skip
        return raw + _CRC.pack(zlib.crc32(raw))


def decode_part(raw: bytes) -> PartHeader:
    """Parse the beginning of a part.

    Raises:
        Torn: it ends inside the header.
        Damaged: not a part of a bundle, of another version, or damaged.
    """
    if raw[: len(MAGIC)] != MAGIC[: len(raw)]:
        raise Damaged("no bundle: wrong magic")
    if len(raw) < PART_HEADER_BYTES:
        raise Torn("ends inside its header")
    magic, version, number, bundle, start, chain, created_us, records = _PART.unpack_from(raw)
    if version != VERSION:
        raise Damaged(f"a bundle of version {version}, this localstore reads version {VERSION}")
    if _CRC.unpack_from(raw, _PART.size)[0] != zlib.crc32(raw[: _PART.size]):
        raise Damaged("a header whose checksum does not fit")
    zero = magic == MAGIC and raw[9:12] == bytes(3)
    if not zero or not number:
        raise Damaged("a header of a newer localstore")
    return PartHeader(bundle, number, created_us, start, records, chain)


@dataclass(frozen=True, slots=True)
class Record:
    """One record without its data.

    Attributes:
        index: records before it in the bundle. length: bytes of its data, which follow the head.
        sha256: of the data. raw: the head as it stands in the file.
    """

    kind: int
    name: bytes
    offset: int
    index: int
    length: int
    sha256: bytes
    raw: bytes = field(repr=False)

    @property
    def size(self) -> int:
        """Bytes of head and data together."""
        return len(self.raw) + self.length


def make_record(
    kind: Kind, index: int, name: str = "", data: bytes = b"", offset: int = 0
) -> Record:
    """The head of a record; its data stand behind it."""
    sha256, encoded = hashlib.sha256(data).digest(), name.encode("ascii")
    head = _RECORD.pack(MARK, kind, 0, len(encoded), len(data), offset, index, sha256) + encoded
    raw = head + _CRC.pack(zlib.crc32(head))
    return Record(kind, encoded, offset, index, len(data), sha256, raw)


def decode_record(raw: bytes | memoryview, at: int = 0) -> Record:
    """Parse the head of the record that begins at `at`.

    Raises:
        Torn: the bytes end inside the head.
        Damaged: no record begins here.
    """
    left = len(raw) - at
    if bytes(raw[at : at + 4]) != MARK[: max(0, min(4, left))]:
        raise Damaged("no record begins here")
    if left < _RECORD.size:
        raise Torn("ends inside a record")
    _, kind, flags, name_length, length, offset, index, sha256 = _RECORD.unpack_from(raw, at)
    if flags or name_length > MAX_NAME_BYTES or length > MAX_DATA_BYTES:
        raise Damaged("a record of impossible lengths")
    end = at + _RECORD.size + name_length
    if len(raw) < end + _CRC.size:
        raise Torn("ends inside a record")
    head = bytes(raw[at:end])
    if _CRC.unpack_from(raw, end)[0] != zlib.crc32(head):
        raise Damaged("a record whose checksum does not fit")
    name = head[_RECORD.size :]
    return Record(kind, name, offset, index, length, sha256, bytes(raw[at : end + _CRC.size]))


# ------------------------------------------------------------------ the chain, signatures
def first_chain(bundle: bytes, created_us: int) -> bytes:
    """The chain before the first record."""
    return hashlib.sha256(_CHAIN + bundle + created_us.to_bytes(8, "little")).digest()


def next_chain(chain: bytes, record: Record) -> bytes:
    """The chain after a record; its data are in it by their hash."""
    return hashlib.sha256(chain + record.raw).digest()


@dataclass(frozen=True, slots=True)
class Signature:
    """What a SIGNATURE record says.

    Attributes:
        device: the public key. time_us: Unix time in microseconds, as the signer claims.
        cert: the device's certificate, the whole file.
    """

    device: bytes
    time_us: int
    signature: bytes
    cert: bytes

    def encode(self) -> bytes:
        """The data of the record."""
        return _SIGNATURE.pack(self.device, self.time_us, self.signature) + self.cert


def decode_signature(data: bytes) -> Signature:
    """Parse the data of a SIGNATURE record.

    Raises:
        Damaged: of another length.
    """
    if not SIGNATURE_BYTES <= len(data) <= SIGNATURE_BYTES + MAX_CERT_BYTES:
        raise Damaged(f"a signature of {len(data)} bytes")
    device, time_us, signature = _SIGNATURE.unpack_from(data)
    return Signature(device, time_us, signature, data[SIGNATURE_BYTES:])


def signed_message(bundle: bytes, records: int, chain: bytes, cert: bytes, time_us: int) -> bytes:
    """What a device signs: all records before, by their number and their chain."""
    certified = hashlib.sha256(cert).digest()
    return bundle + struct.pack("<Q", records) + chain + certified + struct.pack("<Q", time_us)


# ------------------------------------------------------------------ what is assumed
@dataclass(frozen=True, slots=True)
class Assumed:
    """A file that the receiver holds: its first `size` bytes have this SHA-256."""

    name: str  # relative to its project
    size: int
    sha256: bytes


def encode_assumed(files: Iterable[Assumed]) -> Iterator[bytes]:
    """The data of as many ASSUMED records as are needed."""
    data = bytearray()
    for file in files:
        name = file.name.encode("ascii")
        if len(data) + _ASSUMED.size + len(name) > MAX_DATA_BYTES:
            yield bytes(data)
            data.clear()
        data += _ASSUMED.pack(file.size, file.sha256, len(name)) + name
    if data:
        yield bytes(data)


def decode_assumed(data: bytes) -> Iterator[Assumed]:
    """Parse the data of an ASSUMED record.

    Raises:
        Damaged: they end inside an entry.
    """
    at = 0
    while at < len(data):
        if len(data) - at < _ASSUMED.size:
            raise Damaged("a list of assumed files that ends early")
        size, sha256, length = _ASSUMED.unpack_from(data, at)
        at += _ASSUMED.size
        name = data[at : at + length]
        if len(name) != length:
            raise Damaged("a list of assumed files that ends early")
        at += length
        yield Assumed(name.decode("ascii", "replace"), size, sha256)
