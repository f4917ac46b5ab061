"""Tables of mixed cells, media among them; JSON when stored, CSV for spreadsheets."""

from __future__ import annotations

import csv
import json
import os
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from localstore.errors import Damaged, UsageError
from localstore.media.base import Media, MediaFile
from localstore.media.cells import cell_of, from_wire, to_wire
from localstore.media.names import content_path
from localstore.media.overlays import unpack
from localstore.spreadsheets import safe_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

DEFAULT_COLUMNS: Final = ("Input", "Output", "Expected")
MAX_COLUMNS: Final = 10_000


class Table(Media):
    """Rows of cells: numbers, text, dates, lists, dicts, bytes, histograms, media.

    Columns may hold values of different types. The rows are fixed when the table is logged; later
    rows belong to the next time it is logged.

    Args:
        columns: names; `Input`, `Output`, `Expected` when nothing says otherwise.
        data: rows, each as long as there are columns; an array; or a pandas frame.
        rows: the same as `data`.
        dataframe: a pandas frame, whose columns count.
        dtype, optional, allow_mixed_types, log_mode: taken for wandb's sake and ignored.

    Attributes:
        columns: list of text. data: list of rows.

    Raises:
        UsageError: a row of another length, a name twice, or a cell that cannot be stored.
    """

    kind = "table-file"
    folder = "table"
    MAX_ROWS: ClassVar[int] = 200_000

    def __init__(
        self,
        columns: Sequence[Any] | None = None,
        data: Any = None,
        rows: Any = None,
        dataframe: Any = None,
        dtype: Any = None,  # noqa: ARG002
        optional: Any = True,  # noqa: ARG002
        allow_mixed_types: bool = True,  # noqa: ARG002
        log_mode: str | None = None,  # noqa: ARG002
    ) -> None:
        given = dataframe if dataframe is not None else data if data is not None else rows
        self.data: list[list[Any]] = []
        if callable(getattr(given, "itertuples", None)):
            columns = list(given.columns) if columns is None else columns
            given = given.itertuples(index=False, name=None)
        self.columns = _names(DEFAULT_COLUMNS if columns is None else columns)
        for row in _rows(given):
            self.add_data(*row)

    # -------------------------------------------------------------- filling
    def add_data(self, *row: Any) -> None:
        """Add one row.

        Raises:
            UsageError: it has more or fewer cells than there are columns.
        """
        if len(row) != len(self.columns):
            raise UsageError(
                f"a row of {len(row)} cells, the table has {len(self.columns)} columns"
            )
        self.data.append([cell_of(value) for value in row])

    def add_row(self, *row: Any) -> None:
        """The same as `add_data`."""
        self.add_data(*row)

    def add_column(self, name: Any, data: Any, optional: bool = False) -> None:  # noqa: ARG002
        """Add a column, with one value for each row; to an empty table it brings the rows.

        Raises:
            UsageError: the name is there, or the values are more or fewer than the rows.
        """
        values = [cell_of(value) for value in _values(data)]
        fresh = not self.data and (not self.columns or tuple(self.columns) == DEFAULT_COLUMNS)
        if not fresh and len(values) != len(self.data):
            raise UsageError(
                f"column {name!r} of {len(values)} values, the table has {len(self.data)} rows"
            )
        self.columns = _names([*([] if fresh else self.columns), name])
        if fresh:
            self.data = [[value] for value in values]
        else:
            for row, value in zip(self.data, values, strict=True):
                row.append(value)

    def add_computed_columns(self, fn: Callable[[int, dict[str, Any]], Mapping[str, Any]]) -> None:
        """Add columns whose values `fn(index, row as a dict)` gives as a dict by name."""
        made = [
            dict(fn(at, dict(zip(self.columns, row, strict=True)))) for at, row in self.iterrows()
        ]
        for name in made[0] if made else ():
            self.add_column(name, [each.get(name) for each in made])

    # -------------------------------------------------------------- looking
    def __len__(self) -> int:
        return len(self.data)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Table) and self._json() == other._json()

    __hash__ = None  # type: ignore[assignment]  # rows may be added

    def iterrows(self) -> Iterator[tuple[int, list[Any]]]:
        """Index and cells of each row."""
        yield from enumerate(self.data)

    def get_index(self) -> list[int]:
        """The indexes of the rows."""
        return list(range(len(self.data)))

    def get_column(self, name: Any, convert_to: str | None = None) -> Any:
        """The values of a column.

        Args:
            name: of the column.
            convert_to: `numpy` for an array.

        Raises:
            UsageError: no such column, or another `convert_to`.
        """
        at = self._index(name)
        values = [row[at] for row in self.data]
        if convert_to is None:
            return values
        if convert_to != "numpy":
            raise UsageError(f"convert_to is {convert_to!r}, want 'numpy' or none")
        import numpy as np

        try:
            return np.array(values)
        except ValueError:  # lists of different lengths
            out = np.empty(len(values), dtype=object)
            out[:] = values
            return out

    def get_dataframe(self) -> Any:
        """The table as a frame of pandas; media are objects in it.

        Raises:
            ImportError: pandas is not installed.
        """
        import pandas as pd

        return pd.DataFrame.from_records(self.data, columns=self.columns)

    def _index(self, name: Any) -> int:
        try:
            return self.columns.index(str(name))
        except ValueError:
            known = ", ".join(self.columns[:20])
            raise UsageError(f"no column {name!r} in the table", hint=f"it has {known}") from None

    def to_csv(self, path_or_file: Any) -> None:
        """Write CSV: UTF-8, a line of names first. Media stand as the names of their files.

        Text that a spreadsheet would take for a formula gets a `'` in front, numbers do not.

        Args:
            path_or_file: an open file, or a path, which is replaced; readable by its owner alone.
        """
        if isinstance(path_or_file, (str, os.PathLike)):
            handle = os.open(path_or_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(handle, "w", encoding="utf-8", newline="") as stream:  # noqa: PTH123
                self._write_csv(stream)
        else:
            self._write_csv(path_or_file)

    def _write_csv(self, stream: Any) -> None:
        out = csv.writer(stream)
        out.writerow([_csv_cell(name) for name in self.columns])
        out.writerows([_csv_cell(cell) for cell in row] for row in self.data)

    # -------------------------------------------------------------- stored
    def counts(self) -> dict[str, int | float]:
        """How many rows and columns."""
        return {"rows": len(self.data), "columns": len(self.columns)}

    def facts(self) -> dict[str, Any]:
        """Plain facts; names of columns stand in the file."""
        return {"kind": self.kind, "format": "table.json", **self.counts()}

    def limited(self, rows: int) -> Table:
        """The table itself, or one of its first rows when it has more."""
        if len(self.data) <= rows:
            return self
        short = Table(self.columns)
        short.data = self.data[:rows]
        return short

    def files(self) -> list[MediaFile]:
        """The table as JSON, and each file of the media in its cells once."""
        content, found = self.packed()
        return [MediaFile(".table.json", content), *found.values()]

    def packed(self) -> tuple[bytes, dict[str, MediaFile]]:
        """The table as JSON, and the files of its media by path."""
        found: dict[str, MediaFile] = {}
        return self._json(found), found

    def _json(self, found: dict[str, MediaFile] | None = None) -> bytes:
        shelf: dict[str, MediaFile] = {} if found is None else found

        def place(media: Media) -> dict[str, Any]:
            return stand_in(media, shelf)

        data = [[to_wire(cell, place) for cell in row] for row in self.data]
        whole = {"columns": self.columns, "data": data}
        text = json.dumps(whole, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return text.encode("utf-8", "replace")

    @classmethod
    def restored(
        cls,
        facts: Mapping[str, Any],  # noqa: ARG003
        content: bytes,
        read: Callable[[str], bytes],
    ) -> Self:
        """What the JSON of a table describes; media in cells are opened.

        Raises:
            Damaged: it describes no table.
        """
        from localstore.media.reading import from_stand_in

        return cls.from_json(unpack(content), lambda raw: from_stand_in(raw, read))

    @classmethod
    def from_json(cls, found: Mapping[str, Any], media: Callable[[dict[str, Any]], Any]) -> Self:
        """A table out of its parsed JSON; `media` opens what stands for media.

        Raises:
            Damaged: it describes no table.
        """
        columns, data = found.get("columns"), found.get("data")
        if not isinstance(columns, list) or not isinstance(data, list):
            raise Damaged("a table without columns and data")
        made = cls(columns=[])
        try:
            made.columns = _names(columns)
        except UsageError as error:
            raise Damaged(f"a table with {error}") from error
        for row in data:
            if not isinstance(row, list) or len(row) != len(columns):
                raise Damaged(f"a table whose rows are not {len(columns)} cells long")
            made.data.append([from_wire(cell, media) for cell in row])
        return made


def stand_in(media: Media, shelf: dict[str, MediaFile]) -> dict[str, Any]:
    """What stands in a cell for media: facts and the name of a file, which goes on `shelf`."""
    main, *rest = media.files()
    path = content_path(media.folder, main.hash, main.suffix)
    for file in rest:
        shelf.setdefault(file.path, file)
    shelf.setdefault(path, MediaFile(main.suffix, main.content, "cell", path))
    record = media.to_record([path], [main.hash], [main.size])
    return media.facts() | record


def _names(columns: Sequence[Any]) -> list[str]:
    names = [str(name) for name in columns]
    if len(set(names)) != len(names) or len(names) > MAX_COLUMNS:
        twice = next((name for at, name in enumerate(names) if name in names[:at]), "")
        raise UsageError(f"column {twice!r} twice, or more than {MAX_COLUMNS:,} columns")
    return names


def _rows(given: Any) -> Iterator[Sequence[Any]]:
    """Rows of whatever holds rows."""
    if given is None:
        return
    if isinstance(given, (str, bytes, dict)) or not hasattr(given, "__iter__"):
        raise UsageError(f"data of a table is a {type(given).__name__}, want a list of rows")
    for row in given:
        if isinstance(row, (str, bytes, dict)) or not hasattr(row, "__iter__"):
            raise UsageError(f"a row of a table is a {type(row).__name__}, want a list of cells")
        yield list(row)


def _values(data: Any) -> list[Any]:
    if isinstance(data, (str, bytes, dict)) or not hasattr(data, "__iter__"):
        raise UsageError(f"values of a column are a {type(data).__name__}, want a list or an array")
    return list(data)


def _csv_cell(cell: Any) -> Any:
    """A cell as text or number for CSV; no text begins like a formula."""
    if cell is None or isinstance(cell, (bool, int, float)):
        return cell
    text = cell if isinstance(cell, str) else _csv_text(cell)
    return safe_text(text)


def _csv_text(cell: Any) -> str:
    if isinstance(cell, Media):
        return str(stand_in(cell, {})["path"])
    raw = to_wire(cell, lambda media: {"_type": media.kind})
    if isinstance(raw, dict) and set(raw) == {"_type", "value"} and isinstance(raw["value"], str):
        return raw["value"]
    return json.dumps(raw, ensure_ascii=False)
