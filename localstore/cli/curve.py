"""A small line chart in text: braille dots, or ASCII where the terminal has nothing else."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

# Bits of a braille character by (column, row from the top), Unicode block 0x2800.
_DOTS: Final = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
_BLANK: Final = 0x2800


def draw(
    steps: Sequence[int],
    values: Sequence[float],
    *,
    width: int,
    height: int = 4,
    braille: bool = True,
) -> list[str]:
    """Lines of text that show a curve.

    Args:
        steps: x, in any order of size; `values`: y, as many. NaN and infinities make gaps.
        width, height: characters.
        braille: two by four dots in a character; else one `*`.

    Returns:
        `height` lines of at most `width` characters; none when no value is finite.
    """
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return []
    across, down = (2, 4) if braille else (1, 1)
    columns, rows = width * across, height * down
    x_of = _Scale(min(steps), max(steps), columns)
    y_of = _Scale(min(finite), max(finite), rows)
    dots: set[tuple[int, int]] = set()
    before: tuple[int, int] | None = None
    for step, value in zip(steps, values, strict=True):
        if not math.isfinite(value):
            before = None
            continue
        here = x_of.place(step), rows - 1 - y_of.place(value)
        if here != before:  # most points of a long run share their dot with the one before
            dots.update(_line(before or here, here))
            before = here
    render = _braille if braille else _stars
    return [render(dots, row, width).rstrip() for row in range(height)]


class _Scale:
    """Places of numbers from `low` to `high` in `places` equal steps from 0 up."""

    def __init__(self, low: float, high: float, places: int) -> None:
        # Halves: the span of two huge numbers of opposite sign is infinite, half of it is not.
        self._low, self._span, self._last = low / 2, high / 2 - low / 2, places - 1

    def place(self, number: float) -> int:
        if self._span == 0:
            return self._last // 2
        return round((number / 2 - self._low) / self._span * self._last)


def _line(start: tuple[int, int], end: tuple[int, int]) -> list[tuple[int, int]]:
    """The dots from one to the other, both included."""
    (x0, y0), (x1, y1) = start, end
    length = max(abs(x1 - x0), abs(y1 - y0))
    if length == 0:
        return [end]
    return [
        (round(x0 + (x1 - x0) * at / length), round(y0 + (y1 - y0) * at / length))
        for at in range(length + 1)
    ]


def _braille(dots: set[tuple[int, int]], row: int, width: int) -> str:
    cells = [0] * width
    for x in range(width * 2):
        for y in range(4):
            if (x, row * 4 + y) in dots:
                cells[x // 2] |= _DOTS[x % 2][y]
    return "".join(chr(_BLANK + cell) if cell else " " for cell in cells)


def _stars(dots: set[tuple[int, int]], row: int, width: int) -> str:
    return "".join("*" if (x, row) in dots else " " for x in range(width))
