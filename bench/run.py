"""The bench: one table, localstore beside its peers, measured in one run. See bench/README.md.

make bench                       everything, about half an hour
make bench BENCH_ARGS=--quick    some minutes, fewer steps and repeats, a tenth of the artifact
"""

from __future__ import annotations

import argparse
import json
import os
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from bench.artifacts import bench_artifacts  # noqa: E402
from bench.core import FULL, IMPORTS, OURS, QUICK, SURROUNDINGS, Bench, Row, number, say, show  # noqa: E402
from bench.files import bench_calls, bench_images  # noqa: E402
from bench.service import bench_service  # noqa: E402
from bench.sync import bench_sync  # noqa: E402
from bench.uploads import bench_uploads  # noqa: E402
from bench.workers.sizes import tree  # noqa: E402

LISTERS: Final = (OURS, "trackio")  # the others cannot list local runs
_LOOKERS: Final = (OURS, "wandb")  # record what surrounds a run unless told not to
_ORPHANS_S: Final = 3.0  # what wandb's helper gets to save what it has when its parent dies


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
        options: dict[str, Any] = {
            "keys": 10,
            "steps": steps,
            "data": "real",
            "rate": rate,
            "budget_s": 1e9,
        }
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
            row.texts[tool] = f"{number(found['grown_mb'])} in {found['steps']:,.0f} steps"


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
    _bench_empty(bench, "init + finish, nothing logged", "200", {})
    _bench_empty(bench, "init + finish, with code, console and machine", "", SURROUNDINGS)


def _bench_empty(bench: Bench, what: str, target: str, more: dict[str, str]) -> None:
    row = bench.add(Row(what, "ms", target))
    for tool in bench.tools:
        if more and tool not in _LOOKERS:
            continue
        folder = bench.folder()
        bench.ask(tool, "empty", folder, more=more)
        found = [
            bench.ask(tool, "empty", folder, more=more) for _ in range(2 * bench.size.repeats + 1)
        ]
        row.values[tool] = statistics.median(one["ms"] for one in found)


# ------------------------------------------------------------------ reading
def bench_frame(bench: Bench, stores: dict[str, Path]) -> None:
    """One long run into pandas."""
    row = bench.add(Row(f"{bench.size.steps:,} x 10 into pandas", "s", "0.15"))
    for tool, folder in stores.items():
        found = [bench.ask(tool, "frame", folder) for _ in range(bench.size.repeats)]
        row.values[tool] = statistics.median(one["s"] for one in found)
        if found[0]["rows"] < bench.size.steps:
            row.texts[tool] = f"{number(row.values[tool])} for {found[0]['rows']:,.0f} rows"


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
    bench.localstore(home, "remote", "add", "folder", str(bench.folder()))
    first.values[OURS] = bench.localstore(home, "sync", "now").wall_s
    times = [bench.localstore(home, "sync", "now").wall_s for _ in range(bench.size.repeats)]
    later.values[OURS] = statistics.median(times)


# ------------------------------------------------------------------ kill -9
def bench_kill(bench: Bench) -> None:
    """Steps that `log` acknowledged and that are gone after a SIGKILL at full speed."""
    for group, victims in ((False, "the process"), (True, "all its processes")):
        what = f"lost steps, {bench.size.kills} x kill -9 of {victims}"
        row = bench.add(Row(what, "", "0"))
        for tool in bench.tools:
            ends = [_kill_one(bench, tool, at, group) for at in range(bench.size.kills)]
            lost = sum(one for one, _ in ends)
            total = sum(other for _, other in ends)
            row.texts[tool] = f"{lost:,} of {total:,}"


def _kill_one(bench: Bench, tool: str, turn: int, group: bool) -> tuple[int, int]:
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
    deadline = time.monotonic() + 2.0 + 0.37 * turn
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


# ------------------------------------------------------------------ all of it
PARTS: Final = {
    "log": bench_log,
    "slow": bench_slow,
    "memory": bench_memory,
    "import": bench_import,
    "empty": bench_empty,
    "many": bench_many,
    "sync": bench_sync,
    "uploads": bench_uploads,
    "service": bench_service,
    "kill": bench_kill,
    "artifacts": bench_artifacts,
    "calls": bench_calls,
    "images": bench_images,
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
    return good and not bench.failures


def main() -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, usage="%(prog)s [options]")
    parser.add_argument("--peers", type=Path, required=True, help="python that has wandb, trackio")
    parser.add_argument("--quick", action="store_true", help="fewer steps and repeats")
    parser.add_argument("--parts", "--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--repeats", type=int, help="how often each thing is measured")
    parser.add_argument("--json", type=Path, help="write the numbers there, too")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing is left behind
    scratch = Path(tempfile.mkdtemp(prefix="localstore-bench-"))
    size = QUICK if args.quick else FULL
    size = replace(size, repeats=args.repeats or size.repeats)
    # Not resolved: a virtual environment's python is a link, and where it lies counts.
    bench = Bench(size, args.peers.absolute(), scratch)
    try:
        good = measure(bench, args.parts)
    finally:
        print(show(bench), flush=True)  # what there is, also when somebody ends it
        shutil.rmtree(scratch, ignore_errors=True)
    if args.json:
        rows = [{"what": r.what, "unit": r.unit, **r.values, **r.texts} for r in bench.rows]
        args.json.write_text(json.dumps(rows, indent=2) + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
