"""A sync that finds nothing to do must cost next to nothing."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from localstored.remotes.folder import FolderRemote
from localstored.remotes.memory import MemoryRemote
from tests.sync.conftest import sync, sync_with
from tests.sync.makers import TAG, make_project

if TYPE_CHECKING:
    from pathlib import Path

RUNS = 1000
LIMIT_S = 1.0
_NOOP = """
import resource, sys
from pathlib import Path
from localstored.engine import sync_home
report = sync_home(Path(sys.argv[1]), recipients=frozenset({sys.argv[2]}))
used = resource.getrusage(resource.RUSAGE_SELF)
print(report.ok, report.moved, used.ru_utime + used.ru_stime)
"""


def test_a_sync_of_a_thousand_unchanged_runs_takes_under_a_second(home: Path, stick: Path) -> None:
    """Process time of a whole new process, imports included."""
    project = make_project(home)
    for _ in range(RUNS):
        project.run()
    # The first sync is done by hand, without the thousands of fsyncs that are not measured here.
    quick = MemoryRemote(FolderRemote(stick).id)
    assert sync_with(home, quick).ok
    for entry in quick.list(""):
        path = stick / entry.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(quick.read(entry.name, 0, entry.size))
    assert sync(home).moved == 0

    command = [sys.executable, "-c", _NOOP, str(home), TAG]
    times = []
    for _ in range(3):
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        assert out[:2] == ["True", "0"]
        times.append(float(out[2]))
    assert min(times) < LIMIT_S, times
