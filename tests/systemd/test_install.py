"""`localstore daemon` with a real user manager: installed, seen, stopped, started, gone."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.systemd.booted import NEEDS, SYSTEMD, booted, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.systemd.booted import Machine

pytestmark = [
    pytest.mark.real(*NEEDS),
    pytest.mark.skipif(not Path(SYSTEMD).exists(), reason="there is no systemd here"),
]
COMMAND = Path(sys.executable).with_name("localstore")
AS_ME = ["env", "-i", f"PATH={os.environ['PATH']}", "HOME=/home/me", "XDG_RUNTIME_DIR=/run/user/0"]
UNIT = "/home/me/.config/systemd/user/localstored.service"
MANAGER = f"""\
[Service]
Type=notify
Environment=XDG_RUNTIME_DIR=/run/user/0 HOME=/home/me
ExecStart={SYSTEMD} --user --unit=ours.target --log-target=console
Delegate=yes
"""


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A systemd in which root has a manager of its own, as every user has after a login."""
    made = Path(tempfile.mkdtemp(prefix="lsunits"))
    (made / "units").mkdir()
    (made / "units" / "manager.service").write_text(MANAGER)
    try:
        with booted(made / "units") as machine:
            folder = machine.path(UNIT).parent
            folder.mkdir(parents=True)
            machine.path("/run/user/0").mkdir(mode=0o700, parents=True)
            for name in ("ours", "default", "basic", "shutdown"):
                (folder / f"{name}.target").write_text(f"[Unit]\nDescription={name}\n")
            machine.run("systemctl", "start", "manager")
            yield machine
    finally:
        shutil.rmtree(made)


def test_the_daemon_is_installed_seen_stopped_started_and_gone(machine: Machine) -> None:
    def call(*words: str, check: bool = True) -> str:
        return machine.run(*AS_ME, str(COMMAND), *words, check=check)

    assert call("daemon", "status", check=False).startswith("not running")
    call("daemon", "install")
    assert machine.path(UNIT).exists()
    status = call("daemon", "status")
    assert status.startswith("running, process ")
    assert "systemd user unit localstored.service: enabled, active/running" in status
    process = int(status.split()[2].rstrip(","))
    assert machine.path(f"/proc/{process}").exists()

    call("daemon", "restart")
    again = call("daemon", "status")
    assert again.startswith("running, process ")
    assert again.split()[2] != status.split()[2]

    call("daemon", "stop")
    assert call("daemon", "status", check=False).startswith("not running")
    call("daemon", "start")
    assert call("daemon", "status").startswith("running")
    call("daemon", "install")  # again: nothing is lost

    call("daemon", "uninstall")
    assert not machine.path(UNIT).exists()
    assert not machine.path(f"{UNIT}.d").exists()
    wait_until(
        lambda: call("daemon", "status", check=False).startswith("not running"), "stopped for good"
    )


def test_a_second_home_has_a_unit_of_its_own(machine: Machine) -> None:
    def call(home: str, *words: str) -> str:
        return machine.run(*AS_ME, str(COMMAND), "--home", home, *words)

    for home in ("/home/me/first", "/home/me/second"):
        call(home, "daemon", "install")
    units = {path.name for path in machine.path(UNIT).parent.glob("localstored-*.service")}
    assert len(units) == 2
    first, second = (call(f"/home/me/{one}", "daemon", "status") for one in ("first", "second"))
    assert first.split()[2] != second.split()[2]
    call("/home/me/first", "daemon", "stop")
    assert call("/home/me/second", "daemon", "status").startswith("running")
