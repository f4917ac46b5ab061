"""Tables: every cell comes back as it was, and a spreadsheet never runs one."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localstore.errors import Damaged, UsageError
from localstore.media import Audio, Histogram, Html, Image, Table
from localstore.media.cells import MAX_CELL_NUMBERS
from localstore.media.reading import from_file
from tests.media.conftest import Shelf

if TYPE_CHECKING:
    from pathlib import Path

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary(max_size=50)
    | st.dates()
    | st.datetimes(timezones=st.just(dt.UTC) | st.none())
)
NAMES = st.text(max_size=8) | st.sampled_from(["_type", "path", "value"])
CELLS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
TABLES = st.integers(0, 4).flatmap(
    lambda width: st.tuples(
        st.lists(st.text(max_size=10), min_size=width, max_size=width, unique=True),
        st.lists(st.lists(CELLS, min_size=width, max_size=width), max_size=6),
    )
)


def same(left: Any, right: Any) -> bool:
    """Equal with its types, NaN with itself."""
    if type(left) is not type(right):
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[name], right[name]) for name in left)
    return bool(left == right) or (left != left and right != right)


@settings(max_examples=200, deadline=None)
@given(TABLES)
def test_every_cell_comes_back_as_it_was(table: tuple[list[str], list[list[Any]]]) -> None:
    columns, rows = table
    opened = Shelf().again(Table(columns=columns, data=rows))

    assert opened.columns == columns
    assert same(opened.data, rows)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(SCALARS, min_size=2, max_size=2), max_size=6))
def test_a_table_as_csv_has_all_its_rows(rows: list[list[Any]]) -> None:
    out = io.StringIO(newline="")
    Table(columns=["a", "b"], data=rows).to_csv(out)
    found = list(csv.reader(io.StringIO(out.getvalue(), newline="")))

    assert len(found) == 1 + len(rows)
    assert all(len(row) == 2 for row in found)


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "=cmd|'/C calc'!A0",
        "+1+cmd",
        "-2+3+cmd|'x'!A0",
        "@SUM(1)",
        "\t=1",
        "\r=1",
        "\n=1",
        "＝1+1",  # noqa: RUF001
    ],
)
def test_a_formula_in_a_cell_or_a_name_stays_text(text: str) -> None:
    out = io.StringIO(newline="")
    Table(columns=[text], data=[[text], [{"a": 1}]]).to_csv(out)
    (name,), (cell,), _ = csv.reader(io.StringIO(out.getvalue(), newline=""))

    assert name == cell
    assert cell[0] == "'"
    assert cell.replace("'", "") == text.replace("'", "")


@pytest.mark.parametrize("number", [-5, -0.25, "-5", "+3.5e-7", "-.5"])
def test_a_negative_number_stays_a_number(number: Any) -> None:
    out = io.StringIO()
    Table(columns=["n"], data=[[number]]).to_csv(out)

    assert out.getvalue().splitlines()[1] == str(number)


def test_csv_is_for_its_owner_alone_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    table = Table(
        columns=["a", "b"], data=[[dt.date(2026, 1, 2), [1, 2]], [Histogram([1.0]), b"x"]]
    )
    table.to_csv(path)

    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text().splitlines()[1] == '2026-01-02,"[1, 2]"'


def test_media_in_cells_come_back_with_their_words(shelf: Shelf) -> None:
    picture = np.arange(64, dtype=np.uint8).reshape(8, 8)
    table = Table(columns=["picture", "sound", "page", "bins"])
    table.add_data(
        Image(picture, caption="eight", masks={"m": {"mask_data": picture % 3}}),
        Audio(np.zeros(100), 8000, caption="silence"),
        Html("<b>x</b>"),
        Histogram([1.0, 2.0]),
    )
    table.add_data(Image(picture, caption="again"), None, None, None)
    opened = shelf.again(table)

    first, second = opened.data
    assert (first[0].to_numpy() == picture).all()
    assert (first[0].masks["m"].to_numpy() == picture % 3).all()
    assert [first[0].caption, first[1].caption, second[0].caption] == ["eight", "silence", "again"]
    assert first[2].html == "<b>x</b>"
    assert first[3] == Histogram([1.0, 2.0])


def test_the_same_picture_in_many_cells_is_one_file(shelf: Shelf) -> None:
    picture = Image(np.zeros((4, 4), np.uint8))
    shelf.log(Table(columns=["p"], data=[[picture]] * 10))

    assert len(shelf.files) == 2


def test_pictures_of_a_table_are_read_when_they_are_looked_at(shelf: Shelf) -> None:
    pictures = [[Image(np.full((4, 4), at, np.uint8))] for at in range(5)]
    record = shelf.log(Table(columns=["p"], data=pictures))
    read: list[str] = []

    def reading(path: str) -> bytes:
        read.append(path)
        return shelf.read(path)

    opened = from_file(record["path"], shelf.facts(record["path"]), reading)

    assert isinstance(opened, Table)
    assert read == [record["path"]]
    assert opened.data[3][0].to_numpy()[0, 0] == 3
    assert len(read) == 2


def test_rows_added_later_belong_to_the_next_time(shelf: Shelf) -> None:
    values = [1, 2]
    table = Table(columns=["list"], data=[[values]])
    record = shelf.log(table)
    values.append(3)
    table.add_data([4])

    assert shelf.open(record).data == [[[1, 2]]]


@pytest.mark.parametrize(
    "how",
    [lambda x: Table(data=x), lambda x: Table(dataframe=x), lambda x: Table(rows=x)],
    ids=["data", "dataframe", "rows"],
)
def test_a_frame_of_pandas_is_a_table(how: Any, shelf: Shelf) -> None:
    frame = pd.DataFrame(
        {
            "n": [1, 2],
            "x": [0.5, float("nan")],
            "t": ["a", None],
            "when": pd.Series([pd.Timestamp("2026-01-02"), pd.NaT]),
            3: pd.array([1, None], dtype="Int64"),
        }
    )
    opened = shelf.again(how(frame))

    assert opened.columns == ["n", "x", "t", "when", "3"]
    assert opened.data[0] == [1, 0.5, "a", dt.datetime(2026, 1, 2), 1]  # noqa: DTZ001
    assert opened.data[1][3:] == [None, None]
    assert all(type(row[0]) is int for row in opened.data)


def test_a_frame_that_is_logged_is_a_table(shelf: Shelf) -> None:
    assert shelf.again(pd.DataFrame({"a": [1]})).columns == ["a"]


def test_arrays_as_data_and_numpy_scalars_become_numbers() -> None:
    table = Table(columns=["a", "b"], data=np.arange(4.0).reshape(2, 2))
    table.add_data(np.float32(0.5), np.int64(3))

    assert table.data == [[0.0, 1.0], [2.0, 3.0], [0.5, 3]]
    assert all(type(cell) in (int, float) for row in table.data for cell in row)


def test_vectors_stand_in_cells_whole() -> None:
    vector = np.arange(4096, dtype=np.float32)

    assert Table(columns=["v"], data=[[vector]]).data[0][0] == vector.tolist()


def test_columns_are_added_and_read() -> None:
    table = Table(columns=["a"], data=[[1], [2]])
    table.add_column("b", np.array([0.5, 1.5]))
    table.add_computed_columns(lambda at, row: {"c": at + row["a"]})

    assert table.get_column("c") == [1, 3]
    assert table.get_column("b", convert_to="numpy").tolist() == [0.5, 1.5]
    assert list(table.iterrows()) == [(0, [1, 0.5, 1]), (1, [2, 1.5, 3])]
    assert table.get_index() == [0, 1]
    assert table.get_dataframe()["c"].tolist() == [1, 3]
    with pytest.raises(UsageError, match="no column 'z'"):
        table.get_column("z")


def test_a_column_may_come_first() -> None:
    table = Table()
    table.add_column("x", [1, 2])
    table.add_column("y", [3, 4])

    assert (table.columns, table.data) == (["x", "y"], [[1, 3], [2, 4]])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Table(columns=["a", "a"]),
        lambda: Table(columns=["a"], data=[[1, 2]]),
        lambda: Table(columns=["a"], data="text"),
        lambda: Table(columns=["a"], data=[1]),
        lambda: Table(columns=["a"], data=["x"]),
        lambda: Table(columns=["a"], data=[[1]]).add_column("b", [1, 2]),
        lambda: Table(columns=["a"], data=[[1]]).add_column("a", [1]),
        lambda: Table(columns=["a"], data=[[1]]).add_column("b", 5),
        lambda: Table(columns=["a"], data=[[Table()]]),
        lambda: Table(columns=["a"], data=[[[Html("x")]]]),
        lambda: Table(columns=["a"], data=[[np.zeros(MAX_CELL_NUMBERS + 1)]]),
        lambda: Table(columns=["a"]).get_column("a", convert_to="list"),
    ],
)
def test_a_wrong_row_or_column_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError):
        wrong()


def test_a_refused_column_changes_nothing() -> None:
    table = Table(columns=["a"], data=[[1]])
    with pytest.raises(UsageError):
        table.add_column("a", [2])

    assert (table.columns, table.data) == (["a"], [[1]])


def test_a_cell_that_nobody_knows_is_its_text() -> None:
    class Strange:
        def __str__(self) -> str:
            return "strange"

    assert Table(columns=["a"], data=[[Strange()]]).data == [["strange"]]


def test_a_cell_that_contains_itself_ends() -> None:
    loop: list[Any] = []
    loop.append(loop)
    table = Table(columns=["a"], data=[[loop]])

    assert len(json.dumps(table.data)) < 5_000


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b'{"columns":[],"data":{}}',
        b'{"columns":["a"],"data":[[]]}',
        b'{"columns":["a","a"],"data":[]}',
        b'{"columns":["a"],"data":[5]}',
        b'{"columns":["a"],"data":[[{"_type":"number","value":"1e5"}]]}',
        b'{"columns":["a"],"data":[[{"_type":"bytes","value":"!"}]]}',
        b'{"columns":["a"],"data":[[{"_type":"datetime","value":5}]]}',
        b'{"columns":["a"],"data":[[{"_type":"histogram","values":[1],"bins":[1]}]]}',
        b'{"columns":["a"],"data":[[{"_type":"image-file","path":"../x"}]]}',
        b'{"columns":["a"],"data":[[{"_type":"image-file","path":"/etc/passwd"}]]}',
        b'{"columns":["a"],"data":[[{"_type":"image-file"}]]}',
        b'{"columns":["a"],"data":[[' + b"[" * 100_000,
        b'{"columns":["a"],"data":[[' + b"[" * 200 + b"]" * 200 + b"]]}",
        b'{"columns":["a"],"data":[[' + b"9" * 10_000 + b"]]}",
    ],
    ids=lambda raw: f"{len(raw)} {raw[-40:]!r}",
)
def test_a_hostile_table_is_damaged_and_nothing_else(raw: bytes) -> None:
    with pytest.raises(Damaged):
        Table.restored({}, raw, lambda path: b"content")


def test_a_cell_of_a_later_version_stays_what_it_is() -> None:
    raw = b'{"columns":["a"],"data":[[{"_type":"smell","value":5}]]}'

    assert Table.restored({}, raw, lambda path: b"").data == [[{"_type": "smell", "value": 5}]]
