"""`localstore show`: one run: its facts, config, summary, and a small curve for each key."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from localstore.cli import exit_status, terminal
from localstore.cli.curve import draw
from localstore.cli.ls import flat, is_number, iso, local_minute
from localstore.cli.terminal import inert, short
from localstore.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from localstore.query.api import StoredRun

_DAMAGED: Final = 20
_MOST_CURVES: Final = 6  # without --key; a screenful
_CURVE_HEIGHT: Final = 4
_CURVE_WIDTH: Final = range(16, 73)
_LABEL_CHARS: Final = 10


@dataclass(frozen=True, slots=True)
class Curve:
    """One key's numbers in the order of the history; steps and values are as many."""

    key: str
    steps: list[int]
    values: list[float]

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
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def show(ctx: click.Context, run: str, keys: tuple[str, ...], as_json: bool) -> None:
    """Show RUN: an id, PROJECT/ID or ENTITY/PROJECT/ID; a name that is unique will do.

    With --json, every point of each --key is part of the document.
    """
    from localstore.query.api import Api

    found = Api().run(run)
    known = list(found.table().pieces)
    missing = [key for key in keys if key not in known]
    if missing:
        raise NotFound(
            f"run {found.path!r} has no key {missing[0]!r}",
            hint=f"it has {', '.join(sorted(known)) or 'none'}",
        )
    if as_json:
        terminal.say_json(_document(found, keys, known))
    else:
        _print(found, keys, known)
    if terminal.warn_of_damage(found.problems):
        ctx.exit(_DAMAGED)


def _document(run: StoredRun, keys: Iterable[str], known: Iterable[str]) -> dict[str, Any]:
    until = run.trashed_until
    curves = (_curve(run, key) for key in sorted(known))
    return {
        **run.to_dict(),
        "erased_at": None if until is None else iso(until),
        "rows": len(run.table()),
        "keys": {curve.key: curve.facts() for curve in curves if curve.values},
        "history": {
            key: [[row["_step"], row[key]] for row in run.scan_history([key])] for key in keys
        },
    }


def _curve(run: StoredRun, key: str) -> Curve:
    """The numbers of a key; of one that holds texts alone, none."""
    table = run.table()
    order = table.order if table.order is not None else range(len(table.steps))
    points = [
        (table.steps[row], float(value))
        for row, value in zip(order, table.column(key), strict=True)
        if is_number(value)
    ]
    return Curve(key, [step for step, _ in points], [value for _, value in points])


# ------------------------------------------------------------------ for people
def _print(run: StoredRun, keys: tuple[str, ...], known: list[str]) -> None:
    click.echo(terminal.columns(_facts(run)))
    for title, values in (("config", flat(run.config)), ("summary", flat(run.summary))):
        if values:
            rows = [[inert(key), short(value, 60)] for key, value in sorted(values.items())]
            click.echo(f"\n{title}\n{terminal.columns(rows, indent='  ')}")
    curves = [_curve(run, key) for key in keys or sorted(known)]
    numeric = [curve for curve in curves if curve.values]
    shown = len(curves) if keys else _MOST_CURVES
    for curve in numeric[:shown]:
        click.echo("\n" + "\n".join(picture(curve)))
    rest = [curve.key for curve in numeric[shown:]]
    if rest:
        click.echo(f"\nmore keys, for --key: {', '.join(map(inert, rest))}")
    for curve in curves:
        if keys and not curve.values:
            click.echo(f"\n{inert(curve.key)}  no numbers to draw")


def _facts(run: StoredRun) -> list[list[str]]:
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
        "rows": str(len(run.table())),
        "gaps": inert(", ".join(f"{count} dropped: {why}" for why, count in run.gaps.items())),
        "flags": inert(", ".join(dict.fromkeys(run.flags))),
    }
    return [[title, value] for title, value in rows.items() if value]


def picture(curve: Curve) -> list[str]:
    """A title, and the curve between its least and greatest value."""
    facts = curve.facts()
    said = "  ".join(f"{name} {short(facts[name])}" for name in ("first", "last", "min", "max"))
    lines = [f"{inert(curve.key)}  {facts['points']} points  {said}"]
    room = min(terminal.width_chars() - _LABEL_CHARS - 4, _CURVE_WIDTH[-1])
    drawn = draw(
        curve.steps,
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
        steps = f"step {min(curve.steps)} to {max(curve.steps)}"
        lines.append(" " * (_LABEL_CHARS + 3) + steps)
    return lines
