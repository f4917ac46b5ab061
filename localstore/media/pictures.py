"""Pillow: pictures that it must write, and stored pictures opened, however hostile they are."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, Any, Final

from localstore.errors import Damaged, UsageError
from localstore.media.headers import HEAD_BYTES, picture_header
from localstore.sdk.values import FOREIGN_ERRORS

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

MAX_PIXELS: Final = 64 * 1024 * 1024  # of a picture that is decoded: 256 MiB as RGBA
_FORMATS: Final = ("PNG", "JPEG", "GIF", "WEBP", "BMP")
# What Pillow's readers say of broken files, which they parse with struct and zlib.
_BAD_PICTURE: Final = (
    *FOREIGN_ERRORS,
    EOFError,
    MemoryError,
    SyntaxError,
    Warning,
    struct.error,
    zlib.error,
)
_PIL_FORMATS: Final = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}
_SHORT_OF_ALPHA: Final = {"RGBA": "RGB", "LA": "L", "P": "RGB", "I;16": "L"}
_CONVERTED: Final = frozenset({"CMYK", "YCbCr", "LAB", "HSV", "F"})
_NATIVE: Final = frozenset({"L", "LA", "RGB", "RGBA", "I;16"})
_JPEG_QUALITY: Final = 90


def pillow() -> Any:
    """The module PIL.Image.

    Raises:
        UsageError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        hint = "pip install 'localstore[media]'"
        raise UsageError("this picture needs Pillow, which is not installed", hint=hint) from error
    return Image


def is_pillow(value: Any) -> bool:
    """Whether a value is a picture of Pillow; imports nothing."""
    return any(
        base.__name__ == "Image" and base.__module__ == "PIL.Image" for base in type(value).__mro__
    )


def write(picture: Any, name: str) -> bytes:
    """A picture of Pillow as the bytes of a file of one format."""
    if name == "png" and picture.mode in _NATIVE:
        quick = _quick_png(picture)
        if quick:
            return quick
    if picture.mode in _CONVERTED:
        picture = picture.convert("L" if picture.mode == "F" else "RGB")
    if name == "jpg":
        picture = picture.convert(_SHORT_OF_ALPHA.get(picture.mode, picture.mode))
    out = io.BytesIO()
    options = {"compress_level": 1} if name == "png" else {"quality": _JPEG_QUALITY}
    picture.save(out, _PIL_FORMATS[name], **options)
    return out.getvalue()


def _quick_png(picture: Any) -> bytes:
    try:
        import numpy as np
    except ImportError:
        return b""
    from localstore.media.png import encode

    return encode(np.asarray(picture))


def open_bounded(content: bytes, file: str = "") -> Picture:
    """A stored picture, decoded.

    Raises:
        Damaged: no picture, broken, or larger than 64 million pixels.
    """
    pil = pillow()
    head = picture_header(content[:HEAD_BYTES])
    if head is None:
        raise Damaged("no picture of a known format", file=file)
    _bound(head[1], head[2], file)
    try:
        picture: Picture = pil.open(io.BytesIO(content), formats=_FORMATS)
        _bound(*picture.size, file)
        picture.load()
    except (*_BAD_PICTURE, pil.DecompressionBombError) as error:
        raise Damaged(f"a picture that does not decode: {error!s:.200}", file=file) from error
    return picture


def _bound(width: int, height: int, file: str) -> None:
    if width * height > MAX_PIXELS:
        raise Damaged(
            f"a picture of {width} x {height} pixels, at most {MAX_PIXELS:,} are opened", file=file
        )
