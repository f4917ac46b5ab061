"""On a terminal everything looks as it does without us."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import termios
from typing import TYPE_CHECKING

import pytest

from tests.surroundings.scripts import LIMIT_S, Script

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path)


class Terminal:
    """A pseudo-terminal, and what a person sees on it."""

    def __init__(self) -> None:
        self.master, self.slave = pty.openpty()
        termios.tcsetwinsize(self.slave, (33, 111))

    def run(self, command: list[str]) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            command, stdin=self.slave, stdout=self.slave, stderr=self.slave, close_fds=True
        )
        os.close(self.slave)
        return process

    def read(self) -> bytes:
        """All until the last writer has gone."""
        seen = b""
        with contextlib.suppress(OSError):
            while data := os.read(self.master, 1 << 16):
                seen += data
        return seen


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    os.close(made.master)


ON_A_TERMINAL = """
    print(os.isatty(0), os.isatty(1), os.isatty(2), os.get_terminal_size(1))
    print("\\x1b[31mred\\x1b[0m")
    for number in range(50):
        print(f"\\r{number}%", end="", file=sys.stderr)
        sys.stderr.flush()
    print("\\r\\x1b[Kbetween")
    print("\\ttab", file=sys.stderr)
    subprocess.run(["sh", "-c", "test -t 1 && test -t 2 && echo a terminal too"])
"""


@pytest.mark.parametrize("listening", [False, True])
def test_on_a_terminal_all_looks_as_without_us(
    script: Script, terminal: Terminal, listening: bool
) -> None:
    process = terminal.run(script.command(ON_A_TERMINAL, listening=listening))
    seen = terminal.read()
    assert process.wait(LIMIT_S) == 0
    bar = b"".join(b"\r%d%%" % number for number in range(50))
    assert seen == (
        b"True True True os.terminal_size(columns=111, lines=33)\r\n"
        b"\x1b[31mred\x1b[0m\r\n" + bar + b"\r\x1b[Kbetween\r\n\ttab\r\na terminal too\r\n"
    )


def test_on_a_terminal_all_is_taken_down(script: Script, terminal: Terminal) -> None:
    process = terminal.run(script.command(ON_A_TERMINAL + "\n    console.stop()"))
    terminal.read()
    assert process.wait(LIMIT_S) == 0
    assert script.outcome(0, b"").text().split("\n")[1:] == [
        "\x1b[31mred\x1b[0m", "between", "\ttab", "a terminal too", "",
    ]  # fmt: skip


def test_sigkill_on_a_terminal_loses_nothing(script: Script, terminal: Terminal) -> None:
    body = """
        for number in range(5000):
            os.write(1, b"line %d\\n" % number)
        os.kill(os.getpid(), signal.SIGKILL)
        """
    process = terminal.run(script.command(body))
    seen = terminal.read()
    assert process.wait(LIMIT_S) == -signal.SIGKILL
    assert seen == b"".join(b"line %d\r\n" % number for number in range(5000))


def test_a_terminal_that_changes_its_size_is_followed(script: Script, terminal: Terminal) -> None:
    body = """
        told = threading.Event()
        signal.signal(signal.SIGWINCH, lambda *_: told.set())
        print("ready", flush=True)
        until(lambda: tuple(os.get_terminal_size(1)) == (77, 22))
        until(told.is_set)
        console.stop()
        note("size", list(os.get_terminal_size(1)))
        """
    process = terminal.run(script.command(body))
    assert b"ready" in os.read(terminal.master, 1000)
    termios.tcsetwinsize(terminal.master, (22, 77))
    terminal.read()
    assert process.wait(LIMIT_S) == 0
    assert script.outcome(0, b"").said("size") == [[77, 22]]
