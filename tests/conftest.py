"""What every test has: a home of its own, and no setting of the person who runs the tests."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


# What runs beside a run has tests of its own, which switch it on.
QUIET_RUNS = {
    "LOCALSTORE_CONSOLE": "false",
    "LOCALSTORE_SYSTEM_METRICS": "false",
    "LOCALSTORE_ENVIRONMENT": "false",
    "LOCALSTORE_CODE_SAVING": "off",
    "LOCALSTORE_HOST_NAMES": "off",
}


@pytest.fixture(scope="session", autouse=True)
def nothing_beside_the_runs() -> None:
    """Also for what is made before a test has its own environment."""
    os.environ.update(QUIET_RUNS)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only the settings that a test gives itself."""
    for name in list(os.environ):
        if name.startswith("LOCALSTORE_"):
            monkeypatch.delenv(name)
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    monkeypatch.setenv("LOCALSTORE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LOCALSTORE_QUIET", "1")
    for name, value in QUIET_RUNS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("localstore.settings._taken", {})
