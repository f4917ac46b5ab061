"""A cap on the store's size: warns first, prunes what receipts prove, and never anything else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from localstore.errors import BadSetting
from localstore.format.spec import DataClass
from localstore.settings import byte_size
from localstored.pruning.storecap import enforce_cap, store_bytes
from tests.prune.makers import DAY_US, ended_run
from tests.sync.makers import NOW_US

if TYPE_CHECKING:
    from localstored.pruning.storecap import CapReport
    from tests.prune.makers import World


def enforce(world: World, cap_bytes: int) -> CapReport:
    """Hold the store to a size, with this remote, now."""
    return enforce_cap(
        world.home, cap_bytes, clock=lambda: NOW_US, opener=lambda entry: world.remote
    )


def test_far_below_nothing_is_said_or_done(world: World) -> None:
    ended_run(world.project)
    world.push()
    before = world.files()
    report = enforce(world, 10 * store_bytes(world.home))
    assert (report.state, report.text, report.freed_bytes) == ("ok", "", 0)
    assert world.files() == before


def test_at_ninety_percent_it_warns_and_removes_nothing(world: World) -> None:
    ended_run(world.project)
    world.push()
    before = world.files()
    report = enforce(world, int(store_bytes(world.home) / 0.95))
    assert report.state == "near"
    assert "pruned" in report.text
    assert world.files() == before


def test_beyond_it_the_oldest_run_goes_and_the_newest_stays(world: World) -> None:
    big = [world.project.object(DataClass.MEDIA, size=200_000) for _ in range(2)]
    old = ended_run(world.project, objects=big[:1], ended_us=NOW_US - 9 * DAY_US)
    new = ended_run(world.project, objects=big[1:], ended_us=NOW_US - 2 * DAY_US)
    world.push()
    report = enforce(world, store_bytes(world.home) - 10_000)
    assert report.state in ("ok", "near")
    assert report.size_bytes <= report.cap_bytes
    assert report.freed_bytes > 0
    names = world.files().keys()
    assert not {f"objects/{big[0].hex()[:2]}/{big[0].hex()}"} & names
    assert f"objects/{big[1].hex()[:2]}/{big[1].hex()}" in names
    assert set(new.names(*new.logs)) <= names
    assert old.names(DataClass.META)[0] in names


def test_without_receipts_nothing_goes_and_it_says_so(world: World) -> None:
    ended_run(world.project)
    before = world.files()
    report = enforce(world, store_bytes(world.home) // 2)
    assert report.state == "over"
    assert "no remote" in report.text
    assert world.files() == before
    assert report.to_json()["state"] == "over"


@pytest.mark.parametrize(
    ("text", "count"), [("200 GiB", 200 << 30), ("1.5TB", 1_500_000_000_000), (" 10 kB ", 10_000)]
)
def test_a_cap_is_a_number_with_a_unit(text: str, count: int) -> None:
    assert byte_size(text) == count


@pytest.mark.parametrize("text", ["200", "GiB", "-1 GB", "0 GB", "1 XB", "inf GB", "1e400 GB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(BadSetting):
        byte_size(text)
