"""What can be logged: Python and array scalars as they are, histograms, and all else as text."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import PurePath
from typing import Any, Final

import msgspec

from localstore.errors import UsageError

MAX_LIST_ITEMS: Final = 1024  # a longer array is kept as a histogram
# What code of others may raise when it is asked for a number or a text.
FOREIGN_ERRORS: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BufferError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
# Packages whose values `run.log` takes as media; each of their types is looked at once.
_PICTURED: Final = ("matplotlib", "plotly", "PIL", "pandas")
_I64: Final = range(-(1 << 63), 1 << 64)


class MediaInside(TypeError):
    """A value holds media: its files are stored before the value can be."""


class Histogram:
    """Counts of values in bins.

    Args:
        sequence: numbers of any shape (list, numpy, torch, jax); NaN and infinities are left out
            and counted in `ignored`.
        np_histogram: a pair (counts, edges), as `numpy.histogram` returns it, instead of numbers.
        num_bins: how many bins of equal width between the least and the greatest number, 64 by
            default, at most 512.

    Attributes:
        histogram: list of int, shape (bins,). bins: list of float, shape (bins + 1,), the edges.

    Raises:
        UsageError: no numbers, or edges that do not fit the counts.
    """

    MAX_LENGTH: Final = 512

    def __init__(
        self,
        sequence: Any = None,
        np_histogram: tuple[Any, Any] | None = None,
        num_bins: int = 64,
    ) -> None:
        self.ignored = 0
        if np_histogram is not None:
            counts, edges = (_flat(part) for part in np_histogram)
            if len(edges) != len(counts) + 1:
                raise UsageError(
                    f"np_histogram has {len(counts)} counts and {len(edges)} edges, "
                    f"want one edge more than counts"
                )
            self.histogram = [int(count) for count in counts]
            self.bins = [float(edge) for edge in edges]
        else:
            self._count(_flat(sequence), num_bins)
        if len(self.histogram) > self.MAX_LENGTH:
            raise UsageError(f"a histogram of {len(self.histogram)} bins, the most is 512")

    def _count(self, numbers: list[float], num_bins: int) -> None:
        if not 1 <= num_bins <= self.MAX_LENGTH:
            raise UsageError(f"num_bins is {num_bins}, want 1 to {self.MAX_LENGTH}")
        finite = [number for number in numbers if math.isfinite(number)]
        self.ignored = len(numbers) - len(finite)
        low, high = min(finite, default=0.0), max(finite, default=1.0)
        if low == high:
            low, high = low - 0.5, high + 0.5
        width = high / num_bins - low / num_bins  # the difference itself may overflow
        counts = [0] * num_bins
        for number in finite:
            counts[min(int((number - low) / width), num_bins - 1) if width else 0] += 1
        self.histogram = counts
        self.bins = [low + width * at for at in range(num_bins)] + [high]

    def to_record(self) -> dict[str, Any]:
        """The form in which it is stored."""
        record: dict[str, Any] = {
            "_type": "histogram",
            "values": self.histogram,
            "bins": self.bins,
        }
        if self.ignored:
            record["ignored"] = self.ignored
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Histogram:
        """What `to_record` made."""
        made = cls(np_histogram=(record["values"], record["bins"]))
        made.ignored = record.get("ignored", 0)
        return made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Histogram) and self.to_record() == other.to_record()

    __hash__ = None  # type: ignore[assignment]  # two equal ones may change

    def __repr__(self) -> str:
        return f"Histogram({sum(self.histogram)} values in {len(self.histogram)} bins)"


def _flat(sequence: Any) -> list[float]:
    """Numbers of any nesting, numpy, torch and jax included, as one list of floats."""
    array = _to_lists(sequence)
    out: list[float] = []
    stack = [iter([array] if isinstance(array, (int, float)) else array)] if _many(array) else []
    try:
        while stack:
            for item in stack[-1]:
                if isinstance(item, (list, tuple)):
                    stack.append(iter(item))
                    break
                out.append(float(item))
            else:
                stack.pop()
    except (TypeError, ValueError) as error:
        raise UsageError(f"a histogram of {type(sequence).__name__}, want numbers") from error
    return out


def _many(array: Any) -> bool:
    if isinstance(array, (int, float)) or hasattr(array, "__iter__"):
        return True
    raise UsageError(f"a histogram of {type(array).__name__}, want numbers")


def _to_lists(array: Any) -> Any:
    """Arrays by duck typing; a torch tensor leaves its graph and its device first."""
    for name in ("detach", "cpu", "ravel", "tolist"):
        method = getattr(array, name, None)
        if callable(method):
            array = method()
    return array


def encode_hook(value: Any) -> Any:
    """Turn what msgpack does not know into what it knows; called for such values only.

    Scalars of numpy, torch and jax become Python's by `item()`; small arrays become lists, large
    ones histograms; everything else becomes its text.
    """
    if isinstance(value, Histogram):
        return value.to_record()
    item = getattr(value, "item", None)
    if callable(item) and hasattr(value, "shape"):
        return _from_array(value, item)
    if isinstance(value, Mapping):
        return dict(value)
    if is_media(value):
        raise MediaInside
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (PurePath, complex)):
        return str(value)
    if isinstance(value, (set, frozenset, range, Sequence)):
        return list(value)
    return str(value)[:10_000]


def is_media(value: Any) -> bool:
    """Whether a value that msgpack does not know is media, by its type alone."""
    base = sys.modules.get("localstore.media.base")
    if base is not None and isinstance(value, base.Media):
        return True
    if type(value).__module__.partition(".")[0] not in _PICTURED:
        return False
    from localstore.media.logging import contains_media

    return contains_media(value)


def _from_array(value: Any, item: Any) -> Any:
    size = math.prod(value.shape)
    if size == 1:
        scalar = item()
        # numpy.longdouble and numpy.datetime64 return themselves, or no number.
        return scalar if type(scalar) in (int, float, bool, str) else str(scalar)
    if size <= MAX_LIST_ITEMS:
        return value.tolist()
    return Histogram(value).to_record()


_ENCODER: Final = msgspec.msgpack.Encoder(enc_hook=encode_hook)
encode: Final = _ENCODER.encode


def encode_any(value: Any) -> bytes:
    """Encode whatever a script hands over, the slow and patient way."""
    try:
        return encode(value)
    except FOREIGN_ERRORS:
        return encode(plain(value))


def plain(value: Any, depth: int = 0) -> Any:
    """A copy made of None, bool, int, float, str, bytes, list and dict with text keys."""
    if depth > 32:
        return _short_text(value)
    if value is None or type(value) in (bool, float, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, int):
        return (
            int(value) if value in _I64 else float(value) if abs(value) < 1 << 1023 else str(value)
        )
    if isinstance(value, float):
        return float(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {text_key(k): plain(v, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset, range)):
        return [plain(item, depth + 1) for item in value]
    again = _hooked(value)
    return plain(again, depth + 1) if again is not value else str(value)


def _short_text(value: Any) -> str:
    """What stands in for a value that is nested too deep."""
    try:
        return str(value)[:1000]
    except FOREIGN_ERRORS:  # deeper than Python goes
        return f"a {type(value).__name__} that is nested too deep"


def _hooked(value: Any) -> Any:
    """What the hook makes of a value; a text where it cannot, or where only a point has media."""
    try:
        return encode_hook(value)
    except MediaInside:
        return str(value)[:10_000]
    except FOREIGN_ERRORS as error:
        return f"unreadable {type(value).__name__}: {type(error).__name__}"


def text_key(key: Any) -> str:
    """A key as text that can be stored."""
    return str(key).encode("utf-8", "replace").decode()


def config_mapping(source: Any) -> dict[str, Any]:
    """What people pass as config: a dict, an argparse namespace, a dataclass, absl flags.

    Raises:
        UsageError: none of these.
    """
    if source is None:
        return {}
    if isinstance(source, Mapping):
        found: Mapping[Any, Any] = source
    elif dataclasses.is_dataclass(source) and not isinstance(source, type):
        found = {f.name: getattr(source, f.name) for f in dataclasses.fields(source)}
    elif callable(getattr(source, "flag_values_dict", None)):
        found = source.flag_values_dict()
    elif hasattr(source, "__dict__"):
        found = vars(source)
    else:
        raise UsageError(
            f"config is a {type(source).__name__}, want a dict, a namespace or a dataclass"
        )
    return {text_key(k): plain(v) for k, v in found.items()}
