"""The service: how soon it carries what a live run writes, what a start costs, and idleness.

No peer has a service that outlives the training process, so these rows stand alone.
"""

from __future__ import annotations

import bisect
import contextlib
import json
import statistics
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from bench.core import OURS, Row
from bench.daemon import Daemon
from bench.sync import large_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bench.core import Bench

_EVERY_S: Final = 0.3
_LOOK_S: Final = 0.005
_PATIENCE_S: Final = 10.0
_SETTLED_S: Final = 5.0  # after a sync, before idleness counts
_LIVE: Final = "bench.workers.live"

# Of each log on a remote: (monotonic ns, length), each time it was longer than before.
Growth = dict[str, list[tuple[int, int]]]


def bench_service(bench: Bench) -> None:
    """All that is asked of the service."""
    bench_latency(bench)
    bench_start(bench)


# ------------------------------------------------------------------ latency
def bench_latency(bench: Bench) -> None:
    """From the call of `log` until the remote's file holds that step, while the run is alive."""
    seconds = bench.size.slow_s
    what = f"log() to bytes on a folder remote, one each {_EVERY_S} s for {seconds:.0f} s"
    median = bench.add(Row(f"{what}, median", "s", "2"))
    late = bench.add(Row(f"{what}, 90th percentile", "s", ""))
    found = sorted(_latencies(bench, seconds))
    median.values[OURS] = statistics.median(found)
    late.values[OURS] = found[len(found) * 9 // 10]


def _latencies(bench: Bench, seconds: float) -> list[float]:
    home, remote = bench.folder(), bench.folder()
    bench.ask(OURS, "empty", home)
    bench.localstore(home, "remote", "add", "folder", str(remote))
    with Daemon(bench, home) as daemon:
        daemon.await_success()
        logged, growth = _watched(bench, home, remote, seconds)
    ends = _ask(bench, "ends", home, remote, logged["run"])
    called = logged["called_ns"]
    found = [(at - called[step]) / 1e9 for step, at in _arrivals(ends, growth).items()]
    if len(found) < len(called):
        raise RuntimeError(f"{len(called) - len(found)} of {len(called)} steps never arrived")
    return found


def _ask(bench: Bench, *words: Path | str | float) -> dict[str, Any]:
    spent = bench.spend([sys.executable, "-m", _LIVE, *map(str, words)])
    result: dict[str, Any] = json.loads(spent.stdout)
    return result


def _watched(
    bench: Bench, home: Path, remote: Path, seconds: float
) -> tuple[dict[str, Any], Growth]:
    """Let a run log, and look how its logs grow on the remote until they stand still."""
    with _looking(remote) as growth:
        logged = _ask(bench, "log", home, seconds, _EVERY_S)
        deadline, before = time.monotonic() + _PATIENCE_S, -1
        while time.monotonic() < deadline and before != (now := _length(growth)):
            before = now
            time.sleep(2.0)
    return logged, growth


def _length(growth: Growth) -> int:
    return sum(seen[-1][1] for seen in list(growth.values()))


@contextlib.contextmanager
def _looking(remote: Path) -> Iterator[Growth]:
    growth, over = Growth(), threading.Event()

    def look() -> None:
        while not over.wait(_LOOK_S):
            for path in remote.glob("projects/*/runs/*/*.log"):
                with contextlib.suppress(FileNotFoundError):
                    length, now = path.stat().st_size, time.monotonic_ns()
                    seen = growth.setdefault(path.name, [(now, 0)])
                    if length > seen[-1][1]:
                        seen.append((now, length))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield growth
    finally:
        over.set()
        thread.join()


def _arrivals(ends: dict[str, list[tuple[int, int]]], growth: Growth) -> dict[int, int]:
    """When each step was there (monotonic ns): its frame ends within the file's length."""
    found: dict[int, int] = {}
    for name, frames in ends.items():
        seen = growth.get(name, [])
        lengths, first = [length for _, length in seen], 0
        for end, count in frames:
            at = bisect.bisect_left(lengths, end)
            for step in range(first, count if at < len(seen) else first):
                found[step] = seen[at][0]
            first = count
    return found


# ------------------------------------------------------------------ starting, doing nothing
def bench_start(bench: Bench) -> None:
    """A start without and with a catalog on a large store; then nothing happens."""
    store = large_store(bench)
    label = f"daemon, {store.what}"
    rows: dict[str, Row] = {
        "ready": Row(f"{label}, first start until ready", "s", ""),
        "cold": Row(f"{label}, first start until all is compared", "s", "15"),
        "peak": Row(f"{label}, first start, peak memory", "MB", "200"),
        "again": Row(f"{label}, later start until all is compared", "s", "15"),
        "cpu": Row(f"{label}, idle for {bench.size.slow_s:.0f} s", "% of a core", "0.5"),
        "idle": Row(f"{label}, idle, memory", "MB", "120"),
    }
    for row in rows.values():
        bench.add(row)
    rounds = [_start(bench, store.home, store.forget) for _ in range(bench.size.repeats)]
    for key, row in rows.items():
        row.values[OURS] = statistics.median(one[key] for one in rounds)


def _start(bench: Bench, home: Path, forget: Callable[[], None]) -> dict[str, float]:
    forget()
    found = {}
    with Daemon(bench, home) as daemon:
        found["ready"], found["cold"] = daemon.ready_s, daemon.await_success()
        found["peak"] = daemon.memory_mb("VmHWM")
    with Daemon(bench, home) as daemon:
        found["again"] = daemon.await_success()
        time.sleep(_SETTLED_S)
        began, used = time.monotonic(), daemon.cpu_s()
        time.sleep(bench.size.slow_s)
        found["cpu"] = 100 * (daemon.cpu_s() - used) / (time.monotonic() - began)
        found["idle"] = daemon.memory_mb()
    return found
