"""What lies over a picture: masks of classes, boxes with labels, and the names of the classes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from localstore.errors import Damaged, UsageError
from localstore.media.arrays import to_numpy
from localstore.media.base import clean
from localstore.media.sources import head_of, is_path, take

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MAX_BOXES: Final = 100_000  # of one picture
_CORNERS: Final = ("minX", "maxX", "minY", "maxY")


@dataclass(frozen=True, slots=True)
class Mask:
    """The class of each pixel.

    Attributes:
        png: a grey picture of 8 or 16 bits whose values are class ids.
        class_labels: class id → name.
    """

    png: bytes
    class_labels: Mapping[int, str]

    def to_numpy(self) -> npt.NDArray[Any]:
        """Class ids, shape (height, width), uint8 or uint16.

        Raises:
            Damaged: the stored picture does not decode.
        """
        import numpy as np

        from localstore.media.pictures import open_bounded

        array = np.asarray(open_bounded(self.png))
        return array if array.dtype == np.uint8 else array.astype(np.uint16)


def masks_of(given: Any) -> dict[str, Mask]:
    """`{"name": {"mask_data": 2-D integers, "class_labels": {id: name}}}` checked and encoded.

    Instead of `mask_data` there may be a `path` of a PNG.

    Raises:
        UsageError: not of this form, or a class id outside 0 to 65,535.
    """
    return {name: _mask(name, each) for name, each in _named(given, "masks").items()}


def _mask(name: str, given: Mapping[Any, Any]) -> Mask:
    labels = labels_of(given.get("class_labels"), f"mask {name!r}")
    if is_path(given.get("path")):
        content = take(given["path"], f"mask {name!r}")
        if not isinstance(content, bytes) or not head_of(content, 4) == b"\x89PNG":
            raise UsageError(f"mask {name!r} from {given['path']}, want a PNG of at most 32 MiB")
        return Mask(content, labels)
    if given.get("mask_data") is None:
        raise UsageError(f"mask {name!r} has no mask_data, want a 2-D array of class ids")
    return Mask(_encoded(name, given["mask_data"]), labels)


def _encoded(name: str, data: Any) -> bytes:
    from localstore.media.png import encode

    array = to_numpy(data, f"mask {name!r}").squeeze()
    if array.ndim != 2 or array.dtype.kind == "f" or not array.size:
        raise UsageError(f"mask {name!r} of shape {array.shape} ({array.dtype}), want 2-D integers")
    return encode(_narrow(name, array))


def _narrow(name: str, array: npt.NDArray[Any]) -> npt.NDArray[np.uint8 | np.uint16]:
    import numpy as np

    low, high = int(array.min()), int(array.max())
    if low < 0 or high > 0xFFFF:
        raise UsageError(f"mask {name!r} has class ids {low} to {high}, want 0 to 65,535")
    return array.astype(np.uint8 if high <= 0xFF else np.uint16)


def boxes_of(given: Any) -> tuple[dict[str, list[dict[str, Any]]], dict[str, dict[int, str]]]:
    """`{"name": {"box_data": [...], "class_labels": {id: name}}}` checked: boxes, labels by name.

    A box has `position` ({minX, maxX, minY, maxY} or {middle, width, height}, parts of 1 or with
    `domain` "pixel" in pixels), and may have `class_id`, `box_caption` and `scores`.

    Raises:
        UsageError: not of this form.
    """
    boxes, labels = {}, {}
    for name, each in _named(given, "boxes").items():
        data = each.get("box_data")
        if not isinstance(data, Sequence) or isinstance(data, str) or len(data) > MAX_BOXES:
            raise UsageError(
                f"boxes {name!r} without box_data, want a list of at most {MAX_BOXES:,}"
            )
        boxes[name] = [_box(f"box {at} of {name!r}", box) for at, box in enumerate(data)]
        labels[name] = labels_of(each.get("class_labels"), f"boxes {name!r}")
    return boxes, labels


def _box(what: str, box: Any) -> dict[str, Any]:
    if not isinstance(box, Mapping):
        raise UsageError(f"{what} is a {type(box).__name__}, want a dict with a position")
    out: dict[str, Any] = {"position": _position(what, box.get("position"))}
    if box.get("domain") is not None:
        if box["domain"] != "pixel":
            raise UsageError(f"{what} has domain {box['domain']!r}, want 'pixel' or none")
        out["domain"] = "pixel"
    if box.get("class_id") is not None:
        out["class_id"] = int(_number(what, "class_id", box["class_id"]))
    if box.get("box_caption") is not None:
        out["box_caption"] = str(box["box_caption"])[:1000]
    if box.get("scores"):
        out["scores"] = {
            str(name): _number(what, "scores", score) for name, score in dict(box["scores"]).items()
        }
    return out


def _position(what: str, position: Any) -> dict[str, Any]:
    if isinstance(position, Mapping):
        if all(name in position for name in _CORNERS):
            return {name: _number(what, name, position[name]) for name in _CORNERS}
        if all(name in position for name in ("middle", "width", "height")):
            middle = [_number(what, "middle", part) for part in position["middle"]]
            sizes = {name: _number(what, name, position[name]) for name in ("width", "height")}
            if len(middle) == 2:
                return {"middle": middle, **sizes}
    raise UsageError(f"{what} has no position, want {{minX, maxX, minY, maxY}} or a middle")


def _number(what: str, name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{what}: {name} is {value!r:.40}, want a number") from error
    if number != number or number in (float("inf"), float("-inf")):
        raise UsageError(f"{what}: {name} is {number}, want a finite number")
    return number


def labels_of(given: Any, what: str) -> dict[int, str]:
    """Names of classes by id, out of `{id: name}` or `[{"id": …, "name": …}]`; none gives {}.

    Raises:
        UsageError: an id is no integer.
    """
    if given is None:
        return {}
    try:
        if isinstance(given, Mapping):
            return {int(number): str(name) for number, name in given.items()}
        return {int(each["id"]): str(each["name"]) for each in given}
    except (TypeError, ValueError, LookupError) as error:
        raise UsageError(f"classes of {what}: want {{id: name}} or [{{id, name}}]") from error


def _named(given: Any, what: str) -> dict[str, Mapping[Any, Any]]:
    if given is None:
        return {}
    if isinstance(given, Mapping) and all(isinstance(each, Mapping) for each in given.values()):
        return {clean(name): each for name, each in given.items()}
    raise UsageError(f"{what} is a {type(given).__name__}, want a dict of dicts by name")


# ------------------------------------------------------------------ stored
def pack_labels(
    classes: Mapping[int, str],
    masks: Mapping[str, Mapping[int, str]],
    boxes: Mapping[str, Mapping[int, str]],
) -> bytes:
    """All names of classes as one JSON: the same for every picture of a run, so stored once."""
    whole = {"classes": classes, "masks": masks, "boxes": boxes}
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def pack_boxes(boxes: Mapping[str, Sequence[Mapping[str, Any]]]) -> bytes:
    """All boxes of one picture as JSON."""
    return json.dumps(boxes, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def unpack_labels(raw: bytes) -> tuple[dict[int, str], dict[str, Any], dict[str, Any]]:
    """What `pack_labels` made, with ids as integers: names of classes, of masks, of boxes.

    Raises:
        Damaged: something else.
    """
    found = unpack(raw)
    try:
        return (
            labels_of(found["classes"], "a stored picture"),
            {name: labels_of(each, name) for name, each in found["masks"].items()},
            {name: labels_of(each, name) for name, each in found["boxes"].items()},
        )
    except (UsageError, LookupError, AttributeError) as error:
        raise Damaged("names of classes that cannot be read") from error


def unpack_boxes(raw: bytes) -> dict[str, list[dict[str, Any]]]:
    """What `pack_boxes` made, checked like what a script gives.

    Raises:
        Damaged: something else.
    """
    try:
        boxes, _ = boxes_of({name: {"box_data": data} for name, data in unpack(raw).items()})
    except UsageError as error:
        raise Damaged(f"stored boxes: {error}") from error
    return boxes


def unpack(raw: bytes) -> dict[str, Any]:
    """A JSON object out of a stored file.

    Raises:
        Damaged: no JSON, nested too deep, or no object.
    """
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"no JSON: {error!s:.100}") from error
    if not isinstance(found, dict):
        raise Damaged(f"JSON with a {type(found).__name__} on top, want an object")
    return found
