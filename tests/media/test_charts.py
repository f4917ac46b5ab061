"""Charts: the numbers are scikit-learn's, and nothing in them reaches out of a page."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localstore.errors import UsageError
from localstore.media import CustomChart, Table, plot
from localstore.media.curves import precision_recall, roc, thinned

if TYPE_CHECKING:
    from tests.media.conftest import Shelf

metrics = pytest.importorskip("sklearn.metrics", reason="compares with scikit-learn")

SCORED = st.lists(
    st.tuples(
        st.booleans(), st.sampled_from([0.0, 0.1, 0.5, 0.5000001, 0.9, 1.0]) | st.floats(0, 1)
    ),
    min_size=2,
    max_size=60,
).filter(lambda pairs: len({label for label, _ in pairs}) == 2)


def arrays(pairs: list[tuple[bool, float]]) -> tuple[Any, Any]:
    labels, scores = zip(*pairs, strict=True)
    return np.array(labels), np.array(scores)


@settings(max_examples=200, deadline=None)
@given(SCORED)
def test_roc_is_that_of_sklearn(pairs: list[tuple[bool, float]]) -> None:
    labels, scores = arrays(pairs)
    for ours, theirs in zip(roc(labels, scores), metrics.roc_curve(labels, scores), strict=True):
        np.testing.assert_allclose(ours, theirs)


@settings(max_examples=200, deadline=None)
@given(SCORED)
def test_precision_and_recall_are_those_of_sklearn(pairs: list[tuple[bool, float]]) -> None:
    labels, scores = arrays(pairs)
    theirs = metrics.precision_recall_curve(labels, scores)
    for ours, expected in zip(precision_recall(labels, scores), theirs, strict=True):
        np.testing.assert_allclose(ours, expected)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=80))
def test_confusion_is_that_of_sklearn(pairs: list[tuple[int, int]]) -> None:
    actual, predicted = zip(*pairs, strict=True)
    table = plot.confusion_matrix(
        y_true=actual, preds=predicted, class_names=["a", "b", "c", "d", "e"]
    ).table
    theirs = metrics.confusion_matrix(actual, predicted, labels=range(5))

    assert [row[2] for row in table.data] == theirs.ravel().tolist()
    assert table.data[1][:2] == ["a", "b"]


def test_each_class_has_a_curve_against_the_rest() -> None:
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 3, 200), rng.random((200, 3))
    chart = plot.roc_curve(labels, scores, labels=["cat", "dog", "owl"], classes_to_plot=[0, 2])
    fpr, tpr, _ = metrics.roc_curve(labels, scores[:, 2], pos_label=2)

    owl = [row[1:] for row in chart.table.data if row[0] == "owl"]
    assert {row[0] for row in chart.table.data} == {"cat", "owl"}
    np.testing.assert_allclose(owl, np.c_[fpr, tpr])


def test_a_curve_of_many_points_is_thinned_and_keeps_its_ends() -> None:
    rng = np.random.default_rng(0)
    chart = plot.pr_curve(rng.integers(0, 2, 50_000), rng.random((50_000, 2)))
    rows = [row for row in chart.table.data if row[0] == "1"]

    assert len(rows) == plot.MAX_CURVE_POINTS
    assert rows[-1][1:] == [1.0, 0.0]
    assert thinned(5, 10).tolist() == [0, 1, 2, 3, 4]


def test_labels_of_text_and_scores_of_one_dimension() -> None:
    chart = plot.roc_curve(["no", "yes", "yes"], [0.1, 0.4, 0.8])

    assert {row[0] for row in chart.table.data} == {"yes"}


def test_probabilities_count_by_the_greatest() -> None:
    chart = plot.confusion_matrix(probs=[[0.1, 0.9], [0.8, 0.2]], y_true=[1, 1])

    assert [row[2] for row in chart.table.data] == [0, 0, 1, 1]


def test_names_of_classes_may_be_the_labels() -> None:
    chart = plot.confusion_matrix(y_true=["a", "b"], preds=["b", "b"], class_names=["b", "a"])

    assert chart.table.data == [["b", "b", 1], ["b", "a", 0], ["a", "b", 1], ["a", "a", 0]]


TABLE = Table(columns=["x", "y.z", "kind"], data=[[1, 2.0, "a"], [2, float("nan"), "b"]])


@pytest.mark.parametrize(
    "make",
    [
        lambda: plot.line(TABLE, "x", "y.z", title="T"),
        lambda: plot.line(TABLE, "x", "y.z", stroke="kind", title="T"),
        lambda: plot.scatter(TABLE, "x", "y.z", title="T"),
        lambda: plot.bar(TABLE, "kind", "y.z", title="T"),
        lambda: plot.histogram(TABLE, "y.z", title="T"),
        lambda: plot.line_series([1, 2], [[3, 4], [5, 6]], keys=["a", "b"], title="T", xname="n"),
        lambda: plot.line_series([[1], [2, 3]], [[3], [5, 6]], title="T"),
        lambda: plot.confusion_matrix(y_true=[0, 1], preds=[0, 1], title="T"),
        lambda: plot.roc_curve([0, 1], [[1, 0], [0, 1]], title="T"),
        lambda: plot.pr_curve([0, 1], [[1, 0], [0, 1]], title="T"),
        lambda: plot.plot_table("wandb/scatter/v0", TABLE, {"x": "x", "y": "y.z"}, {"title": "T"}),
    ],
)
def test_every_chart_is_whole_vega_lite_after_a_round_trip(make: Any, shelf: Shelf) -> None:
    opened = shelf.again(make())
    spec = opened.to_vega_lite()
    text = json.dumps(spec, allow_nan=False)

    assert spec["$schema"].endswith("/vega-lite/v5.json")
    assert spec["title"] == opened.title == "T"
    assert "${" not in text
    assert len(spec["data"]["values"]) == len(opened.table.data) > 0
    columns = [name.replace(".", "\\.") for name in opened.table.columns]
    assert set(fields_of(spec)) <= set(columns)


def fields_of(part: Any) -> list[str]:
    """Every field that a specification names."""
    if isinstance(part, list):
        return [name for inner in part for name in fields_of(inner)]
    if not isinstance(part, dict):
        return []
    here = [part["field"]] if "field" in part else []
    return here + [n for key, inner in part.items() if key != "data" for n in fields_of(inner)]


def test_a_chart_reaches_nothing_outside() -> None:
    spec = {
        "data": {"url": "https://evil.example/steal"},
        "layer": [{"mark": "image", "encoding": {"url": {"field": "${field:x}"}}}],
        "encoding": {"href": {"value": "javascript:alert(1)"}, "x": {"field": "${field:x}"}},
        "transform": [{"lookup": "x", "from": {"data": {"url": "https://evil.example/x"}}}],
        "usermeta": {"embedOptions": {"loader": {"baseURL": "https://evil.example"}}},
    }
    text = json.dumps(CustomChart(spec, TABLE, {"x": "x"}).to_vega_lite())

    assert "evil" not in text
    assert "javascript" not in text
    assert '"field": "x"' in text


def test_a_text_that_looks_like_a_placeholder_is_not_filled_again() -> None:
    spec = plot.line(TABLE, "x", "y.z", title="${field:y}").to_vega_lite()

    assert spec["title"] == "${field:y}"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: plot.line(TABLE, "x", "nope"),
        lambda: plot.plot_table("somebody/secret/v1", TABLE, {}),
        lambda: plot.plot_table("line", [1, 2], {}),  # type: ignore[arg-type]
        lambda: plot.plot_table({"mark": object()}, TABLE, {}),
        lambda: plot.line_series([1, 2], [[1, 2, 3]]),
        lambda: plot.line_series([[1], [2]], [[1]]),
        lambda: plot.line_series([1], [[1]], keys=["a", "b"]),
        lambda: plot.confusion_matrix(y_true=[1]),
        lambda: plot.confusion_matrix(y_true=[1], preds=[1, 2]),
        lambda: plot.confusion_matrix(y_true=[7], preds=[7], class_names=["a"]),
        lambda: plot.roc_curve([0, 1], None),
        lambda: plot.roc_curve([0, 1], [[0.5, 0.5]]),
        lambda: plot.roc_curve([0, 1], [[float("nan"), 0], [0, 1]]),
        lambda: plot.pr_curve(["a", "b", "c"], [[0, 1], [1, 0], [0, 1]]),
    ],
)
def test_a_wrong_chart_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError):
        wrong()
