"""`localstore artifact get`, `verify` and `diff`: what the files of versions are, byte by byte."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from localstore.cli.artifact_files import compare
from localstore.format.manifest import Entry
from localstore.layout import HomePaths
from tests.cli.conftest import call

if TYPE_CHECKING:
    from collections.abc import Mapping

LOUD = {"LOCALSTORE_QUIET": "0"}


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def put(files: Mapping[str, bytes], name: str = "digits/mnist", *more: str) -> None:
    """One version with these files."""
    folder = Path(f"in-{len(list(Path().iterdir()))}")
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    outcome = call("artifact", "put", str(folder), "-n", name, *more)
    assert outcome.code == 0, outcome.err


def contents(root: str | Path) -> dict[str, bytes]:
    """All files below a folder."""
    found = (path for path in Path(root).rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}


def objects() -> list[Path]:
    """All object files of the home, the largest first."""
    home = HomePaths(Path(os.environ["LOCALSTORE_HOME"]))
    found = home.root.glob("projects/*/objects/*/*")
    return sorted(found, key=lambda path: path.stat().st_size, reverse=True)


FILES = {"a": b"one", "deep/b": os.urandom(3_000_000), "deep/c": b"", "deeper": b"four"}


# ------------------------------------------------------------------ get
class TestGet:
    def test_files_come_back_and_it_says_where(self, work: Path) -> None:
        put(FILES)
        outcome = call("artifact", "get", "mnist")
        where = work / "artifacts" / "mnist:v0"
        line = f"ada/digits/mnist:v0  4 files, 3.0 MB in {where}\n"
        assert (outcome.code, outcome.out, outcome.err) == (0, line, "")
        assert contents(where) == FILES

    def test_what_is_there_stays_and_what_changed_comes_anew(self) -> None:
        put(FILES)
        call("artifact", "get", "mnist", "--root", "out")
        Path("out/a").write_text("changed")
        Path("out/mine").write_text("stays")
        outcome = call("artifact", "get", "mnist", "--root", "out")
        assert outcome.out.endswith(" 4 files, 3.0 MB in out, 3 of them there already\n")
        assert contents("out") == {**FILES, "mine": b"stays"}

    def test_a_part_of_it(self) -> None:
        put(FILES)
        found = json.loads(
            call("artifact", "get", "mnist", "--root", "out", "--path", "deep/", "--json").out
        )
        assert set(contents("out")) == {"deep/b", "deep/c"}
        assert (found["written"], found["kept"], found["bytes"]) == (2, 0, 3_000_000)
        outcome = call("artifact", "get", "mnist", "--path", "nothing")
        assert outcome.code == 66
        assert "localstore artifact show mnist --files" in outcome.err

    def test_references_are_named_and_not_fetched(self) -> None:
        put({"a": b"one"})
        call("artifact", "put", "s3://bucket/big", "in-0/a", "-n", "digits/mnist")
        outcome = call("artifact", "get", "mnist", "--root", "out", **LOUD)
        assert outcome.out.endswith(" 1 file, 3 B in out\n")
        assert "1 reference not fetched" in outcome.err
        assert "big -> s3://bucket/big" in outcome.err
        assert contents("out") == {"a": b"one"}

    def test_damage_names_the_file_and_the_others_are_written(self) -> None:
        put(FILES)
        _break(objects()[0])
        outcome = call("artifact", "get", "mnist", "--root", "out")
        assert outcome.code == 20
        assert "localstore: warning: file: deep/b\n" in outcome.err
        assert "1 of 4 files were not restored" in outcome.err
        assert contents("out") == {path: FILES[path] for path in FILES if path != "deep/b"}

    def test_a_symbolic_link_in_the_way_is_not_followed(self, tmp_path: Path) -> None:
        put({"deep/b": b"two"})
        (tmp_path / "elsewhere").mkdir()
        Path("out").mkdir()
        Path("out/deep").symlink_to(tmp_path / "elsewhere")
        outcome = call("artifact", "get", "mnist", "--root", "out")
        assert outcome.code == 2
        assert list((tmp_path / "elsewhere").iterdir()) == []

    def test_a_file_where_the_folder_should_be(self) -> None:
        put({"b": b"two"})
        Path("out").write_text("mine")
        outcome = call("artifact", "get", "mnist", "--root", "out")
        assert outcome.code == 2
        assert "'out' is no folder" in outcome.err
        assert Path("out").read_text() == "mine"


def _break(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(bytes(raw))


# ------------------------------------------------------------------ verify
def verify(*words: str) -> tuple[int, dict[str, Any]]:
    """Exit code and document."""
    outcome = call("artifact", "verify", "mnist", "--json", *words)
    return outcome.code, json.loads(outcome.out)


class TestVerify:
    def test_what_is_whole_is_0(self) -> None:
        put(FILES)
        outcome = call("artifact", "verify", "mnist")
        assert (outcome.code, outcome.err) == (0, "")
        assert outcome.out == "ada/digits/mnist:v0  4 files, 3.0 MB: nothing is wrong\n"

    def test_a_broken_object_names_its_files_and_no_others(self) -> None:
        put(FILES)
        _break(objects()[0])
        code, found = verify()
        assert (code, found["ok"]) == (20, False)
        assert [one["path"] for one in found["problems"]] == ["deep/b"]
        assert "objects/" in found["problems"][0]["problem"]
        outcome = call("artifact", "verify", "mnist", **LOUD)
        assert outcome.code == 20
        assert outcome.out.startswith("deep/b: objects/")
        assert outcome.out.endswith(" 3.0 MB: 1 wrong\n")
        assert "localstore repair" in outcome.err

    def test_small_files_of_one_missing_object_are_all_named(self) -> None:
        files = {f"{number:03}": os.urandom(500) for number in range(100)}
        put(files)
        objects()[0].unlink()
        code, found = verify()
        assert code == 20
        assert [one["path"] for one in found["problems"]] == sorted(files)

    def test_a_list_of_files_that_is_not_here_is_66(self) -> None:
        put(FILES)
        for path in objects():
            path.unlink()
        outcome = call("artifact", "verify", "mnist")
        assert (outcome.code, outcome.out) == (66, "")

    def test_references_are_counted(self) -> None:
        call("artifact", "put", "s3://bucket/big", "-n", "digits/mnist")
        code, found = verify()
        assert (code, found["files"], found["references"]) == (0, 0, 1)

    def test_a_folder_that_is_the_same(self) -> None:
        put(FILES)
        call("artifact", "get", "mnist", "--root", "out")
        outcome = call("artifact", "verify", "mnist", "--root", "out")
        assert outcome.code == 0
        assert outcome.out.endswith(": nothing is wrong in out\n")

    def test_a_folder_that_differs_names_how(self) -> None:
        put(FILES)
        call("artifact", "get", "mnist", "--root", "out")
        Path("out/a").write_text("eno")
        Path("out/deep/c").unlink()
        Path("out/deep/c").mkdir()
        Path("out/deeper").unlink()
        Path("out/new").write_text("n")
        code, found = verify("--root", "out")
        assert code == 20
        assert {one["path"]: one["problem"] for one in found["problems"]} == {
            "a": "changed",
            "deep/c": "'out/deep/c' is a directory, want a regular file",
            "deeper": "missing",
            "new": "added",
        }

    def test_what_cannot_be_read_is_a_finding_and_no_end(self) -> None:
        put({"a": b"one"})
        call("artifact", "get", "mnist", "--root", "out")
        os.mkfifo("out/pipe")
        code, found = verify("--root", "out")
        assert code == 20
        assert ["a named pipe" in one["problem"] for one in found["problems"]] == [True]

    def test_a_folder_that_is_not_there_is_66(self) -> None:
        put(FILES)
        assert call("artifact", "verify", "mnist", "--root", "gone").code == 66


# ------------------------------------------------------------------ diff
class TestDiff:
    @pytest.fixture(autouse=True)
    def two_versions(self) -> None:
        """Each kind of difference once."""
        large = os.urandom(500_000)
        put({"same": b"s", "gone": b"gone!", "old/name": large, "edited": b"before"})
        put({"same": b"s", "new": b"new", "other/name": large, "edited": b"and after"})

    def test_each_difference_has_its_line_and_totals_follow(self) -> None:
        outcome = call("artifact", "diff", "mnist:v0", "mnist:v1")
        assert (outcome.code, outcome.err) == (0, "")
        assert [line.split(maxsplit=1) for line in outcome.out.splitlines()] == [
            ["A", "3 B         new"],
            ["D", "5 B         gone"],
            ["M", "6 B -> 9 B  edited"],
            ["R", "500.0 kB    old/name -> other/name"],
            [
                "mnist",
                "v0 -> v1: 1 added, 1 deleted, 1 modified, 1 renamed, 1 the same;"
                " 500.0 kB -> 500.0 kB, 12 B new",
            ],
        ]

    def test_stat_is_the_totals_alone(self) -> None:
        outcome = call("artifact", "diff", "mnist:v0", "mnist:v1", "--stat")
        assert len(outcome.out.splitlines()) == 1

    def test_the_document(self) -> None:
        found = json.loads(call("artifact", "diff", "mnist:v0", "mnist:v1", "--json").out)
        assert [one["path"] for one in found["added"]] == ["new"]
        assert [one["path"] for one in found["removed"]] == ["gone"]
        assert [one["after"]["path"] for one in found["renamed"]] == ["other/name"]
        (changed,) = found["changed"]
        assert (changed["before"]["size"], changed["after"]["size"]) == (6, 9)
        assert found["totals"]["unchanged"] == 1
        stat = json.loads(call("artifact", "diff", "mnist:v0", "mnist", "--json", "--stat").out)
        assert stat == {key: found[key] for key in ("left", "right", "same", "totals")}

    @pytest.mark.parametrize(
        ("words", "code"),
        [
            (["mnist:v0", "mnist:v1"], 0),
            (["mnist:v0", "mnist:v1", "--exit-code"], 1),
            (["mnist:v1", "mnist:latest", "--exit-code"], 0),
            (["mnist:v0", "mnist:v9"], 66),
            (["mnist:v0"], 2),
        ],
    )
    def test_exit_codes(self, words: list[str], code: int) -> None:
        assert call("artifact", "diff", *words).code == code

    def test_two_artifacts_of_one_content(self) -> None:
        put({"same": b"s"}, "other/copy")
        put({"same": b"s"}, "other/twin")
        outcome = call("artifact", "diff", "copy:v0", "twin:v0")
        assert outcome.out == "copy:v0 -> twin:v0: the same 1 file\n"


def entry(path: str, content: bytes, uri: str = "") -> Entry:
    """A file or reference, without objects."""
    return Entry(path, len(content), content.ljust(32, b"\0")[:32], (), uri)


class TestCompare:
    def test_each_copy_of_a_file_is_renamed_at_most_once(self) -> None:
        found = compare(
            [entry("a", b"x"), entry("b", b"x")],
            [entry("c", b"x"), entry("d", b"x"), entry("e", b"x")],
        )
        assert [(old.path, new.path) for old, new in found.renamed] == [("a", "c"), ("b", "d")]
        assert [one.path for one in found.added] == ["e"]

    def test_empty_files_are_not_renamed(self) -> None:
        found = compare([entry("a", b"")], [entry("b", b"")])
        assert (len(found.added), len(found.removed), found.renamed) == (1, 1, [])

    def test_a_file_that_became_a_reference_changed(self) -> None:
        found = compare([entry("a", b"x")], [entry("a", b"x", "s3://bucket/a")])
        assert (len(found.changed), found.same) == (1, 0)
