"""Objects: sealed bytes that never change, named by the hash of their ciphertext (format.md 9).

Pure. The key is made from the plaintext as it is encrypted, compressed and padded: a key from the
content alone would encrypt two plaintexts with one key and nonce as soon as zstd's output changes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from localstore import crypto
from localstore.errors import Damaged, Forged, Torn
from localstore.format import spec
from localstore.format.packing import compress, decompress

if TYPE_CHECKING:
    import zstandard

    from localstore.crypto import Bytes

_HEADER: Final = struct.Struct("<4sBBBB")
_WORDS: Final = struct.Struct("<II")
_LENGTH_MASK: Final = (1 << 28) - 1
_SMALLEST: Final = _HEADER.size + spec.PAD_FLOOR_BYTES + spec.TAG_BYTES
# Safe for this one use: the key fits one plaintext only, so no (key, nonce) pair repeats.
_NONCE: Final = bytes(spec.NONCE_BYTES)


@dataclass(frozen=True, slots=True)
class SealedObject:
    """One object: its id is its name, its key stands in manifests and sealed records only."""

    id: bytes
    key: bytes = field(repr=False)
    raw: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class OpenedObject:
    """What an object holds."""

    data_class: int
    content: bytes = field(repr=False)


def seal_object(
    data_class: int,
    content: Bytes,
    dedup_secret: bytes,
    compressor: zstandard.ZstdCompressor | None = None,
) -> SealedObject:
    """Seal `content`; the same content, class, secret and compressor make the same object.

    Args:
        content: at most MAX_OBJECT_BYTES, less what padding adds when it does not compress.
        compressor: writes the size of its content; without one the content is not compressed.

    Raises:
        Damaged: the content is too long for an object.
    """
    plain = bytes(content)
    data, how = compress(plain, compressor) if compressor else (plain, spec.Compression.NONE)
    padded = crypto.padme(_WORDS.size + len(data))
    longest = max(_HEADER.size + padded + spec.TAG_BYTES, len(plain))
    if longest > spec.MAX_OBJECT_BYTES:
        raise Damaged(f"an object of {longest} bytes, the most is 16 MiB")
    words = _WORDS.pack(len(data) | how << 28, len(plain))
    body = (words + data).ljust(padded, b"\0")
    key = crypto.object_key(dedup_secret, bytes((data_class,)) + body)
    header = _HEADER.pack(spec.OBJECT_MAGIC, spec.FORMAT_VERSION, spec.SUITE, data_class, 0)
    raw = header + crypto.encrypt(key, _NONCE, body, spec.LABEL_OBJECT + header)
    return SealedObject(crypto.sha256(raw), key, raw)


def check_object(raw: Bytes, object_id: bytes) -> int:
    """Everything about an object that needs no key; returns its class.

    Raises:
        Torn: the bytes end inside the header.
        Damaged: longer than an object may be, another magic, version or suite.
        Forged: the bytes are not those that the id names.
    """
    if len(raw) > spec.MAX_OBJECT_BYTES:
        raise Damaged(f"an object of {len(raw)} bytes, the most is 16 MiB")
    if not crypto.same(crypto.sha256(raw), object_id):
        raise Forged("an object whose bytes are not those of its name")
    if len(raw) < _SMALLEST:
        raise Torn(f"an object of {len(raw)} bytes")
    magic, version, suite, data_class, flags = _HEADER.unpack_from(raw)
    if magic != spec.OBJECT_MAGIC:
        raise Damaged("not an object: wrong magic")
    if version != spec.FORMAT_VERSION or suite not in spec.SUPPORTED_SUITES or flags:
        raise Damaged(f"version {version}, suite {suite}, flags {flags} of a newer localstore")
    return int(data_class)


def open_object(
    raw: Bytes, key: bytes, object_id: bytes, *, dedup_secret: bytes | None = None
) -> OpenedObject:
    """Open an object with its key.

    Args:
        object_id: what the manifest calls it.
        dedup_secret: of the project, where the reader holds it: then the key is checked too, so
            that one object cannot mean two things under two keys.

    Raises:
        Damaged: the bytes break the layout (see `check_object`).
        Forged: the key does not open it, or is not the key that its plaintext gives.
    """
    data_class = check_object(raw, object_id)
    header = bytes(raw[: _HEADER.size])
    body = crypto.decrypt(key, _NONCE, raw[_HEADER.size :], spec.LABEL_OBJECT + header)
    if dedup_secret is not None:
        wanted = crypto.object_key(dedup_secret, bytes((data_class,)) + body)
        if not crypto.same(wanted, key):
            raise Forged("an object whose key is not that of its plaintext")
    return OpenedObject(data_class, _unpack(body))


def _unpack(body: bytes) -> bytes:
    word, length = _WORDS.unpack_from(body)
    size, how = word & _LENGTH_MASK, word >> 28
    end = _WORDS.size + size
    if end > len(body) or len(body) != crypto.padme(end) or body.count(0, end) != len(body) - end:
        raise Damaged("an object whose padding does not fit")
    data = body[_WORDS.size : end]
    if how == spec.Compression.ZSTD:
        data = decompress(data, spec.MAX_OBJECT_BYTES)
    elif how != spec.Compression.NONE:
        raise Damaged(f"compression {how} of a newer localstore")
    if len(data) != length:
        raise Damaged(f"an object of {len(data)} bytes that claims {length}")
    return data
