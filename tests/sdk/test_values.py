"""What is logged reads back as what it was."""

from __future__ import annotations

import enum
import math
import struct
from dataclasses import dataclass
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pytest

import localstore
from localstore.errors import UsageError
from tests.sdk.scripts import column, only_run, points


def through(value: Any) -> Any:
    """One value, logged, closed and read again."""
    with localstore.init(project="values") as run:
        run.log({"value": value})
    (found,) = column("value")
    return found


class FakeTensor:
    """What localstore sees of a torch tensor or a jax array."""

    def __init__(self, values: Any, shape: tuple[int, ...] = ()) -> None:
        self._values, self.shape = values, shape

    def item(self) -> Any:
        if math.prod(self.shape) != 1:
            raise RuntimeError("a tensor with several elements")
        return self._values

    def detach(self) -> FakeTensor:
        return self

    def cpu(self) -> FakeTensor:
        return self

    def tolist(self) -> Any:
        return self._values


class Broken:
    """A value whose owner raises when asked for it, as a deleted jax array does."""

    shape = ()

    def __init__(self, error: Exception) -> None:
        self._error = error

    def item(self) -> Any:
        raise self._error

    def __str__(self) -> str:
        raise self._error


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@dataclass
class Options:
    lr: float = 0.5


@pytest.mark.parametrize(
    "value",
    [
        0, 1, -1, 127, 128, 2**31, 2**53 + 1, -(2**63), 2**63 - 1, 2**63, 2**64 - 1,
        0.1, -0.0, 5e-324, 1.7976931348623157e308, math.pi, float("inf"), float("-inf"),
        True, False, None, "", "text", "naïve ☃ 🜚 \u0000 \u200f", b"bytes", [], [1, 2.5, "x", None],
        [[1, 2], [3, [4]]],
    ],
    ids=repr,
)  # fmt: skip
def test_a_python_value_comes_back_as_it_was(value: Any) -> None:
    found = through(value)
    assert found == value
    assert type(found) is type(value)
    if isinstance(value, float):
        assert struct.pack("<d", found) == struct.pack("<d", value)


def test_nan_comes_back_as_nan() -> None:
    assert math.isnan(through(float("nan")))


@pytest.mark.parametrize(
    ("value", "want"),
    [
        (np.float64(0.1), 0.1),
        (np.float32(0.1), float(np.float32(0.1))),
        (np.float16(0.1), float(np.float16(0.1))),
        (np.int8(-7), -7),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.int64(-(2**63)), -(2**63)),
        (np.bool_(True), True),
        (np.str_("text"), "text"),
        (np.array(3.5), 3.5),
        (np.array([7]), 7),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.longdouble(0.5), "0.5"),
        (FakeTensor(0.25), 0.25),
        (FakeTensor(4, (1, 1)), 4),
        (FakeTensor([1.0, 2.0], (2,)), [1.0, 2.0]),
        (10**30, 1e30),
        (-(10**30), -1e30),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        ((1, 2), [1, 2]),
        ({3}, [3]),
        (range(3), [0, 1, 2]),
        (PurePosixPath("a/b"), "a/b"),
        (2 + 3j, "(2+3j)"),
        (Fraction(1, 3), "1/3"),
    ],
    ids=lambda value: f"{type(value).__name__}-{value!r:.40}",
)
def test_what_is_nearly_a_python_value_becomes_one(value: Any, want: Any) -> None:
    found = through(value)
    assert found == want
    assert type(found) is type(want)


def test_an_int_beyond_a_float_comes_back_as_text() -> None:
    assert through(10**400) == str(10**400)


@pytest.mark.parametrize("value", ["half \ud800 pair", {"a\udfff": "x\ud800"}], ids=ascii)
def test_half_a_surrogate_pair_is_replaced_and_the_point_is_kept(value: Any) -> None:
    with localstore.init(project="values") as run:
        run.log({"value": value, "other": 1})
        run.log({"key \ud800": 2})
    assert column("other") == [1]
    assert column("key ?") == [2]


def test_nested_dicts_become_keys_with_dots() -> None:
    with localstore.init(project="values") as run:
        run.log({"a": {"b": {"c": 1}, "d": 2.5}, "e": {}, "f": 3})
    assert points() == [{"_step": 0, "a.b.c": 1, "a.d": 2.5, "f": 3}]


@pytest.mark.parametrize(
    "error",
    [RuntimeError("deleted"), KeyError("x"), ZeroDivisionError(), OSError(5, "gone")],
    ids=repr,
)
def test_a_value_that_cannot_be_read_costs_itself_and_raises_nothing(error: Exception) -> None:
    with localstore.init(project="values") as run:
        run.log({"bad": Broken(error), "good": 1})
        run.log({"good": 2})
    assert column("good") == [1, 2]
    assert column("bad") == [f"unreadable Broken: {type(error).__name__}"]


def test_a_value_that_contains_itself_raises_nothing() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with localstore.init(project="values") as run:
        run.log({"loop": loop, "good": 1})
    assert column("good") == [1]


@pytest.mark.parametrize("data", [None, 5, "text", [("a", 1)], {1: 2}, {"k" * 1025: 1}, {None: 1}])
def test_what_is_no_dict_of_named_values_is_dropped_and_counted(
    data: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with localstore.init(project="values") as run:
        run.log(data)
        run.log({"loss": 1.0})
    assert column("loss") == [1.0]
    assert only_run().gaps == {"not loggable": 1}
    assert "dropped and counted" in capsys.readouterr().err


def test_a_point_too_large_for_a_record_is_dropped_and_counted() -> None:
    with localstore.init(project="values") as run:
        run.log({"text": "x" * 40_000_000})
        run.log({"loss": 1.0})
    assert column("loss") == [1.0]
    assert only_run().gaps == {"too large": 1}


def test_many_great_points_are_all_kept() -> None:
    random = np.random.default_rng(1)
    sent = [random.bytes(300_000).hex() for _ in range(60)]
    with localstore.init(project="values") as run:
        for text in sent:
            run.log({"text": text})
    assert column("text") == sent, "differs"
    assert (only_run().problems, only_run().gaps) == ([], {})


# ------------------------------------------------------------------ histograms
def test_a_histogram_has_64_bins_unless_told_otherwise() -> None:
    histogram = localstore.Histogram(list(range(640)))
    assert histogram.histogram == [10] * 64
    assert (histogram.bins[0], histogram.bins[-1], len(histogram.bins)) == (0, 639, 65)


def test_a_histogram_counts_as_numpy_does() -> None:
    numbers = np.random.default_rng(3).normal(size=(50, 40))
    counts, edges = np.histogram(numbers, bins=32)
    ours = localstore.Histogram(numbers, num_bins=32)
    assert np.allclose(ours.bins, edges)
    assert sum(ours.histogram) == 2000
    assert np.abs(np.array(ours.histogram) - counts).sum() <= 2  # numbers on an edge


def test_a_histogram_of_given_bins_comes_back_as_it_was() -> None:
    given = localstore.Histogram(np_histogram=np.histogram([1, 2, 2, 5], bins=[0, 2, 4, 6]))
    found = through(given)
    assert found == {"_type": "histogram", "values": [1, 2, 1], "bins": [0.0, 2.0, 4.0, 6.0]}
    assert localstore.Histogram.from_record(found) == given


def test_a_histogram_leaves_out_and_counts_what_is_not_finite() -> None:
    histogram = localstore.Histogram([1.0, math.nan, math.inf, 2.0, -math.inf])
    assert (sum(histogram.histogram), histogram.ignored) == (2, 3)


@pytest.mark.parametrize(
    "words",
    [
        {"sequence": "text"},
        {"sequence": object()},
        {"sequence": [1], "num_bins": 0},
        {"sequence": [1], "num_bins": 513},
        {"np_histogram": ([1, 2], [0, 1])},
        {"np_histogram": ([1] * 513, list(range(514)))},
    ],
    ids=repr,
)
def test_a_histogram_that_cannot_be_says_so(words: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        localstore.Histogram(**words)


def test_a_large_array_is_kept_as_a_histogram() -> None:
    found = through(np.arange(5000.0))
    assert found["_type"] == "histogram"
    assert sum(found["values"]) == 5000


def test_rows_of_changing_keys_and_kinds_come_back_as_they_were() -> None:
    kinds: list[Any] = [1, 2.5, "x", True, None, [1], 2**64 - 1, -0.0, {"_type": "t", "v": 1}]
    sent = [
        {f"k{key}": kinds[(step * 7 + key) % len(kinds)] for key in range(step % 5 + 1)}
        for step in range(3000)
    ]
    with localstore.init(project="values") as run:
        for row in sent:
            run.log(row)
    found = points()
    assert [row.pop("_step") for row in found] == list(range(3000))
    assert found == sent


def test_a_frame_holds_lists_texts_and_nothing_beside_numbers() -> None:
    """Lists of one length, and rows without a value, are where numpy looks too far."""
    run = localstore.init(project="digits")
    for step in range(3):
        run.log({"list": [step, step + 1], "text": "a", "none": None, "mixed": step or "zero"})
    run.log({"list": [1], "number": 0.5, "flag": True, "count": 3})
    run.finish()

    frame = localstore.Api().run(run.id).history()

    assert list(frame["list"]) == [[0, 1], [1, 2], [2, 3], [1]]
    assert list(frame["mixed"][:3]) == ["zero", 1, 2]
    assert frame["none"].isna().all()
    assert frame["number"].iloc[3] == 0.5
    assert frame["flag"].iloc[3] is True
