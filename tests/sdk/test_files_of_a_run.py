"""Media, saved files and code of a run come back as they were given, whatever ends the process."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import localstore
from localstore.errors import AlreadyExists, NotFound, UsageError
from localstore.format.spec import DataClass
from tests.sdk.scripts import column, only_run, run_script

if TYPE_CHECKING:
    from pathlib import Path


def picture(seed: int, side: int = 48) -> Any:
    """Noise, uint8, shape (side, side, 3): too much for a record in the log."""
    return np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)


def of_class(data_class: DataClass) -> list[str]:
    return [file.path for file in only_run().files() if file.data_class == data_class]


# ------------------------------------------------------------------ media
def test_a_logged_image_reads_back_pixel_by_pixel() -> None:
    with localstore.init(project="media") as run:
        run.log({"loss": 0.5, "seen": localstore.Image(picture(1), caption="a cat")})
    stored = only_run()
    (value,) = column("seen", stored)
    image = stored.media(value)
    assert np.array_equal(image.to_numpy(), picture(1))
    assert (image.caption, column("loss", stored)) == ("a cat", [0.5])


def test_a_caption_stands_in_no_other_class_than_media() -> None:
    with localstore.init(project="media") as run:
        run.log({"seen": localstore.Image(picture(1), caption="a cat")})
    assert "a cat" not in str(list(only_run().scan_history()))
    assert only_run().files()[0].facts["caption"] == "a cat"


def test_lists_tables_charts_and_nested_media_read_back() -> None:
    table = localstore.Table(columns=["step", "seen"], data=[[1, localstore.Image(picture(2))]])
    with localstore.init(project="media") as run:
        run.log(
            {
                "both": [localstore.Image(picture(3)), localstore.Image(picture(4))],
                "table": table,
                "val": {"seen": localstore.Image(picture(5))},
                "curve": localstore.plot.line_series([0, 1], [[1, 2]], keys=["a"], title="t"),
            }
        )
    stored = only_run()
    (both,), (rows,) = column("both", stored), column("table", stored)
    assert [np.array_equal(one.to_numpy(), picture(at)) for one, at in zip(
        stored.media(both), (3, 4), strict=True)] == [True, True]  # fmt: skip
    assert np.array_equal(stored.media(rows).data[0][1].to_numpy(), picture(2))
    assert np.array_equal(stored.media(column("val.seen", stored)[0]).to_numpy(), picture(5))
    assert stored.media(column("curve", stored)[0]).to_vega_lite()["$schema"]


def test_what_was_logged_is_not_what_the_array_becomes_later() -> None:
    pixels = picture(6)
    with localstore.init(project="media") as run:
        run.log({"seen": localstore.Image(pixels)})
        pixels[:] = 0
    assert np.array_equal(only_run().media(column("seen")[0]).to_numpy(), picture(6))


def test_an_image_survives_a_kill_as_soon_as_log_has_returned() -> None:
    code = """
        import os, signal, numpy as np, localstore
        run = localstore.init(project="media")
        for seed in range(40):
            noise = np.random.default_rng(seed).integers(0, 255, (48, 48, 3), dtype=np.uint8)
            run.log({"seen": localstore.Image(noise)})
        os.kill(os.getpid(), signal.SIGKILL)
    """
    run_script(code)
    stored = only_run()
    seen = [stored.media(value).to_numpy() for value in column("seen", stored)]
    assert len(seen) == 40
    assert all(np.array_equal(one, picture(seed)) for seed, one in enumerate(seen))


def test_steps_count_calls_with_media_like_all_others() -> None:
    with localstore.init(project="media") as run:
        run.log({"a": 1})
        run.log({"seen": localstore.Image(picture(1))})
        run.log({"a": 2}, step=7, commit=True)
        run.log({"seen": localstore.Image(picture(2))}, step=9, commit=True)
        assert run.step == 10
    assert column("_step") == [0, 1, 7, 9]


def test_the_limits_of_media_warn_and_are_counted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCALSTORE_MEDIA_MAX_ITEMS", "2")
    with localstore.init(project="media") as run:
        run.log({"many": [localstore.Image(picture(at)) for at in range(5)]})
    assert only_run().gaps == {"media not taken": 3}
    assert len(of_class(DataClass.MEDIA)) == 2
    assert "many" in capsys.readouterr().err


def test_media_in_config_is_a_text_and_training_goes_on() -> None:
    with localstore.init(project="media", config={"seen": localstore.Image(picture(1))}) as run:
        run.log({"a": 1})
    assert column("a") == [1]
    assert "Image" in only_run().config["seen"]


def test_small_contents_stay_in_their_record_and_great_ones_become_objects(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"s" * 100)
    (tmp_path / "great").write_bytes(os.urandom(100_000))
    with localstore.init(project="files") as run:
        run.save(tmp_path / "small", tmp_path)
        run.save(tmp_path / "great", tmp_path)
    small, great = only_run().files()[::-1]
    assert (small.path, bool(small.parts)) == ("small", False)
    assert (great.path, bool(great.parts), great.data) == ("great", True, None)
    assert only_run().read_file("great") == (tmp_path / "great").read_bytes()


# ------------------------------------------------------------------ save and restore
def test_saved_files_of_any_size_are_restored(tmp_path: Path) -> None:
    contents = {"a.txt": b"text", "deep/b.bin": os.urandom(70_000), "c.bin": os.urandom(9_000_000)}
    for name, content in contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    with localstore.init(project="files") as run:
        kept = [run.save(tmp_path / name, tmp_path)[0] for name in contents]
        mine = run.restore("a.txt", root=tmp_path / "again")
        assert mine.read_bytes() == b"text"
    assert kept == list(contents)
    localstore.init(project="files")
    assert localstore.run is not None
    for name, content in contents.items():
        path = localstore.run.restore(name, only_other().path, root=tmp_path / "out")
        assert path.read_bytes() == content


def only_other() -> Any:
    """The run that is finished."""
    (found,) = localstore.Api().runs(filters={"state": "finished"})
    return found


def test_a_live_file_is_kept_again_at_the_end_when_it_has_changed(tmp_path: Path) -> None:
    log, last = tmp_path / "log.txt", tmp_path / "last.txt"
    log.write_text("first")
    last.write_text("early")
    with localstore.init(project="files") as run:
        run.save(log, tmp_path)
        run.save(last, tmp_path, policy="end")
        log.write_text("first, second")
        last.write_text("late")
    assert only_run().read_file("log.txt") == b"first, second"
    assert only_run().read_file("last.txt") == b"late"


def test_restore_writes_over_nothing_unless_told_to(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("kept")
    with localstore.init(project="files") as run:
        run.save(tmp_path / "a.txt", tmp_path)
        (tmp_path / "a.txt").write_text("newer work")
        with pytest.raises(AlreadyExists):
            run.restore("a.txt", root=tmp_path)
        assert (tmp_path / "a.txt").read_text() == "newer work"
        run.restore("a.txt", root=tmp_path, replace=True)
        assert (tmp_path / "a.txt").read_text() == "kept"
        with pytest.raises(NotFound, match=r"it has a\.txt|no file"):
            run.restore("b.txt", root=tmp_path)


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "", "a//b", "a\0b"])
def test_a_file_of_a_run_never_lands_outside_its_root(tmp_path: Path, path: str) -> None:
    from localstore.query.contents import write_below

    with pytest.raises(UsageError):
        write_below(tmp_path / "root", path, b"evil", replace=True)
    assert not (tmp_path / "x").exists()


def test_a_file_of_a_run_does_not_follow_a_link_out_of_its_root(tmp_path: Path) -> None:
    from localstore.query.contents import write_below

    (tmp_path / "root").mkdir()
    (tmp_path / "root/link").symlink_to(tmp_path)
    with pytest.raises(UsageError):
        write_below(tmp_path / "root", "link/x", b"evil", replace=True)
    assert not (tmp_path / "x").exists()


def test_a_file_of_a_run_is_written_beside_what_is_there(tmp_path: Path) -> None:
    from localstore.query.contents import write_below

    (tmp_path / ".a.part").write_bytes(b"mine")
    write_below(tmp_path, "a", b"new", replace=False)
    assert sorted(one.name for one in tmp_path.iterdir()) == [".a.part", "a"]
    assert (tmp_path / ".a.part").read_bytes() == b"mine"


def test_a_large_file_that_differs_is_written_over_only_when_told_to(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(os.urandom(5_000_000))
    saved = (tmp_path / "big").read_bytes()
    with localstore.init(project="files") as run:
        run.save(tmp_path / "big", tmp_path)
    (tmp_path / "big").write_bytes(b"changed since")
    contents = only_run().contents
    with pytest.raises(AlreadyExists):
        contents.write_file(contents.file("big"), tmp_path, replace=False)
    assert (tmp_path / "big").read_bytes() == b"changed since"
    contents.write_file(contents.file("big"), tmp_path, replace=True)
    assert (tmp_path / "big").read_bytes() == saved


def test_a_file_that_is_not_there_warns_and_training_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with localstore.init(project="files") as run:
        assert run.save(tmp_path / "nothing*") == []
        run.log({"a": 1})
    assert "no file fits" in capsys.readouterr().err
    with pytest.raises(UsageError, match="policy"):
        localstore.init(project="files").save(tmp_path, policy="sometimes")


def test_no_content_lies_in_clear_in_the_home(tmp_path: Path) -> None:
    marker = b"confidential-marker-" * 40
    (tmp_path / "weights.bin").write_bytes(marker * 2000)
    (tmp_path / "note.txt").write_bytes(marker)
    with localstore.init(project="files") as run:
        run.save(tmp_path / "*.*", tmp_path)
        run.log({"t": localstore.Table(columns=["confidential-column"], data=[["x"]])})
    home = tmp_path / "home"
    for path in (one for one in home.rglob("*") if one.is_file()):
        assert b"confidential" not in path.read_bytes()
        assert "note" not in path.name
        assert "weights" not in path.name


def test_a_disabled_run_takes_it_all_and_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    with localstore.init(project="files", mode="disabled") as run:
        run.log({"seen": localstore.Image(picture(1))})
        assert run.save(tmp_path / "a.txt") == []
        run.log_code(tmp_path)
    assert not (tmp_path / "home/projects").exists()
