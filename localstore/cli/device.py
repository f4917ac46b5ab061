"""`localstore device ls | revoke`: the machines that hold your keys."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import click

from localstore.cli.context import home_paths
from localstore.cli.terminal import confirm, inert
from localstore.errors import UsageError


@click.group()
def device() -> None:
    """Your devices: list them, and revoke one that is lost."""


@device.command(name="ls", short_help="List your devices and deposit tickets.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def list_(as_json: bool) -> None:
    """List your devices and deposit tickets, as the projects here know them."""
    from localstore.projects import Projects
    from localstore.rotation import list_devices
    from localstore.vault import Vault

    found = list_devices(Projects(home_paths(), Vault(home_paths()).load()))
    rows = [
        {
            "id": one.id,
            "name": one.name,
            "kind": one.kind,
            "state": one.state,
            "created": _day(one.created_us),
            "expires": _day(one.not_after_us) if one.not_after_us else "",
        }
        for one in found
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        expires = f"  until {row['expires']}" if row["expires"] else ""
        name = inert(row["name"]) or "-"
        line = f"{row['id']}  {row['kind']:<8} {row['state']:<12} {row['created']}  {name}{expires}"
        click.echo(line)


def _day(when_us: int) -> str:
    try:
        return datetime.fromtimestamp(when_us / 1e6, UTC).strftime("%Y-%m-%d")
    except (ValueError, OverflowError, OSError):
        return "?"  # a signed date that no calendar has


@device.command(short_help="Revoke a lost device: it reads nothing new.")
@click.argument("device_id", required=False)
@click.option("--unlisted", is_flag=True, help="Every device that `device ls` does not show.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def revoke(device_id: str | None, unlisted: bool, yes: bool) -> None:
    """Revoke a lost device: new keys that it does not have, and a new epoch in every project.

    What the device could read before it can still read if somebody copied it; what is recorded
    from now on it cannot. Your recovery code changes. Other devices follow at their next sync.

    A device that only ever read is not listed: --unlisted shuts it out, and everybody else who
    has your recovery code. Sync first, so that the devices that you keep are listed.
    """
    from localstore.rotation import revoke_device

    if bool(device_id) == unlisted:
        raise UsageError("name one device, or give --unlisted", hint="`localstore device ls`")
    what = f"device {inert(device_id)}" if device_id else "all devices that are not listed"
    if not yes and not confirm(f"Revoke {what}? This cannot be undone"):
        click.echo("nothing was revoked", err=True)
        return
    identity = revoke_device(home_paths(), device_id)
    click.echo(f"revoked; your keys are of generation {identity.generation} now")
    click.echo("your recovery code has changed: localstore key recovery-code", err=True)
    click.echo("then tell your other machines: localstore sync now", err=True)
