"""`localstored` as a process: started, used, killed, hindered, and stopped."""

from __future__ import annotations

import fcntl
import json
import shutil
import signal
import socket
import statistics
import subprocess
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

import localstore
from localstore import wake
from localstore.control import socket_path
from localstore.errors import LocalStoreError
from localstore.layout import HomePaths
from localstored.service.desk import read_recipients
from tests.daemon.conftest import wait_until
from tests.daemon.running import COMMAND, Daemon, in_step
from tests.sync.makers import TAG, Project, frame, make_project, synced_bytes, with_remote, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sockets of these tests lie where nobody else's do."""
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    for name in ("RUNTIME_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_USEC", "JOURNAL_STREAM"):
        monkeypatch.delenv(name, raising=False)


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


class TestOnce:
    def once(self, home: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, "--once", "--home", str(home)], capture_output=True, text=True, timeout=60
        )

    def test_it_syncs_and_exits(self, home: Path, stick: Path, project: Project) -> None:
        done = self.once(home)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("stick ")
        assert in_step(home, stick)

    def test_it_says_and_returns_that_the_stick_is_away(
        self, home: Path, stick: Path, project: Project
    ) -> None:
        (stick / "LOCALSTORE-REMOTE").unlink()
        done = self.once(home)
        assert done.returncode == 69
        assert "no localstore remote" in done.stderr

    def test_killed_at_any_moment_it_goes_on_where_it_was(
        self, home: Path, stick: Path, project: Project
    ) -> None:
        for _ in range(8):
            project.run()
        project.log(project.run(), frames=4, size=4_000_000)
        for milliseconds in range(300, 900, 100):
            process = subprocess.Popen(
                [*COMMAND, "--once", "--home", str(home)], stdout=subprocess.DEVNULL
            )
            try:
                process.wait(milliseconds / 1000)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
            have = synced_bytes(home)
            for name, data in synced_bytes(stick).items() if (stick / "projects").exists() else ():
                assert have[name].startswith(data)
        assert self.once(home).returncode == 0
        assert in_step(home, stick)


class TestServing:
    @pytest.fixture
    def daemon(self, home: Path) -> Iterator[Daemon]:
        with Daemon(home) as made:
            yield made

    def test_what_a_writer_made_is_there_within_two_seconds(
        self, home: Path, stick: Path, project: Project, daemon: Daemon
    ) -> None:
        wait_until(lambda: in_step(home, stick))
        run = localstore.init(project="live", id="one")
        waits = []
        try:
            wait_until(lambda: in_step(home, stick))
            for step in range(3):
                size, began = _bytes_in(stick), time.monotonic()
                run.log({"loss": float(step)})
                wait_until(partial(_is_more_than, stick, size))
                waits.append(time.monotonic() - began)
        finally:
            run.finish()
        assert statistics.median(waits) < 2.0
        wait_until(lambda: in_step(home, stick))

    def test_projects_come_and_vanish_while_it_serves(
        self, home: Path, stick: Path, project: Project, daemon: Daemon
    ) -> None:
        new = make_project(home)
        new.run()
        wait_until(lambda: in_step(home, stick))
        wait_until(lambda: _is_removed(project.paths.root))
        new.run()
        wake.touch(new.paths, new.subjects[-1])
        wait_until((stick / "projects" / new.id / "runs" / new.subjects[-1]).exists)
        assert daemon.process.poll() is None
        assert daemon.stop() == 0

    def test_a_remote_that_is_added_is_served_and_one_that_is_removed_is_not(
        self, home: Path, stick: Path, project: Project, daemon: Daemon
    ) -> None:
        with_remote(home, stick.with_name("two"), "two")
        wait_until(lambda: in_step(home, stick.with_name("two")))
        localstore_remotes = (home / "remotes.toml").read_text()
        (home / "remotes.toml").write_text(localstore_remotes.split("\n\n")[0] + "\n")
        wait_until(lambda: list(daemon.ask("status")["remotes"]) == ["stick"])

    def test_a_broken_remotes_file_stops_nothing_that_runs(
        self, home: Path, stick: Path, project: Project, daemon: Daemon
    ) -> None:
        wait_until(lambda: in_step(home, stick))
        good = (home / "remotes.toml").read_bytes()
        (home / "remotes.toml").write_bytes(b"[remotes")
        wait_until(lambda: "error remotes" in daemon.said)
        (home / "remotes.toml").write_bytes(good)
        project.run()
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: in_step(home, stick))

    def test_a_stick_that_comes_back_is_found_by_whoever_asks(
        self, home: Path, stick: Path, project: Project, daemon: Daemon
    ) -> None:
        wait_until(lambda: in_step(home, stick))
        away = stick.rename(stick.with_name("away"))
        project.run()
        assert "stick" in daemon.ask("sync")["report"]["failed"]
        wait_until(lambda: daemon.remote()["error"] is not None)
        away.rename(stick)
        assert daemon.ask("sync", remotes=["stick"])["report"]["ok"]
        assert in_step(home, stick)
        assert daemon.remote()["error"] is None

    def test_the_journal_holds_ids_and_no_names(
        self, home: Path, stick: Path, daemon: Daemon
    ) -> None:
        run = localstore.init(project="secretproject", id="secretrun", config={"k": "secretvalue"})
        run.log({"secretkey": 1.0})
        run.finish()
        wait_until(lambda: in_step(home, stick))
        assert daemon.stop() == 0
        assert "secret" not in daemon.said
        state = b"".join(path.read_bytes() for path in (home / "state").iterdir())
        assert b"secret" not in state

    def test_it_ends_at_once_when_asked_over_the_socket(self, daemon: Daemon) -> None:
        assert daemon.ask("stop") == {"stopping": True}
        assert daemon.process.wait(5) == 0
        assert not socket_path(daemon.home).exists()

    def test_the_verbs_answer(
        self, home: Path, stick: Path, project: Project, daemon: Daemon
    ) -> None:
        wait_until(lambda: in_step(home, stick))
        assert daemon.ask("ping")["pid"] == daemon.process.pid
        assert daemon.ask("pause", until_us=None) == {"paused": {"until_us": None}}
        wait_until(lambda: daemon.remote()["doing"] == "paused")
        assert daemon.ask("status")["paused"] == {"until_us": None}
        project.run()
        assert daemon.ask("resume") == {"paused": None}
        wait_until(lambda: in_step(home, stick))
        entries = daemon.ask("log", count=5)["entries"]
        assert entries[0]["remote"] == "stick"
        found = daemon.ask("explain", project=project.id, items=[])["items"]
        assert all(one["leaves"] for one in found)
        status = daemon.ask("status")
        assert status["watching"]["how"] == "events"
        assert status["standing"][0]["behind_items"] == 0
        assert {"rescan", "look", "verify", "collect", "expire"} <= set(status["jobs"])
        for do, args in (
            ("log", {"count": 0}),
            ("pause", {"until_us": "soon"}),
            ("sync", {"remotes": "stick"}),
            ("sync", {"remotes": ["none"]}),
            ("explain", {"project": 1}),
        ):
            with pytest.raises(LocalStoreError):
                daemon.ask(do, **args)

    def test_a_client_that_leaves_does_not_stop_what_it_began(
        self, home: Path, stick: Path, project: Project, daemon: Daemon
    ) -> None:
        wait_until(lambda: in_step(home, stick))
        project.run()
        wire = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        wire.connect(str(socket_path(home)))
        wire.sendall(b'{"v":1,"do":"sync","args":{}}\n')
        wire.close()
        wait_until(lambda: in_step(home, stick))
        assert daemon.ask("ping")["pid"] == daemon.process.pid


def _bytes_in(stick: Path) -> int:
    return sum(map(len, synced_bytes(stick).values()))


def _is_more_than(stick: Path, size: int) -> bool:
    return _bytes_in(stick) > size


def _is_removed(folder: Path) -> bool:
    """As `rm -rf`, again where something was put there meanwhile."""
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


def test_a_second_one_is_refused_with_its_exit_code(home: Path, stick: Path) -> None:
    with Daemon(home):
        second = subprocess.run(
            [*COMMAND, "--home", str(home)], capture_output=True, text=True, timeout=20
        )
        assert second.returncode == 73
        assert "another localstored" in second.stderr


def test_killed_again_and_again_it_leaves_nothing_half_done(
    home: Path, stick: Path, project: Project
) -> None:
    for _ in range(5):
        project.log(project.subjects[0], frames=3, size=1_000_000)
        with Daemon(home) as daemon:
            time.sleep(0.05)
            daemon.process.kill()
            daemon.process.wait(10)
        have = synced_bytes(home)
        there = synced_bytes(stick) if (stick / "projects").exists() else {}
        assert all(have[name].startswith(data) for name, data in there.items())
    with Daemon(home) as daemon:
        wait_until(lambda: in_step(home, stick))
        assert daemon.ask("ping")["pid"] == daemon.process.pid
        assert daemon.stop() == 0


def test_a_remote_that_hangs_does_not_keep_it_from_ending(
    home: Path, stick: Path, project: Project, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    with_remote(home, other, "other")
    with Daemon(home) as daemon:
        wait_until(lambda: in_step(home, stick) and in_step(home, other))
        log = next(project.paths.runs.glob("*/*.log"))
        # An append waits for a lock that somebody who hangs holds, as on a dead file server.
        with (other / log.relative_to(home)).open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            with log.open("ab") as file:
                file.write(frame(9))
            wake.touch(project.paths, log.parent.name)
            wait_until(lambda: in_step(home, stick))
            wait_until(lambda: daemon.remote("other")["doing"] == "syncing")
            began = time.monotonic()
            assert daemon.stop(seconds=6.0) == 0
            assert time.monotonic() - began < 5.5
        assert "hanging=1" in daemon.said


def test_a_pause_outlives_a_restart(home: Path, stick: Path, project: Project) -> None:
    (home / "state").mkdir(mode=0o700)
    (home / "state" / "pause.json").write_text('{"until_us": null}')
    with Daemon(home) as daemon:
        assert daemon.remote()["doing"] == "paused"
        assert not (stick / "projects").exists()
        report = daemon.ask("sync")["report"]
        assert report["ok"]
        assert in_step(home, stick)


def test_systemd_hears_how_it_is(home: Path, stick: Path, tmp_path: Path) -> None:
    wire = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    wire.bind(str(tmp_path / "notify"))
    wire.settimeout(5)
    heard: list[str] = []

    def hears(word: str) -> bool:
        try:
            heard.append(wire.recv(4096).decode())
        except TimeoutError:
            return False
        return any(word in one for one in heard)

    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"}
    with Daemon(home, **environment) as daemon:  # type: ignore[arg-type]
        wait_until(lambda: hears("READY=1"))
        wait_until(lambda: hears("WATCHDOG=1"))
        wait_until(lambda: hears("STATUS=stick: idle"))
        heard.clear()
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: hears("RELOADING=1"))
        wait_until(lambda: hears("READY=1"))
        daemon.process.send_signal(signal.SIGTERM)
        wait_until(lambda: hears("STOPPING=1"))
        assert daemon.process.wait(5) == 0
    wire.close()


def test_the_log_can_be_read_by_a_program(home: Path, stick: Path, project: Project) -> None:
    with Daemon(home, "--log-json", ready=False) as daemon:
        wait_until(lambda: '"event": "started"' in daemon.said)
        wait_until(lambda: in_step(home, stick))
        assert daemon.stop() == 0
    lines = [json.loads(line) for line in daemon.said.splitlines()]
    assert lines[-1]["event"] == "stopped"


def test_without_events_the_rescan_alone_brings_everything(
    home: Path, stick: Path, project: Project
) -> None:
    with Daemon(home, "--rescan", "1") as daemon:
        wait_until(lambda: in_step(home, stick))
        project.run()  # no hint is left
        wait_until(lambda: in_step(home, stick))
        assert daemon.stop() == 0


def test_help_says_what_it_does_and_how_it_ends() -> None:
    done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, timeout=20)
    for word in ("--rescan", "--interval", "SIGHUP", "73", "78", "no key"):
        assert word in done.stdout.replace("\n", " ")


def test_it_knows_whom_keyslots_address_without_a_key(home: Path) -> None:
    assert read_recipients(home) == frozenset()
    write(HomePaths(home).identity / "recipients", f"{TAG}\n{'ab' * 16}".encode())
    assert read_recipients(home) == {TAG, "ab" * 16}
