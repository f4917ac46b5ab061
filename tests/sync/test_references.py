"""Objects travel while a log needs them: all of them, behind their logs, and no longer."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from typing import TYPE_CHECKING

import pytest

import localstore
from localstore.errors import NotFound
from localstore.format.spec import CertKind, DataClass
from localstore.layout import HomePaths
from localstore.query.api import Api
from localstore.store.gc import collect
from localstore.trust import read_project
from localstore.vault import Vault
from localstored.engine import sync_home
from localstored.remotes.memory import MemoryRemote
from localstored.repair import repair_home
from tests.sync.conftest import sync, sync_with
from tests.sync.makers import (
    NOW_US,
    Log,
    Project,
    contents,
    make_project,
    synced_bytes,
    with_remote,
)
from tests.sync.recording import Around, Counting, Dying

if TYPE_CHECKING:
    from pathlib import Path

S = "11" * 16
DAY_US = 24 * 3600 * 1_000_000


@pytest.fixture
def project(home: Path) -> Project:
    """A project that the other home may read, too."""
    made = make_project(home)
    made.keyslot(S)
    return made


def holds(place: Path, object_id: bytes) -> bool:
    """Whether an object lies below a home or a stick."""
    return bool(list(place.rglob(object_id.hex())))


def version(project: Project, *objects: bytes) -> Log:
    """What a writer of a version leaves: references, then the record, then a head."""
    log = Log(project, S)
    log.ref(*objects)
    log.records()
    log.head()
    return log


def cancel(project: Project, log: Log, at_us: int = NOW_US, **words: object) -> Log:
    """A version is deleted."""
    other = Log(project, S, DataClass.META, **words)  # type: ignore[arg-type]
    other.unref(log, 0)
    other.head(time_us=at_us)
    return other


class TestRoundTrip:
    def test_a_version_and_its_objects_reach_the_second_home(
        self, home: Path, other: Path, stick: Path, project: Project
    ) -> None:
        version(project, *(project.object(size=3000) for _ in range(5)))
        assert sync(home).ok
        assert sync(other).ok
        assert synced_bytes(other) == synced_bytes(home) == synced_bytes(stick)
        assert sync(other).moved == sync(home).moved == 0

    def test_objects_go_behind_the_log_that_names_them(self, home: Path, project: Project) -> None:
        remote = Counting(MemoryRemote())
        log = version(project, project.object(size=10), project.object(size=10))
        assert sync_with(home, remote).ok
        order = [name.split("/", 2)[2] for name in remote.written]
        assert order.index(log.name) < min(i for i, n in enumerate(order) if "objects/" in n)

    def test_a_push_cut_anywhere_among_the_objects_is_resumed(
        self, home: Path, other: Path, project: Project
    ) -> None:
        objects = [project.object(size=4000) for _ in range(6)]
        version(project, *objects)
        total = sum(map(len, synced_bytes(home).values()))
        for cut in range(total - 24_000, total, 2500):
            inner = MemoryRemote(secrets.token_hex(8))
            with pytest.raises(Exception, match="plug"):
                sync_with(home, Dying(inner, cut))
            assert sync_with(home, inner).ok
            for one in objects:
                name = f"projects/{project.id}/objects/{one.hex()[:2]}/{one.hex()}"
                assert hashlib.sha256(contents(inner)[name]).hexdigest() == one.hex()

    def test_a_pull_that_ended_before_the_objects_goes_on_with_them(
        self, home: Path, other: Path, stick: Path, project: Project
    ) -> None:
        objects = [project.object() for _ in range(4)]
        version(project, *objects)
        sync(home)
        sync(other)
        for one in objects[1:]:
            next(other.rglob(one.hex())).unlink()
        report = sync(other)
        assert report.ok
        assert report.projects[0].pulled == 3
        assert synced_bytes(other) == synced_bytes(home)

    def test_an_object_that_the_stick_lost_is_pushed_again(
        self, home: Path, stick: Path, project: Project
    ) -> None:
        one = project.object()
        version(project, one)
        sync(home)
        next(stick.rglob(one.hex())).unlink()
        assert sync(home, relist=True).ok
        assert holds(stick, one)


class TestCancelled:
    def test_what_is_not_needed_any_more_is_not_pushed(
        self, home: Path, stick: Path, project: Project
    ) -> None:
        gone, shared = project.object(), project.object()
        log = version(project, gone, shared)
        version(project, shared)
        cancel(project, log)
        report = sync(home)
        assert report.ok
        assert not holds(stick, gone)
        assert holds(stick, shared)

    def test_nor_pulled(self, home: Path, other: Path, project: Project) -> None:
        gone = project.object()
        log = version(project, gone)
        sync(home)
        cancel(project, log)
        sync(home)
        report = sync(other)
        assert report.ok
        assert not holds(other, gone)
        assert list(other.rglob(f"{log.id.hex()}.log"))

    def test_a_sync_after_it_was_collected_brings_it_back_nowhere(
        self, home: Path, stick: Path, project: Project
    ) -> None:
        gone = project.object()
        log = version(project, gone)
        sync(home)
        cancel(project, log)
        state = read_project(project.paths)
        assert collect(project.paths, state, grace_s=0, now_us=NOW_US).freed == 1
        for _ in range(2):
            assert sync(home).ok
        assert not holds(home, gone)

    def test_remotes_are_freed_a_day_later_and_not_before(
        self, home: Path, other: Path, stick: Path, project: Project
    ) -> None:
        gone, shared = project.object(), project.object()
        log = version(project, gone, shared)
        version(project, shared)
        sync(home)
        sync(other)
        cancel(project, log)
        for _ in range(2):
            assert sync(home, clock=lambda: NOW_US + DAY_US - 1).ok
            assert holds(stick, gone)
        assert sync(home, clock=lambda: NOW_US + DAY_US).ok
        assert sync(other, clock=lambda: NOW_US + DAY_US).ok
        for place in (home, other, stick):
            assert not holds(place, gone)
            assert holds(place, shared)

    def test_an_object_that_was_named_again_stays_everywhere(
        self, home: Path, other: Path, stick: Path, project: Project
    ) -> None:
        one = project.object()
        cancel(project, version(project, one), NOW_US - 2 * DAY_US)
        version(project, one)
        for place in (home, other, home):
            assert sync(place).ok
        assert holds(home, one)
        assert holds(other, one)
        assert holds(stick, one)

    def test_nothing_is_freed_while_a_log_of_the_remote_is_not_here(
        self, home: Path, other: Path, stick: Path, project: Project
    ) -> None:
        one = project.object()
        log = version(project, one)
        sync(home)
        # It is on the stick, cannot be taken from there, and may name anything.
        hidden = next(stick.rglob(log.path.name)).with_name(f"{'ef' * 16}.log")
        hidden.write_bytes(log.path.read_bytes())
        cancel(project, log, NOW_US - 2 * DAY_US)
        report = sync(home, relist=True)
        assert [note.name[-36:] for note in report.projects[0].refused] == [hidden.name]
        assert holds(stick, one)
        hidden.unlink()
        assert sync(home, relist=True).ok
        assert not holds(stick, one)

    def test_a_machine_that_only_writes_keeps_nothing_from_leaving(
        self, home: Path, stick: Path, project: Project
    ) -> None:
        one = project.object()
        writer = project.writer(CertKind.DEPOSIT, NOW_US + 10**15)
        cancel(project, version(project, one), NOW_US - 2 * DAY_US, writer=writer)
        assert sync(home).ok
        assert holds(stick, one)

    def test_an_unref_that_gets_its_head_later_counts_from_then_on(
        self, home: Path, stick: Path, project: Project
    ) -> None:
        one = project.object()
        log = version(project, one)
        other = Log(project, S, DataClass.META)
        other.unref(log, 0)
        sync(home)
        assert holds(stick, one)
        other.records()
        other.head(time_us=NOW_US - 2 * DAY_US)
        sync(home)
        assert not holds(stick, one)
        assert not holds(home, one)

    def test_a_log_that_was_put_back_to_before_it_cancelled_cancels_nothing(
        self, home: Path, stick: Path, project: Project
    ) -> None:
        one = project.object()
        log = version(project, one)
        other = Log(project, S, DataClass.META)
        other.records()
        before = other.path.read_bytes()
        other.unref(log, 0)
        other.head()
        sync(home)
        assert not holds(stick, one)
        other.path.write_bytes(before)
        for path in stick.rglob(other.path.name):
            path.write_bytes(before)
        for _ in range(2):
            sync(home, relist=True)
            next(stick.rglob(one.hex())).unlink()


class Meddling(Around):
    """A run here names an object while the remote is told to erase it."""

    def __init__(self, project: Project, wanted: bytes) -> None:
        super().__init__(MemoryRemote())
        self.project, self.wanted = project, wanted

    def delete(self, name: str) -> None:
        super().delete(name)
        if name.endswith(self.wanted.hex()):
            Log(self.project, S).ref(self.wanted)


def test_an_object_that_is_named_while_it_is_erased_stays_and_goes_out_again(
    home: Path, project: Project
) -> None:
    one = project.object()
    remote = Meddling(project, one)
    cancel(project, version(project, one), NOW_US - 2 * DAY_US)
    again = version(project, one)
    assert sync_with(home, remote).ok
    cancel(project, again, NOW_US - 2 * DAY_US)
    report = sync_with(home, remote)
    assert report.ok
    assert holds(home, one)
    assert sync_with(home, remote).ok
    assert [entry.name for entry in remote.list("") if entry.name.endswith(one.hex())]


def test_repair_takes_what_is_needed_and_leaves_what_was_freed(
    home: Path, stick: Path, project: Project
) -> None:
    gone, needed = project.object(), project.object()
    log = version(project, gone)
    version(project, needed)
    sync(home)
    cancel(project, log)
    for one in (gone, needed):
        next(home.rglob(one.hex())).unlink()
    report = repair_home(home, [])
    assert [one.name[-64:] for one in report.healed] == [needed.hex()]
    assert not holds(home, gone)


def test_a_reader_says_that_objects_are_not_here_yet_and_reads_them_when_they_are(
    tmp_path: Path, stick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    monkeypatch.setenv("LOCALSTORE_HOME", str(first))
    artifact = localstore.Artifact("data", "dataset")
    content = secrets.token_bytes(300_000)
    with artifact.new_file("model.bin", "wb") as file:
        file.write(content)
    artifact.save(project="digits")
    with_remote(first, stick)
    assert sync_home(first).ok
    shutil.copytree(first / "identity", second / "identity")
    with_remote(second, stick)
    recipients = Vault(HomePaths(second)).recipients()
    assert sync_home(second, recipients=recipients).ok
    objects = [path for path in second.rglob("objects/*/*") if path.is_file()]
    for path in objects:
        path.unlink()

    monkeypatch.setenv("LOCALSTORE_HOME", str(second))
    with pytest.raises(NotFound, match="not"):
        Api().artifact("digits/data:latest").download(str(tmp_path / "back"))
    assert not list((tmp_path / "back").rglob("model.bin"))
    assert sync_home(second, recipients=recipients).projects[0].pulled == len(objects)
    Api().artifact("digits/data:latest").download(str(tmp_path / "back"))
    assert (tmp_path / "back" / "model.bin").read_bytes() == content
