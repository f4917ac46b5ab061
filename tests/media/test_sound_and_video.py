"""Sound, moving pictures and things in three dimensions."""

from __future__ import annotations

import io
import wave
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image as Pillow

from localstore.errors import UsageError
from localstore.media import Audio, Object3D, Video

if TYPE_CHECKING:
    from pathlib import Path

    from tests.media.conftest import Shelf

RATE = 8000


def clip(*shape: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)


# ------------------------------------------------------------------ sound
@pytest.mark.parametrize("channels", [1, 2])
def test_sixteen_bits_of_sound_come_back_exactly(channels: int, shelf: Shelf) -> None:
    sound = np.random.default_rng(0).integers(-32768, 32768, (1000, channels), dtype=np.int16)
    opened = shelf.again(Audio(sound, RATE, caption="a bird"))
    samples, rate = opened.to_numpy()

    assert (samples == sound).all()
    assert (rate, opened.channels, opened.seconds, opened.caption) == (
        RATE,
        channels,
        0.125,
        "a bird",
    )


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([0.0, 1.0, -1.0, 5.0, float("nan")]), [0, 32767, -32767, 32767, 0]),
        (np.array([0, 128, 255], dtype=np.uint8), [-32768, 0, 32512]),
        (np.array([0, 1 << 30], dtype=np.int32), [0, 1 << 14]),
        (np.array([40_000, -40_000], dtype=np.int64), [32767, -32768]),
    ],
)
def test_numbers_become_loudness(array: Any, expected: list[int]) -> None:
    assert Audio(array, RATE).to_numpy()[0][:, 0].tolist() == expected


def test_channels_first_is_turned() -> None:
    sound = np.zeros((2, 500))
    sound[1] = 0.5

    assert Audio(sound, RATE).to_numpy()[0].shape == (500, 2)


def test_our_wav_is_read_by_others() -> None:
    soundfile = pytest.importorskip("soundfile", reason="compares with soundfile")
    sound = np.sin(np.arange(2000) / 9)
    samples, rate = soundfile.read(io.BytesIO(Audio(sound, RATE).content))

    assert rate == RATE
    assert np.abs(samples - sound).max() < 1e-4


def test_a_sound_file_stays_as_it_is(tmp_path: Path, shelf: Shelf) -> None:
    path = tmp_path / "a.MP3"
    path.write_bytes(b"ID3 whatever")
    opened = shelf.again(Audio(path))

    assert (opened.content, opened.format, opened.content_type) == (
        b"ID3 whatever",
        "mp3",
        "audio/mpeg",
    )
    with pytest.raises(UsageError, match="not decoded"):
        opened.to_numpy()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Audio(np.zeros(10)),
        lambda: Audio(np.zeros((10, 100, 3)), RATE),
        lambda: Audio(np.zeros((100, 99)), RATE),
        lambda: Audio("/no/such.wav"),
        lambda: Audio("song.exe"),
        lambda: Audio(None, RATE),
    ],
)
def test_what_is_no_sound_is_refused_in_words(make: Any) -> None:
    with pytest.raises(UsageError, match="audio"):
        make()


def test_a_wav_of_floats_is_kept_and_not_measured() -> None:
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setparams((1, 2, RATE, 0, "NONE", ""))
        sound.writeframes(bytes(100))
    raw = bytearray(out.getvalue())
    raw[20] = 3  # the code of floats
    kept = Audio(bytes(raw))

    assert kept.content == raw
    assert kept.channels == 0


# ------------------------------------------------------------------ moving pictures
def test_a_gif_has_the_frames_of_the_array(shelf: Shelf) -> None:
    opened = shelf.again(Video(clip(6, 3, 20, 30), fps=10, caption="walk"))

    with Pillow.open(io.BytesIO(opened.content)) as picture:
        assert (picture.n_frames, picture.size, picture.info["duration"]) == (6, (30, 20), 100)  # type: ignore[attr-defined]
    assert (opened.frames, opened.width, opened.height, opened.fps) == (6, 30, 20, 10.0)
    assert opened.caption == "walk"


@pytest.mark.parametrize("shape", [(4, 1, 9, 9), (4, 4, 9, 9), (2, 4, 3, 9, 9), (1, 4, 3, 9, 9)])
def test_grey_transparent_and_batched_videos(shape: tuple[int, ...]) -> None:
    assert Video(clip(*shape)).frames == 4


@pytest.mark.parametrize(("name", "magic"), [("mp4", b"ftyp"), ("webm", b"\x1a\x45\xdf\xa3")])
def test_ffmpeg_encodes_odd_sizes_through_pipes_alone(
    name: str, magic: bytes, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("imageio_ffmpeg", reason="needs localstore[media]")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    opened = shelf.again(Video(clip(8, 3, 33, 47), fps=8, format=name))

    assert magic in opened.content[:12]
    assert opened.content_type == f"video/{name}"
    assert not list(tmp_path.iterdir())


def test_without_ffmpeg_a_video_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
    with pytest.raises(UsageError, match="imageio-ffmpeg") as caught:
        Video(clip(2, 3, 8, 8), format="mp4")

    assert "localstore[media]" in caught.value.hint


def test_a_video_file_stays_as_it_is(tmp_path: Path, shelf: Shelf) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"....ftyp")

    assert shelf.again(Video(path)).content == b"....ftyp"


@pytest.mark.parametrize(
    "make",
    [
        lambda: Video(clip(3, 20, 30)),
        lambda: Video(clip(4, 20, 30, 3)),
        lambda: Video(clip(0, 3, 8, 8)),
        lambda: Video(clip(2, 3, 8, 8), format="avi"),
        lambda: Video(clip(2, 3, 8, 8), fps=-1),
        lambda: Video("a.avi"),
    ],
)
def test_what_is_no_video_is_refused_in_words(make: Any) -> None:
    with pytest.raises(UsageError, match="a video"):
        make()


# ------------------------------------------------------------------ three dimensions
@pytest.mark.parametrize("width", [3, 4, 6])
def test_points_come_back_exactly(width: int, shelf: Shelf) -> None:
    points = np.random.default_rng(0).normal(size=(50, width)).astype(np.float32)
    opened = shelf.again(Object3D(points, caption="a cloud"))

    assert (opened.to_numpy() == points).all()
    assert (opened.points, opened.caption) == (50, "a cloud")


def test_a_scene_keeps_its_boxes(shelf: Shelf) -> None:
    corners = [[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]
    boxes = [{"corners": corners, "label": "car", "color": [255, 0, 0]}]
    opened = shelf.again(Object3D.from_point_cloud(np.zeros((2, 3)), boxes=np.array(boxes)))

    assert opened.to_numpy().shape == (2, 3)
    assert b'"car"' in opened.content


@pytest.mark.parametrize("name", ["a.obj", "a.gltf", "a.glb", "a.babylon", "a.stl", "a.pts.json"])
def test_a_mesh_stays_as_it_is(name: str, tmp_path: Path, shelf: Shelf) -> None:
    (tmp_path / name).write_bytes(b"mesh")

    assert shelf.again(Object3D(tmp_path / name)).content == b"mesh"


@pytest.mark.parametrize(
    "source", [np.zeros((3, 5)), np.zeros(3), {"type": "lidar/beta"}, "a.exe", "a.json", object()]
)
def test_what_has_no_three_dimensions_is_refused_in_words(source: Any) -> None:
    with pytest.raises(UsageError, match="a 3D object"):
        Object3D(source)
