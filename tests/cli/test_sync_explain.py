"""`localstore sync explain`: what a word stands for, whether that leaves, by which rule."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

import localstore
from tests.cli.conftest import call
from tests.sync.makers import make_project, with_remote

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home of these tests, with a stick."""
    return with_remote(tmp_path / "home", tmp_path / "stick")


@pytest.fixture
def run(home: Path, make_run: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> str:
    """A run that printed something."""
    monkeypatch.setenv("LOCALSTORE_CONSOLE", "true")
    one = localstore.init(project="digits", id="first", name="alpha")
    one.log({"loss": 1.0})
    sys.stdout.write("hello\n")
    one.finish()
    return one.id


def explained(*words: str) -> list[dict[str, Any]]:
    done = call("sync", "explain", *words, "--json")
    assert done.code == 0, done.err
    found: list[dict[str, Any]] = json.loads(done.out)
    return found


@pytest.mark.parametrize(
    "word", ["first", "alpha", "digits/first", "ada/digits/first", "run:first"]
)
def test_a_run_is_known_by_every_name_that_it_has(run: str, word: str) -> None:
    (found,) = explained(word)
    assert found["item"] == "run ada/digits/first"
    assert {one["class"] for one in found["files"]} >= {"meta", "metrics", "console"}


def test_for_every_file_it_says_by_which_rule_and_whether_it_is_there(run: str) -> None:
    before = call("sync", "explain", "first")
    assert before.code == 0, before.err
    lines = [line.strip() for line in before.out.splitlines()]
    assert lines[0] == "run ada/digits/first"
    console = next(line for line in lines if line.startswith("stick: console: "))
    assert ": held: " in console
    assert console.count('the built-in rule "classes.console"') == 1
    metrics = next(line for line in lines if line.startswith("stick: metrics: "))
    assert "none there yet" in metrics
    assert ': leaves, by the built-in rule "' in metrics
    call("sync", "now")
    after = call("sync", "explain", "first").out
    assert "there already" in next(line for line in after.splitlines() if "stick: metrics" in line)
    assert "none there yet" in next(line for line in after.splitlines() if "stick: console" in line)


def test_a_rule_of_a_person_is_named_with_its_file(run: str, home: Path) -> None:
    (home / "policy.toml").write_text('[classes]\nmetrics = "never"\n')
    done = call("sync", "explain", "metrics").out
    assert ": held: " in done
    assert str(home / "policy.toml") in done


@pytest.mark.parametrize(
    "word", ["media", "class:media", "console", "digits", "project:ada/digits"]
)
def test_classes_and_projects_can_be_asked_for(run: str, word: str) -> None:
    (found,) = explained(word)
    wanted = word.rpartition(":")[2]
    assert wanted in found["item"]
    if wanted in ("media", "console"):
        assert {one["class"] for one in found["files"]} <= {wanted}


def test_a_file_is_known_as_a_dry_run_names_it_and_by_its_number(run: str, home: Path) -> None:
    log = next(home.glob("projects/*/runs/*/*.log"))
    name = str(log.relative_to(home / "projects" / log.parts[-4]))
    for word in (name, f"projects/{log.parts[-4]}/{name}", log.stem):
        (found,) = explained(word)
        assert {one["item"] for one in found["files"]} == {name}
    assert len(explained(log.parent.name)[0]["files"]) > 1


def test_an_artifact_is_known_with_and_without_its_version(run: str, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(os.urandom(1000))
    put = call("artifact", "put", str(tmp_path / "weights"), "--name", "digits/model")
    assert put.code == 0, put.err
    (whole,) = explained("model")
    (version,) = explained("model:v0")
    assert whole["item"] == "artifact ada/digits/model"
    assert version["item"] == "artifact ada/digits/model:v0"
    for found in (whole, version):
        contents = [one for one in found["files"] if one["item"].startswith("objects/")]
        assert sum(one["size"] for one in contents) > 1000
    (tmp_path / "weights").write_bytes(os.urandom(5000))
    put = call("artifact", "put", str(tmp_path / "weights"), "--name", "digits/model")
    assert put.code == 0, put.err
    assert sum(one["size"] for one in explained("model")[0]["files"]) > 6000
    assert sum(one["size"] for one in explained("model:v0")[0]["files"]) < 6000
    assert any(one["item"].startswith("objects/") for one in version["files"])


def test_without_a_key_numbers_and_classes_can_be_asked_for(home: Path) -> None:
    project = make_project(home)
    subject = project.run()
    for word in (project.id, subject, "meta"):
        assert explained(word)[0]["files"]


def test_a_word_that_fits_two_things_is_asked_back(run: str, tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"w")
    assert call("artifact", "put", str(tmp_path / "w"), "--name", "digits/first").code == 0
    done = call("sync", "explain", "first")
    assert done.code == 2
    assert "run:first or artifact:first" in done.err
    assert explained("artifact:first")[0]["item"].startswith("artifact ")


@pytest.mark.parametrize(
    "word", ["frist", "runs/../../etc/passwd", "run:first/../x", "ab" * 32, "\x1b"]
)
def test_what_is_not_here_is_an_error_that_says_what_there_could_be(run: str, word: str) -> None:
    done = call("sync", "explain", word)
    assert done.code == 66
    assert "localstore ls" in done.err
    assert "\x1b" not in done.err


def test_what_was_pruned_is_named_with_the_way_back(
    run: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = call("artifact", "put", str(home / "remotes.toml"), "--name", "digits/model")
    assert put.code == 0, put.err
    assert call("sync", "now").code == 0
    before = {one["item"]: one["size"] for one in explained("first")[0]["files"]}
    assert call("prune", "--run", "first", "--grace", "0", "--yes").code == 0
    after = explained("first")[0]["files"]
    assert {one["item"]: one["size"] for one in after} == before
    gone = [one for one in after if one["pruned"]]
    assert {one["class"] for one in gone} == {"metrics"}
    assert all(one["there"] and not one["leaves"] for one in gone)
    assert call("prune", "--grace", "0", "--yes").code == 0
    (version,) = explained("model:v0")
    assert any(one["pruned"] and one["item"].startswith("objects/") for one in version["files"])
    said = call("sync", "explain", "metrics").out
    assert "there already: pruned here; `localstore pull` brings it back" in said


def test_one_line_for_each_file_when_asked(run: str) -> None:
    lines = call("sync", "explain", "first", "--verbose").out.splitlines()[1:]
    assert len(lines) == len(explained("first")[0]["files"])
    assert all("runs/" in line or "keys/" in line for line in lines)
