"""What attacks on recording share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import localstore

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def no_run_left_open() -> Iterator[None]:
    """A failed test does not lend its run to the next one."""
    yield
    localstore.finish()
