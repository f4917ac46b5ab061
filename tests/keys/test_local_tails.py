"""With a node-local `tail_dir`, a killed writer's last records still come home."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import localstore
from localstore.tails import bring_home
from tests.keys.conftest import record

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from localstore.layout import HomePaths

KILLED = """
import os, signal, localstore
run = localstore.init(project="digits", id="killed")
for step in range(500):
    run.log({"loss": float(step)})
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_records_in_a_node_local_tail_are_read_and_brought_home(
    home: HomePaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tails = tmp_path / "node"
    monkeypatch.setenv("LOCALSTORE_TAIL_DIR", str(tails))
    subprocess.run([sys.executable, "-c", KILLED], check=False, env=dict(os.environ))
    assert list(tails.glob("*/*/*.t0"))
    assert not list(home.projects.glob("*/runs/*/*.t0"))

    assert len(localstore.Api(home.root).run("killed").history(pandas=False)["loss"]) == 500
    assert bring_home(str(tails), home, now_s=time.time() + 60) >= 1
    monkeypatch.delenv("LOCALSTORE_TAIL_DIR")

    assert len(localstore.Api(home.root).run("killed").history(pandas=False)["loss"]) == 500


def test_a_finished_run_leaves_no_tail_on_the_node(
    home: HomePaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCALSTORE_TAIL_DIR", str(tmp_path / "node"))
    record(home)
    assert not [path for path in (tmp_path / "node").glob("*/*/*") if path.is_file()]
