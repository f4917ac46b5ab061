"""Media in artifacts: what was added under a name is found under it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from localstore.errors import Damaged, NotFound
from localstore.media import Image, Table, Text, Video
from localstore.media import packing as subject
from localstore.media.packing import from_artifact, to_artifact_files
from tests.media.test_logging import EVERY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def reader(files: list[tuple[str, bytes | Path]]) -> Callable[[str], bytes]:
    """What reads the files of an artifact."""
    found = dict(files)

    def read(path: str) -> bytes:
        if path not in found:
            raise NotFound(path)
        content = found[path]
        return content if isinstance(content, bytes) else content.read_bytes()

    return read


@pytest.mark.parametrize("kind", EVERY)
def test_every_kind_comes_back(kind: str) -> None:
    media = EVERY[kind]()
    files = to_artifact_files(media, "results/best")
    opened = from_artifact("results/best", reader(files))

    assert opened is not None
    assert opened.facts() == media.facts()
    assert [file.content for file in opened.files()] == [file.content for file in media.files()]
    assert files[0][0].startswith("results/best.")
    assert len({path for path, _ in files}) == len(files)


def test_a_name_with_its_suffix_is_the_same_name() -> None:
    files = to_artifact_files(Table(columns=["a"], data=[[1]]), "t.table.json")

    assert [path for path, _ in files] == ["t.table.json"]
    for name in ("t", "t.table.json"):
        opened = from_artifact(name, reader(files))
        assert isinstance(opened, Table)
        assert opened.data == [[1]]


def test_a_picture_stands_beside_its_entry_as_in_wandb() -> None:
    image = Image(np.zeros((4, 4), np.uint8), caption="dark")
    (entry, raw), (path, content) = to_artifact_files(image, "photo")

    assert entry == "photo.image-file.json"
    assert path.startswith("media/images/")
    assert content == image.content
    assert isinstance(raw, bytes)
    assert json.loads(raw)["path"] == path


def test_pictures_of_a_table_go_along() -> None:
    picture = Image(np.zeros((4, 4), np.uint8), caption="dark")
    files = to_artifact_files(Table(columns=["p"], data=[[picture], [picture]]), "t")
    opened = from_artifact("t", reader(files))

    assert len(files) == 2
    assert isinstance(opened, Table)
    assert opened.data[1][0].caption == "dark"


def test_a_name_that_holds_no_media_gives_none() -> None:
    assert from_artifact("weights.bin", reader([("weights.bin", b"x")])) is None


def test_rows_over_the_limit_are_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "MAX_ROWS", 3)
    told: list[int] = []
    table = Table(columns=["a"], data=[[at] for at in range(5)])
    files = to_artifact_files(table, "t", warn=lambda message, n: told.append(n))
    opened = from_artifact("t", reader(files))

    assert told == [2]
    assert isinstance(opened, Table)
    assert len(opened) == 3


@pytest.mark.parametrize("name", ["", "/abs", "a/../b", "a//b", "a\0b"])
def test_a_name_that_leaves_its_folder_is_refused(name: str) -> None:
    with pytest.raises(Damaged):
        to_artifact_files(Text("x"), name)


@pytest.mark.parametrize(
    "entry",
    [
        {"_type": "image-file", "path": "../../secret", "format": "png"},
        {"_type": "image-file", "path": 5, "format": "png"},
        {"_type": "image-file", "format": "png"},
        [],
    ],
)
def test_a_hostile_entry_is_damaged(entry: Any) -> None:
    raw = json.dumps(entry).encode()
    with pytest.raises(Damaged):
        from_artifact("a", reader([("a.image-file.json", raw)]))


def test_a_large_file_is_handed_on_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("localstore.media.sources.READ_AT_ONCE_BYTES", 10)
    path = tmp_path / "a.mp4"
    path.write_bytes(bytes(100))

    assert to_artifact_files(Video(path), "v")[1][1] == path
