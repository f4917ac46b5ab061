"""Things in three dimensions: meshes as files, clouds of points as arrays."""

from __future__ import annotations

import io
import json
import re
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from localstore.errors import Damaged, UsageError
from localstore.media.base import FileMedia, count_of
from localstore.media.overlays import unpack
from localstore.media.sources import checked_format, format_of, is_path, take

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

_WIDTHS: Final = (3, 4, 6)
_NPY_MAGIC: Final = b"\x93NUMPY\x01\x00"
_NPY_HEADER: Final = re.compile(
    rb"\{'descr': '<f4', 'fortran_order': False, 'shape': \((\d{1,12}), (\d)\), \} *\n"
)


class Object3D(FileMedia):
    """A mesh or a cloud of points.

    Args:
        data_or_path: a path (.obj, .gltf, .glb, .babylon, .stl, .pts.json); an array of points of
            shape (n, 3): x y z, (n, 4): with a category, or (n, 6): with r g b; or a dict
            `{"type": "lidar/beta", "points": …, "boxes": …, "vectors": …}`.
        caption: text for people.
        file_type: for an open file, what it is.

    Attributes:
        points: how many, 0 for meshes.

    Raises:
        UsageError: none of these.
    """

    kind = "object3D-file"
    folder = "object3D"
    formats: ClassVar = frozenset({"obj", "gltf", "glb", "babylon", "stl", "pts.json", "pts.npy"})

    def __init__(
        self, data_or_path: Any, caption: str | None = None, file_type: str | None = None
    ) -> None:
        self.points = 0
        content: bytes | Path
        if is_path(data_or_path):
            name = format_of(data_or_path, self.formats - {"pts.npy"}, "a 3D object")
            content = take(data_or_path, "a 3D object")
        elif hasattr(data_or_path, "read"):
            name = checked_format(file_type or "", self.formats - {"pts.npy"}, "a 3D object")
            content = take(data_or_path, "a 3D object")
        elif isinstance(data_or_path, dict):
            name, content = "pts.json", self._scene(data_or_path)
        else:
            name, content = "pts.npy", self._cloud(data_or_path)
        super().__init__(content, name, caption)

    @classmethod
    def from_numpy(cls, data: Any, caption: str | None = None) -> Self:
        """The same as the constructor, by the name that wandb has."""
        return cls(data, caption=caption)

    @classmethod
    def from_point_cloud(
        cls,
        points: Any,
        boxes: Any = (),
        vectors: Any = None,
        point_cloud_type: str = "lidar/beta",
        caption: str | None = None,
    ) -> Self:
        """Points with boxes around some, by the name that wandb has."""
        scene = {"type": point_cloud_type, "points": points, "boxes": boxes, "vectors": vectors}
        return cls(scene, caption=caption)

    def _cloud(self, data: Any) -> bytes:
        import numpy as np

        from localstore.media.arrays import to_numpy

        array = to_numpy(data, "a 3D object")
        if array.ndim != 2 or array.shape[1] not in _WIDTHS:
            raise UsageError(f"a 3D object of shape {array.shape}, want n x 3, 4 or 6")
        self.points = len(array)
        out = io.BytesIO()
        np.lib.format.write_array(
            out, np.ascontiguousarray(array, "<f4"), version=(1, 0), allow_pickle=False
        )
        return out.getvalue()

    def _scene(self, scene: Mapping[str, Any]) -> bytes:
        if scene.get("points") is None and scene.get("boxes") is None:
            raise UsageError("a 3D object from a dict without points or boxes")
        lists = {name: _lists(part) for name, part in scene.items() if part is not None}
        self.points = len(lists.get("points", ()))
        try:
            return json.dumps(lists, separators=(",", ":"), allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise UsageError(f"a 3D object that is no JSON: {error!s:.100}") from error

    def counts(self) -> dict[str, int | float]:
        """How many points there are, where that is known."""
        return {"points": self.points} if self.points else {}

    def to_numpy(self) -> npt.NDArray[np.float32]:
        """The points of an array or a dict, shape (n, 3, 4 or 6).

        Raises:
            UsageError: this is a mesh.
            Damaged: the content is no such array.
        """
        import numpy as np

        if self.format == "pts.json":
            try:
                return np.asarray(unpack(self.content).get("points", ()), dtype=np.float32)
            except (TypeError, ValueError) as error:
                raise Damaged(f"points that are no numbers: {error!s:.100}") from error
        if self.format != "pts.npy":
            raise UsageError(f"a 3D object as {self.format} is kept as it is, not decoded")
        return _read_cloud(self.content)

    def _recall(self, facts: Mapping[str, Any], read: Callable[[str], bytes]) -> None:  # noqa: ARG002
        self.points = count_of(facts, "points")


def _read_cloud(content: bytes) -> npt.NDArray[np.float32]:
    """The array of a .npy file that this module wrote. numpy's own reader is not asked.

    It evaluates the header as Python and would reserve what a header claims.
    """
    import numpy as np

    start = len(_NPY_MAGIC) + 2
    body = start + int.from_bytes(content[len(_NPY_MAGIC) : start], "little")
    found = _NPY_HEADER.fullmatch(content[start:body])
    if not content.startswith(_NPY_MAGIC) or found is None:
        raise Damaged("no array of points, want n x 3, 4 or 6 of float32")
    rows, width = int(found[1]), int(found[2])
    if width not in _WIDTHS or len(content) - body != rows * width * 4:
        raise Damaged(f"an array of {rows} x {width} points in {len(content) - body} bytes")
    return np.frombuffer(content, "<f4", offset=body).reshape(rows, width).astype(np.float32)


def _lists(value: Any) -> Any:
    """Arrays inside a dict as lists."""
    if isinstance(value, dict):
        return {str(name): _lists(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_lists(part) for part in value]
    if isinstance(value, (str, int, float)) or value is None:
        return value
    if str(getattr(value, "dtype", "")) == "object":  # numpy.array([{…}, {…}])
        return _lists(value.tolist())
    from localstore.media.arrays import to_numpy

    return to_numpy(value, "a 3D object").tolist()
