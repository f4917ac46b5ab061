"""A real systemd as PID 1 of private namespaces, with our units and nothing else of this machine.

Needs root. It has a /run and a /home of its own (both in memory), no journal and no network setup;
what services print goes to a file. It ends with the block that booted it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SYSTEMD: Final = "/lib/systemd/systemd"
NEEDS: Final = ("root", "unshare", "nsenter", "systemctl", "setpriv")
_BOOT_S: Final = 30.0
_MOUNTS: Final = """
mount --make-rshared /
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /home
mkdir -p /run/dbus /run/lock
umount -l /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
exec env -i container=test SYSTEMD_UNIT_PATH="$1" PATH="$PATH" \
  {systemd} --system --unit=ours.target --log-target=console --show-status=no
"""
_TARGET: Final = "[Unit]\nDescription=what these tests start\n"


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"still not {what}"
        time.sleep(0.05)


@dataclass(frozen=True, slots=True)
class Machine:
    """A booted systemd.

    Attributes:
        pid: of its PID 1, as this test sees it. units: its folder of units. log: what it printed.
    """

    pid: int
    units: Path
    log: Path

    def run(self, *words: str, check: bool = True) -> str:
        """Run a command in it as root; what it printed."""
        enter = ["nsenter", "-t", str(self.pid), "-p", "-m", "-i", "-u", "-C"]
        done = subprocess.run([*enter, *words], capture_output=True, text=True, timeout=60)
        if check:
            assert done.returncode == 0, f"{words}: {done.stderr}\n{self.log.read_text()[-3000:]}"
        return done.stdout.strip()

    def property(self, unit: str, name: str, *manager: str) -> str:
        """One property of a unit."""
        return self.run(*manager, "systemctl", *_user(manager), "show", unit, f"-P{name}")

    def main_pid(self, unit: str) -> int:
        """The main process of a service, as it is called inside; 0 when there is none."""
        return int(self.property(unit, "MainPID"))

    def path(self, inside: str) -> Path:
        """A file of it, seen from here."""
        return Path(f"/proc/{self.pid}/root") / inside.lstrip("/")


def _user(manager: Sequence[str]) -> list[str]:
    return ["--user"] if manager else []


@contextlib.contextmanager
def booted(folder: Path) -> Iterator[Machine]:
    """Boot one, with the units that `folder` holds, which everybody may read."""
    for name in ("sysinit", "basic", "shutdown"):
        text = Path(f"/lib/systemd/system/{name}.target").read_text()
        kept = [line for line in text.splitlines() if not line.startswith(("Wants", "Requires"))]
        (folder / f"{name}.target").write_text("\n".join(kept))
    (folder / "ours.target").write_text(_TARGET)
    log = folder.parent / "systemd.log"
    words = ["unshare", "--pid", "--fork", "--mount", "--ipc", "--uts", "--cgroup"]
    words += ["--propagation", "private", "--kill-child", "bash", "-ec"]
    with log.open("wb") as out:
        outer = subprocess.Popen(
            [*words, _MOUNTS.format(systemd=SYSTEMD), "bash", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        machine = Machine(_first_process(outer, log), folder, log)
        wait_until(
            lambda: machine.run("systemctl", "is-system-running", check=False) == "running",
            "booted",
            _BOOT_S,
        )
        yield machine
    finally:
        # TERM makes it start anew; with its PID 1 a namespace ends.
        for child in _children(outer.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        outer.kill()
        outer.wait(20)


def _first_process(outer: subprocess.Popen[bytes], log: Path) -> int:
    found: list[int] = []

    def is_up() -> bool:
        if outer.poll() is not None:
            pytest.skip(f"no systemd of our own in this container: {log.read_text()[-200:]}")
        found[:] = [pid for pid in _children(outer.pid) if _name(pid) == "systemd"]
        return bool(found)

    wait_until(is_up, "an inner PID 1", _BOOT_S)
    return found[0]


def _children(pid: int) -> list[int]:
    with contextlib.suppress(FileNotFoundError):
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _name(pid: int) -> str:
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def copy_unit(unit: Path, folder: Path, **dropins: str) -> None:
    """Put a unit into a folder, with drop-ins by their names."""
    shutil.copy(unit, folder / unit.name)
    below = folder / f"{unit.name}.d"
    below.mkdir(exist_ok=True)
    for name, text in dropins.items():
        (below / f"{name}.conf").write_text(text)
