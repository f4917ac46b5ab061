"""What `prune` promises: nothing goes but what a remote has just said that it holds."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from localstore import pruned
from localstore.errors import Damaged, NotFound
from localstore.format.spec import DataClass
from localstore.store.gc import collect
from localstore.trust import read_project
from localstored.pruning.prunable import ALIVE, IN_USE, NO_RECEIPT, NOT_CLOSED, SHARED
from localstored.pruning.prune import COLLECTED, GONE, OTHER, UNSURE
from localstored.remotes.base import Busy, Unreachable
from tests.prune.makers import DAY_US, ended_run, object_path, push_all, touch_now
from tests.sync.makers import NOW_US, Log

if TYPE_CHECKING:
    from pathlib import Path

    from localstored.pruning.prune import ProjectPruned
    from tests.prune.makers import World

BULK = (DataClass.METRICS, DataClass.SYSTEM, DataClass.CONSOLE, DataClass.MEDIA)


def only(world: World, **words: object) -> ProjectPruned:
    """Prune, and what it said of the one project."""
    report = world.prune(**words)
    assert report.ok, report.to_json()
    (project,) = report.projects
    return project


class TestWhatGoes:
    def test_logs_and_objects_go_and_what_a_run_is_stays(self, world: World) -> None:
        run = ended_run(world.project)
        world.push()
        before = world.files()

        said = only(world)

        after = world.files()
        gone = {*run.names(*BULK), f"objects/{run.objects[0].hex()[:2]}/{run.objects[0].hex()}"}
        assert before.keys() - after.keys() == gone
        assert all(after[name] == before[name] for name in after)
        assert (said.logs, said.objects, said.subjects) == (4, 1, {run.subject})
        assert said.bytes == sum(len(before[name]) for name in gone)

    def test_a_stub_tells_where_and_what(self, world: World) -> None:
        run = ended_run(world.project)
        world.push()
        before = world.files()
        only(world)
        stubs = {stub.name: stub for stub in pruned.absent_logs(world.project.paths)}
        assert stubs.keys() == set(run.names(*BULK))
        for name, stub in stubs.items():
            assert stub.remote == world.remote.id
            assert stub.size == len(before[name])
        media = stubs[run.names(DataClass.MEDIA)[0]]
        assert media.refs == {1: frozenset([run.objects[0].hex()])}
        found = pruned.object_stub(world.project.paths, run.objects[0].hex())
        assert found is not None
        assert found.remote == world.remote.id

    def test_a_second_prune_does_nothing(self, world: World) -> None:
        ended_run(world.project)
        world.push()
        only(world)
        files = world.files()
        assert only(world).bytes == 0
        assert world.files() == files

    def test_a_dry_run_changes_nothing_and_says_what_would_go(self, world: World) -> None:
        ended_run(world.project)
        world.push()
        before, there = world.files(), len(list(world.remote.list("")))
        said = only(world, dry_run=True)
        assert world.files() == before
        assert len(list(world.remote.list(""))) == there
        assert said.bytes == only(world).bytes

    def test_classes_subjects_ages_and_keeping_choose(self, world: World) -> None:
        old = ended_run(world.project, ended_us=NOW_US - 40 * DAY_US)
        new = ended_run(world.project, ended_us=NOW_US - 3 * DAY_US)
        world.push()
        assert only(world, subjects=["ab" * 16]).bytes == 0
        assert only(world, keep_subjects=[old.subject, new.subject]).bytes == 0
        assert only(world, older_us=50 * DAY_US).bytes == 0
        console = only(world, classes=[DataClass.CONSOLE], subjects=[old.subject])
        assert (console.logs, console.objects) == (1, 0)
        assert only(world, older_us=30 * DAY_US).subjects == {old.subject}
        assert only(world).subjects == {new.subject}

    def test_what_one_process_wrote_of_an_artifact_can_be_chosen(self, world: World) -> None:
        project, subject = world.project, "cd" * 16
        logs, objects = [], []
        for _ in range(2):
            objects.append(project.object())
            log = Log(project, subject, DataClass.ARTIFACTS)
            log.ref(objects[-1])
            log.head(final=True)
            logs.append(log)
        world.push()
        from localstore.format.segment import decode_header

        writer = decode_header(logs[0].path.read_bytes())[0].writer.hex()
        said = only(world, subjects=[], writers=[(subject, writer)])
        assert said.objects == 1
        assert not object_path(project, objects[0]).exists()
        assert object_path(project, objects[1]).exists()
        assert all(log.path.exists() for log in logs)

    def test_a_limit_takes_the_oldest_first(self, world: World) -> None:
        new = ended_run(world.project, ended_us=NOW_US - DAY_US)
        old = ended_run(world.project, ended_us=NOW_US - 9 * DAY_US)
        world.push()
        said = only(world, limit_bytes=1)
        assert said.subjects == {old.subject}
        assert said.logs + said.objects == 1
        assert new.logs[DataClass.MEDIA].path.exists()

    def test_two_thousand_objects_go_in_one_call(self, world: World) -> None:
        objects = [world.project.object(size=20) for _ in range(2100)]
        ended_run(world.project, objects=objects)
        world.push()
        assert only(world).objects == 2100
        assert len(pruned.object_stubs(world.project.paths)) == 2100


class TestWhatStays:
    def test_without_a_receipt_nothing_goes(self, world: World) -> None:
        run = ended_run(world.project)
        world.push()
        receipts = world.project.paths.receipts / f"{world.remote.id}.jsonl"
        receipts.write_bytes(b"")
        before = world.files()
        said = only(world)
        assert world.files() == before
        assert said.held[NO_RECEIPT].items == len(BULK) + len(run.objects)

    def test_a_receipt_for_fewer_bytes_proves_nothing(self, world: World) -> None:
        run = ended_run(world.project, closed=False)
        world.push()
        for log in run.logs.values():
            log.records()
            log.head(final=True)
        before = world.files()
        assert only(world).bytes == 0
        assert world.files() == before

    def test_a_receipt_that_the_remote_took_back_proves_nothing(self, world: World) -> None:
        ended_run(world.project)
        world.push()
        receipts = world.project.paths.receipts / f"{world.remote.id}.jsonl"
        lines = receipts.read_text("ascii").splitlines()
        with receipts.open("a") as file:
            file.writelines(f"{_taken_back(line)}\n" for line in lines)
        assert only(world).bytes == 0

    def test_a_remote_that_was_set_back_is_believed_over_its_receipts(self, world: World) -> None:
        run = ended_run(world.project)
        world.push()
        there = f"projects/{world.project.id}/"
        world.remote.delete(there + run.names(DataClass.METRICS)[0])
        world.remote.delete(f"{there}objects/{run.objects[0].hex()[:2]}/{run.objects[0].hex()}")
        said = only(world)
        assert said.held[GONE].items == 2
        assert run.logs[DataClass.METRICS].path.exists()
        assert object_path(world.project, run.objects[0]).exists()

    def test_a_run_whose_meta_the_remote_lost_stays_whole(self, world: World) -> None:
        run = ended_run(world.project)
        world.push()
        world.remote.delete(f"projects/{world.project.id}/{run.names(DataClass.META)[0]}")
        before = world.files()
        assert only(world).held[GONE].items == len(BULK) + 1
        assert world.files() == before

    @pytest.mark.parametrize("lie", ["no", "other bytes", "busy"])
    def test_a_remote_that_does_not_confirm_keeps_the_bytes_here(
        self, world: World, lie: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ended_run(world.project)
        world.push()
        before = world.files()

        def confirm(name: str, length: int, source: Path) -> bool:
            if lie == "busy":
                raise Busy("slow down")
            if lie == "no":
                raise NotFound("gone")
            return False

        monkeypatch.setattr(world.remote, "confirm", confirm)
        said = only(world)
        assert said.bytes == 0
        assert {"no": GONE, "other bytes": OTHER, "busy": UNSURE}[lie] in said.held
        assert world.files() == before

    def test_a_remote_that_is_away_is_named_and_nothing_goes(self, world: World) -> None:
        ended_run(world.project)
        world.push()
        before = world.files()

        def opener(entry: object) -> object:
            raise Unreachable("not mounted")

        report = world.prune(opener=opener)
        assert report.failed == {"stick": "not mounted"}
        assert world.files() == before

    def test_a_damaged_object_here_is_not_pruned(self, world: World) -> None:
        """Its stub would say that all is well."""
        run = ended_run(world.project)
        world.push()
        path = object_path(world.project, run.objects[0])
        raw = bytearray(path.read_bytes())
        raw[40] ^= 1
        path.write_bytes(raw)
        assert only(world).held[OTHER].items == 1
        assert path.exists()

    def test_a_run_that_is_alive_keeps_everything(self, world: World) -> None:
        run = ended_run(world.project)
        open_log = Log(world.project, run.subject, DataClass.META)
        open_log.head()
        world.push()
        touch_now(open_log.path)
        before = world.files()
        said = only(world)
        assert said.held[ALIVE].items == len(BULK) + 1
        assert world.files() == before

    def test_a_live_tail_means_that_the_run_is_alive(self, world: World) -> None:
        run = ended_run(world.project, closed=False)
        world.push()
        tail = run.logs[DataClass.METRICS].path.with_suffix(".t0")
        tail.write_bytes(b"")
        touch_now(tail)
        assert ALIVE in only(world).held

    def test_logs_of_a_crashed_run_stay_and_its_objects_go(self, world: World) -> None:
        """Nobody closed them: a writer that wakes up would append to a file without a name."""
        run = ended_run(world.project, closed=False)
        world.push()
        said = only(world)
        assert (said.logs, said.objects) == (0, 1)
        assert said.held[NOT_CLOSED].items == len(BULK)
        assert all(log.path.exists() for log in run.logs.values())

    def test_a_clock_that_jumped_back_makes_every_open_run_alive(self, world: World) -> None:
        run = ended_run(world.project, closed=False)
        world.push()
        os.utime(run.logs[DataClass.META].path, ns=((NOW_US + 400 * DAY_US) * 1000,) * 2)
        assert ALIVE in only(world).held

    def test_an_object_that_a_run_which_stays_needs_stays(self, world: World) -> None:
        shared, own = world.project.object(), world.project.object()
        going = ended_run(world.project, objects=[shared, own])
        staying = ended_run(world.project, objects=[shared])
        world.push()
        said = only(world, keep_subjects=[staying.subject])
        assert said.held[SHARED].items == 2  # the object, and the log that says whose it is, too
        assert object_path(world.project, shared).exists()
        assert not object_path(world.project, own).exists()
        assert not going.logs[DataClass.METRICS].path.exists()

    def test_an_object_that_was_used_just_now_stays(self, world: World) -> None:
        run = ended_run(world.project)
        world.push()
        touch_now(object_path(world.project, run.objects[0]))
        said = only(world)
        assert said.held[IN_USE].items == 1
        assert object_path(world.project, run.objects[0]).exists()

    def test_logs_with_two_versions_or_with_cancellations_stay(self, world: World) -> None:
        run, other = ended_run(world.project), ended_run(world.project)
        log = run.logs[DataClass.MEDIA]
        fork = log.path.with_name(f"{log.path.stem}-{'ab' * 16}.fork")
        fork.write_bytes(log.path.read_bytes())
        cancelling = Log(world.project, other.subject, DataClass.MEDIA)
        cancelling.unref(other.logs[DataClass.MEDIA], 1)
        cancelling.head(final=True)
        push_all(world.project, world.remote)
        only(world)
        assert log.path.exists()
        assert cancelling.path.exists()

    def test_a_damaged_log_keeps_its_whole_project(self, world: World) -> None:
        run = ended_run(world.project)
        world.push()
        path = run.logs[DataClass.CONSOLE].path
        raw = bytearray(path.read_bytes())
        raw[-200] ^= 1
        path.write_bytes(raw)
        before = world.files()
        report = world.prune()
        assert not report.ok
        assert world.files() == before

    def test_while_somebody_collects_on_the_remote_nothing_goes(self, world: World) -> None:
        ended_run(world.project)
        world.push()
        stamp = f"projects/{world.project.id}/stamps/{'ab' * 8}-{'f' * 16}.open"
        world.remote.create(stamp, b"")
        before = world.files()
        assert COLLECTED in only(world).held
        assert world.files() == before
        # One that nobody takes away stops counting after a day.
        assert only(world, clock=lambda: NOW_US + 25 * 3600 * 1_000_000).bytes

    def test_prune_leaves_no_stamp(self, world: World) -> None:
        ended_run(world.project)
        world.push()
        only(world)
        assert not [one for one in world.remote.list("") if "/stamps/" in one.name]

    def test_an_unknown_remote_is_an_error(self, world: World) -> None:
        with pytest.raises(NotFound, match="cloud"):
            world.prune(remotes=["cloud"])


class TestAfterwards:
    def test_the_collector_knows_what_pruned_logs_need(self, world: World) -> None:
        """An object that only a pruned log names is stored again: `gc` leaves it."""
        run = ended_run(world.project)
        raw = object_path(world.project, run.objects[0]).read_bytes()
        world.push()
        only(world)
        object_path(world.project, run.objects[0]).write_bytes(raw)
        report = collect(
            world.project.paths, read_project(world.project.paths), grace_s=0, now_us=NOW_US
        )
        assert not report.held
        assert object_path(world.project, run.objects[0]).exists()

    def test_an_unreadable_stub_forbids_collecting(self, world: World) -> None:
        run = ended_run(world.project)
        gone = world.project.object()
        world.push()
        only(world)
        stub = world.project.paths.root / "stubs" / run.subject
        next(stub.iterdir()).write_bytes(b"{}")
        report = collect(
            world.project.paths, read_project(world.project.paths), grace_s=0, now_us=NOW_US
        )
        assert report.held
        assert object_path(world.project, gone).exists()

    def test_stubs_of_objects_that_nothing_needs_are_forgotten(self, world: World) -> None:
        run = ended_run(world.project)
        world.push()
        only(world)
        world.project.bury(run.subject)
        collect(world.project.paths, read_project(world.project.paths), grace_s=0, now_us=NOW_US)
        assert pruned.object_stubs(world.project.paths) == {}

    def test_a_stub_that_cannot_be_read_is_damage_by_name(self, world: World) -> None:
        run = ended_run(world.project)
        world.push()
        only(world)
        segment = run.logs[DataClass.METRICS].path.stem
        path = pruned.stub_path(world.project.paths, run.subject, segment)
        for bad in (b"", b"{}", b'{"name":"x"}', b"\xff", path.read_bytes()[:-60]):
            path.write_bytes(bad)
            with pytest.raises(Damaged, match=segment):
                pruned.read_stub(world.project.paths, run.subject, segment)


def _taken_back(line: str) -> str:
    import json

    return json.dumps({**json.loads(line), "size": 0})
