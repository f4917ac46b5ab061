"""Homes with runs in them, and what of a home another machine would get to see."""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING

from localstore import Api
from localstore.errors import NotFound
from localstore.layout import HomePaths
from localstore.policy.places import user_file
from localstore.project import Project
from localstore.reading import list_segments, read_segment
from localstore.remotes import add_remote
from localstored.explain import explain
from localstored.policy import Conditions

if TYPE_CHECKING:
    from pathlib import Path


def policy(home: Path, text: str) -> None:
    """Let the user's file say this."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    user_file(home).write_text(text)


def with_stick(home: Path) -> None:
    """Add a remote, if there is none."""
    if not (home / "remotes.toml").exists():
        add_remote(home, "stick", str(home.parent / "stick"))


def what_leaves(home: Path, conditions: Conditions | None = None) -> dict[str, bool]:
    """Every file of the one project here, and whether it leaves."""
    with_stick(home)
    (paths,) = HomePaths(home).all_projects()
    found = explain(home, paths.id, conditions=conditions or Conditions(), manual=True)
    return {one["item"]: one["leaves"] for one in found}


def elsewhere(home: Path, target: Path) -> Path:
    """A home of the same person that got what leaves, and nothing else."""
    leaves = what_leaves(home)
    shutil.copytree(home, target)
    (paths,) = HomePaths(target).all_projects()
    for name in paths.names():
        if not leaves.get(name, False):
            paths.file(name).unlink()
    return target


def opened(home: Path) -> bytes:
    """All that the owner's key opens in a home, names and contents, in one text."""
    api = Api(home)
    said: list[bytes] = []
    for paths in HomePaths(home).all_projects():
        project = Project(paths, api.identity)
        for folder in sorted(paths.runs.iterdir()):
            for files in list_segments(project, bytes.fromhex(folder.name), []):
                content = read_segment(project, files.name, tails=files.tails)
                said += [repr(record).encode() for record in content.records.values()]
    for run in api.runs():
        for file in run.files():
            with contextlib.suppress(NotFound):
                said.append(run.read_file(file.path))
    for latest in api.artifacts():
        for version in api.artifacts(name=latest.collection_name):
            with contextlib.suppress(NotFound):
                said += [entry.read() for entry in version.files()]
    return b"\n".join(said)
