"""Global options, errors and exit codes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from importlib import import_module
from typing import TYPE_CHECKING

import click
import pytest

import localstore
from localstore import cli, errors
from localstore.cli import COMMANDS, EXIT_CODES, main
from tests.cli.conftest import COMMAND, call, spawn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _raise(problem: BaseException) -> Callable[[], None]:
    def command() -> None:
        raise problem

    return command


def _call_raising(monkeypatch: pytest.MonkeyPatch, problem: BaseException) -> tuple[int, str]:
    """What the command line makes of an exception that `ls` raises."""
    command = click.Command("ls", callback=_raise(problem))
    monkeypatch.setattr(cli.Commands, "get_command", lambda *_: command)
    outcome = call("ls")
    assert outcome.out == ""
    return outcome.code, outcome.err


ERRORS = {
    errors.LocalStoreError: 1,
    errors.UsageError: 2,
    errors.BadName: 2,
    errors.ConfigError: 2,
    errors.BadSetting: 78,
    errors.NotFound: 66,
    errors.Pruned: 66,
    errors.AlreadyExists: 73,
    errors.KeyUnavailable: 11,
    errors.NotPermitted: 77,
    errors.StoreError: 74,
    errors.Damaged: 20,
    errors.Torn: 20,
    errors.Forged: 20,
    errors.RemoteError: 69,
    errors.Conflict: 69,
    errors.Refused: 69,
}


@pytest.mark.parametrize(("kind", "code"), ERRORS.items(), ids=str)
def test_each_error_has_its_exit_code_one_line_and_a_hint(
    monkeypatch: pytest.MonkeyPatch, kind: type[errors.LocalStoreError], code: int
) -> None:
    found = _call_raising(monkeypatch, kind("it broke", hint="mend it"))
    assert found == (code, "localstore: error: it broke\nlocalstore: hint: mend it\n")
    assert code in EXIT_CODES


def test_the_table_above_has_every_error() -> None:
    def below(kind: type[errors.LocalStoreError]) -> set[type[errors.LocalStoreError]]:
        return {kind}.union(*map(below, kind.__subclasses__()))

    of_ours = {kind for kind in below(errors.LocalStoreError) if kind.__module__ == errors.__name__}
    assert of_ours == ERRORS.keys()


def test_an_error_of_the_disk_names_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/mnt/store")
    found = _call_raising(monkeypatch, problem)
    assert found == (74, "localstore: error: /mnt/store: No space left on device\n")


def test_an_interrupt_leaves_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _call_raising(monkeypatch, KeyboardInterrupt())[0] == 130


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError):
        _call_raising(monkeypatch, ZeroDivisionError())


def test_a_hostile_text_in_an_error_is_shown_inert(monkeypatch: pytest.MonkeyPatch) -> None:
    _, err = _call_raising(monkeypatch, errors.NotFound("no \x1b[2J\u202erun"))
    assert err == "localstore: error: no \\x1b[2J\\u202erun\n"


@pytest.mark.parametrize("words", [["bogus"], ["ls", "--bogus"], ["show"], ["ls", "--limit", "0"]])
def test_a_wrong_command_line_is_2_with_a_hint(words: list[str]) -> None:
    outcome = call(*words)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("localstore: error: ")
    assert "--help` lists what it takes" in outcome.err


def test_help_lists_every_command_and_exit_code_and_imports_none() -> None:
    """`localstore --help` and completion are fast, however many commands there are."""
    code = (
        "import sys, localstore.cli\n"
        "sys.argv = ['localstore', '--help']\n"
        "try: localstore.cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'rich', 'nacl', 'localstore.query.api', 'localstore.cli.ls', 'platformdirs'}\n"
        "sys.exit(','.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    for name in COMMANDS:
        assert f"\n  {name} " in done.stdout
    for exit_code, meaning in EXIT_CODES.items():
        assert f"    {exit_code:<3}  {meaning}\n" in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_is_there_and_has_help(name: str) -> None:
    module, _, attribute = COMMANDS[name][0].partition(":")
    assert isinstance(getattr(import_module(module), attribute), click.Command)
    outcome = call(name, "--help")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith(f"Usage: localstore {name} ")


def test_version() -> None:
    outcome = spawn("--version")
    assert (outcome.code, outcome.out) == (0, f"localstore {localstore.__version__}\n")


def test_home_names_the_store(two_runs: None, tmp_path: Path) -> None:
    outcome = call("--home", str(tmp_path / "other"), "ls", LOCALSTORE_QUIET="0")
    assert (outcome.code, outcome.out) == (0, "")
    assert outcome.err.startswith(f"localstore: no runs yet in {tmp_path / 'other'}; ")


def test_quiet_says_nothing_but_data() -> None:
    assert call("-q", "ls", LOCALSTORE_QUIET="0").err == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_script_of_a_shell(shell: str) -> None:
    outcome = call("completion", shell)
    assert (outcome.code, outcome.err) == (0, "")
    assert f"_LOCALSTORE_COMPLETE={shell}_complete" in outcome.out


def test_completion_of_a_command_name() -> None:
    words = {
        "_LOCALSTORE_COMPLETE": "bash_complete",
        "COMP_WORDS": "localstore ex",
        "COMP_CWORD": "1",
    }
    assert spawn(**words).out == "plain,export\n"


def test_a_reader_that_goes_away_is_no_error(two_runs: None) -> None:
    """`localstore export | true` prints nothing on stderr."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        done = subprocess.run(
            [str(COMMAND), "export"], stdout=pipe, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert (done.returncode, done.stderr) == (141, "")


def test_a_malformed_setting_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/config.toml").write_text("nonsense = 1\n")
    outcome = call("ls")
    assert outcome.code == 78
    assert outcome.err.startswith(
        f"localstore: error: {tmp_path}/home/config.toml: unknown setting"
    )


def test_a_name_that_the_terminal_has_no_letters_for_is_escaped(
    make_run: Callable[..., str],
) -> None:
    make_run(id="one", name="läuft 好")
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}
    done = subprocess.run([str(COMMAND), "ls"], capture_output=True, env=environment, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"l\xe4uft \\u597d" in done.stdout


def test_main_is_what_the_package_installs() -> None:
    assert main.name == "main"
    assert COMMAND.exists()


@pytest.mark.parametrize("group", ["config", "device", "key", "project", "remote", "sync"])
def test_the_help_of_a_group_says_whole_sentences(group: str) -> None:
    commands = call(group, "--help").out.partition("Commands:\n")[2]
    assert commands
    assert "..." not in commands
