"""Shells complete names of remotes, projects and runs; a completion never asks and never fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.shell_completion import ShellComplete

from localstore.cli import main
from tests.cli.conftest import call
from tests.sync.makers import with_remote

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def completed(*words: str) -> list[str]:
    """What a shell offers for the last of these words."""
    complete = ShellComplete(main, {}, "localstore", "_LOCALSTORE_COMPLETE")
    return [one.value for one in complete.get_completions(list(words[:-1]), words[-1])]


@pytest.fixture
def home(tmp_path: Path, make_run: Callable[..., str]) -> Path:
    """A store with two runs and two remotes."""
    home = tmp_path / "home"
    with_remote(home, tmp_path / "stick")
    with_remote(home, tmp_path / "share", "share")
    make_run([], id="first")
    make_run([], id="second", project="letters")
    return home


def test_names_of_remotes(home: Path) -> None:
    assert completed("sync", "now", "--remote", "") == ["share", "stick"]
    assert completed("sync", "explain", "--remote", "st") == ["stick"]


def test_names_of_projects_with_and_without_their_entity(home: Path) -> None:
    assert completed("sync", "now", "--project", "d") == ["digits"]
    assert completed("sync", "now", "--project", "ada/") == ["ada/digits", "ada/letters"]


def test_names_of_runs(home: Path) -> None:
    assert completed("sync", "explain", "digits/") == ["digits/first"]


def test_another_home_is_meant_where_the_line_names_it(home: Path, tmp_path: Path) -> None:
    with_remote(tmp_path / "other", tmp_path / "far", "far")
    other = str(tmp_path / "other")
    assert completed("--home", other, "sync", "now", "--remote", "") == ["far"]


def test_commands_below_groups(home: Path) -> None:
    assert completed("dae") == ["daemon"]
    assert completed("sync", "st") == ["status"]


def test_what_a_key_hides_is_not_offered_and_nobody_is_asked(home: Path) -> None:
    assert call("key", "protect", "--stdin", stdin="long enough for this\n" * 2).code == 0
    assert completed("sync", "now", "--project", "") == []
    assert completed("sync", "explain", "") == []
    assert completed("sync", "now", "--remote", "") == ["share", "stick"]


def test_a_store_that_cannot_be_read_offers_nothing(home: Path) -> None:
    (home / "remotes.toml").write_text("no toml [")
    (home / "config.toml").write_text("no_such = 1\n")
    assert completed("sync", "now", "--remote", "") == []
    assert completed("sync", "now", "--project", "") == []
