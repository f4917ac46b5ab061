"""Scripts that have a console listening, and what they leave behind."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path


LIMIT_S: Final = 100.0

PRELUDE: Final = """
import ctypes, faulthandler, json, multiprocessing, os, signal, subprocess, sys, threading, time
from localstore.surroundings.console import Console

notes = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
fcntl = __import__("fcntl")
low, notes = notes, fcntl.fcntl(notes, fcntl.F_DUPFD_CLOEXEC, 100)
os.close(low)

def note(*words):
    os.write(notes, (json.dumps(words) + "\\n").encode())

def until(condition):
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.02)
    raise SystemExit("waited in vain")

def helpers():
    "The processes that read what this one writes to its stdout."
    pipe, found = os.readlink("/proc/self/fd/1"), []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if b"console_tee" not in open(f"/proc/{pid}/cmdline", "rb").read():
                continue
            fds = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        except OSError:
            continue
        found += [int(pid)] * (pipe in fds)
    return found

def console_of(on_text=lambda stream, text: note("text", stream, text)):
    return Console(
        on_text,
        max_bytes_per_s=1e9,
        max_total_bytes=1e12,
        on_dropped=lambda count: note("dropped", count),
        flush_interval_s=0.05,
    )

console = console_of()
listening = sys.argv[2] == "on"
if listening:
    console.start()
"""


@dataclass
class Outcome:
    """What a script left behind."""

    code: int
    shown: bytes
    errors: bytes
    notes: list[list[Any]]

    def text(self, stream: int = 1) -> str:
        """What was taken down of a stream."""
        return "".join(note[2] for note in self.notes if note[0] == "text" and note[1] == stream)

    @property
    def dropped(self) -> int:
        """Bytes that were left out."""
        return sum(note[1] for note in self.notes if note[0] == "dropped")

    def said(self, word: str) -> list[Any]:
        """What the script noted under a word."""
        return [note[1] for note in self.notes if note[0] == word]


class Script:
    """Runs a piece of Python that has a console listening from its first line."""

    def __init__(self, folder: Path) -> None:
        self.notes = folder / "notes"
        self._file = folder / "script.py"

    def command(self, body: str, *, listening: bool = True) -> list[str]:
        self._file.write_text(PRELUDE + textwrap.dedent(body), "utf-8")
        return [sys.executable, str(self._file), str(self.notes), "on" if listening else "off"]

    def run(self, body: str, *, together: bool = False, listening: bool = True) -> Outcome:
        """Until its output ends: its own, its children's and its helper's."""
        done = subprocess.run(
            self.command(body, listening=listening),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if together else subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            timeout=LIMIT_S,
        )
        return self.outcome(done.returncode, done.stdout, done.stderr or b"")

    def outcome(self, code: int, shown: bytes, errors: bytes = b"") -> Outcome:
        text = self.notes.read_text("utf-8") if self.notes.exists() else ""
        # A script that is killed may have been writing the last one.
        lines = text.rpartition("\n")[0].splitlines()
        return Outcome(code, shown, errors, [json.loads(line) for line in lines])
