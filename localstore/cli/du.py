"""`localstore du`: what the store takes, by project, artifact and class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from localstore.cli import exit_status, terminal
from localstore.cli.chosen import chosen_projects
from localstore.cli.rm import size_text
from localstore.cli.terminal import inert

if TYPE_CHECKING:
    from localstore.cli.chosen import Chosen
    from localstore.store.usage import Amount, Usage

_DAMAGED: Final = 20


@click.command(epilog=exit_status(0, 2, 20, 66, 74))
@click.option("-p", "--project", metavar="PROJECT", help="Only this project.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def du(ctx: click.Context, project: str | None, as_json: bool) -> None:
    """Show what the store takes on this disk.

    LOGICAL counts the files of every version and run in full; UNIQUE counts equal pieces once;
    STORED is what lies on disk, compressed and sealed. Logs count as they lie. What an artifact
    shares with another is counted in both, and once in its class. Without keys only STORED is
    known.
    """
    from localstore.store.usage import measure

    found = [(one, measure(one.paths, one.project)) for one in chosen_projects(project)]
    if as_json:
        terminal.say_json({"projects": [_document(one, usage) for one, usage in found]})
    elif found:
        rows = [row for one, usage in found for row in _rows(one, usage)]
        click.echo(terminal.columns([["", "LOGICAL", "UNIQUE", "STORED"], *rows]))
    else:
        terminal.note("no project is here")
    if terminal.warn_of_damage([problem for _, usage in found for problem in usage.problems]):
        ctx.exit(_DAMAGED)


def _rows(one: Chosen, usage: Usage) -> list[list[str]]:
    readable = usage.readable
    rows = [[inert(one.label), *_cells(usage.total, readable=readable)]]
    for name, amount in sorted(usage.classes.items()):
        known = readable and bool(amount.logical or amount.unique)
        rows.append([f"  {name}", *_cells(amount, readable=known)])
    for artifact in usage.artifacts:
        count = f"{artifact.versions} version{'s' * (artifact.versions != 1)}"
        label = f"  {inert(artifact.name)} ({inert(artifact.type)}, {count})"
        rows.append([label, *_cells(artifact.amount, readable=True)])
    if usage.pruned:
        rows.append(["  pruned, on remotes", "", "", size_text(usage.pruned)])
    return rows


def _cells(amount: Amount, *, readable: bool) -> list[str]:
    if not readable:
        return ["", "", size_text(amount.stored)]
    return [size_text(amount.logical), size_text(amount.unique), size_text(amount.stored)]


def _document(one: Chosen, usage: Usage) -> dict[str, Any]:
    def amount(given: Amount) -> dict[str, int | None]:
        return {
            "logical": given.logical if usage.readable else None,
            "unique": given.unique if usage.readable else None,
            "stored": given.stored,
        }

    return {
        "project": one.paths.id,
        "name": one.name or None,
        **amount(usage.total),
        "classes": {name: amount(one) for name, one in sorted(usage.classes.items())},
        "artifacts": [
            {
                "name": artifact.name,
                "type": artifact.type,
                "versions": artifact.versions,
                **amount(artifact.amount),
            }
            for artifact in usage.artifacts
        ],
        "pruned": usage.pruned,
        "problems": [str(problem) for problem in usage.problems],
    }
