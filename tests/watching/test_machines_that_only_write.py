"""A machine with a ticket watches folders, too: it writes versions that it cannot read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from localstore import settings
from localstore.identity import now_us
from localstore.layout import HomePaths
from localstore.projects import Projects
from localstore.tickets import enroll, make_ticket
from localstore.vault import Vault
from localstore.watching.folder import WatchedFolder
from tests.keys.conftest import carry
from tests.watching.conftest import Bench, rounds

if TYPE_CHECKING:
    from pathlib import Path

    from localstore.watching.watches import Watch

_HOUR_US = 3_600_000_000


@pytest.fixture
def node(bench: Bench, tmp_path: Path) -> HomePaths:
    """A home with a ticket for project digits."""
    found = HomePaths(tmp_path / "node")
    ticket = make_ticket(bench.project(), now_us() + _HOUR_US)
    enroll(found, ticket, settings.load({"home": str(found.root)}))
    return found


def at_work(node: HomePaths, watch: Watch, told: list[str]) -> WatchedFolder:
    options = settings.load({"home": str(node.root), "project": "digits"})
    identity = Vault(node).load()
    return WatchedFolder(
        watch,
        lambda: (Projects(node, identity).open_or_create("", "digits")[0], options),
        tell=lambda _plain, full: told.append(full),
    )


def test_what_it_takes_its_owner_reads_and_a_restart_takes_nothing_again(
    bench: Bench, node: HomePaths
) -> None:
    bench.put("a.ckpt", b"weights")
    assert rounds(at_work(node, bench.watch(), bench.told)) == 1
    assert rounds(at_work(node, bench.watch(), bench.told)) == 0
    assert bench.told == []
    carry(node, bench.home)
    assert bench.contents() == [{"a.ckpt": b"weights"}]


def test_keep_is_told_and_deletes_nothing(bench: Bench, node: HomePaths) -> None:
    work = at_work(node, bench.watch(keep=1), bench.told)
    for number in range(3):
        bench.put(f"{number}.ckpt", f"content {number}".encode())
        rounds(work)
    assert len(bench.told) == 1
    assert "delete none" in bench.told[0]
    carry(node, bench.home)
    assert len(bench.versions()) == 3
