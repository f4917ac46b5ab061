"""`localstore rm`: delete runs, take them out of the trash, see how far erasures have come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from localstore.cli import exit_status, terminal
from localstore.cli.context import home_paths
from localstore.cli.ls import iso, local_minute
from localstore.cli.terminal import inert
from localstore.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from localstore.erase import Erasure
    from localstore.errors import StoreError
    from localstore.query.api import StoredRun

_DAMAGED: Final = 20


@click.command(epilog=exit_status(0, 2, 11, 20, 66, 74, 77))
@click.argument("runs", nargs=-1, metavar="RUN...")
@click.option("--now", is_flag=True, help="Erase at once: no trash, no way back.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--undo", is_flag=True, help="Take the runs out of the trash.")
@click.option("--status", is_flag=True, help="List what is deleted, here and on each remote.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def rm(
    ctx: click.Context,
    runs: tuple[str, ...],
    now: bool,
    yes: bool,
    undo: bool,
    status: bool,
    as_json: bool,
) -> None:
    """Delete RUNs: an id, PROJECT/ID or ENTITY/PROJECT/ID each.

    A deleted run stays in the trash for `trash_days` (7), from where --undo takes it back. Then,
    or at once with --now, its keys are destroyed and its bytes removed, here and, as they sync,
    on every remote and machine. What is erased never comes back.
    """
    if status and (runs or now or undo):
        raise UsageError("--status takes nothing but --json")
    if undo and now:
        raise UsageError("--undo and --now contradict one another")
    if status:
        problems = _status(as_json)
    elif not runs:
        raise UsageError("which run?", hint="`localstore ls` lists the runs of this store")
    else:
        problems = _change(runs, now=now, undo=undo, yes=yes, as_json=as_json)
    if terminal.warn_of_damage(problems):
        ctx.exit(_DAMAGED)


# ------------------------------------------------------------------ deleting
def _change(
    names: Sequence[str], *, now: bool, undo: bool, yes: bool, as_json: bool
) -> list[StoreError]:
    from localstore.query.api import Api

    api = Api()
    # All are found before one is touched: a typing error in the last name deletes nothing.
    chosen = list({run.path: run for run in map(api.run, names)}.values())
    if undo:
        _undo(chosen, as_json)
        return api.problems
    if not (yes or _agreed(chosen, now)):
        raise UsageError("nothing was deleted")
    for run in chosen:
        run.delete(now=now)
    _say(chosen, now, as_json)
    return api.problems


def _agreed(runs: Sequence[StoredRun], now: bool) -> bool:
    sizes = [run.extent() for run in runs]
    rows = [
        [inert(run.name), inert(run.path), run.state, f"{files} files", size_text(count)]
        for run, (files, count) in zip(runs, sizes, strict=True)
    ]
    click.echo(terminal.columns(rows, indent="  "), err=True)
    total = size_text(sum(count for _, count in sizes))
    what = f"{len(runs)} run{'s' * (len(runs) > 1)} ({total})"
    if now:
        return terminal.confirm(f"Erase {what} for ever, here and on every remote?")
    return terminal.confirm(f"Move {what} to the trash?")


def _say(runs: Sequence[StoredRun], now: bool, as_json: bool) -> None:
    if as_json:
        documents = [{"path": run.path, "id": run.id, **_until(run, now)} for run in runs]
        terminal.say_json({"deleted": documents})
        return
    for run in runs:
        until = None if now else run.trashed_until
        where = "erased" if until is None else f"in the trash until {local_minute(until)}"
        click.echo(f"{inert(run.path)}  {where}")
    if now:
        terminal.note("remotes erase it when they sync; `localstore rm --status` says who has")
    else:
        terminal.note("`localstore rm --undo RUN` takes it back until then")


def _until(run: StoredRun, now: bool) -> dict[str, Any]:
    until = None if now else run.trashed_until
    return {"erased": until is None, "erased_at": None if until is None else iso(until)}


def _undo(runs: Sequence[StoredRun], as_json: bool) -> None:
    for run in runs:
        run.undelete()
    if as_json:
        terminal.say_json({"restored": [{"path": run.path, "id": run.id} for run in runs]})
        return
    for run in runs:
        click.echo(f"{inert(run.path)}  out of the trash")


def size_text(count: int) -> str:
    """Bytes for people, in powers of 1,000."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


# ------------------------------------------------------------------ how far erasures have come
@dataclass(frozen=True, slots=True)
class _Line:
    """One tombstone of one project; what is erased has no name any more."""

    project: str
    run: str
    erasure: Erasure


def _status(as_json: bool) -> list[StoreError]:
    from localstore.remotes import read_remotes
    from localstore.vault import Vault

    home, problems = home_paths(), list["StoreError"]()
    there = Vault(home).exists or home.all_projects()
    lines = list(_lines(problems)) if there else []
    remotes = list(read_remotes(home.root))
    if as_json:
        terminal.say_json({"tombstones": [_document(line) for line in lines]})
    elif lines:
        titles = ["PROJECT", "RUN", "ERASED AT", "HERE", *map(inert, remotes)]
        click.echo(terminal.columns([titles, *(_row(line, remotes) for line in lines)]))
    else:
        terminal.note("nothing is deleted")
    return problems


def _lines(problems: list[StoreError]) -> Iterator[_Line]:
    from localstore.erase import erasure_status, sweep
    from localstore.identity import now_us
    from localstore.projects import Projects
    from localstore.query.api import Api
    from localstore.remotes import read_remotes

    api = Api()
    names = {(run.entity, run.project, run.subject): run.path for run in api.runs(trashed=True)}
    problems += api.problems
    remotes = list(read_remotes(api.home.root).values())
    for project in Projects(api.home, api.identity).all():
        now = now_us()
        sweep(project.paths, project.state.erased(now))
        place = f"{project.entity}/{project.name}"
        for one in erasure_status(project.paths, project.state.tombstones, remotes, now):
            known = names.get((project.entity, project.name, one.subject), "")
            yield _Line(place, known, one)


def _row(line: _Line, remotes: Sequence[str]) -> list[str]:
    one = line.erasure
    return [
        inert(line.project),
        inert(line.run.rpartition("/")[2]) or one.subject[:12],
        local_minute(one.effective_us / 1e6),
        one.here.value,
        *(one.remotes[name].value for name in remotes),
    ]


def _document(line: _Line) -> dict[str, Any]:
    one = line.erasure
    return {
        "project": line.project,
        "run": line.run or None,
        "subject": one.subject,
        "erased_at": iso(one.effective_us / 1e6),
        "here": one.here.value,
        "remotes": {name: progress.value for name, progress in one.remotes.items()},
    }
