"""What tests of the store share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.store.makers import Store, open_store

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A member's project, empty."""
    return open_store(tmp_path / "home")
