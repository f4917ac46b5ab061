"""The unit is one that systemd takes without a word."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "systemd" / "localstored.service"


@pytest.mark.real("systemd-analyze")
def test_systemd_has_nothing_to_say_about_the_unit(tmp_path: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", "--man=no", str(UNIT)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_the_unit_gives_the_service_no_secret() -> None:
    """The service needs no key: a credential in its unit would be one too many."""
    text = UNIT.read_text()
    assert "Credential" not in text
    assert "EnvironmentFile" not in text
