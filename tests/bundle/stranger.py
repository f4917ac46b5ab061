"""A second reader of bundles, written from docs/protocol.md, section 10, and nothing else.

Shares no line with the product, knows no key, and reads whole files into memory.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEX = "[0-9a-f]"
NAME = re.compile(
    rf"projects/{HEX}{{64}}/("
    rf"FORMAT|links/{HEX}{{64}}|certs/{HEX}{{64}}|keys/{HEX}{{32}}/{HEX}{{32}}-{HEX}{{32}}"
    rf"|runs/{HEX}{{32}}/{HEX}{{32}}(\.log|-{HEX}{{32}}\.(tail|fork))"
    rf"|objects/(?P<two>{HEX}{{2}})/(?P=two){HEX}{{62}}"
    rf"|stamps/{HEX}{{16}}-{HEX}{{16}}(\.open)?)"
)
PUT, DELETE, ASSUMED, NEXT, END, SIGNATURE = range(1, 7)
PIECE = 4 << 20
LONGEST = 60 + 256 + 4 + PIECE


@dataclass
class File:
    """One file: how much is assumed, and the pieces after that (None: damaged)."""

    base: int = 0
    base_sha: bytes = b""
    size: int = 0
    pieces: list[bytes | None] = field(default_factory=list)
    latest: int = 0


@dataclass
class Seen:
    """What a bundle says."""

    files: dict[str, File] = field(default_factory=dict)
    holes: int = 0
    refused: int = 0
    missing: int = 0
    signed: list[tuple[bytes, bytes, bytes]] = field(default_factory=list)  # device, message, sig
    unchecked: int = 0
    ended: bool = False
    last: str = ""

    def offered(self) -> dict[str, bytes | None]:
        """Files without assumed bytes: their content, None where it is damaged."""
        return {
            name: None if None in file.pieces else b"".join(filter(None, file.pieces))
            for name, file in self.files.items()
            if file.pieces and not file.base and name != self._cut()
        }

    def _cut(self) -> str:
        file = self.files.get(self.last)
        if self.ended or file is None or not file.pieces or self.last.endswith(".log"):
            return ""
        return self.last if file.latest == PIECE else ""


@dataclass
class Record:
    kind: int
    name: bytes
    offset: int
    index: int
    head: bytes
    data: bytes
    sha: bytes
    end: int


def record_at(raw: bytes, at: int) -> Record | None:
    """The whole record that begins at `at`, if one does."""
    head = raw[at : at + 60]
    if len(head) < 60 or head[:4] != b"LSBR" or head[5]:
        return None
    kind, (n,) = head[4], struct.unpack_from("<H", head, 6)
    length, offset, index = struct.unpack_from("<IQQ", head, 8)
    if n > 256 or length > PIECE:
        return None
    head = raw[at : at + 60 + n + 4]
    data = raw[at + len(head) : at + len(head) + length]
    if len(head) < 64 + n or len(data) < length:
        return None
    if struct.unpack_from("<I", head, 60 + n)[0] != zlib.crc32(head[: 60 + n]):
        return None
    sha = head[28:60]
    return Record(kind, head[60 : 60 + n], offset, index, head, data, sha, at + len(head) + length)


def records(raw: bytes, seen: Seen) -> Iterator[Record]:
    at = 84
    while at < len(raw):
        found = record_at(raw, at)
        if found is not None:
            yield found
            at = found.end
            continue
        seen.holes += 1
        limit = min(len(raw), at + 1 + 2 * LONGEST)
        after = next((n for n in range(at + 1, limit) if record_at(raw, n)), None)
        if after is None:
            return
        at = after


def read(path: Path) -> Seen:
    """Play a whole bundle."""
    seen, number, goes_on = Seen(), 1, True
    bundle = created = chain = b""
    count, part_before = 0, False
    while True:
        part = path if number == 1 else path.with_name(f"{path.name}.{number:03d}")
        later = [path.with_name(f"{path.name}.{number + n:03d}").exists() for n in range(16)]
        if not goes_on and not any(later):
            break
        seen.holes += part_before and not goes_on
        part_before = False
        goes_on = goes_on if part.exists() else False
        raw = part.read_bytes() if part.exists() else b""
        if len(raw) < 84 or not is_header(raw):
            assert number > 1, "not a bundle"
            seen.missing, number, goes_on = seen.missing + 1, number + 1, False
            continue
        if number == 1:
            bundle, created = raw[16:24], raw[64:72]
            chain = hashlib.sha256(b"localstore bundle 1\0" + bundle + created).digest()
        if raw[16:24] != bundle or struct.unpack_from("<I", raw, 12)[0] != number:
            seen.missing, number, goes_on = seen.missing + 1, number + 1, False
            continue
        if raw[32:64] != chain:
            seen.holes += not seen.missing
            chain, count = raw[32:64], struct.unpack_from("<Q", raw, 72)[0]
        goes_on, part_before = False, True
        for record in records(raw, seen):
            goes_on = record.kind == NEXT
            if record.index != count and not seen.holes:
                seen.holes += 1
            play(seen, record, bundle, chain)
            chain, count = hashlib.sha256(chain + record.head).digest(), record.index + 1
        number += 1
    seen.ended = seen.ended and not goes_on
    return seen


def is_header(raw: bytes) -> bool:
    magic = bytes.fromhex("4c53424e0d0a1a0a") + b"\1\0\0\0"
    return raw[:12] == magic and struct.unpack_from("<I", raw, 80)[0] == zlib.crc32(raw[:80])


def play(seen: Seen, record: Record, bundle: bytes, chain: bytes) -> None:
    name = record.name.decode("ascii", "replace")
    whole = hashlib.sha256(record.data).digest() == record.sha
    if record.kind in (PUT, DELETE, ASSUMED):
        seen.ended = seen.ended and not whole and record.kind == ASSUMED
    if record.kind == PUT:
        seen.refused += not put(seen, name, record, whole)
        return
    if not whole or record.offset:
        seen.refused += 1
    elif record.kind == DELETE:
        seen.refused += NAME.fullmatch(name) is None
        seen.files.pop(name, None)
    elif record.kind == ASSUMED:
        seen.refused += not assume(seen, name, record.data)
    elif record.kind == END:
        seen.ended = True
    elif record.kind == SIGNATURE and 104 <= len(record.data) <= 104 + 65536:
        device, time, signature = struct.unpack_from("<32s8s64s", record.data)
        certified = hashlib.sha256(record.data[104:]).digest()
        message = bundle + struct.pack("<Q", record.index) + chain + certified + time
        if seen.holes or seen.missing:
            seen.unchecked += 1
        else:
            seen.signed.append((device, message, signature))
    elif record.kind != NEXT and not 64 <= record.kind <= 127:
        seen.refused += 1


def put(seen: Seen, name: str, record: Record, whole: bool) -> bool:
    file = seen.files.get(name, File())
    again = bool(file.pieces) and not record.data
    if NAME.fullmatch(name) is None or record.offset != file.size or again:
        return False
    file.pieces.append(record.data if whole else None)
    file.latest = len(record.data)
    file.size += file.latest
    seen.files[name], seen.last = file, name
    return True


def assume(seen: Seen, folder: str, data: bytes) -> bool:
    new: dict[str, File] = {}
    at = 0
    while at < len(data):
        if len(data) - at < 42:
            return False
        size, sha, n = struct.unpack_from("<Q32sH", data, at)
        name = folder + data[at + 42 : at + 42 + n].decode("ascii", "replace")
        at += 42 + n
        if at > len(data) or NAME.fullmatch(name) is None or name in {**seen.files, **new}:
            return False
        new[name] = File(size, sha, size)
    seen.files.update(new)
    return True
