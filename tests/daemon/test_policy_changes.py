"""Rules that change while a real service sends over a slow line: what is held now stops."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from localstore import wake
from localstore.format.spec import DataClass
from tests.daemon.conftest import wait_until
from tests.daemon.running import Daemon, in_step
from tests.sync.makers import Project, make_project, with_remote

if TYPE_CHECKING:
    from pathlib import Path

OBJECTS = 120
OBJECT_BYTES = 100_000
SLOW = '[limits]\nupload = "500 KiB/s"\n'
HELD = '[classes]\nartifacts = "never"\n'


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
    made = with_remote(tmp_path / "home", stick)
    (made / "policy.toml").write_text(SLOW)
    return made


@pytest.fixture
def project(home: Path) -> Project:
    """A run with so many objects that the slow line is busy for long."""
    made, chance = make_project(home), random.Random(4)
    sizes = [OBJECT_BYTES + chance.randrange(1000) for _ in range(OBJECTS)]
    made.log(made.run(), DataClass.ARTIFACTS, refs=[made.object(size=size) for size in sizes])
    return made


def objects(stick: Path) -> dict[str, int]:
    """What has arrived, by name: its bytes."""
    return {path.name: path.stat().st_size for path in stick.glob("projects/*/objects/*/*")}


def test_tightening_stops_what_is_in_flight_and_nothing_else(
    home: Path, stick: Path, project: Project
) -> None:
    with Daemon(home) as daemon:
        wait_until(lambda: len(objects(stick)) >= 3, 30)
        (home / "policy.toml").write_text(SLOW + HELD)
        wait_until(lambda: "policy changed=" in daemon.said)  # it says that it knows
        wait_until(lambda: daemon.remote()["doing"] == "idle", 20)
        arrived = objects(stick)
        assert len(arrived) < OBJECTS
        # It lives and works: what may leave leaves, and a person who asks gets no more either.
        new = project.run()
        wake.touch(project.paths, new)
        wait_until(lambda: list(stick.glob(f"projects/*/runs/{new}/*.log")), 20)
        daemon.ask("sync")
        assert objects(stick) == arrived
        held = daemon.ask("explain", project=project.id, items=["class:artifacts"])["items"]
        assert not any(one["leaves"] for one in held)
        # Nothing is lost by it: what may leave again does.
        (home / "policy.toml").unlink()
        wait_until(lambda: in_step(home, stick), 60)
    assert len(objects(stick)) == OBJECTS


def test_a_rule_that_became_unreadable_stops_everything(
    home: Path, stick: Path, project: Project
) -> None:
    with Daemon(home) as daemon:
        wait_until(lambda: len(objects(stick)) >= 3, 30)
        (home / "policy.toml").write_text("[classes]\nartifacts = 'perhaps'\n")
        wait_until(lambda: "error policy" in daemon.said)
        wait_until(lambda: daemon.remote()["doing"] != "syncing", 20)
        arrived = objects(stick)
        assert len(arrived) < OBJECTS
        new = project.run()
        daemon.ask("sync")
        assert objects(stick) == arrived
        assert not list(stick.glob(f"projects/*/runs/{new}/*.log"))
