"""What a person reads while a run that ends still saves files."""

from __future__ import annotations

import pytest

from localstore.artifacts.background import Pending
from localstore.sdk.waiting import progress_line


@pytest.mark.parametrize(
    ("done", "total", "said"),
    [
        (0, 300_000, "0 of 300 kB"),
        (150_000, 300_000, "150 of 300 kB"),
        (12, 900, "12 of 900 B"),
        (1_500_000, 20_000_000, "1.5 of 20.0 MB"),
        (250_000_000, 1_200_000_000, "0.2 of 1.2 GB"),
        (7, 3, "7 of 7 B"),
    ],
)
def test_progress_is_told_in_a_unit_that_fits(done: int, total: int, said: str) -> None:
    line = progress_line(Pending(done_bytes=done, total_bytes=total))
    assert line.endswith(f"] {said}")
