"""`localstore sync explain`: whether something leaves, where to, and by which rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from localstore.cli import context as store
from localstore.cli import exit_status, terminal
from localstore.cli.completion import complete_project, complete_remote, complete_run
from localstore.cli.engine import load_engine
from localstore.cli.rm import size_text
from localstore.cli.sync_items import resolve
from localstore.cli.terminal import inert

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from localstore.cli.sync_items import Asked

_WAITS: Final = {
    "manual": "leaves with `localstore sync now`",
    "network": "leaves by itself when the network fits",
    "power": "leaves by itself when there is power",
    "hours": "leaves by itself at the hours that are set",
}


@click.command(
    short_help="Say whether something leaves, where to, by which rule.",
    epilog=exit_status(0, 2, 66, 78),
)
@click.argument("item", shell_complete=complete_run)
@click.option(
    "--remote",
    "remotes",
    multiple=True,
    metavar="NAME",
    help="Only this remote; may be repeated.",
    shell_complete=complete_remote,
)
@click.option(
    "--project",
    "projects",
    multiple=True,
    metavar="NAME",
    help="Only in this project.",
    shell_complete=complete_project,
)
@click.option("--manual", is_flag=True, help="As `sync now` would decide, not the daemon.")
@click.option("-v", "--verbose", is_flag=True, help="One line for each file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def explain(
    item: str,
    remotes: tuple[str, ...],
    projects: tuple[str, ...],
    manual: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Say whether ITEM leaves, to which remote, by which rule of which file, and what is there.

    \b
    ITEM is one of
      a run        7f3a, digits/7f3a, ada/digits/7f3a
      an artifact  model, model:v3, digits/model:best
      a class      meta, metrics, system, console, code, media, artifacts
      a project    digits, ada/digits
      a file       runs/….log, objects/…, or an id, as `sync now --dry-run --verbose` names it

    Where one word fits several, say run:WORD, artifact:WORD and so on.
    """
    ids = [one for name in projects for one in store.project_ids(name)]
    asked = resolve(item, ids)
    found = {one: _explained(one, remotes, manual=manual) for one in asked}
    if as_json:
        terminal.say_json(
            [
                {"item": one.called, "project": one.project, "files": facts}
                for one, facts in found.items()
            ]
        )
        return
    names = store.project_names()
    for one, facts in found.items():
        where = names.get(one.project, one.project[:16])
        click.echo(inert(one.called if where in one.called else f"{one.called} of {where}"))
        for line in (_file_lines if verbose else summary_lines)(facts):
            click.echo(f"  {line}")
        if not facts:
            click.echo("  nothing here, or no remote to send it to")


def _explained(asked: Asked, remotes: Sequence[str], *, manual: bool) -> list[dict[str, Any]]:
    """What the policy says of each file and remote; `there` is what a receipt proves."""
    facts: list[dict[str, Any]] = load_engine("explain")(
        store.home(),
        asked.project,
        list(asked.items),
        remotes=list(remotes) or None,
        manual=manual,
    )
    return [dict(one) for one in facts]


# ------------------------------------------------------------------ for people
def rule_text(fact: Mapping[str, Any]) -> str:
    """Which rule of which file."""
    rule = fact.get("rule")
    facts = rule if isinstance(rule, dict) else {}
    if facts.get("level") == "built-in" or not facts.get("file"):
        return f'the built-in rule "{facts.get("rule", "")}"'
    return f'rule "{facts.get("rule", "")}" of {facts["file"]}'


def _verdict(fact: Mapping[str, Any]) -> str:
    if fact.get("pruned"):
        return str(fact["reason"])
    if fact["leaves"]:
        return f"leaves, by {rule_text(fact)}"
    waits = _WAITS.get(str(fact.get("waits", "")), "")
    # Most reasons name their rule; nobody needs it twice.
    by = rule_text(fact)
    by = "" if by in str(fact["reason"]) else f", by {by}"
    return f"held: {fact['reason']}{by}" + (f"; {waits}" if waits else "")


def summary_lines(facts: Iterable[Mapping[str, Any]]) -> list[str]:
    """One line for each remote, class and verdict."""
    sums: dict[tuple[str, str, str], list[int]] = {}
    for one in facts:
        key = (str(one["remote"]), str(one.get("class") or "keys and links"), _verdict(one))
        counts = sums.setdefault(key, [0, 0, 0])
        counts[0] += 1
        counts[1] += int(one["size"])
        counts[2] += bool(one["there"])
    return [
        inert(f"{remote}: {data_class}: {_counted(*counts)}: {verdict}")
        for (remote, data_class, verdict), counts in sorted(sums.items())
    ]


def _counted(items: int, size: int, there: int) -> str:
    files = f"{items} file{'s' * (items != 1)} ({size_text(size)})"
    if there == items:
        return f"{files}, there already"
    return f"{files}, {there} there already" if there else f"{files}, none there yet"


def _file_lines(facts: Iterable[Mapping[str, Any]]) -> list[str]:
    return [
        inert(
            f"{one['remote']}: {one['item']} ({size_text(int(one['size']))}):"
            f" {_verdict(one)}; {'there already' if one['there'] else 'not there yet'}"
        )
        for one in facts
    ]
