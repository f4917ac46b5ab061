"""Changes one value of a policy file and leaves its comments and other lines as they are."""

from __future__ import annotations

import json
import re
import tomllib
from typing import TYPE_CHECKING, Any, Final

from localstore.errors import BadSetting, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_HEADER: Final = re.compile(r"\s*\[(?!\[)")


def toml_text(value: object) -> str:
    """A value as TOML."""
    match value:
        case bool():
            return "true" if value else "false"
        case list() | tuple():
            return f"[{', '.join(map(toml_text, value))}]"
        case str():
            # JSON's escapes are TOML's, but for DEL, which TOML wants escaped.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case _:
            return str(value)


def with_value(text: str, keys: Sequence[str], value: object) -> str:
    """The TOML text with one value set, in its table, which is added where it is missing.

    Raises:
        BadSetting: the text has a form that this cannot edit.
    """
    wanted = tomllib.loads(text)
    inner: dict[str, Any] = wanted
    for key in keys[:-1]:
        inner = inner.setdefault(key, {})
        if not isinstance(inner, dict):
            raise _by_hand(keys)
    inner[keys[-1]] = list(value) if isinstance(value, tuple) else value
    line = f"{_key(keys[-1])} = {toml_text(value)}\n"
    lines = text.splitlines(keepends=True)
    start, end = _table(lines, keys[:-1])
    if start is None:
        gap = "" if not lines else "\n" if lines[-1].endswith("\n") else "\n\n"
        made = f"{text}{gap}[{'.'.join(map(_key, keys[:-1]))}]\n{line}"
    else:
        at = _value(lines, start, end, keys[-1])
        if at is None:
            at = _after_content(lines, start, end), _after_content(lines, start, end)
            if not lines[at[0] - 1].endswith("\n"):
                line = f"\n{line}"
        made = "".join([*lines[: at[0]], line, *lines[at[1] :]])
    return _checked(made, wanted, keys)


def without(text: str, keys: Sequence[str]) -> str:
    """The TOML text without one value, or without a whole table.

    Raises:
        NotFound: it is not set.
        BadSetting: the text has a form that this cannot edit.
    """
    wanted = tomllib.loads(text)
    inner: Any = wanted
    for key in keys[:-1]:
        inner = inner.get(key, {}) if isinstance(inner, dict) else {}
    if not isinstance(inner, dict) or keys[-1] not in inner:
        raise NotFound(f"{'.'.join(keys)} is not set")
    is_table = isinstance(inner.pop(keys[-1]), dict)
    lines = text.splitlines(keepends=True)
    made = _without_tables(lines, keys) if is_table else _without_value(lines, keys)
    return _checked("".join(made), wanted, keys)


def _without_value(lines: list[str], keys: Sequence[str]) -> list[str]:
    start, end = _table(lines, keys[:-1])
    at = None if start is None else _value(lines, start, end, keys[-1])
    if at is None:
        raise _by_hand(keys)
    return [*lines[: at[0]], *lines[at[1] :]]


def _without_tables(lines: list[str], keys: Sequence[str]) -> list[str]:
    out: list[str] = []
    skipping = False
    for line in lines:
        header = _header(line)
        if header is not None:
            skipping = header[: len(keys)] == tuple(keys)
        if not skipping:
            out.append(line)
    return out


# ------------------------------------------------------------------ lines
def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else toml_text(key)


def _header(line: str) -> tuple[str, ...] | None:
    """The keys of a table's header; None for every other line."""
    if not _HEADER.match(line):
        return None
    try:
        found: Any = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return None
    keys = []
    while isinstance(found, dict) and found:
        key = next(iter(found))
        keys.append(key)
        found = found[key]
    return tuple(keys)


def _table(lines: list[str], keys: Sequence[str]) -> tuple[int | None, int]:
    """The lines of a table: after its header, to the next header."""
    start, at = None, 0
    while at < len(lines):
        header = _header(lines[at])
        if header is not None:
            if start is not None:
                return start, at
            start = at + 1 if header == tuple(keys) else None
        at += 1
    return start, len(lines)


def _value(lines: list[str], start: int, end: int, key: str) -> tuple[int, int] | None:
    """The lines of one value in a table; lists may go over many lines."""
    at = start
    while at < end:
        if lines[at].strip() and not lines[at].lstrip().startswith("#"):
            last, found = _parsed(lines, at, end)
            if key in found:
                return at, last
            at = last
        else:
            at += 1
    return None


def _parsed(lines: list[str], at: int, end: int) -> tuple[int, dict[str, Any]]:
    for last in range(at + 1, end + 1):
        try:
            return last, tomllib.loads("".join(lines[at:last]))
        except tomllib.TOMLDecodeError:
            continue
    return at + 1, {}


def _after_content(lines: list[str], start: int, end: int) -> int:
    """Where a line is added: after the table's last line that is not empty."""
    while end > start and not lines[end - 1].strip():
        end -= 1
    return end


# ------------------------------------------------------------------ safety
def _checked(made: str, wanted: dict[str, Any], keys: Sequence[str]) -> str:
    try:
        right = _pruned(tomllib.loads(made)) == _pruned(wanted)
    except tomllib.TOMLDecodeError:
        right = False
    if not right:
        raise _by_hand(keys)
    return made


def _pruned(table: dict[str, Any]) -> dict[str, Any]:
    """The same without empty tables, which say nothing."""
    clean = {key: _pruned(one) if isinstance(one, dict) else one for key, one in table.items()}
    return {key: one for key, one in clean.items() if one != {}}


def _by_hand(keys: Sequence[str]) -> BadSetting:
    return BadSetting(
        f"the file has a form in which {'.'.join(keys)} cannot be changed from here",
        hint="`localstore policy edit` opens it",
    )
