"""Moving pictures: GIF through Pillow, MP4 and WebM through the ffmpeg of imageio-ffmpeg.

ffmpeg is spoken to through pipes alone: nothing of a video stands in a file in clear.
"""

from __future__ import annotations

import io
import subprocess
from typing import TYPE_CHECKING, Any, ClassVar, Final

from localstore.errors import UsageError
from localstore.media import pictures
from localstore.media.base import FileMedia, count_of
from localstore.media.sources import checked_format, format_of, is_path, take

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

_DEFAULT_FPS: Final = 4
_ENCODE_S: Final = 600.0  # an encoder that takes longer is stopped
# An MP4 that goes through a pipe has no seekable end, so its index stands in fragments.
_CODECS: Final = {
    "mp4": (
        *("-c:v", "libx264", "-preset", "veryfast"),
        *("-movflags", "frag_keyframe+empty_moov+default_base_moof", "-f", "mp4"),
    ),
    "webm": (
        *("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "0"),
        *("-crf", "32", "-f", "webm"),
    ),
}


class Video(FileMedia):
    """A video.

    Args:
        data_or_path: a path, an open file, or an array of (time, channels, height, width) with 1, 3
            or 4 channels; (batch, time, channels, height, width) is laid out as a grid.
        caption: text for people.
        fps: pictures a second of an array, 4 by default.
        format: `gif` (the default), `mp4` or `webm`; the last two need `localstore[media]`. For
            an open file, what it is.

    Attributes:
        width, height: pixels; frames: how many; all 0 for files. fps. format.

    Raises:
        UsageError: no video can be made of it, or what encodes it is not installed.
    """

    kind = "video-file"
    folder = "videos"
    formats: ClassVar = frozenset({"gif", "mp4", "webm", "ogv", "mov"})

    def __init__(
        self,
        data_or_path: Any,
        caption: str | None = None,
        fps: float | None = None,
        format: str | None = None,
    ) -> None:
        self.width = self.height = self.frames = 0
        self.fps = float(fps or 0)
        content: bytes | Path
        if is_path(data_or_path):
            name = format_of(data_or_path, self.formats, "a video")
            content = take(data_or_path, "a video")
        elif isinstance(data_or_path, bytes) or hasattr(data_or_path, "read"):
            name = checked_format(format or "gif", self.formats, "a video")
            content = take(data_or_path, "a video")
        else:
            name = checked_format(format or "gif", ("gif", "mp4", "webm"), "a video")
            content = self._encode(data_or_path, name)
        super().__init__(content, name, caption)

    def _encode(self, data: Any, name: str) -> bytes:
        frames = frames_of(data)
        self.frames, self.height, self.width = frames.shape[:3]
        self.fps = self.fps or float(_DEFAULT_FPS)
        if not 0 < self.fps <= 1000:
            raise UsageError(f"a video of {self.fps} fps, want more than 0, at most 1,000")
        return encode_gif(frames, self.fps) if name == "gif" else run_ffmpeg(frames, self.fps, name)

    def counts(self) -> dict[str, int | float]:
        """Width, height, frames and pictures a second, as far as they are known."""
        found = {name: getattr(self, name) for name in ("width", "height", "frames", "fps")}
        return {name: number for name, number in found.items() if number}

    def _recall(self, facts: Mapping[str, Any], read: Callable[[str], bytes]) -> None:  # noqa: ARG002
        self.width, self.height = count_of(facts, "width"), count_of(facts, "height")
        self.frames, fps = count_of(facts, "frames"), facts.get("fps")
        self.fps = float(fps) if isinstance(fps, (int, float)) and 0 < fps <= 1000 else 0.0


def frames_of(data: Any) -> npt.NDArray[np.uint8]:
    """An array of a video as uint8 of shape (time, height, width, 3).

    Raises:
        UsageError: no video has this shape.
    """
    import numpy as np

    from localstore.media.arrays import grid, to_numpy, to_pixels

    array = to_numpy(data, "a video")
    shape = array.shape
    if array.ndim not in (4, 5) or shape[-3] not in (1, 3, 4) or not array.size:
        raise UsageError(
            f"a video of shape {shape}, want time x channels (1, 3, 4) x height x width"
        )
    pixels = np.moveaxis(to_pixels(array), -3, -1)
    if pixels.ndim == 5:
        tiled = [grid(pixels[:, at]) for at in range(pixels.shape[1])]
        pixels = np.stack(tiled) if len(pixels) > 1 else pixels[0]
    if pixels.shape[-1] == 1:
        pixels = np.repeat(pixels, 3, axis=-1)
    return np.ascontiguousarray(pixels[..., :3])


def encode_gif(frames: npt.NDArray[np.uint8], fps: float) -> bytes:
    """Frames of shape (time, height, width, 3) as an endless GIF; its clock has steps of 10 ms."""
    image = pictures.pillow()
    first, *rest = [image.fromarray(frame) for frame in frames]
    out = io.BytesIO()
    pause_ms = max(round(100 / fps) * 10, 10)
    first.save(out, "GIF", save_all=True, append_images=rest, duration=pause_ms, loop=0)
    return out.getvalue()


def run_ffmpeg(frames: npt.NDArray[np.uint8], fps: float, name: str) -> bytes:
    """Frames of shape (time, height, width, 3) as MP4 or WebM.

    Raises:
        UsageError: imageio-ffmpeg is not installed, or ffmpeg failed.
    """
    try:
        from imageio_ffmpeg import (  # type: ignore[import-untyped, import-not-found, unused-ignore]
            get_ffmpeg_exe,
        )
    except ImportError as error:
        hint = "pip install 'localstore[media]', or use format='gif'"
        raise UsageError(f"a video as {name} needs imageio-ffmpeg", hint=hint) from error
    _, height, width, _ = frames.shape
    words = [
        *(get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-nostdin"),
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{fps:g}"),
        *("-i", "pipe:0", "-an", "-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-pix_fmt", "yuv420p"),
        *(*_CODECS[name], "pipe:1"),
    ]
    try:
        done = subprocess.run(
            words, input=frames.data, capture_output=True, timeout=_ENCODE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"a video as {name}: ffmpeg: {error!s:.200}") from error
    if done.returncode or not done.stdout:
        said = done.stderr.decode("utf-8", "replace").strip()[-300:]
        raise UsageError(f"a video as {name}: ffmpeg says {said!r}")
    return done.stdout
