"""Curves and counts of classifiers, in numpy alone; the same numbers as scikit-learn's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from localstore.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]


def labels_and_scores(y_true: Any, y_probas: Any) -> tuple[npt.NDArray[Any], Floats, list[Any]]:
    """Labels, scores of shape (n, classes), and the class that each column of scores is about.

    Integers from 0 are the numbers of columns; other labels stand for columns in sorted order.
    Scores of one dimension are those of the greater of two labels.

    Raises:
        UsageError: missing, of different lengths, or more labels than columns.
    """
    import numpy as np

    if y_true is None or y_probas is None:
        raise UsageError("a curve needs y_true and y_probas")
    labels, scores = np.asarray(y_true).ravel(), np.asarray(y_probas, dtype=np.float64)
    classes = np.unique(labels).tolist()
    if scores.ndim == 1:
        scores, classes = scores[:, None], classes[-1:]
    if scores.ndim != 2 or len(scores) != len(labels) or not len(labels):
        raise UsageError(f"y_probas of shape {scores.shape} for {len(labels)} labels")
    if not np.isfinite(scores).all():
        raise UsageError("y_probas with NaN or infinite numbers")
    columns = scores.shape[1]
    if columns > 1 and labels.dtype.kind in "iu" and 0 <= labels.min() <= labels.max() < columns:
        classes = list(range(columns))
    if len(classes) != columns:
        raise UsageError(f"y_probas has {columns} columns, y_true has {len(classes)} labels")
    return labels, scores, classes


def _steps(positive: npt.NDArray[np.bool_], scores: Floats) -> tuple[Floats, Floats, Floats]:
    """False and true positives at each distinct score, from the highest down, and the scores."""
    import numpy as np

    order = np.argsort(scores, kind="stable")[::-1]
    scores, positive = scores[order], positive[order]
    ends = np.r_[np.nonzero(np.diff(scores))[0], len(scores) - 1]
    hits = np.cumsum(positive, dtype=np.float64)[ends]
    return 1.0 + ends - hits, hits, scores[ends]


def roc(positive: npt.NDArray[np.bool_], scores: Floats) -> tuple[Floats, Floats, Floats]:
    """False positive rate, true positive rate and thresholds; points on a straight line left out.

    A rate is NaN where there is nothing to divide by.
    """
    import numpy as np

    misses, hits, thresholds = _steps(positive, scores)
    if len(misses) > 2:
        bends = np.logical_or(np.diff(misses, 2), np.diff(hits, 2))
        keep = np.nonzero(np.r_[True, bends, True])[0]
        misses, hits, thresholds = misses[keep], hits[keep], thresholds[keep]
    misses, hits = np.r_[0.0, misses], np.r_[0.0, hits]
    with np.errstate(invalid="ignore", divide="ignore"):
        return misses / misses[-1], hits / hits[-1], np.r_[np.inf, thresholds]


def precision_recall(
    positive: npt.NDArray[np.bool_], scores: Floats
) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and thresholds, from recall 1 down to 0; recall is 1 without positives."""
    import numpy as np

    misses, hits, thresholds = _steps(positive, scores)
    precision = hits / (hits + misses)
    recall = hits / hits[-1] if hits[-1] else np.ones_like(hits)
    return np.r_[precision[::-1], 1.0], np.r_[recall[::-1], 0.0], thresholds[::-1]


def thinned(count: int, most: int) -> npt.NDArray[np.int64]:
    """Indexes of at most `most` of `count` points, evenly apart, first and last among them."""
    import numpy as np

    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def confusion(
    y_true: Any, preds: Any, class_names: Sequence[str] | None
) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Names of classes, and how often row's class was taken for column's.

    Raises:
        UsageError: different lengths, or a class without a name.
    """
    import numpy as np

    actual, predicted = np.asarray(y_true).ravel(), np.asarray(preds).ravel()
    if len(actual) != len(predicted) or not len(actual):
        raise UsageError(
            f"a confusion matrix of {len(actual)} labels, {len(predicted)} predictions"
        )
    found = np.unique(np.concatenate([actual, predicted])).tolist()
    if class_names is None:
        names, places = [f"Class_{label}" for label in found], {c: i for i, c in enumerate(found)}
    else:
        names = [str(name) for name in class_names]
        places = _places(found, names)
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    rows, columns = ([places[label] for label in side.tolist()] for side in (actual, predicted))
    np.add.at(counts, (rows, columns), 1)
    return names, counts


def _places(found: Sequence[Any], names: Sequence[str]) -> dict[Any, int]:
    """The place of each label: its number, or that of its own name."""
    places = {}
    for label in found:
        at = names.index(label) if label in names else label
        if not isinstance(at, int) or not 0 <= at < len(names):
            raise UsageError(f"label {label!r} has no name among the {len(names)} class_names")
        places[label] = at
    return places
