"""`localstore checkout` and `localstore diff`: from a run that saved its code, and back."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import localstore
from tests.cli.conftest import COMMAND, call
from tests.surroundings.conftest import person, repository

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.surroundings.repository import Repository

__all__ = ["person", "repository"]
TOKEN = "ghp_" + "AbCdEf0123456789AbCdEf0123456789AbCd"


@pytest.fixture(autouse=True)
def all_is_saved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What other tests switch off; and no repository is at hand unless a test enters one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOCALSTORE_CODE_SAVING", "all")
    monkeypatch.setenv("LOCALSTORE_ENVIRONMENT", "true")


@pytest.fixture
def reader() -> str:
    """A run that used an artifact; returns its id."""
    with localstore.init(project="digits", id="maker") as run:
        artifact = localstore.Artifact("words", "dataset")
        with artifact.new_file("deep/a.txt") as file:
            file.write("one")
        run.log_artifact(artifact).wait()
    with localstore.init(project="digits", id="reader") as run:
        run.use_artifact("words:latest")
    return "reader"


@pytest.fixture
def two(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, make_run: Callable[..., str]
) -> str:
    """Runs `first` and `second`, from one commit with different changes; returns the commit."""
    monkeypatch.chdir(repository.root)
    commit = repository.commit(train="lr = 1\n", lib=f"key = '{TOKEN}'\n")
    repository.write("train.py", "lr = 2\n")
    make_run([{"loss": 1.0}], id="first", config={"lr": 2, "net": {"depth": 3}})
    repository.write("train.py", f"lr = 3\nnew = '{TOKEN}'\n")
    make_run([{"loss": 0.5}], id="second", config={"lr": 3, "net": {"depth": 3}})
    repository.git("checkout", "-q", "-f", "main")
    return commit


# ------------------------------------------------------------------ checkout
def test_the_code_of_a_run_comes_back_beside_its_config(two: str, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    outcome = call("checkout", "first", str(folder))
    assert (outcome.code, outcome.err) == (0, "")
    assert (folder / "train.py").read_text() == "lr = 2\n"
    assert TOKEN in (folder / "lib.py").read_text()
    beside = folder / "localstore-run"
    assert json.loads((beside / "config.json").read_text()) == {"lr": 2, "net": {"depth": 3}}
    assert "nacl" in (beside / "requirements.txt").read_text().lower()
    assert (beside / "command.sh").read_text().startswith("#!/bin/sh\n")
    assert outcome.out.startswith(f"done  commit {two} as a worktree of {tmp_path / 'work'}\n")
    assert "done  diff.patch\n" in outcome.out
    assert "done  localstore-run/config.yaml\n" in outcome.out


def test_masked_lines_are_named(two: str, tmp_path: Path) -> None:
    outcome = call("checkout", "second", str(tmp_path / "again"))
    assert "masked  train.py:2 (github-token)\n" in outcome.out
    assert "***MASKED:github-token***" in (tmp_path / "again/train.py").read_text()


def test_without_the_repository_the_saved_files_come_back(
    two: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = call("checkout", "first", "again", "--json")
    assert outcome.code == 0
    told = json.loads(outcome.out)
    assert told["run"] == "ada/digits/first"
    assert any(f"commit {two}" in text for text in told["missing"])
    assert (tmp_path / "again/train.py").read_text() == "lr = 2\n"
    assert told["masked"] == ["lib.py:1 (github-token)"]


def test_a_clone_elsewhere_can_be_named(
    two: str, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = call("checkout", "first", "again", "--repo", str(repository.root))
    assert "not brought back" not in outcome.err
    assert (tmp_path / "again/.git").is_file()


def test_a_folder_that_holds_something_is_not_touched(two: str, repository: Repository) -> None:
    before = sorted(repository.root.iterdir())
    outcome = call("checkout", "first", str(repository.root))
    assert outcome.code == 73
    assert "not empty" in outcome.err
    assert sorted(repository.root.iterdir()) == before


def test_what_was_not_saved_is_said(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    make_run: Callable[..., str],
) -> None:  # fmt: skip
    monkeypatch.setenv("LOCALSTORE_CODE_SAVING", "off")
    make_run([], id="bare")
    outcome = call("checkout", "bare", str(tmp_path / "again"))
    assert outcome.code == 0
    assert "not brought back: no code was saved with this run" in outcome.err
    assert call("checkout", "nobody", str(tmp_path / "other")).code == 66


def test_inputs_come_back_unless_they_are_left_out(reader: str, tmp_path: Path) -> None:
    named = call("checkout", reader, str(tmp_path / "one"), "--no-inputs")
    assert named.code == 0
    assert "input  ada/digits/words:v0\n" in named.out
    assert not (tmp_path / "one/localstore-run/inputs").exists()
    outcome = call("checkout", reader, str(tmp_path / "two"))
    assert outcome.code == 0
    assert (tmp_path / "two/localstore-run/inputs/words-v0/deep/a.txt").read_text() == "one"


TRAIN = """
import sys, localstore
with localstore.init(config={"lr": 2}) as run:
    run.log({"loss": float(sys.argv[1])})
"""


def test_a_run_is_started_again_as_a_new_run_that_names_the_first(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.commit(train=TRAIN)
    monkeypatch.chdir(repository.root)
    monkeypatch.setenv("LOCALSTORE_PROJECT", "digits")
    subprocess.run([sys.executable, "train.py", "0.25"], check=True)
    (first,) = localstore.Api().runs("digits")
    outcome = call("checkout", first.id, str(tmp_path / "again"), "--run")
    assert outcome.code == 0
    (second,) = (run for run in localstore.Api().runs("digits") if run.id != first.id)
    assert (second.rerun_of, second.summary) == (first.path, first.summary)


def test_a_command_line_with_masked_words_is_not_started(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.commit(train=TRAIN)
    monkeypatch.chdir(repository.root)
    subprocess.run([sys.executable, "train.py", "0.25", "--password=hunter2x"], check=True)
    (first,) = localstore.Api().runs()
    outcome = call("checkout", first.id, str(tmp_path / "again"), "--run")
    assert (outcome.code, len(localstore.Api().runs())) == (2, 1)
    assert "masked" in outcome.err
    assert "hunter2x" not in outcome.err


# ------------------------------------------------------------------ diff
def test_two_runs_are_compared_in_code_config_and_summary(two: str) -> None:
    outcome = call("diff", "first", "second")
    assert (outcome.code, outcome.err) == (0, "")
    assert "\nconfig\n  lr  2  ->  3\n" in outcome.out
    assert "\nsummary\n  loss  1  ->  0.5\n" in outcome.out
    assert "\n-lr = 2\n+lr = 3\n+new = '***MASKED:github-token***'\n" in outcome.out
    assert "--- a/code/train.py\n" in outcome.out
    assert "lib.py" not in outcome.out
    assert "net.depth" not in outcome.out
    assert TOKEN not in outcome.out


def test_media_are_told_as_a_person_says_them(
    make_run: Callable[..., str],
) -> None:
    make_run([{"picture": localstore.Image([[0, 9]])}], id="left")
    make_run([{"picture": localstore.Image([[0, 9], [9, 0]])}], id="right")
    outcome = call("diff", "left", "right")
    assert "  picture  image  2 x 1  ->  image  2 x 2\n" in outcome.out


def test_command_lines_are_told_as_one_types_them(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("import localstore\nlocalstore.init(project='digits')\n")
    for name, words in (("left", ["--name", "a b"]), ("right", ["--lr", "1"])):
        environment = {**os.environ, "LOCALSTORE_RUN_ID": name}
        command = [sys.executable, "train.py", *words]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    outcome = call("diff", "left", "right", "--only", "environment")
    assert "train.py --name 'a b'  ->  " in outcome.out
    assert "train.py --lr 1\n" in outcome.out


def test_the_differences_as_json(two: str) -> None:
    told = json.loads(call("diff", "first", "second", "--json").out)
    assert (told["left"], told["right"]) == ("ada/digits/first", "ada/digits/second")
    assert told["config"] == [{"key": "lr", "change": "changed", "left": 2, "right": 3}]
    assert list(told["code"]) == ["code/train.py"]
    assert (told["requirements"], told["inputs"], told["same"]) == ([], [], False)


def test_one_part_alone_can_be_asked_for(two: str) -> None:
    outcome = call("diff", "first", "second", "--only", "requirements")
    assert "no difference in what was compared\n" in outcome.out
    assert set(json.loads(call("diff", "first", "second", "--only", "code", "--json").out)) == {
        *("left", "right", "same", "code")
    }


def test_runs_with_nothing_but_their_commits_are_told_how_to_go_on(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, make_run: Callable[..., str]
) -> None:
    monkeypatch.chdir(repository.root)
    monkeypatch.setenv("LOCALSTORE_CODE_SAVING", "sha")
    monkeypatch.setenv("LOCALSTORE_QUIET", "0")
    before = repository.commit(train="a = 1\n")
    make_run([], id="first")
    after = repository.commit(train="a = 2\n")
    make_run([], id="second")
    outcome = call("diff", "first", "second", "--only", "git", "--only", "code")
    assert f"  commit  {before}  ->  {after}\n" in outcome.out
    assert "`git diff`" in outcome.err


def test_a_person_sees_differences_in_colour(two: str) -> None:
    reader, terminal = os.openpty()
    command = [str(COMMAND), "diff", "first", "second", "--only", "code"]
    with subprocess.Popen(command, stdout=terminal) as process:
        os.close(terminal)
        shown = b""
        with contextlib.suppress(OSError):  # how Linux tells that nobody writes any more
            while piece := os.read(reader, 65536):
                shown += piece
    os.close(reader)
    assert process.returncode == 0
    assert b"\x1b[31m-lr = 2\x1b[0m" in shown
    assert b"\x1b[32m+lr = 3\x1b[0m" in shown


def test_a_run_is_not_compared_with_itself(two: str) -> None:
    assert call("diff", "first", "digits/first").code == 2
    assert call("diff", "first", "nobody").code == 66


def test_code_that_would_move_a_cursor_is_shown_inert(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, make_run: Callable[..., str]
) -> None:
    monkeypatch.chdir(repository.root)
    for name, content in (("first", "a\n"), ("second", "\x1b[2Jb\tc\r\n\u202ed\n")):
        repository.write("train.py", content)
        make_run([], id=name)
    outcome = call("diff", "first", "second", "--only", "code")
    assert "\n+\\x1b[2Jb" in outcome.out
    assert "\n+\\u202ed\n" in outcome.out
    assert "\x1b" not in outcome.out
    assert "\u202e" not in outcome.out


def test_an_input_that_one_run_alone_used_is_a_difference(
    reader: str, make_run: Callable[..., str]
) -> None:
    make_run([], id="other")
    told = json.loads(call("diff", "other", reader, "--only", "inputs", "--json").out)
    (row,) = told["inputs"]
    assert row["key"].startswith("words:")
    assert (row["change"], row["right"]) == ("added", "dataset")
