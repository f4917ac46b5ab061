"""Where a content comes from: a path, an open file, or bytes.

Up to 32 MiB are read at once, so that a later change of the file changes nothing; a larger file
is read when it is stored.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from localstore.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

READ_AT_ONCE_BYTES: Final = 32 * 1024 * 1024
_ALIASES: Final = {"jpeg": "jpg", "tif": "tiff", "htm": "html", "wave": "wav"}


def is_path(value: Any) -> bool:
    """Whether a value names a file."""
    return isinstance(value, (str, os.PathLike))


def take(source: Any, what: str) -> bytes | Path:
    """The content of a file, or its path when it is large.

    Args:
        source: a path, an open file (text or binary), or bytes.
        what: for messages, such as `an image`.

    Raises:
        UsageError: there is no regular file, or it cannot be read.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    if is_path(source):
        return _take_path(Path(source), what)
    read = getattr(source, "read", None)
    if not callable(read):
        raise UsageError(f"{what} of {type(source).__name__}, want an array, a path or a file")
    found = read()
    return found.encode() if isinstance(found, str) else bytes(found)


def _take_path(path: Path, what: str) -> bytes | Path:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise UsageError(f"{what} from {path}, which is no regular file")
        return path.absolute() if found.st_size > READ_AT_ONCE_BYTES else path.read_bytes()
    except (OSError, ValueError) as error:
        hint = "nothing is downloaded; save it as a file first" if "://" in str(path) else ""
        raise UsageError(f"{what} from {path}: {error}", hint=hint) from error


def format_of(path: Any, allowed: Iterable[str], what: str) -> str:
    """The format that a file's name says, of those that are allowed.

    Raises:
        UsageError: it says another, or none.
    """
    name = os.fspath(path).lower()
    for known in sorted({*allowed, *_ALIASES}, key=len, reverse=True):
        meant = _ALIASES.get(known, known)
        if name.endswith(f".{known}") and meant in allowed:
            return meant
    raise UsageError(f"{what} from {path}, want one of {', '.join(sorted(allowed))}")


def checked_format(name: str, allowed: Iterable[str], what: str) -> str:
    """A format that a script names, `jpeg` as `jpg`.

    Raises:
        UsageError: none of those that are allowed.
    """
    plain = str(name).lower().removeprefix(".")
    meant = _ALIASES.get(plain, plain)
    if meant not in allowed:
        raise UsageError(f"{what} as {name!r}, want one of {', '.join(sorted(allowed))}")
    return meant


def head_of(content: bytes | Path, length: int) -> bytes:
    """The first bytes of a content."""
    if isinstance(content, bytes):
        return content[:length]
    with content.open("rb") as stream:
        return stream.read(length)
