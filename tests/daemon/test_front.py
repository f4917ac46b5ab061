"""Sync now, status, pause and resume in process: the same rules, the same traces."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from localstore import wake
from localstore.errors import NotFound
from localstore.remotes import read_remotes
from localstored import front
from localstored.remotes.base import Stopped
from localstored.service.state import Pause, State
from localstored.service.watcher import take_hints
from tests.daemon.running import in_step
from tests.sync.conftest import no_sleep
from tests.sync.makers import Project, make_project, with_remote

if TYPE_CHECKING:
    from pathlib import Path


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


def test_a_sync_leaves_the_traces_that_the_service_leaves(
    home: Path, stick: Path, project: Project
) -> None:
    assert front.sync_now(home, sleep=no_sleep).ok
    assert in_step(home, stick)
    state = State(home).remote(read_remotes(home)["stick"].id)
    assert state.last_success_us == state.last_try_us
    assert state.pushed_bytes > 0
    (entry,) = State(home).history(10)
    assert (entry["remote"], entry["by"], entry["error"]) == ("stick", "person", None)
    assert entry["pushed"] == 7


def test_a_failure_leaves_its_reason_and_what_to_do(
    home: Path, stick: Path, project: Project
) -> None:
    (stick / "LOCALSTORE-REMOTE").unlink()
    assert not front.sync_now(home, sleep=no_sleep).ok
    error = State(home).remote(read_remotes(home)["stick"].id).error
    assert error is not None
    assert "no localstore remote" in error.text
    assert "mounted" in error.hint
    assert State(home).history(1)[0]["error"] == error.text


def test_a_dry_run_leaves_no_trace(home: Path, stick: Path, project: Project) -> None:
    wake.touch(project.paths, project.subjects[0])
    before = {path: path.stat().st_mtime_ns for path in sorted(home.rglob("*"))}
    report = front.sync_now(home, dry_run=True, sleep=no_sleep)
    assert report.projects[0].lines
    assert {path: path.stat().st_mtime_ns for path in sorted(home.rglob("*"))} == before


def test_without_a_service_hints_do_not_pile_up(home: Path, project: Project) -> None:
    wake.touch(project.paths, project.subjects[0])
    front.sync_now(home, sleep=no_sleep)
    assert take_hints(project.paths) == set()


def test_it_keeps_to_the_policy(home: Path, stick: Path, project: Project) -> None:
    (home / "policy.toml").write_text('[classes]\nmetrics = "never"\n')
    report = front.sync_now(home, sleep=no_sleep)
    assert report.projects[0].standing.held
    assert not in_step(home, stick)


def test_it_always_tries_also_during_a_pause(home: Path, stick: Path, project: Project) -> None:
    front.pause(home)
    assert front.sync_now(home, sleep=no_sleep).ok
    assert in_step(home, stick)


def test_it_can_be_stopped_between_two_files(home: Path, stick: Path, project: Project) -> None:
    def stop() -> None:
        raise Stopped

    with pytest.raises(Stopped):
        front.sync_now(home, check=stop, sleep=no_sleep)
    assert not in_step(home, stick)
    assert front.sync_now(home, sleep=no_sleep).ok


def test_a_remote_that_nobody_added_is_an_error(home: Path) -> None:
    with pytest.raises(NotFound, match="stick"):
        front.sync_now(home, remotes=["none"])


def test_status_without_a_service_has_the_same_form(
    home: Path, stick: Path, project: Project
) -> None:
    front.sync_now(home, sleep=no_sleep)
    front.pause(home, 2**60)
    found = front.status(home)
    json.dumps(found)
    assert found["pid"] is None
    assert found["paused"] == {"until_us": 2**60}
    assert found["remotes"]["stick"]["doing"] == "stopped"
    assert found["remotes"]["stick"]["last_success_us"] is not None
    assert found["standing"][0]["behind_items"] == 0
    assert found["policy"] == {"ok": True, "problem": ""}
    (home / "policy.toml").write_text("nonsense = 1\n")
    assert "nonsense" in front.status(home)["policy"]["problem"]


def test_pause_and_resume_are_for_a_service_that_starts_later(home: Path) -> None:
    front.pause(home, 5)
    assert State(home).pause() == Pause(5)
    front.resume(home)
    assert State(home).pause() is None
