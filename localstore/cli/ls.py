"""`localstore ls`: the runs of this store as a table."""

from __future__ import annotations

import itertools
import math
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from localstore.cli import exit_status, terminal
from localstore.cli.context import home_paths
from localstore.cli.filters import parse_filters
from localstore.cli.terminal import inert, short

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from localstore.query.api import Api, StoredRun

STATES: Final = ("running", "finished", "failed", "crashed")
_DAMAGED: Final = 20
_FIRST_RUN: Final = 'run = localstore.init(project="hello"); run.log({"loss": 0.5})'
_MOST_COLUMNS: Final = 3  # of config, and as many of summary
_SHORT_NAME_CHARS: Final = 14  # names give way first on a narrow terminal
_STYLES: Final = {"running": "cyan", "finished": "green", "failed": "red", "crashed": "yellow"}


@click.command(epilog=exit_status(0, 2, 11, 20, 66, 77))
@click.argument("path", required=False)
@click.option("--filter", "filters", multiple=True, help="KEY=VALUE, KEY>VALUE, or a JSON object.")
@click.option("--order", default="-created_at", show_default=True, help="As -summary.loss.")
@click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="Only these.")
@click.option("--trash", is_flag=True, help="What is in the trash instead.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many runs.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def ls(
    ctx: click.Context,
    path: str | None,
    filters: tuple[str, ...],
    order: str,
    states: tuple[str, ...],
    trash: bool,
    limit: int | None,
    as_json: bool,
) -> None:
    """List the runs of PATH, a PROJECT or ENTITY/PROJECT; of every project by default.

    \b
    --filter takes =, !=, <, <=, >, >= and ~ (a regular expression); all of them must fit:
      localstore ls digits --filter 'lr<0.1' --filter 'summary.loss<0.5' --state finished
    """
    wanted = parse_filters(filters)
    api = open_api()
    if api is None:
        _nothing(as_json, trash)
        return
    runs = [
        run
        for run in api.runs(path, wanted, order, trashed=trash)
        if not states or run.state in states
    ][:limit]
    if as_json:
        terminal.say_json({"runs": [_document(run) for run in runs]})
    elif runs:
        _print(runs, trash)
    else:
        _nothing(as_json, trash, path, filtered=bool(wanted or states))
    if terminal.warn_of_damage([*api.problems, *(p for run in runs for p in run.problems)]):
        ctx.exit(_DAMAGED)


def open_api() -> Api | None:
    """The store of this invocation; None when there is none yet.

    Raises:
        KeyUnavailable: there are projects, and no key.
    """
    from localstore.query.api import Api
    from localstore.vault import Vault

    home = home_paths()
    if not Vault(home).exists and not home.all_projects():
        return None
    return Api()


def _nothing(
    as_json: bool, trash: bool, path: str | None = None, *, filtered: bool = False
) -> None:
    if as_json:
        terminal.say_json({"runs": []})
    elif trash:
        terminal.note("the trash is empty")
    elif filtered:
        terminal.note("no run fits")
    elif path is not None:
        terminal.note(f"no runs in {path}; `localstore ls --trash` lists what is deleted")
    else:
        terminal.note(f"no runs yet in {home_paths().root}; your scripts make them: {_FIRST_RUN}")


def _document(run: StoredRun) -> dict[str, Any]:
    until = run.trashed_until
    return run.to_dict() if until is None else {**run.to_dict(), "erased_at": iso(until)}


def iso(seconds: float) -> str:
    """Local time with its offset."""
    when = _local(seconds)
    return when.isoformat(timespec="seconds") if when else str(seconds)


# ------------------------------------------------------------------ the table
def _print(runs: Sequence[StoredRun], trash: bool) -> None:
    """One table for each project; runs keep their order, projects stand by name."""
    projects = sorted({(run.entity, run.project) for run in runs})
    for at, project in enumerate(projects):
        own = [run for run in runs if (run.entity, run.project) == project]
        if len(projects) > 1:
            blank = "\n" if at else ""
            click.echo(f"{blank}{inert('/'.join(project))}  ({len(own)} run{'s' * (len(own) > 1)})")
        if terminal.on_terminal():
            _print_table(_fitting(own, trash, terminal.width_chars()))
        else:
            click.echo(terminal.columns(table(own, trash, local_minute)))


def _fitting(runs: Sequence[StoredRun], trash: bool, width_chars: int) -> list[list[str]]:
    """The table with as many columns of values as leave ids, states and times whole.

    Names are shortened before a column is left out.
    """
    most = _MOST_COLUMNS
    while True:
        rows = table(runs, trash, age, most)
        names, *others = terminal.widths(rows)
        room = width_chars - sum(others) - 2 * len(others)
        if most == 0 or room >= min(names, _SHORT_NAME_CHARS):
            return [[short(name, max(room, _SHORT_NAME_CHARS)), *rest] for name, *rest in rows]
        most -= 1


def _print_table(rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in rows[0]:
        made.add_column(Text(title, style="dim"), overflow="ellipsis", no_wrap=True)
    for row in rows[1:]:
        made.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    Console(highlight=False, markup=False, emoji=False).print(made)


def table(
    runs: Sequence[StoredRun],
    trash: bool,
    show_time: Callable[[float], str],
    most: int = _MOST_COLUMNS,
) -> list[list[str]]:
    """Titles and rows, inert: facts first, then at most so many of each that tell runs apart."""
    configs = [flat(run.config) for run in runs]
    summaries = [flat(run.summary) for run in runs]
    of_config, of_summary = telling(configs)[:most], telling(summaries, numbers=True)[:most]
    titles = ["NAME", "ID", "STATE", "CREATED", *(["ERASED AT"] if trash else [])]
    rows = [titles + [short(key) for key in (*of_config, *of_summary)]]
    for run, config, summary in zip(runs, configs, summaries, strict=True):
        row = [short(run.name, 40), short(run.id, 40), run.state, show_time(run.created_at)]
        if trash:
            row.append(local_minute(run.trashed_until or 0))
        row += [short(config[key], 16) if key in config else "-" for key in of_config]
        row += [short(summary[key], 16) if key in summary else "-" for key in of_summary]
        rows.append(row)
    return rows


def flat(values: dict[str, Any]) -> dict[str, Any]:
    """Nested dicts as one, with dotted keys."""
    from localstore.format.columns import flatten

    return flatten(values)


def telling(values: Sequence[dict[str, Any]], *, numbers: bool = False) -> list[str]:
    """The first few keys whose values differ between runs; where none does, the first keys."""
    found: list[str] = []
    same: list[str] = []
    for key in dict.fromkeys(itertools.chain.from_iterable(values)):
        own = [one.get(key) for one in values]
        if numbers and not any(is_number(value) for value in own):
            continue
        differs = len({repr(value) for value in own}) > 1
        (found if differs else same).append(key)
    return (found or same)[:_MOST_COLUMNS]


def is_number(value: object) -> bool:
    """Whether a value can stand on an axis."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


# ------------------------------------------------------------------ times
def local_minute(seconds: float) -> str:
    """Local date and time."""
    when = _local(seconds)
    return when.strftime("%Y-%m-%d %H:%M") if when else str(seconds)


def _local(seconds: float) -> datetime | None:
    """None for a time that no calendar has: times are claims of whoever wrote the run."""
    try:
        return datetime.fromtimestamp(seconds, UTC).astimezone()
    except (ValueError, OverflowError, OSError):
        return None


def age(seconds: float) -> str:
    """How long ago, or the date when that is weeks."""
    past = time.time() - seconds
    for unit, size_s, most in (("s", 1, 60), ("min", 60, 60), ("h", 3600, 24), ("d", 86400, 14)):
        if math.isfinite(past) and 0 <= past < size_s * most:
            return f"{int(past // size_s)} {unit} ago"
    return local_minute(seconds)
