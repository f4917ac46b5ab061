"""A real `localstored` in a process of its own, and a way to talk to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from localstore.control import connect
from tests.daemon.conftest import wait_until
from tests.sync.makers import synced_bytes

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = [sys.executable, "-c", "from localstored.cli import main; main()"]


class Daemon:
    """Started with `with`; killed at the end, if it still runs."""

    def __init__(self, home: Path, *words: str, ready: bool = True, **environment: str) -> None:
        self.home, self._words, self._ready = home, words, ready
        self._environment = environment
        self.log = home.parent / f"{home.name}.log"

    def __enter__(self) -> Daemon:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "--home", str(self.home), *self._words],
                stderr=log,
                stdout=subprocess.DEVNULL,
                env={**os.environ, **self._environment},
            )
        if self._ready:
            wait_until(lambda: "notice started" in self.said)
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)

    @property
    def said(self) -> str:
        return self.log.read_text("utf-8")

    def stop(self, seconds: float = 5.0) -> int:
        """SIGTERM; the exit code, which must come within five seconds."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def ask(self, do: str, **args: Any) -> dict[str, Any]:
        client = connect(self.home)
        assert client is not None, self.said
        with client:
            return client.call(do, args, timeout_s=20)

    def remote(self, name: str = "stick") -> dict[str, Any]:
        found: dict[str, Any] = self.ask("status")["remotes"][name]
        return found


def in_step(home: Path, stick: Path) -> bool:
    """Whether both hold the same."""
    if not (stick / "projects").exists():
        return False
    return synced_bytes(home) == synced_bytes(stick)
