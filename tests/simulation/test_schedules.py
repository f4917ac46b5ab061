"""Whatever happens between replicas and remotes, nothing is lost, doubled or resurrected.

SIMULATION_SCHEDULES says how many seeded schedules are run; CI runs ten thousand. A seed that fails
is printed, and `python -m tests.simulation --seed N` runs it again, step for step.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.simulation.world import run_schedule
from tests.sync.makers import synced_bytes

ROOT = Path(__file__).parents[2]
SCHEDULES = int(os.environ.get("SIMULATION_SCHEDULES", "400"))
LIMIT_S = 3600


def run(first: int, count: int) -> subprocess.CompletedProcess[str]:
    """Some schedules in a process of their own."""
    words = ["-m", "tests.simulation", "--first", str(first), "--count", str(count)]
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S
    )


def run_all(first: int, count: int) -> None:
    """Schedules on all processors; fails with the seeds that do not hold."""
    share = -(-count // (os.cpu_count() or 1))
    starts = range(first, first + count, share)
    with ThreadPoolExecutor(len(starts)) as pool:
        done = list(pool.map(lambda start: run(start, min(share, first + count - start)), starts))
    failed = [found.stdout + found.stderr for found in done if found.returncode]
    assert not failed, "\n".join(failed)
    assert sum(int(found.stdout.split()[0]) for found in done) == count


def test_all_replicas_agree_with_the_model_whatever_happens() -> None:
    run_all(0, SCHEDULES)


@pytest.mark.fuzz
def test_all_replicas_agree_with_the_model_for_a_hundred_thousand_schedules() -> None:
    run_all(1_000_000, 100_000)


@pytest.mark.parametrize("seed", [7, 399, 2563])
def test_a_schedule_replays_step_for_step(tmp_path: Path, seed: int) -> None:
    first, again = (run_schedule(tmp_path / name, seed) for name in ("a", "b"))
    assert (first.log, first.steps, first.logs) == (again.log, again.steps, again.logs)
    assert [place.contents() for place in first.places] == [p.contents() for p in again.places]
    for client, double in zip(first.clients, again.clients, strict=True):
        assert synced_bytes(client.home) == synced_bytes(double.home)
