"""What tests of pruning share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.prune.makers import World, make_world

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A home with a project and a remote."""
    return make_world(tmp_path)
