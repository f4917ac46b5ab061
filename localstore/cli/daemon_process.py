"""The service as a plain process in the background: a pid file and a log in the home's `state/`.

For machines without systemd and launchd. It ends with the machine; `cron` can start it again.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from localstore import settings
from localstore.cli.terminal import inert
from localstore.control import NotAnswering, connect
from localstore.durable import make_folder, replace_file
from localstore.errors import LocalStoreError, NotFound
from localstore.layout import FILE_MODE

if TYPE_CHECKING:
    from collections.abc import Callable

START_TIMEOUT_S: Final = 60.0  # a cold start on a large home
STOP_TIMEOUT_S: Final = 15.0
_LOOK_S: Final = 0.05
_FOLLOW_S: Final = 0.5
_MAX_LOG_BYTES: Final = 5_000_000
_TAIL_BYTES: Final = 1 << 20
# Its output goes to the log, which is stderr here; the pipe that tells its number is ours alone.
_IN_BACKGROUND: Final = '"$@" >&2 & echo $!'


class NotStarted(LocalStoreError):
    """The service ended before it answered."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the pid file says."""

    pid: int
    host: str

    @property
    def is_here(self) -> bool:
        """Whether it was started on this machine."""
        return self.host == os.uname().nodename

    @property
    def is_alive(self) -> bool:
        """Whether that process is still the service: numbers come again."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return False  # another account's: not ours
        words = Path(f"/proc/{self.pid}/cmdline")
        try:
            return b"localstored" in words.read_bytes()
        except OSError:
            return not Path("/proc/self").exists()


@dataclass(frozen=True, slots=True)
class Plain:
    """The service of one home as a process of its own."""

    home: Path
    command: Callable[[], list[str]]

    @property
    def log_file(self) -> Path:
        """What the service says; ids and numbers alone."""
        return self.home / "state" / "daemon.log"

    @property
    def pid_file(self) -> Path:
        """Which process on which machine."""
        return self.home / "state" / "daemon.json"

    def known(self) -> Known | None:
        """What the pid file says; None without one."""
        try:
            raw = json.loads(self.pid_file.read_bytes())
        except (OSError, ValueError):
            return None
        match raw:
            case {"pid": int(pid), "host": str(host)} if pid > 1:
                return Known(pid, host)
        return None

    @property
    def ends_with_machine(self) -> bool:
        """Whether the service is gone after a reboot: yes."""
        return True

    def describe(self) -> str:
        """Which process, on which machine."""
        known = self.known()
        if known is None:
            return "no unit and no pid file"
        if not known.is_here:
            return f"plain process {known.pid}, started on {known.host}"
        return f"plain process {known.pid}" + ("" if known.is_alive else ", which is gone")

    def install(self) -> None:
        """There is nothing to install: start it."""
        self.start()

    def uninstall(self) -> None:
        """Stop it, and forget its process; what it said stays, for who asks later."""
        self.stop()
        self.pid_file.unlink(missing_ok=True)

    def start(self) -> None:
        """Start it, and wait until it answers.

        Raises:
            NotStarted: it ended at once, or never answered; with the end of its log.
        """
        if _answers(self.home):
            return
        make_folder(self.log_file.parent)
        self._turn_log()
        pid = self._spawn()
        facts = {"pid": pid, "host": os.uname().nodename}
        replace_file(self.pid_file, json.dumps(facts).encode())
        self._wait_for(pid)

    def _spawn(self) -> int:
        """Start it in a session of its own, a child of nobody here; returns its number."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        handle = os.open(self.log_file, flags, FILE_MODE)
        try:
            done = subprocess.run(
                ["/bin/sh", "-c", _IN_BACKGROUND, "sh", *self.command()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=handle,
                env=settings.child_environment(self.home),
                cwd="/",
                start_new_session=True,
                check=True,
            )
        finally:
            os.close(handle)
        return int(done.stdout)

    def _wait_for(self, pid: int) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if _answers(self.home):  # also where another one was faster
                return
            if _is_gone(pid):
                self.pid_file.unlink(missing_ok=True)
                last = inert(" / ".join(self._last(3)) or "it said nothing")
                raise NotStarted(f"localstored ended at once: {last}", hint=f"see {self.log_file}")
            time.sleep(_LOOK_S)
        raise NotStarted(f"localstored does not answer after {START_TIMEOUT_S:.0f} s")

    def _turn_log(self) -> None:
        """Keep one older log, so that no log fills a disk."""
        try:
            if self.log_file.stat().st_size > _MAX_LOG_BYTES:
                self.log_file.replace(self.log_file.with_suffix(".log.1"))
        except FileNotFoundError:
            return

    def stop(self) -> None:
        """Ask it to stop, and wait; one that does not is killed.

        Raises:
            NotFound: it runs on another machine.
        """
        known = self.known()
        pid = _asked_to_stop(self.home)
        if known is not None and known.is_here and known.is_alive:
            pid = known.pid
            _signal(known.pid, signal.SIGTERM)
        elif pid is None and known is not None and not known.is_here:
            raise NotFound(
                f"the daemon was started on {known.host} and does not answer here",
                hint=f"on {known.host}: localstore daemon stop",
            )
        if pid is not None:
            _wait_for_end(pid)
        self.pid_file.unlink(missing_ok=True)

    # -------------------------------------------------------------- its log
    def _last(self, count: int) -> list[str]:
        return _last_lines(self.log_file, count)

    def logs(self, lines: int, *, follow: bool) -> None:
        """Print the end of its log; with `follow` what is added, until interrupted.

        Raises:
            NotFound: there is no log.
        """
        if not self.log_file.exists():
            raise NotFound(f"no log {self.log_file}", hint="`localstore daemon start` makes one")
        at = self.log_file.stat().st_size
        for line in self._last(lines):
            click.echo(inert(line))
        while follow:
            time.sleep(_FOLLOW_S)
            at = self._print_from(at)

    def _print_from(self, at: int) -> int:
        try:
            size = self.log_file.stat().st_size
            with self.log_file.open("rb") as file:
                file.seek(at if size >= at else 0)  # a log that was turned begins anew
                data = file.read(_TAIL_BYTES)
                end = file.tell()
        except FileNotFoundError:
            return 0
        for line in data.decode("utf-8", "replace").splitlines():
            click.echo(inert(line))
        return end


def _last_lines(path: Path, count: int) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            return file.read().decode("utf-8", "replace").splitlines()[-count:]
    except FileNotFoundError:
        return []


# ------------------------------------------------------------------ the process
def _answers(home: Path) -> bool:
    try:
        client = connect(home)
    except NotAnswering:
        return True  # of another version: it is there
    if client is None:
        return False
    client.close()
    return True


def _asked_to_stop(home: Path) -> int | None:
    """Ask over the control socket; the process that promised to stop."""
    try:
        client = connect(home)
        if client is None:
            return None
        with client:
            pid = client.facts.get("pid")
            client.call("stop")
    except NotAnswering:
        return None
    return pid if isinstance(pid, int) and pid > 1 else None


def _signal(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _is_gone(pid: int) -> bool:
    """Whether a process has ended; a child of ours that nobody waited for has, too."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
        return stat.rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return not _signal(pid, 0)  # asks, and sends nothing


def _wait_for_end(pid: int) -> None:
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while not _is_gone(pid):
        if time.monotonic() > deadline:
            _signal(pid, signal.SIGKILL)
            return
        time.sleep(_LOOK_S)
