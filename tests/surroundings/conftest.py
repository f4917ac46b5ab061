"""Git as it is for somebody with a name and no other configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.surroundings.repository import Repository

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def person(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The configuration file of the person who runs the tests."""
    configuration = tmp_path / "gitconfig"
    configuration.write_text(
        "[user]\n\tname = Ada\n\temail = ada@example.org\n"
        '[protocol "file"]\n\tallow = always\n[commit]\n\tgpgsign = false\n'
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(configuration))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    return configuration


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """An empty repository, with no commit yet."""
    return Repository(tmp_path / "work")
