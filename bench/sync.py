"""A large store in step with a folder: what a start from nothing costs, and nothing to do."""

from __future__ import annotations

import json
import statistics
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bench.core import OURS, Row, say

if TYPE_CHECKING:
    from pathlib import Path

    from bench.core import Bench

_RUNS: Final = 10  # times the runs that are logged one by one elsewhere
_OBJECTS: Final = 20  # for each run


@dataclass(frozen=True, slots=True)
class Large:
    """A home that is in step with a folder remote, and what is in it, in words."""

    home: Path
    what: str

    def forget(self) -> None:
        """Remove what earlier syncs remembered beside the receipts."""
        for path in self.home.glob("projects/*/local/catalog.db*"):
            path.unlink()


def large_store(bench: Bench) -> Large:
    """A store of many runs and objects; made once."""
    runs = _RUNS * bench.size.runs
    home = bench.scratch / "large" / "home"
    what = f"{runs:,} runs and {_OBJECTS * runs:,} objects"
    if not home.exists():
        say(f"… a store of {what} made")
        remote = home.with_name("remote")
        ask_module(bench, "bench.workers.store", home, remote, runs, _OBJECTS * runs)
    return Large(home, what)


def bench_sync(bench: Bench) -> None:
    """The engine alone in a process of its own, and the whole command."""
    store = large_store(bench)
    rows = [
        bench.add(Row(f"sync of {store.what}, no catalog", "s", "15")),
        bench.add(Row(f"sync of {store.what}, no catalog, peak memory", "MB", "200")),
        bench.add(Row(f"sync of {store.what}, nothing to do", "s", "2")),
        bench.add(Row(f"sync of {store.what}, nothing to do, requests", "", "2")),
    ]
    command = bench.add(Row(f"sync of {store.what}, nothing to do, whole command", "s", "2"))
    cold, idle, whole = [], [], []
    for _ in range(bench.size.repeats):
        store.forget()
        cold.append(ask_module(bench, "bench.workers.syncing", store.home))
        idle.append(ask_module(bench, "bench.workers.syncing", store.home))
        whole.append(bench.localstore(store.home, "sync", "now").wall_s)
    found = ((cold, "s"), (cold, "peak_mb"), (idle, "s"), (idle, "requests"))
    for row, (results, key) in zip(rows, found, strict=True):
        row.values[OURS] = statistics.median(one[key] for one in results)
    command.values[OURS] = statistics.median(whole)


def ask_module(bench: Bench, module: str, *words: Path | int) -> dict[str, Any]:
    """Let a module do its work in a process of its own.

    Raises:
        RuntimeError: it failed, or says that it was not all well.
    """
    spent = bench.spend([sys.executable, "-m", module, *map(str, words)])
    result: dict[str, Any] = json.loads(spent.stdout)
    if result.get("ok") is False:
        raise RuntimeError(f"{module}: {result}")
    return result
