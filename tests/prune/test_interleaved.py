"""Whatever the order in which one collects and the other syncs and prunes: no object is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.prune.interleaved import Template, make_template, play

if TYPE_CHECKING:
    from pathlib import Path

_EACH = 60


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    """Two homes and a remote in step."""
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.mark.parametrize("first", range(0, 4 * _EACH, _EACH))
def test_no_object_is_lost_in_any_order(template: Template, tmp_path: Path, first: int) -> None:
    collected = 0
    for seed in range(first, first + _EACH):
        problems, deleted = play(template, tmp_path / str(seed), seed)
        assert problems == [], f"replay: play(template, folder, {seed})"
        collected += deleted
    assert collected, "no schedule of these let the collector do anything"


@pytest.mark.fuzz
@pytest.mark.parametrize("first", range(10_000, 20_000, 500))
def test_no_object_is_lost_in_many_orders(template: Template, tmp_path: Path, first: int) -> None:
    for seed in range(first, first + 500):
        problems, _ = play(template, tmp_path / str(seed), seed)
        assert problems == [], f"replay: play(template, folder, {seed})"
