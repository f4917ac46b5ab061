"""Histories as pandas frames, where pandas is installed."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

from localstore.query.history import MISSING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from localstore.format.columns import Column
    from localstore.query.history import Table


def to_pandas(table: Table, keys: Sequence[str] | None, created_us: int) -> Any:
    """A frame with `_step`, `_timestamp` (s), `_runtime` (s) and a column for each key.

    Numbers are float64, or int64 where every row has a whole number; other values are objects.

    Raises:
        ImportError: pandas is not installed.
    """
    import numpy as np
    import pandas as pd

    times = np.array(table.times_us, dtype=np.int64)
    columns: dict[str, Any] = {
        "_step": np.array(table.steps, dtype=np.int64),
        "_timestamp": times / 1e6,
        "_runtime": (times - created_us) / 1e6,
    }
    for name in table.pieces if keys is None else keys:
        columns[name] = _array(table.pieces.get(name, []), len(table.steps))
    if table.order is not None:
        order = np.array(table.order, dtype=np.int64)
        columns = {name: values[order] for name, values in columns.items()}
    frame = pd.DataFrame(columns, copy=False)
    if keys is not None:
        frame = frame.dropna(how="all", subset=list(keys)).reset_index(drop=True)
    return frame


def _array(pieces: Sequence[tuple[int, Column]], rows: int) -> Any:
    import numpy as np

    if not all(_is_plain(column.values) for _, column in pieces):
        return _objects(pieces, rows)
    parts = [(start, column, np.asarray(column.values)) for start, column in pieces]
    kinds = {part.dtype.kind for _, _, part in parts}
    if not kinds <= {"f", "i", "b"} or ("b" in kinds and len(kinds) > 1):
        return _objects(pieces, rows)
    filled = sum(len(part) for _, _, part in parts)
    if filled == rows and kinds == {"i"}:
        out = np.zeros(rows, dtype=np.int64)
    elif filled == rows and kinds == {"b"}:
        out = np.zeros(rows, dtype=bool)
    elif kinds == {"b"}:
        return _objects(pieces, rows)
    else:
        out = np.full(rows, np.nan)
    for start, column, part in parts:
        if column.rows is None:
            out[start : start + len(part)] = part
        else:
            out[start + np.asarray(column.rows, dtype=np.int64)] = part
    return out


def _is_plain(values: Sequence[Any]) -> bool:
    """Whether numpy may take these values as they are: numbers, not texts, lists or nothing."""
    return isinstance(values, (array, range)) or set(map(type, values)) <= {float, int, bool}


def _objects(pieces: Sequence[tuple[int, Column]], rows: int) -> Any:
    import numpy as np

    from localstore.query.history import Table

    values = Table(steps=[0] * rows, pieces={"": list(pieces)}).column("")
    out = np.empty(rows, dtype=object)
    for row, value in enumerate(values):  # at once, numpy would look into lists of one length
        out[row] = None if value is MISSING else value
    return out
