"""What every tool is asked to do, in a process: `python -m bench.workers.TOOL TASK JSON`.

Prints one line of JSON. A tool is a few functions; what is measured, and how, stands here once.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from array import array
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from bench.workers import files
from bench.workers.data import rows_of
from bench.workers.sizes import resident_mb, size_of

if TYPE_CHECKING:
    from collections.abc import Callable

    Log = Callable[[dict[str, float]], object]
    Finish = Callable[[], object]


class Tool(Protocol):
    """A tracker, as the bench uses it; `folder` is where it keeps everything."""

    def start(self, folder: Path, config: dict[str, float]) -> tuple[Log, Finish]:
        """Begin a run; returns its `log` and its `finish`."""

    def steps(self, folder: Path) -> list[int]:
        """The steps that can be read back of the only run."""

    def frame(self, folder: Path) -> Any:
        """The only run as a pandas frame."""

    def listing(self, folder: Path) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Config and summary of every run."""


def main(tool: Tool) -> None:
    """Do the task that the command line names."""
    task, options = sys.argv[1], json.loads(sys.argv[2])
    folder = Path(options.pop("folder"))
    tasks: dict[str, Callable[..., dict[str, Any]]] = {**TASKS, **files.TASKS}
    result = tasks[task](tool, folder, **options)
    # Some tools print to stdout whatever they are told; ours is the last line.
    print("\n" + json.dumps(result), flush=True)
    if task == "kill":
        time.sleep(60)


# ------------------------------------------------------------------ tasks
_SETTLED_STEPS: Final = 3  # a slow run's folder is measured from here on


def log(
    tool: Tool, folder: Path, *, keys: int, steps: int, data: str, rate: float, budget_s: float
) -> dict[str, float]:
    """Log some steps, each call timed; `rate` in steps per second, 0 for as fast as it goes."""
    rows = rows_of(data, keys)
    record, finish = tool.start(folder, {"lr": 1e-3})
    before_bytes, times = size_of(folder), array("Q")
    start = time.perf_counter()
    for step in range(steps):
        if rate:
            time.sleep(max(0.0, start + step / rate - time.perf_counter()))
            if step == _SETTLED_STEPS:
                # What a run costs once is in the fast rows; here it is the rate that counts.
                before_bytes = size_of(folder)
        row = rows[step % len(rows)]
        begun = time.perf_counter_ns()
        record(row)
        times.append(time.perf_counter_ns() - begun)
        if step % 256 == 0 and time.perf_counter() - start > budget_s:
            break
    looped = time.perf_counter() - start
    running_bytes = size_of(folder)
    finish()
    ordered = sorted(times)
    return {
        "steps": len(ordered),
        "median_us": ordered[len(ordered) // 2] / 1e3,
        "p99_us": ordered[len(ordered) * 99 // 100] / 1e3,
        "loop_s": looped,
        "bytes_per_step": (running_bytes - before_bytes) / (len(ordered) - _SETTLED_STEPS)
        if rate
        else (size_of(folder) - before_bytes) / len(ordered),
    }


def memory(tool: Tool, folder: Path, *, steps: int, budget_s: float) -> dict[str, float]:
    """How much memory grows while many steps of ten keys are logged, after a warm-up."""
    rows = rows_of("real", 10)
    record, finish = tool.start(folder, {"lr": 1e-3})
    start, done = time.perf_counter(), 0
    before = resident_mb()
    for done in range(1, steps + 1):
        record(rows[done % len(rows)])
        if done == 1000:
            before = resident_mb()
        if done % 256 == 0 and time.perf_counter() - start > budget_s:
            break
    grown = resident_mb() - before
    finish()
    return {"steps": done, "grown_mb": grown}


def empty(tool: Tool, folder: Path) -> dict[str, float]:
    """A run that logs nothing, with all that is loaded for it; the set-up came before."""
    start = time.perf_counter()
    _, finish = tool.start(folder, {"lr": 1e-3})
    finish()
    return {"ms": (time.perf_counter() - start) * 1e3}


def many(tool: Tool, folder: Path, *, runs: int) -> dict[str, float]:
    """Many small runs, one after the other."""
    start = time.perf_counter()
    for number in range(runs):
        config = {f"config_{key}": number + key / 7 for key in range(10)}
        record, finish = tool.start(folder, config)
        for step in range(3):
            record({f"metric_{key}": number + step / 3 + key for key in range(5)})
        finish()
    return {"s": time.perf_counter() - start}


def kill(tool: Tool, folder: Path, *, handle: int) -> dict[str, float]:
    """Log for ever, one byte into a pipe after each `log` that returned; somebody kills us."""
    rows = rows_of("real", 10)
    record, _ = tool.start(folder, {"lr": 1e-3})
    while True:
        for row in rows:
            record(row)
            os.write(handle, b".")


def steps(tool: Tool, folder: Path) -> dict[str, int]:
    """How many steps can be read back, each counted once, and whether none is missing between."""
    found = sorted(set(tool.steps(folder)))
    return {"steps": len(found), "holes": found[-1] - found[0] + 1 - len(found) if found else 0}


def frame(tool: Tool, folder: Path) -> dict[str, float]:
    """Read one run into pandas: median of three, after a first time that imports what it needs."""
    table, times = tool.frame(folder), []
    for _ in range(3):
        start = time.perf_counter()
        table = tool.frame(folder)
        times.append(time.perf_counter() - start)
    return {
        "s": statistics.median(times),
        "rows": len(table),
        "columns": len([name for name in table.columns if str(name).startswith("metric_")]),
    }


def listing(tool: Tool, folder: Path) -> dict[str, float]:
    """List all runs with config and summary."""
    start = time.perf_counter()
    found = tool.listing(folder)
    taken = time.perf_counter() - start
    full = [config for config, summary in found if len(config) >= 10 and len(summary) >= 5]
    return {"s": taken, "runs": len(full)}


TASKS: Final[dict[str, Callable[..., dict[str, Any]]]] = {
    "log": log,
    "memory": memory,
    "empty": empty,
    "many": many,
    "kill": kill,
    "steps": steps,
    "frame": frame,
    "listing": listing,
}
