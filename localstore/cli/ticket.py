"""`localstore project ticket` and `localstore enroll`: machines that may write and not read."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path

import click

from localstore import settings
from localstore.cli.context import home_paths
from localstore.errors import AlreadyExists, UsageError

_UNITS_S = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def duration_s(text: str) -> int:
    """Seconds of `90m`, `12h`, `30d` or `2w`.

    Raises:
        UsageError: another form.
    """
    found = re.fullmatch(r"(\d{1,5})([mhdw])", text.strip())
    if not found:
        raise UsageError(f"{text!r} is no duration, want for example 12h, 30d or 2w")
    return int(found[1]) * _UNITS_S[found[2]]


@click.group()
def project() -> None:
    """Projects: tickets for machines that may write to one."""


@project.command(short_help="Write a ticket for a machine that only writes.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--project", "name", help="Which project; default from the settings.")
@click.option("--entity", default="", help="Whose project; default yours.")
@click.option(
    "--deposit", is_flag=True, required=True, help="May write and sync, and read nothing."
)
@click.option("--expires", default="30d", show_default=True, help="For how long: 12h, 30d, 2w.")
def ticket(file: Path, name: str | None, entity: str, deposit: bool, expires: str) -> None:  # noqa: ARG001
    """Write a ticket to FILE: whoever has it may write runs to the project until it expires.

    FILE is a secret; carry it to the cluster node and `localstore enroll FILE` there.
    """
    from localstore.identity import now_us
    from localstore.projects import Projects
    from localstore.tickets import make_ticket
    from localstore.vault import open_or_create

    options = settings.load({"project": name})
    identity, _ = open_or_create(home_paths(), options)
    found, fresh = Projects(home_paths(), identity).open_or_create(entity, options.project)
    found.ensure_cert()
    until_us = now_us() + duration_s(expires) * 1_000_000
    raw = make_ticket(found, until_us)
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise AlreadyExists(f"{file} exists", hint="take another name, or remove it") from None
    with os.fdopen(handle, "wb") as out:
        out.write(raw)
    if fresh:
        click.echo(f"there was no project {found.name}: it is made", err=True)
    until = datetime.fromtimestamp(until_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M UTC")
    click.echo(f"ticket for project {found.name} until {until} in {file}; keep it secret", err=True)
    click.echo("on the node: localstore enroll FILE", err=True)


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def enroll(file: Path) -> None:
    """Make this home a writer of the project that the ticket FILE is for.

    The home can then record and sync runs, and read none, its own included.
    """
    from localstore.tickets import enroll as put

    deposit = put(home_paths(), file.read_bytes(), settings.load())
    until = datetime.fromtimestamp(deposit.not_after_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M UTC")
    click.echo(f"this home writes to project {deposit.name} until {until}, and reads nothing")
