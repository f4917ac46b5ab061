"""The service in a bad world: clocks that jump, disks that are full, policies that change."""

from __future__ import annotations

import io
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

from localstored.service.instance import Lease
from localstored.service.journal import Journal
from localstored.service.notify_systemd import Systemd
from localstored.service.service import Service
from tests.daemon.conftest import wait_until
from tests.daemon.running import Daemon, in_step
from tests.sync.conftest import sync
from tests.sync.makers import Project, make_project, with_remote

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

YEAR_US = 365 * 86_400 * 1_000_000


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sockets of these tests lie where nobody else's do."""
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    return tmp_path / "stick"


@pytest.fixture
def home(tmp_path: Path, stick: Path) -> Path:
    return with_remote(tmp_path / "home", stick)


@pytest.fixture
def project(home: Path) -> Project:
    made = make_project(home)
    made.run()
    return made


class Inside:
    """A service in a thread of this process."""

    def __init__(self, home: Path, **words: object) -> None:
        self.said = io.StringIO()
        self.service = Service(home, Journal(self.said), systemd=Systemd(), **words)  # type: ignore[arg-type]
        self.code: int | None = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self.code = self.service.run()

    def __enter__(self) -> Inside:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.service.stop()
        self._thread.join(10)
        assert not self._thread.is_alive()
        assert self.service.is_clean


@pytest.fixture
def inside(home: Path) -> Iterator[Inside]:
    with Inside(home) as made:
        yield made


@pytest.mark.parametrize("jump_us", [YEAR_US, -YEAR_US])
def test_after_the_clock_jumped_a_year_it_goes_on_and_looks_at_everything(
    home: Path, stick: Path, project: Project, inside: Inside, jump_us: int
) -> None:
    wait_until(lambda: in_step(home, stick))
    offset = [0]
    real = inside.service._desk.clock
    inside.service._desk.clock = lambda: real() + offset[0]
    project.run()  # without a hint: only a look at everything finds it
    offset[0] = jump_us
    wait_until(lambda: in_step(home, stick))
    assert "jumped_s=" in inside.said.getvalue()
    soonest = min(at for at in inside.service._schedule.next_us().values() if at)
    assert abs(soonest - real()) < 3600 * 1_000_000


def test_a_small_step_of_the_clock_is_nothing(
    home: Path, stick: Path, project: Project, inside: Inside
) -> None:
    wait_until(lambda: in_step(home, stick))
    real = inside.service._desk.clock
    inside.service._desk.clock = lambda: real() + 2_000_000
    before = inside.service._clocks
    wait_until(lambda: inside.service._clocks != before)
    assert "jumped" not in inside.said.getvalue()


def test_a_service_whose_home_another_host_took_over_ends(home: Path) -> None:
    lease = Lease(home, sleep=lambda _: None)
    lease.take()
    (home / "service.lease").rename(home / "taken")
    made = Inside(home, lease=lease)
    with made:
        wait_until(lambda: made.code is not None)
    assert made.code == 73
    assert "another host" in made.said.getvalue()


def test_the_watchdog_is_not_fed_when_a_part_of_it_died(home: Path, inside: Inside) -> None:
    wait_until(lambda: inside.service._workers)
    wait_until(inside.service._all_alive)
    (worker,) = inside.service._workers.values()
    worker.stop()
    assert worker.join(5)
    assert not inside.service._all_alive()


class TestPolicy:
    def test_what_is_allowed_later_leaves_within_two_seconds(
        self, home: Path, stick: Path, project: Project
    ) -> None:
        policy = home / "policy.toml"
        policy.write_text('[classes]\nmeta = "never"\nmetrics = "never"\n')
        with Daemon(home) as daemon:
            wait_until((stick / "projects" / project.id / "links").exists)
            wait_until(lambda: daemon.remote()["doing"] == "idle")
            assert not list((stick / "projects" / project.id).glob("runs/*/*.log"))
            began = time.monotonic()
            policy.unlink()
            wait_until(lambda: in_step(home, stick))
            assert time.monotonic() - began < 3  # two seconds, and the transfer

    def test_a_policy_that_cannot_be_understood_holds_everything_and_says_so(
        self, home: Path, stick: Path, project: Project
    ) -> None:
        (home / "policy.toml").write_text("[classes]\nmetrics = 'sometimes'\n")
        with Daemon(home) as daemon:
            wait_until(lambda: "error policy" in daemon.said)
            assert not daemon.ask("status")["policy"]["ok"]
            wait_until(lambda: daemon.remote()["doing"] in ("idle", "waiting"))
            assert not list(stick.glob("projects/*/runs/*/*.log"))
            (home / "policy.toml").unlink()
            wait_until(lambda: in_step(home, stick))


@pytest.mark.real("root", "mount")
def test_a_full_disk_is_told_and_everything_arrives_once_there_is_room(tmp_path: Path) -> None:
    disk, stick, source = tmp_path / "disk", tmp_path / "stick", tmp_path / "source"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(disk)], check=True)
    try:
        with_remote(source, stick)
        home = with_remote(disk / "home", stick, "stick")
        project = make_project(source)
        project.run()
        sync(source)
        sync(home)
        filler = disk / "filler"
        with Daemon(home) as daemon:
            _fill(filler)
            project.log(project.run(), frames=20, size=50_000)
            sync(source)
            daemon.ask("sync")
            assert daemon.process.poll() is None
            assert not in_step(home, stick)
            filler.unlink()
            wait_until(lambda: daemon.ask("sync") is not None and in_step(home, stick))
            assert daemon.stop() == 0
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def _fill(path: Path) -> None:
    """Take all the room of a small disk."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
