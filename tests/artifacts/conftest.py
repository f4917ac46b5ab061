"""What tests of artifacts share: homes, and ways to log into them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import localstore
from localstore import settings
from localstore.artifacts.reading import reader
from localstore.layout import HomePaths
from localstore.projects import Projects
from localstore.vault import Vault
from tests.keys.conftest import carry, recover

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from localstore.artifacts.model import ArtifactState
    from localstore.project import Project

__all__ = ["carry", "recover"]


@pytest.fixture(autouse=True)
def no_run_left_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No surroundings to record, a working folder of its own, and no run that stays open."""
    for name in ("CONSOLE", "SYSTEM_METRICS", "ENVIRONMENT"):
        monkeypatch.setenv(f"LOCALSTORE_{name}", "0")
    monkeypatch.setenv("LOCALSTORE_CODE_SAVING", "off")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    yield
    localstore.finish()


@pytest.fixture
def home(tmp_path: Path) -> HomePaths:
    """The first machine; the one that is used where none is named."""
    return HomePaths(tmp_path / "home")


@pytest.fixture
def laptop(tmp_path: Path) -> HomePaths:
    """The folder of another machine."""
    return HomePaths(tmp_path / "laptop")


def log(
    home: HomePaths, files: dict[str, str], name: str = "model", *aliases: str, **more: Any
) -> localstore.Artifact:
    """One run that logs one version of some texts."""
    with localstore.init(project="digits", dir=home.root) as run:
        artifact = localstore.Artifact(name, "model", **more)
        for path, content in files.items():
            with artifact.new_file(path) as file:
                file.write(content)
        run.log_artifact(artifact, aliases=aliases)
    return artifact


def open_project(home: HomePaths, name: str = "digits") -> Project:
    """A project of a home, opened anew."""
    found, _ = Projects(home, Vault(home).load()).open_or_create("", name)
    return found


def options(home: HomePaths) -> settings.Settings:
    """The settings of a home."""
    return settings.load({"home": str(home.root)})


def state(home: HomePaths, name: str = "model") -> ArtifactState:
    """An artifact as a home has it."""
    return reader(open_project(home)).read(name)


def bytes_of(home: HomePaths) -> int:
    """What all files of a home take."""
    return sum(path.stat().st_size for path in home.root.rglob("*") if path.is_file())
