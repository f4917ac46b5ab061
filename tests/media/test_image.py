"""Pictures: what goes in comes out, exactly where exactness is promised."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy
from PIL import Image as Pillow

from localstore.errors import UsageError
from localstore.media import Image
from localstore.media.png import encode

if TYPE_CHECKING:
    from pathlib import Path

    from tests.media.conftest import Shelf

SHAPES = [(5, 7), (5, 7, 1), (5, 7, 2), (5, 7, 3), (5, 7, 4), (1, 1), (300, 3, 3), (40, 60, 3)]


class Tensor:
    """What a torch tensor shows: it leaves its graph and its device before it is an array."""

    def __init__(self, array: np.ndarray[Any, Any], at: str = "graph") -> None:
        self.array, self.at, self.shape, self.dtype = array, at, array.shape, array.dtype

    def detach(self) -> Tensor:
        return Tensor(self.array, "device")

    def cpu(self) -> Tensor:
        assert self.at == "device", "can't convert a tensor that requires grad"
        return Tensor(self.array, "host")

    def numpy(self) -> np.ndarray[Any, Any]:
        assert self.at == "host", "can't convert a cuda tensor"
        return self.array


class Brain(Tensor):
    """A tensor of bfloat16, which numpy does not have."""

    def detach(self) -> Brain:
        return self

    def cpu(self) -> Brain:
        return self

    def float(self) -> Tensor:
        return Tensor(self.array, "host")

    def numpy(self) -> np.ndarray[Any, Any]:
        raise TypeError("Got unsupported ScalarType BFloat16")


def noise(*shape: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(7).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("shape", SHAPES)
def test_bytes_come_back_exactly(shape: tuple[int, ...], shelf: Shelf) -> None:
    array = noise(*shape)
    opened = shelf.again(Image(array))

    assert (opened.to_numpy() == array.reshape(opened.to_numpy().shape)).all()
    assert (opened.height, opened.width) == shape[:2]
    assert opened.content_type == "image/png"


@settings(max_examples=60, deadline=None)
@given(
    of_numpy.arrays(
        np.uint8,
        st.one_of(
            of_numpy.array_shapes(min_dims=2, max_dims=2, max_side=40),
            st.tuples(st.integers(5, 40), st.integers(5, 40), st.sampled_from([2, 3, 4])),
        ),
        elements=st.integers(0, 255) | st.just(0),
    )
)
def test_our_png_is_read_by_others(array: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    with Pillow.open(io.BytesIO(encode(array))) as picture:
        picture.load()

        assert (np.asarray(picture) == array).all()


def test_every_way_of_compressing_is_read_by_others() -> None:
    flat, pattern = np.zeros((64, 64, 3), np.uint8), np.tile(np.arange(64, dtype=np.uint8), (64, 1))
    mixed = pattern.copy()
    mixed[::2] = 255 - mixed[::2]
    for array in (flat, pattern, mixed, noise(64, 64, 3)):
        assert (Image(array).to_numpy() == array).all()


def test_sixteen_bits_of_grey_stay_sixteen() -> None:
    array = np.random.default_rng(0).integers(0, 65536, (9, 11), dtype=np.uint16)

    assert (Image(array).to_numpy() == array).all()


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([[0.0, 0.5, 1.0]]), [[0, 128, 255]]),
        (np.array([[-1.0, 0.0, 1.0]]), [[0, 128, 255]]),
        (np.array([[0.0, 100.0, 255.0]]), [[0, 100, 255]]),
        (np.array([[-10.0, 0.0, 10.0]]), [[0, 128, 255]]),
        (np.array([[0.0, float("nan"), 1.0]]), [[0, 0, 255]]),
        (np.array([[True, False]]), [[255, 0]]),
        (np.array([[0, 1, 200]]), [[0, 1, 200]]),
        (np.array([[0, 500, 1000]]), [[0, 128, 255]]),
        (np.array([[7.0, 7.0]]), [[7, 7]]),
        (np.array([[0.0, float("inf")]], dtype=np.float32), [[0, 255]]),
    ],
)
def test_numbers_fill_the_range_of_a_picture(array: Any, expected: Any) -> None:
    assert Image(array).to_numpy().tolist() == expected


def test_without_normalize_numbers_are_cut() -> None:
    assert Image(np.array([[-5, 7, 300]]), normalize=False).to_numpy().tolist() == [[0, 7, 255]]


def test_a_tensor_has_its_channels_first() -> None:
    array = noise(3, 5, 4)

    assert (Image(Tensor(array)).to_numpy() == np.moveaxis(array, 0, -1)).all()


def test_an_array_with_planes_in_front_is_turned() -> None:
    array = noise(3, 50, 40)

    assert (Image(array).to_numpy() == np.moveaxis(array, 0, -1)).all()


def test_a_tensor_that_numpy_does_not_know_becomes_floats() -> None:
    opened = Image(Brain(np.array([[0.0, 1.0]], dtype=np.float32)))

    assert opened.to_numpy().tolist() == [[0, 255]]


def test_a_batch_is_laid_out_as_a_grid() -> None:
    opened = Image(Tensor(noise(10, 3, 6, 6)))

    assert (opened.height, opened.width) == (2 * 8 + 2, 8 * 8 + 2)


def test_a_later_change_of_the_array_changes_nothing() -> None:
    array = noise(8, 8, 3)
    before = array.copy()
    image = Image(array)
    array[:] = 0

    assert (image.to_numpy() == before).all()


def test_a_later_change_of_the_file_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encode(noise(8, 8, 3)))
    image = Image(path)
    path.write_bytes(b"other")

    assert (image.to_numpy() == noise(8, 8, 3)).all()


@pytest.mark.parametrize("name", ["PNG", "JPEG", "GIF", "WEBP", "BMP"])
def test_a_file_stays_what_it_is(name: str, tmp_path: Path, shelf: Shelf) -> None:
    path = tmp_path / "photo.bin"
    Pillow.fromarray(noise(12, 34, 3)).save(path, name)
    image = Image(str(path), caption="seen")
    opened = shelf.again(image)

    assert opened.content == path.read_bytes()
    assert opened.to_pil().size == (34, 12)
    assert (opened.width, opened.height) == (34, 12)
    assert opened.caption == "seen"


def test_the_size_of_a_photo_stands_behind_its_profile(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Pillow.fromarray(noise(12, 34, 3)).save(path, icc_profile=b"p" * 100_000, progressive=True)

    assert (Image(path).width, Image(path).height) == (34, 12)


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 50}, {"exact": True}])
def test_the_size_of_every_sort_of_webp_is_read(options: Any) -> None:
    for mode in ("RGB", "RGBA"):
        out = io.BytesIO()
        Pillow.fromarray(noise(33, 257, 4)).convert(mode).save(out, "WEBP", **options)
        image = Image(out.getvalue())

        assert (image.width, image.height) == (257, 33)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F", "HSV"])
@pytest.mark.parametrize("file_type", ["png", "jpg", "webp"])
def test_pictures_of_pillow_of_every_mode(mode: str, file_type: str) -> None:
    source = Pillow.fromarray(noise(6, 9, 3))
    source = source.convert("L").convert(mode) if mode in ("I;16", "F") else source.convert(mode)

    assert Image(source, file_type=file_type).to_pil().size == (9, 6)


def test_a_mode_converts() -> None:
    assert Image(noise(4, 4, 3), mode="L").to_pil().mode == "L"
    assert Image(Pillow.fromarray(noise(4, 4, 3)), mode="RGBA").to_pil().mode == "RGBA"


def test_jpeg_is_written_where_it_is_asked_for() -> None:
    for source in (noise(8, 8, 3), noise(8, 8, 4), noise(8, 8), Pillow.new("RGBA", (8, 8))):
        image = Image(source, file_type="jpeg")

        assert image.format == "jpg"
        assert image.content[:2] == b"\xff\xd8"


def test_a_figure_of_matplotlib_is_drawn() -> None:
    matplotlib = pytest.importorskip("matplotlib", reason="draws with matplotlib")
    matplotlib.use("Agg")
    plt = pytest.importorskip("matplotlib.pyplot")
    figure, axes = plt.subplots()
    axes.plot([1, 2, 3])
    try:
        for source in (figure, axes, plt):
            assert Image(source).width > 100
    finally:
        plt.close(figure)


def test_an_image_of_an_image_keeps_what_lay_over_it() -> None:
    first = Image(noise(4, 4), caption="a", masks={"m": {"mask_data": np.ones((4, 4), int)}})
    again = Image(first, caption="b")

    assert again.content == first.content
    assert again.caption == "b"
    assert set(again.masks) == {"m"}


def test_an_svg_is_text_and_never_drawn(tmp_path: Path, shelf: Shelf) -> None:
    path = tmp_path / "evil.svg"
    path.write_text("<svg><script>alert(1)</script></svg>")
    opened = shelf.again(Image(path))

    assert opened.content_type.startswith("text/plain")
    assert opened.content == path.read_bytes()
    with pytest.raises(UsageError, match="never drawn"):
        opened.to_pil()


@pytest.mark.parametrize(
    "source",
    [
        np.zeros((3,)),
        np.zeros((9, 9, 7)),
        np.zeros((0, 4)),
        np.zeros((2, 2, 2, 2, 2)),
        np.array([["a"]]),
        object(),
        b"no picture",
        "/no/such/file.png",
        "https://example.org/a.png",
        os.devnull,
        [[1, 2], [3]],
    ],
    ids=lambda source: f"{type(source).__name__} {source!r:.30}",
)
def test_what_is_no_picture_is_refused_in_words(source: Any) -> None:
    with pytest.raises(UsageError, match="an image"):
        Image(source)


def test_masks_and_boxes_come_back(shelf: Shelf) -> None:
    data = np.random.default_rng(1).integers(0, 700, (6, 9))
    boxes = [
        {"position": {"minX": 0.1, "maxX": 0.2, "minY": 0.3, "maxY": 0.4}, "class_id": 1},
        {
            "position": {"middle": [3, 4], "width": 2, "height": 2},
            "domain": "pixel",
            "box_caption": "a cat",
            "scores": {"sure": np.float32(0.5)},
        },
    ]
    image = Image(
        noise(6, 9, 3),
        caption="two cats",
        masks={"truth": {"mask_data": data, "class_labels": {1: "cat", 2: "dog"}}},
        boxes={"guess": {"box_data": boxes, "class_labels": {1: "cat"}}},
        classes=[{"id": 1, "name": "cat"}],
    )
    opened = shelf.again(image)

    assert (opened.masks["truth"].to_numpy() == data).all()
    assert opened.masks["truth"].class_labels == {1: "cat", 2: "dog"}
    assert opened.classes == {1: "cat"}
    assert opened.box_labels == {"guess": {1: "cat"}}
    assert opened.boxes == image.boxes
    assert opened.boxes["guess"][1]["scores"] == {"sure": 0.5}


@pytest.mark.parametrize(
    "wrong",
    [
        {"masks": {"m": {"mask_data": [[0.5]]}}},
        {"masks": {"m": {"mask_data": [[-1]]}}},
        {"masks": {"m": {"mask_data": [[70_000]]}}},
        {"masks": {"m": {"mask_data": [1, 2, 3]}}},
        {"masks": {"m": {}}},
        {"masks": {"m": {"path": __file__}}},
        {"masks": [1]},
        {"masks": {"m": {"mask_data": [[1]], "class_labels": {"x": "y"}}}},
        {"boxes": {"b": {"box_data": 3}}},
        {"boxes": {"b": {"box_data": [3]}}},
        {"boxes": {"b": {"box_data": [{"position": {"minX": 1}}]}}},
        {"boxes": {"b": {"box_data": [{"position": {"middle": [1], "width": 1, "height": 1}}]}}},
        {"classes": [{"name": "no id"}]},
        {"file_type": "exe"},
    ],
    ids=str,
)
def test_a_wrong_overlay_is_refused_in_words(wrong: Any) -> None:
    with pytest.raises(UsageError, match="want"):
        Image(noise(2, 2), **wrong)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), "x", None])
def test_a_box_at_no_place_is_refused(number: Any) -> None:
    position = {"minX": number, "maxX": 1, "minY": 0, "maxY": 1}
    with pytest.raises(UsageError, match="minX"):
        Image(noise(2, 2), boxes={"b": {"box_data": [{"position": position}]}})


def test_a_list_without_numpy_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(UsageError, match="needs numpy") as problem:
        Image([[1, 2], [3, 4]])
    assert problem.value.hint == "pip install numpy"
