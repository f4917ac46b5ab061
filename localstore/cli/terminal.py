"""How the command line talks to people: data on stdout, everything else on stderr.

Two rules. Text that anybody chose (names, keys, values, paths) is printed through `inert`, so that
no control character of it reaches a terminal. Messages are one line, lower case, and begin with
`localstore:` so that they can be told from a script's own output.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import unicodedata
from typing import TYPE_CHECKING, Any, Final

import click

from localstore.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Joiners shape letters and emoji and do nothing else; all other format characters can deceive.
_HARMLESS_FORMATS: Final = "\u200c\u200d"
_UNSHOWN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def inert(text: object) -> str:
    """Text that cannot move a cursor, colour, hide or reorder what is around it."""
    return "".join(map(_inert_character, str(text)))


def _inert_character(one: str) -> str:
    if unicodedata.category(one) not in _UNSHOWN or one in _HARMLESS_FORMATS:
        return one
    return one.encode("unicode_escape").decode("ascii")


# ------------------------------------------------------------------ stderr
def error(message: object, hint: str = "") -> None:
    """Why the command failed, and what to do next."""
    click.echo(f"localstore: error: {inert(message)}", err=True)
    if hint:
        click.echo(f"localstore: hint: {inert(hint)}", err=True)


def warning(message: object) -> None:
    """Something is wrong, and the command goes on."""
    click.echo(f"localstore: warning: {inert(message)}", err=True)


def always(message: object) -> None:
    """What must not be missed, whatever is quiet."""
    click.echo(f"localstore: {inert(message)}", err=True)


def note(message: object) -> None:
    """Something good to know; not said with `--quiet`."""
    from localstore import settings

    if not settings.load().quiet:
        click.echo(f"localstore: {inert(message)}", err=True)


def warn_of_damage(problems: Iterable[object]) -> bool:
    """Name each problem once; returns whether there was any."""
    found = dict.fromkeys(str(problem) for problem in problems)
    for problem in found:
        warning(problem)
    return bool(found)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'sync'?`, or nothing when no known word is near."""
    from difflib import get_close_matches

    near = get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


# ------------------------------------------------------------------ stdout
def on_terminal() -> bool:
    """Whether stdout is read by a person."""
    return sys.stdout is not None and sys.stdout.isatty()


def width_chars() -> int:
    """Width of the terminal; 80 where there is none."""
    return max(20, shutil.get_terminal_size((80, 24)).columns)


def draws_braille() -> bool:
    """Whether stdout takes characters beyond ASCII."""
    try:
        "\u28ff\u2026".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def say_json(document: object) -> None:
    """One strict JSON document, in ASCII, so that it holds no control characters either."""
    click.echo(json.dumps(strict(document), indent=2, allow_nan=False))


def strict(value: Any) -> Any:
    """The same value as strict JSON has it: NaN and infinities as text, bytes as hex."""
    match value:
        case bool() | int() | str() | None:
            return value
        case float():
            return value if math.isfinite(value) else float_text(value)
        case dict():
            return {str(key): strict(one) for key, one in value.items()}
        case list() | tuple():
            return [strict(one) for one in value]
        case bytes():
            return value.hex()
        case _:
            return str(value)


def float_text(value: float) -> str:
    """NaN, Infinity, -Infinity, or the shortest text that reads back as the same number."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return repr(value)


def short(value: object, most_chars: int = 24) -> str:
    """A value for a narrow column, inert."""
    text = f"{value:.4g}" if isinstance(value, float) else inert(_plain(value))
    mark = "\u2026" if draws_braille() else "..."
    return text if len(text) <= most_chars else text[: most_chars - len(mark)] + mark


def _plain(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "true" if value else "false"
        case dict() | list() | tuple():
            return json.dumps(strict(value), ensure_ascii=False)
        case _:
            return str(value)


def columns(rows: Sequence[Sequence[str]], indent: str = "") -> str:
    """Rows as aligned columns, two spaces apart, without trailing blanks."""
    room = widths(rows)
    lines = (
        indent
        + "  ".join(
            cell + " " * (width - _cells(cell)) for cell, width in zip(row, room, strict=True)
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def widths(rows: Sequence[Sequence[str]]) -> list[int]:
    """How many terminal cells each column takes."""
    return [max(map(_cells, column)) for column in zip(*rows, strict=True)]


def _cells(text: str) -> int:
    """How many terminal cells a text takes."""
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1
        for one in text
    )


# ------------------------------------------------------------------ questions
def can_ask() -> bool:
    """Whether a person is there to answer."""
    return sys.stdin is not None and sys.stdin.isatty()


def confirm(question: str) -> bool:
    """Ask on stderr; no is the default.

    Raises:
        UsageError: there is nobody to ask.
    """
    if not can_ask():
        raise UsageError("this asks before it acts, and there is nobody to ask", hint="give --yes")
    return click.confirm(question, default=False, err=True)


def ask_secret(prompt: str) -> str:
    """Read one line from the terminal without echo."""
    import getpass

    return getpass.getpass(prompt)
