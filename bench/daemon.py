"""A real `localstored` in a process of its own, watched from outside through /proc."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.core import program, say

if TYPE_CHECKING:
    from bench.core import Bench

_READY_S: Final = 120.0
_STOP_S: Final = 10.0
_LOOK_S: Final = 0.02
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class Daemon:
    """Serves a home from `with` on; killed at the end, if it still runs.

    Attributes:
        ready_s: seconds from its start until it said that it is ready.
    """

    def __init__(self, bench: Bench, home: Path) -> None:
        self.home, self._log = home, bench.scratch / f"{home.name}.daemon.log"
        self._told = bench.scratch / "notify"
        self._environment = bench.environment() | {"NOTIFY_SOCKET": str(self._told)}
        self.ready_s = 0.0

    def __enter__(self) -> Daemon:
        self._told.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told, self._log.open("ab") as log:
            told.bind(str(self._told))
            told.settimeout(_READY_S)
            self._started, self._started_us = time.monotonic(), time.time_ns() // 1000
            self._process = subprocess.Popen(
                [program("localstored"), "--home", str(self.home)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment,
            )  # fmt: skip
            try:
                self._await_ready(told)
            except BaseException:
                self.__exit__()
                raise
        return self

    def _await_ready(self, told: socket.socket) -> None:
        try:
            while b"READY=1" not in told.recv(4096):
                pass
        except TimeoutError:
            raise RuntimeError(f"localstored is not ready: {self._said()}") from None
        self.ready_s = time.monotonic() - self._started

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            say(f"localstored does not stop: {self._said()}")
            self._process.kill()
            self._process.wait()

    def _said(self) -> str:
        return self._log.read_text("utf-8", "replace")[-2000:]

    def await_success(self, limit_s: float = 300.0) -> float:
        """Wait for the end of the first sync since the start; seconds from the start until then.

        Raises:
            RuntimeError: there was none.
        """
        while time.monotonic() - self._started < limit_s:
            if any(self._success_us(path) > self._started_us for path in self._states()):
                return time.monotonic() - self._started
            time.sleep(_LOOK_S)
        raise RuntimeError(f"localstored did not sync in {limit_s:.0f} s: {self._said()}")

    def _states(self) -> list[Path]:
        return [path for path in self.home.glob("state/*.json") if len(path.stem) == 16]

    def _success_us(self, path: Path) -> int:
        try:
            return int(json.loads(path.read_bytes())["last_success_us"] or 0)
        except (OSError, ValueError, KeyError):
            return 0

    def cpu_s(self) -> float:
        """Processor seconds that it and its descendants that ended have used."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text("ascii").rpartition(")")[2]
        return sum(int(one) for one in fields.split()[11:15]) / _TICKS

    def memory_mb(self, what: str = "VmRSS") -> float:
        """Its memory now; `VmHWM`: at its peak, as the kernel counts."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text("ascii").splitlines()
        line = next(line for line in lines if line.startswith(f"{what}:"))
        return int(line.split()[1]) * 1024 / 1e6
