"""A run that is watched from outside while it is alive, and what its log on a remote holds.

python -m bench.workers.live log HOME SECONDS EVERY_S     when each log() was called
python -m bench.workers.live ends HOME REMOTE RUN         steps in the log, by its length
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.workers.data import rows_of

if TYPE_CHECKING:
    from localstore.project import Project


def log(home: Path, seconds: float, every_s: float) -> dict[str, Any]:
    """Log a step of ten values every so often.

    Returns:
        The run, and the monotonic clock (ns) just before each `log`.
    """
    import localstore

    rows, called = rows_of("real", 10), list[int]()
    run = localstore.init(project="live", dir=home)
    start = time.monotonic()
    while (due := start + len(called) * every_s) < start + seconds:
        time.sleep(max(0.0, due - time.monotonic()))
        row = rows[len(called) % len(rows)]
        called.append(time.monotonic_ns())
        run.log(row)
    run.finish(quiet=True)
    return {"run": run.id, "called_ns": called}


def ends(home: Path, remote: Path, run_id: str) -> dict[str, list[tuple[int, int]]]:
    """For each metrics log of a run on a remote: its length after a frame, and the steps so far.

    The remote's own bytes are opened with this machine's keys.
    """
    from localstore import Api
    from localstore.layout import HomePaths
    from localstore.projects import Projects
    from localstore.vault import Vault

    run = Api(home).run(f"live/{run_id}")
    home_paths, found = HomePaths(home), dict[str, list[tuple[int, int]]]()
    projects = Projects(home_paths, Vault(home_paths).load()).all()
    project = next(one for one in projects if one.paths.id == run.project_id)
    folder = remote / "projects" / run.project_id / "runs" / run.subject
    for path in sorted(folder.glob("*.log")):
        lengths = _steps_by_length(project, f"runs/{run.subject}/{path.name}", path.read_bytes())
        if lengths:
            found[path.name] = lengths
    return found


def _steps_by_length(project: Project, name: str, raw: bytes) -> list[tuple[int, int]]:
    from localstore.format.spec import DataClass
    from localstore.reading import FrameWalk, read_segment

    walk = FrameWalk(name, raw)
    if walk.header.data_class != DataClass.METRICS:
        return []
    found = []
    for frame in walk.frames:
        content = read_segment(project, name, raw=raw[: frame.end])
        count = sum(block.record_count for block in content.blocks) + len(content.records)
        found.append((frame.end, count))
    return found


def main() -> None:
    """Do what the command line says, and print it."""
    task, home, *rest = sys.argv[1:]
    if task == "log":
        result: Any = log(Path(home), float(rest[0]), float(rest[1]))
    else:
        result = ends(Path(home), Path(rest[0]), rest[1])
    print(json.dumps(result))


if __name__ == "__main__":
    main()
