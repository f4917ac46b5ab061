"""Hints: what writers leave for the service, and what that costs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import localstore
from localstore import wake
from localstore.layout import HomePaths
from localstored.service.watcher import take_hints
from tests.sync.makers import make_project

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

SUBJECT = "ab" * 16


def hints(home: Path) -> dict[str, set[str]]:
    return {paths.id: take_hints(paths) for paths in HomePaths(home).all_projects()}


def test_a_hint_is_taken_once_and_then_made_anew(home: Path) -> None:
    paths = make_project(home).paths
    wake.touch(paths, SUBJECT)
    wake.touch(paths, SUBJECT)
    assert take_hints(paths) == {SUBJECT}
    assert take_hints(paths) == set()
    wake.touch(paths, SUBJECT)
    assert take_hints(paths) == {SUBJECT}


def test_hints_are_private_and_empty(home: Path) -> None:
    paths = make_project(home).paths
    wake.touch(paths, SUBJECT)
    file = wake.wake_folder(paths) / SUBJECT
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert file.read_bytes() == b""


def test_a_project_that_was_deleted_does_not_come_back(home: Path) -> None:
    paths = make_project(home).paths
    shutil.rmtree(paths.root)
    wake.touch(paths, SUBJECT)
    assert not paths.root.exists()


def test_a_disk_that_refuses_costs_the_hint_and_nothing_else(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = make_project(home).paths

    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(os, "utime", refuse)
    wake.touch(paths, SUBJECT)
    assert take_hints(paths) == set()


def test_names_that_are_no_hints_are_left_where_they_are(home: Path) -> None:
    paths = make_project(home).paths
    wake.touch(paths, SUBJECT)
    strange = wake.wake_folder(paths) / "..evil"
    strange.write_bytes(b"x")
    assert take_hints(paths) == {SUBJECT}
    assert strange.exists()


def test_a_run_leaves_a_hint_when_it_is_durable(home: Path) -> None:
    run = localstore.init(project="p", id="one")
    run.log({"loss": 1.0})
    run.finish()
    (found,) = hints(home).values()
    subjects = {path.name for path in HomePaths(home).all_projects()[0].runs.iterdir()}
    assert found - {wake.LINKS} == subjects


def test_a_tombstone_is_a_hint_for_the_whole_project(home: Path) -> None:
    localstore.init(project="p", id="one").finish()
    hints(home)
    done = subprocess.run(
        [sys.executable, "-c", "from localstore.cli import main; main()", "rm", "-y", "p/one"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    (found,) = hints(home).values()
    assert wake.LINKS in found


def test_log_itself_makes_no_call_for_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(wake, "touch", lambda _paths, subject: calls.append(subject))
    run = localstore.init(project="p", id="one")
    before = len(calls)
    for step in range(500):
        run.log({"loss": float(step)})
    during = len(calls) - before
    run.finish()
    assert during <= 3  # one for each second that 500 calls take
    assert len(calls) > before


def test_importing_it_pulls_nothing_heavy() -> None:
    code = (
        "import localstore.wake, sys; print([m for m in ('watchdog', 'nacl') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() in ("[]", "['nacl']")
