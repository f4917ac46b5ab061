"""How two runs differ."""

from __future__ import annotations

from typing import Any

import pytest

from localstore.reproduce import compare
from localstore.reproduce.compare import (
    comparable_code,
    diff_code,
    diff_mappings,
    diff_requirements,
)


def rows(left: dict[str, Any], right: dict[str, Any]) -> list[tuple[str, Any, Any, str]]:
    found = diff_mappings(left, right)
    return [(one.key, one.left, one.right, one.change) for one in found]


def test_keys_are_compared_with_dots_between_and_sorted() -> None:
    left = {"lr": 0.1, "net": {"depth": 3, "name": "a"}, "gone": 1, "same": [1, {"a": 2}]}
    right = {"lr": 0.2, "net": {"depth": 3, "name": "b"}, "new": None, "same": [1, {"a": 2}]}
    assert rows(left, right) == [
        ("gone", 1, None, "removed"),
        ("lr", 0.1, 0.2, "changed"),
        ("net.name", "a", "b", "changed"),
        ("new", None, None, "added"),
    ]


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (1, 1.0, True),
        (float("nan"), float("nan"), True),
        ([float("nan")], (float("nan"),), True),
        (1, True, False),
        ([0], [False], False),
        ({}, None, False),
        ({}, {"a": 1}, False),
        ({"_type": "image", "n": 1}, {"_type": "image", "n": 2}, False),
        ({"_type": "image", "n": 1}, {"_type": "image", "n": 1.0}, True),
        ("1", 1, False),
    ],
)
def test_values_are_compared_as_values(left: Any, right: Any, same: bool) -> None:
    assert (diff_mappings({"x": left}, {"x": right}) == []) == same


def test_a_side_that_has_no_value_is_left_out_of_plain_values() -> None:
    found = [one.to_dict() for one in diff_mappings({"a": 1, "b": 1}, {"b": 2, "c": 3})]
    assert found == [
        {"key": "a", "change": "removed", "left": 1},
        {"key": "b", "change": "changed", "left": 1, "right": 2},
        {"key": "c", "change": "added", "right": 3},
    ]


def test_packages_are_compared_by_the_names_that_pip_knows() -> None:
    left = "Torch==2.9\nmy_lib==1.0\ngone==3\n\n# note\n"
    right = "torch==2.10\nmy-lib==1.0\nnew @ git+https://h/x@abc\n"
    found = diff_requirements(left, right)
    assert [(one.key, one.left, one.right) for one in found] == [
        ("gone", "3", None),
        ("new", None, "@ git+https://h/x@abc"),
        ("torch", "2.9", "2.10"),
    ]


def test_files_are_compared_by_line_with_a_head_that_names_them() -> None:
    left = {"a.py": b"x = 1\ny = 2\n", "same.py": b"s", "gone.py": b"g\n"}
    right = {"a.py": b"x = 1\ny = 3", "same.py": b"s", "new.py": b"n\n"}
    found = diff_code(left, right)
    assert list(found) == ["a.py", "gone.py", "new.py"]
    assert found["a.py"] == (
        "--- a/a.py\n+++ b/a.py\n@@ -1,2 +1,2 @@\n x = 1\n-y = 2\n+y = 3\n"
        "\\ No newline at end of file\n"
    )
    assert found["gone.py"] == "--- a/gone.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-g\n"
    assert found["new.py"] == "--- /dev/null\n+++ b/new.py\n@@ -0,0 +1 @@\n+n\n"


def test_of_binary_and_of_endless_files_it_is_said_that_they_differ(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compare, "MAX_COMPARED_LINES", 10)
    found = diff_code({"b": b"\0", "l": b"x\n" * 9, "t": b"\xff\n"}, {"b": b"\1", "l": b"y\n" * 9})
    assert found["b"] == "Binary files a/b and b/b differ\n"
    assert found["l"] == "Files a/l and b/l differ, in 9 and 9 lines\n"
    assert "-\\xff" in found["t"]
    long = {"l": b"x\n" * 99 + b"old\n" + b"y\n" * 99}
    assert "\n-old\n+new\n" in diff_code(long, {"l": long["l"].replace(b"old", b"new")})["l"]
    assert "\n-x\n" in diff_code({"l": b"x\n" * 99}, {"l": b"x\n" * 98})["l"]


def test_equal_sides_have_no_differences() -> None:
    assert diff_code({"a": b"x"}, {"a": b"x"}) == {}
    assert diff_mappings({}, {}) == []
    assert diff_requirements("", "") == []


def test_an_empty_file_that_appears_is_a_difference() -> None:
    assert diff_code({}, {"empty": b""}) == {"empty": "--- /dev/null\n+++ b/empty\n"}


def test_code_folders_are_compared_where_both_have_one_and_else_what_both_may_have() -> None:
    whole = {"code/a.py": b"1", "main/a.py": b"1", "diff.patch": b"p", "upstream.patch": b"u"}
    part = {"main/a.py": b"2", "upstream.patch": b"v"}
    assert comparable_code(whole, whole) == ({"code/a.py": b"1"}, {"code/a.py": b"1"})
    assert comparable_code(whole, part) == (
        {"main/a.py": b"1", "diff.patch": b"p"},
        {"main/a.py": b"2"},
    )
