"""`localstore daemon` where there is neither systemd nor launchd: a plain process of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

import pytest

from localstore.cli.daemon_process import Plain
from tests.cli.conftest import COMMAND, call
from tests.sync.makers import make_project, with_remote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    return tmp_path / "stick"


@pytest.fixture
def home(tmp_path: Path, stick: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home with a stick, on a machine without service managers; its daemon ends with the test."""
    runtime = tempfile.mkdtemp(prefix="ls")
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    home = with_remote(tmp_path / "home", stick)
    yield home
    known = Plain(home, list).known()
    if known is not None and known.is_alive:
        os.kill(known.pid, signal.SIGKILL)
    shutil.rmtree(runtime, ignore_errors=True)


def facts() -> dict[str, Any]:
    done = call("daemon", "status", "--json")
    found: dict[str, Any] = json.loads(done.out)
    assert found["running"] == (done.code == 0)
    return found


def test_it_starts_syncs_says_so_and_stops(home: Path, stick: Path) -> None:
    project = make_project(home)
    before = call("daemon", "status")
    assert (before.code, before.out.splitlines()[0]) == (3, "not running")
    assert call("daemon", "start").code == 0
    running = facts()
    assert running["home"] == str(home)
    wait_until((stick / "projects" / project.id).is_dir)
    assert call("daemon", "start").code == 0  # nothing happens
    assert facts()["pid"] == running["pid"]
    logs = call("daemon", "logs", "-n", "5")
    assert logs.code == 0
    assert 0 < len(logs.out.splitlines()) <= 5
    assert (home / "state" / "daemon.log").stat().st_mode & 0o777 == 0o600

    began = time.monotonic()
    assert call("daemon", "stop").code == 0
    assert time.monotonic() - began < 10
    assert call("daemon", "status").code == 3
    assert call("daemon", "stop").code == 0  # nothing is wrong


def test_a_restart_is_another_process_and_uninstall_leaves_the_home(home: Path) -> None:
    assert call("daemon", "install").code == 0
    first = facts()["pid"]
    assert call("daemon", "restart").code == 0
    assert facts()["pid"] != first
    assert call("daemon", "uninstall").code == 0
    assert not facts()["running"]
    assert not (home / "state" / "daemon.json").exists()
    assert (home / "remotes.toml").exists()


def test_each_command_says_what_became_of_the_daemon(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCALSTORE_QUIET", "0")
    assert "the daemon did not run" in call("daemon", "stop").err
    installed = call("daemon", "install").err
    pid = facts()["pid"]
    assert f"the daemon runs, process {pid}\n" in installed
    assert "it ends with this machine" in installed
    assert "@reboot localstore daemon start" in installed
    assert f"the daemon runs already, process {pid}\n" in call("daemon", "start").err
    again = call("daemon", "restart").err
    later = facts()["pid"]
    assert f"the daemon runs, process {later}\n" in again
    assert f"stopped, process {later}\n" in call("daemon", "stop").err
    assert "it ends with this machine" in call("daemon", "start").err


def test_uninstalling_keeps_what_it_said(home: Path) -> None:
    call("daemon", "install")
    log = home / "state" / "daemon.log"
    said = log.read_text()
    assert said
    assert call("daemon", "uninstall").code == 0
    assert log.read_text().startswith(said)


def test_without_its_libraries_it_is_not_started_and_says_what_to_install(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("localstore.cli.daemon_managers._LIBRARIES", ("no_such_library",))
    outcome = call("daemon", "start")
    assert outcome.code == 66
    assert "no_such_library" in outcome.err
    assert "pip install 'localstore[daemon]'" in outcome.err
    assert not (home / "state" / "daemon.json").exists()


def test_sync_now_goes_through_the_daemon_and_without_it_after_its_death(
    home: Path, stick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(home)
    project.run()
    monkeypatch.setenv("LOCALSTORE_QUIET", "0")
    assert call("daemon", "start").code == 0
    pid = facts()["pid"]
    through = call("sync", "now")
    assert through.code == 0, through.err
    assert f"the daemon syncs (process {pid})" in through.err
    assert through.out.startswith(f"stick {project.id[:16]} pushed ")
    assert len(list(stick.rglob("*.log"))) == 2
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: call("daemon", "status").code == 3)
    project.run()
    alone = call("sync", "now")
    assert alone.code == 0, alone.err
    assert "the daemon syncs" not in alone.err
    assert len(list(stick.rglob("*.log"))) == 4


def test_a_daemon_that_hangs_does_not_hang_the_command(home: Path) -> None:
    make_project(home).run()
    call("daemon", "start")
    pid = facts()["pid"]

    def is_idle() -> bool:
        said = json.loads(call("sync", "status", "--json").out)
        return bool(said["in_step"]) and said["remotes"]["stick"]["doing"] == "idle"

    wait_until(is_idle)
    os.kill(pid, signal.SIGSTOP)
    try:
        done = call("sync", "now")
        assert done.code == 0, done.err
        assert done.out.startswith("stick ")
    finally:
        os.kill(pid, signal.SIGCONT)


def test_of_ten_runs_nine_arrive_through_the_daemon_too(home: Path, stick: Path) -> None:
    project = make_project(home)
    logs = [project.log(f"{number:02x}" * 16) for number in range(10)]
    logs[3].write_bytes(b"no segment" * 100)
    call("daemon", "start")
    done = call("sync", "now")
    assert done.code == 69
    assert logs[3].stem in done.err
    assert {path.name for path in stick.rglob("*.log")} == {
        log.name for log in logs if log is not logs[3]
    }
    assert call("sync", "now", "--remote", "no").code == 66


# ------------------------------------------------------------------ pause
def test_a_pause_holds_the_daemon_and_not_the_person(home: Path, stick: Path) -> None:
    project = make_project(home)
    call("daemon", "start")
    wait_until((stick / "projects" / project.id).is_dir)
    assert call("sync", "pause").code == 0
    assert "paused: until `localstore sync resume`" in call("sync", "status").out
    project.run()
    assert call("sync", "now").code == 0
    assert len(list(stick.rglob("*.log"))) == 2
    assert call("sync", "resume").code == 0
    assert "paused" not in call("sync", "status").out


def test_a_pause_without_a_daemon_is_obeyed_by_the_next_one(home: Path, stick: Path) -> None:
    make_project(home).run()
    assert call("sync", "pause", "--for", "2h").code == 0
    assert "paused: until 2" in call("sync", "status").out
    call("daemon", "start")
    time.sleep(0.2)
    assert "paused: until 2" in call("sync", "status").out
    assert not list(stick.rglob("*.log"))
    call("sync", "resume")
    wait_until(lambda: len(list(stick.rglob("*.log"))) == 2)


# ------------------------------------------------------------------ what can go wrong
def test_a_daemon_that_cannot_start_says_why(home: Path) -> None:
    (home / "config.toml").write_text("quite = true\n")
    words = [str(COMMAND), "--home", str(home), "daemon", "start"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 78
    assert "did you mean 'quiet'?" in done.stderr
    assert not (home / "state" / "daemon.json").exists()


def test_a_pid_file_of_another_process_stops_nobody(home: Path) -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        (home / "state").mkdir()
        host = os.uname().nodename
        (home / "state/daemon.json").write_text(json.dumps({"pid": bystander.pid, "host": host}))
        assert "which is gone" in call("daemon", "status").out
        assert call("daemon", "stop").code == 0
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_daemon_of_another_machine_is_named(home: Path) -> None:
    (home / "state").mkdir()
    (home / "state/daemon.json").write_text(json.dumps({"pid": 4, "host": "login1"}))
    assert "started on login1" in call("daemon", "status").out
    done = call("daemon", "stop")
    assert done.code == 66
    assert "on login1: localstore daemon stop" in done.err


def test_what_an_administrator_does_is_printed_and_not_done(home: Path) -> None:
    done = call("daemon", "install", "--system")
    assert done.code == 0
    assert "User=%i" in done.out
    assert "systemctl enable --now localstored@ACCOUNT" in done.err
    assert call("daemon", "status").code == 3


def test_a_log_that_was_cut_is_followed_from_its_new_beginning(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = Plain(home, list)
    (home / "state").mkdir()
    plain.log_file.write_text("one\ntwo\n")
    turns = iter(["one\ntwo\nthree\n", "new\n"])

    def write(_seconds: float) -> None:
        try:
            plain.log_file.write_text(next(turns))
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr("localstore.cli.daemon_process.time.sleep", write)
    with pytest.raises(KeyboardInterrupt):
        plain.logs(1, follow=True)
    assert capsys.readouterr().out.splitlines() == ["two", "three", "new"]
