"""How steps are carried out: at once, small before large, urgent in between, stopped, cut, full."""

from __future__ import annotations

import random
import secrets
import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest

from localstore.errors import Conflict
from localstore.format.spec import DataClass
from localstore.layout import object_name
from localstored import transfer, verify
from localstored.crew import Inline, Threads, Width, carry_out
from localstored.remotes.base import Busy, Capabilities, Full, Stopped, Unreachable
from localstored.remotes.memory import MemoryRemote
from localstored.report import MAX_NOTES, Note, ProjectReport
from tests.sync.conftest import sync_with
from tests.sync.makers import NOW_US, Log, Project, contents, frame, make_project
from tests.sync.recording import Around, Counting

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

HOUR_US = 3600 * 1_000_000


class Ticking:
    """A clock that goes a second further each time it is looked at."""

    def __init__(self) -> None:
        self.now_us = NOW_US

    def __call__(self) -> int:
        self.now_us += 1_000_000
        return self.now_us


@pytest.fixture
def project(home: Path) -> Project:
    return make_project(home)


# ------------------------------------------------------------------ at once
class TestCrew:
    def test_it_grows_while_all_goes_well_and_halves_on_complaints(self) -> None:
        width = Width(16)
        assert width.now == 2
        for _ in range(500):
            width.went_well()
        assert width.now == 16
        width.complained()
        assert width.now == 8
        for _ in range(9):
            width.complained()
        assert width.now == 2

    def test_a_remote_that_bears_one_gets_one(self) -> None:
        width = Width(1)
        width.went_well()
        assert width.now == 1

    @pytest.mark.parametrize("crew", [Threads(4), Inline(4), Inline(4, random.Random(3))])
    def test_every_task_is_carried_out_once(self, crew: Threads | Inline) -> None:
        done: list[int] = []
        tasks = [partial(int, number) for number in range(50)]
        carry_out(tasks, crew, Width(4), done.append, lambda: None)
        crew.close()
        assert sorted(done) == list(range(50))

    def test_what_flies_when_the_remote_goes_is_still_heard_of(self) -> None:
        heard, crew = list[int](), Inline(4)

        def hear(number: int) -> None:
            heard.append(number)
            if number == 0:
                raise Unreachable("gone")

        with pytest.raises(Unreachable):
            carry_out([partial(int, n) for n in range(9)], crew, Width(4), hear, lambda: None)
        assert heard == [0, 1]

    def test_a_crash_is_swallowed_by_nobody(self) -> None:
        def crash() -> int:
            raise KeyboardInterrupt

        for crew in (Inline(2), Threads(2)):
            with pytest.raises(KeyboardInterrupt):
                carry_out([crash], crew, Width(2), lambda _: None, lambda: None)
            crew.close()

    def test_chance_decides_the_same_again_for_the_same_seed(
        self, home: Path, project: Project
    ) -> None:
        for _ in range(5):
            project.run()

        class Wide(Counting):
            @property
            def capabilities(self) -> Capabilities:
                return Capabilities(max_parallel=8)

        orders = []
        for seed in (1, 1, 2):
            chance, remote = random.Random(seed), Wide(MemoryRemote(secrets.token_hex(8)))
            assert sync_with(home, remote, crew=lambda width, c=chance: Inline(width, c)).ok
            orders.append([name.rpartition("/")[2] for name in remote.written])
            kinds = [name.split("/")[2] for name in remote.written]
            assert list(dict.fromkeys(kinds)) == ["FORMAT", "certs", "links", "keys", "runs"]
        assert orders[0] == orders[1]
        assert orders[0] != orders[2]


# ------------------------------------------------------------------ what is urgent
class Slow(Around):
    """Takes no second piece of an object before a frame has arrived."""

    def __init__(self) -> None:
        super().__init__(MemoryRemote())
        self.large, self.frames = threading.Event(), threading.Event()
        self.order: list[str] = []

    def append(self, name: str, offset: int, data: bytes) -> None:
        if "/objects/" in name:
            self.large.set()
            assert self.frames.wait(20), "the frame waits for the object"
        super().append(name, offset, data)
        self.order.append(name.split("/")[2])
        if "/runs/" in name:
            self.frames.set()


def test_urgent_frames_leave_before_a_large_object_is_done(
    home: Path, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "MAX_PIECE_BYTES", 1000)
    subject = secrets.token_hex(16)
    log, remote = project.log(subject), Slow()
    Log(project, secrets.token_hex(16)).ref(project.object(size=10_000))
    given: list[str] = []

    def urgent() -> Mapping[str, frozenset[str]]:
        if not remote.large.is_set() or given:
            return {}
        given.append(subject)
        with log.open("ab") as file:
            file.write(frame(3))
        return {project.id: frozenset({subject})}

    assert sync_with(home, remote, urgent=urgent, clock=Ticking()).ok
    assert given
    assert remote.order[0] == "runs"
    assert log.read_bytes() in contents(remote).values()


def test_what_urgent_frames_refer_to_follows_in_the_same_sync(
    home: Path, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "MAX_PIECE_BYTES", 1000)
    Log(project, secrets.token_hex(16)).ref(project.object(size=10_000))
    remote, subject, late = Slow(), secrets.token_hex(16), project.object()
    log = Log(project, subject)
    log.records()

    def urgent() -> Mapping[str, frozenset[str]]:
        if not remote.large.is_set() or remote.frames.is_set():
            return {}
        log.ref(late)
        return {project.id: frozenset({subject})}

    assert sync_with(home, remote, urgent=urgent, clock=Ticking()).ok
    assert [name for name in contents(remote) if name.endswith(late.hex())]


def test_some_subjects_are_synced_without_a_listing_and_alone(home: Path, project: Project) -> None:
    first, second = secrets.token_hex(16), secrets.token_hex(16)
    logs = [project.log(subject) for subject in (first, second)]
    remote = Counting(MemoryRemote())
    assert sync_with(home, remote).ok
    for log in logs:
        with log.open("ab") as file:
            file.write(frame(3))
    one = project.object()
    Log(project, first).ref(one)
    remote.listed.clear()
    remote.calls.clear()

    report = sync_with(home, remote, scope={project.id: frozenset({first})})

    assert report.ok
    assert remote.listed == []
    assert remote.calls == {"append": 1, "create": 2, "confirm": 3}
    there = contents(remote)
    assert logs[0].read_bytes() in there.values()
    assert logs[1].read_bytes() not in there.values()
    assert [name for name in there if name.endswith(one.hex())]
    assert sync_with(home, remote).ok
    assert logs[1].read_bytes() in contents(remote).values()


# ------------------------------------------------------------------ stopped, cut, full
def test_a_sync_that_is_stopped_stops_within_a_piece_and_goes_on_there(
    home: Path, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "MAX_PIECE_BYTES", 1000)
    objects = [project.object(size=9000 + at) for at in range(3)]
    Log(project, secrets.token_hex(16)).ref(*objects)
    whole = MemoryRemote("ff" * 8)
    assert sync_with(home, whole).ok
    for pieces in (1, 5, 12, 25):
        inner = MemoryRemote(secrets.token_hex(8))
        remote = Counting(inner)

        def check(remote: Counting = remote, pieces: int = pieces) -> None:
            if sum("/objects/" in name for name in remote.written) >= pieces:
                raise Stopped

        with pytest.raises(Stopped):
            sync_with(home, remote, check=check)
        assert sum("/objects/" in name for name in remote.written) == pieces
        assert sync_with(home, inner).ok
        assert contents(inner) == contents(whole)


class Cut(Around):
    """Counts what is sent, and is gone each time so many more bytes were."""

    def __init__(self, inner: MemoryRemote, chance: random.Random) -> None:
        super().__init__(inner)
        self.sent, self._chance, self.left = 0, chance, 0

    def mend(self, mean: int) -> None:
        self.left = self._chance.randrange(1, 2 * mean)

    def create(self, name: str, data: bytes) -> None:
        self._spend(len(data))
        super().create(name, data)

    def append(self, name: str, offset: int, data: bytes) -> None:
        done = min(len(data), max(0, self.left))
        if done < len(data):
            super().append(name, offset, data[:done])
        self._spend(len(data))
        super().append(name, offset, data)

    def _spend(self, size: int) -> None:
        self.sent += min(size, max(0, self.left))
        self.left -= size
        if self.left < 0:
            raise Unreachable("the plug was pulled")


def test_an_upload_that_is_cut_a_hundred_times_sends_little_twice_and_hashes_nothing_twice(
    home: Path, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    piece, cuts = 4096, 0
    monkeypatch.setattr(transfer, "MAX_PIECE_BYTES", piece)
    objects = [project.object(size=20_000) for _ in range(60)]
    Log(project, secrets.token_hex(16)).ref(*objects)
    remote = Cut(MemoryRemote(), random.Random(5))
    hashed: list[str] = []
    real = verify.check_file

    def check_file(path: Path, *rest: object) -> None:
        hashed.append(path.name)
        real(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(transfer, "check_file", check_file)
    while True:
        remote.mend(mean=13_000)
        acknowledged = _receipts(project)
        before = len(hashed)
        try:
            assert sync_with(home, remote).ok
            break
        except Unreachable:
            cuts += 1
        assert not acknowledged & set(hashed[before:])
    assert cuts > 80
    size = sum(map(len, contents(remote).values()))
    assert remote.sent <= size + cuts * piece
    assert len([name for name in hashed if len(name) == 64]) <= len(hashed) <= 70 + cuts


def _receipts(project: Project) -> set[str]:
    """Names of files that a remote has acknowledged, without their folders."""
    lines = [line for path in project.paths.receipts.glob("*") for line in path.read_text().split()]
    return {line.partition('"name":"')[2].partition('"')[0].rpartition("/")[2] for line in lines}


def test_a_full_remote_gets_no_more_bytes_and_still_gives_and_forgets(
    home: Path, other: Path, project: Project
) -> None:
    class Small(Counting):
        def create(self, name: str, data: bytes) -> None:
            if "/stamps/" not in name:
                self.calls["tried"] += 1
                raise Full("no space left")
            super().create(name, data)

    inner = MemoryRemote()
    project.run()
    assert sync_with(home, inner).ok
    assert sync_with(other, inner).ok
    (paths,) = [path for path in (other / "projects").iterdir()]
    there = Project(
        type(project.paths)(paths), project.user_seed, project.device_seed, project.cert, b""
    )
    theirs = there.run()
    assert sync_with(other, inner).ok
    for _ in range(5):
        project.run()
    remote = Small(inner)

    report = sync_with(home, remote)

    assert not report.ok
    assert remote.calls["tried"] <= 2
    assert (project.paths.runs / theirs).is_dir()
    assert report.projects[0].standing.behind.items == 15
    assert report.projects[0].errors.total == 15
    assert sync_with(home, inner).projects[0].pushed == 15


# ------------------------------------------------------------------ the breaker
class Failing(Counting):
    """Fails one name, in one way."""

    def __init__(self, name: str, problem: Exception) -> None:
        super().__init__(MemoryRemote())
        self.name, self.problem, self.tries = name, problem, 0

    def create(self, name: str, data: bytes) -> None:
        if name.endswith(self.name):
            self.tries += 1
            raise self.problem
        super().create(name, data)


@pytest.mark.parametrize("problem", [Busy("slow down"), Conflict("other bytes")])
def test_what_failed_three_times_is_left_alone_for_an_hour_unless_a_person_asks(
    home: Path, project: Project, problem: Exception
) -> None:
    one, two = project.object(), project.object()
    Log(project, secrets.token_hex(16)).ref(one, two)
    remote = Failing(object_name(one), problem)
    sync = partial(sync_with, home, remote, manual=False)
    for _ in range(3):
        assert not sync().ok
    tried = remote.tries
    report = sync()
    assert not report.ok
    assert remote.tries == tried
    assert "left alone for an hour" in str(report.to_json())
    assert report.projects[0].standing.behind.items == 1
    assert [name for name in contents(remote.inner) if name.endswith(two.hex())]

    sync_with(home, remote, manual=True)
    assert remote.tries > tried
    tried = remote.tries
    sync(clock=lambda: NOW_US + HOUR_US)
    assert remote.tries > tried
    remote.name = "none"
    assert sync(clock=lambda: NOW_US + 3 * HOUR_US).ok


def test_trouble_with_one_file_does_not_make_the_next_sync_list_everything(
    home: Path, project: Project
) -> None:
    one = project.object()
    Log(project, secrets.token_hex(16)).ref(one)
    remote = Failing(object_name(one), Busy("slow down"))
    sync_with(home, remote)
    remote.listed.clear()
    remote.calls.clear()
    remote.name = "none"
    assert sync_with(home, remote).ok
    assert remote.listed == [f"projects/{project.id}/stamps/"]
    assert remote.calls["have"] == 1


# ------------------------------------------------------------------ one way
@pytest.mark.parametrize(("push", "pull"), [(True, False), (False, True)])
def test_one_way_is_one_way(
    home: Path, other: Path, project: Project, push: bool, pull: bool
) -> None:
    project.run()
    remote = MemoryRemote()
    assert sync_with(home, remote).ok
    assert sync_with(other, remote).ok
    (there,) = (other / "projects").iterdir()
    twin = Project(type(project.paths)(there), project.user_seed, project.device_seed, b"", b"")
    twin.cert = project.cert
    theirs = twin.log(secrets.token_hex(16))
    assert sync_with(other, remote).ok
    mine = project.log(secrets.token_hex(16), DataClass.MEDIA)

    assert sync_with(home, remote, push=push, pull=pull).ok

    assert (mine.read_bytes() in contents(remote).values()) is push
    assert bool(list(home.rglob(theirs.name))) is pull


def test_a_report_keeps_so_many_notes_and_counts_all() -> None:
    report = ProjectReport("stick", "ab" * 32)
    for at in range(MAX_NOTES + 5):
        report.held.append(Note(str(at), "stays"))
    found = report.to_json()
    assert len(found["held"]) == MAX_NOTES  # type: ignore[arg-type]
    assert found["held_count"] == MAX_NOTES + 5
