"""What people type after `--filter`: KEY=VALUE and the like, or JSON, as a filter of the Api."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from localstore.errors import UsageError

_FORM: Final = re.compile(
    r"(?P<key>[^=<>!~]+?)\s*(?P<operator>>=|<=|!=|>|<|=|~)\s*(?P<value>.*)", re.S
)
_OPERATORS: Final = {
    "=": "$eq", "!=": "$ne", ">": "$gt", ">=": "$gte", "<": "$lt", "<=": "$lte", "~": "$regex",
}  # fmt: skip
_TEXTS: Final = frozenset(
    {"id", "name", "display_name", "group", "job_type", "tags", "notes", "state", "path"}
)
_HEADS: Final = frozenset({"config", "summary", "summary_metrics"})
_NUMBERS: Final = frozenset({"created_at"})


def parse_filters(texts: tuple[str, ...]) -> dict[str, Any]:
    """One filter that asks for all of them.

    Raises:
        UsageError: neither KEY=VALUE nor a JSON object.
    """
    return {"$and": [parse_filter(text) for text in texts]} if texts else {}


def parse_filter(text: str) -> dict[str, Any]:
    """One filter: `lr>0.1`, `config.lr=0.1`, `state=failed`, `name~^base`, or a JSON object.

    A key that is no field of runs is looked for in their config, then in their summary.

    Raises:
        UsageError: as `parse_filters`.
    """
    if text.lstrip().startswith("{"):
        return _json(text)
    found = _FORM.fullmatch(text.strip())
    if not found:
        raise UsageError(f"filter {text!r} is neither KEY=VALUE, KEY>VALUE nor a JSON object")
    key, operator = found["key"], _OPERATORS[found["operator"]]
    as_text = key in _TEXTS or operator == "$regex"
    wanted = {operator: found["value"] if as_text else json_or_text(found["value"])}
    if key in _TEXTS | _NUMBERS or key.partition(".")[0] in _HEADS:
        return {key: wanted}
    places = [{f"{head}.{key}": wanted} for head in ("config", "summary")]
    return {"$and" if operator == "$ne" else "$or": places}


def _json(text: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise UsageError(f"filter {text!r} is no JSON: {error}") from error
    return found


def json_or_text(text: str) -> Any:
    """A number, true, false, null or a quoted text as JSON has it; else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text
