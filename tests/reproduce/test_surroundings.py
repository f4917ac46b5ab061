"""Config, command line and facts of a run as files."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from localstore.reproduce.surroundings import (
    command_text,
    other_python,
    write_command,
    write_config,
    write_facts,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_a_config_is_written_as_yaml_and_json_that_read_back(tmp_path: Path) -> None:
    config: dict[str, Any] = {
        "z": 0.1, "a": {"b": [1, None, True]}, "text": "ja: nein\n- ä", "on": "yes",
    }  # fmt: skip
    assert write_config(config, tmp_path / "new") == ["config.yaml", "config.json"]
    assert yaml.safe_load((tmp_path / "new/config.yaml").read_text("utf-8")) == config
    assert json.loads((tmp_path / "new/config.json").read_text()) == config
    assert list(yaml.safe_load((tmp_path / "new/config.yaml").read_text("utf-8"))) == list(config)


def test_values_that_these_formats_lack_become_text(tmp_path: Path) -> None:
    config: dict[Any, Any] = {
        "inf": float("inf"),
        "raw": b"\xff",
        3: (1, 2),
        "odd": range(2),
        "bad": "\ud800",
    }
    write_config(config, tmp_path)
    plain = {"inf": "inf", "raw": "ff", "3": [1, 2], "odd": "range(0, 2)", "bad": "\ud800"}
    assert json.loads((tmp_path / "config.json").read_text()) == plain
    assert yaml.safe_load((tmp_path / "config.yaml").read_text("utf-8"))["raw"] == "ff"


def test_a_command_line_is_one_that_a_shell_takes(tmp_path: Path) -> None:
    (tmp_path / "lab 1").mkdir()
    words = ["echo", "a b", "$(touch evil)", "'; touch evil; '"]
    assert write_command({"command": words, "folder": "lab 1"}, tmp_path) == ["command.sh"]
    done = subprocess.run(
        ["sh", "command.sh"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "a b $(touch evil) '; touch evil; '\n"
    assert not list(tmp_path.rglob("evil"))


def test_a_folder_that_looks_like_an_option_or_more_is_quoted(tmp_path: Path) -> None:
    write_command({"command": ["true"], "folder": "-x; touch evil"}, tmp_path)
    assert "cd -- '-x; touch evil'\n" in (tmp_path / "command.sh").read_text()


def test_a_masked_command_says_that_something_must_be_put_in(tmp_path: Path) -> None:
    write_command({"command": ["python", "--key", "***MASKED:api-key***"]}, tmp_path)
    assert "A secret was masked" in (tmp_path / "command.sh").read_text()


@pytest.mark.parametrize("facts", [{}, {"command": []}, {"command": "python"}])
def test_without_a_command_line_there_is_no_file(facts: dict[str, Any], tmp_path: Path) -> None:
    assert command_text(facts) == ""
    assert write_command(facts, tmp_path) == []
    assert write_facts("environment.json", {}, tmp_path) == []
    assert list(tmp_path.glob("command*")) == []


def test_facts_are_json(tmp_path: Path) -> None:
    assert write_facts("environment.json", {"gpus": [{"n": 1}]}, tmp_path) == ["environment.json"]
    assert json.loads((tmp_path / "environment.json").read_text()) == {"gpus": [{"n": 1}]}


@pytest.mark.parametrize(
    ("python", "said"),
    [
        ({"version": "3.11.7"}, ""),
        ({"version": "3.12.1"}, "the run had Python 3.12.1, and this is 3.11"),
        ({}, ""),
        ("3.9", ""),
        (None, ""),
    ],
)
def test_another_python_is_told(python: Any, said: str) -> None:
    assert other_python({"python": python}, (3, 11, 7)) == said
