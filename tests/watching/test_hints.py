"""File events make looks come sooner, and are never needed."""

from __future__ import annotations

import errno
import shutil
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from localstore.vault import Vault
from localstore.watching import hints
from localstore.watching.hints import NoHints, hints_for, on_network
from localstore.watching.loop import Stopped, Watching
from localstore.watching.worker import options_of
from tests.watching.conftest import Bench, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SLOWLY_S = 60.0  # a settle time that nobody waits for here


class Running:
    """All watches of a home at work in a thread."""

    def __init__(self, bench: Bench, **more: Any) -> None:
        self.bell, self.over = threading.Event(), threading.Event()
        self.watching = Watching(
            bench.home,
            Vault(bench.home).load(),
            options_of(bench.home),
            tell=lambda _id, _plain, full: bench.told.append(full),
            wake=self.bell.set,
            stopping=self.over.is_set,
            **more,
        )
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            while not self.over.is_set():
                self.watching.reload()
                self.bell.wait(max(0.01, self.watching.round()))
                self.bell.clear()
        except Stopped:
            pass

    def close(self) -> None:
        self.over.set()
        self.bell.set()
        self.thread.join(10)
        self.watching.close()
        assert not self.thread.is_alive()


@pytest.fixture
def run(bench: Bench) -> Iterator[Any]:
    running: list[Running] = []

    def start(**more: Any) -> Running:
        running.append(Running(bench, **more))
        until(lambda: running[-1].watching.active)
        return running[-1]

    yield start
    for one in running:
        one.close()


@pytest.mark.parametrize("folders", [False, True])
def test_what_is_renamed_into_place_is_taken_at_once(bench: Bench, run: Any, folders: bool) -> None:
    bench.added(settle_s=SLOWLY_S, pattern="checkpoint-*/" if folders else "*.ckpt")
    one = run()
    until(lambda: any(it.hints.live for it in one.watching.active.values()))
    if folders:
        bench.put("tmp-1/w.bin", b"weights")
        (bench.folder / "tmp-1").rename(bench.folder / "checkpoint-1")
    else:
        bench.put("a.tmp", b"weights").rename(bench.folder / "a.ckpt")
    until(bench.versions, 10.0)
    assert list(bench.contents()[0].values()) == [b"weights"]


def test_what_is_only_written_waits_for_the_settle_time(bench: Bench, run: Any) -> None:
    bench.added(settle_s=0.4)
    run()
    before = time.monotonic()
    bench.put("a.ckpt", b"weights")
    until(bench.versions, 10.0)
    assert time.monotonic() - before >= 0.4


def test_without_events_everything_is_taken_all_the_same(bench: Bench, run: Any) -> None:
    bench.added()
    run(events=False)
    bench.put("a.tmp", b"1").rename(bench.folder / "a.ckpt")
    until(bench.versions, 10.0)


def test_a_folder_that_was_replaced_has_hints_again(bench: Bench, run: Any) -> None:
    bench.added()
    run()
    bench.put("a", b"1")
    until(lambda: len(bench.versions()) == 1, 10.0)
    shutil.rmtree(bench.folder)
    bench.folder.mkdir()
    bench.put("b", b"2")
    until(lambda: len(bench.versions()) == 2, 10.0)


def test_watches_that_are_added_and_removed_are_seen_while_it_runs(bench: Bench, run: Any) -> None:
    from localstore.watching.watches import remove_watches

    first = bench.added()
    one = run()
    other = bench.folder.with_name("other")
    other.mkdir()
    bench.added(id="b" * 16, folder=str(other), name="second")
    (other / "x").write_bytes(b"x")
    until(lambda: bench.versions("second"), 10.0)
    remove_watches(bench.home, [first.id])
    until(lambda: first.id not in one.watching.active, 10.0)


def test_limits_of_the_system_are_told_and_looking_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from watchdog.observers.api import BaseObserver

    def refuse(*_words: object, **_more: object) -> None:
        raise OSError(errno.ENOSPC, "inotify watch limit reached")

    told: list[str] = []
    monkeypatch.setattr(BaseObserver, "start", refuse)
    found = hints_for(str(bench.folder), deep=False, wake=lambda: None, tell=told.append)
    assert not found.live
    assert "watch limit" in told[0]


def test_network_file_systems_are_known_by_their_mounts(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "23 22 0:50 / /shared\\040disk rw - nfs4 server:/x rw\n"
        "24 23 0:51 / /shared\\040disk/local rw - tmpfs tmpfs rw\n"
    )
    monkeypatch.setattr(hints, "_MOUNTS", table)
    assert on_network("/shared disk/out")
    assert not on_network("/shared disk/local/out")
    assert not on_network("/shared diskette")
    assert not on_network("/home")
    monkeypatch.setattr(hints, "_MOUNTS", tmp_path / "none")
    assert not on_network("/shared disk/out")
    assert isinstance(NoHints().take(), type(None))
