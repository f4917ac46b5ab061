"""The units in a real systemd: ready when ready, started again, stopped, in their sandbox."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.systemd.booted import NEEDS, SYSTEMD, booted, copy_unit, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.systemd.booted import Machine

pytestmark = [
    pytest.mark.real(*NEEDS),
    pytest.mark.skipif(not Path(SYSTEMD).exists(), reason="there is no systemd here"),
]
UNITS = Path(__file__).parents[2] / "systemd"
SERVICE = "localstored@root.service"
HOME = "/home/store"
COMMAND = Path(sys.executable).with_name("localstored")
# What a machine's administrator would write with `systemctl edit`, and shorter waits.
DROPIN = f"""\
[Service]
Environment=LOCALSTORE_HOME={HOME}
ExecStart=
ExecStart={COMMAND}
ReadWritePaths=/home
StandardOutput=file:/run/out.log
StandardError=file:/run/out.log
WatchdogSec=3
RestartSec=100ms
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of units that every account may read."""
    made = Path(tempfile.mkdtemp(prefix="lsunits"))
    (made / "units").mkdir()
    made.chmod(0o755)
    yield made / "units"
    shutil.rmtree(made)


@pytest.fixture
def machine(folder: Path) -> Iterator[Machine]:
    """A systemd with the template unit, as an administrator would have set it up."""
    copy_unit(UNITS / "localstored@.service", folder, here=DROPIN)
    with booted(folder) as machine:
        (machine.path(HOME)).mkdir()
        yield machine


def test_it_is_ready_is_watched_comes_back_and_stops_at_once(machine: Machine) -> None:
    """One boot for the whole life of a service: each step is told by the assertion that fails."""
    machine.path("/run/credstore").mkdir()
    machine.path("/run/credstore/localstore.identity").write_text("x")
    # `start` returns when READY=1 was said: the socket is there by then.
    machine.run("systemctl", "start", SERVICE)
    assert machine.property(SERVICE, "ActiveState") == "active"
    assert list(machine.path("/run/localstore/root").glob("*.sock"))
    assert machine.property(SERVICE, "StatusText")
    first = machine.main_pid(SERVICE)
    assert first > 1

    # What the unit forbids is forbidden, what it allows works.
    status = machine.path(f"/proc/{first}/status").read_text()
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert int(facts["CapBnd"], 16) == 0
    assert facts["NoNewPrivs"] == "1"
    assert facts["Seccomp"] == "2"
    assert (machine.path(HOME) / "localstored.lock").exists()

    # A credential of the machine's store reaches it, and without one it would have started, too.
    environment = machine.path(f"/proc/{first}/environ").read_bytes().split(b"\0")
    named = dict(one.split(b"=", 1) for one in environment if b"=" in one)
    credential = f"{named[b'CREDENTIALS_DIRECTORY'].decode()}/localstore.identity"
    assert machine.path(credential).read_text() == "x"

    # Hung: no sign of life, so systemd kills it and starts another one.
    machine.run("kill", "-STOP", str(first))
    wait_until(lambda: machine.main_pid(SERVICE) not in (0, first), "restarted after a hang")
    wait_until(lambda: _is_active(machine), "active after a hang")
    assert machine.property(SERVICE, "NRestarts") == "1"

    # Killed: the same.
    second = machine.main_pid(SERVICE)
    machine.run("kill", "-KILL", str(second))
    wait_until(lambda: machine.main_pid(SERVICE) not in (0, second), "restarted after a kill")
    wait_until(lambda: _is_active(machine), "active after a kill")

    # A reload is not a restart.
    third = machine.main_pid(SERVICE)
    machine.run("systemctl", "reload", SERVICE)
    assert machine.main_pid(SERVICE) == third

    began = time.monotonic()
    machine.run("systemctl", "stop", SERVICE)
    assert time.monotonic() - began < 10
    assert machine.property(SERVICE, "Result") == "success"
    assert machine.property(SERVICE, "ExecMainStatus") == "0"


def _is_active(machine: Machine) -> bool:
    return machine.property(SERVICE, "ActiveState") == "active"


def test_what_only_a_person_can_mend_is_not_tried_again(machine: Machine) -> None:
    (machine.path(HOME) / "config.toml").write_text("no_such_setting = 1\n")
    machine.run("systemctl", "start", SERVICE, check=False)
    wait_until(
        lambda: machine.property(SERVICE, "ActiveState") == "failed", "failed for its settings"
    )
    assert machine.property(SERVICE, "ExecMainStatus") == "78"
    assert machine.property(SERVICE, "NRestarts") == "0"
    assert "no_such_setting" in machine.path("/run/out.log").read_text()


# ------------------------------------------------------------------ a user's own manager
NOBODY = 65534
MANAGER = f"""\
[Service]
User={NOBODY}
Type=notify
Environment=SYSTEMD_UNIT_PATH=%s XDG_RUNTIME_DIR=/run/user/{NOBODY} HOME=/home/nobody
ExecStartPre=+/bin/sh -c 'install -d -o {NOBODY} -m 700 /run/user/{NOBODY} /home/nobody'
ExecStart={SYSTEMD} --user --unit=ours.target --log-target=console
Delegate=yes
"""
# An account that may not read this project's Python: what is tried is the sandbox, not the service.
STAND_IN = """\
[Service]
NotifyAccess=all
WatchdogSec=0
Restart=no
ExecStart=
ExecStart=/bin/sh -c 'systemd-notify --ready && exec sleep 1000'
"""


def test_a_user_without_rights_can_start_the_unit_with_or_without_namespaces(folder: Path) -> None:
    """Kernels differ: where the first way ends with a sandbox's failure, the second one works."""
    from localstore.cli.daemon_units import SANDBOX_FAILURES

    own = folder.with_name("user")
    own.mkdir()
    (own / "ours.target").write_text("[Unit]\nDescription=ours\n")
    for name in ("basic", "shutdown", "default"):
        (own / f"{name}.target").write_text(f"[Unit]\nDescription={name}\n")
    copy_unit(UNITS / "localstored.service", own, a=STAND_IN)
    (folder / "manager.service").write_text(MANAGER % own)
    with booted(folder) as machine:
        machine.run("systemctl", "start", "manager")
        as_user = ["setpriv", f"--reuid={NOBODY}", "--clear-groups"]
        as_user += ["env", f"XDG_RUNTIME_DIR=/run/user/{NOBODY}"]
        ctl = [*as_user, "systemctl", "--user"]
        machine.run(*ctl, "start", "localstored", check=False)
        if machine.property("localstored", "ActiveState", *as_user) != "active":
            status = machine.property("localstored", "ExecMainStatus", *as_user)
            assert int(status) in SANDBOX_FAILURES
            shutil.copy(UNITS / "no-namespaces.conf", own / "localstored.service.d/b.conf")
            machine.run(*ctl, "daemon-reload")
            machine.run(*ctl, "reset-failed", "localstored")
            machine.run(*ctl, "start", "localstored")
        assert machine.property("localstored", "ActiveState", *as_user) == "active"
        process = machine.property("localstored", "MainPID", *as_user)
        status = machine.path(f"/proc/{process}/status").read_text()
        assert "NoNewPrivs:\t1" in status
        assert "Seccomp:\t2" in status
        machine.run(*ctl, "stop", "localstored")
        assert machine.property("localstored", "Result", *as_user) == "success"
