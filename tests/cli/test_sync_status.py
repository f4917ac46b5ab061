"""`localstore sync status` and `sync log`: how far, what is held, what to do, without a network."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from localstore.cli.sync_status import Row, _cells, _print_trouble, daemon_lines
from tests.cli.conftest import call
from tests.sync.makers import make_project, with_remote

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    return tmp_path / "stick"


@pytest.fixture
def home(tmp_path: Path, stick: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of these tests, with a stick and without a daemon."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "no-daemon-here"))
    monkeypatch.setenv("LOCALSTORE_CONSOLE", "true")
    return with_remote(tmp_path / "home", stick)


def standing() -> dict[str, Any]:
    document = json.loads(call("sync", "status", "--json").out)
    (one,) = document["standing"]
    return {**one, "in_step": document["in_step"], "names": document["names"]}


def test_before_a_sync_it_is_behind_and_afterwards_in_step(
    home: Path, make_run: Callable[..., str]
) -> None:
    make_run([{"loss": 1.0}])
    before = call("sync", "status", "--exit-code")
    assert before.code == 1
    row = next(line for line in before.out.splitlines() if line.startswith("stick"))
    assert "ada/digits" in row
    assert "behind " in row
    assert row.endswith("never")
    assert standing()["behind_bytes"] > 0
    assert call("sync", "now").code == 0
    after = call("sync", "status", "--exit-code")
    assert after.code == 0
    assert "in step" in after.out
    assert standing()["names"][standing()["project"]] == "ada/digits"
    make_run([{"loss": 2.0}])
    assert call("sync", "status", "--exit-code").code == 1
    assert call("sync", "status").code == 0  # only who asks for it gets the exit code


def test_what_policy_holds_is_not_behind_and_its_reason_is_said(home: Path) -> None:
    from localstore.format.spec import DataClass

    project = make_project(home)
    project.log("ab" * 16, DataClass.CONSOLE)
    call("sync", "now")
    done = call("sync", "status", "--exit-code")
    assert done.code == 0
    held = next(line for line in done.out.splitlines() if " held 1 (" in line)
    assert "console" in held
    assert held.startswith(f"stick {project.id[:16]} ")


def test_a_remote_that_failed_is_named_with_what_to_do(home: Path, stick: Path) -> None:
    make_project(home).run()
    call("sync", "now")
    marker = stick / "LOCALSTORE-REMOTE"
    text = marker.read_bytes()
    marker.unlink()
    assert call("sync", "now").code == 69
    done = call("sync", "status", "--exit-code")
    assert done.code == 1
    assert "in step, in trouble" in done.out
    assert "stick: error (" in done.out
    assert "stick: hint: is the disk mounted?" in done.out
    marker.write_bytes(text)
    assert call("sync", "now").code == 0
    assert "error" not in call("sync", "status").out


def test_a_remote_that_is_paused_and_in_trouble_is_both() -> None:
    row = Row(remote="stick", project="ab" * 32, items=0, size=0)
    trouble = {"error": {"text": "it is away"}}
    assert _cells(row, {**trouble, "doing": "paused"}, {})[2] == "in step, in trouble, paused"
    assert _cells(row, {**trouble, "doing": "waiting"}, {})[2] == "in step, in trouble"
    assert _cells(row, {"doing": "paused"}, {})[2] == "in step, paused"


@pytest.mark.parametrize(
    ("seconds", "doing", "said"),
    [
        (8.4, "waiting", "the daemon tries again in 8 s"),
        (600, "waiting", "the daemon tries again in 10 min"),
        (-70, "waiting", "the daemon tries again now"),
        (8.4, "paused", None),
        (-70, "syncing", None),
    ],
)
def test_when_it_is_tried_again_is_said_from_now_on(
    seconds: float,
    doing: str,
    said: str | None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_000_000.0)
    again = int((1_000_000 + seconds) * 1e6)
    remote = {"error": {"text": "it is away"}, "next_try_us": again, "doing": doing}
    _print_trouble("stick", remote, is_running=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["stick: error: it is away", *([f"stick: {said}"] if said else [])]


def test_it_needs_no_remote_no_key_and_no_project(tmp_path: Path, stick: Path) -> None:
    assert "no remote" in call("sync", "status").out
    with_remote(tmp_path / "home", stick)
    assert call("sync", "status", "--exit-code").code == 0
    project = make_project(tmp_path / "home")
    assert project.id[:16] in call("sync", "status").out


def test_a_policy_that_nobody_can_read_is_said(home: Path) -> None:
    make_project(home).run()
    (home / "policy.toml").write_text("[clases]\n")
    assert "warning: policy: " in call("sync", "status").out
    done = call("sync", "now")
    assert (done.code, "unknown key 'clases'" in done.err) == (78, True)


@pytest.mark.parametrize(
    ("found", "lines"),
    [
        ({"pid": None}, ["daemon: not running here; `localstore daemon start`, or sync by hand"]),
        ({"pid": 7}, ["daemon: running, process 7"]),
        (
            {"pid": 7, "paused": {"until_us": None}, "watching": {"problem": "no \x1b watches"}},
            [
                "daemon: running, process 7",
                "paused: until `localstore sync resume`",
                "warning: watching: no \\x1b watches",
            ],
        ),
        ({"pid": "x", "paused": 5, "damage": 3, "watching": []}, None),
    ],
)
def test_the_daemon_in_a_few_words(found: dict[str, Any], lines: list[str] | None) -> None:
    if lines is None:
        assert len(daemon_lines({**found, "damage": [3, {"name": "a"}]})) == 2
    else:
        assert daemon_lines(found) == lines


def test_a_daemon_on_another_machine_that_shares_the_home_is_named(home: Path) -> None:
    lease = home / "service.lease"
    lease.write_text("00000000000000000042" + json.dumps({"host": "login1", "pid": 4}))
    assert "daemon: running on login1, which shares this home" in call("sync", "status").out
    os.utime(lease, (time.time() - 3600,) * 2)
    assert "daemon: not running here" in call("sync", "status").out
    lease.write_bytes(b"\xff" * 100)
    assert "daemon: not running here" in call("sync", "status").out


# ------------------------------------------------------------------ the log
def test_the_log_has_what_moved_and_what_failed_the_newest_last(home: Path, stick: Path) -> None:
    assert call("sync", "log").out == ""
    make_project(home).run()
    call("sync", "now")
    (stick / "LOCALSTORE-REMOTE").unlink()
    call("sync", "now")
    first, second = call("sync", "log").out.splitlines()
    assert "  stick  pushed 7 (" in first
    assert "asked for" in first
    assert "failed: no localstore remote in" in second
    assert call("sync", "log", "-n", "1").out.splitlines() == [second]
    assert [entry["remote"] for entry in json.loads(call("sync", "log", "--json").out)] == [
        "stick"
    ] * 2


def test_a_log_that_a_crash_cut_is_read_as_far_as_it_goes(home: Path) -> None:
    make_project(home).run()
    call("sync", "now")
    with (home / "state/history.jsonl").open("ab") as file:
        file.write(b'[]\nnull\n{"time_us": 1, "remote": "a\\u001bb"}\n{"time_us": 17')
    lines = call("sync", "log").out.splitlines()
    assert len(lines) == 2
    assert "\x1b" not in lines[1]
