"""Arrays of any library as numpy arrays, and as pixels. numpy comes with whoever has an array."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from localstore.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

CHANNELS: Final = (1, 2, 3, 4)
_GRID_COLUMNS: Final = 8
_GRID_GAP: Final = 2  # pixels


def is_tensor(value: Any) -> bool:
    """Whether a value is a torch tensor, whose pictures have their channels first."""
    return callable(getattr(value, "detach", None)) and callable(getattr(value, "cpu", None))


def to_numpy(value: Any, what: str) -> npt.NDArray[Any]:
    """A numpy array with the numbers of `value`: numpy, torch, jax, tensorflow, nested lists.

    Raises:
        UsageError: there are no numbers in it, or no numpy is there to tell.
    """
    try:
        import numpy as np
    except ImportError as error:
        hint = "pip install numpy"
        raise UsageError(f"{what} needs numpy, which is not installed", hint=hint) from error
    try:
        array = np.asarray(_leave_device(value))
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"{what} of {type(value).__name__}: {error}") from error
    if array.dtype.kind not in "biuf":
        raise UsageError(f"{what} of {type(value).__name__} ({array.dtype}), want numbers")
    return array


def _leave_device(value: Any) -> Any:
    for name in ("detach", "cpu"):
        method = getattr(value, name, None)
        if callable(method):
            value = method()
    convert = getattr(value, "numpy", None)
    if not callable(convert):
        return value
    try:
        return convert()
    except TypeError:  # numpy has no bfloat16
        return value.float().numpy()


def as_picture(value: Any, what: str) -> npt.NDArray[Any]:
    """Any array of a picture as (height, width) or (height, width, channels).

    Tensors and arrays with few planes in front have their channels first. Four dimensions are a
    batch, laid out as a grid of eight columns.

    Raises:
        UsageError: no picture has this shape.
    """
    array = to_numpy(value, what)
    shape = array.shape
    while array.ndim > 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 4:
        array = grid(channels_last(array, first=is_tensor(value), shape=shape, what=what))
    elif array.ndim == 3:
        array = channels_last(array, first=is_tensor(value), shape=shape, what=what)
    if array.ndim not in (2, 3) or not array.size:
        raise UsageError(f"{what} of shape {shape}, want height x width x channels (1, 3 or 4)")
    return array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array


def channels_last(
    array: npt.NDArray[Any], *, first: bool, shape: tuple[int, ...], what: str
) -> npt.NDArray[Any]:
    """The same array, its last dimension the channels.

    Args:
        first: where both ends could be channels, the first one is.
        shape: the shape to name in a message.

    Raises:
        UsageError: neither end has 1 to 4 planes.
    """
    import numpy as np

    front, back = array.shape[-3] in CHANNELS, array.shape[-1] in CHANNELS
    if front and (first or not back):
        return np.moveaxis(array, -3, -1)
    if back:
        return array
    raise UsageError(f"{what} of shape {shape}, want height x width x channels (1, 3 or 4)")


def grid(frames: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Pictures of shape (n, height, width, channels) beside and below each other as one."""
    import numpy as np

    count, height, width, channels = frames.shape
    columns = min(count, _GRID_COLUMNS)
    rows = -(-count // columns)
    tall, wide = height + _GRID_GAP, width + _GRID_GAP
    out = np.zeros((rows * tall + _GRID_GAP, columns * wide + _GRID_GAP, channels), frames.dtype)
    for at, frame in enumerate(frames):
        top, left = _GRID_GAP + at // columns * tall, _GRID_GAP + at % columns * wide
        out[top : top + height, left : left + width] = frame
    return out


def to_pixels(array: npt.NDArray[Any], *, normalize: bool = True) -> npt.NDArray[np.uint8]:
    """Numbers as bytes 0 to 255.

    uint8 stays as it is, bool becomes 0 and 255. With `normalize`: floats in [0, 1] are times 255,
    those in [-1, 1] are shifted there first, integers and floats in [0, 255] stay, and all else is
    stretched from its least to its greatest number. Without: cut to [0, 255]. NaN is 0.
    """
    import numpy as np

    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind == "f":
        array = np.nan_to_num(array.astype(np.float32), nan=0.0, posinf=None, neginf=None)
    if normalize:
        array = _stretched(array)
    pixels: npt.NDArray[np.uint8] = np.rint(array.clip(0, 255)).astype(np.uint8)
    return pixels


def _stretched(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    low, high = float(array.min()), float(array.max())
    real = array.dtype.kind == "f"
    if real and low >= 0 and high <= 1:
        return array * 255
    if real and low >= -1 and high <= 1:
        return (array + 1) * 127.5
    if low >= 0 and high <= 255:
        return array
    return (array.astype("float64") - low) * (255 / (high - low or 1))
