"""Filters and orders over runs, in the form that the tracker API made known (MongoDB's)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from localstore.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from localstore.query.api import StoredRun

_ALIASES: Final = {
    "display_name": "name",
    "displayName": "name",
    "jobType": "job_type",
    "summary_metrics": "summary",
    "createdAt": "created_at",
}
_FIELDS: Final = ("id", "name", "group", "job_type", "tags", "notes", "state", "created_at", "path")
_MISSING: Final = object()


def value_of(run: StoredRun, key: str) -> Any:
    """A field of a run by its dotted name, such as `config.lr` or `summary.loss`.

    Raises:
        UsageError: no run has such a field.
    """
    head, _, rest = key.partition(".")
    head = _ALIASES.get(head, head)
    if head in _FIELDS and not rest:
        return getattr(run, head)
    if head not in ("config", "summary"):
        names = ", ".join((*_FIELDS, "config.KEY", "summary.KEY"))
        raise UsageError(f"no field {key!r} to filter or order runs by, want one of {names}")
    values: Any = getattr(run, head)
    rest = rest.removesuffix(".value")
    if rest in values:
        return values[rest]
    for part in rest.split("."):
        if not isinstance(values, dict) or part not in values:
            return _MISSING
        values = values[part]
    return values


def _compare(operator: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def check(found: Any, wanted: Any) -> bool:
        try:
            return found is not _MISSING and operator(found, wanted)
        except TypeError:
            return False

    return check


def _equal(found: Any, wanted: Any) -> bool:
    if isinstance(found, (list, tuple)) and not isinstance(wanted, (list, tuple)):
        return wanted in found
    return bool(found == wanted)


def _in(found: Any, wanted: Any) -> bool:
    return any(_equal(found, one) for one in wanted)


def _matches(found: Any, wanted: Any) -> bool:
    return isinstance(found, str) and re.search(wanted, found) is not None


_OPERATORS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "$eq": _equal,
    "$ne": lambda found, wanted: not _equal(found, wanted),
    "$gt": _compare(lambda found, wanted: found > wanted),
    "$gte": _compare(lambda found, wanted: found >= wanted),
    "$lt": _compare(lambda found, wanted: found < wanted),
    "$lte": _compare(lambda found, wanted: found <= wanted),
    "$in": _in,
    "$nin": lambda found, wanted: not _in(found, wanted),
    "$exists": lambda found, wanted: (found is not _MISSING) == bool(wanted),
    "$regex": _matches,
}


def accepts(filters: Mapping[str, Any], run: StoredRun) -> bool:
    """Whether a run passes, for example `{"config.lr": {"$gt": 0.1}, "state": "finished"}`.

    Raises:
        UsageError: no mapping, an unknown field or operator, or a malformed regular expression.
    """
    if not isinstance(filters, Mapping):
        raise UsageError(f'filters are {filters!r}, want as in {{"config.lr": {{"$lt": 0.1}}}}')
    for key, wanted in filters.items():
        match key:
            case "$and":
                passed = all(accepts(one, run) for one in wanted)
            case "$or":
                passed = any(accepts(one, run) for one in wanted)
            case "$not":
                passed = not accepts(wanted, run)
            case _:
                passed = _field_passes(value_of(run, key), wanted)
        if not passed:
            return False
    return True


def _field_passes(found: Any, wanted: Any) -> bool:
    if not isinstance(wanted, dict) or not all(str(key).startswith("$") for key in wanted):
        return _equal(found, wanted)
    for name, operand in wanted.items():
        if name == "$not":
            if _field_passes(found, operand):
                return False
            continue
        if name not in _OPERATORS:
            raise UsageError(f"no operator {name!r}, want one of {', '.join(_OPERATORS)}")
        try:
            if not _OPERATORS[name](found, operand):
                return False
        except re.error as error:
            raise UsageError(f"{operand!r} is no regular expression: {error}") from error
    return True


def sort_key(order: str) -> tuple[Callable[[StoredRun], Any], bool]:
    """The sort key for `+created_at`, `-summary.loss` and the like; runs without a value last.

    Returns:
        The key, and whether to sort from the greatest down.
    """
    down = order.startswith("-")
    name = order.lstrip("+-")

    def key(run: StoredRun) -> Any:
        value = value_of(run, name)
        number = isinstance(value, (int, float)) and value == value
        known = number or isinstance(value, str)
        last = known is down
        return (last, number, value if number else 0.0, value if isinstance(value, str) else "")

    return key, down
