"""A large store in step with a folder: what a start from nothing costs, and nothing to do."""

from __future__ import annotations

import json
import statistics
import sys
from typing import TYPE_CHECKING, Any, Final

from bench.core import OURS, Bench, Row

if TYPE_CHECKING:
    from pathlib import Path

_RUNS: Final = 10  # times the runs that are logged one by one elsewhere
_OBJECTS: Final = 20  # for each run


def bench_sync(bench: Bench) -> None:
    """The engine alone, in a process of its own, without the start of the command."""
    runs = _RUNS * bench.size.runs
    what = f"{runs:,} runs and {_OBJECTS * runs:,} objects"
    rows = [
        bench.add(Row(f"sync of {what}, no catalog", "s", "15")),
        bench.add(Row(f"sync of {what}, no catalog, peak memory", "MB", "200")),
        bench.add(Row(f"sync of {what}, nothing to do", "s", "2")),
        bench.add(Row(f"sync of {what}, nothing to do, requests", "", "2")),
    ]
    home, remote = bench.folder(), bench.folder()
    _ask(bench, "bench.workers.store", home, remote, runs, _OBJECTS * runs)
    cold, idle = [], []
    for _ in range(bench.size.repeats):
        for path in home.glob("projects/*/local/catalog.db*"):
            path.unlink()
        cold.append(_ask(bench, "bench.workers.syncing", home))
        idle.append(_ask(bench, "bench.workers.syncing", home))
    found = ((cold, "s"), (cold, "peak_mb"), (idle, "s"), (idle, "requests"))
    for row, (results, key) in zip(rows, found, strict=True):
        row.values[OURS] = statistics.median(one[key] for one in results)
    bench.done_with(home, remote)


def _ask(bench: Bench, module: str, *words: Path | int) -> dict[str, Any]:
    spent = bench.spend([sys.executable, "-m", module, *map(str, words)])
    result: dict[str, Any] = json.loads(spent.stdout)
    if result.get("ok") is False:
        raise RuntimeError(f"{module}: {result}")
    return result
