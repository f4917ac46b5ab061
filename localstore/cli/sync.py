"""`localstore sync`: run the sync engine now.

The engine is found by the entry point `localstore.engine`, never imported by name: `localstore`
does not depend on the daemon's package.
"""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol

import click

from localstore.cli import terminal
from localstore.cli.terminal import inert
from localstore.errors import NotFound, RemoteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

ENGINE_GROUP = "localstore.engine"
_SHOWN_NOTES = 20


class Report(Protocol):
    """What the engine returns, as far as this command uses it."""

    @property
    def ok(self) -> bool:
        """Whether everything that should leave was acknowledged, and nothing was refused."""

    def to_json(self) -> dict[str, Any]:
        """Everything else."""


class Progress(Protocol):
    """What the engine says while it works."""

    remote: str
    project: str
    phase: str
    done_items: int
    planned_items: int
    done_bytes: int
    planned_bytes: int


def load_engine() -> Callable[..., Report]:
    """The engine's `sync_home`.

    Raises:
        NotFound: this installation has no engine.
    """
    for point in entry_points(group=ENGINE_GROUP, name="sync"):
        found: Callable[..., Report] = point.load()
        return found
    raise NotFound("no sync engine is installed", hint="pip install 'localstore[daemon]'")


def run_sync(
    home: Path,
    recipients: frozenset[str],
    *,
    remotes: Sequence[str] = (),
    projects: Sequence[str] = (),
    names: Mapping[str, str] | None = None,
    dry_run: bool = False,
    as_json: bool = False,
) -> bool:
    """Sync a home and print what happened: data on stdout, progress and trouble on stderr.

    Args:
        names: what to call projects, by id; others are called by the first digits of their id.

    Returns:
        Whether a person may believe that everything that should leave has left.
    """
    sync = load_engine()
    names = names or {}
    with _progress(names, quiet=as_json or dry_run) as on_event:
        report = sync(
            home,
            remotes=list(remotes) or None,
            projects=list(projects) or None,
            dry_run=dry_run,
            on_event=on_event,
            recipients=recipients,
        )
    values = report.to_json()
    if as_json:
        click.echo(json.dumps(values, indent=2))
    else:
        _print(values, names)
    return report.ok


# ------------------------------------------------------------------ progress
@contextmanager
def _progress(
    names: Mapping[str, str], *, quiet: bool
) -> Iterator[Callable[[Progress], None] | None]:
    """A bar on a terminal, else nothing: logs of a cron job need no progress."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[tuple[str, str, str], Any] = {}

        def show(event: Progress) -> None:
            key = (event.remote, event.project, event.phase)
            if key not in tasks:
                name = f"{event.remote} {_called(event.project, names)} {event.phase}"
                tasks[key] = bar.add_task(name, total=event.planned_items)
            bar.update(tasks[key], completed=event.done_items)

        yield show


# ------------------------------------------------------------------ the result
def _called(project: str, names: Mapping[str, str]) -> str:
    return inert(names[project]) if project in names else project[:16]


def _print(values: Mapping[str, Any], names: Mapping[str, str]) -> None:
    for name, reason in values["failed"].items():
        click.echo(f"localstore: error: remote {name}: {reason}", err=True)
    for note in (*values["refused"], *values["damaged"]):
        click.echo(f"localstore: error: {_line(note)}", err=True)
    for project in values["projects"]:
        head = f"{project['remote']} {_called(project['project'], names)}"
        _print_project(head, project, dry_run=values["dry_run"])
    if not values["projects"] and not values["failed"]:
        click.echo(f"nothing to sync: {_why_nothing()}")


def _why_nothing() -> str:
    from localstore.cli import context as store
    from localstore.remotes import read_remotes

    if not read_remotes(store.home()):
        return "no remote; add one with `localstore remote add`"
    if not store.recipients():
        return "no project, and no key here to find yours with: `localstore key recover`"
    return "no project, here or on the remotes"


def _print_project(head: str, project: Mapping[str, Any], *, dry_run: bool) -> None:
    if dry_run:
        for step in project["steps"]:
            click.echo(f"{head} {_step(step)}")
    else:
        click.echo(
            f"{head} pushed {project['pushed']} ({_bytes(project['pushed_bytes'])})"
            f" pulled {project['pulled']} ({_bytes(project['pulled_bytes'])})"
            f" erased {project['erased']} held {len(project['held'])}"
        )
    if project["lost"]:
        click.echo(
            f"localstore: warning: {head} was set back: it lost {len(project['lost'])} links,"
            " which were pushed again",
            err=True,
        )
    for reason, count in _reasons(project["held"]).items():
        click.echo(f"{head} held {count}: {reason}", err=True)
    for what in ("forks", "refused", "damaged", "errors"):
        _print_notes(head, what, project[what])


def _print_notes(head: str, what: str, notes: Sequence[Mapping[str, Any]]) -> None:
    level = "warning" if what == "forks" else "error"
    for note in notes[:_SHOWN_NOTES]:
        click.echo(f"localstore: {level}: {head} {what}: {_line(note)}", err=True)
    if len(notes) > _SHOWN_NOTES:
        click.echo(
            f"localstore: {level}: {head} {what}: {len(notes) - _SHOWN_NOTES} more, see --json",
            err=True,
        )


def _reasons(notes: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for note in notes:
        counts[note["reason"]] = counts.get(note["reason"], 0) + 1
    return counts


def _line(note: Mapping[str, Any]) -> str:
    where = "" if note["offset"] is None else f" at byte {note['offset']}"
    return f"{note['name']}{where}: {note['reason']}"


def _step(step: Mapping[str, Any]) -> str:
    rest = ", ".join(f"{k} {v}" for k, v in step.items() if k not in ("step", "name") and v != "")
    return f"{step['step']} {step['name']}" + (f" ({rest})" if rest else "")


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


# ------------------------------------------------------------------ commands
@click.group()
def sync() -> None:
    """Bring remotes and this machine to hold the same."""


@sync.command()
@click.option("--remote", "remotes", multiple=True, metavar="NAME", help="Only this remote.")
@click.option(
    "--project",
    "projects",
    multiple=True,
    metavar="NAME",
    help="Only this project: its name, or its id.",
)
@click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole report as JSON.")
@click.pass_context
def now(
    context: click.Context,
    remotes: tuple[str, ...],
    projects: tuple[str, ...],
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Push and pull now, both ways.

    EXIT STATUS: 0 when everything that should leave was acknowledged by every remote and nothing
    was refused or is damaged, else 69.
    """
    from localstore.cli import context as store

    if not dry_run:
        store.bring_tails_home()
    good = run_sync(
        store.home(),
        store.recipients(),
        remotes=remotes,
        projects=[project for name in projects for project in store.project_ids(name)],
        names=_names_for_a_person(),
        dry_run=dry_run,
        as_json=as_json,
    )
    if not dry_run:
        store.sweep_erased()
    news = "" if dry_run else store.adopt_keys()
    if news:
        click.echo(f"localstore: {news}", err=True)
    if not good:
        context.exit(RemoteError.exit_code)


def _names_for_a_person() -> dict[str, str]:
    """Names of projects on a terminal alone: what goes to a file or a log names none."""
    from localstore.cli.context import project_names

    return project_names() if terminal.on_terminal() and sys.stderr.isatty() else {}
