"""The watcher: hints arrive at once, by events or by polling, whatever happens to the folders."""

from __future__ import annotations

import errno
import shutil
import time
from typing import TYPE_CHECKING

import pytest

from localstore import wake
from localstored.service import watcher as module
from localstored.service.watcher import Watcher
from tests.daemon.conftest import Said, wait_until
from tests.sync.makers import make_project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUBJECT, OTHER = "ab" * 16, "cd" * 16


class Heard:
    """What a watcher told."""

    def __init__(self) -> None:
        self.hints: dict[str, set[str]] = {}
        self.calls = self.home = 0
        self.projects: set[str] = set()

    def on_hints(self, hints: dict[str, set[str]]) -> None:
        self.calls += 1
        for project, subjects in hints.items():
            self.hints.setdefault(project, set()).update(subjects)

    def on_home(self) -> None:
        self.home += 1

    def on_projects(self, changed: frozenset[str]) -> None:
        self.projects |= changed


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture(params=["events", "polling"])
def watching(
    request: pytest.FixtureRequest,
    home: Path,
    heard: Heard,
    said: Said,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Watcher]:
    monkeypatch.setattr(module, "POLL_S", 0.1)
    made = Watcher(
        home,
        said.journal,
        on_hints=heard.on_hints,
        on_home=heard.on_home,
        on_projects=heard.on_projects,
        network=request.param == "polling",
    )
    made.start()
    yield made
    made.stop()
    made.join(5)
    assert not made.is_alive


def test_a_hint_arrives_within_a_second(watching: Watcher, home: Path, heard: Heard) -> None:
    project = make_project(home)
    wait_until(lambda: project.id in heard.projects)
    began = time.monotonic()
    wake.touch(project.paths, SUBJECT)
    wait_until(lambda: heard.hints.get(project.id) == {SUBJECT})
    assert time.monotonic() - began < 1.5
    heard.hints.clear()
    wake.touch(project.paths, SUBJECT)
    wait_until(lambda: heard.hints.get(project.id) == {SUBJECT})


def test_a_project_that_comes_with_its_hints_is_not_missed(
    watching: Watcher, home: Path, heard: Heard
) -> None:
    project = make_project(home)
    wake.touch(project.paths, SUBJECT)
    wait_until(lambda: SUBJECT in heard.hints.get(project.id, ()))


def test_a_project_deleted_under_it_is_forgotten_and_never_made_again(
    watching: Watcher, home: Path, heard: Heard
) -> None:
    gone, stays = make_project(home), make_project(home)
    wait_until(lambda: {gone.id, stays.id} <= heard.projects)
    heard.projects.clear()
    shutil.rmtree(gone.paths.root)
    wait_until(lambda: gone.id in heard.projects)
    wake.touch(stays.paths, OTHER)
    wait_until(lambda: heard.hints.get(stays.id) == {OTHER})
    assert not gone.paths.root.exists()
    assert watching.is_alive


def test_a_folder_of_hints_that_was_thrown_away_is_watched_anew(
    watching: Watcher, home: Path, heard: Heard
) -> None:
    project = make_project(home)
    wait_until(lambda: project.id in heard.projects)
    shutil.rmtree(project.paths.local)
    wait_until(wake.wake_folder(project.paths).is_dir)
    time.sleep(0.15)
    wake.touch(project.paths, SUBJECT)
    wait_until(lambda: heard.hints.get(project.id) == {SUBJECT})


def test_a_changed_file_of_the_home_is_told(watching: Watcher, home: Path, heard: Heard) -> None:
    (home / "remotes.toml").write_text("")
    wait_until(lambda: heard.home > 0)


def test_a_rescan_alone_finds_every_hint(home: Path, heard: Heard, said: Said) -> None:
    project = make_project(home)
    wake.touch(project.paths, SUBJECT)
    deaf = Watcher(
        home,
        said.journal,
        on_hints=heard.on_hints,
        on_home=heard.on_home,
        on_projects=heard.on_projects,
    )
    deaf._known = {project.id: project.paths}
    deaf.rescan()
    deaf._watch = lambda wanted: None  # type: ignore[method-assign] # no event ever comes
    deaf.look()
    assert heard.hints == {project.id: {SUBJECT}}


def test_many_hints_of_one_moment_are_told_together(home: Path, heard: Heard, said: Said) -> None:
    project = make_project(home)
    made = Watcher(
        home,
        said.journal,
        on_hints=heard.on_hints,
        on_home=heard.on_home,
        on_projects=heard.on_projects,
    )
    made.start()
    try:
        for number in range(200):
            wake.touch(project.paths, f"{number:032x}")
        wait_until(lambda: len(heard.hints.get(project.id, ())) == 200)
        assert heard.calls <= 5
    finally:
        made.stop()
        made.join(5)


@pytest.mark.parametrize("limit", [errno.ENOSPC, errno.EMFILE])
@pytest.mark.parametrize("where", ["watch", "instance"])
def test_a_limit_of_inotify_is_a_warning_and_polling_and_nothing_is_lost(
    home: Path,
    heard: Heard,
    said: Said,
    monkeypatch: pytest.MonkeyPatch,
    limit: int,
    where: str,
) -> None:
    from watchdog.observers.inotify_c import InotifyFD

    def refuse(*_: object) -> None:
        raise OSError(limit, "the limit of inotify")

    name = "_get_or_create_watch" if where == "watch" else "_create_inotify_fd"
    monkeypatch.setattr(InotifyFD, name, refuse if where == "watch" else staticmethod(refuse))
    monkeypatch.setattr(module, "POLL_S", 0.1)
    project = make_project(home)
    made = Watcher(
        home,
        said.journal,
        on_hints=heard.on_hints,
        on_home=heard.on_home,
        on_projects=heard.on_projects,
        network=False,
    )
    made.start()
    try:
        assert made.how == "polling"
        assert said.text.count("max_user_watches") == 1
        wake.touch(project.paths, SUBJECT)
        wait_until(lambda: heard.hints.get(project.id) == {SUBJECT})
    finally:
        made.stop()
        made.join(5)


def test_more_projects_than_threads_are_worth_are_looked_at_each_second(
    home: Path, heard: Heard, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WATCHED_PROJECTS", 2)
    monkeypatch.setattr(module, "POLL_S", 0.1)
    projects = [make_project(home) for _ in range(5)]
    made = Watcher(
        home,
        said.journal,
        on_hints=heard.on_hints,
        on_home=heard.on_home,
        on_projects=heard.on_projects,
    )
    made.start()
    try:
        assert made.folders == 7  # the home, the projects, two watched and three polled
        for _ in range(2):
            heard.hints.clear()
            for project in projects:
                wake.touch(project.paths, SUBJECT)
            wait_until(lambda: len(heard.hints) == 5)
    finally:
        made.stop()
        made.join(5)
