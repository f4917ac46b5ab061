"""`localstore show`: one run: its facts, what stands around it, and a small curve for each key."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from localstore.cli import around, exit_status, terminal
from localstore.cli.curve import draw
from localstore.cli.files import CLASSES, extent
from localstore.cli.ls import flat, is_number, iso, local_minute
from localstore.cli.terminal import inert, short
from localstore.errors import NotFound, Pruned

if TYPE_CHECKING:
    from collections.abc import Iterable

    from localstore.query.api import StoredRun
    from localstore.query.history import Table

_DAMAGED: Final = 20
_MOST_CURVES: Final = 6  # without --key; a screenful
_CURVE_HEIGHT: Final = 4
_CURVE_WIDTH: Final = range(16, 73)
_LABEL_CHARS: Final = 10
_VALUE_CHARS: Final = 60
# What of the machine is drawn first, where nobody says which.
_TELLING: Final = ("cpu", "memory.percent", "process.cpu", "process.memory.rss_mb")


@dataclass(frozen=True, slots=True)
class Curve:
    """One key's numbers in the order of the history; places and values are as many.

    Attributes:
        places: steps of the history; of the machine, seconds since the first sample.
        unit: step or second.
    """

    key: str
    places: list[int]
    values: list[float]
    unit: str = "step"

    def facts(self) -> dict[str, Any]:
        """Count, first, last, least and greatest; the last two of finite values alone."""
        finite = [value for value in self.values if math.isfinite(value)]
        return {
            "points": len(self.values),
            "first": self.values[0],
            "last": self.values[-1],
            "min": min(finite, default=None),
            "max": max(finite, default=None),
        }


@click.command(epilog=exit_status(0, 2, 11, 20, 66, 77))
@click.argument("run")
@click.option("--key", "keys", multiple=True, help="Draw this key; several may be given.")
@click.option("--system", is_flag=True, help="Draw the machine: CPU, memory, GPUs …; see --key.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def show(ctx: click.Context, run: str, keys: tuple[str, ...], system: bool, as_json: bool) -> None:
    """Show RUN: an id, PROJECT/ID or ENTITY/PROJECT/ID; a name that is unique will do.

    With what was recorded around it: code, environment, files, artifacts. With --system, curves are
    those of the machine, by seconds, and --key names one of them. With --json, every point of each
    --key is part of the document.
    """
    from localstore.query.api import Api

    found = Api().run(run)
    table = _table(found, system=system, needed=bool(keys))
    known = _in_order(table, system=system)
    missing = [key for key in keys if key not in known]
    if missing:
        what = "measurement" if system else "key"
        raise NotFound(
            f"run {found.path!r} has no {what} {missing[0]!r}",
            hint=f"it has {', '.join(sorted(known)) or 'none'}",
        )
    if as_json:
        terminal.say_json(_document(found, keys, system=system))
    else:
        curves = [_curve(table, key, system=system) for key in keys or known]
        _print(found, curves, chosen=bool(keys))
        if system and not known:
            terminal.note(f"nothing of its machine was measured for {found.path}")
    if terminal.warn_of_damage([*found.problems, *found.contents.problems]):
        ctx.exit(_DAMAGED)


def _table(run: StoredRun, *, system: bool, needed: bool) -> Table:
    """The history, or the machine's; of a pruned one nothing, unless it is needed.

    Raises:
        Pruned: it is needed and was pruned.
    """
    from localstore.query.history import Table

    try:
        return run.contents.system() if system else run.table()
    except Pruned:
        if needed:
            raise
        return Table()


def _in_order(table: Table, *, system: bool) -> list[str]:
    """The keys by name; of the machine, what tells most first."""
    names = sorted(table.pieces)
    if not system:
        return names
    telling: list[str] = [name for name in _TELLING if name in names]
    telling += [name for name in names if name.endswith(".utilization")]
    return list(dict.fromkeys([*telling, *names]))


def _document(run: StoredRun, keys: tuple[str, ...], *, system: bool) -> dict[str, Any]:
    until, machine = run.trashed_until, _table(run, system=True, needed=False)
    table = _table(run, system=False, needed=False)
    own = [_curve(table, key, system=False) for key in table.pieces]
    measured = [_curve(machine, key, system=True) for key in machine.pieces]
    rows = {} if system else {key: _points(run, key) for key in keys}
    seconds = {
        curve.key: [list(point) for point in zip(curve.places, curve.values, strict=True)]
        for curve in measured
        if curve.key in keys
    }
    return {
        **run.to_dict(),
        "problems": [*run.problems, *map(str, run.contents.problems)],
        "erased_at": None if until is None else iso(until),
        "rows": len(table),
        "keys": _facts_of(own),
        "history": rows,
        **around.documents(run),
        "system": _facts_of(measured),
        "system_history": seconds if system else {},
    }


def _points(run: StoredRun, key: str) -> list[list[Any]]:
    return [[row["_step"], row[key]] for row in run.scan_history([key])]


def _facts_of(curves: Iterable[Curve]) -> dict[str, Any]:
    return {one.key: one.facts() for one in sorted(curves, key=lambda c: c.key) if one.values}


def _curve(table: Table, key: str, *, system: bool) -> Curve:
    """The numbers of a key; of one that holds texts alone, none."""
    order = table.order if table.order is not None else range(len(table.steps))
    start_us = table.times_us[order[0]] if system and len(table) else 0
    points = [
        ((table.times_us[row] - start_us) // 1_000_000 if system else table.steps[row], value)
        for row, value in zip(order, table.column(key), strict=True)
        if is_number(value)
    ]
    places, values = [place for place, _ in points], [float(value) for _, value in points]
    return Curve(key, places, values, "second" if system else "step")


# ------------------------------------------------------------------ for people
def _print(run: StoredRun, curves: list[Curve], *, chosen: bool) -> None:
    files = run.contents.files(CLASSES.values())
    click.echo(terminal.columns(_facts(run, around.count_files(files))))
    environment = around.environment_rows(run.facts("environment"), run.facts("host"))
    state = around.state_row(_table(run, system=True, needed=False))
    sections = {
        "config": _values(run.config),
        "summary": _values(run.summary),
        "code": around.code_rows(run.facts("git"), files),
        "environment": environment + ([["at last", state]] if state else []),
        "artifacts": around.artifact_rows(run),
    }
    for title, rows in sections.items():
        if rows:
            click.echo(f"\n{title}\n{terminal.columns(rows, indent='  ')}")
    _print_curves(curves, chosen=chosen)


def _values(values: dict[str, Any]) -> list[list[str]]:
    return [[inert(key), value_text(value)] for key, value in sorted(flat(values).items())]


def value_text(value: object) -> str:
    """A value for a narrow column; of a picture, a table … what it is, and how large."""
    match value:
        case {"_type": str(kind)} if isinstance(value, dict):
            count = value.get("count")
            many = f"{count} " if isinstance(count, int) else ""
            words = kind.removesuffix("-file").removesuffix("/separated")
            return short("  ".join(filter(None, (many + words, extent(value)))), _VALUE_CHARS)
        case _:
            return short(value, _VALUE_CHARS)


def _print_curves(curves: list[Curve], *, chosen: bool) -> None:
    numeric = [curve for curve in curves if curve.values]
    shown = len(curves) if chosen else _MOST_CURVES
    for curve in numeric[:shown]:
        click.echo("\n" + "\n".join(picture(curve)))
    rest = [curve.key for curve in numeric[shown:]]
    if rest:
        click.echo(f"\nmore keys, for --key: {', '.join(map(inert, rest))}")
    for curve in curves:
        if chosen and not curve.values:
            click.echo(f"\n{inert(curve.key)}  no numbers to draw")


def _facts(run: StoredRun, files: str) -> list[list[str]]:
    ended = "" if run.exit_code in (None, 0) else f" (exit code {run.exit_code})"
    until = run.trashed_until
    rows = {
        "run": inert(run.name),
        "path": inert(run.path),
        "state": run.state + ended,
        "trash": f"erased at {local_minute(until)}" if until is not None else "",
        "created": local_minute(run.created_at),
        "updated": local_minute(run.updated_at),
        "group": inert(run.group),
        "job type": inert(run.job_type),
        "tags": inert(", ".join(run.tags)),
        "notes": inert(run.notes),
        "rows": "" if "metrics" in run.pruned else str(len(run.table())),
        "pruned": _pruned(run),
        "files": files,
        "gaps": inert(", ".join(f"{count} dropped: {why}" for why, count in run.gaps.items())),
        "flags": inert(", ".join(dict.fromkeys(run.flags))),
    }
    return [[title, value] for title, value in rows.items() if value]


def _pruned(run: StoredRun) -> str:
    found = run.pruned
    if not found:
        return ""
    where = ", ".join(dict.fromkeys(found.values()))
    return (
        f"{', '.join(found)}: on {inert(where)}; `localstore pull {inert(run.id)}` brings it back"
    )


def picture(curve: Curve) -> list[str]:
    """A title, and the curve between its least and greatest value."""
    facts = curve.facts()
    said = "  ".join(f"{name} {short(facts[name])}" for name in ("first", "last", "min", "max"))
    many = f"{facts['points']} point{'s' * (facts['points'] != 1)}"
    lines = [f"{inert(curve.key)}  {many}  {said}"]
    room = min(terminal.width_chars() - _LABEL_CHARS - 4, _CURVE_WIDTH[-1])
    drawn = draw(
        curve.places,
        curve.values,
        width=max(room, _CURVE_WIDTH[0]),
        height=_CURVE_HEIGHT,
        braille=terminal.draws_braille(),
    )
    labels = [""] * len(drawn)
    if drawn:
        labels[0], labels[-1] = short(float(facts["max"])), short(float(facts["min"]))
    lines += [
        f"{label:>{_LABEL_CHARS}} | {line}".rstrip()
        for label, line in zip(labels, drawn, strict=True)
    ]
    if drawn:
        places = f"{curve.unit} {min(curve.places)} to {max(curve.places)}"
        lines.append(" " * (_LABEL_CHARS + 3) + places)
    return lines
