"""Small codecs that the formats share: varints, bounded zstd, and the first word of a frame."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, TypeVar

import zstandard

from localstore.errors import Damaged
from localstore.format import spec

if TYPE_CHECKING:
    from localstore.crypto import Bytes

_B = TypeVar("_B", bound="Bytes")
_WORD: Final = struct.Struct("<I")
_LENGTH_MASK: Final = (1 << 28) - 1
ZSTD_LEVEL: Final = 3


def varint(number: int) -> bytes:
    """LEB128: seven bits a byte, the lowest first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


class Reader:
    """Reads fields from the front of some bytes; every overrun is `Damaged`."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def varint(self) -> int:
        """The next LEB128 number, at most ten bytes."""
        number = shift = 0
        while True:
            if self._at >= len(self._data) or shift > 63:
                raise Damaged("a number that does not end")
            byte = self._data[self._at]
            self._at += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                if number >> 64:
                    raise Damaged("a number beyond 64 bits")
                return number
            shift += 7

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        end = self._at + count
        if end > len(self._data):
            raise Damaged(f"{count} bytes wanted, {len(self._data) - self._at} left")
        piece = self._data[self._at : end]
        self._at = end
        return piece

    def byte(self) -> int:
        """The next byte as a number."""
        return self.take(1)[0]

    @property
    def left(self) -> int:
        """How many bytes remain."""
        return len(self._data) - self._at


def compress(content: _B, compressor: zstandard.ZstdCompressor) -> tuple[_B | bytes, int]:
    """The shorter of `content` and its zstd form, and which it is."""
    squeezed = compressor.compress(content)
    if len(squeezed) < len(content):
        return squeezed, spec.Compression.ZSTD
    return content, spec.Compression.NONE


def decompress(data: Bytes, most: int) -> bytes:
    """Expand one zstd frame that says its size, if that is at most `most` bytes.

    `max_output_size` alone does not bound it: the library trusts the size in the frame's header.

    Raises:
        Damaged: not zstd, of unknown or forbidden size, or with too large a window.
    """
    try:
        parameters = zstandard.get_frame_parameters(data)
        size, window = parameters.content_size, parameters.window_size
        # A size of 0 is never written, and makes the library skip every check of what follows.
        if size == zstandard.CONTENTSIZE_UNKNOWN or not 0 < size <= most:
            raise Damaged(f"compressed data that claims {size} bytes, the most is {most}")
        if window > spec.MAX_ZSTD_WINDOW_BYTES:
            raise Damaged(f"compressed data with a window of {window} bytes")
        return zstandard.ZstdDecompressor().decompress(
            data, max_output_size=size, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise Damaged("compressed data that does not expand") from error


def unpad(plain: bytes) -> bytes:
    """The content of an opened frame: word, content, zeros (format.md section 6.3).

    Raises:
        Damaged: an impossible length, unknown compression, or padding that is not zero.
    """
    if len(plain) < _WORD.size:
        raise Damaged("a frame without its first word")
    word = _WORD.unpack_from(plain)[0]
    length, compression = word & _LENGTH_MASK, word >> 28
    end = _WORD.size + length
    if end > len(plain) or plain.count(0, end) != len(plain) - end:
        raise Damaged("a frame whose padding is not zero")
    content = plain[_WORD.size : end]
    if compression == spec.Compression.NONE:
        return content
    if compression == spec.Compression.ZSTD:
        return decompress(content, spec.MAX_FRAME_CONTENT_BYTES)
    raise Damaged(f"compression {compression} of a newer localstore")
