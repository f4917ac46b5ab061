"""`localstore remote`: the places that this home syncs with."""

from __future__ import annotations

import json

import click

from localstore.cli.terminal import inert
from localstore.remotes import add_remote, read_remotes, remove_remote

WHAT_LEAVES = """\
what leaves for {name} when you sync:
  meta, metrics, media, artifacts, code   yes, encrypted
  system                                  yes, encrypted, without host and user names
  console                                 never
"""


@click.group()
def remote() -> None:
    """The places that this machine syncs with."""


@remote.command(short_help="Make a remote of a folder.")
@click.argument("name")
@click.argument("path")
def add(name: str, path: str) -> None:
    """Make a remote of the folder PATH: a USB stick, a shared drive, another disk.

    A folder that is a remote already, of you or of somebody else, is taken as it is.

    EXIT STATUS: 0 done; 2 a bad name; 69 the folder cannot be written, or
    the one that should hold it is not there; 73 the name or the remote
    is there already; 78 the path is none.
    """
    from localstore.cli.context import home

    entry = add_remote(home(), name, path)
    click.echo(inert(f"{entry.name} {entry.id} {entry.url}"))
    click.echo(WHAT_LEAVES.format(name=name), nl=False, err=True)


@remote.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def ls(*, as_json: bool) -> None:
    """List the remotes."""
    from localstore.cli.context import home

    entries = list(read_remotes(home()).values())
    if as_json:
        click.echo(json.dumps([{"name": e.name, "id": e.id, "url": e.url} for e in entries]))
        return
    for entry in entries:
        click.echo(inert(f"{entry.name} {entry.id} {entry.url}"))


@remote.command()
@click.argument("name")
def rm(name: str) -> None:
    """Forget a remote. What lies there stays there.

    EXIT STATUS: 0 done; 66 no such remote.
    """
    from localstore.cli.context import home

    entry = remove_remote(home(), name)
    click.echo(f"forgot {entry.name}; nothing in {entry.url} was deleted", err=True)
