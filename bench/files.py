"""Artifacts and images as a training script meets them: what a call costs, and what a step."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Final

from bench.artifacts import make
from bench.core import OURS, Row, result_of
from bench.workers import dataset
from bench.workers.sizes import size_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.core import Bench

KEEPERS: Final = (OURS, "wandb", "trackio")
_FILE_BYTES: Final = 5_000_000
_TIMES: Final = 4
_FOLDER_CALLS: Final = 3
_ENOUGH_STEPS: Final = 20


def _each(bench: Bench, what: str, step: Callable[[str], None]) -> None:
    """Let every tool that is there do one step."""
    for tool in KEEPERS:
        if tool in bench.tools:
            bench.attempt(tool, what, step)


# ------------------------------------------------------------------ calls
def bench_calls(bench: Bench) -> None:
    """`log_artifact` of small and large things, one file again and again, a training beside it."""
    parts = make(bench)
    root = parts / "1"
    dataset.warm(root)
    _bench_repeat(bench, parts / "same.bin")
    _bench_times(bench, parts)
    for kind in ("numpy", "python"):
        _bench_training(bench, root, kind)


def _bench_repeat(bench: Bench, file: Path) -> None:
    """One file of 5 MB, four times in one run of a fresh store."""
    file.write_bytes(dataset.noise(7, _FILE_BYTES))
    stored = bench.add(Row("5 MB logged 4 times, bytes kept", "MB", "5"))
    later = Row("5 MB logged again, bytes added", "B", "2,000")
    bench.rows.append(later)

    def step(tool: str) -> None:
        folder = bench.folder()
        found = bench.ask(tool, "repeat", folder, source=str(file), times=_TIMES)
        stored.values[tool] = found["kept_bytes"] / 1e6
        later.values[tool] = found["later_bytes"]
        bench.done_with(folder)

    _each(bench, stored.what, step)


def _bench_times(bench: Bench, parts: Path) -> None:
    """How long `log_artifact` keeps its caller; a fresh store for each kind of thing."""
    files = []
    for number in range(bench.size.calls):
        files.append(parts / f"call-{number}.bin")
        files[-1].write_bytes(dataset.noise(20 + number, _FILE_BYTES))
    small = bench.size.artifact * 20_000
    kinds = {
        "a file of 5 MB": files,
        f"a file of {bench.size.artifact * 300:.0f} MB": [parts / "1/big.bin"] * _FOLDER_CALLS,
        f"a folder of {small:,.0f} files": [parts / "1/small"] * _FOLDER_CALLS,
    }
    for what, sources in kinds.items():
        _bench_kind(bench, what, [str(source) for source in sources])


def _bench_kind(bench: Bench, what: str, sources: list[str]) -> None:
    made = bench.add(Row(f"Artifact and add_* of {what}, median", "ms", ""))
    called = Row(f"log_artifact of {what}, median", "ms", "50")
    longest = Row(f"log_artifact of {what}, longest of {len(sources)}", "ms", "50")
    bench.rows += [called, longest]

    def step(tool: str) -> None:
        folder = bench.folder()
        found = bench.ask(tool, "calls", folder, sources=sources)
        made.values[tool] = found["made_ms"]
        called.values[tool] = found["called_ms"]
        longest.values[tool] = found["longest_ms"]
        bench.done_with(folder)

    _each(bench, called.what, step)


def _bench_training(bench: Bench, root: Path, kind: str) -> None:
    """A training that logs the whole set: how long it stands still, and how slow it is then."""
    label = f"training in {kind}"
    stopped = bench.add(Row(f"{label}, stands still for the artifact of 1 GiB", "s", "0.05"))
    slower = Row(f"{label}, step while it is kept, against alone", "x", "")
    slowest = Row(f"{label}, slowest step while it is kept", "ms", "")
    more = Row(f"{label}, wall time that the artifact adds in all", "s", "")
    bench.rows += [slower, slowest, more]

    def step(tool: str) -> None:
        folder = bench.folder()
        found = bench.ask(
            tool, "training", folder, source=str(root), kind=kind, steps=bench.size.training_steps
        )
        stopped.values[tool] = found["stopped_s"]
        if found["steps_beside"] >= _ENOUGH_STEPS:  # the others do it all before they return
            slower.values[tool] = found["beside_ms"] / found["alone_ms"]
            slowest.values[tool] = found["slowest_ms"]
        more.values[tool] = found["more_s"]
        bench.done_with(folder)

    _each(bench, label, step)


# ------------------------------------------------------------------ images
def bench_images(bench: Bench) -> None:
    """Arrays logged as images: the whole process, one call, and what is kept."""
    count = bench.size.images
    wall = bench.add(Row(f"{count:,} images of 256x256, whole process", "s", "wandb"))
    called = Row("log() of an image, median", "ms", "")
    kept = Row(f"{count:,} images, bytes kept", "MB", "")
    peak = Row(f"{count:,} images, peak memory", "MB", "")
    bench.rows += [called, kept, peak]

    def step(tool: str) -> None:
        walls, medians, sizes, peaks = [], [], [], []
        for _ in range(bench.size.repeats):
            folder = bench.folder()
            bench.ask(tool, "empty", folder)
            before = size_of(folder)
            spent = bench.spend(bench.words(tool, "images", folder, count=count))
            walls.append(spent.wall_s)
            peaks.append(spent.peak_mb)
            medians.append(result_of(spent)["median_ms"])
            sizes.append((size_of(folder) - before) / 1e6)
            bench.done_with(folder)
        wall.values[tool] = statistics.median(walls)
        called.values[tool] = statistics.median(medians)
        kept.values[tool] = statistics.median(sizes)
        peak.values[tool] = statistics.median(peaks)

    _each(bench, wall.what, step)
