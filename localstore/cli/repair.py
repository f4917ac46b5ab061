"""`localstore repair`: take missing or damaged bytes from any remote that has them."""

from __future__ import annotations

import json
from importlib.metadata import entry_points
from typing import Any

import click

from localstore.cli.context import home, home_paths
from localstore.errors import Damaged


@click.command()
@click.option("--remote", "remotes", multiple=True, metavar="NAME", help="Only these remotes.")
@click.option("--dry-run", is_flag=True, help="Say what would be healed, change nothing.")
@click.option("--read-data", is_flag=True, help="Find damage by decrypting, too (needs keys).")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def repair(remotes: tuple[str, ...], dry_run: bool, read_data: bool, as_json: bool) -> None:
    """Heal the store from its remotes; bad bytes move to quarantine, nothing is thrown away.

    What was erased or pruned on purpose is not missing. Finds damage as `verify` does.

    \b
    EXIT STATUS
      0   nothing is damaged or missing any more
      20  something could not be healed; it is named
    """
    from localstore.check import inspect_home
    from localstore.vault import Vault

    paths = home_paths()
    identity = Vault(paths).load() if read_data else None
    found = inspect_home(paths, identity, read_data=read_data)
    engine = _engine()
    report: Any = engine(home(), found.to_heal(), remotes=remotes or None, dry_run=dry_run)
    if found.findings and not dry_run:
        left = inspect_home(paths, identity, read_data=read_data).findings
        known = {name for name, _ in report.failed}
        names = ((f"projects/{one.project}/{one.file}", one.problem) for one in left)
        report.failed += (pair for pair in names if pair[0] not in known)
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=2))
    else:
        _print(report, dry_run=dry_run)
    if not report.ok:
        raise SystemExit(Damaged.exit_code)


def _print(report: Any, *, dry_run: bool) -> None:
    verb = "would take" if dry_run else "took"
    for one in report.healed:
        what = "missing" if one.was_missing else "damaged"
        click.echo(f"{verb} {one.name} ({one.size} bytes, {what}) from {one.remote}")
    for name, reason in report.remotes.items():
        click.echo(f"localstore: warning: {name}: {reason}", err=True)
    for name, reason in report.failed:
        click.echo(f"not healed: {name}: {reason}")
    if not report.healed and not report.failed:
        click.echo("nothing to heal")


def _engine() -> Any:
    (entry,) = entry_points(group="localstore.engine", name="repair")
    return entry.load()
