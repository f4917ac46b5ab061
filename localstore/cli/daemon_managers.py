"""Who keeps the service running: systemd, launchd, or a plain process with a pid file.

Each manager installs, starts, stops and tells for one home. They differ in what survives: a unit
comes back after a reboot, a plain process does not.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from localstore import settings
from localstore.cli import terminal
from localstore.cli.daemon_process import Plain
from localstore.cli.daemon_units import (
    LAUNCHD_LABEL,
    NO_NAMESPACES,
    SANDBOX_FAILURES,
    property_list,
    user_unit,
)
from localstore.control import socket_name
from localstore.durable import replace_file
from localstore.errors import LocalStoreError, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

_LIBRARIES: Final = ("apscheduler", "watchdog", "httpx", "obstore")
_SYSTEMCTL_TIMEOUT_S: Final = 180.0  # a start waits for READY, at most for TimeoutStartSec


class Manager(Protocol):
    """Keeps the service of one home running."""

    @property
    def ends_with_machine(self) -> bool:
        """Whether the service is gone after a reboot."""

    def describe(self) -> str:
        """What it is and in which state, for a person."""

    def install(self) -> None:
        """Have the service started now, and at every login where the manager can."""

    def uninstall(self) -> None:
        """Stop it, and forget it."""

    def start(self) -> None:
        """Start it; nothing happens when it runs."""

    def stop(self) -> None:
        """Stop it; nothing happens when it does not run."""

    def logs(self, lines: int, *, follow: bool) -> None:
        """Print what it said; with `follow` until interrupted."""


class ManagerRefused(LocalStoreError):
    """systemd or launchd did not do as it was told."""


def command() -> list[str]:
    """How the service is started: the command beside this Python, else the one in PATH.

    Raises:
        NotFound: it is not installed, or its libraries are not.
    """
    hint = "pip install 'localstore[daemon]'"
    beside = Path(sys.executable).with_name("localstored")
    lacking = [name for name in _LIBRARIES if beside.exists() and find_spec(name) is None]
    if lacking:
        raise NotFound(f"the daemon lacks what it is made with: {', '.join(lacking)}", hint=hint)
    found = str(beside) if beside.exists() else shutil.which("localstored")
    if found is None:
        raise NotFound("the command localstored is not here", hint=hint)
    return [found]


def manager_of(home: Path, *, installing: bool = False) -> Manager:
    """Who keeps the service of this home; while installing, who is best at it here."""
    for one in (Systemd(home), Launchd(home)):
        if one.is_installed or (installing and one.is_here):
            return one
    return Plain(home, command)


def _run(words: Sequence[str], *, timeout_s: float = 30.0) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            list(words), capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        return subprocess.CompletedProcess(list(words), 127, "", str(problem))


def _variables(home: Path) -> dict[str, str]:
    """What the service must know that its manager would not tell it."""
    return {"LOCALSTORE_HOME": str(home)} if home != settings.default_home() else {}


# ------------------------------------------------------------------ systemd
@dataclass(frozen=True, slots=True)
class Systemd:
    """A unit of the user's own systemd."""

    home: Path

    @property
    def ends_with_machine(self) -> bool:
        """Whether the service is gone after a reboot: no."""
        return False

    @property
    def unit(self) -> str:
        """Name of the unit: one for each home."""
        other = "" if not _variables(self.home) else f"-{socket_name(self.home)[:8]}"
        return f"localstored{other}.service"

    @property
    def file(self) -> Path:
        """Where the unit stands."""
        return settings.user_config_folder() / "systemd" / "user" / self.unit

    @property
    def is_installed(self) -> bool:
        """Whether `install` was here."""
        return self.file.exists()

    @property
    def is_here(self) -> bool:
        """Whether a systemd of this user answers."""
        return shutil.which("systemctl") is not None and self._ctl("show", "-p", "Version") == ""

    def _ctl(self, *words: str) -> str:
        """Run `systemctl --user`; what it complained of, empty when it did not."""
        done = _run(["systemctl", "--user", *words], timeout_s=_SYSTEMCTL_TIMEOUT_S)
        return "" if done.returncode == 0 else (done.stderr.strip() or f"exit {done.returncode}")

    def _must(self, *words: str) -> None:
        problem = self._ctl(*words)
        if problem:
            hint = f"`journalctl --user -u {self.unit} -n 20` says why"
            raise ManagerRefused(f"systemctl --user {' '.join(words)}: {problem}", hint=hint)

    def _property(self, name: str) -> str:
        words = ["systemctl", "--user", "show", self.unit, "-p", name, "--value"]
        return _run(words).stdout.strip()

    def describe(self) -> str:
        """Its unit, whether it is enabled and active."""
        enabled = _run(["systemctl", "--user", "is-enabled", self.unit]).stdout.strip()
        state = "/".join(filter(None, map(self._property, ("ActiveState", "SubState"))))
        text = f"systemd user unit {self.unit}: {enabled or 'unknown'}, {state or 'unknown'}"
        said = self._property("StatusText")
        return f"{text}: {said}" if said else text

    def install(self) -> None:
        """Write the unit, enable and start it; without namespaces where the kernel has none."""
        replace_file(self.file, user_unit([*command()], _variables(self.home)).encode())
        self._must("daemon-reload")
        self._must("enable", self.unit)
        problem = self._ctl("restart", self.unit)
        if problem and self._sandbox_failed():
            replace_file(
                self.file.with_name(f"{self.unit}.d") / "no-namespaces.conf", NO_NAMESPACES.encode()
            )
            terminal.warning("this kernel gives users no namespaces: the unit goes without them")
            self._must("daemon-reload")
            self._ctl("reset-failed", self.unit)
            problem = self._ctl("restart", self.unit)
        if problem:
            hint = f"`journalctl --user -u {self.unit} -n 20` says why"
            raise ManagerRefused(f"{self.unit} did not start: {problem}", hint=hint)
        self._tell_of_lingering()

    def _sandbox_failed(self) -> bool:
        status = self._property("ExecMainStatus")
        return status.isdigit() and int(status) in SANDBOX_FAILURES

    def _tell_of_lingering(self) -> None:
        done = _run(["loginctl", "show-user", str(os.getuid()), "-p", "Linger", "--value"])
        if done.stdout.strip() == "no":
            terminal.note("it runs while you are logged in; for always: loginctl enable-linger")

    def uninstall(self) -> None:
        """Disable it, stop it, remove the unit."""
        self._ctl("disable", "--now", self.unit)
        shutil.rmtree(self.file.with_name(f"{self.unit}.d"), ignore_errors=True)
        self.file.unlink(missing_ok=True)
        self._ctl("daemon-reload")
        self._ctl("reset-failed", self.unit)

    def start(self) -> None:
        """Start the unit; returns when the service is ready."""
        self._must("start", self.unit)

    def stop(self) -> None:
        """Stop the unit."""
        self._must("stop", self.unit)

    def logs(self, lines: int, *, follow: bool) -> None:
        """Print its journal."""
        words = ["journalctl", "--user", "-u", self.unit, "-n", str(lines), "--no-pager"]
        subprocess.run([*words, *(["-f"] if follow else [])], check=False)


# ------------------------------------------------------------------ launchd
@dataclass(frozen=True, slots=True)
class Launchd:
    """A launch agent of macOS."""

    home: Path

    @property
    def ends_with_machine(self) -> bool:
        """Whether the service is gone after a reboot: no."""
        return False

    @property
    def file(self) -> Path:
        """Where the property list stands."""
        return Path.home() / "Library" / "LaunchAgents" / f"{LAUNCHD_LABEL}.plist"

    @property
    def is_here(self) -> bool:
        """Whether this is macOS."""
        return sys.platform == "darwin"

    @property
    def is_installed(self) -> bool:
        """Whether `install` was here."""
        return self.is_here and self.file.exists()

    @property
    def _domain(self) -> str:
        return f"gui/{os.getuid()}"

    def _must(self, *words: str) -> None:
        done = _run(["launchctl", *words])
        if done.returncode:
            raise ManagerRefused(f"launchctl {' '.join(words)}: {done.stderr.strip()}")

    def describe(self) -> str:
        """Whether launchd knows it."""
        done = _run(["launchctl", "print", f"{self._domain}/{LAUNCHD_LABEL}"])
        state = next((one.strip() for one in done.stdout.splitlines() if "state =" in one), "")
        return f"launch agent {LAUNCHD_LABEL}: {state or 'not loaded'}"

    def install(self) -> None:
        """Write the property list and load it."""
        log = Plain(self.home, command).log_file
        variables = {"LOCALSTORE_HOME": str(self.home)}
        replace_file(self.file, property_list(command(), variables, log))
        _run(["launchctl", "bootout", f"{self._domain}/{LAUNCHD_LABEL}"])
        self._must("bootstrap", self._domain, str(self.file))

    def uninstall(self) -> None:
        """Unload it and remove the list."""
        self.stop()
        self.file.unlink(missing_ok=True)

    def start(self) -> None:
        """Load it."""
        self._must("bootstrap", self._domain, str(self.file))

    def stop(self) -> None:
        """Unload it; it comes back at the next login."""
        _run(["launchctl", "bootout", f"{self._domain}/{LAUNCHD_LABEL}"])

    def logs(self, lines: int, *, follow: bool) -> None:
        """Print its log file."""
        Plain(self.home, command).logs(lines, follow=follow)
