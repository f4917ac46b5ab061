"""A home and its remotes come to hold the same, exactly once, whatever happens on the way."""

from __future__ import annotations

import json
import re
import secrets
import threading
from typing import TYPE_CHECKING

import pytest

from localstore.errors import NotFound
from localstore.format import segment
from localstore.format.spec import DataClass, LinkKind
from localstore.layout import HomePaths
from localstored.remotes.folder import FolderRemote
from localstored.remotes.memory import MemoryRemote
from tests.sync.conftest import sync, sync_with
from tests.sync.makers import NOW_US, Project, frame, make_project, synced_bytes, with_remote
from tests.sync.recording import Counting, Dying

if TYPE_CHECKING:
    from pathlib import Path

    from localstored.report import Event, SyncReport


def reasons(report: SyncReport, what: str) -> list[str]:
    """Everything of one kind in a report, as lines."""
    return [str(note) for project in report.projects for note in getattr(project, what)]


def size_of(root: Path) -> int:
    """Bytes that replicas exchange below a home."""
    return sum(map(len, synced_bytes(root).values()))


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
        sizes = [remote.receipt(n).size for n in remote.written if "/runs/" in n]
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
        want = {entry.name: goal.receipt(entry.name) for entry in goal.list("")}
        total = sum(receipt.size for receipt in want.values())
        before = log.read_bytes()

        for cut in range(1, total - 120, max(1, total // 60)):
            inner = MemoryRemote(secrets.token_hex(8))
            log.write_bytes(before[:-120])
            with pytest.raises(Exception, match="plug"):
                sync_with(home, Dying(inner, cut))
            log.write_bytes(before)
            assert sync_with(home, inner).ok
            assert {entry.name: inner.receipt(entry.name) for entry in inner.list("")} == want

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
        assert inner.receipt(name).sha256 == object_id.hex()

    def test_a_catalog_may_be_deleted_or_damaged_at_any_time(self, home: Path) -> None:
        project, remote = make_project(home), Counting(MemoryRemote())
        project.run()
        sync_with(home, remote)
        catalog = project.paths.local / "catalog.db"
        for damage in (None, b"", b"SQLite format 3\0 and nonsense", secrets.token_bytes(9000)):
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
        assert sorted(old.list(""), key=str) == sorted(remote.list(""), key=str)


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


class TestTwoHomes:
    def test_two_homes_come_to_hold_the_same(self, home: Path, other: Path, stick: Path) -> None:
        project = make_project(home)
        project.log(project.run(), DataClass.ARTIFACTS, refs=[project.object()])
        assert sync(home).ok
        assert sync(other).ok
        assert synced_bytes(other) == synced_bytes(home)

        there = Project(
            HomePaths(other).project(project.id),
            project.user_seed,
            project.device_seed,
            project.cert,
            project.genesis,
        )
        subject = there.run()
        there.log(subject, DataClass.MEDIA, refs=[there.object(DataClass.MEDIA)])
        for place in (other, home, other):
            assert sync(place).ok
        assert synced_bytes(other) == synced_bytes(home) == synced_bytes(stick)
        for place in (home, other):
            assert sync(place).moved == 0

    def test_a_run_that_grows_here_grows_there(self, home: Path, other: Path) -> None:
        project = make_project(home)
        log = project.log(project.run(), DataClass.MEDIA)
        for index in range(3, 7):
            with log.open("ab") as file:
                file.write(frame(index))
            assert sync(home).ok
            report = sync(other)
            assert report.ok
            assert report.projects[0].pulled_bytes == (
                len(frame(0)) if index > 3 else size_of(other)
            )
            assert synced_bytes(other) == synced_bytes(home)

    def test_a_pull_cut_inside_a_frame_is_mended(self, home: Path, other: Path) -> None:
        project = make_project(home)
        log = project.log(project.run(), DataClass.MEDIA)
        sync(home)
        sync(other)
        with log.open("ab") as file:
            file.write(frame(3))
        sync(home)
        copy = other / log.relative_to(home)
        for half in (log.read_bytes()[: copy.stat().st_size + 20], copy.read_bytes() + b"LF\1"):
            copy.write_bytes(half)
            assert sync(other).ok
            assert copy.read_bytes() == log.read_bytes()

    def test_a_project_of_strangers_stays_on_the_stick(self, home: Path, other: Path) -> None:
        make_project(home).run()
        sync(home)
        report = sync(other, recipients=frozenset({"ab" * 16}))
        assert report.ok
        assert report.projects == []
        assert not (other / "projects").exists()

    def test_a_pruned_log_is_not_pulled_again(self, home: Path) -> None:
        project = make_project(home)
        log = project.log(project.run(), DataClass.MEDIA)
        sync(home)
        stub = project.paths.root / "stubs" / log.parent.name / log.stem
        stub.parent.mkdir(parents=True)
        stub.write_text("{}")
        log.unlink()
        assert sync(home).moved == 0
        assert not log.exists()


class TestForks:
    def test_two_versions_of_a_log_are_both_kept_on_every_side(
        self, home: Path, other: Path, stick: Path
    ) -> None:
        project = make_project(home)
        log = project.log(project.run(), DataClass.MEDIA)
        sync(home)
        sync(other)
        copy, begin = other / log.relative_to(home), log.read_bytes()
        mine, theirs = begin + frame(3) + frame(4), begin + frame(3)
        log.write_bytes(mine)
        copy.write_bytes(theirs)

        sync(home)
        report = sync(other)
        sync(home)

        assert report.ok
        assert len(report.projects[0].forks) == 1
        assert log.read_bytes() == mine
        assert copy.read_bytes() == theirs
        (fork_here,), (fork_there,) = home.rglob("*.fork"), other.rglob("*.fork")
        assert fork_here.read_bytes() == theirs
        assert fork_there.read_bytes() == mine
        for place in (home, other, home):
            report = sync(place)
            assert report.ok
            assert report.moved == 0, report.to_json()
        assert {mine, theirs} == {
            path.read_bytes() for path in stick.rglob(f"{log.stem}*") if path.is_file()
        }


class TestErasure:
    def test_a_tombstone_erases_here_there_and_on_the_stick(
        self, home: Path, other: Path, stick: Path
    ) -> None:
        project = make_project(home)
        kept, gone = project.run(), project.run()
        shared, alone = project.object(), project.object()
        project.log(kept, DataClass.ARTIFACTS, refs=[shared])
        log = project.log(gone, DataClass.ARTIFACTS, refs=[shared, alone])
        log.with_suffix(".t0").write_bytes(frame(9, kind=3))
        sync(home)
        sync(other)
        project.bury(gone)

        for place in (home, other):
            assert sync(place).ok

        for place in (home, other, stick):
            names = [str(path) for path in place.rglob("*") if path.is_file()]
            assert not [name for name in names if f"/{gone}/" in name]
            assert not [name for name in names if alone.hex() in name]
            assert [name for name in names if shared.hex() in name]
            assert len([name for name in names if f"/{kept}/" in name]) == 4
            assert not (place / "projects" / project.id / "runs" / gone).exists()

    def test_an_old_stick_never_brings_an_erased_run_back(self, home: Path, tmp_path: Path) -> None:
        project = make_project(home)
        gone = project.run()
        project.log(gone, DataClass.ARTIFACTS, refs=[project.object()])
        with_remote(home, tmp_path / "old", "old")
        sync(home)
        project.bury(gone)
        assert sync(home, remotes=["stick"]).ok

        report = sync(home, remotes=["old"])

        assert report.ok
        for place in (home, tmp_path / "old"):
            assert not [p for p in place.rglob("*") if gone in str(p) and "local/" not in str(p)]
            assert not [p for p in place.rglob("objects/*/*") if p.is_file()]
        fresh = with_remote(tmp_path / "fresh", tmp_path / "old")
        assert sync(fresh).ok
        assert not [p for p in fresh.rglob("*") if gone in str(p)]

    def test_a_run_in_the_trash_is_still_there(self, home: Path, stick: Path) -> None:
        project = make_project(home)
        subject = project.run()
        project.bury(subject, NOW_US + 1)
        assert sync(home).ok
        assert (stick / "projects" / project.id / "runs" / subject).exists()

    def test_a_stranger_cannot_erase(self, home: Path, stick: Path) -> None:
        project = make_project(home)
        subject = project.run()
        project.user_seed = secrets.token_bytes(32)
        project.bury(subject)
        sync(home)
        assert (stick / "projects" / project.id / "runs" / subject).exists()

    def test_an_object_is_kept_while_a_damaged_log_may_refer_to_it(self, home: Path) -> None:
        project = make_project(home)
        kept, gone = project.run(), project.run()
        alone = project.object()
        project.log(gone, DataClass.ARTIFACTS, refs=[alone])
        sync(home)
        damaged = project.log(kept, DataClass.ARTIFACTS, refs=[alone])
        raw = bytearray(damaged.read_bytes())
        raw[-300] ^= 1
        damaged.write_bytes(raw)
        project.bury(gone)
        sync(home)
        assert [path for path in home.rglob(alone.hex())]


class TestDamage:
    def test_one_damaged_run_of_ten_stops_none_of_the_nine(self, home: Path, stick: Path) -> None:
        project = make_project(home)
        logs = [project.log(project.run(), DataClass.MEDIA) for _ in range(10)]
        raw = bytearray(logs[4].read_bytes())
        start = segment.decode_header(raw)[1]
        raw[start + 30] ^= 0x40
        logs[4].write_bytes(raw)

        report = sync(home)

        assert not report.ok
        (note,) = report.projects[0].damaged
        assert note.name.endswith(f"/{logs[4].name}")
        assert note.offset == start
        for index, log in enumerate(logs):
            assert (stick / log.relative_to(home)).exists() == (index != 4)

    def test_a_log_damaged_later_is_not_shipped_beyond_what_the_remote_has(
        self, home: Path, stick: Path
    ) -> None:
        log = make_project(home).log(secrets.token_hex(16))
        good = log.read_bytes()
        sync(home)
        bad = bytearray(frame(3))
        bad[40] ^= 1
        log.write_bytes(good + bad + frame(4))
        report = sync(home)
        assert not report.ok
        assert report.projects[0].damaged[0].offset == len(good)
        assert (stick / log.relative_to(home)).read_bytes() == good

    @pytest.mark.parametrize("folder", ["links", "certs", "keys", "objects"])
    def test_our_own_damaged_file_does_not_leave(
        self, home: Path, stick: Path, folder: str
    ) -> None:
        project = make_project(home)
        subject = project.run()
        project.log(subject, DataClass.ARTIFACTS, refs=[project.object()])
        project.link(LinkKind.EPOCH, {"epoch": 1, "box": bytes(32)})
        path = sorted(p for p in (project.paths.root / folder).rglob("*") if p.is_file())[-1]
        if folder == "links":
            path = next(
                p for p in project.paths.links.iterdir() if p.read_bytes() != project.genesis
            )
        raw = bytearray(path.read_bytes())
        raw[-70] ^= 1
        path.write_bytes(raw)

        report = sync(home)

        assert not report.ok
        assert [note.name for note in report.projects[0].damaged] == [
            str(path.relative_to(project.paths.root))
        ]
        assert not (stick / path.relative_to(home)).exists()

    def test_bytes_that_rotted_on_the_stick_are_healed_from_ours(
        self, home: Path, stick: Path
    ) -> None:
        project = make_project(home)
        object_id = project.object()
        project.log(secrets.token_hex(16), DataClass.ARTIFACTS, refs=[object_id])
        sync(home)
        (copy,) = stick.rglob(object_id.hex())
        good = copy.read_bytes()
        for rotten in (good + b"more", good[:50], b"x" * 60):
            copy.write_bytes(rotten)
            assert sync(home).ok
            assert copy.read_bytes() == good

    def test_a_format_of_a_newer_version_is_left_alone(self, home: Path, stick: Path) -> None:
        project = make_project(home)
        project.run()
        path = stick / "projects" / project.id / "FORMAT"
        path.parent.mkdir(parents=True)
        path.write_text(f"localstore 2\nproject {project.id}\nrequires\n")
        report = sync(home)
        assert reasons(report, "refused") == [
            "FORMAT: FORMAT of another project, or of a newer localstore"
        ]
        assert [p.name for p in path.parent.iterdir()] == ["FORMAT"]


class TestPrivacy:
    def test_console_unknown_classes_and_unknown_tags_stay_here(
        self, home: Path, stick: Path
    ) -> None:
        project = make_project(home)
        subject = project.run()
        hidden = project.object()
        held = [
            project.log(subject, DataClass.CONSOLE),
            project.log(subject, 99),
            project.log(subject, DataClass.METRICS, tag=b"t" * 16, refs=[hidden]),
        ]
        orphan = project.object()

        report = sync(home)

        assert report.ok
        assert sorted(note.name.split("/")[-1] for note in report.projects[0].held) == sorted(
            [*(log.name for log in held), hidden.hex(), orphan.hex()]
        )
        for log in held:
            assert not (stick / log.relative_to(home)).exists()
        assert not list(stick.rglob("objects"))

    def test_names_and_catalog_say_nothing_but_hex(self, home: Path, stick: Path) -> None:
        project = make_project(home)
        project.log(project.run(), DataClass.ARTIFACTS, refs=[project.object()])
        sync(home)
        allowed = re.compile(
            r"[0-9a-f]{2,64}(-[0-9a-f]{32})?(\.(log|tail|fork|jsonl|json))?|FORMAT|LOCALSTORE-REMOTE"
            r"|projects|links|certs|keys|runs|objects|receipts|trust|local|incoming|catalog\.db"
        )
        for root in (home / "projects", stick):
            for path in root.rglob("*"):
                assert allowed.fullmatch(path.name), path
        (catalog,) = home.rglob("catalog.db")
        assert catalog.stat().st_mode & 0o777 == 0o600
        import sqlite3

        with sqlite3.connect(catalog) as db:
            tables = [row[0] for row in db.execute("select name from sqlite_master")]
            opaque = re.compile(r"(FORMAT|links|certs|keys|runs|objects|[0-9a-f]|/|-|\.|log)*")
            for table in tables:
                for row in db.execute(f"select * from {table}"):  # noqa: S608
                    for value in row:
                        assert isinstance(value, int) or opaque.fullmatch(value), value
        db.close()


def test_a_folder_remote_and_a_memory_remote_end_up_alike(home: Path, stick: Path) -> None:
    make_project(home).run()
    memory = MemoryRemote()
    assert sync_with(home, memory).ok
    assert sync(home).ok
    assert set(memory.list("")) == set(FolderRemote(stick).list(""))
