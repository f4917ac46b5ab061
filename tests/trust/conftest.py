"""One home of one person, and the helpers of tests/keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import localstore
from localstore.layout import HomePaths

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def no_run_left_open() -> Iterator[None]:
    yield
    localstore.finish()


@pytest.fixture
def home(tmp_path: Path) -> HomePaths:
    """The first machine."""
    return HomePaths(tmp_path / "home")


@pytest.fixture
def laptop(tmp_path: Path) -> HomePaths:
    """Another machine, with nothing on it yet."""
    return HomePaths(tmp_path / "laptop")
