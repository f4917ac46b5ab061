"""Lengths of time on a command line: `90s`, `10m`, `2h`, `1d12h`."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    _ParamType = click.ParamType[float]
else:
    _ParamType = click.ParamType  # not every click that we take has it generic

_UNITS_S: Final = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(min|[smhdw])\s*")


class Duration(_ParamType):
    """A length of time, in seconds; a bare number is none, for nobody agrees on its unit."""

    name = "duration"
    _may_be_none = False

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds, or a usage error."""
        if isinstance(value, float):
            return value
        text = str(value).strip().lower()
        parts = list(_PART.finditer(text))
        if not parts or "".join(part.group() for part in parts) != text:
            self.fail(
                f"{value!r} is no length of time, want one such as 90s, 10m, 2h, 1d", param, ctx
            )
        total = math.fsum(float(part[1]) * _UNITS_S[part[2]] for part in parts)
        if not 0 <= total < 10 * 365 * 86_400 or (total == 0 and not self._may_be_none):
            self.fail(f"{value!r} is not between nothing and ten years", param, ctx)
        return total


DURATION: Final = Duration()
