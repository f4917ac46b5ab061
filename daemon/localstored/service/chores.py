"""Work that comes once in a while and may need much memory, as a process of its own.

`python -m localstored.service.chores NAME …`: the service starts it, reads the JSON object that it
prints, and ends it when the service ends. It works at a low priority and needs no key.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from localstore import trust
from localstore.ending import run_program
from localstore.errors import Damaged, LocalStoreError
from localstore.layout import HomePaths
from localstore.remotes import read_remotes
from localstore.store.gc import collect
from localstored.policyfile import Book
from localstored.remotes import open_remote
from localstored.service.patrol import Patrol, Round

if TYPE_CHECKING:
    from collections.abc import Sequence

_NICE: Final = 10


def verify(home: Path, here_bytes: int, there_bytes: int, remotes: Sequence[str]) -> dict[str, Any]:
    """A slice of the daily round, here and on some remotes."""
    patrol, book = Patrol(home), Book.read(home)
    rounds = {"": patrol.here(here_bytes)}
    problems = {}
    for entry in read_remotes(home).values():
        if entry.name not in remotes:
            continue
        try:
            remote = open_remote(entry, limits=book.limits(entry.name))
            with contextlib.closing(remote):
                rounds[entry.id] = patrol.there(remote, there_bytes)
        except (LocalStoreError, OSError) as problem:
            problems[entry.id] = str(problem)
    return {
        "files": sum(one.files for one in rounds.values()),
        "bytes": sum(one.bytes for one in rounds.values()),
        "whole": [whose for whose, one in rounds.items() if one.whole],
        "problems": problems,
        "findings": _findings(rounds.values()),
    }


def _findings(rounds: Any) -> list[dict[str, Any]]:
    return [
        finding for one in rounds if isinstance(one, Round) for finding in one.to_json()["findings"]
    ]


def free(home: Path, grace_s: float) -> dict[str, Any]:
    """Free objects that nothing needs, in every project whose links can be read."""
    freed = freed_bytes = 0
    held = {}
    for paths in HomePaths(home).all_projects():
        try:
            report = collect(paths, trust.read_project(paths), grace_s=grace_s)
        except Damaged as problem:
            held[paths.id] = str(problem)
            continue
        freed, freed_bytes = freed + report.freed, freed_bytes + report.freed_bytes
        held.update({f"{paths.id[:16]} {name}": why for name, why in report.held.items()})
    return {"freed": freed, "freed_bytes": freed_bytes, "held": held}


def cap(home: Path, cap_bytes: int) -> dict[str, Any]:
    """Hold the store under its cap, as far as receipts allow."""
    from localstored.pruning.storecap import enforce_cap

    return dict(enforce_cap(home, cap_bytes).to_json())


@click.group()
def chores() -> None:
    """Work that the service does once in a while."""
    with contextlib.suppress(OSError):
        os.nice(_NICE)


@chores.command("verify")
@click.argument("home", type=click.Path(path_type=Path))
@click.option("--here", "here_bytes", type=int, required=True)
@click.option("--there", "there_bytes", type=int, required=True)
@click.option("--remote", "remotes", multiple=True)
def _verify(home: Path, here_bytes: int, there_bytes: int, remotes: tuple[str, ...]) -> None:
    """Read a slice of the store."""
    _answer(verify(home, here_bytes, there_bytes, remotes))


@chores.command("collect")
@click.argument("home", type=click.Path(path_type=Path))
@click.option("--grace", "grace_s", type=float, required=True)
def _collect(home: Path, grace_s: float) -> None:
    """Free what nothing needs."""
    _answer(free(home, grace_s))


@chores.command("cap")
@click.argument("home", type=click.Path(path_type=Path))
@click.argument("cap_bytes", type=int)
def _cap(home: Path, cap_bytes: int) -> None:
    """Hold the store under its cap."""
    _answer(cap(home, cap_bytes))


def _answer(values: dict[str, Any]) -> None:
    click.echo(json.dumps(values))


def main() -> None:
    """The program that the service starts."""
    try:
        chores(prog_name="localstored-chores")
    except LocalStoreError as problem:
        click.echo(f"localstored: error: {problem}", err=True)
        sys.exit(problem.exit_code)


if __name__ == "__main__":
    run_program(main)
