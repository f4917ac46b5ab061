"""`localstore verify`: look at every byte of the store, change nothing."""

from __future__ import annotations

import json

import click

from localstore.cli import terminal
from localstore.cli.context import home_paths
from localstore.errors import Damaged


@click.command()
@click.option("--read-data", is_flag=True, help="Also decrypt and decode every frame (needs keys).")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def verify(read_data: bool, as_json: bool) -> None:
    """Check names, hashes, signatures, chains and heads of every file; name what is wrong.

    Changes nothing. With --read-data every frame is opened, too.

    \b
    EXIT STATUS
      0   nothing is wrong
      11  --read-data, and there is no key
      20  something is damaged or missing; each finding names file and offset
    """
    from localstore.check import inspect_home
    from localstore.vault import Vault

    home = home_paths()
    identity = Vault(home).load() if read_data else None
    found = inspect_home(home, identity, read_data=read_data)
    if as_json:
        document = {
            "ok": found.ok,
            "projects": found.projects,
            "files": found.files,
            "bytes": found.bytes,
            "segments_opened": found.opened,
            "findings": [
                {
                    "kind": one.kind,
                    "file": f"projects/{one.project}/{one.file}",
                    "offset": one.offset,
                    "problem": one.problem,
                }
                for one in found.findings
            ],
            "notes": found.notes,
        }
        click.echo(json.dumps(document, indent=2))
    else:
        for finding in found.findings:
            click.echo(str(finding))
        for note in found.notes:
            click.echo(f"note: {note}")
        opened = f", {_count(found.opened, 'segment')} opened" if read_data else ""
        verdict = "nothing is wrong" if found.ok else _count(len(found.findings), "finding")
        looked = f"{_count(found.projects, 'project')}, {_count(found.files, 'file')}"
        click.echo(f"{looked}, {found.bytes} bytes{opened}: {verdict}")
        if found.to_heal():
            terminal.note("`localstore repair` takes good bytes from a remote")
    if not found.ok:
        raise SystemExit(Damaged.exit_code)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + "s" * (number != 1)
