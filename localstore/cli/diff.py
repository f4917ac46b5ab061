"""`localstore diff`: how two runs differ, in code, config, summary, environment and packages."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import click

from localstore.cli import exit_status, terminal
from localstore.cli.checkout import code_files, requirements_of
from localstore.cli.show import value_text
from localstore.cli.terminal import inert, short
from localstore.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from localstore.query.api import StoredRun
    from localstore.reproduce.compare import Difference

_DAMAGED: Final = 20
PARTS: Final = ("git", "code", "config", "summary", "environment", "requirements", "inputs")
_VALUE_CHARS: Final = 40
_COMMAND_CHARS: Final = 200  # its end is what differs
# Facts of one saving of the code, which say nothing of the code itself.
_NOT_THE_CODE: Final = ("masked", "level", "limits")
_COLOURS: Final = {"+": "green", "-": "red", "@": "cyan"}


@dataclass(slots=True)
class Comparison:
    """Differences of two runs.

    Attributes:
        parts: by name of the part, the keys that differ.
        code: by path, unified differences.
        problems: damage that was met.
    """

    parts: dict[str, list[Difference]] = field(default_factory=dict)
    code: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Whether the runs are the same in all that was compared."""
        return not self.code and not any(self.parts.values())


@click.command(epilog=exit_status(0, 2, 11, 20, 66, 77))
@click.argument("left", metavar="RUN1")
@click.argument("right", metavar="RUN2")
@click.option(
    "--only",
    "only",
    multiple=True,
    type=click.Choice(PARTS),
    help="Compare this part; several may be given.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def diff(
    ctx: click.Context,
    left: str,
    right: str,
    only: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show how RUN1 and RUN2 differ: the code that was saved with them, line by line, and what
    they were given and came to, key by key.

    Where both saved their code folder, its files are compared; else main scripts and patches. With
    the commit alone, compare the commits with `git diff`.
    """
    from localstore.query.api import Api

    api = Api()
    runs = api.run(left), api.run(right)
    if runs[0].subject == runs[1].subject:
        raise UsageError(f"{left!r} and {right!r} are the same run")
    found = compare_runs(*runs, parts=only or PARTS)
    if as_json:
        terminal.say_json(_document(runs, found))
    else:
        _print(runs, found)
    problems = [*found.problems, *runs[0].problems, *runs[1].problems]
    if terminal.warn_of_damage(problems):
        ctx.exit(_DAMAGED)


def compare_runs(left: StoredRun, right: StoredRun, parts: Iterable[str] = PARTS) -> Comparison:
    """Read two runs, and find how they differ in some of `PARTS`."""
    from localstore.reproduce import compare

    found = Comparison()
    for part in parts:
        if part == "code":
            sides = (code_files(left, found.problems), code_files(right, found.problems))
            found.code = compare.diff_code(*compare.comparable_code(*sides))
        elif part == "requirements":
            texts = (requirements_of(run, found.problems) for run in (left, right))
            found.parts[part] = compare.diff_requirements(
                *(text.decode("utf-8", "replace") for text in texts)
            )
        else:
            found.parts[part] = compare.diff_mappings(_values(left, part), _values(right, part))
    return found


def _values(run: StoredRun, part: str) -> Mapping[str, Any]:
    """The keys and values of one part of a run."""
    match part:
        case "config":
            return run.config
        case "summary":
            # `_step`, `_runtime` …: of the recording, not of the result.
            return {key: value for key, value in run.summary.items() if not key.startswith("_")}
        case "git":
            facts = run.facts("git")
            return {key: value for key, value in facts.items() if key not in _NOT_THE_CODE}
        case "inputs":
            return {f"{name}:{digest[:12]}": kind for name, digest, kind in _inputs(run)}
        case _:
            return run.facts(part)


def _inputs(run: StoredRun) -> Iterable[tuple[str, str, str]]:
    """Name, digest and type of each artifact that the run used."""
    for direction, name, digest, kind, *_ in run.lineage:
        if direction == "input":
            yield name, digest, kind


def _document(runs: tuple[StoredRun, StoredRun], found: Comparison) -> dict[str, Any]:
    return {
        "left": runs[0].path,
        "right": runs[1].path,
        "same": found.empty,
        **{part: [one.to_dict() for one in rows] for part, rows in found.parts.items()},
        "code": found.code,
    }


# ------------------------------------------------------------------ for people
def _print(runs: tuple[StoredRun, StoredRun], found: Comparison) -> None:
    names = [
        [mark, f"{inert(run.name)} ({inert(run.path)})"]
        for mark, run in zip("-+", runs, strict=True)
    ]
    click.echo(terminal.columns(names))
    if found.empty:
        click.echo("\nno difference in what was compared")
    for part, differences in found.parts.items():
        if differences:
            rows = [_row(one, part) for one in differences]
            click.echo(f"\n{part}\n{terminal.columns(rows, indent='  ')}")
    if not found.code and _have_other_commits(found):
        terminal.note("the commits differ: `git diff`, in a clone, shows how")
    for text in found.code.values():
        click.echo()
        for line in text.removesuffix("\n").split("\n"):
            click.echo(_coloured(line))


def _have_other_commits(found: Comparison) -> bool:
    return any(one.key == "commit" for one in found.parts.get("git", ()))


def _row(one: Difference, part: str) -> list[str]:
    before = _text(one.left, one.key, part) if one.change != "added" else ""
    after = _text(one.right, one.key, part) if one.change != "removed" else ""
    return [inert(one.key), before, "->", after]


def _text(value: object, key: str, part: str) -> str:
    """A command line as one types it; of media what they are, not where they lie."""
    if (part, key) == ("environment", "command") and isinstance(value, list):
        return short(shlex.join(str(word) for word in value), _COMMAND_CHARS)
    return value_text(value) if isinstance(value, dict) else short(value, _VALUE_CHARS)


def _coloured(line: str) -> str:
    """One line of a patch, inert; in colour where a person reads it."""
    shown = inert(line.expandtabs(4).rstrip("\r"))
    if not terminal.on_terminal():
        return shown
    if line.startswith(("--- ", "+++ ")):
        return click.style(shown, bold=True)
    colour = _COLOURS.get(line[:1])
    return click.style(shown, fg=colour) if colour else shown
