"""What systemd is told, heard on a real socket."""

from __future__ import annotations

import os
import re
import socket
from typing import TYPE_CHECKING

import pytest

from localstore import settings
from localstored.service.notify_systemd import Systemd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Manager:
    """A service manager that only listens."""

    def __init__(self, address: str) -> None:
        self.wire = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.wire.bind("\0" + address[1:] if address.startswith("@") else address)
        self.wire.settimeout(5)
        self.address = address

    def heard(self) -> str:
        return self.wire.recv(4096).decode()

    def has_more(self) -> bool:
        self.wire.settimeout(0.05)
        try:
            self.wire.recv(4096)
        except TimeoutError:
            return False
        finally:
            self.wire.settimeout(5)
        return True


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    name = f"@localstore-test-{os.getpid()}"
    made = Manager(str(tmp_path / "notify") if request.param == "path" else name)
    yield made
    made.wire.close()


@pytest.mark.parametrize(
    ("say", "said"),
    [
        (Systemd.ready, "READY=1"),
        (Systemd.stopping, "STOPPING=1"),
        (Systemd.alive, "WATCHDOG=1"),
    ],
)
def test_each_word_as_systemd_wants_it(
    manager: Manager, say: Callable[[Systemd], None], said: str
) -> None:
    say(Systemd(manager.address, 60_000_000))
    assert manager.heard() == said


def test_a_reload_says_when_it_began(manager: Manager) -> None:
    Systemd(manager.address).reloading()
    assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", manager.heard())


def test_a_status_is_one_line_and_said_once(manager: Manager) -> None:
    systemd = Systemd(manager.address)
    systemd.status("stick: idle\nREADY=1")
    assert manager.heard() == "STATUS=stick: idle READY=1"
    systemd.status("stick: idle\nREADY=1")
    assert not manager.has_more()


def test_pings_come_twice_as_often_as_they_must() -> None:
    assert Systemd("/x", 60_000_000).ping_s == 30.0
    assert Systemd("/x").ping_s == 0.0
    assert Systemd("", 60_000_000).ping_s == 0.0


def test_nobody_who_waits_for_no_ping_gets_one(manager: Manager) -> None:
    Systemd(manager.address).alive()
    assert not manager.has_more()


def test_a_manager_that_is_gone_does_no_harm(tmp_path: Path) -> None:
    systemd = Systemd(str(tmp_path / "nobody"), 1_000_000)
    systemd.ready()
    systemd.status("x")
    systemd.alive()


def test_a_watchdog_meant_for_another_process_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "5000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert settings.service_environment().watchdog_us == 5_000_000
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert settings.service_environment().watchdog_us == 0
    monkeypatch.setenv("WATCHDOG_USEC", "soon")
    assert settings.service_environment().watchdog_us == 0


def test_children_get_no_secret_and_no_manager(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALSTORE_PASSPHRASE", "correct horse")
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/x")
    monkeypatch.setenv("PATH", "/bin")
    given = settings.child_environment(home)
    assert "correct horse" not in given.values()
    assert "NOTIFY_SOCKET" not in given
    assert (given["PATH"], given["LOCALSTORE_HOME"]) == ("/bin", str(home))
