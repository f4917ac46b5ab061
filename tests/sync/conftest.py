"""What the tests of the engine share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from localstore.layout import HomePaths
from localstored.engine import sync_home, sync_remote
from localstored.report import SyncReport
from localstored.session import Options
from tests.sync.makers import NOW_US, TAG, with_remote

if TYPE_CHECKING:
    from pathlib import Path

    from localstored.remotes.base import Remote

Sync = Callable[..., SyncReport]


def no_sleep(seconds: float) -> None:
    """Tests do not wait."""


def sync(home: Path, **words: object) -> SyncReport:
    """Sync a home with all its remotes, as the owner of the tests' key."""
    options = {"recipients": frozenset({TAG}), "clock": lambda: NOW_US, "sleep": no_sleep}
    return sync_home(home, **{**options, **words})  # type: ignore[arg-type]


def sync_with(home: Path, remote: Remote, **words: object) -> SyncReport:
    """Sync a home with one remote that is in no file."""
    report = SyncReport()
    given = {"clock": lambda: NOW_US, "recipients": frozenset({TAG}), **words}
    options = Options(**given)  # type: ignore[arg-type]
    sync_remote(HomePaths(home), "remote", remote, options, report)
    return report


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    """Where the stick is mounted."""
    return tmp_path / "stick"


@pytest.fixture
def home(tmp_path: Path, stick: Path) -> Path:
    """A home with the stick as its remote."""
    return with_remote(tmp_path / "home", stick)


@pytest.fixture
def other(tmp_path: Path, stick: Path) -> Path:
    """Another machine's home with the same stick."""
    return with_remote(tmp_path / "other", stick)
