"""A worker: what it does when its remote hangs, fails, is slow, or comes back."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from localstore.layout import HomePaths
from localstore.remotes import read_remotes
from localstored import engine
from localstored.remotes import open_remote
from localstored.remotes.base import Unreachable
from localstored.service.desk import Desk
from localstored.service.worker import RemoteWorker, Request
from tests.daemon.conftest import Said, wait_until
from tests.daemon.running import in_step
from tests.sync.conftest import sync
from tests.sync.makers import Project, make_project, synced_bytes, with_remote
from tests.sync.recording import Around

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from localstored.remotes.base import Remote


class Moody(Around):
    """A remote that does as its owner says before each write."""

    def __init__(self, inner: Remote, before: Callable[[], None]) -> None:
        super().__init__(inner)
        self._before = before

    def create(self, name: str, data: bytes) -> None:
        self._before()
        super().create(name, data)

    def append(self, name: str, offset: int, data: bytes) -> None:
        self._before()
        super().append(name, offset, data)


class Shop:
    """A home with a stick, and workers for it whose remote has moods."""

    def __init__(self, tmp_path: Path, said: Said) -> None:
        self.stick = tmp_path / "stick"
        self.home = with_remote(tmp_path / "home", self.stick)
        self.said, self.desk = said, Desk(self.home, said.journal)
        self.mood: Callable[[], None] = lambda: None
        self.workers: list[RemoteWorker] = []
        self.waits: list[float] = []

    def opener(self, entry: Any, **words: Any) -> Remote:
        return Moody(open_remote(entry, **words), self._moods)

    def _moods(self) -> None:
        self.mood()

    def worker(self, name: str = "stick") -> RemoteWorker:
        made = RemoteWorker(
            read_remotes(self.home)[name],
            self.desk,
            opener=self.opener,
            uniform=lambda _low, _high: 0.05,
        )
        self.workers.append(made)
        made.start()
        return made

    def error(self) -> Any:
        return self.desk.state.remote(read_remotes(self.home)["stick"].id).error


@pytest.fixture
def shop(tmp_path: Path, said: Said) -> Iterator[Shop]:
    made = Shop(tmp_path, said)
    yield made
    made.mood = lambda: None
    for worker in made.workers:
        worker.stop()
    for worker in made.workers:
        assert worker.join(5)


@pytest.fixture
def project(shop: Shop) -> Project:
    return make_project(shop.home)


def test_a_remote_that_hangs_holds_up_no_other(shop: Shop, project: Project) -> None:
    other = shop.stick.with_name("other")
    with_remote(shop.home, other, "other")
    release = threading.Event()
    project.run()

    def hang() -> None:
        release.wait(20)

    shop.mood = hang
    hanging = shop.worker("stick")
    wait_until(lambda: hanging.doing == "syncing")
    shop.workers.append(RemoteWorker(read_remotes(shop.home)["other"], shop.desk))
    shop.workers[-1].start()
    wait_until(lambda: in_step(shop.home, other))
    assert hanging.is_alive
    release.set()
    wait_until(lambda: in_step(shop.home, shop.stick))


def test_what_fails_is_tried_again_and_told_once(shop: Shop, project: Project) -> None:
    project.run()
    attempts = []

    def away() -> None:
        attempts.append(time.monotonic())
        if len(attempts) < 6:
            raise Unreachable("no answer", hint="plug it in")

    shop.mood = away
    shop.worker()
    wait_until(lambda: in_step(shop.home, shop.stick))
    assert shop.said.text.count("no answer") == 1
    wait_until(lambda: "trouble=over" in shop.said.text)
    assert shop.error() is None


def test_what_only_a_person_can_mend_is_left_alone_until_one_asks(
    shop: Shop, project: Project
) -> None:
    project.run()

    def refused() -> None:
        raise Unreachable("credentials refused", hint="sign in", permanent=True)

    shop.mood = refused
    worker = shop.worker()
    wait_until(lambda: shop.error() is not None and worker.doing == "waiting")
    assert (shop.error().hint, shop.error().permanent) == ("sign in", True)
    worker.add({project.id: set(project.subjects)})
    worker.want_full()
    worker.want_look()
    time.sleep(0.2)
    shop.mood = lambda: None
    assert not in_step(shop.home, shop.stick)
    asked = Request(None, lambda _event: None)
    worker.request(asked)
    assert asked.done.wait(10)
    assert in_step(shop.home, shop.stick)


def test_a_fault_of_ours_does_not_end_the_worker(shop: Shop, project: Project) -> None:
    project.run()
    faults: list[int] = []

    def fault() -> None:
        if len(faults) < 2:
            faults.append(1)
            raise ZeroDivisionError

    shop.mood = fault
    shop.worker()
    wait_until(lambda: in_step(shop.home, shop.stick))
    assert "ZeroDivisionError" in shop.said.text
    assert "test_worker.py:" in shop.said.text


def test_a_hint_is_enough_for_its_subject(shop: Shop, project: Project) -> None:
    first = project.run()
    worker = shop.worker()
    wait_until(lambda: in_step(shop.home, shop.stick))
    second = project.run()
    worker.add({project.id: {second}})
    wait_until(lambda: in_step(shop.home, shop.stick))
    assert first != second


def test_a_hint_of_a_project_that_is_gone_is_no_trouble(shop: Shop, project: Project) -> None:
    worker = shop.worker()
    wait_until(lambda: in_step(shop.home, shop.stick))
    worker.add({"ab" * 32: {"cd" * 16}})
    project.run()
    worker.add({project.id: set(project.subjects)})
    wait_until(lambda: in_step(shop.home, shop.stick))
    assert shop.error() is None


class TestInFlight:
    @pytest.fixture
    def slow(self, shop: Shop, project: Project) -> Iterator[RemoteWorker]:
        """A worker in the middle of a transfer of a hundred pieces."""
        subject = project.run()
        for _ in range(100):
            project.log(subject, size=1000)
        shop.mood = lambda: time.sleep(0.1)
        worker = shop.worker()
        wait_until((shop.stick / "projects").exists)
        wait_until(lambda: worker.doing == "syncing")
        yield worker
        shop.mood = lambda: None

    def still(self, shop: Shop) -> int:
        """How much is there once nothing moves any more."""
        before, since = -1, time.monotonic()
        while time.monotonic() - since < 0.4:
            now = len(synced_bytes(shop.stick))
            if now != before:
                before, since = now, time.monotonic()
            time.sleep(0.05)
        return before

    def test_a_pause_ends_it_within_two_seconds_and_its_end_goes_on(
        self, shop: Shop, project: Project, slow: RemoteWorker
    ) -> None:
        shop.desk.set_pause(None)
        began = time.monotonic()
        wait_until(lambda: slow.doing == "paused")
        assert time.monotonic() - began < 2
        assert self.still(shop) < len(synced_bytes(shop.home))
        shop.desk.clear_pause()
        shop.mood = lambda: None
        slow.recheck()
        wait_until(lambda: in_step(shop.home, shop.stick))

    def test_a_pause_that_is_over_goes_on_by_itself(
        self, shop: Shop, project: Project, slow: RemoteWorker
    ) -> None:
        shop.desk.set_pause(shop.desk.clock() + 700_000)
        wait_until(lambda: slow.doing == "paused")
        shop.mood = lambda: None
        wait_until(lambda: in_step(shop.home, shop.stick))

    def test_a_tightened_policy_ends_it_within_two_seconds(
        self, shop: Shop, project: Project, slow: RemoteWorker
    ) -> None:
        (shop.home / "policy.toml").write_text('[classes]\nmeta = "never"\nmetrics = "never"\n')
        began = time.monotonic()
        wait_until(lambda: slow.doing == "idle")
        assert time.monotonic() - began < 2
        there = self.still(shop)
        assert there < len(synced_bytes(shop.home))
        slow.want_full()
        assert self.still(shop) == there

    def test_the_end_of_the_service_does_not_wait_for_it(self, slow: RemoteWorker) -> None:
        began = time.monotonic()
        slow.stop()
        assert slow.join(5)
        assert time.monotonic() - began < 2

    def test_a_person_who_asks_does_not_wait_for_it(
        self, shop: Shop, project: Project, slow: RemoteWorker
    ) -> None:
        events: list[object] = []
        asked = Request([project.id], events.append)
        slow.request(asked)
        wait_until(lambda: events, 3.0)
        shop.mood = lambda: None
        assert asked.done.wait(10)
        assert asked.report is not None
        assert asked.report.ok
        assert in_step(shop.home, shop.stick)


def test_a_request_at_the_end_is_answered(shop: Shop, project: Project) -> None:
    worker = shop.worker()
    worker.stop()
    assert worker.join(5)
    asked = Request(None, lambda _event: None)
    worker.request(asked)
    assert asked.done.wait(1)
    assert asked.problem is not None


def test_a_disk_full_there_is_told_and_gets_better(shop: Shop, project: Project) -> None:
    from localstored.remotes.base import Full

    project.run()
    full = [True]

    def no_room() -> None:
        if full[0]:
            raise Full("no space left on the stick", hint="make room")

    shop.mood = no_room
    worker = shop.worker()
    wait_until(lambda: shop.error() is not None)
    assert "no space left" in shop.error().text
    full[0] = False
    worker.want_full(at_once=True)
    wait_until(lambda: in_step(shop.home, shop.stick))


def test_what_another_machine_changed_is_seen_by_a_look(
    shop: Shop, project: Project, tmp_path: Path
) -> None:
    project.run()
    worker = shop.worker()
    wait_until(lambda: in_step(shop.home, shop.stick))
    other = with_remote(tmp_path / "elsewhere", shop.stick)
    sync(other)
    there = replace(project, paths=HomePaths(other).project(project.id))
    there.run()
    sync(other)
    assert not in_step(shop.home, shop.stick)
    worker.want_look()
    wait_until(lambda: in_step(shop.home, shop.stick))


def test_a_look_at_a_remote_where_nothing_changed_reads_nothing_here(
    shop: Shop, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.run()
    worker = shop.worker()
    wait_until(lambda: in_step(shop.home, shop.stick))
    looks: list[int] = []
    monkeypatch.setattr(engine, "sync_home", lambda *_, **__: looks.append(1))
    listed: list[bool] = []
    inner = worker._others_changed

    def noted() -> bool:
        listed.append(inner())
        return listed[-1]

    monkeypatch.setattr(worker, "_others_changed", noted)
    worker.want_look()
    wait_until(lambda: listed)
    assert listed == [False]
    assert not looks
