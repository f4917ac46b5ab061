"""What `log` makes of media: which values hold some, what stands in the point, what is stored."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from localstore.crypto import content_hash
from localstore.media import (
    Audio,
    CustomChart,
    Histogram,
    Html,
    Image,
    Object3D,
    Plotly,
    Table,
    Text,
    Video,
)
from localstore.media import plot as charts
from localstore.media.logging import Limits, collect, contains_media
from localstore.media.names import checked_path, safe_key
from localstore.sdk.values import encode

if TYPE_CHECKING:
    from pathlib import Path

    from localstore.media.base import Media
    from tests.media.conftest import Shelf

PIXELS = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
SECRET = "patient Meier"


def chart() -> CustomChart:
    return charts.line(Table(columns=["x", SECRET], data=[[1, SECRET]]), "x", SECRET, title=SECRET)


EVERY = {
    "image": lambda: Image(
        PIXELS,
        caption=SECRET,
        classes={1: SECRET},
        masks={SECRET: {"mask_data": PIXELS[..., 0], "class_labels": {1: SECRET}}},
        boxes={
            SECRET: {
                "box_data": [
                    {
                        "position": {"minX": 0, "maxX": 1, "minY": 0, "maxY": 1},
                        "box_caption": SECRET,
                    }
                ],
                "class_labels": {1: SECRET},
            }
        },
    ),
    "video": lambda: Video(np.zeros((2, 3, 4, 4), np.uint8), caption=SECRET),
    "audio": lambda: Audio(np.zeros(10), 8000, caption=SECRET),
    "text": lambda: Text(SECRET, caption=SECRET),
    "html": lambda: Html(f"<b>{SECRET}</b>", caption=SECRET),
    "table": lambda: Table(columns=[SECRET], data=[[SECRET]]),
    "plotly": lambda: Plotly({"data": [], "layout": {"title": SECRET}}, caption=SECRET),
    "object3D": lambda: Object3D(np.zeros((5, 3)), caption=SECRET),
    "chart": chart,
}


@pytest.fixture(params=list(EVERY.values()), ids=list(EVERY))
def media(request: pytest.FixtureRequest) -> Media:
    made: Media = request.param()
    return made


class TestEveryKind:
    """What is promised of all media."""

    def test_no_word_of_the_user_stands_in_the_point(self, media: Media, shelf: Shelf) -> None:
        for value in (media, [media, media], {"inner": media}):
            assert SECRET not in json.dumps(shelf.log(value))

    def test_no_word_of_the_user_stands_in_a_name(self, media: Media, shelf: Shelf) -> None:
        shelf.log(media)

        assert not [path for path in shelf.files if "Meier" in path]

    def test_it_opens_again_with_the_same_files_and_facts(self, media: Media, shelf: Shelf) -> None:
        opened = shelf.again(media)

        assert [(f.suffix, f.content, f.role, f.path) for f in opened.files()] == [
            (f.suffix, f.content, f.role, f.path) for f in media.files()
        ]
        assert opened.facts() == media.facts()
        assert opened.caption == media.caption
        assert type(opened) is type(media)

    def test_hashes_and_sizes_are_those_of_the_content(self, media: Media) -> None:
        record, files = collect("k", 3, media)

        for file in files:
            assert isinstance(file.content, bytes)
            assert file.hash == content_hash(file.content)
            assert file.size == len(file.content)
            assert checked_path(file.path) == file.path
            assert file.path.startswith("media/")
        main = next(file for file in files if file.path == record["path"])
        assert record["hash"] == main.hash.hex()
        assert main.hash.hex()[:20] in main.path
        assert record["size"] == main.size

    def test_facts_fit_a_record_and_take_none_of_its_names(self, media: Media) -> None:
        for file in collect("k", 3, media)[1]:
            assert msgspec.msgpack.decode(encode(file.facts)) == file.facts
            assert not {"size", "hash", "data", "parts"} & set(file.facts)
            assert len(encode(file.facts)) < 4096

    def test_it_is_seen_wherever_it_stands(self, media: Media) -> None:
        for value in (media, [media], (media, 1), {"a": 1, "b": media}, {"a": {"b": [media]}}):
            assert contains_media(value)

    def test_a_file_over_the_limit_is_left_out_and_counted(self, media: Media) -> None:
        told: list[int] = []
        record, files = collect(
            "k", 3, media, limits=Limits(max_bytes=1), warn=lambda message, n: told.append(n)
        )

        assert files == []
        assert told == [1]
        assert record["dropped"] == "too large"
        assert "path" not in record

    def test_its_text_for_people_is_short(self, media: Media) -> None:
        assert len(repr(media)) < 200
        assert SECRET not in repr(media)


@pytest.mark.parametrize(
    "value",
    [
        1, 1.0, "text", None, True, b"", [], (), {}, [1.0] * 10, {"a": {"b": 2}}, PIXELS,
        np.float32(1), Histogram([1.0]), object(), sys, {1, 2},
    ],
    ids=lambda value: f"{value!r:.30}",
)  # fmt: skip
def test_what_is_no_media_is_not_seen(value: Any) -> None:
    assert not contains_media(value)


def test_a_value_that_contains_itself_is_looked_at_once() -> None:
    loop: list[Any] = []
    loop.append(loop)
    ring: dict[str, Any] = {}
    ring["ring"] = ring

    assert not contains_media(loop)
    assert not contains_media(ring)


def test_a_list_is_one_entry_with_a_file_for_each(shelf: Shelf) -> None:
    images = [Image(PIXELS, caption=f"number {at}") for at in range(3)]
    record = shelf.log(images)

    assert (record["_type"], record["count"], len(set(record["paths"]))) == (
        "images/separated",
        3,
        3,
    )
    assert [opened.caption for opened in shelf.open(record)] == ["number 0", "number 1", "number 2"]


def test_a_list_of_many_kinds_keeps_its_order(shelf: Shelf) -> None:
    records = shelf.log([Image(PIXELS), 5, Text("x")])

    assert [record if record == 5 else record["_type"] for record in records] == [
        "image-file",
        5,
        "text-file",
    ]


def test_a_dict_keeps_its_numbers(shelf: Shelf) -> None:
    record = shelf.log({"image": Image(PIXELS), "loss": 0.5, "inner": {"text": Text("x")}})

    assert record["loss"] == 0.5
    assert shelf.open(record["inner"]["text"]).text == "x"


def test_a_long_list_is_cut_and_counted(shelf: Shelf) -> None:
    told: list[int] = []
    record = shelf.log(
        [Image(PIXELS)] * 10, limits=Limits(max_items=4), warn=lambda message, n: told.append(n)
    )

    assert (record["count"], told) == (4, [6])


@pytest.mark.parametrize("made", [EVERY["table"], chart])
def test_a_long_table_is_cut_and_counted(made: Any, shelf: Shelf) -> None:
    told: list[int] = []
    value = made()
    table = getattr(value, "table", value)
    table.data *= 10
    record = shelf.log(value, limits=Limits(max_rows=4), warn=lambda message, n: told.append(n))

    assert (record["rows"], told) == (4, [6])
    assert len(table.data) == 10


def test_pillow_and_figures_are_taken_as_they_are(shelf: Shelf) -> None:
    picture = Pillow.fromarray(PIXELS)

    assert contains_media(picture)
    assert (shelf.again(picture).to_numpy() == PIXELS).all()
    assert shelf.log([picture, picture])["count"] == 2


def test_figures_of_matplotlib_become_images(shelf: Shelf) -> None:
    matplotlib = pytest.importorskip("matplotlib", reason="draws with matplotlib")
    matplotlib.use("Agg")
    plt = pytest.importorskip("matplotlib.pyplot")
    figure, axes = plt.subplots()
    try:
        for value in (figure, axes, plt):
            assert contains_media(value)
            assert shelf.log(value)["_type"] == "image-file"
        assert not contains_media(axes.plot([1, 2]))
    finally:
        plt.close(figure)


def test_figures_of_plotly_become_plotly(shelf: Shelf) -> None:
    graph = pytest.importorskip("plotly.graph_objects", reason="draws with plotly")
    figure = graph.Figure(data=[graph.Scatter(x=[1, 2], y=np.array([3.0, 4.0]))])

    assert contains_media(figure)
    opened = shelf.again(figure)
    assert graph.Figure(opened.figure).data[0].x == (1, 2)
    assert Plotly(figure).content == opened.content


def test_nothing_heavy_is_loaded_to_look() -> None:
    code = """
        import sys
        from localstore.media.logging import contains_media
        contains_media({"a": [1.0], "b": "x"})
        heavy = {"numpy", "PIL", "pandas", "matplotlib", "plotly", "nacl", "blake3", "msgspec"}
        print(sorted(heavy & set(sys.modules)))
    """
    words = [sys.executable, "-I", "-c", "\n".join(line.strip() for line in code.splitlines())]
    done = subprocess.run(words, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300), st.text(max_size=300))
def test_no_two_keys_share_a_name_and_none_leaves_the_folder(left: str, right: str) -> None:
    assert (safe_key(left) == safe_key(right)) == (left == right)
    path = f"media/images/{safe_key(left)}_0.png"
    assert checked_path(path) == path
    assert path.isascii()


def test_the_same_picture_under_two_keys_keeps_both_captions(shelf: Shelf) -> None:
    one = shelf.log(Image(PIXELS, caption="one"), key="a b")
    two = shelf.log(Image(PIXELS, caption="two"), key="a_b")

    assert (shelf.open(one).caption, shelf.open(two).caption) == ("one", "two")


def test_names_of_classes_are_one_file_for_all_steps(shelf: Shelf) -> None:
    for step in range(5):
        shelf.log(Image(PIXELS + step, classes={1: "cat"}), step=step)

    assert sum(path.endswith(".classes.json") for path in shelf.files) == 1


def test_a_large_file_stays_where_it_is(
    tmp_path: Path, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("localstore.media.sources.READ_AT_ONCE_BYTES", 10)
    path = tmp_path / "a.mp4"
    path.write_bytes(bytes(1000))
    (file,) = collect("k", 0, Video(path))[1]

    assert file.content == path
    assert (file.size, file.hash) == (1000, content_hash(bytes(1000)))
    assert shelf.again(Video(path)).content == bytes(1000)


@pytest.mark.parametrize("caption", ["ünïcode \U0001f9ea", "x" * 1_000_000, 5, "\ud800"])
def test_any_caption_is_taken(caption: Any, shelf: Shelf) -> None:
    _, files = collect("k", 0, Image(PIXELS, caption=caption))
    kept = msgspec.msgpack.decode(encode(files[0].facts))["caption"]

    assert 0 < len(kept) <= 100_000


def test_text_and_pages_come_from_files_too(tmp_path: Path, shelf: Shelf) -> None:
    (tmp_path / "a.md").write_text("# Title")
    (tmp_path / "a.html").write_text("<p>x</p>")

    assert shelf.again(Text(tmp_path / "a.md")).text == "# Title"
    assert shelf.again(Html(str(tmp_path / "a.html"))).html == "<p>x</p>"
    assert shelf.again(Html(str(tmp_path / "a.html"), data_is_not_path=True)).html.endswith(".html")
    assert shelf.again(Text(str(tmp_path / "a.md"))).text == str(tmp_path / "a.md")
    assert Html("<script>").content_type.startswith("text/plain")
    with (tmp_path / "a.html").open() as stream:
        assert Html(stream).html == "<p>x</p>"
