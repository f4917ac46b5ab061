"""What the first bytes of a picture say: its format and its size. Nothing is decoded."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

HEAD_BYTES: Final = 256 * 1024  # a JPEG's size stands behind its thumbnails and profiles
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})


def picture_header(head: bytes) -> tuple[str, int, int] | None:
    """Format, width and height in pixels of a picture; sizes are 0 where they stand elsewhere.

    Args:
        head: the first `HEAD_BYTES` of a file, or all of it.

    Returns:
        None where the bytes begin like no picture.
    """
    for magic, name, measure in _MAGICS:
        if head.startswith(magic) and (name != "webp" or head[8:12] == b"WEBP"):
            try:
                width, height = measure(head)
            except (struct.error, IndexError):
                return None
            return name, width, height
    return None


def _png(head: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", head, 16)
    return width, height


def _gif(head: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", head, 6)
    return width, height


def _bmp(head: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<ii", head, 18)
    return abs(width), abs(height)


def _tiff(_head: bytes) -> tuple[int, int]:
    return 0, 0


def _jpg(head: bytes) -> tuple[int, int]:
    at = 2
    while at + 9 <= len(head):
        if head[at] != 0xFF:
            break
        mark = head[at + 1]
        if mark in _FRAMES:
            height, width = struct.unpack_from(">HH", head, at + 5)
            return width, height
        skip = 0 if mark in _ALONE else int.from_bytes(head[at + 2 : at + 4], "big")
        at += 1 if mark == 0xFF else 2 + skip  # before a mark may stand any number of 0xFF
    return 0, 0


def _webp(head: bytes) -> tuple[int, int]:
    sort = head[12:16]
    if sort == b"VP8X":
        sizes = (int.from_bytes(head[at : at + 3], "little") + 1 for at in (24, 27))
        return next(sizes), next(sizes)
    if sort == b"VP8L":
        (bits,) = struct.unpack_from("<I", head, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", head, 26)
    return width & 0x3FFF, height & 0x3FFF


_MAGICS: Final[tuple[tuple[bytes, str, Callable[[bytes], tuple[int, int]]], ...]] = (
    (b"\x89PNG\r\n\x1a\n", "png", _png),
    (b"\xff\xd8\xff", "jpg", _jpg),
    (b"GIF87a", "gif", _gif),
    (b"GIF89a", "gif", _gif),
    (b"RIFF", "webp", _webp),
    (b"BM", "bmp", _bmp),
    (b"II*\0", "tiff", _tiff),
    (b"MM\0*", "tiff", _tiff),
)
