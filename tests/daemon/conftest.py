"""What the tests of the service share: a home, a journal that can be read, patience with limits."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from localstored.service.journal import Journal, Level

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def wait_until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for something that another thread or process does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@dataclass
class Said:
    """A journal, and what it said."""

    stream: io.StringIO = field(default_factory=io.StringIO)

    def __post_init__(self) -> None:
        self.journal = Journal(self.stream, least=Level.DEBUG)

    @property
    def text(self) -> str:
        return self.stream.getvalue()


@dataclass
class FakeClock:
    """Seconds that pass when a test says so."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def said() -> Said:
    """A journal that can be read."""
    return Said()


@pytest.fixture
def clock() -> FakeClock:
    """Seconds that pass when a test says so."""
    return FakeClock()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with nothing in it."""
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    return folder
