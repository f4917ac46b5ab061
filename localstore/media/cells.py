"""Cells of a table: what they may hold, and how they stand in JSON.

JSON has no NaN, no bytes and no dates: those are objects with `_type`, and a dict of the user that
has such a key is wrapped in one.
"""

from __future__ import annotations

import base64
import datetime as dt
import math
from typing import TYPE_CHECKING, Any, Final

from localstore.errors import Damaged, UsageError
from localstore.media.base import Media
from localstore.sdk.values import FOREIGN_ERRORS, Histogram, plain

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_CELL_NUMBERS: Final = 1_000_000  # of an array in one cell
_MAX_DEPTH: Final = 40
_PLAIN: Final = frozenset({type(None), bool, int, float, str})
_KEPT: Final = frozenset({*_PLAIN, bytes, dt.datetime, dt.date})


def cell_of(value: Any) -> Any:
    """A value as a cell, copied where it could change.

    Raises:
        UsageError: a table or a chart inside a table, or an array of more than a million numbers.
    """
    if type(value) in _KEPT:
        return value
    if isinstance(value, Media):
        if value.kind in ("table-file", "custom-chart"):
            raise UsageError(f"a {type(value).__name__} in a cell of a table")
        return value
    if isinstance(value, Histogram):
        return Histogram.from_record(value.to_record())
    if callable(getattr(value, "isoformat", None)):
        return _moment(value)
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return _array(value)
    if isinstance(value, (list, tuple)):
        return [_inner(item) for item in value]
    if isinstance(value, dict):
        return {str(name): _inner(item) for name, item in value.items()}
    return _foreign(value)


def _inner(value: Any, depth: int = 0) -> Any:
    if type(value) in _PLAIN:
        return value
    if depth < _MAX_DEPTH and isinstance(value, (list, tuple)):
        return [_inner(item, depth + 1) for item in value]
    if depth < _MAX_DEPTH and isinstance(value, dict):
        return {str(name): _inner(item, depth + 1) for name, item in value.items()}
    return str(value)[:1000] if depth >= _MAX_DEPTH else _no_media(cell_of(value))


def _no_media(cell: Any) -> Any:
    if isinstance(cell, Media):
        raise UsageError(f"a {type(cell).__name__} inside a list or dict in a cell, want it alone")
    return cell


def _moment(value: Any) -> Any:
    """Dates and times of datetime and pandas; NaT is None."""
    if value != value:
        return None
    convert = getattr(value, "to_pydatetime", None)
    if callable(convert):
        return convert(warn=False)
    return value if type(value) in _KEPT else str(value)


def _array(value: Any) -> Any:
    from localstore.media.arrays import to_numpy

    size = math.prod(value.shape)
    if size > MAX_CELL_NUMBERS:
        raise UsageError(
            f"a cell with {size:,} numbers, at most {MAX_CELL_NUMBERS:,}",
            hint="store a picture or a file instead",
        )
    if getattr(value.dtype, "kind", "f") in "biuf":
        return to_numpy(value, "a cell").tolist()
    found = value.tolist()
    return _inner(found) if isinstance(found, list) else cell_of(found)


def _foreign(value: Any) -> Any:
    """Pictures of Pillow and figures as `Image`; what is missing as None; all else as text."""
    from localstore.media.convert import as_media

    made = as_media(value)
    if made is not None:
        return cell_of(made)
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    try:
        again = plain(value)
    except FOREIGN_ERRORS as error:
        raise UsageError(f"a cell of {type(value).__name__}: {error!s:.100}") from error
    return again if type(again) in _KEPT else _inner(again)


# ------------------------------------------------------------------ JSON
def to_wire(cell: Any, place: Callable[[Media], dict[str, Any]]) -> Any:
    """A cell as what JSON knows; `place` says what stands for media."""
    kind = type(cell)
    if kind is float:
        return cell if math.isfinite(cell) else {"_type": "number", "value": repr(cell)}
    if kind in _PLAIN:
        return cell
    if kind is list:
        return [to_wire(item, place) for item in cell]
    if kind is dict:
        body = {name: to_wire(item, place) for name, item in cell.items()}
        return {"_type": "dict", "value": body} if "_type" in body else body
    if isinstance(cell, Media):
        return place(cell)
    if isinstance(cell, Histogram):
        return cell.to_record()
    if kind is bytes:
        return {"_type": "bytes", "value": base64.b64encode(cell).decode()}
    return {"_type": kind.__name__, "value": cell.isoformat()}


def from_wire(raw: Any, media: Callable[[dict[str, Any]], Any], depth: int = 0) -> Any:
    """What `to_wire` made; `media` opens what stands for media. Unknown objects stay as they are.

    Raises:
        Damaged: nested too deep, or an object that does not hold what its type says.
    """
    if depth > 2 * _MAX_DEPTH:
        raise Damaged("a cell that is nested too deep")
    if isinstance(raw, list):
        return [from_wire(item, media, depth + 1) for item in raw]
    if not isinstance(raw, dict):
        return raw
    kind = raw.get("_type")
    if kind is None:
        return {name: from_wire(item, media, depth + 1) for name, item in raw.items()}
    if kind == "dict" and isinstance(raw.get("value"), dict):
        return {name: from_wire(item, media, depth + 1) for name, item in raw["value"].items()}
    try:
        return _READERS[kind](raw) if kind in _READERS else media(raw)
    except (ValueError, TypeError, LookupError, OverflowError, UsageError) as error:
        raise Damaged(f"a cell of type {kind!r:.40}: {error!s:.100}") from error


def _number(raw: dict[str, Any]) -> float:
    if raw["value"] not in ("nan", "inf", "-inf"):
        raise ValueError("want nan, inf or -inf")
    return float(raw["value"])


_READERS: Final[dict[Any, Callable[[dict[str, Any]], Any]]] = {
    "number": _number,
    "bytes": lambda raw: base64.b64decode(raw["value"], validate=True),
    "datetime": lambda raw: dt.datetime.fromisoformat(raw["value"]),
    "date": lambda raw: dt.date.fromisoformat(raw["value"]),
    "histogram": Histogram.from_record,
}
