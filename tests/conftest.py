"""What every test has: a home of its own, and no setting of the person who runs the tests."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only the settings that a test gives itself."""
    for name in list(os.environ):
        if name.startswith("LOCALSTORE_"):
            monkeypatch.delenv(name)
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    monkeypatch.setenv("LOCALSTORE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LOCALSTORE_QUIET", "1")
    # What runs beside a run has tests of its own, which switch it on.
    for part in ("CONSOLE", "SYSTEM_METRICS", "ENVIRONMENT"):
        monkeypatch.setenv(f"LOCALSTORE_{part}", "false")
    monkeypatch.setenv("LOCALSTORE_CODE_SAVING", "off")
    monkeypatch.setenv("LOCALSTORE_HOST_NAMES", "off")
    monkeypatch.setattr("localstore.settings._taken", {})
