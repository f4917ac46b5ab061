"""`localstore sync now`: what it says, what it leaves undone, and how it ends."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from localstore.cli.sync import Job
from tests.cli.conftest import call
from tests.sync.makers import make_project, with_remote

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    return tmp_path / "stick"


@pytest.fixture
def home(tmp_path: Path, stick: Path) -> Path:
    """The home of these tests, with the stick as its remote."""
    return with_remote(tmp_path / "home", stick)


# ------------------------------------------------------------------ what arrives
def test_it_names_projects_where_the_key_is_and_says_what_moved(
    home: Path, make_run: Callable[..., str]
) -> None:
    make_run([{"loss": 1.0}])
    done = call("sync", "now")
    assert done.code == 0, done.err
    assert done.out.startswith("stick ada/digits pushed ")
    assert " pulled 0 (0 B) " in done.out
    assert call("sync", "now").out.startswith("stick ada/digits pushed 0 (0 B)")


def test_without_the_key_a_project_goes_by_its_number(home: Path) -> None:
    project = make_project(home)
    project.run()
    assert call("sync", "now").out.startswith(f"stick {project.id[:16]} pushed 7 (")


def test_a_name_cannot_move_the_cursor(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make_project(home)
    monkeypatch.setattr("localstore.cli.context.project_names", lambda: {project.id: "a\t\x1bb"})
    assert call("sync", "now").out.startswith("stick a\\t\\x1bb pushed 4 (")


def test_what_somebody_took_away_by_hand_comes_back_with_a_full_listing(
    home: Path, stick: Path
) -> None:
    log = make_project(home).log("aa" * 16)
    assert call("sync", "now").code == 0
    taken = stick / log.relative_to(home)
    taken.unlink()
    assert call("sync", "now").code == 0
    assert not taken.exists()  # stamps say that nobody changed anything
    assert call("sync", "now", "--full").code == 0
    assert taken.read_bytes() == log.read_bytes()


def test_of_ten_runs_of_which_one_is_damaged_nine_arrive_and_the_exit_code_says_so(
    home: Path, stick: Path
) -> None:
    project = make_project(home)
    logs = [project.log(f"{number:02x}" * 16) for number in range(10)]
    logs[3].write_bytes(b"no segment" * 100)
    done = call("sync", "now")
    assert done.code == 69
    assert f"{logs[3].stem}.log at byte 0: not a segment" in done.err
    assert "localstore: hint: run `localstore verify" in done.err
    arrived = {path.name for path in stick.rglob("*.log")}
    assert arrived == {log.name for number, log in enumerate(logs) if number != 3}
    assert call("sync", "now", "--json").code == 69


def test_a_remote_that_is_away_does_not_stop_the_other(
    home: Path, stick: Path, tmp_path: Path
) -> None:
    with_remote(home, tmp_path / "second", "second")
    make_project(home).run()
    (stick / "LOCALSTORE-REMOTE").unlink()
    done = call("sync", "now")
    assert done.code == 69
    assert "localstore: error: remote stick: no localstore remote in" in done.err
    assert "second" in done.out
    assert list((tmp_path / "second").rglob("*.log"))


def test_only_the_remote_and_project_that_are_named_are_synced(
    home: Path, stick: Path, tmp_path: Path
) -> None:
    with_remote(home, tmp_path / "second", "second")
    first, other = make_project(home), make_project(home)
    assert call("sync", "now", "--remote", "second", "--project", first.id).code == 0
    assert not (stick / "projects").exists()
    assert [path.name for path in (tmp_path / "second/projects").iterdir()] == [first.id]
    assert other.id != first.id
    unknown = call("sync", "now", "--remote", "secnod")
    assert (unknown.code, unknown.out) == (66, "")
    assert "second" in unknown.err


def test_json_is_alone_on_stdout_and_has_the_names(
    home: Path, make_run: Callable[..., str]
) -> None:
    make_run([{"loss": 1.0}])
    report = json.loads(call("sync", "now", "--json").out)
    (project,) = report["projects"]
    assert report["ok"] is True
    assert report["names"] == {project["project"]: "ada/digits"}
    assert project["pushed"] > 0


# ------------------------------------------------------------------ a dry run
def test_a_dry_run_sums_up_and_changes_nothing(
    home: Path, stick: Path, make_run: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCALSTORE_CONSOLE", "true")
    make_run([{"loss": 1.0}])
    done = call("sync", "now", "--dry-run")
    assert done.code == 0
    lines = done.out.splitlines()
    assert all(line.startswith("stick ada/digits ") for line in lines)
    assert any(" push keys and links " in line for line in lines)
    assert len(lines) < 10
    assert not (stick / "projects").exists()


def test_a_verbose_dry_run_names_every_file(home: Path, stick: Path) -> None:
    make_project(home).run()
    done = call("sync", "now", "--dry-run", "--verbose")
    assert done.code == 0
    assert len(done.out.splitlines()) == 7
    assert all(" push create " in line for line in done.out.splitlines())
    assert not (stick / "projects").exists()


def test_a_dry_run_says_what_is_held_and_why(home: Path) -> None:
    from localstore.format.spec import DataClass

    make_project(home).log("ab" * 16, DataClass.CONSOLE)
    held = [one for one in call("sync", "now", "-n").out.splitlines() if " hold " in one]
    assert len(held) == 1
    assert "console" in held[0]


# ------------------------------------------------------------------ waiting
class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now, self.slept = 0.0, list[float]()

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def _wait(job: Job, clock: Clock, timeout_s: float | None = None) -> dict[str, Any]:
    def longest(_low: float, high: float) -> float:
        return high

    return job.until_done(timeout_s, clock=clock, sleep=clock.sleep, jitter=longest)


def test_waiting_ends_when_the_stick_is_back(home: Path, stick: Path) -> None:
    make_project(home).run()
    text = (stick / "LOCALSTORE-REMOTE").read_bytes()
    (stick / "LOCALSTORE-REMOTE").unlink()
    clock = Clock()
    sleep = clock.sleep

    def plug_in(seconds: float) -> None:
        sleep(seconds)
        if len(clock.slept) == 3:
            (stick / "LOCALSTORE-REMOTE").write_bytes(text)

    clock.sleep = plug_in  # type: ignore[method-assign]
    assert _wait(Job(home, {}), clock)["ok"]
    assert clock.slept == [2, 4, 8]


def test_waiting_gives_up_when_its_time_is_over(home: Path, stick: Path) -> None:
    make_project(home).run()
    (stick / "LOCALSTORE-REMOTE").unlink()
    clock = Clock()
    assert not _wait(Job(home, {}), clock, timeout_s=300)["ok"]
    assert max(clock.slept) == 60
    assert 240 <= clock.now <= 300


def test_waiting_does_not_wait_for_what_only_a_person_mends(home: Path) -> None:
    make_project(home).log("ab" * 16).write_bytes(b"no segment" * 100)
    clock = Clock()
    assert not _wait(Job(home, {}), clock)["ok"]
    assert clock.slept == []


@pytest.mark.parametrize(
    "text", ["10", "soon", "", "1h30", "-5m", "0s", "99w99999d", "5 fortnights"]
)
def test_a_length_of_time_without_a_unit_is_refused(text: str) -> None:
    done = call("sync", "pause", "--for", text)
    assert done.code == 2
    assert "--for" in done.err


def test_a_nodes_home_that_only_writes_is_carried_away_by_the_jobs_last_act(
    home: Path, stick: Path, tmp_path: Path, make_run: Callable[..., str]
) -> None:
    """As docs/deploy/slurm.md has it: ticket, remote, training, `sync now --wait`."""
    ticket, node = str(tmp_path / "ticket"), str(with_remote(tmp_path / "node", stick))
    make_run([{"loss": 1.0}], id="before")
    made = call("project", "ticket", "--deposit", "--project", "digits", ticket)
    assert made.code == 0, made.err
    assert call("enroll", ticket, LOCALSTORE_HOME=node).code == 0
    script = "import localstore; r = localstore.init(project='digits', id='job'); r.log({'x': 7})"
    environment = {**os.environ, "LOCALSTORE_HOME": node}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=60)
    last = call("sync", "now", "--wait", "--timeout", "1m", LOCALSTORE_HOME=node)
    assert last.code == 0, last.err
    assert call("sync", "status", "--exit-code", LOCALSTORE_HOME=node).code == 0
    shutil.rmtree(node)
    assert call("sync", "now").code == 0
    assert "job" in call("ls", "digits").out


# ------------------------------------------------------------------ nothing to do
def test_a_home_without_remotes_is_told_how_to_add_one(home: Path) -> None:
    call("remote", "rm", "stick")
    done = call("sync", "now")
    assert done.code == 0
    assert "nothing to sync: no remote" in done.out


def test_a_home_without_a_key_is_told_to_recover_it(tmp_path: Path) -> None:
    with_remote(tmp_path / "home", tmp_path / "s")
    done = call("sync", "now")
    assert done.code == 0
    assert "localstore key recover" in done.out


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["snc"], "sync"),
        (["sync", "noww"], "now"),
        (["sync", "now", "--dry-rn"], "--dry-run"),
        (["config", "set", "projct", "x"], "project"),
    ],
)
def test_what_is_nearly_right_is_named(words: list[str], meant: str) -> None:
    done = call(*words)
    assert done.code in (2, 78)
    assert "did you mean" in done.err.lower()
    assert f"{meant!r}" in done.err
