"""The units: systemd takes them without a word, and finds little to object to."""

from __future__ import annotations

import os
import plistlib
import shlex
import subprocess
from pathlib import Path

import pytest

from localstore.cli.daemon_units import NO_NAMESPACES, property_list, system_unit, user_unit
from localstore.vault import CREDENTIAL_NAME

FOLDER = Path(__file__).parents[2] / "systemd"
USER, SYSTEM = FOLDER / "localstored.service", FOLDER / "localstored@.service"


def test_the_files_in_the_sources_are_those_that_the_command_writes() -> None:
    assert USER.read_text() == user_unit()
    assert SYSTEM.read_text() == system_unit()
    assert (FOLDER / "no-namespaces.conf").read_text() == NO_NAMESPACES


@pytest.mark.real("systemd-analyze")
@pytest.mark.parametrize("unit", [USER, SYSTEM], ids=lambda unit: unit.name)
def test_systemd_has_nothing_to_say_about_a_unit(unit: Path, tmp_path: Path) -> None:
    """An unknown key leaves exit status 0: stderr must be empty, too."""
    manager = ["--user"] if unit is USER else []
    done = subprocess.run(
        ["systemd-analyze", *manager, "verify", "--man=no", str(unit)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


@pytest.mark.real("systemd-analyze")
@pytest.mark.parametrize("unit", [USER, SYSTEM], ids=lambda unit: unit.name)
def test_a_unit_is_exposed_by_no_more_than_two_and_a_half(unit: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=25", str(unit)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout.splitlines()[-1]


def test_the_user_unit_gives_the_service_no_secret() -> None:
    """The service needs no key: a credential in its unit would be one too many."""
    assert "Credential" not in USER.read_text()
    assert "EnvironmentFile" not in USER.read_text() + SYSTEM.read_text()


def test_the_system_unit_offers_the_credential_that_the_vault_reads() -> None:
    assert f"\nLoadCredential={CREDENTIAL_NAME}\n" in SYSTEM.read_text()


def test_what_needs_a_person_is_not_tried_again() -> None:
    from localstore.errors import AlreadyExists, BadSetting

    line = f"RestartPreventExitStatus={AlreadyExists.exit_code} {BadSetting.exit_code}\n"
    assert line in USER.read_text()
    assert line in SYSTEM.read_text()


@pytest.mark.real("systemd-analyze")
@pytest.mark.parametrize(
    "word",
    ["/opt/a b/localstored", "/opt/100%/localstored", "/opt/a;b/$HOME/x"],
)
def test_any_path_of_command_and_home_survives_a_unit(tmp_path: Path, word: str) -> None:
    tool = tmp_path / word.lstrip("/")
    tool.parent.mkdir(parents=True)
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    unit = tmp_path / "localstored.service"
    unit.write_text(user_unit([str(tool)], {"LOCALSTORE_HOME": f'{word} "q" \\'}))
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", "--man=no", str(unit)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (done.stderr, done.returncode) == ("", 0)


def test_a_launch_agent_says_what_to_start_with_what_and_where_it_logs(tmp_path: Path) -> None:
    raw = property_list(["/opt/l s/localstored"], {"LOCALSTORE_HOME": "/a&b"}, tmp_path / "log")
    agent = plistlib.loads(raw)
    assert agent["ProgramArguments"] == ["/opt/l s/localstored"]
    assert agent["EnvironmentVariables"] == {"LOCALSTORE_HOME": "/a&b"}
    assert agent["RunAtLoad"] is True
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
    assert agent["StandardErrorPath"] == str(tmp_path / "log")


def test_the_printed_steps_are_commands_that_a_shell_reads() -> None:
    from localstore.cli.daemon import SYSTEM_STEPS

    commands = [line for line in SYSTEM_STEPS.splitlines() if line.startswith("  ")]
    assert len(commands) == 5
    assert all(shlex.split(command, comments=True) for command in commands)
