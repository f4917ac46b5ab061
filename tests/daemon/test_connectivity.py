"""A real service on a machine whose network comes, goes and costs, as a NetworkManager says."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from localstore import wake
from localstore.format.spec import DataClass
from localstore.remotes import add_remote, read_remotes
from localstored.remotes import claim, open_remote
from tests.conditions.bus import Desktop, private_bus
from tests.daemon.conftest import wait_until
from tests.daemon.running import Daemon
from tests.sync.makers import Project, contents, make_project, synced_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.house.servers import S3Server

pytestmark = pytest.mark.real("dbus-daemon")

NOWHERE, EVERYWHERE = 1, 4  # NM_CONNECTIVITY_NONE, NM_CONNECTIVITY_FULL
METERED, UNMETERED = 1, 2


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Sockets of these tests lie where nobody else's do; so does the system's bus."""
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    for name in ("RUNTIME_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_USEC", "JOURNAL_STREAM"):
        monkeypatch.delenv(name, raising=False)
    with private_bus(tmp_path) as address:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
        yield address


@pytest.fixture
def desktop(runtime: str) -> Iterator[Desktop]:
    made = Desktop(runtime)
    yield made
    made.close()


@pytest.fixture
def home(rclone_s3: S3Server, tmp_path: Path) -> Path:
    """A home with a bucket as its remote."""
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    url = f"s3://{rclone_s3.bucket}/{secrets.token_hex(8)}"
    add_remote(folder, "cloud", url, claim=claim, **rclone_s3.options)
    return folder


@pytest.fixture
def project(home: Path) -> Project:
    made = make_project(home)
    made.run()
    return made


def arrived(home: Path) -> dict[str, bytes]:
    """What the bucket holds."""
    return contents(open_remote(read_remotes(home)["cloud"]))


def test_without_a_network_only_a_person_tries_and_its_return_wakes_the_service(
    home: Path, project: Project, desktop: Desktop
) -> None:
    desktop.run_network_manager("Office")
    with Daemon(home) as daemon:
        wait_until(lambda: arrived(home) == synced_bytes(home), 20)
        desktop.change(Connectivity=NOWHERE)
        wait_until(lambda: daemon.remote("cloud")["doing"] == "offline")
        wake.touch(project.paths, project.run())
        wait_until(lambda: daemon.remote("cloud")["queued_subjects"])
        assert len(arrived(home)) < len(synced_bytes(home))
        # What a manager says may be wrong: who asks gets an attempt.
        assert daemon.ask("sync")["report"]["ok"]
        assert arrived(home) == synced_bytes(home)
        wake.touch(project.paths, project.run())
        wait_until(lambda: daemon.remote("cloud")["queued_subjects"])
        desktop.change(Connectivity=EVERYWHERE)
        wait_until(lambda: arrived(home) == synced_bytes(home), 20)


def test_where_the_network_costs_what_may_not_leave_waits_for_another(
    home: Path, project: Project, desktop: Desktop
) -> None:
    (home / "policy.toml").write_text(
        '[rules.large]\nclasses = ["artifacts"]\nnetwork = "unmetered"\n'
    )
    project.log(project.run(), DataClass.ARTIFACTS, refs=[project.object()])
    desktop.manager.values["Metered"] = METERED
    desktop.run_network_manager("Phone")

    def objects() -> list[str]:
        return [name for name in arrived(home) if "/objects/" in name]

    with Daemon(home) as daemon:
        wait_until(lambda: len([n for n in arrived(home) if n.endswith(".log")]) == 4, 20)
        wait_until(lambda: daemon.remote("cloud")["doing"] == "idle")
        assert not objects()
        desktop.change(Metered=UNMETERED)
        wait_until(lambda: arrived(home) == synced_bytes(home), 30)
