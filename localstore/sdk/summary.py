"""What stands in the summary when nobody set it: the last value of each key, or its extremes."""

from __future__ import annotations

import math
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from localstore.errors import UsageError
from localstore.format.columns import flatten

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from localstore.format.records import Record

SUMMARIES: Final = ("min", "max", "mean", "first", "last", "best", "none", "copy")
GOALS: Final = ("minimize", "maximize")


def check_definition(
    name: str, summary: str | None, goal: str | None, step_metric: str | None
) -> dict[str, Any]:
    """The body of a DEFINE record.

    Raises:
        UsageError: an unknown summary or goal.
    """
    parts = [part.strip() for part in (summary or "").split(",") if part.strip()]
    for part in parts:
        if part not in SUMMARIES:
            raise UsageError(f"summary={part!r} for {name!r}, want one of {', '.join(SUMMARIES)}")
    if goal is not None and goal not in GOALS:
        raise UsageError(f"goal={goal!r} for {name!r}, want one of {', '.join(GOALS)}")
    body = {"summary": parts, "goal": goal, "step_metric": step_metric}
    return {key: value for key, value in body.items() if value}


class SummaryFold:
    """Folds points into a summary, by the definitions of their keys.

    A key without definition keeps its last value. A defined one becomes a dict of what was asked
    for, such as `{"min": 0.1, "max": 2.0}`; `best` is the least or, with goal "maximize", the
    greatest; `none` leaves the key out. NaN counts for `last` and `first` only.
    """

    def __init__(self) -> None:
        self.definitions: dict[str, dict[str, Any]] = {}
        self._last: dict[str, Any] = {}
        self._defined: dict[str, dict[str, Any]] = {}
        self._sums: dict[str, tuple[float, int]] = {}

    def define(self, name: str, body: Mapping[str, Any], *, overwrite: bool = False) -> None:
        """Take a definition; `name` may be a glob. A later one adds to an earlier one."""
        before = {} if overwrite else self.definitions.get(name, {})
        self.definitions[name] = {**before, **body}

    def definition(self, key: str) -> dict[str, Any] | None:
        """What was defined for a key: by its name, else by the first glob that fits."""
        found = self.definitions.get(key)
        if found is not None:
            return found
        for pattern, body in self.definitions.items():
            if any(sign in pattern for sign in "*?[") and fnmatchcase(key, pattern):
                return body
        return None

    def add_points(self, points: Iterable[Record]) -> None:
        """Fold POINT records, in order."""
        if not self.definitions:
            for point in points:
                self._last.update(point[3])
            return
        for point in points:
            for key, value in flatten(point[3]).items():
                self._add(key, value)

    def _add(self, key: str, value: Any) -> None:
        definition = self.definition(key)
        wanted = definition.get("summary") if definition else None
        if not definition or not wanted:
            self._last[key] = value
            return
        entry = self._defined.setdefault(key, {})
        entry["last"] = value
        entry.setdefault("first", value)
        if type(value) in (int, float) and not math.isnan(value):
            entry["min"] = min(entry.get("min", value), value)
            entry["max"] = max(entry.get("max", value), value)
            total, count = self._sums.get(key, (0.0, 0))
            self._sums[key] = (total + value, count + 1)
            entry["mean"] = self._sums[key][0] / self._sums[key][1]
            entry["best"] = entry["max" if definition.get("goal") == "maximize" else "min"]

    def values(self) -> dict[str, Any]:
        """The summary so far."""
        out = flatten(self._last)
        for key, entry in self._defined.items():
            wanted = self._wanted(key)
            out[key] = {name: entry[name] for name in wanted if name in entry}
        return {key: value for key, value in out.items() if "none" not in self._wanted(key)}

    def _wanted(self, key: str) -> list[str]:
        definition = self.definition(key) if self.definitions else None
        return definition.get("summary", []) if definition else []

    def copy(self) -> SummaryFold:
        """An independent copy."""
        other = SummaryFold()
        other.definitions = dict(self.definitions)
        other._last = dict(self._last)
        other._defined = {key: dict(entry) for key, entry in self._defined.items()}
        other._sums = dict(self._sums)
        return other
