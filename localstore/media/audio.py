"""Sound: arrays as WAV with 16 bits, and files as they are."""

from __future__ import annotations

import io
import wave
from typing import TYPE_CHECKING, Any, ClassVar, Final

from localstore.errors import Damaged, UsageError
from localstore.media.base import FileMedia, count_of
from localstore.media.sources import format_of, is_path, take

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

_MAX_CHANNELS: Final = 32
# What the module wave says of a file that is none; its chunks raise the last two.
_BAD_WAV: Final = (wave.Error, EOFError, ValueError, OSError, RuntimeError)
_MAX_RATE: Final = 1_000_000  # samples a second


class Audio(FileMedia):
    """A sound.

    Args:
        data_or_path: a path, an open WAV file, or an array of (samples,), (samples, channels) or
            (channels, samples): floats in [-1, 1], louder ones are cut, or integers.
        sample_rate: samples a second; needed for an array.
        caption: text for people.

    Attributes:
        sample_rate: samples a second; channels; seconds: length. All 0 where a file does not say.

    Raises:
        UsageError: no sound can be made of it.
    """

    kind = "audio-file"
    folder = "audio"
    formats: ClassVar = frozenset(
        {"wav", "mp3", "flac", "ogg", "opus", "m4a", "aac", "aiff", "wma"}
    )

    def __init__(
        self, data_or_path: Any, sample_rate: int | None = None, caption: str | None = None
    ) -> None:
        self.sample_rate, self.channels, self.seconds = int(sample_rate or 0), 0, 0.0
        content: bytes | Path
        if is_path(data_or_path):
            name = format_of(data_or_path, self.formats, "audio")
            content = take(data_or_path, "audio")
        elif isinstance(data_or_path, bytes) or hasattr(data_or_path, "read"):
            name, content = "wav", take(data_or_path, "audio")
        else:
            name, content = "wav", self._encode(data_or_path)
        super().__init__(content, name, caption)
        if name == "wav":
            self._measure()

    def _encode(self, data: Any) -> bytes:
        if not 0 < self.sample_rate <= _MAX_RATE:
            raise UsageError(
                f"audio with sample_rate {self.sample_rate}, want samples a second of the array"
            )
        return encode_wav(samples_of(data), self.sample_rate)

    def _measure(self) -> None:
        try:
            with wave.open(io.BytesIO(self.content), "rb") as sound:
                self.sample_rate, self.channels = sound.getframerate(), sound.getnchannels()
                self.seconds = sound.getnframes() / (self.sample_rate or 1)
        except _BAD_WAV:
            return  # a WAV of floats or with a codec: kept, not measured

    def counts(self) -> dict[str, int | float]:
        """Samples a second, channels and length, as far as they are known."""
        found = {name: getattr(self, name) for name in ("sample_rate", "channels", "seconds")}
        return {name: number for name, number in found.items() if number}

    def to_numpy(self) -> tuple[npt.NDArray[np.int16], int]:
        """Samples of shape (samples, channels), and how many make a second.

        Raises:
            UsageError: the file is no WAV, which needs a decoder.
            Damaged: it is no WAV of 16 bits.
        """
        import numpy as np

        if self.format != "wav":
            raise UsageError(f"audio as {self.format} is kept as it is, not decoded")
        try:
            with wave.open(io.BytesIO(self.content), "rb") as sound:
                if sound.getsampwidth() != 2:
                    raise Damaged(f"a WAV of {sound.getsampwidth() * 8} bits, want 16")
                # Asking for the frames that the header claims would reserve them first.
                frames = min(sound.getnframes(), len(self.content) // 2)
                channels, rate = sound.getnchannels(), sound.getframerate()
                raw = sound.readframes(frames)
        except _BAD_WAV as error:
            raise Damaged(f"no WAV: {error!s:.100}") from error
        whole = len(raw) // (2 * channels) * channels
        return np.frombuffer(raw, "<i2", count=whole).reshape(-1, channels).astype(np.int16), rate

    def _recall(self, facts: Mapping[str, Any], read: Callable[[str], bytes]) -> None:  # noqa: ARG002
        self.sample_rate, self.channels = (
            count_of(facts, "sample_rate"),
            count_of(facts, "channels"),
        )
        seconds = facts.get("seconds", 0.0)
        self.seconds = float(seconds) if isinstance(seconds, (int, float)) else 0.0


def samples_of(data: Any) -> npt.NDArray[np.int16]:
    """An array of a sound as little-endian int16 of shape (samples, channels).

    Raises:
        UsageError: no sound has this shape.
    """
    import numpy as np

    from localstore.media.arrays import to_numpy

    array = to_numpy(data, "audio")
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim == 2 and array.shape[0] <= _MAX_CHANNELS < array.shape[1]:
        array = array.T
    if array.ndim != 2 or not 1 <= array.shape[1] <= _MAX_CHANNELS:
        raise UsageError(f"audio of shape {array.shape}, want samples, or samples x channels")
    if array.dtype.kind == "f":
        array = np.nan_to_num(array.astype(np.float64), nan=0.0, posinf=1.0, neginf=-1.0)
        loud: npt.NDArray[np.int16] = np.rint(array.clip(-1.0, 1.0) * 32767).astype("<i2")
        return loud
    if array.dtype == np.uint8:
        return ((array.astype(np.int32) - 128) << 8).astype("<i2")
    if array.dtype == np.int32:
        return (array >> 16).astype("<i2")
    return array.clip(-32768, 32767).astype("<i2")


def encode_wav(samples: npt.NDArray[np.int16], rate: int) -> bytes:
    """int16 of shape (samples, channels) as a WAV file."""
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setnchannels(samples.shape[1])
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes(samples.tobytes())
    return out.getvalue()
