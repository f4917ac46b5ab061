"""`gc --remote`: only what nothing refers to goes, and only while nobody can be counting on it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from localstore.errors import NotFound, NotPermitted
from localstore.format.spec import DataClass
from localstored.pruning.guards import COLLECTOR, PRUNER
from localstored.pruning.prune import prune
from localstored.pruning.remotegc import AT_WORK, UNKNOWN_LINKS, UNKNOWN_LOGS, collect
from localstored.receipts import ReceiptFile
from localstored.remotes.base import Capabilities, Unreachable
from tests.prune.makers import DAY_US, ended_run, object_path
from tests.sync.makers import NOW_US, Log

if TYPE_CHECKING:
    from pathlib import Path

    from localstored.pruning.remotegc import ProjectCollected
    from tests.prune.makers import World

LATER_US = NOW_US + 2 * DAY_US


def gather(world: World, now_us: int = NOW_US, **words: Any) -> ProjectCollected:
    """Collect on this remote, and what was said of the one project."""
    report = collect(
        world.home,
        remote="stick",
        clock=lambda: now_us,
        opener=lambda entry: world.remote,
        **words,
    )
    (project,) = report.projects
    assert report.ok == (not project.held)
    assert json.dumps(report.to_json())
    return project


def there(world: World, object_id: bytes) -> bool:
    """Whether the remote has an object."""
    name = f"projects/{world.project.id}/objects/{object_id.hex()[:2]}/{object_id.hex()}"
    return bool(world.remote.have([name]))


@pytest.fixture
def orphan(world: World) -> bytes:
    """An object that nothing refers to, beside a run whose object is needed; all on the remote."""
    ended_run(world.project)
    lonely = world.project.object()
    world.push()
    return lonely


class TestWhatGoes:
    def test_it_is_condemned_first_and_deleted_after_the_grace_time(
        self, world: World, orphan: bytes
    ) -> None:
        said = gather(world)
        assert (said.objects, said.unneeded, said.waiting, said.deleted) == (2, 1, 1, 0)
        assert gather(world, NOW_US + DAY_US - 1).deleted == 0
        assert there(world, orphan)
        said = gather(world, NOW_US + DAY_US)
        assert (said.deleted, said.waiting) == (1, 0)
        assert not there(world, orphan)
        assert gather(world, LATER_US).objects == 1

    def test_a_dry_run_writes_nothing_anywhere(self, world: World, orphan: bytes) -> None:
        names = {entry.name for entry in world.remote.list("")}
        local = sorted(world.project.paths.root.rglob("*"))
        assert gather(world, dry_run=True).waiting == 1
        assert gather(world, dry_run=True, grace_us=0).deleted == 1
        assert {entry.name for entry in world.remote.list("")} == names
        assert sorted(world.project.paths.root.rglob("*")) == local

    def test_everybody_is_told_by_a_new_stamp(self, world: World, orphan: bytes) -> None:
        gather(world, grace_us=0)
        stamps = [e.name for e in world.remote.list("") if "/stamps/" in e.name]
        assert len(stamps) == 1
        assert not stamps[0].endswith(".open")

    def test_the_receipt_is_taken_back(self, world: World, orphan: bytes) -> None:
        gather(world, grace_us=0)
        receipts = ReceiptFile.of(world.project.paths, world.remote.id)
        last = [line for lines, _ in receipts.batches() for line in lines][-1]
        assert (last.name.rpartition("/")[2], last.size) == (orphan.hex(), 0)

    def test_what_was_needed_again_meanwhile_is_condemned_anew(
        self, world: World, orphan: bytes
    ) -> None:
        gather(world)
        log = ended_run(world.project, objects=[orphan]).logs[DataClass.MEDIA]
        world.push()
        assert gather(world, NOW_US + 1).unneeded == 0
        raw = log.path.read_bytes()
        world.project.bury(log.path.parent.name, NOW_US)
        world.push()
        assert gather(world, NOW_US + DAY_US).deleted == 0
        assert gather(world, NOW_US + 2 * DAY_US).deleted == 1
        assert raw

    def test_a_versions_objects_go_when_its_references_are_cancelled(self, world: World) -> None:
        kept, gone = world.project.object(), world.project.object()
        log = Log(world.project, "ab" * 16)
        log.ref(kept)
        index = log.ref(gone)
        log.unref(log, index)
        log.head(final=True)
        world.push()
        gather(world, grace_us=0)
        assert there(world, kept)
        assert not there(world, gone)

    def test_objects_of_pruned_runs_stay(self, world: World) -> None:
        run = ended_run(world.project)
        world.push()
        world.prune()
        assert not object_path(world.project, run.objects[0]).exists()
        assert gather(world, grace_us=0).unneeded == 0
        assert world.restore().ok


class TestWhatForbidsIt:
    def test_a_log_there_that_is_not_known_here(self, world: World, orphan: bytes) -> None:
        subject, other = "cd" * 16, "ef" * 16
        name = f"projects/{world.project.id}/runs/{subject}/{other}.log"
        world.remote.create(name, b"anything")
        assert UNKNOWN_LOGS in gather(world, grace_us=0).held
        assert there(world, orphan)

    def test_a_log_there_that_is_longer_than_here(self, world: World, orphan: bytes) -> None:
        log = Log(world.project, "cd" * 16, DataClass.MEDIA)
        log.records()
        world.push()
        name = f"projects/{world.project.id}/{log.name}"
        world.remote.append(name, log.path.stat().st_size, b"more")
        assert UNKNOWN_LOGS in gather(world, grace_us=0).held
        assert there(world, orphan)

    def test_a_log_that_nobody_compared(self, world: World, orphan: bytes) -> None:
        """As long as ours, with other bytes: it may refer to anything."""
        log = Log(world.project, "cd" * 16, DataClass.MEDIA)
        log.records()
        name = f"projects/{world.project.id}/{log.name}"
        world.remote.create(name, bytes(log.path.stat().st_size))
        assert UNKNOWN_LOGS in gather(world, grace_us=0).held

    def test_a_link_there_that_is_not_known_here(self, world: World, orphan: bytes) -> None:
        world.remote.create(f"projects/{world.project.id}/links/{'ab' * 32}", b"anything")
        assert UNKNOWN_LINKS in gather(world, grace_us=0).held

    def test_a_damaged_log_here(self, world: World, orphan: bytes) -> None:
        run = ended_run(world.project)
        world.push()
        path = run.logs[DataClass.MEDIA].path
        raw = bytearray(path.read_bytes())
        raw[-130] ^= 1
        path.write_bytes(raw)
        assert gather(world, grace_us=0).held
        assert there(world, orphan)

    @pytest.mark.parametrize("stamp", ["01" * 8, PRUNER, COLLECTOR])
    def test_an_open_stamp_of_somebody_else_for_a_day(
        self, world: World, orphan: bytes, stamp: str
    ) -> None:
        name = f"projects/{world.project.id}/stamps/{'cd' * 8}-{stamp}.open"
        world.remote.create(name, b"")
        assert AT_WORK in gather(world, grace_us=0).held
        assert AT_WORK in gather(world, NOW_US + DAY_US - 1, grace_us=0).held
        assert there(world, orphan)
        assert gather(world, NOW_US + DAY_US, grace_us=0).deleted == 1
        assert gather(world, NOW_US + 8 * DAY_US).stamps == 1

    def test_somebody_who_begins_under_way(
        self, world: World, orphan: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its stamp comes after ours and before the first deletion."""
        name = f"projects/{world.project.id}/stamps/{'cd' * 8}-{'01' * 8}.open"
        listed, calls = world.remote.list, []

        def begin(prefix: str) -> Any:
            if prefix.endswith("stamps/"):
                calls.append(prefix)
                if len(calls) == 2:
                    world.remote.create(name, b"")
            return listed(prefix)

        monkeypatch.setattr(world.remote, "list", begin)
        assert AT_WORK in gather(world, grace_us=0).held
        assert there(world, orphan)

    def test_a_collection_that_takes_half_a_day_stops(self, world: World, orphan: bytes) -> None:
        times = iter([NOW_US] * 12)
        report = collect(
            world.home,
            remote="stick",
            grace_us=0,
            clock=lambda: next(times, NOW_US + DAY_US),
            opener=lambda entry: world.remote,
        )
        assert there(world, orphan) == bool(report.projects[0].held)

    def test_a_remote_where_nothing_may_be_deleted(
        self, world: World, orphan: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        deposit = property(lambda self: Capabilities(can_delete=False))
        monkeypatch.setattr(type(world.remote), "capabilities", deposit)
        with pytest.raises(NotPermitted):
            gather(world)

    def test_an_unknown_remote(self, world: World) -> None:
        with pytest.raises(NotFound):
            collect(world.home, remote="cloud")


class TestCuts:
    def test_a_collection_that_is_cut_leaves_everybody_told(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        orphans = [world.project.object() for _ in range(5)]
        ended_run(world.project)
        world.push()
        deleted, delete = [], world.remote.delete

        def cut(name: str) -> None:
            if "/objects/" in name:
                deleted.append(name)
                if len(deleted) == 3:
                    raise Unreachable("pulled out")
            delete(name)

        def full(name: str, data: bytes) -> None:
            if deleted:
                raise Unreachable("pulled out")
            create(name, data)

        create = world.remote.create
        monkeypatch.setattr(world.remote, "delete", cut)
        monkeypatch.setattr(world.remote, "create", full)
        with pytest.raises(Unreachable):
            gather(world, grace_us=0)
        monkeypatch.undo()
        assert sum(there(world, one) for one in orphans) == 3
        report = gather(world, NOW_US + 1)
        assert (report.deleted, report.waiting) == (0, 3)
        settled = [e.name for e in world.remote.list("") if "/stamps/" in e.name]
        assert len(settled) == 1
        assert not settled[0].endswith(".open")

    def test_a_prune_that_meets_a_collector_and_a_collector_that_meets_a_prune_stop(
        self, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = ended_run(world.project)
        world.push()
        confirm, held = world.remote.confirm, list[str]()

        def meanwhile(name: str, length: int, source: Path) -> bool:
            if not held:
                held.append(_other_collects(world))
            return confirm(name, length, source)

        monkeypatch.setattr(world.remote, "confirm", meanwhile)
        prune(world.home, clock=lambda: NOW_US, opener=lambda entry: world.remote)
        assert AT_WORK in held[0]
        assert there(world, run.objects[0])


def _other_collects(world: World) -> str:
    """What a collector of another home would be told by its guard."""
    from localstored.pruning.guards import Guard

    with Guard(world.project.paths, world.remote, "77" * 8, COLLECTOR, lambda: NOW_US) as guard:
        return AT_WORK if guard.others() else ""
