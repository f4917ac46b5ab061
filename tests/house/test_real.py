"""Tests marked `real` say why they cannot run, and in CI they must."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.house.sources import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SUITE = """
import pytest

@pytest.mark.real("no-such-program")
def test_needs_what_is_not_there(): raise AssertionError

@pytest.mark.real
def test_skips_itself(): pytest.skip("not today")

@pytest.mark.real("sh")
def test_runs(): pass

@pytest.mark.skip(reason="of no concern")
def test_is_not_real(): pass
"""


def run_suite(folder: Path, require: str) -> str:
    """What pytest says of the suite above."""
    (folder / "test_suite.py").write_text(SUITE)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = real: real\n")
    words = [sys.executable, "-m", "pytest", "-rs", "-p", "tests.house.real", str(folder)]
    environment = os.environ | {"LOCALSTORE_REQUIRE_REAL": require, "PYTHONPATH": str(ROOT)}
    return subprocess.run(words, capture_output=True, text=True, cwd=folder, env=environment).stdout


def test_what_cannot_run_here_is_skipped_with_its_reason(tmp_path: Path) -> None:
    said = run_suite(tmp_path, "")
    assert "1 passed, 3 skipped" in said
    assert "needs no-such-program, which this machine lacks" in said


def test_where_everything_must_run_a_skipped_test_is_a_failure(tmp_path: Path) -> None:
    said = run_suite(tmp_path, "1")
    assert "1 failed, 1 passed, 1 skipped" in said
    assert "1 error" in said
