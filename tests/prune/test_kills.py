"""A kill at any step leaves the bytes or the stub; who begins to use what is pruned has it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def play(folder: Path, what: str, first: int, count: int, each: int = 1) -> dict[str, Any]:
    """Run the program, which keeps an audit hook for its life."""
    words = [str(folder), what, str(first), str(count), str(each)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.prune.kills", *words],
        capture_output=True,
        text=True,
        timeout=3600 if count > 1000 else 500,
    )
    assert done.returncode == 0, done.stderr
    out: dict[str, Any] = json.loads(done.stdout)
    return out


@pytest.mark.parametrize(("what", "steps"), [("prune", 30), ("pull", 15)])
@pytest.mark.parametrize("first", [1, 2])
def test_a_kill_before_a_step_leaves_nothing_in_doubt(
    tmp_path: Path, what: str, steps: int, first: int
) -> None:
    found = play(tmp_path, what, first, 1000, 4 if what == "prune" else 3)
    assert found["problems"] == []
    assert found["killed"] >= steps


@pytest.mark.fuzz
@pytest.mark.parametrize("what", ["prune", "pull"])
def test_a_kill_before_any_step_leaves_nothing_in_doubt(tmp_path: Path, what: str) -> None:
    assert play(tmp_path, what, 1, 1000)["problems"] == []


def test_who_begins_to_use_what_is_pruned_has_it_in_the_end(tmp_path: Path) -> None:
    found = play(tmp_path, "beside", 1, 200)
    assert found["problems"] == []
    assert found["played"] == 200


@pytest.mark.fuzz
def test_the_same_for_many_schedules(tmp_path: Path) -> None:
    found = play(tmp_path, "beside", 1000, 5000)
    assert found["problems"] == []
