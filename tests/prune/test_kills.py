"""A kill at any step leaves the bytes or the stub; a prune takes nothing from who begins to use it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def play(folder: Path, what: str, first: int, count: int, timeout_s: float) -> dict[str, Any]:
    """Run the program, which keeps an audit hook for its life."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.prune.kills", str(folder), what, str(first), str(count)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    assert done.returncode == 0, done.stderr
    out: dict[str, Any] = json.loads(done.stdout)
    return out


@pytest.mark.parametrize(("what", "steps"), [("prune", 80), ("pull", 20)])
def test_a_kill_before_any_step_leaves_nothing_in_doubt(
    tmp_path: Path, what: str, steps: int
) -> None:
    found = play(tmp_path, what, 1, 1000, 300)
    assert found["problems"] == []
    assert found["killed"] > steps


def test_who_begins_to_use_what_is_pruned_has_it_in_the_end(tmp_path: Path) -> None:
    found = play(tmp_path, "beside", 1, 200, 300)
    assert found["problems"] == []
    assert found["played"] == 200


@pytest.mark.fuzz
def test_the_same_for_many_schedules(tmp_path: Path) -> None:
    found = play(tmp_path, "beside", 1000, 5000, 3000)
    assert found["problems"] == []
