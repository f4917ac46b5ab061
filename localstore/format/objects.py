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
from localstore.format.spec import Compression

if TYPE_CHECKING:
    import zstandard

    from localstore.crypto import Bytes

_HEADER: Final = struct.Struct("<4sBBBB")
_WORDS: Final = struct.Struct("<II")
_LENGTH_MASK: Final = (1 << 28) - 1
_SMALLEST: Final = _HEADER.size + spec.PAD_FLOOR_BYTES + spec.TAG_BYTES
_FIRST_BUFFER_BYTES: Final = 16 * 1024
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


class ObjectSealer:
    """Seals objects of one class into one reused buffer. Not for two threads at once."""

    def __init__(self, data_class: int, dedup_secret: bytes) -> None:
        self._class, self._dedup = int(data_class), dedup_secret
        self._header = _HEADER.pack(
            spec.OBJECT_MAGIC, spec.FORMAT_VERSION, spec.SUITE, self._class, 0
        )
        self._buffer = bytearray(_FIRST_BUFFER_BYTES)

    def seal(
        self, content: Bytes, compressor: zstandard.ZstdCompressor | None = None
    ) -> tuple[bytes, bytes, memoryview]:
        """Id, key and bytes of the object that holds `content`; the bytes until the next call.

        Raises:
            Damaged: the content is too long for an object.
        """
        data, how = compress(content, compressor) if compressor else (content, Compression.NONE)
        start, end = _HEADER.size, _HEADER.size + crypto.padme(_WORDS.size + len(data))
        longest = max(end + spec.TAG_BYTES, len(content))
        if longest > spec.MAX_OBJECT_BYTES:
            raise Damaged(f"an object of {longest} bytes, the most is 16 MiB")
        if len(self._buffer) < end + spec.TAG_BYTES:
            self._buffer = bytearray(end + spec.TAG_BYTES)
        buffer, view = self._buffer, memoryview(self._buffer)
        view[:start] = self._header
        _WORDS.pack_into(buffer, start, len(data) | how << 28, len(content))
        filled = start + _WORDS.size + len(data)
        view[start + _WORDS.size : filled] = data
        view[filled:end] = bytes(end - filled)
        key = crypto.object_key(self._dedup, self._class, view[start:end])
        crypto.encrypt_within(key, _NONCE, buffer, start, end, spec.LABEL_OBJECT + self._header)
        raw = view[: end + spec.TAG_BYTES]
        return crypto.sha256(raw), key, raw


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
    object_id, key, raw = ObjectSealer(data_class, dedup_secret).seal(content, compressor)
    return SealedObject(object_id, key, bytes(raw))


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
        raw: a bytearray is used up: its bytes become the plain ones.
        object_id: what the manifest calls it.
        dedup_secret: of the project, where the reader holds it: then the key is checked too, so
            that one object cannot mean two things under two keys.

    Raises:
        Damaged: the bytes break the layout (see `check_object`).
        Forged: the key does not open it, or is not the key that its plaintext gives.
    """
    data_class = check_object(raw, object_id)
    header = bytes(raw[: _HEADER.size])
    # Deciphered where it stands: of a buffer that may change, there; of anything else, in a copy.
    buffer = raw if isinstance(raw, bytearray) else bytearray(raw)
    start, end = _HEADER.size, len(raw)
    crypto.decrypt_within(key, _NONCE, buffer, start, end, spec.LABEL_OBJECT + header)
    body = memoryview(buffer)[start : end - spec.TAG_BYTES]
    if dedup_secret is not None:
        wanted = crypto.object_key(dedup_secret, data_class, body)
        if not crypto.same(wanted, key):
            raise Forged("an object whose key is not that of its plaintext")
    return OpenedObject(data_class, _unpack(body))


def _unpack(body: memoryview) -> bytes:
    word, length = _WORDS.unpack_from(body)
    size, how = word & _LENGTH_MASK, word >> 28
    end = _WORDS.size + size
    padding = bytes(body[end:])
    if end > len(body) or len(body) != crypto.padme(end) or padding.count(0) != len(padding):
        raise Damaged("an object whose padding does not fit")
    data = body[_WORDS.size : end]
    if how == Compression.ZSTD:
        content = decompress(data, spec.MAX_OBJECT_BYTES)
    elif how == Compression.NONE:
        content = bytes(data)
    else:
        raise Damaged(f"compression {how} of a newer localstore")
    if len(content) != length:
        raise Damaged(f"an object of {len(content)} bytes that claims {length}")
    return content
