"""Runs schedules: `python -m tests.simulation --first 0 --count 100`, or one again: `--seed 17`.

Prints the seeds that fail, and ends with status 1 when there are any.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import traceback
from pathlib import Path

HASH_SEED = "0"  # the order of sets of text is part of a schedule


def main() -> int:
    """Run the schedules that the command line names."""
    if os.environ.get("PYTHONHASHSEED") != HASH_SEED:
        os.execve(  # noqa: S606 - this very program, with the order of sets fixed
            sys.executable,
            [sys.executable, "-m", "tests.simulation", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": HASH_SEED},
        )
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seed", type=int, help="one schedule, with what happens in it")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=100)
    words = parser.parse_args()
    seeds = (
        [words.seed] if words.seed is not None else range(words.first, words.first + words.count)
    )
    failed = [seed for seed in seeds if not _holds(seed)]
    _say(f"{len(seeds)} schedules, {len(failed)} failed: {failed}")
    return 1 if failed else 0


def _holds(seed: int) -> bool:
    from tests.simulation.world import run_schedule

    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="localstore-simulation-", dir=memory))
    try:
        run_schedule(folder, seed)
    except Exception:  # noqa: BLE001 - whatever it is, the seed replays it
        _say(f"schedule {seed} failed; again: python -m tests.simulation --seed {seed}")
        traceback.print_exc(file=sys.stdout)
        return False
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return True


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
