"""`localstore export`: histories as JSON lines or CSV, row by row as they were logged."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from localstore.cli import exit_status, terminal
from localstore.errors import NotFound, UsageError
from localstore.spreadsheets import safe_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from localstore.query.api import Api, StoredRun

_DAMAGED: Final = 20
_FIRST: Final = ("_step", "_timestamp", "_runtime")


@click.command(epilog=exit_status(0, 2, 11, 20, 66, 74, 77))
@click.argument("targets", nargs=-1, metavar="[RUN|PATH]...")
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "csv"]),
    default="jsonl",
    show_default=True,
    help="One JSON object a row, or a table with a header.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="A file; default stdout.")
@click.option("--key", "keys", multiple=True, help="Only this key; several may be given.")
@click.option("--keys", "key_list", default="", help="The same, with commas between.")
@click.pass_context
def export(
    ctx: click.Context,
    targets: tuple[str, ...],
    form: str,
    output: Path | None,
    keys: tuple[str, ...],
    key_list: str,
) -> None:
    """Write the history of runs, or of all runs of projects; of everything by default.

    Each row has _step, _timestamp (Unix time, s), _runtime (s) and what was logged. Unless one
    RUN is asked for, a column `run` holds its path. NaN and infinities are the texts NaN,
    Infinity and -Infinity. What is written is plaintext.

    CSV is safe to open in a spreadsheet: a text or a name that is no number and begins with =, +,
    -, @, a tab or the end of a line has an apostrophe before it, so that it is not run as a
    formula; so has what stands so after a semicolon, a tab or the end of a line inside of a text.
    JSON lines hold every text exactly.
    """
    from localstore.query.api import Api

    chosen = [*keys, *(key for key in key_list.split(",") if key)] or None
    api = Api()
    runs, single = select(api, targets)
    lines = _Rows(runs, chosen, named=not single).lines(form)
    _write(lines, output)
    if terminal.warn_of_damage([*api.problems, *(p for run in runs for p in run.problems)]):
        ctx.exit(_DAMAGED)


def select(api: Api, targets: Sequence[str]) -> tuple[list[StoredRun], bool]:
    """The runs that are meant, oldest first and each once; and whether it is one, by itself.

    Raises:
        NotFound: no run and no project of this name.
    """
    found: dict[str, StoredRun] = {}
    whole = not targets
    for target in targets:
        try:
            runs = [api.run(target)]
        except NotFound:
            runs, whole = _project(api, target), True
        found.update((run.path, run) for run in runs)
    if not targets:
        found = {run.path: run for run in api.runs()}
    ordered = sorted(found.values(), key=lambda r: (r.entity, r.project, r.created_at, r.id))
    return ordered, len(ordered) == 1 and not whole


def _project(api: Api, target: str) -> list[StoredRun]:
    missing = NotFound(
        f"no run and no project {target!r}", hint="`localstore ls` lists the runs of this store"
    )
    if target.count("/") > 1:
        raise missing
    try:
        return api.runs(target)
    except NotFound:
        raise missing from None


# ------------------------------------------------------------------ rows
class _Rows:
    """The rows of some runs, in order, as text."""

    def __init__(self, runs: Sequence[StoredRun], keys: list[str] | None, *, named: bool) -> None:
        self._runs, self._keys = runs, keys
        logged = {key for run in runs for key in run.table().pieces}
        # Somebody may have logged a key `run`: it keeps its name.
        self._label = ("_run" if "run" in logged else "run") if named else ""
        self._columns = sorted(logged) if keys is None else [k for k in keys if k in logged]

    def _rows(self) -> Iterator[dict[str, Any]]:
        for run in self._runs:
            for row in run.scan_history(self._keys):
                label = {self._label: run.path} if self._label else {}
                facts = {name: row.pop(name) for name in _FIRST}
                yield {**label, **facts, **{key: row[key] for key in sorted(row)}}

    def lines(self, form: str) -> Iterator[str]:
        """The document in pieces of whole lines."""
        return self._csv() if form == "csv" else self._jsonl()

    def _jsonl(self) -> Iterator[str]:
        for row in self._rows():
            yield json.dumps(terminal.strict(row), allow_nan=False) + "\n"

    def _csv(self) -> Iterator[str]:
        names = [*([self._label] if self._label else []), *_FIRST, *self._columns]
        yield _line([safe_text(name) for name in names])
        for row in self._rows():
            yield _line([cell(row.get(name)) for name in names])


def _line(cells: Sequence[str]) -> str:
    """One row of CSV; cells with either half of a line's end are quoted."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().removesuffix("\r\n") + "\n"


def cell(value: Any) -> str:
    """A value as a CSV cell: numbers as they are, texts that no spreadsheet runs."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float():
            return terminal.float_text(value)
        case int():
            return str(value)
        case str():
            return safe_text(value)
        case _:
            return safe_text(json.dumps(terminal.strict(value), allow_nan=False))


# ------------------------------------------------------------------ where to
def _write(pieces: Iterator[str], output: Path | None) -> None:
    if output is None or str(output) == "-":
        for piece in pieces:
            sys.stdout.write(piece)
        return
    if output.exists() and not output.is_file():
        raise UsageError(f"{output} is no regular file", hint="without -o it goes to stdout")
    if not output.parent.is_dir():
        raise NotFound(f"no folder {output.parent}")
    from localstore.durable import replace_file

    replace_file(output, "".join(pieces).encode("utf-8", "backslashreplace"))
    terminal.note(f"wrote {output} (mode 0600); it is plaintext, and no key protects it")
