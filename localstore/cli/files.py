"""`localstore files`: the files that belong to a run, as a list or written out."""

from __future__ import annotations

from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from localstore.cli import exit_status, terminal
from localstore.cli.rm import size_text
from localstore.cli.terminal import inert, short
from localstore.errors import (
    AlreadyExists,
    Damaged,
    LocalStoreError,
    NotFound,
    Pruned,
    UsageError,
)
from localstore.format.spec import DataClass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from localstore.query.api import StoredRun
    from localstore.query.contents import RunFile

_DAMAGED: Final = 20
CLASSES: Final = {
    "code": DataClass.CODE,
    "media": DataClass.MEDIA,
    "system": DataClass.SYSTEM,
    "artifacts": DataClass.ARTIFACTS,
}
_CLASS_NAMES: Final = {int(number): name for name, number in CLASSES.items()}
_PATH_CHARS: Final = 72
_CAPTION_CHARS: Final = 40
_UNITS: Final = {"seconds": "s", "fps": "fps", "sample_rate": "Hz"}
_COUNTS: Final = ("rows", "columns", "frames", "fps", "seconds", "sample_rate", "points")


@click.command(epilog=exit_status(0, 2, 11, 20, 66, 73, 74, 77))
@click.argument("run")
@click.option("--class", "name", type=click.Choice(list(CLASSES)), help="Only files of this class.")
@click.option(
    "--get",
    "patterns",
    multiple=True,
    metavar="PATTERN",
    help="Write out what fits: a path, or with *, ? and []; * fits / too.",
)
@click.option(
    "--root", type=click.Path(path_type=Path, file_okay=False), help="The folder for --get."
)
@click.option("--force", is_flag=True, help="Write over files that are there.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def files(
    ctx: click.Context,
    run: str,
    name: str | None,
    patterns: tuple[str, ...],
    root: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """List the files of RUN: its code, its media, what it saved, its requirements.

    \b
    With --get they are written below --root, each under its own path, once it is verified:
      localstore files RUN --get 'media/*.png' --root pictures

    Nothing is written outside of that folder; what is there already stays unless --force is given.
    """
    from localstore.query.api import Api

    if bool(patterns) != (root is not None) or (force and not patterns):
        raise UsageError("--get, --root and --force go together", hint="--get PATTERN --root DIR")
    found = Api().run(run)
    listed = found.contents.files(CLASSES.values() if name is None else (CLASSES[name],))
    if root is not None:
        code = _get(found, _chosen(found, listed, patterns), root, force=force, as_json=as_json)
    else:
        away = found.pruned.keys() & (CLASSES.keys() if name is None else {name})
        code = Pruned.exit_code if away and not listed else 0
        _list(found, listed, as_json=as_json)
    _note_pruned(found, name)
    damaged = terminal.warn_of_damage([*found.problems, *found.contents.problems])
    ctx.exit(_DAMAGED if damaged else code)


def _note_pruned(run: StoredRun, name: str | None) -> None:
    """Which files may be missing in the list."""
    for data_class, where in run.pruned.items():
        if data_class in CLASSES and name in (None, data_class):
            what = f"the list of {data_class} files was pruned here; it is on {where}"
            terminal.note(f"{what}: `localstore pull {run.id}` brings it back")


def _check_here(run: StoredRun, pattern: str) -> None:
    """Raises:
    Pruned: a list of files was pruned here, and what fits the pattern may stand in it.
    """
    for data_class, where in run.pruned.items():
        if data_class in CLASSES:
            raise Pruned(
                f"no file that is here fits {pattern!r}; the list of {data_class} files was"
                f" pruned here; it is on {where}",
                hint=f"`localstore pull {run.id}` brings it back",
            )


# ------------------------------------------------------------------ the list
def _list(run: StoredRun, listed: Sequence[RunFile], *, as_json: bool) -> None:
    if as_json:
        terminal.say_json({"run": run.path, "files": [document(file) for file in listed]})
    elif listed:
        rows = [
            [short(file.path, _PATH_CHARS), class_name(file), size_text(file.size), about(file)]
            for file in listed
        ]
        click.echo(terminal.columns([["PATH", "CLASS", "SIZE", "ABOUT"], *rows]))
    elif not run.pruned.keys() & CLASSES.keys():
        terminal.note(f"{run.path} has no files")


def class_name(file: RunFile) -> str:
    """The word for the class that a file stands in."""
    return _CLASS_NAMES.get(file.data_class, str(file.data_class))


def document(file: RunFile) -> dict[str, Any]:
    """A file as plain values, without its content."""
    return {
        "path": file.path,
        "class": class_name(file),
        "size": file.size,
        "hash": file.hash.hex(),
        "time": _iso(file.time_us),
        "facts": file.facts,
    }


def _iso(time_us: int) -> str:
    try:
        return datetime.fromtimestamp(time_us / 1e6, UTC).isoformat()
    except (ValueError, OverflowError):
        return str(time_us)  # a claim that no calendar has


def about(file: RunFile) -> str:
    """What was recorded about a file, for a narrow column, inert."""
    caption = file.facts.get("caption") or file.facts.get("title")
    quoted = f'"{short(caption, _CAPTION_CHARS)}"' if isinstance(caption, str) else ""
    return "  ".join(part for part in (extent(file.facts), quoted) if part)


def extent(facts: Mapping[str, Any]) -> str:
    """Width x height, rows, seconds …, as far as they are known, inert."""
    width, height = facts.get("width"), facts.get("height")
    parts = [f"{width} x {height}"] if isinstance(width, int) and isinstance(height, int) else []
    for name in _COUNTS:
        number = facts.get(name)
        if isinstance(number, (int, float)) and not isinstance(number, bool):
            parts.append(f"{short(number)} {_UNITS.get(name, name)}")
    return ", ".join(parts)


# ------------------------------------------------------------------ writing out
def _chosen(run: StoredRun, listed: Iterable[RunFile], patterns: Iterable[str]) -> list[RunFile]:
    """The files that fit any pattern.

    Raises:
        NotFound: a pattern that fits none; Pruned: the list of files is not whole here.
    """
    listed, chosen = list(listed), dict[str, "RunFile"]()
    for pattern in patterns:
        fitting = [one for one in listed if one.path == pattern or fnmatchcase(one.path, pattern)]
        if not fitting:
            _check_here(run, pattern)
            raise NotFound(
                f"no file of the run fits {pattern!r}", hint="`localstore files RUN` lists them"
            )
        chosen.update((one.path, one) for one in fitting)
    return list(chosen.values())


def _get(
    run: StoredRun, chosen: Iterable[RunFile], root: Path, *, force: bool, as_json: bool
) -> int:
    """Write files out; one that cannot be written does not stop the others.

    Returns:
        The exit code: damage counts more than a file in the way.
    """

    written: list[str] = []
    failed: dict[str, LocalStoreError] = {}
    for file in chosen:
        try:
            written.append(str(run.contents.write_file(file, root, replace=force)))
        except LocalStoreError as problem:
            failed[file.path] = problem
    if as_json:
        why = {path: str(problem) for path, problem in failed.items()}
        terminal.say_json({"run": run.path, "written": written, "failed": why})
    else:
        click.echo("".join(f"{inert(path)}\n" for path in written), nl=False)
    for path, reason in failed.items():
        terminal.warning(f"not written: {path}: {reason}")
    if any(isinstance(reason, AlreadyExists) for reason in failed.values()):
        terminal.note("--force writes over files that are there")
    return max(map(_code, failed.values()), key=_weight, default=0)


def _code(problem: LocalStoreError) -> int:
    # A path that leads elsewhere was made so by whoever wrote the run, not by who asks.
    return Damaged.exit_code if isinstance(problem, UsageError) else problem.exit_code


def _weight(code: int) -> bool:
    return code == _DAMAGED
