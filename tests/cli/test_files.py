"""`localstore files`: lists, and what a hostile run may not write."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

import localstore
from localstore.format.spec import DataClass
from localstore.sdk.files import add_file
from tests.cli.conftest import call

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from localstore.sdk.run import Run

PICTURE = np.zeros((4, 6, 3), dtype=np.uint8)


@pytest.fixture
def stored() -> Callable[..., None]:
    """Makes the finished run `one` with files of some paths, each with a content."""

    def make(files: dict[str, bytes], data_class: DataClass = DataClass.CODE) -> None:
        run = localstore.init(project="digits", id="one")
        for path, content in files.items():
            keep(run, data_class, path, content)
        run.finish()

    return make


def keep(run: Run, data_class: DataClass, path: str, content: bytes) -> None:
    add_file(run._project, run._writer, data_class, path, content, {"caption": "a\x1b[2J"})


@pytest.fixture
def rich_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run `one` with media, a saved file and requirements."""
    monkeypatch.setenv("LOCALSTORE_ENVIRONMENT", "true")
    (tmp_path / "notes.txt").write_text("hello\n")
    run = localstore.init(project="digits", id="one")
    run.log({"sample": localstore.Image(PICTURE, caption="a \x1b[31mseven")})
    run.log({"words": localstore.Table(columns=["a", "b"], data=[[1, "x"], [2, "y"]])})
    run.save(str(tmp_path / "notes.txt"), base_path=str(tmp_path))
    run.finish()


# ------------------------------------------------------------------ the list
@pytest.mark.usefixtures("rich_run")
def test_each_file_has_its_class_its_size_and_what_is_known_of_it() -> None:
    outcome = call("files", "one")
    assert (outcome.code, outcome.err) == (0, "")
    rows = {line.split()[0]: line.split(maxsplit=1)[1] for line in outcome.out.splitlines()}
    picture = next(rows[path] for path in rows if path.startswith("media/images/sample_0_"))
    assert picture.startswith("media ")
    assert picture.endswith('6 x 4  "a \\x1b[31mseven"')
    assert next(rows[path] for path in rows if "words_1" in path).endswith("2 rows, 2 columns")
    assert rows["notes.txt"].split() == ["artifacts", "6", "B"]
    assert rows["requirements.txt"].startswith("system ")


@pytest.mark.usefixtures("rich_run")
@pytest.mark.parametrize(("name", "count"), [("media", 2), ("artifacts", 1), ("code", 0)])
def test_a_class_alone(name: str, count: int) -> None:
    document = json.loads(call("files", "one", "--class", name, "--json").out)
    assert document["run"] == "ada/digits/one"
    assert [file["class"] for file in document["files"]] == [name] * count


@pytest.mark.usefixtures("rich_run")
def test_json_has_every_fact_exactly() -> None:
    (picture,) = (
        file
        for file in json.loads(call("files", "one", "--json").out)["files"]
        if file["path"].startswith("media/images/")
    )
    assert picture["facts"]["caption"] == "a \x1b[31mseven"
    assert (picture["facts"]["width"], picture["facts"]["height"]) == (6, 4)
    assert len(picture["hash"]) == 64


def test_a_hostile_path_cannot_act_on_the_terminal(stored: Callable[..., None]) -> None:
    stored({"a\x1b[2J\r\n.py": b"x"})
    out = call("files", "one").out
    assert out.replace("\n", "").isprintable()
    assert len(out.splitlines()) == 2


# ------------------------------------------------------------------ writing out
@pytest.mark.usefixtures("rich_run")
def test_what_fits_is_written_with_its_bytes(tmp_path: Path) -> None:
    root = tmp_path / "out"
    outcome = call(
        "files", "one", "--get", "notes.txt", "--get", "media/*.png", "--root", str(root)
    )
    assert (outcome.code, outcome.err) == (0, "")
    written = sorted(path for path in root.rglob("*") if path.is_file())
    assert sorted(outcome.out.splitlines()) == [str(path) for path in written]
    run = localstore.Api().run("one")
    for path in written:
        assert path.read_bytes() == run.read_file(path.relative_to(root).as_posix())
    assert [path.suffix for path in written] == [".png", ".txt"]


def test_a_path_with_brackets_is_found_by_itself(
    stored: Callable[..., None], tmp_path: Path
) -> None:
    stored({"a[1].py": b"x"})
    assert call("files", "one", "--get", "a[1].py", "--root", str(tmp_path / "out")).code == 0
    assert (tmp_path / "out/a[1].py").read_bytes() == b"x"


def test_what_fits_nothing_is_an_error_and_writes_nothing(
    stored: Callable[..., None], tmp_path: Path
) -> None:
    stored({"a.py": b"x"})
    root = tmp_path / "out"
    outcome = call("files", "one", "--get", "a.py", "--get", "b", "--root", str(root))
    assert (outcome.code, outcome.out) == (66, "")
    assert not root.exists()


@pytest.mark.parametrize(
    "words", [["--get", "a.py"], ["--root", "out"], ["--force"], ["--root", "out", "--force"]]
)
def test_half_of_an_order_is_an_error(stored: Callable[..., None], words: list[str]) -> None:
    stored({"a.py": b"x"})
    assert call("files", "one", *words).code == 2


OUTSIDE = ["../evil", "/tmp/evil", "a/../../evil", "a/./b", "", ".", "a//b", "a\0b", "..", "a/.."]


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_path_that_leads_outside_of_the_root_is_not_written(
    stored: Callable[..., None], tmp_path: Path, path: str
) -> None:
    stored({path: b"evil", "good": b"good"})
    root = tmp_path / "deep/out"
    outcome = call("files", "one", "--get", "*", "--root", str(root), "--force")
    assert outcome.code == 20
    assert "not written" in outcome.err
    assert [one.name for one in (tmp_path / "deep").rglob("*")] == ["out", "good"]
    assert not (tmp_path / "evil").exists()


def test_a_link_in_the_root_leads_nothing_out_of_it(
    stored: Callable[..., None], tmp_path: Path
) -> None:
    stored({"link/evil": b"evil", "loose": b"evil"})
    root, other = tmp_path / "out", tmp_path / "other"
    root.mkdir()
    other.mkdir()
    (root / "link").symlink_to(other)
    (root / "loose").symlink_to(other / "loose")
    outcome = call("files", "one", "--get", "*", "--root", str(root), "--force")
    assert outcome.code == 20
    assert list(other.iterdir()) == []


def test_a_file_that_is_there_stays_unless_forced(
    stored: Callable[..., None], tmp_path: Path
) -> None:
    stored({"a.py": b"new", "b.py": b"new"})
    (tmp_path / "a.py").write_bytes(b"mine")
    words = ["files", "one", "--get", "*.py", "--root", str(tmp_path)]
    outcome = call(*words, LOCALSTORE_QUIET="0")
    assert outcome.code == 73
    assert "not written: a.py" in outcome.err
    assert "--force" in outcome.err
    assert (tmp_path / "a.py").read_bytes() == b"mine"
    assert (tmp_path / "b.py").read_bytes() == b"new"
    assert call(*words, "--force").code == 0
    assert (tmp_path / "a.py").read_bytes() == b"new"


def test_what_is_there_already_with_the_same_bytes_is_no_error(
    stored: Callable[..., None], tmp_path: Path
) -> None:
    stored({"a.py": b"x"})
    words = ["files", "one", "--get", "a.py", "--root", str(tmp_path)]
    assert [call(*words).code, call(*words).code] == [0, 0]


def test_damaged_bytes_are_never_written_and_do_not_stop_the_others(
    stored: Callable[..., None], tmp_path: Path
) -> None:
    content = bytes(range(256)) * 80
    stored({"large": content, "small": b"x"})
    (name,) = (path for path in (tmp_path / "home").rglob("objects/*/*") if path.is_file())
    raw = bytearray(name.read_bytes())
    raw[len(raw) // 2] ^= 1
    name.write_bytes(raw)
    root = tmp_path / "out"
    outcome = call("files", "one", "--get", "*", "--root", str(root), "--json")
    assert outcome.code == 20
    document = json.loads(outcome.out)
    assert list(document["failed"]) == ["large"]
    assert document["written"] == [str(root / "small")]
    assert [path.name for path in root.iterdir()] == ["small"]


def test_bytes_that_have_not_arrived_are_told_apart_from_damage(
    stored: Callable[..., None], tmp_path: Path
) -> None:
    stored({"large": bytes(range(256)) * 80})
    for path in (tmp_path / "home").rglob("objects/*/*"):
        path.unlink()
    outcome = call("files", "one", "--get", "large", "--root", str(tmp_path / "out"))
    assert outcome.code == 66
    assert not (tmp_path / "out").exists()
