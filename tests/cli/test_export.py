"""`localstore export`."""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localstore.cli.export import cell
from tests.cli.conftest import call

if TYPE_CHECKING:
    from collections.abc import Callable


def _rows(*words: str) -> list[dict[str, Any]]:
    outcome = call("export", *words)
    assert (outcome.code, outcome.err) == (0, "")
    return [json.loads(line) for line in outcome.out.splitlines()]


def _table(*words: str) -> list[list[str]]:
    outcome = call("export", "--format", "csv", *words)
    assert (outcome.code, outcome.err) == (0, "")
    return list(csv.reader(io.StringIO(outcome.out)))


def test_one_run_as_json_lines(two_runs: None) -> None:
    rows = _rows("first")
    assert [list(row) for row in rows] == [["_step", "_timestamp", "_runtime", "acc", "loss"]] * 2
    assert [(row["_step"], row["loss"]) for row in rows] == [(0, 1.0), (1, 0.5)]


def test_rows_of_a_project_name_their_run(two_runs: None) -> None:
    assert [row["run"] for row in _rows("digits")] == [
        "ada/digits/first",
        "ada/digits/first",
        "ada/digits/second",
    ]
    assert _rows("digits") == _rows("first", "second") == _rows("second", "digits") == _rows()


def test_a_logged_key_named_run_is_kept(make_run: Callable[..., str]) -> None:
    make_run([{"run": 7}], id="one")
    assert [(row["run"], row["_run"]) for row in _rows("digits")] == [(7, "ada/digits/one")]


def test_json_is_strict(make_run: Callable[..., str]) -> None:
    values = [float("nan"), float("inf"), float("-inf"), True, None, "x", [1, 2.5]]
    make_run([{"v": value} for value in values], id="one")
    assert [row["v"] for row in _rows("one")] == [
        "NaN", "Infinity", "-Infinity", True, None, "x", [1, 2.5],
    ]  # fmt: skip


def test_csv_has_every_column_and_blanks_where_nothing_was_logged(
    make_run: Callable[..., str],
) -> None:
    make_run([{"b": 1}, {"a": -1.5, "b": float("nan")}], id="one")
    table = _table("one")
    assert table[0] == ["_step", "_timestamp", "_runtime", "a", "b"]
    assert [row[3:] for row in table[1:]] == [["", "1"], ["-1.5", "NaN"]]


OPERATORS = "=+-@\uff1d\uff0b\uff0d\uff20"
FORMULAS = ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "+", "-", "\t1", "\r1", "\n1", "\uff1d1", "-1\n"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_text_that_begins_as_a_formula_is_inert(text: str) -> None:
    assert cell(text) == "'" + text


@pytest.mark.parametrize("character", "\t\r\n")
def test_a_formula_behind_a_blank_that_spreadsheets_skip_is_inert(character: str) -> None:
    assert cell(f"{character}=1") == f"'{character}'=1"


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("a;=1+1", "a;'=1+1"),  # a spreadsheet whose cells end at semicolons
        ('a;"=1+1";b', 'a;\'"=1+1";b'),
        ("a\t@SUM(A1)", "a\t'@SUM(A1)"),
        ("a\r=1+1", "a\r'=1+1"),
        ("a\n-1+1", "a\n'-1+1"),
        ("a;;\uff0b1", "a;;'\uff0b1"),
    ],
)
def test_a_formula_in_the_middle_of_a_text_is_inert_where_a_cell_may_begin(
    text: str, safe: str
) -> None:
    assert cell(text) == safe


@given(st.text(alphabet=";\t\r\n\",'a1. " + OPERATORS, max_size=12))
def test_however_a_spreadsheet_cuts_a_text_no_piece_is_a_formula(text: str) -> None:
    first, *others = re.split("[;\t\r\n]", cell(text))
    # Where a cell is cut, quotes before it may count as those around it.
    for piece in [first, *(other.lstrip('"') for other in others)]:
        assert not piece.startswith(tuple(OPERATORS)) or is_number(cell(text))


def is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


@pytest.mark.parametrize("text", ["-5", "+3.5e-7", "-.5", "+1", "-1.", "7"])
def test_a_text_that_is_a_number_stays_as_it_is(text: str) -> None:
    assert cell(text) == text


@pytest.mark.parametrize("text", ["a = 1", "a-b", "x; y", "a\nb", "e-5", "mean@5", "[-1, 2]"])
def test_a_harmless_text_stays_as_it_is(text: str) -> None:
    assert cell(text) == text


@pytest.mark.parametrize("text", ["a\rb", "a\nb", "a\r\nb", "\r", 'a"b', "a,b"])
def test_no_text_begins_a_row_of_its_own(
    make_run: Callable[..., str], tmp_path: Path, text: str
) -> None:
    make_run([{"word": text, "z": 1}], id="one")
    call("export", "--format", "csv", "one", "-o", str(tmp_path / "out.csv"))
    rows = list(csv.reader(io.StringIO((tmp_path / "out.csv").read_bytes().decode(), newline="")))
    assert [len(row) for row in rows] == [5, 5]
    assert rows[1][3].lstrip("'") == text


@pytest.mark.parametrize("text", [*FORMULAS, "a;=1", "\x1b[31m"])
def test_json_lines_hold_a_hostile_text_exactly(make_run: Callable[..., str], text: str) -> None:
    make_run([{"word": text}], id="one")
    assert [row["word"] for row in _rows("one")] == [text]


@pytest.mark.parametrize(
    ("value", "text"),
    [(-1.5, "-1.5"), (-3, "-3"), (1e-07, "1e-07"), (float("-inf"), "-Infinity"), (False, "false")],
)
def test_numbers_stay_numbers(value: object, text: str) -> None:
    assert cell(value) == text


def test_a_hostile_key_or_value_is_safe_in_csv(make_run: Callable[..., str]) -> None:
    make_run([{"=cmd|' /C calc'!A0": "@evil"}], id="one")
    table = _table("one")
    assert table[0][3] == "'=cmd|' /C calc'!A0"
    assert table[1][3] == "'@evil"


def test_keys_choose_columns_and_rows(make_run: Callable[..., str]) -> None:
    make_run([{"a": 1, "b": 2}, {"b": 3}, {"c": 4}], id="one")
    assert [row["_step"] for row in _rows("one", "--key", "a", "--key", "c")] == [0, 2]
    assert _table("one", "--keys", "c,a")[0][3:] == ["c", "a"]


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_the_same_store_gives_the_same_bytes(two_runs: None, form: str) -> None:
    assert call("export", "--format", form).out == call("export", "--format", form).out


def test_a_file_is_private_and_whole_and_said_to_be_plaintext(
    two_runs: None, tmp_path: Path
) -> None:
    target = tmp_path / "out.jsonl"
    target.write_text("old")
    outcome = call("export", "first", "-o", str(target), LOCALSTORE_QUIET="0")
    assert (outcome.code, outcome.out) == (0, "")
    assert "plaintext" in outcome.err
    assert target.read_text() == call("export", "first").out
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_device_or_a_missing_folder_is_no_target(two_runs: None, tmp_path: Path) -> None:
    assert call("export", "-o", "/dev/null").code == 2
    assert call("export", "-o", str(tmp_path / "no/file")).code == 66
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("target", ["nobody", "digits/nobody", "a/b/c"])
def test_what_is_neither_run_nor_project_is_an_error(two_runs: None, target: str) -> None:
    outcome = call("export", target)
    assert (outcome.code, outcome.out) == (66, "")
    assert f"no run and no project {target!r}" in outcome.err


def test_a_folder_that_refuses_is_told_by_the_name_that_was_given(
    two_runs: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = os.open

    def refusing(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if flags & os.O_CREAT and Path(path).parent == tmp_path:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return create(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", refusing)
    outcome = call("export", "first", "-o", str(tmp_path / "out.csv"))
    assert outcome.code == 74
    assert f"{tmp_path / 'out.csv'}: Permission denied" in outcome.err
