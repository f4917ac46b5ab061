"""Patches that were masked before they were saved: how they apply again.

A masked line that git must find in a file would not be found. The commit that the patch starts from
has the line, at the number that the patch tells, so it is taken from there; what the patch *adds*
stays masked.
"""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_MARK: Final = b"***MASKED:"
_HUNK: Final = re.compile(rb"@@ -(\d{1,9}+)(?:,(\d{1,9}+))?+ \+\d{1,9}+(?:,(\d{1,9}+))?+ @@")
_OLD_FILE: Final = b"--- "


def unmask_context(patch: bytes, read: Callable[[bytes], bytes | None]) -> bytes:
    """The patch with the lines that it expects in a file as the file has them.

    Args:
        patch: as `git diff` writes it, masked.
        read: the content of a file, by its path, in the commit that the patch starts from.
    """
    if _MARK not in patch:
        return patch
    unmasked = _Unmasking(read)
    return b"\n".join(map(unmasked.line, patch.split(b"\n")))


class _Unmasking:
    """One pass over the lines of a patch; knows where in the old file it is."""

    def __init__(self, read: Callable[[bytes], bytes | None]) -> None:
        self._read = read
        self._path = b""
        self._file: list[bytes] | None = None
        self._old = self._old_left = self._new_left = 0

    def line(self, line: bytes) -> bytes:
        if self._old_left <= 0 and self._new_left <= 0:
            self._head(line)
            return line
        kind = line[:1] or b" "  # an editor may have cut the blank of an empty line
        if kind == b"\\":
            return line
        if kind != b"+":
            line = self._as_in_the_file(line) if _MARK in line else line
            self._old += 1
            self._old_left -= 1
        if kind != b"-":
            self._new_left -= 1
        return line

    def _head(self, line: bytes) -> None:
        hunk = _HUNK.match(line)
        if hunk is not None:
            self._old = int(hunk[1])
            self._old_left = int(hunk[2] or b"1")
            self._new_left = int(hunk[3] or b"1")
        elif line.startswith(_OLD_FILE):
            self._path, self._file = path_of(line), None

    def _as_in_the_file(self, line: bytes) -> bytes:
        if self._file is None:
            content = self._read(self._path)
            self._file = content.split(b"\n") if content is not None else []
        at = self._old - 1
        return line[:1] + self._file[at] if 0 <= at < len(self._file) else line


def path_of(line: bytes) -> bytes:
    """The path in a line `--- a/path`, without its prefix; git quotes what is no plain text."""
    name = line[len(_OLD_FILE) :].rstrip(b"\t\r")
    if name.startswith(b'"') and name.endswith(b'"'):
        name = codecs.escape_decode(name[1:-1])[0]
    return name.partition(b"/")[2] if name != b"/dev/null" else b""
