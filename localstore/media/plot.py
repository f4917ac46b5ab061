"""Charts out of tables and predictions, by the names that wandb.plot has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from localstore.errors import UsageError
from localstore.media.chart import CustomChart
from localstore.media.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = [
    "line", "scatter", "bar", "histogram", "line_series",
    "confusion_matrix", "roc_curve", "pr_curve",
    "plot_table", "CustomChart",
]  # fmt: skip

MAX_CURVE_POINTS: Final = 2_000  # of one class


def _axis(name: str, kind: str = "quantitative", **more: Any) -> dict[str, Any]:
    return {"field": f"${{field:{name}}}", "type": kind, **more}


def _spec(mark: Any, encoding: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"title": "${string:title}", "mark": mark, "encoding": encoding, **more}


_RATE: Final[dict[str, Any]] = {"scale": {"domain": [0, 1]}}
_LINE: Final = {"type": "line", "tooltip": True}
_CELL: Final = {"x": _axis("Predicted", "nominal"), "y": _axis("Actual", "nominal")}
PRESETS: Final[Mapping[str, dict[str, Any]]] = {
    "line": _spec(_LINE, {"x": _axis("x"), "y": _axis("y")}),
    "multi-line": _spec(
        _LINE, {"x": _axis("x"), "y": _axis("y"), "color": _axis("stroke", "nominal")}
    ),
    "lineseries": _spec(
        _LINE,
        {
            "x": _axis("step", title="${string:xname}"),
            "y": _axis("lineVal", title=None),
            "color": _axis("lineKey", "nominal", title=None),
        },
    ),
    "scatter": _spec({"type": "point", "tooltip": True}, {"x": _axis("x"), "y": _axis("y")}),
    "bar": _spec(
        {"type": "bar", "tooltip": True},
        {"x": _axis("value"), "y": _axis("label", "nominal", sort=None)},
    ),
    "histogram": _spec(
        {"type": "bar", "tooltip": True},
        {"x": _axis("value", bin={"maxbins": 50}), "y": {"aggregate": "count"}},
    ),
    "area-under-curve": _spec(
        _LINE,
        {
            "x": _axis("x", title="${string:x-axis-title}", **_RATE),
            "y": _axis("y", title="${string:y-axis-title}", **_RATE),
            "color": _axis("class", "nominal"),
        },
    ),
    "confusion_matrix": {
        "title": "${string:title}",
        "encoding": _CELL,
        "layer": [
            {
                "mark": {"type": "rect", "tooltip": True},
                "encoding": {"color": _axis("nPredictions")},
            },
            {"mark": "text", "encoding": {"text": _axis("nPredictions")}},
        ],
    },
}


def plot_table(
    vega_spec_name: str | Mapping[str, Any],
    data_table: Table,
    fields: Mapping[str, str],
    string_fields: Mapping[str, str] | None = None,
    split_table: bool = False,  # noqa: ARG001
) -> CustomChart:
    """A chart of a table.

    Args:
        vega_spec_name: a Vega-Lite specification, or the name of one of `PRESETS`, also in the form
            `wandb/line/v0`.
        data_table: what is drawn.
        fields: name in the specification → column.
        string_fields: name in the specification → text, such as `title`.
        split_table: taken for wandb's sake and ignored.

    Raises:
        UsageError: no such specification or column.
    """
    if not isinstance(data_table, Table):
        raise UsageError(f"plot_table of a {type(data_table).__name__}, want a Table")
    texts = dict(string_fields or {})
    spec = _preset(vega_spec_name) if isinstance(vega_spec_name, str) else vega_spec_name
    return CustomChart(spec, data_table, fields, str(texts.get("title", "")), texts)


def _preset(name: str) -> dict[str, Any]:
    parts = name.split("/")
    short = parts[1] if len(parts) == 3 and parts[0] == "wandb" else name
    if short not in PRESETS:
        known = ", ".join(PRESETS)
        raise UsageError(f"no chart {name!r}", hint=f"there are {known}; a dict is a specification")
    return PRESETS[short]


def line(
    table: Table,
    x: str,
    y: str,
    stroke: str | None = None,
    title: str = "",
    split_table: bool = False,
) -> CustomChart:
    """A line through the points (x, y) of a table, or one line for each value of `stroke`."""
    fields = {"x": x, "y": y} | ({"stroke": stroke} if stroke else {})
    name = "multi-line" if stroke else "line"
    return plot_table(name, table, fields, {"title": title}, split_table)


def scatter(
    table: Table, x: str, y: str, title: str = "", split_table: bool = False
) -> CustomChart:
    """A point for each row."""
    return plot_table("scatter", table, {"x": x, "y": y}, {"title": title}, split_table)


def bar(
    table: Table, label: str, value: str, title: str = "", split_table: bool = False
) -> CustomChart:
    """A bar for each row: `label` names it, `value` is its length."""
    fields = {"label": label, "value": value}
    return plot_table("bar", table, fields, {"title": title}, split_table)


def histogram(table: Table, value: str, title: str = "", split_table: bool = False) -> CustomChart:
    """How often the values of a column fall into bins of equal width."""
    return plot_table("histogram", table, {"value": value}, {"title": title}, split_table)


def line_series(
    xs: Sequence[Any],
    ys: Sequence[Sequence[Any]],
    keys: Sequence[Any] | None = None,
    title: str = "",
    xname: str = "x",
    split_table: bool = False,
) -> CustomChart:
    """Several lines.

    Args:
        xs: the x of all lines, or a list of them for each line.
        ys: for each line, its values.
        keys: the name of each line.
        title: text above the chart.
        xname: text under the x axis.
        split_table: taken for wandb's sake and ignored.

    Raises:
        UsageError: there are not as many xs or keys as lines, or not as many x as y.
    """
    lines = [list(each) for each in ys]
    names = [str(key) for key in keys] if keys is not None else _numbered(len(lines))
    across = list(xs)
    shared = not across or not hasattr(across[0], "__iter__")
    places = [across] * len(lines) if shared else [list(each) for each in across]
    if not len(lines) == len(names) == len(places):
        raise UsageError(f"{len(lines)} lines, {len(places)} xs and {len(names)} keys")
    table = Table(columns=["step", "lineKey", "lineVal"])
    for name, along, values in zip(names, places, lines, strict=True):
        if len(along) < len(values) or (not shared and len(along) != len(values)):
            raise UsageError(f"line {name!r} has {len(values)} values and {len(along)} x")
        for x, y in zip(along, values, strict=False):
            table.add_data(x, name, y)
    fields = {name: name for name in table.columns}
    return plot_table("lineseries", table, fields, {"title": title, "xname": xname}, split_table)


def _numbered(count: int) -> list[str]:
    return [f"key_{at}" for at in range(count)]


def confusion_matrix(
    probs: Any = None,
    y_true: Any = None,
    preds: Any = None,
    class_names: Sequence[str] | None = None,
    title: str = "Confusion Matrix Curve",
    split_table: bool = False,
) -> CustomChart:
    """How often each class was taken for each.

    Args:
        probs: scores of shape (n, classes), of which the greatest counts; or
        preds: the predicted classes.
        y_true: the true classes.
        class_names: names by the number of the class.
        title: text above the chart.
        split_table: taken for wandb's sake and ignored.

    Raises:
        UsageError: both or neither of `probs` and `preds`, or lengths that differ.
    """
    from localstore.media.curves import confusion

    if (probs is None) == (preds is None) or y_true is None:
        raise UsageError("a confusion matrix needs y_true, and either probs or preds")
    if probs is not None:
        import numpy as np

        preds = np.asarray(probs).argmax(axis=1)
    names, counts = confusion(y_true, preds, class_names)
    table = Table(columns=["Actual", "Predicted", "nPredictions"])
    for row, actual in enumerate(names):
        for column, predicted in enumerate(names):
            table.add_data(actual, predicted, int(counts[row, column]))
    fields = {name: name for name in table.columns}
    return plot_table("confusion_matrix", table, fields, {"title": title}, split_table)


def roc_curve(
    y_true: Any = None,
    y_probas: Any = None,
    labels: Sequence[str] | None = None,
    classes_to_plot: Sequence[Any] | None = None,
    title: str = "ROC Curve",
    split_table: bool = False,
) -> CustomChart:
    """True against false positive rate, each class against the rest.

    Args:
        y_true: the true classes. y_probas: scores of shape (n, classes).
        labels: names by the number of the class.
        classes_to_plot: the classes to draw, all by default.
        title: text above the chart.
        split_table: taken for wandb's sake and ignored.

    Raises:
        UsageError: lengths that differ, or no scores.
    """
    from localstore.media.curves import roc

    table = Table(columns=["class", "fpr", "tpr"])
    _fill(table, (y_true, y_probas, labels, classes_to_plot), roc)
    fields = {"x": "fpr", "y": "tpr", "class": "class"}
    axes = {"x-axis-title": "False positive rate", "y-axis-title": "True positive rate"}
    return plot_table("area-under-curve", table, fields, {"title": title, **axes}, split_table)


def pr_curve(
    y_true: Any = None,
    y_probas: Any = None,
    labels: Sequence[str] | None = None,
    classes_to_plot: Sequence[Any] | None = None,
    title: str = "Precision-Recall Curve",
    split_table: bool = False,
) -> CustomChart:
    """Precision against recall, each class against the rest; arguments as `roc_curve` has them."""
    from localstore.media.curves import precision_recall

    table = Table(columns=["class", "precision", "recall"])
    _fill(table, (y_true, y_probas, labels, classes_to_plot), precision_recall)
    fields = {"x": "recall", "y": "precision", "class": "class"}
    axes = {"x-axis-title": "Recall", "y-axis-title": "Precision"}
    return plot_table("area-under-curve", table, fields, {"title": title, **axes}, split_table)


def _fill(
    table: Table,
    given: tuple[Any, Any, Sequence[str] | None, Sequence[Any] | None],
    curve: Callable[[Any, Any], tuple[Any, Any, Any]],
) -> None:
    """The curve of each class as rows: its name and two rates."""
    from localstore.media.curves import labels_and_scores, thinned

    y_true, y_probas, names, wanted = given
    labels, scores, classes = labels_and_scores(y_true, y_probas)
    for at, each in enumerate(classes):
        if wanted is not None and each not in wanted:
            continue
        place = each if isinstance(each, int) else at
        name = names[place] if names is not None and 0 <= place < len(names) else each
        first, second, _ = curve(labels == each, scores[:, at])
        for row in thinned(len(first), MAX_CURVE_POINTS):
            table.add_data(str(name), float(first[row]), float(second[row]))
