"""Pictures, with masks and boxes over them."""

from __future__ import annotations

import io
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final

from localstore.errors import Damaged, UsageError
from localstore.media import overlays, pictures
from localstore.media.base import FileMedia, MediaFile, count_of
from localstore.media.headers import HEAD_BYTES, picture_header
from localstore.media.names import checked_path, content_path
from localstore.media.sources import checked_format, head_of, is_path, take

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image as Picture

# SVG can run scripts and fetch; Pillow hands TIFF to a library that has a history of overflows.
_NEVER_DECODED: Final = frozenset({"svg", "tiff"})


class Image(FileMedia):
    """A picture.

    Args:
        data_or_path: an array of (height, width), (height, width, 1, 3 or 4) or channels first as
            torch has them, a batch of four dimensions (laid out as a grid), a picture of Pillow, a
            matplotlib figure, a path, an open file, or another Image.
        mode: a mode of Pillow to convert to, such as `L` or `RGB`.
        caption: text for people.
        grouping: kept for readers.
        classes: names of classes, `{id: name}` or `[{"id": …, "name": …}]`.
        boxes: `{"name": {"box_data": [...], "class_labels": {id: name}}}`.
        masks: `{"name": {"mask_data": 2-D integers, "class_labels": {id: name}}}`.
        file_type: `png` (the default), `jpg` or `webp`, for arrays; a file stays what it is.
        normalize: floats in [0, 1] or [-1, 1] fill the range 0 to 255, other ranges are stretched;
            without it numbers are cut to 0 to 255. uint8 always stays as it is; uint16 of two
            dimensions keeps its 16 bits as PNG.

    Attributes:
        width, height: pixels, 0 where a file does not say. format: `png`, `jpg`, `svg` …
        masks: name → `Mask`. boxes: name → list of boxes. classes: id → name.

    Raises:
        UsageError: no picture can be made of it.
    """

    kind = "image-file"
    folder = "images"
    formats: ClassVar = frozenset({"png", "jpg", "gif", "webp", "bmp", "tiff", "svg"})

    def __init__(
        self,
        data_or_path: Any,
        mode: str | None = None,
        caption: str | None = None,
        grouping: int | None = None,
        classes: Any = None,
        boxes: Any = None,
        masks: Any = None,
        file_type: str | None = None,
        normalize: bool = True,
    ) -> None:
        name = checked_format(file_type or "png", ("png", "jpg", "webp"), "an image")
        content, found, self.width, self.height = _read(data_or_path, mode, name, normalize)
        super().__init__(content, found, caption)
        self.grouping = grouping
        self.classes = overlays.labels_of(classes, "an image")
        self.masks = overlays.masks_of(masks)
        self.boxes, self.box_labels = overlays.boxes_of(boxes)
        if isinstance(data_or_path, Image):
            self._inherit(data_or_path)

    def _inherit(self, other: Image) -> None:
        self.caption = self.caption or other.caption
        self.classes = self.classes or other.classes
        self.masks = self.masks or other.masks
        if not self.boxes:
            self.boxes, self.box_labels = other.boxes, other.box_labels

    def to_pil(self) -> Picture:
        """The picture, decoded by Pillow.

        Raises:
            Damaged: it does not decode, or has more than 64 million pixels.
            UsageError: Pillow is not installed, or this is an SVG or a TIFF, which are never drawn.
        """
        if self.format in _NEVER_DECODED:
            raise UsageError(
                f"an image as {self.format} is kept as it is and never drawn", hint="read `content`"
            )
        return pictures.open_bounded(self.content)

    @property
    def image(self) -> Picture:
        """The same as `to_pil()`."""
        return self.to_pil()

    def to_numpy(self) -> npt.NDArray[np.uint8]:
        """Pixels, shape (height, width) or (height, width, channels)."""
        import numpy as np

        return np.asarray(self.to_pil())

    def counts(self) -> dict[str, int | float]:
        """Width and height, and how many masks and boxes there are."""
        found: dict[str, int | float] = {"width": self.width, "height": self.height}
        if self.masks:
            found["mask_count"] = len(self.masks)
        if self.boxes:
            found["box_count"] = sum(len(boxes) for boxes in self.boxes.values())
        return found

    def files(self) -> list[MediaFile]:
        """The picture, a PNG for each mask, and JSON of boxes and of names of classes."""
        return super().files() + self._hanging

    @cached_property
    def _hanging(self) -> list[MediaFile]:
        out = []
        for name, mask in self.masks.items():
            out.append(_hanging("images", mask.png, ".mask.png", f"mask/{name}"))
        if self.boxes:
            packed = overlays.pack_boxes(self.boxes)
            out.append(_hanging("metadata", packed, ".boxes.json", "boxes"))
        labels = {name: mask.class_labels for name, mask in self.masks.items()}
        if self.classes or any(labels.values()) or any(self.box_labels.values()):
            packed = overlays.pack_labels(self.classes, labels, self.box_labels)
            out.append(_hanging("metadata", packed, ".classes.json", "classes"))
        return out

    def facts(self) -> dict[str, Any]:
        """Plain facts; `files` says where masks, boxes and names of classes lie, by role."""
        found = super().facts()
        if self._hanging:
            found["files"] = {file.role: file.path for file in self._hanging}
        if self.grouping is not None:
            found["grouping"] = int(self.grouping)
        return found

    def _recall(self, facts: Mapping[str, Any], read: Callable[[str], bytes]) -> None:
        self.width, self.height = count_of(facts, "width"), count_of(facts, "height")
        self.grouping = count_of(facts, "grouping") if "grouping" in facts else None
        hanging = facts.get("files", {})
        if not isinstance(hanging, dict) or len(hanging) > 1000:
            raise Damaged("files of an image, want a map of roles to paths")
        contents = {str(role): read(checked_path(path)) for role, path in hanging.items()}
        masks: dict[str, Any] = {}
        self.classes, self.box_labels = {}, {}
        if "classes" in contents:
            self.classes, masks, self.box_labels = overlays.unpack_labels(contents["classes"])
        boxes = contents.get("boxes")
        self.boxes = {} if boxes is None else overlays.unpack_boxes(boxes)
        self.masks = {
            name: overlays.Mask(contents[f"mask/{name}"], masks.get(name, {}))
            for name in (role.removeprefix("mask/") for role in contents if role[:5] == "mask/")
        }


def _hanging(folder: str, content: bytes, suffix: str, role: str) -> MediaFile:
    """A file that belongs to a picture, named by its content."""
    from localstore.crypto import content_hash

    return MediaFile(suffix, content, role, content_path(folder, content_hash(content), suffix))


def _read(
    source: Any, mode: str | None, name: str, normalize: bool
) -> tuple[bytes | Path, str, int, int]:
    """Content, format, width and height of whatever a script calls a picture."""
    if isinstance(source, Image):
        return source.kept, source.format, source.width, source.height
    if is_path(source) or isinstance(source, bytes) or hasattr(source, "read"):
        return _from_file(source)
    drawing = figure_of(source)
    if drawing is not None:
        out = io.BytesIO()
        drawing.savefig(out, format="png")
        return _from_file(out.getvalue())
    if pictures.is_pillow(source):
        picture = source.convert(mode) if mode and mode != source.mode else source
        return pictures.write(picture, name), name, source.width, source.height
    return _from_array(source, mode, name, normalize)


def _from_file(source: Any) -> tuple[bytes | Path, str, int, int]:
    content = take(source, "an image")
    if is_path(source) and str(source).lower().endswith(".svg"):
        return content, "svg", 0, 0
    head = picture_header(head_of(content, HEAD_BYTES))
    if head is None:
        where = f"from {source}" if is_path(source) else "from bytes"
        raise UsageError(f"an image {where}, want PNG, JPEG, GIF, WebP, BMP, TIFF or .svg")
    return content, *head


def _from_array(
    source: Any, mode: str | None, name: str, normalize: bool
) -> tuple[bytes, str, int, int]:
    from localstore.media.arrays import as_picture, to_pixels
    from localstore.media.png import encode

    array = as_picture(source, "an image")
    import numpy as np  # is there: whoever has none was told so

    if array.ndim == 2 and array.dtype == np.uint16 and name == "png" and not mode:
        return encode(array), name, array.shape[1], array.shape[0]
    pixels = to_pixels(array, normalize=normalize)
    height, width = pixels.shape[:2]
    if name == "png" and not mode:
        return encode(pixels), name, width, height
    picture = pictures.pillow().fromarray(np.ascontiguousarray(pixels))
    return pictures.write(picture.convert(mode) if mode else picture, name), name, width, height


def figure_of(value: Any) -> Any:
    """The matplotlib figure that a value is, or stands in: figure, axes, or the module pyplot."""
    current = getattr(value, "gcf", None)
    if callable(current) and getattr(value, "__name__", "") == "matplotlib.pyplot":
        return current()
    if not any(base.__module__.startswith("matplotlib.") for base in type(value).__mro__):
        return None
    if callable(getattr(value, "savefig", None)):
        return value
    figure = getattr(value, "figure", None)
    return figure if callable(getattr(figure, "savefig", None)) else None
