"""Stamps: one short listing tells a replica that nobody has changed anything, and never lies."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING

import pytest

from localstore.errors import Damaged
from localstored.engine import forget_listing
from localstored.remotes.base import Unreachable
from localstored.remotes.memory import MemoryRemote
from localstored.replica import replica_id
from localstored.session import Session
from localstored.stamps import DAY_US
from tests.sync.conftest import sync_with
from tests.sync.makers import NOW_US, Project, contents, frame, make_project, synced_bytes
from tests.sync.recording import Counting, Dying

if TYPE_CHECKING:
    from pathlib import Path

HOUR_US = 3600 * 1_000_000


def at(now_us: int) -> dict[str, object]:
    """A clock that stands still."""
    return {"clock": lambda: now_us}


def stamps(remote: MemoryRemote) -> list[str]:
    """Names of all stamps, without their folder."""
    return sorted(e.name.rpartition("/")[2] for e in remote.list("") if "/stamps/" in e.name)


def copy_of(remote: MemoryRemote) -> MemoryRemote:
    """A backup, stamps and all."""
    copy = MemoryRemote(remote.id)
    for entry in remote.list(""):
        copy.create(entry.name, remote.read(entry.name, 0, entry.size))
    return copy


@pytest.fixture
def project(home: Path) -> Project:
    made = make_project(home)
    made.run()
    return made


@pytest.fixture
def remote(home: Path, project: Project) -> MemoryRemote:
    """A remote that is in step with the home."""
    made = MemoryRemote()
    assert sync_with(home, made).ok
    return made


def requests(home: Path, remote: MemoryRemote, **words: object) -> Counting:
    """What a sync asks of a remote."""
    counting = Counting(remote)
    assert sync_with(home, counting, **words).ok
    return counting


class TestOneRequest:
    def test_a_sync_with_nothing_to_do_lists_the_stamps_of_each_project_and_no_more(
        self, home: Path, project: Project, remote: MemoryRemote
    ) -> None:
        for _ in range(20):
            project.run()
        assert sync_with(home, remote).ok
        asked = requests(home, remote)
        assert asked.listed == [f"projects/{project.id}/stamps/"]
        assert asked.calls.total() == asked.stamps.total() == 0

    def test_after_a_sync_one_settled_stamp_of_ours_is_left(
        self, home: Path, project: Project, remote: MemoryRemote
    ) -> None:
        for _ in range(3):
            project.run()
            assert sync_with(home, remote).ok
            (stamp,) = stamps(remote)
            assert stamp.startswith(f"{replica_id(home)}-")
            assert not stamp.endswith(".open")

    def test_a_sync_that_only_looks_leaves_no_stamp(
        self, home: Path, other: Path, remote: MemoryRemote
    ) -> None:
        assert sync_with(other, remote).ok
        before = stamps(remote)
        assert sync_with(other, remote).ok
        assert sync_with(home, remote).ok
        assert stamps(remote) == before

    def test_a_project_of_strangers_is_looked_at_once_an_hour(
        self, other: Path, project: Project, remote: MemoryRemote
    ) -> None:
        session, strange = Session(), {"recipients": frozenset({"ab" * 16})}
        counting = Counting(remote)
        from localstore.layout import HomePaths
        from localstored.engine import sync_remote
        from localstored.report import SyncReport
        from localstored.session import Options

        for now_us in (NOW_US, NOW_US + HOUR_US - 1, NOW_US + HOUR_US):
            options = Options(clock=lambda now=now_us: now, **strange)  # type: ignore[misc, arg-type]
            sync_remote(HomePaths(other), "x", counting, options, SyncReport(), session)
        assert counting.listed == [f"projects/{project.id}/keys/"] * 2


class TestOthers:
    def test_what_another_replica_changed_is_noticed(
        self, home: Path, other: Path, project: Project, remote: MemoryRemote
    ) -> None:
        assert sync_with(other, remote).ok
        project.run()
        assert sync_with(home, remote).ok
        report = sync_with(other, remote)
        assert report.projects[0].pulled == 3
        assert synced_bytes(other) == synced_bytes(home)

    def test_while_another_is_at_it_the_remote_is_listed_in_full(
        self, home: Path, project: Project, remote: MemoryRemote
    ) -> None:
        folder = f"projects/{project.id}/stamps/"
        remote.create(f"{folder}{'ab' * 8}-{'cd' * 8}.open", b"")
        for _ in range(3):
            asked = requests(home, remote)
            assert asked.listed == [folder, f"projects/{project.id}/"]

    def test_a_dead_replicas_open_stamp_counts_for_a_day(
        self, home: Path, project: Project, remote: MemoryRemote
    ) -> None:
        folder = f"projects/{project.id}/stamps/"
        remote.create(f"{folder}{'ab' * 8}-{'cd' * 8}.open", b"")
        assert len(requests(home, remote).listed) == 2
        late = NOW_US + DAY_US - HOUR_US
        assert len(requests(home, remote, **at(late)).listed) == 2
        assert requests(home, remote, **at(late + HOUR_US)).listed == [folder]

    def test_what_is_put_there_without_a_stamp_is_seen_a_day_later(
        self, home: Path, other: Path, project: Project, remote: MemoryRemote
    ) -> None:
        gone = next(name for name in contents(remote) if "/runs/" in name)
        remote.delete(gone)
        assert sync_with(home, remote, **at(NOW_US + DAY_US - 1)).moved == 0
        assert sync_with(home, remote, **at(NOW_US + DAY_US)).moved == 1
        assert gone in contents(remote)

    def test_a_clock_that_went_back_lists_anew(self, home: Path, remote: MemoryRemote) -> None:
        assert len(requests(home, remote, **at(NOW_US - HOUR_US)).listed) == 2

    def test_who_asks_for_it_gets_a_full_listing(
        self, home: Path, project: Project, remote: MemoryRemote
    ) -> None:
        remote.delete(next(name for name in contents(remote) if "/runs/" in name))
        assert sync_with(home, remote).moved == 0
        assert sync_with(home, remote, relist=True).moved == 1

    def test_a_listing_that_is_forgotten_is_made_anew(
        self, home: Path, project: Project, remote: MemoryRemote
    ) -> None:
        forget_listing(project.paths, remote.id)
        assert len(requests(home, remote).listed) == 2


class Cut(Dying):
    """Is gone for good after some bytes."""

    def __init__(self, inner: MemoryRemote) -> None:
        super().__init__(inner, 100)

    def create(self, name: str, data: bytes) -> None:
        if self.left < 0:
            raise Unreachable("the plug was pulled")
        if len(data) > self.left:
            self.left = -1
        super().create(name, data)


class TestSetBack:
    def test_a_remote_set_back_is_noticed_also_where_we_alone_write(
        self, home: Path, project: Project, remote: MemoryRemote
    ) -> None:
        old = copy_of(remote)
        project.run()
        assert sync_with(home, remote).ok
        assert sync_with(home, old).moved == 3
        assert contents(old) == contents(remote)

    def test_a_lost_stamp_is_noticed(
        self, home: Path, project: Project, remote: MemoryRemote
    ) -> None:
        for entry in list(remote.list(f"projects/{project.id}/stamps/")):
            remote.delete(entry.name)
        assert len(requests(home, remote).listed) == 2
        assert len(stamps(remote)) == 1
        assert len(requests(home, remote).listed) == 1

    def test_after_a_push_that_was_cut_the_remote_is_listed(
        self, home: Path, project: Project, remote: MemoryRemote
    ) -> None:
        project.run()
        with pytest.raises(Exception, match="plug"):
            sync_with(home, Cut(remote))
        assert any(stamp.endswith(".open") for stamp in stamps(remote))
        asked = requests(home, remote)
        assert len(asked.listed) == 2
        assert [stamp.endswith(".open") for stamp in stamps(remote)] == [False]
        assert len(requests(home, remote).listed) == 1


class TestSessions:
    """A process that syncs again and again leaves its stamp open while it does."""

    def sync(self, home: Path, remote: Counting, session: Session, now_us: int = NOW_US) -> None:
        from localstore.layout import HomePaths
        from localstored.engine import sync_remote
        from localstored.report import SyncReport
        from localstored.session import Options

        report = SyncReport()
        sync_remote(HomePaths(home), "x", remote, Options(clock=lambda: now_us), report, session)
        assert report.ok, report.to_json()

    def test_its_own_open_stamp_does_not_make_it_list(
        self, home: Path, project: Project, remote: MemoryRemote
    ) -> None:
        session, counting = Session(), Counting(remote)
        for _ in range(3):
            project.run()
            self.sync(home, counting, session)
        assert counting.listed == [f"projects/{project.id}/stamps/"] * 3
        assert counting.stamps == {"create": 1}
        assert sum(stamp.endswith(".open") for stamp in stamps(remote)) == 1

    def test_it_is_renewed_long_before_others_take_it_for_dead(
        self, home: Path, project: Project, remote: MemoryRemote
    ) -> None:
        session, counting = Session(), Counting(remote)
        seen = set()
        for hour in range(4):
            project.run()
            self.sync(home, counting, session, NOW_US + hour * HOUR_US)
            (stamp,) = [one for one in stamps(remote) if one.endswith(".open")]
            seen.add(stamp)
        assert len(seen) == 4

    def test_when_the_remote_was_set_back_it_makes_another(
        self, home: Path, project: Project, remote: MemoryRemote
    ) -> None:
        session, old = Session(), copy_of(remote)
        project.run()
        self.sync(home, Counting(remote), session)
        self.sync(home, Counting(old), session)
        assert contents(old) == contents(remote)
        assert sum(stamp.endswith(".open") for stamp in stamps(old)) == 1

    def test_another_process_of_this_home_lists_in_full_while_it_is_open(
        self, home: Path, project: Project, remote: MemoryRemote
    ) -> None:
        project.run()
        self.sync(home, Counting(remote), Session())
        assert len(requests(home, remote).listed) == 2


class TestReplicaId:
    def test_it_is_made_once_and_stays(self, tmp_path: Path) -> None:
        first = replica_id(tmp_path)
        assert replica_id(tmp_path, lambda _: b"") == first
        assert (tmp_path / "replica").read_text() == f"{first}\n"
        assert (tmp_path / "replica").stat().st_mode & 0o777 == 0o600

    def test_one_of_another_form_is_an_error_that_says_what_to_do(self, tmp_path: Path) -> None:
        (tmp_path / "replica").write_text("me")
        with pytest.raises(Damaged) as caught:
            replica_id(tmp_path)
        assert "delete" in caught.value.hint


def test_a_remote_that_lists_endless_stamps_is_left_alone(
    home: Path, project: Project, remote: MemoryRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("localstored.stamps.MAX_STAMPS", 3)
    for _ in range(4):
        remote.create(f"projects/{project.id}/stamps/{'ab' * 8}-{secrets.token_hex(8)}", b"")
    report = sync_with(home, remote)
    assert "more than 3 stamps" in json.dumps(report.to_json())


class Crashing(Dying):
    """The machine stops in the middle of a push, for the whole process."""

    def append(self, name: str, offset: int, data: bytes) -> None:
        super().append(name, offset, data)
        raise KeyboardInterrupt


def test_after_a_crash_the_open_stamp_stays_and_the_same_session_lists_anew(
    home: Path, project: Project, remote: MemoryRemote
) -> None:
    from localstore.layout import HomePaths
    from localstored.engine import sync_remote
    from localstored.report import SyncReport
    from localstored.session import Options

    session, options = Session(), Options(clock=lambda: NOW_US)
    log = next(iter(project.paths.runs.glob("*/*.log")))
    with log.open("ab") as file:
        file.write(frame(3))
    with pytest.raises(KeyboardInterrupt):
        sync_remote(HomePaths(home), "x", Crashing(remote, 1 << 30), options, SyncReport(), session)
    assert any(stamp.endswith(".open") for stamp in stamps(remote))
    counting, report = Counting(remote), SyncReport()
    sync_remote(HomePaths(home), "x", counting, options, report, session)
    assert report.ok
    assert len(counting.listed) == 2
    assert log.read_bytes() in contents(remote).values()
