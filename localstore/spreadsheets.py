"""What a spreadsheet would run when it opens a CSV file, and how it is kept from that."""

from __future__ import annotations

import re
from typing import Final

# A spreadsheet runs a text cell that begins so; the wide forms stand for the same keys in Japan.
_OPERATORS: Final = "=+\\-@\uff1d\uff0b\uff0d\uff20"
_FORMULA: Final = re.compile(rf"[{_OPERATORS}\t\r\n]")
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
# Half the world's spreadsheets end a cell at a semicolon, many at a tab, and all at the end of a
# line when they did not see the quote before it: then the middle of a text is a cell.
_INNER_FORMULA: Final = re.compile(rf'(?<=[;\t\r\n])(?="*[{_OPERATORS}])')


def safe_text(text: str) -> str:
    """A text, with an apostrophe wherever a spreadsheet would find a formula in it."""
    if _NUMBER.fullmatch(text):
        return text
    return ("'" if _FORMULA.match(text) else "") + _INNER_FORMULA.sub("'", text)
