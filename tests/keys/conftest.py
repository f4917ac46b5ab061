"""Two or more homes of one person, and a way to carry their projects about."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

import localstore
from localstore import identity, settings
from localstore import vault as vault_module
from localstore.layout import HomePaths

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def no_run_left_open() -> Iterator[None]:
    """A failed test does not lend its run to the next one."""
    yield
    localstore.finish()


@pytest.fixture
def home(tmp_path: Path) -> HomePaths:
    """The first machine."""
    return HomePaths(tmp_path / "home")


def record(home: HomePaths, project: str = "digits", **values: float) -> str:
    """A finished run with ten steps; returns its id."""
    run = localstore.init(project=project, dir=home.root, config={"lr": 0.1})
    for step in range(10):
        run.log({"loss": 1.0 / (step + 1), **values})
    run.finish()
    return run.id


def recover(home: HomePaths, target: HomePaths) -> None:
    """Another machine of the same person."""
    code = identity.recovery_code(vault_module.Vault(home).load())
    vault_module.recover(target, code, settings.load({"home": str(target.root)}))


def carry(source: HomePaths, target: HomePaths) -> None:
    """Copy what replicas exchange, as a sync would."""
    for paths in source.all_projects():
        for name in paths.names():
            there = target.project(paths.id).file(name)
            if name.endswith((".t0", ".t1")) or there.exists():
                continue
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(paths.file(name), there)
