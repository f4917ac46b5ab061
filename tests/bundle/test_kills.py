"""Exports and imports that are killed go on, and say nothing that is not so."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

from localstore.format.spec import DataClass
from tests.bundle.homes import export, import_
from tests.sync.makers import make_project, synced_bytes

if TYPE_CHECKING:
    from pathlib import Path

_KILLS = 6
_MOST_S = 30.0

_EXPORT = """
import sys
from pathlib import Path
from tests.bundle.homes import export
raise SystemExit(not export(Path(sys.argv[1]), Path(sys.argv[2]), part_bytes=8 << 20).ok)
"""
_IMPORT = """
import sys
from pathlib import Path
from tests.bundle.homes import import_
raise SystemExit(not import_(Path(sys.argv[1]), Path(sys.argv[2])).ok)
"""


def size_of(folder: Path, pattern: str) -> int:
    """Bytes of files, some of which may be about to get another name."""
    total = 0
    for path in folder.rglob(pattern):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def kill_when(code: str, home: Path, bundle: Path, grown: Path, pattern: str, more: int) -> None:
    """Start a process, and kill it once files below a folder have grown by so many bytes."""
    begun = size_of(grown, pattern) if grown.exists() else 0
    process = subprocess.Popen([sys.executable, "-c", code, str(home), str(bundle)])
    try:
        until = time.monotonic() + _MOST_S
        while process.poll() is None and time.monotonic() < until:
            if grown.exists() and size_of(grown, pattern) >= begun + more:
                break
            time.sleep(0.002)
    finally:
        process.kill()
        process.wait()


def test_killed_again_and_again_everything_arrives_in_the_end(tmp_path: Path) -> None:
    home, desk, stick = tmp_path / "home", tmp_path / "desk", tmp_path / "stick"
    stick.mkdir()
    project = make_project(home)
    subject = project.run()
    objects = [project.object(size=900_000 + 31 * n) for n in range(30)]
    project.log(subject, DataClass.ARTIFACTS, refs=objects)
    path = stick / "a.bundle"
    for _ in range(_KILLS):
        kill_when(_EXPORT, home, path, stick, "a.bundle*", 3_000_000)
    assert export(home, path, part_bytes=8 << 20).ok
    assert size_of(stick, "*") < 1.05 * size_of(home / "projects", "*"), "nothing went in twice"
    for _ in range(_KILLS):
        kill_when(_IMPORT, desk, path, desk, "*", 3_000_000)
    taken = import_(desk, path)
    assert taken.ok, taken.to_json()
    assert synced_bytes(desk) == synced_bytes(home)
    assert not list(home.glob("projects/*/receipts/*"))
    assert not list(desk.glob("projects/*/receipts/*"))
