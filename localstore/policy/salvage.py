"""What a policy file that cannot be understood still says of values that are never recorded.

A slip in one table must not switch off another. It errs on the side of leaving values out, and
never makes a rule of what it finds: a broken file holds everything back anyway.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from localstore.errors import BadSetting
from localstore.policy.rules import Redaction, parse, read_policy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_REDACT: Final = "redact"
_HEADER: Final = re.compile(r"^[ \t]*\[", re.M)
_WORD: Final = re.compile(r"[A-Za-z]+")
_MAX_BYTES: Final = 1 << 20
EVERYTHING: Final = Redaction(("*",), ("*",), ("*",), ("*",), host_names=True, user_names=True)


def redaction_of(path: Path, level: str) -> Redaction | None:
    """What a policy file leaves out, also one that cannot be understood elsewhere.

    Returns:
        None where nobody can tell: then everything has to be left out.
    """
    try:
        return read_policy(path, level).redact
    except BadSetting:
        pass
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        text = content.decode()
    except (OSError, UnicodeDecodeError):
        return None
    return None if len(content) > _MAX_BYTES else _of_text(text)


def _of_text(text: str) -> Redaction | None:
    found = Redaction()
    for part in [text] if _tables(text) is not None else _sections(text):
        if not _speaks_of_it(part):
            continue
        tables = _tables(part)
        if tables is None:
            return None
        given = {_REDACT: tables.pop(_REDACT)} if _REDACT in tables else {}
        if any(_is_slip(*pair) for pair in tables.items()):
            return None
        try:
            found = found.joined(parse(given, level="").redact)
        except BadSetting:
            return None
    return found


def _sections(text: str) -> Iterator[str]:
    """The text cut before each line that looks like the header of a table."""
    cuts = [0, *(match.start() for match in _HEADER.finditer(text)), len(text)]
    for start, end in pairwise(cuts):
        yield text[start:end]


def _tables(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return None


def _speaks_of_it(text: str) -> bool:
    """Whether some word could be meant for `redact`."""
    words = {word.lower() for word in _WORD.findall(text)}
    return any(_REDACT in word for word in words) or bool(
        difflib.get_close_matches(_REDACT, words, n=1, cutoff=0.6)
    )


def _is_slip(key: str, value: object) -> bool:
    """Whether a key, or one inside, stands where `redact` does not and may be meant for it."""
    if _speaks_of_it(key):
        return True
    return isinstance(value, dict) and any(_is_slip(*pair) for pair in value.items())
