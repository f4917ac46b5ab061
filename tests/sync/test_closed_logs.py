"""A log that its writer closed never grows again, whatever a remote adds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import localstore
from localstore.format.segment import encode_ref
from localstore.layout import HomePaths
from localstore.remotes import add_remote
from localstored.engine import sync_home

if TYPE_CHECKING:
    from pathlib import Path


def finished_run(home: Path) -> None:
    run = localstore.init(project="digits", dir=home)
    for step in range(20):
        run.log({"loss": float(step)})
    run.finish()


def test_frames_that_a_remote_adds_behind_a_final_head_are_refused_and_named(
    tmp_path: Path,
) -> None:
    home = tmp_path / "first"
    finished_run(home)
    add_remote(home, "stick", str(tmp_path / "stick"))
    assert sync_home(home).ok
    (paths,) = HomePaths(home).all_projects()
    before = {path: path.read_bytes() for path in paths.runs.glob("*/*.log")}
    for path in (tmp_path / "stick").glob("projects/*/runs/*/*.log"):
        path.chmod(0o600)
        path.write_bytes(path.read_bytes() + encode_ref([bytes(32)], 9))

    report = sync_home(home, relist=True)

    assert not report.ok
    assert "behind the writer's final head" in str(report.to_json())
    assert {path: path.read_bytes() for path in before} == before


def test_a_second_machine_takes_such_a_log_up_to_its_final_head(tmp_path: Path) -> None:
    home, other = tmp_path / "first", tmp_path / "second"
    finished_run(home)
    add_remote(home, "stick", str(tmp_path / "stick"))
    sync_home(home)
    (paths,) = HomePaths(home).all_projects()
    for path in (tmp_path / "stick").glob("projects/*/runs/*/*.log"):
        path.chmod(0o600)
        path.write_bytes(path.read_bytes() + encode_ref([bytes(32)], 9))
    add_remote(other, "stick", str(tmp_path / "stick"))
    from localstore.vault import Vault

    sync_home(other, recipients=Vault(HomePaths(home)).recipients())

    there = HomePaths(other).project(paths.id)
    for path in paths.runs.glob("*/*.log"):
        assert there.file(str(path.relative_to(paths.root))).read_bytes() == path.read_bytes()
