"""What all parts of the bench share: workers in processes of their own, and the table.

Nothing is measured here but wall time, peak memory and bytes of whole commands.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any, Final

from bench.workers.sizes import resident_mb

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ROOT: Final = Path(__file__).parents[1]
OURS: Final = "localstore"
WORKERS: Final = {
    OURS: "bench.workers.ours",
    "wandb": "bench.workers.wandb_offline",
    "trackio": "bench.workers.trackio_local",
    "json lines": "bench.workers.jsonl",
}
IMPORTS: Final = {OURS: "localstore", "wandb": "wandb", "trackio": "trackio"}
PROGRAMS: Final = ("restic", "borg", "rclone")
PEERS: Final = ("wandb", "trackio")  # live in a virtual environment of their own
# A step in numpy is a step of one thread, on every machine.
_ONE_THREAD: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
# What wandb's settings in `workers/wandb_offline.py` switch off, is off here as well.
_BARE: Final = {
    "LOCALSTORE_CONSOLE": "false",
    "LOCALSTORE_SYSTEM_METRICS": "false",
    "LOCALSTORE_ENVIRONMENT": "false",
    "LOCALSTORE_CODE_SAVING": "off",
}
SURROUNDINGS: Final = {**dict.fromkeys(_BARE, "true"), "LOCALSTORE_CODE_SAVING": "sha"}
SURROUNDINGS["BENCH_SURROUNDINGS"] = "1"
_TIMEOUT_S: Final = 300.0  # a worker that hangs fails, and the bench goes on
_SAMPLED_EVERY_S: Final = 0.05
_ROOM_BYTES: Final = 20_000_000_000
_NARROW: Final = "the disk is narrow: files were deleted meanwhile, which slows what came next"
_SAID_CHARACTERS: Final = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is measured."""

    repeats: int
    steps: int
    steps_100: int
    steps_memory: int
    budget_s: float  # a peer that is slower stops here and is judged by what it did
    slow_s: float
    runs: int
    kills: int
    artifact: float  # part of the gibibyte
    images: int
    calls: int
    training_steps: int


FULL: Final = Size(
    repeats=3, steps=100_000, steps_100=10_000, steps_memory=1_000_000, budget_s=30.0,
    slow_s=60.0, runs=1000, kills=6, artifact=1.0, images=1000, calls=10, training_steps=800,
)  # fmt: skip
QUICK: Final = Size(
    repeats=1, steps=20_000, steps_100=2_000, steps_memory=200_000, budget_s=10.0,
    slow_s=10.0, runs=100, kills=2, artifact=0.1, images=100, calls=3, training_steps=200,
)  # fmt: skip


@dataclass(slots=True)
class Row:
    """One line of the table: a number for each tool, or a text where a number says too little."""

    what: str
    unit: str
    target: str
    values: dict[str, float] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)

    def cell(self, tool: str) -> str:
        """What stands in the table; a peer's number also as a multiple of ours."""
        if tool in self.texts:
            return self.texts[tool]
        if tool not in self.values:
            return "-"
        value, ours = self.values[tool], self.values.get(OURS, 0.0)
        if tool == OURS or ours <= 0:
            return number(value)
        return f"{number(value)} ({number(value / ours)}x)"


@dataclass(frozen=True, slots=True)
class Spent:
    """What a command took: seconds, and the megabytes of it and its descendants at their peak."""

    wall_s: float
    peak_mb: float
    stdout: str


def number(value: float) -> str:
    """Three digits, more or less."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def program(name: str) -> str:
    """Where a program of this Python's folder or of the system lies; empty: nowhere."""
    beside = str(Path(sys.executable).parent)
    return shutil.which(name, path=beside) or shutil.which(name) or ""


def say(text: str) -> None:
    """Progress; the table alone goes to stdout."""
    print(text, file=sys.stderr, flush=True)


class Bench:
    """Runs workers in processes of their own, each in a fresh folder."""

    def __init__(self, size: Size, peers: Path, scratch: Path) -> None:
        self.size, self.scratch = size, scratch
        self._count = 0
        own = Path(sys.executable)
        self.pythons = {tool: peers if tool in PEERS else own for tool in WORKERS}
        self.tools = [tool for tool in WORKERS if self._works(tool)]
        self.programs = [name for name in PROGRAMS if program(name)]
        self.rows: list[Row] = []
        self.remarks: list[str] = []
        self.failures: list[str] = []

    def _works(self, tool: str) -> bool:
        name = IMPORTS.get(tool, "json")
        words = [str(self.pythons[tool]), "-c", f"import {name}"]
        try:
            return subprocess.run(words, capture_output=True, timeout=60).returncode == 0
        except (OSError, subprocess.TimeoutExpired):
            return False

    def folder(self) -> Path:
        """A new empty folder."""
        self._count += 1
        return self.scratch / str(self._count)

    def done_with(self, *folders: Path) -> None:
        """Folders that nobody measures any more; they go when the disk becomes narrow.

        ext4 makes new files slowly for minutes after many were deleted, whoever makes them.
        """
        if shutil.disk_usage(self.scratch).free < _ROOM_BYTES:
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)
            if _NARROW not in self.remarks:
                self.remarks.append(_NARROW)

    def environment(self) -> dict[str, str]:
        """What workers see: nobody's settings, no questions, no network services."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        quiet = {"LOCALSTORE_QUIET": "1", "LOCALSTORE_KEY_STORAGE": "file", "HF_HUB_OFFLINE": "1"}
        return kept | quiet | _ONE_THREAD | _BARE

    def words(self, tool: str, task: str, folder: Path, **options: Any) -> list[str]:
        """The command of one worker."""
        arguments = json.dumps({"folder": str(folder), **options})
        return [str(self.pythons[tool]), "-m", WORKERS[tool], task, arguments]

    def ask(
        self,
        tool: str,
        task: str,
        folder: Path,
        *,
        more: Mapping[str, str] | None = None,
        **options: Any,
    ) -> dict[str, float]:
        """Let a worker do one task; `more` are environment variables.

        Raises:
            RuntimeError: it failed; with what it said.
        """
        return result_of(self.spend(self.words(tool, task, folder, **options), more=more))

    def spend(
        self,
        words: Sequence[str],
        *,
        more: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
        timeout_s: float = _TIMEOUT_S,
    ) -> Spent:
        """Run a command to its end, and measure it from outside.

        Args:
            words: The command.
            more: Environment variables beside the usual ones.
            cwd: Where it runs.
            timeout_s: When it is killed.

        Raises:
            RuntimeError: it failed, or took too long and was killed with all its descendants.
        """
        environment = self.environment() | dict(more or {})
        with TemporaryFile("w+") as out, TemporaryFile("w+") as err:
            start = time.perf_counter()
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=cwd,
                env=environment, start_new_session=True,
            )  # fmt: skip
            try:
                with _Peak(process.pid) as peak:
                    in_time, usage = _wait(process.pid, start + timeout_s)
                    wall_s = time.perf_counter() - start
                process.returncode = usage.code
            except BaseException:
                _kill_session(process.pid)
                raise
            said, output = _content(err), _content(out)
        if not in_time:
            raise RuntimeError(f"{_short(words)}: still running after {timeout_s:.0f} s")
        if usage.code != 0:
            said = (output + said)[-_SAID_CHARACTERS:]
            raise RuntimeError(f"{_short(words)}: exit status {usage.code}: {said}")
        return Spent(wall_s, max(peak.mb, usage.largest_mb), output)

    def localstore(self, home: Path, *words: str, timeout_s: float = _TIMEOUT_S) -> Spent:
        """Run one `localstore` command, its start included."""
        ours = str(Path(sys.executable).with_name("localstore"))
        return self.spend([ours, "--home", str(home), *words], timeout_s=timeout_s)

    def attempt(self, tool: str, what: str, step: Callable[[str], None]) -> bool:
        """Let one tool do one step; a failure is told, and does not stop the others.

        Returns:
            Whether it succeeded.
        """
        try:
            step(tool)
        except RuntimeError as problem:
            say(f"{tool}, {what}: {problem}")
            self.failures.append(f"{tool}: {what}")
            return False
        return True

    def add(self, row: Row) -> Row:
        """Put a row into the table, and tell that it is being filled."""
        say(f"… {row.what}")
        self.rows.append(row)
        return row


def result_of(spent: Spent) -> dict[str, float]:
    """What a worker printed last."""
    result: dict[str, float] = json.loads(spent.stdout.rstrip().rpartition("\n")[2])
    return result


def _short(words: Sequence[str]) -> str:
    return " ".join(words)[:200]


def _content(file: IO[str]) -> str:
    file.seek(0)
    return file.read()


# ------------------------------------------------------------------ time and memory of a command
@dataclass(frozen=True, slots=True)
class _Usage:
    code: int
    largest_mb: float  # of the one process that was largest; the kernel's own count


def _wait(pid: int, deadline: float) -> tuple[bool, _Usage]:
    """Wait for a child; kill its session when it is late."""
    killer = threading.Timer(max(0.0, deadline - time.perf_counter()), _kill_session, [pid])
    killer.start()
    _, status, usage = os.wait4(pid, 0)
    in_time = killer.is_alive()
    killer.cancel()
    kilobytes = usage.ru_maxrss if sys.platform != "darwin" else usage.ru_maxrss / 1024
    return in_time, _Usage(os.waitstatus_to_exitcode(status), kilobytes * 1024 / 1e6)


def _kill_session(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


class _Peak:
    """Samples the memory of a process and its descendants together."""

    def __init__(self, pid: int) -> None:
        self.mb = 0.0
        self._pid, self._over = pid, threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> _Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._over.wait(_SAMPLED_EVERY_S):
            self.mb = max(self.mb, resident_mb(self._pid))


# ------------------------------------------------------------------ the table
def show(bench: Bench) -> str:
    """The table as text, and under it what it was measured with."""
    tools = [tool for tool in [*bench.tools, *bench.programs] if _measured(bench, tool)]
    head = ["", "unit", "target", *tools]
    lines = [head] + [
        [row.what, row.unit, row.target, *(row.cell(tool) for tool in tools)] for row in bench.rows
    ]
    widths = [max(len(line[at]) for line in lines) for at in range(len(head))]
    text = [
        "  ".join(
            cell.ljust(width) if at < 2 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    text.insert(1, "-" * len(max(text, key=len)))
    absent = [tool for tool in [*WORKERS, *PROGRAMS] if tool not in bench.tools + bench.programs]
    text += ["", f"(2.0x: the peer's number is twice ours)  {_machine()}", *bench.remarks]
    text += [f"not installed, so not measured: {', '.join(absent)}"] if absent else []
    text += [f"FAILED, see above the table: {failure}" for failure in bench.failures]
    return "\n".join(text)


def _measured(bench: Bench, tool: str) -> bool:
    return any(tool in row.values or tool in row.texts for row in bench.rows)


def _machine() -> str:
    cores, load = os.cpu_count(), os.getloadavg()[0]
    return (
        f"Python {platform.python_version()}, {platform.machine()}, {cores} cores, load {load:.1f}"
    )
