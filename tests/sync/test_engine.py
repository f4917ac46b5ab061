"""A home and its remotes come to hold the same, exactly once, whatever happens on the way."""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
from typing import TYPE_CHECKING

import pytest

from localstore.errors import NotFound
from localstore.format.spec import DataClass
from localstored.remotes.folder import FolderRemote
from localstored.remotes.memory import MemoryRemote
from tests.sync.conftest import sync, sync_with
from tests.sync.makers import NOW_US, contents, frame, make_project, synced_bytes, with_remote
from tests.sync.recording import Counting, Dying

if TYPE_CHECKING:
    from pathlib import Path

    from localstored.report import Event, SyncReport


class TestArrival:
    def test_everything_that_may_leave_arrives_byte_identical(
        self, home: Path, stick: Path
    ) -> None:
        project = make_project(home)
        subject = [project.run() for _ in range(3)][-1]
        project.log(subject, DataClass.ARTIFACTS, refs=[project.object(), project.object()])

        report = sync(home)

        assert report.ok, report.to_json()
        assert synced_bytes(stick) == synced_bytes(home)
        assert report.projects[0].pushed == len(synced_bytes(home))
        assert report.projects[0].pushed_bytes == sum(map(len, synced_bytes(home).values()))

    def test_a_second_sync_moves_nothing_and_only_lists(self, home: Path) -> None:
        project, remote = make_project(home), Counting(MemoryRemote())
        project.run()
        assert sync_with(home, remote).ok
        remote.calls.clear()

        report = sync_with(home, remote)

        assert report.ok
        assert report.moved == 0
        assert remote.calls.total() == 0

    def test_every_file_has_a_receipt_with_its_hash(self, home: Path) -> None:
        make_project(home).run()
        sync(home)
        (receipts,) = home.rglob("receipts/*.jsonl")
        lines = [json.loads(line) for line in receipts.read_text().splitlines()]
        assert {line["name"]: line["size"] for line in lines} == {
            name.split("/", 2)[2]: len(data) for name, data in synced_bytes(home).items()
        }
        assert {line["at_us"] for line in lines} == {NOW_US}

    def test_trust_goes_before_runs_and_small_before_large(self, home: Path) -> None:
        project, remote = make_project(home), Counting(MemoryRemote())
        subject = project.run()
        project.log(subject, DataClass.ARTIFACTS, refs=[project.object(size=5)], size=5000)
        sync_with(home, remote)

        order = [name.split("/")[2] for name in remote.written]
        assert list(dict.fromkeys(order)) == ["FORMAT", "certs", "links", "keys", "runs", "objects"]
        sizes = [remote.have([n])[n] for n in remote.written if "/runs/" in n]
        assert sizes == sorted(sizes)

    def test_a_log_that_grew_is_pushed_from_where_it_was(self, home: Path, stick: Path) -> None:
        project, remote = make_project(home), Counting(MemoryRemote())
        log = project.log(secrets.token_hex(16))
        sync_with(home, remote)
        grown = frame(3)
        with log.open("ab") as file:
            file.write(grown)
        remote.calls.clear()

        report = sync_with(home, remote)

        assert report.projects[0].pushed_bytes == len(grown)
        assert remote.calls["create"] == 0
        assert remote.calls["append"] == 1

    def test_a_frame_that_is_being_written_waits_for_its_end(self, home: Path, stick: Path) -> None:
        log = make_project(home).log(secrets.token_hex(16))
        whole = log.read_bytes()
        last = frame(3)
        for cut in (1, 15, 16, len(last) - 1):
            log.write_bytes(whole + last[:cut])
            assert sync(home).ok
            assert (stick / log.relative_to(home)).read_bytes() == whole
        log.write_bytes(whole + last)
        assert sync(home).ok
        assert (stick / log.relative_to(home)).read_bytes() == whole + last

    def test_a_large_file_goes_in_pieces(self, home: Path, stick: Path) -> None:
        project = make_project(home)
        log = project.log(secrets.token_hex(16), frames=3, size=3_000_000)
        remote = Counting(MemoryRemote())
        assert sync_with(home, remote).ok
        assert sync(home).ok
        assert (stick / log.relative_to(home)).read_bytes() == log.read_bytes()
        assert remote.calls["append"] == 2

    def test_a_person_sees_progress(self, home: Path) -> None:
        make_project(home).run()
        events: list[Event] = []
        sync(home, on_event=events.append)
        last = [event for event in events if event.phase == "runs"][-1]
        assert last.done_items == last.planned_items == 3
        assert last.done_bytes == last.planned_bytes > 0


class TestDryRun:
    def test_a_dry_run_writes_nothing_and_says_every_step(self, home: Path, stick: Path) -> None:
        make_project(home).run()
        before = sorted(map(str, home.rglob("*"))), sorted(map(str, stick.rglob("*")))

        report = sync(home, dry_run=True)

        assert (sorted(map(str, home.rglob("*"))), sorted(map(str, stick.rglob("*")))) == before
        names = {step["name"] for step in report.projects[0].steps}
        assert names == {name.split("/", 2)[2] for name in synced_bytes(home)}
        assert {step["step"] for step in report.projects[0].steps} == {"push create"}
        assert json.loads(json.dumps(report.to_json()))["dry_run"] is True

    def test_a_dry_run_of_an_unknown_project_writes_nothing(self, home: Path, other: Path) -> None:
        make_project(home).run()
        sync(home)
        before = sorted(map(str, other.rglob("*")))
        report = sync(other, dry_run=True)
        assert sorted(map(str, other.rglob("*"))) == before
        assert {step["step"] for step in report.projects[0].steps} == {"pull create"}


class TestInterruption:
    def test_a_push_cut_after_any_byte_is_resumed_and_ends_the_same(self, home: Path) -> None:
        project = make_project(home)
        subject = project.run()
        log = project.log(subject, DataClass.MEDIA)
        goal = MemoryRemote()
        assert sync_with(home, goal).ok
        want = contents(goal)
        total = sum(map(len, want.values()))
        before = log.read_bytes()

        for cut in range(1, total - 120, max(1, total // 60)):
            inner = MemoryRemote(secrets.token_hex(8))
            log.write_bytes(before[:-120])
            with pytest.raises(Exception, match="plug"):
                sync_with(home, Dying(inner, cut))
            log.write_bytes(before)
            assert sync_with(home, inner).ok
            assert contents(inner) == want

    def test_an_append_cut_at_any_byte_is_resumed_at_that_byte(self, home: Path) -> None:
        log = make_project(home).log(secrets.token_hex(16))
        begin, grown = log.read_bytes(), frame(3)
        for cut in range(0, len(grown), 7):
            log.write_bytes(begin)
            inner = MemoryRemote(secrets.token_hex(8))
            sync_with(home, inner)
            log.write_bytes(begin + grown)
            with pytest.raises(Exception, match="plug"):
                sync_with(home, Dying(inner, cut))

            report = sync_with(home, inner)

            assert report.ok
            assert report.projects[0].pushed_bytes == len(grown) - cut
            (name,) = (e.name for e in inner.list("") if "/runs/" in e.name)
            assert inner.read(name, 0, 1 << 20) == begin + grown

    def test_a_large_object_cut_between_its_pieces_is_resumed(self, home: Path) -> None:
        project = make_project(home)
        object_id = project.object(size=9 << 20)
        project.log(secrets.token_hex(16), DataClass.ARTIFACTS, refs=[object_id])
        inner = MemoryRemote()
        with pytest.raises(Exception, match="plug"):
            sync_with(home, Dying(inner, 6 << 20))
        report = sync_with(home, inner)
        assert report.ok
        assert report.projects[0].pushed_bytes < 6 << 20
        name = f"projects/{project.id}/objects/{object_id.hex()[:2]}/{object_id.hex()}"
        assert hashlib.sha256(contents(inner)[name]).hexdigest() == object_id.hex()

    def test_a_catalog_may_be_deleted_or_damaged_at_any_time(self, home: Path) -> None:
        project, remote = make_project(home), Counting(MemoryRemote())
        project.run()
        sync_with(home, remote)
        catalog = project.paths.local / "catalog.db"
        whole = catalog.read_bytes()
        rotten = whole[:4096] + secrets.token_bytes(len(whole) - 4096)
        nonsense = (b"", b"SQLite format 3\0 and nonsense", secrets.token_bytes(9000), rotten)
        for damage in (None, *nonsense):
            catalog.unlink()
            if damage is not None:
                catalog.write_bytes(damage)
            remote.calls.clear()
            report = sync_with(home, remote)
            assert report.ok
            assert (report.moved, remote.calls.total()) == (0, 0)
            assert catalog.exists()

    def test_receipts_lost_too_are_asked_for_again(self, home: Path) -> None:
        project, remote = make_project(home), Counting(MemoryRemote())
        project.run()
        sync_with(home, remote)
        for path in (*project.paths.local.iterdir(), *project.paths.receipts.iterdir()):
            path.unlink()
        remote.calls.clear()

        report = sync_with(home, remote)

        assert report.ok
        assert (report.moved, remote.writes) == (0, 0)
        remote.calls.clear()
        sync_with(home, remote)
        assert remote.calls.total() == 0

    def test_a_receipt_line_cut_by_a_crash_spoils_no_other(self, home: Path) -> None:
        project, remote = make_project(home), MemoryRemote()
        project.run()
        sync_with(home, remote)
        (receipts,) = project.paths.receipts.iterdir()
        receipts.write_bytes(receipts.read_bytes()[:-10])
        (project.paths.local / "catalog.db").unlink()
        project.run()

        assert sync_with(home, remote).ok
        (project.paths.local / "catalog.db").unlink()
        counting = Counting(remote)
        assert sync_with(home, counting).ok
        assert counting.calls.total() <= 1

    def test_a_remote_that_was_set_back_gets_everything_again(self, home: Path) -> None:
        project = make_project(home)
        project.run()
        remote = MemoryRemote()
        sync_with(home, remote)
        old = MemoryRemote()
        for entry in remote.list(""):
            old.create(entry.name, remote.read(entry.name, 0, entry.size))
        project.run()
        tombstone = project.bury(secrets.token_hex(16))
        sync_with(home, remote)

        report = sync_with(home, old)

        assert report.projects[0].lost == [tombstone.name]
        assert report.ok
        assert contents(old) == contents(remote)


class TestBesideOthers:
    def test_syncs_while_a_writer_appends_lose_and_invent_nothing(
        self, home: Path, stick: Path
    ) -> None:
        log = make_project(home).log(secrets.token_hex(16))
        done = threading.Event()

        def append() -> None:
            with log.open("ab", buffering=0) as file:
                for index in range(3, 400):
                    raw = frame(index, 200)
                    file.write(raw[:50])
                    file.write(raw[50:])
            done.set()

        writer = threading.Thread(target=append)
        writer.start()
        there = stick / log.relative_to(home)
        while not done.is_set():
            assert sync(home).ok
            assert log.read_bytes().startswith(there.read_bytes())
        writer.join()
        assert sync(home).ok
        assert there.read_bytes() == log.read_bytes()

    def test_two_syncs_of_one_home_at_once_are_harmless(self, home: Path, stick: Path) -> None:
        project = make_project(home)
        for _ in range(4):
            project.run()
        project.log(secrets.token_hex(16), frames=3, size=3_000_000)
        reports: list[SyncReport] = []
        threads = [threading.Thread(target=lambda: reports.append(sync(home))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [report.ok for report in reports] == [True] * 3, [r.to_json() for r in reports]
        assert synced_bytes(stick) == synced_bytes(home)
        assert sync(home).moved == 0

    def test_a_remote_that_is_gone_stops_no_other(self, home: Path, tmp_path: Path) -> None:
        make_project(home).run()
        with_remote(home, tmp_path / "second", "second")
        (tmp_path / "stick" / "LOCALSTORE-REMOTE").unlink()

        report = sync(home)

        assert list(report.failed) == ["stick"]
        assert "mounted" not in report.failed["stick"]
        assert not report.ok
        assert synced_bytes(tmp_path / "second") == synced_bytes(home)

    def test_an_unknown_remote_or_project_is_an_error(self, home: Path) -> None:
        with pytest.raises(NotFound):
            sync(home, remotes=["nowhere"])
        with pytest.raises(NotFound):
            sync(home, projects=["00" * 32])


def test_a_folder_remote_and_a_memory_remote_end_up_alike(home: Path, stick: Path) -> None:
    make_project(home).run()
    memory = MemoryRemote()
    assert sync_with(home, memory).ok
    assert sync(home).ok
    assert contents(memory) == contents(FolderRemote(stick))
