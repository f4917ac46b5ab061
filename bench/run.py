"""The bench: one table, localstore beside its peers, measured in one run. See bench/README.md.

make bench                       everything, about a quarter of an hour
make bench BENCH_ARGS=--quick    a few minutes, fewer steps and repeats
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from bench.workers.tasks import tree  # noqa: E402

OURS: Final = "localstore"
WORKERS: Final = {
    OURS: "bench.workers.ours",
    "wandb": "bench.workers.wandb_offline",
    "trackio": "bench.workers.trackio_local",
    "json lines": "bench.workers.jsonl",
}
IMPORTS: Final = {OURS: "localstore", "wandb": "wandb", "trackio": "trackio"}
PEERS: Final = ("wandb", "trackio")  # live in a virtual environment of their own
LISTERS: Final = (OURS, "trackio")  # the others cannot list local runs
_ORPHANS_S: Final = 3.0  # what wandb's helper gets to save what it has when its parent dies


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


FULL: Final = Size(
    repeats=3, steps=100_000, steps_100=10_000, steps_memory=1_000_000, budget_s=30.0,
    slow_s=60.0, runs=1000, kills=6,
)  # fmt: skip
QUICK: Final = Size(
    repeats=1, steps=20_000, steps_100=2_000, steps_memory=200_000, budget_s=10.0,
    slow_s=10.0, runs=100, kills=2,
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
            return _number(value)
        return f"{_number(value)} ({_number(value / ours)}x)"


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


class Bench:
    """Runs workers in processes of their own, each in a fresh folder."""

    def __init__(self, size: Size, peers: Path, scratch: Path) -> None:
        self.size, self.scratch = size, scratch
        self._count = 0
        own = Path(sys.executable)
        self.pythons = {tool: peers if tool in PEERS else own for tool in WORKERS}
        self.tools = [tool for tool in WORKERS if self._works(tool)]
        self.rows: list[Row] = []

    def _works(self, tool: str) -> bool:
        name = IMPORTS.get(tool, "json")
        words = [str(self.pythons[tool]), "-c", f"import {name}"]
        try:
            return subprocess.run(words, capture_output=True).returncode == 0
        except OSError:
            return False

    def folder(self) -> Path:
        """A new empty folder."""
        self._count += 1
        return self.scratch / str(self._count)

    def environment(self) -> dict[str, str]:
        """What workers see: nobody's settings, no questions, no network services."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        quiet = {"LOCALSTORE_QUIET": "1", "LOCALSTORE_KEY_STORAGE": "file", "HF_HUB_OFFLINE": "1"}
        return kept | quiet

    def words(self, tool: str, task: str, folder: Path, **options: Any) -> list[str]:
        """The command of one worker."""
        arguments = json.dumps({"folder": str(folder), **options})
        return [str(self.pythons[tool]), "-m", WORKERS[tool], task, arguments]

    def ask(self, tool: str, task: str, folder: Path, **options: Any) -> dict[str, float]:
        """Let a worker do one task.

        Raises:
            RuntimeError: it failed; with what it said.
        """
        done = subprocess.run(
            self.words(tool, task, folder, **options),
            capture_output=True, text=True, cwd=ROOT, env=self.environment(),
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"{tool} {task}: {done.stderr[-2000:]}")
        result: dict[str, float] = json.loads(done.stdout.rstrip().rpartition("\n")[2])
        return result

    def add(self, row: Row) -> Row:
        """Put a row into the table, and tell that it is being filled."""
        say(f"… {row.what}")
        self.rows.append(row)
        return row


def say(text: str) -> None:
    """Progress; the table alone goes to stdout."""
    print(text, file=sys.stderr, flush=True)


# ------------------------------------------------------------------ logging
def bench_log(bench: Bench) -> None:
    """The cost of `log`, and of reading back what the longest runs have written."""
    kept: dict[str, Path] = {}
    for keys, steps, data in (
        (10, bench.size.steps, "real"),
        (1, bench.size.steps_100, "real"),
        (100, bench.size.steps_100, "real"),
        (10, bench.size.steps_100, "uniform"),
        (10, bench.size.steps_100, "random"),
    ):
        kept |= _bench_log(bench, keys, steps, data)
    bench_frame(bench, kept)


def _bench_log(bench: Bench, keys: int, steps: int, data: str) -> dict[str, Path]:
    main = keys == 10 and data == "real"
    label = f"log() of {keys} {data} floats" if keys > 1 else "log() of 1 float"
    median = bench.add(Row(f"{label}, median", "us", "8" if main else ""))
    p99 = bench.add(Row(f"{label}, 99th percentile", "us", "50" if main else ""))
    size = Row(f"bytes per step, {keys} {data}, full speed", "B", _BYTES_TARGETS.get(data, ""))
    if keys == 10:
        bench.add(size)
    folders = {}
    for tool in bench.tools:
        results = []
        for _ in range(bench.size.repeats):
            folders[tool] = bench.folder()
            results.append(
                bench.ask(
                    tool, "log", folders[tool], keys=keys, steps=steps, data=data, rate=0,
                    budget_s=bench.size.budget_s,
                )
            )  # fmt: skip
        median.values[tool] = statistics.median(r["median_us"] for r in results)
        p99.values[tool] = statistics.median(r["p99_us"] for r in results)
        size.values[tool] = statistics.median(r["bytes_per_step"] for r in results)
    return folders if main else {}


_BYTES_TARGETS: Final = {"real": "40", "uniform": "80"}


def bench_slow(bench: Bench) -> None:
    """Bytes per step when steps come slowly; all tools and rates side by side, in real time."""
    rates = ((10, "75"), (1, "200"))
    say(f"… bytes per step at 10 and 1 steps/s, {bench.size.slow_s:.0f} s side by side")

    def one(job: tuple[str, int]) -> float:
        tool, rate = job
        steps = max(2, int(bench.size.slow_s * rate))
        options = {"keys": 10, "steps": steps, "data": "real", "rate": rate, "budget_s": 1e9}
        return bench.ask(tool, "log", bench.folder(), **options)["bytes_per_step"]

    jobs = [(tool, rate) for rate, _ in rates for tool in bench.tools]
    with ThreadPoolExecutor(len(jobs)) as pool:
        found = dict(zip(jobs, pool.map(one, jobs), strict=True))
    for rate, target in rates:
        values = {tool: found[tool, rate] for tool in bench.tools}
        bench.rows.append(Row(f"bytes per step, 10 real, {rate} steps/s", "B", target, values))


def bench_memory(bench: Bench) -> None:
    """Growth of memory; slower tools do fewer steps, and the table says how many."""
    row = bench.add(Row(f"memory growth, {bench.size.steps_memory:,} steps", "MB", "15"))
    for tool in bench.tools:
        budget_s = 600.0 if tool == OURS else bench.size.budget_s
        steps = bench.size.steps_memory
        found = bench.ask(tool, "memory", bench.folder(), steps=steps, budget_s=budget_s)
        row.values[tool] = found["grown_mb"]
        if found["steps"] < steps:
            row.texts[tool] = f"{_number(found['grown_mb'])} in {found['steps']:,.0f} steps"


# ------------------------------------------------------------------ starting
def bench_import(bench: Bench) -> None:
    """Wall time of a process that imports, less that of one that does nothing."""
    row = bench.add(Row("import, over bare python", "ms", "120"))
    for tool, name in IMPORTS.items():
        if tool in bench.tools:
            bare, full = [], []
            for _ in range(4 * bench.size.repeats + 3):
                bare.append(_wall_ms(bench, tool, "pass"))
                full.append(_wall_ms(bench, tool, f"import {name}"))
            row.values[tool] = statistics.median(full) - statistics.median(bare)


def _wall_ms(bench: Bench, tool: str, code: str) -> float:
    start = time.perf_counter()
    words = [str(bench.pythons[tool]), "-c", code]
    subprocess.run(words, check=True, capture_output=True, env=bench.environment())
    return (time.perf_counter() - start) * 1e3


def bench_empty(bench: Bench) -> None:
    """`init` and `finish` with all that they load, after the first set-up of the machine."""
    row = bench.add(Row("init + finish, nothing logged", "ms", "200"))
    for tool in bench.tools:
        folder = bench.folder()
        bench.ask(tool, "empty", folder)
        times = [bench.ask(tool, "empty", folder)["ms"] for _ in range(2 * bench.size.repeats + 1)]
        row.values[tool] = statistics.median(times)


# ------------------------------------------------------------------ reading
def bench_frame(bench: Bench, stores: dict[str, Path]) -> None:
    """One long run into pandas."""
    row = bench.add(Row(f"{bench.size.steps:,} x 10 into pandas", "s", "0.15"))
    for tool, folder in stores.items():
        found = [bench.ask(tool, "frame", folder) for _ in range(bench.size.repeats)]
        row.values[tool] = statistics.median(one["s"] for one in found)
        if found[0]["rows"] < bench.size.steps:
            row.texts[tool] = f"{_number(row.values[tool])} for {found[0]['rows']:,.0f} rows"


def bench_many(bench: Bench) -> None:
    """Many runs: made, listed twice, synced, synced again with nothing to do."""
    runs = bench.size.runs
    made = bench.add(Row(f"{runs:,} runs of 3 steps, made one by one", "s", ""))
    first = Row(f"{runs:,} runs listed, config and summary, first time", "s", "")
    later = Row(f"{runs:,} runs listed, second time", "s", "0.5")
    bench.rows += [first, later]
    folders = {}
    for tool in LISTERS:
        if tool not in bench.tools:
            continue
        folder = folders[tool] = bench.folder()
        made.values[tool] = bench.ask(tool, "many", folder, runs=runs)["s"]
        found = [bench.ask(tool, "listing", folder) for _ in range(1 + bench.size.repeats)]
        if found[0]["runs"] != runs:
            raise RuntimeError(f"{tool} lists {found[0]['runs']} runs, not {runs}")
        first.values[tool] = found[0]["s"]
        later.values[tool] = statistics.median(one["s"] for one in found[1:])
    _bench_sync(bench, folders[OURS])


def _bench_sync(bench: Bench, home: Path) -> None:
    runs = bench.size.runs
    first = bench.add(Row(f"sync of {runs:,} runs to a folder, first", "s", ""))
    later = Row(f"sync of {runs:,} runs, nothing to do", "s", "1")
    bench.rows.append(later)
    _cli(bench, home, "remote", "add", "folder", str(bench.folder()))
    first.values[OURS] = _cli(bench, home, "sync", "now")
    times = [_cli(bench, home, "sync", "now") for _ in range(bench.size.repeats)]
    later.values[OURS] = statistics.median(times)


def _cli(bench: Bench, home: Path, *words: str) -> float:
    """Wall time of one `localstore` command, in seconds, its start included."""
    command = str(Path(sys.executable).with_name("localstore"))
    start = time.perf_counter()
    done = subprocess.run(
        [command, "--home", str(home), *words],
        capture_output=True, text=True, env=bench.environment(),
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"localstore {' '.join(words)}: {done.stdout}{done.stderr}")
    return time.perf_counter() - start


# ------------------------------------------------------------------ kill -9
def bench_kill(bench: Bench) -> None:
    """Steps that `log` acknowledged and that are gone after a SIGKILL at full speed."""
    for group, victims in ((False, "the process"), (True, "all its processes")):
        what = f"lost steps, {bench.size.kills} x kill -9 of {victims}"
        row = bench.add(Row(what, "", "0"))
        for tool in bench.tools:
            ends = [_kill_one(bench, tool, number, group) for number in range(bench.size.kills)]
            lost = sum(one for one, _ in ends)
            total = sum(other for _, other in ends)
            row.texts[tool] = f"{lost:,} of {total:,}"


def _kill_one(bench: Bench, tool: str, number: int, group: bool) -> tuple[int, int]:
    """One kill; returns lost and acknowledged steps."""
    folder = bench.folder()
    reader, writer = os.pipe()
    process = subprocess.Popen(
        bench.words(tool, "kill", folder, handle=writer),
        pass_fds=[writer], cwd=ROOT, env=bench.environment(), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(writer)
    acknowledged = len(os.read(reader, 1))
    deadline = time.monotonic() + 2.0 + 0.37 * number
    while time.monotonic() < deadline:
        acknowledged += len(os.read(reader, 1 << 16))
    family = tree(process.pid)
    for pid in family if group else [process.pid]:
        _kill(pid)
    process.wait()
    while select.select([reader], [], [], 0.5)[0] and (rest := os.read(reader, 1 << 16)):
        acknowledged += len(rest)
    os.close(reader)
    time.sleep(0 if group or len(family) == 1 else _ORPHANS_S)
    for pid in family[1:]:
        _kill(pid)
    found = int(bench.ask(tool, "steps", folder)["steps"])
    return max(0, acknowledged - found), acknowledged


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


# ------------------------------------------------------------------ the table
def show(bench: Bench) -> str:
    """The table as text, and under it what it was measured with."""
    head = ["", "unit", "target", *bench.tools]
    lines = [head] + [
        [row.what, row.unit, row.target, *(row.cell(tool) for tool in bench.tools)]
        for row in bench.rows
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
    absent = [tool for tool in WORKERS if tool not in bench.tools]
    text += ["", f"(2.0x: the peer's number is twice ours)  {_machine()}"]
    text += [f"not installed, so not measured: {', '.join(absent)}"] if absent else []
    return "\n".join(text)


def _machine() -> str:
    cores, load = os.cpu_count(), os.getloadavg()[0]
    return (
        f"Python {platform.python_version()}, {platform.machine()}, {cores} cores, load {load:.1f}"
    )


PARTS: Final = {
    "log": bench_log,
    "slow": bench_slow,
    "memory": bench_memory,
    "import": bench_import,
    "empty": bench_empty,
    "many": bench_many,
    "kill": bench_kill,
}


def measure(bench: Bench, parts: list[str]) -> bool:
    """Fill the table; a part that fails is told and does not stop the others.

    Returns:
        Whether all parts succeeded.
    """
    good = True
    for name in parts:
        try:
            PARTS[name](bench)
        except RuntimeError as problem:
            say(f"{name} failed: {problem}")
            good = False
    return good


def main() -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, usage="%(prog)s [options]")
    parser.add_argument("--peers", type=Path, required=True, help="python that has wandb, trackio")
    parser.add_argument("--quick", action="store_true", help="fewer steps and repeats")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--json", type=Path, help="write the numbers there, too")
    args = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="localstore-bench-"))
    try:
        # Not resolved: a virtual environment's python is a link, and where it lies counts.
        bench = Bench(QUICK if args.quick else FULL, args.peers.absolute(), scratch)
        good = measure(bench, args.parts)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(show(bench))
    if args.json:
        rows = [{"what": r.what, "unit": r.unit, **r.values, **r.texts} for r in bench.rows]
        args.json.write_text(json.dumps(rows, indent=2) + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
