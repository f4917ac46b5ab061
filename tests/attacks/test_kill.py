"""SIGKILL at any moment loses nothing that `log` has acknowledged."""

from __future__ import annotations

import os
import random
import signal
import time
from typing import TYPE_CHECKING

import pytest

import localstore
from tests.sdk.scripts import column, start

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

# Each step is acknowledged through a pipe after `log` returned; the pipe outlives the process.
VICTIM = """
import os, sys, localstore
acknowledged = int(sys.argv[1])
run = localstore.init(project="kill", id=sys.argv[2], resume="allow")
at = 0
while True:
    run.log({"n": at, "loss": at * 0.5, "text": "x" * (at % 50)})
    os.write(acknowledged, at.to_bytes(8, "little"))
    at += 1
"""


def killed(run_id: str, rng: random.Random, *, group: bool) -> int:
    """Start, let it log at full speed for a random moment, kill; returns steps acknowledged."""
    reader, writer = os.pipe()
    process = start(
        VICTIM, str(writer), run_id, pass_fds=(writer,), start_new_session=True, stderr=None
    )
    os.close(writer)
    count = sum(1 for _ in _until(reader, process, rng, group=group))
    process.communicate()
    os.close(reader)
    return count


def _until(
    reader: int, process: subprocess.Popen[str], rng: random.Random, *, group: bool
) -> Iterator[int]:
    # From the first step on, so that the moment falls anywhere among blocks and tails.
    left = int(rng.expovariate(1 / 20_000)) + 1
    number, rest = 0, b""
    while True:
        data = rest + os.read(reader, 65536)
        if not data:
            return
        whole = len(data) // 8 * 8
        rest = data[whole:]
        for at in range(0, whole, 8):
            assert int.from_bytes(data[at : at + 8], "little") == number
            number += 1
            yield number
            if number == left:
                if group:
                    os.killpg(process.pid, signal.SIGKILL)
                else:
                    process.kill()


def attack(kills: int, seed: int) -> int:
    """Kill many times; returns how many acknowledged steps were checked."""
    rng, checked = random.Random(seed), 0
    for number in range(kills):
        run_id = f"victim-{number}"
        count = killed(run_id, rng, group=bool(number % 2))
        run = localstore.Api().run(f"kill/{run_id}")
        found = column("n", run)
        # One step more may have been taken than was acknowledged.
        assert found[:count] == list(range(count)), f"kill {number}, seed {seed}"
        assert len(found) <= count + 1
        assert (run.state, run.gaps) == ("crashed", {})
        assert [one for one in run.problems if "ends inside" not in one] == []
        checked += count
    return checked


def test_thirty_kills_lose_no_acknowledged_step() -> None:
    assert attack(30, seed=1) > 1000


@pytest.mark.fuzz
def test_two_hundred_kills_lose_no_acknowledged_step() -> None:
    assert attack(200, seed=random.randrange(1 << 30)) > 100_000


def test_kills_of_one_run_that_goes_on_each_time_lose_no_acknowledged_step() -> None:
    rng, counts = random.Random(7), []
    for _ in range(5):
        counts.append(killed("phoenix", rng, group=True))
    found = column("n")
    for count in counts:
        assert found[:count] == list(range(count))
        # Each part begins with 0 again; what one wrote unacknowledged is at most one step.
        after = found[count:]
        found = after if after[:1] == [0] else after[1:]
    assert found == []


def test_kills_during_the_first_call_of_all_leave_a_home_that_works() -> None:
    rng = random.Random(3)
    first = "import localstore; localstore.init(project='kill', config={'a': 1}).log({'n': 1})"
    for _ in range(15):
        process = start(first)
        time.sleep(rng.uniform(0.04, 0.2))
        process.kill()
        process.communicate()
    with localstore.init(project="kill", id="last") as run:
        run.log({"n": 2})
        assert not run.disabled
    api = localstore.Api()
    assert len(api.projects()) == 1
    assert column("n", api.run("kill/last")) == [2]
    for one in api.runs():
        assert one.problems == []
        assert column("n", one) in ([], [1], [2])


def test_kills_of_processes_that_end_lose_no_step() -> None:
    """Blocks, heads and the emptying of tails are all at work when a run finishes."""
    rng = random.Random(5)
    code = """
import sys, localstore
run = localstore.init(project="kill", id=sys.argv[1])
for n in range(3000): run.log({"n": n})
print("logged", flush=True)
run.finish()
"""
    for number in range(12):
        process = start(code, f"end-{number}")
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.uniform(0, 0.02))
        process.kill()
        process.communicate()
        run = localstore.Api().run(f"kill/end-{number}")
        assert column("n", run) == list(range(3000))
        assert run.state in ("finished", "crashed")
