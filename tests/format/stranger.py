"""A second reader, written from docs/format.md alone. It imports nothing of localstore.

It reads logs and COLUMNS contents. Its words for what it finds are those of the vectors.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
import zlib
from typing import TYPE_CHECKING, Any

import msgspec
import nacl.bindings as sodium
import nacl.exceptions
import zstandard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Refused(Exception):
    """`why` is torn, damaged or forged."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


# chapter 4
def blake(label: bytes, data: bytes = b"", key: bytes = b"", salt: bytes = b"") -> bytes:
    return hashlib.blake2b(data, digest_size=32, key=key, person=label, salt=salt).digest()


def check_signature(public: bytes, label: bytes, message: bytes, signature: bytes) -> None:
    try:
        sodium.crypto_sign_open(signature + label + b"\0" + message, public)
    except nacl.exceptions.CryptoError:
        raise Refused("forged") from None


def padme(length: int) -> int:
    if length <= 128:
        return 128
    e = len(bin(length)) - 3
    s = len(bin(e)) - 2
    m: int = 2 ** (e - s) - 1
    return (length + m) // (m + 1) * (m + 1)


# chapter 6.1
def read_header(log: bytes) -> tuple[dict[str, bytes], int]:
    """The fields that need no key, and where the frames begin."""
    if len(log) < 380:
        raise Refused("torn")
    if log[:8] != b"LSEG\r\n\x1a\n" or log[8] != 1 or log[9] != 1 or log[11] != 0:
        raise Refused("damaged")
    length, count = struct.unpack_from("<I", log, 12)[0], struct.unpack_from("<H", log, 376)[0]
    if length != 444 + 56 * count or count > 1024 or any(log[196:200] + log[378:380]):
        raise Refused("damaged")
    if len(log) < length:
        raise Refused("torn")
    f = {"subject": log[48:64], "segment": log[64:80], "device": log[128:160]}
    check_signature(f["device"], b"ls1/sig/header", log[: length - 64], log[length - 64 : length])
    return f, length


def open_header(log: bytes, class_secret: bytes) -> tuple[dict[str, bytes], int]:
    """The same, and the segment's key."""
    f, length = read_header(log)
    try:
        public = sodium.crypto_scalarmult_base(class_secret)
        plain = sodium.crypto_box_seal_open(log[264:376], public, class_secret)
    except nacl.exceptions.CryptoError:
        raise Refused("forged") from None
    f["key"], context = plain[:32], plain[32:]
    if not hmac.compare_digest(context, blake(b"ls1/seg-ctx", log[:264])):
        raise Refused("forged")
    commitment = blake(b"ls1/commit", key=f["key"], salt=f["segment"])
    if not hmac.compare_digest(commitment, log[232:264]):
        raise Refused("forged")
    return f, length


# chapters 6.2 and 6.6
def frame_at(log: bytes, at: int) -> tuple[int, int, bytes]:
    """Type, index and all bytes of a frame."""
    if len(log) - at < 16:
        raise Refused("torn")
    mark, kind, flags, length, index = struct.unpack_from("<2sBBIQ", log, at)
    if mark != b"LF" or flags or length > 16777216:
        raise Refused("damaged")
    end = at + 16 + length
    if end + 4 > len(log):
        raise Refused("torn")
    if struct.unpack_from("<I", log, end)[0] != zlib.crc32(log[at:end]):
        raise Refused("damaged")
    if kind not in range(1, 7) and not 64 <= kind <= 127:
        raise Refused("damaged")
    return kind, index, log[at : end + 4]


def next_frame(log: bytes, at: int) -> int | None:
    while (at := log.find(b"LF", at)) >= 0:
        try:
            frame_at(log, at)
        except Refused:
            at += 1
        else:
            return at
    return None


def is_cut(log: bytes, at: int) -> bool:
    """Whether nothing is wrong from here on but that a write was cut."""
    rest = len(log) - at - 20
    if next_frame(log, at + 1) is not None:
        return False
    if rest < 0:
        return True
    whole = log[at : at + 4] + struct.pack("<I", rest) + log[at + 8 : -4]
    return struct.pack("<I", zlib.crc32(whole)) != log[-4:]


# chapter 6.3
def content(f: dict[str, bytes], frame: bytes) -> bytes:
    key = blake(b"ls1/frame", key=f["key"], salt=f["segment"])
    nonce, sealed = frame[16:40], frame[40:-4]
    try:
        plain = sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(
            sealed, b"ls1/frame" + f["segment"] + frame[:16], nonce, key
        )
    except nacl.exceptions.CryptoError:
        raise Refused("forged") from None
    word = struct.unpack_from("<I", plain)[0]
    size, how = word & 0x0FFFFFFF, word >> 28
    data, rest = plain[4 : 4 + size], plain[4 + size :]
    if len(data) != size or any(rest) or how > 1 or padme(4 + size) != len(plain):
        raise Refused("damaged")
    return data if how == 0 else expand(data)


def expand(data: bytes) -> bytes:
    if zstandard.frame_content_size(data) not in range(1, 67108865):
        raise Refused("damaged")
    return zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)


# chapter 6.4
def check_head(f: dict[str, bytes], frame: bytes, at: int, index: int, chain: bytes) -> bool:
    body = frame[16:-4]
    if len(body) != 128:
        raise Refused("damaged")
    check_signature(f["device"], b"ls1/sig/head", f["segment"] + body[:64], body[64:])
    count, length, there, _time, final = struct.unpack_from("<QQ32sQB", body)
    if (count, length, there) != (index, at, chain) or final > 1 or any(body[57:64]):
        raise Refused("damaged")
    return bool(final)


def walk(
    f: dict[str, bytes], log: bytes, at: int, take: Callable[[int, int, bytes], None]
) -> tuple[list[str], int]:
    """A verdict for each frame, and how many bytes the last head that fits vouches for."""
    chain, expected, whole, final, vouched = blake(b"ls1/chain", log[:at]), 0, True, False, 0
    verdicts: list[str] = []
    while at < len(log):
        try:
            kind, index, frame = frame_at(log, at)
        except Refused as problem:
            found, whole = next_frame(log, at + 1), False
            verdicts.append(problem.why if is_cut(log, at) else "damaged")
            if found is None:
                break
            at = found
            continue
        try:
            if index < expected or final:
                whole = False
                raise Refused("damaged")
            whole, expected = whole and index == expected, index + 1
            if kind == 3 or (kind == 4 and not whole):
                raise Refused("damaged")
            if kind == 4:
                final = check_head(f, frame, at, index, chain)
                vouched = at + len(frame)
            take(kind, at, frame)
            verdicts.append("ok")
        except Refused as problem:
            verdicts.append(problem.why)
        chain = blake(b"ls1/chain", chain + frame)
        at += len(frame)
    return verdicts, vouched


def read_log(log: bytes, class_secret: bytes) -> tuple[list[str], list[Any]]:
    """A verdict for each frame, and the contents of the sealed ones that are good."""
    f, at = open_header(log, class_secret)
    contents: list[Any] = []

    def take(kind: int, _at: int, frame: bytes) -> None:
        if kind in SEALED:
            contents.append(SEALED[kind](content(f, frame)))
        elif kind in IN_CLEAR:
            entries(frame, IN_CLEAR[kind])

    return walk(f, log, at, take)[0], contents


def entries(frame: bytes, size: int) -> list[bytes]:
    """What a REF or UNREF frame lists."""
    body = frame[16:-4]
    if len(body) % size:
        raise Refused("damaged")
    return [body[at : at + size] for at in range(0, len(body), size)]


def references(log: bytes, at: int) -> Iterator[tuple[int, int, int, bytes]]:
    """Type, index, offset and bytes of each frame; refused where one may be missing."""
    count = 0
    while at < len(log):
        try:
            kind, index, frame = frame_at(log, at)
        except Refused as problem:
            if problem.why == "torn" and is_cut(log, at):
                return
            raise Refused("damaged") from None
        if index > count:
            raise Refused("damaged")
        yield kind, index, at, frame
        at, count = at + len(frame), max(count, index + 1)


Place = tuple[bytes, bytes, int]


def refs_of(log: bytes, may_end: bool) -> tuple[dict[Place, set[bytes]], set[Place]]:
    """What each REF frame of a log names, and the REF frames that its UNREFs end."""
    f, begin = read_header(log)
    own, subject = (f["subject"], f["segment"]), f["subject"]
    vouched = walk(f, log, begin, lambda *_: None)[1]
    named: dict[Place, set[bytes]] = {}
    ended: set[Place] = set()
    for kind, index, at, frame in references(log, begin):
        if kind == 5:
            named.setdefault((*own, index), set()).update(entries(frame, 32))
        if kind == 6:
            ends = [struct.unpack("<16sQ", one) for one in entries(frame, 24)]
            if may_end and at < vouched:
                ended |= {(subject, *one) for one in ends}
    return named, ended


def needed(logs: list[tuple[bytes, bool]]) -> set[bytes]:
    """Objects that these logs and forks need; each comes with whether its UNREFs may count."""
    versions: dict[Place, list[set[bytes]]] = {}
    ended: set[Place] = set()
    for log, may_end in logs:
        named, ends = refs_of(log, may_end)
        ended |= ends
        for place, ids in named.items():
            versions.setdefault(place, []).append(ids)
    return {
        one
        for place, several in versions.items()
        if place not in ended or any(ids != several[0] for ids in several)
        for ids in several
        for one in ids
    }


# chapters 7 and 8
class Bytes:
    """Takes fields from the front."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def take(self, count: int) -> bytes:
        if count > len(self.data):
            raise Refused("damaged")
        piece, self.data = self.data[:count], self.data[count:]
        return piece

    def varint(self) -> int:
        number = 0
        for shift in range(0, 70, 7):
            byte = self.take(1)[0]
            number |= (byte & 127) << shift
            if byte < 128:
                if number >= 2**64:
                    break
                return number
        raise Refused("damaged")

    def zigzag(self) -> int:
        number = self.varint()
        return number // 2 if number % 2 == 0 else -(number + 1) // 2


def value(raw: bytes) -> Any:
    try:
        return msgspec.msgpack.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Refused("damaged") from None


def read_records(raw: bytes) -> tuple[int, list[Any]]:
    data = Bytes(raw)
    first, count = data.varint(), data.varint()
    if count > len(raw):
        raise Refused("damaged")
    records = [value(data.take(data.varint())) for _ in range(count)]
    bad = [r for r in records if not isinstance(r, list) or len(r) < 2]
    if data.data or bad:
        raise Refused("damaged")
    return first, records


def bits(data: Bytes, count: int) -> list[bool]:
    raw = data.take((count + 7) // 8)
    return [bool(raw[r >> 3] & 1 << (r & 7)) for r in range(count)]


def planes(data: Bytes, count: int, width: int) -> list[bytes]:
    raw = data.take(count * width)
    return [bytes(raw[at + plane * count] for plane in range(width)) for at in range(count)]


def integers(data: Bytes, count: int) -> list[int]:
    if count == 0:
        raise Refused("damaged")
    number, least, width = data.zigzag(), data.zigzag(), data.take(1)[0]
    if width not in (0, 1, 2, 4, 8):
        raise Refused("damaged")
    numbers = [number]
    for cell in planes(data, count - 1, width) if width else [b""] * (count - 1):
        number += least + int.from_bytes(cell, "little")
        numbers.append(number)
    if any(not -(2**63) <= number < 2**63 for number in numbers):
        raise Refused("damaged")
    return numbers


def cells(data: Bytes, code: int, count: int) -> list[Any]:
    if code == 1:
        return [struct.unpack("<d", cell)[0] for cell in planes(data, count, 8)]
    if code == 2:
        return [struct.unpack("<f", cell)[0] for cell in planes(data, count, 4)]
    if code == 3:
        return integers(data, count)
    if code == 4:
        return bits(data, count)
    if code not in (5, 6):
        raise Refused("damaged")
    one = value(data.take(data.varint()))
    if code == 6:
        return [one] * count
    if not isinstance(one, list) or len(one) != count:
        raise Refused("damaged")
    return one


def read_columns(raw: bytes) -> dict[str, Any]:
    data = Bytes(raw)
    first, records, rows = data.varint(), data.varint(), data.varint()
    if not 1 <= rows <= records <= 1048576:
        raise Refused("damaged")
    names = {}
    for _ in range(data.varint()):
        number = data.varint()
        names[number] = data.take(data.varint()).decode("utf-8", "replace")
    steps, times = integers(data, rows), integers(data, rows)
    columns, total = {}, 0
    for _ in range(data.varint()):
        number, code = data.varint(), data.take(1)[0]
        at: range | list[int] = range(rows)
        if code & 128:
            at = [row for row, there in enumerate(bits(data, rows)) if there]
        total += len(at)
        if total > 33554432:
            raise Refused("damaged")
        columns[names.get(number, "")] = (at, cells(data, code & 127, len(at)))
    if data.data:
        raise Refused("damaged")
    return {
        "first": first,
        "records": records,
        "steps": steps,
        "times": times,
        "columns": {
            name: [[row, v] for row, v in zip(at, values, strict=True)]
            for name, (at, values) in columns.items()
        },
    }


SEALED: dict[int, Callable[[bytes], Any]] = {1: read_columns, 2: read_records}
IN_CLEAR = {5: 32, 6: 24}
