"""A store with two runs, and ways to run the command on it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

import localstore
from localstore.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable

COMMAND = Path(sys.executable).with_name("localstore")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command left."""

    code: int
    out: str
    err: str


def call(*words: str, stdin: str | None = None, **environment: str) -> Outcome:
    """Run the command in this process; a bug in it fails the test with its own trace."""
    before = {name: os.environ.get(name) for name in ("LOCALSTORE_HOME", "LOCALSTORE_QUIET")}
    result = CliRunner().invoke(main, words, input=stdin, env=environment, prog_name="localstore")
    for name, value in before.items():
        if value is not None:
            os.environ[name] = value
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)


def spawn(*words: str, stdin: str = "", **environment: str) -> Outcome:
    """Run the installed command as a process of its own."""
    done = subprocess.run(
        [str(COMMAND), *words],
        input=stdin,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def make_run() -> Callable[..., str]:
    """Make a finished run in this test's home; returns its id."""

    def make(rows: list[dict[str, Any]] | None = None, *, exit_code: int = 0, **about: Any) -> str:
        run = localstore.init(**{"project": "digits", **about})
        for row in rows or []:
            run.log(row)
        run.finish(exit_code=exit_code)
        return run.id

    return make


@pytest.fixture
def two_runs(make_run: Callable[..., str]) -> None:
    """Runs `first` and `second` of project digits, of user ada."""
    rows = [{"loss": 1.0, "acc": 0}, {"loss": 0.5, "acc": 1}]
    make_run(rows, id="first", name="alpha", config={"lr": 0.1, "net": {"depth": 3}})
    make_run([{"loss": 2.0, "acc": 0}], id="second", name="beta", config={"lr": 0.2}, exit_code=3)


@pytest.fixture(autouse=True)
def ada(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key of these tests belongs to a user of this name; times are UTC."""
    monkeypatch.setenv("LOCALSTORE_USERNAME", "ada")
    monkeypatch.setenv("TZ", "UTC")
