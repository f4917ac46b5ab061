"""Training scripts as processes of their own, and what their runs hold afterwards."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import localstore

if TYPE_CHECKING:
    from localstore.query.api import StoredRun

TIMEOUT_S = 120.0


def start(code: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """A Python process that runs `code`; its stdout and stderr are pipes."""
    words = [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(words, **{**pipes, **options})


def run_script(code: str, *arguments: str) -> tuple[int, str, str]:
    """Run `code` to its end; returns exit code, stdout and stderr."""
    process = start(code, *arguments)
    out, err = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, out, err


def only_run() -> StoredRun:
    """The one run of the store."""
    (run,) = localstore.Api().runs()
    return run


def points(run: StoredRun | None = None) -> list[dict[str, Any]]:
    """Step and values of each row, without times."""
    rows = (run or only_run()).scan_history()
    return [{k: v for k, v in row.items() if k not in ("_timestamp", "_runtime")} for row in rows]


def column(key: str, run: StoredRun | None = None) -> list[Any]:
    """The values of one key in order."""
    return [row[key] for row in points(run) if key in row]
