"""`localstore prune`: free this disk of bytes that a remote provably has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from localstore.cli import exit_status, terminal
from localstore.cli.artifact_found import bar
from localstore.cli.context import home, project_ids, project_names
from localstore.cli.durations import DURATION
from localstore.cli.engine import load_engine
from localstore.cli.gc_remote import Grace
from localstore.cli.rm import size_text
from localstore.cli.terminal import inert
from localstore.errors import RemoteError, UsageError
from localstore.format.spec import DataClass

if TYPE_CHECKING:
    from collections.abc import Mapping

CLASSES: Final = {one.name.lower(): one for one in DataClass if one is not DataClass.META}


def classes_of(text: str | None) -> list[int] | None:
    """Numbers of the classes in a list such as `media,console`; None where none is given.

    Raises:
        UsageError: an unknown one.
    """
    if text is None:
        return None
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if word not in CLASSES:
            raise UsageError(f"no class {word!r}, want some of {', '.join(CLASSES)}")
    return [int(CLASSES[word]) for word in words]


@click.command(epilog=exit_status(0, 2, 11, 66, 69, 74))
@click.option(
    "--synced-to", "remotes", multiple=True, metavar="REMOTE", help="Only what this remote has."
)
@click.option("--older", "older_s", type=DURATION, help="Only what ended so long ago, as 30d.")
@click.option(
    "--keep-last",
    type=click.IntRange(min=1),
    metavar="N",
    help="Keep the newest N runs of each project, and N versions of each artifact.",
)
@click.option("-p", "--project", metavar="PROJECT", help="Only this project.")
@click.option("--run", "runs", multiple=True, metavar="RUN", help="Only this run; may be repeated.")
@click.option("--classes", metavar="LIST", help=f"Only these: {', '.join(CLASSES)}.")
@click.option(
    "--grace",
    "grace_s",
    type=Grace(),
    default=3600.0,
    metavar="TIME",
    help="Keep files' contents that were stored or used so shortly ago; default 1h.",
)
@click.option("-n", "--dry-run", is_flag=True, help="Say what would go, change nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def prune(
    *,
    remotes: tuple[str, ...],
    older_s: float | None,
    keep_last: int | None,
    project: str | None,
    runs: tuple[str, ...],
    classes: str | None,
    grace_s: float,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Remove from this disk what a remote has; pruned runs stay listed and can be pulled back.

    A byte goes only when the remote acknowledged it, says now that it still has it, and nothing
    that is alive or stays needs it. Configuration, summary, artifacts' lists and keys always stay.
    `localstore pull RUN` brings the rest back. Remotes lose nothing.
    """
    words: dict[str, Any] = {
        "remotes": list(remotes) or None,
        "older_us": int((older_s or 0) * 1e6),
        "classes": classes_of(classes),
        "grace_us": int(grace_s * 1e6),
        **_who(project, runs, keep_last),
    }
    engine = load_engine("prune")
    plan = engine(home(), dry_run=True, **words)
    if dry_run or not plan.bytes:
        _tell(plan, as_json=as_json, dry_run=dry_run)
        return
    if not yes and not terminal.confirm(_question(plan)):
        raise UsageError("nothing was pruned")
    with bar("pruning", plan.bytes, hidden=as_json) as advance:
        report = engine(home(), on_progress=advance, **words)
    _tell(report, as_json=as_json, dry_run=False)


def _who(project: str | None, runs: tuple[str, ...], keep_last: int | None) -> dict[str, Any]:
    """Names as ids; a key is needed for names alone."""
    from localstore import pruning
    from localstore.query.api import Api

    words: dict[str, Any] = {"projects": None if project is None else project_ids(project)}
    api = Api() if runs or keep_last else None
    if api is not None and runs:
        parts = pruning.of_runs(api, runs)
        words |= {"projects": parts.projects, "subjects": parts.subjects, "writers": parts.writers}
    if api is not None and keep_last:
        kept = pruning.newest(api, keep_last, project)
        words |= {"keep_subjects": kept.subjects, "keep_writers": kept.writers}
    return words


def _question(plan: Any) -> str:
    found = [one for one in plan.projects if one.bytes]
    where = ", ".join(sorted({one.remote for one in found}))
    return f"Remove {size_text(plan.bytes)} from this disk that {where} has?"


# ------------------------------------------------------------------ output
def _tell(report: Any, *, as_json: bool, dry_run: bool) -> None:
    if as_json:
        terminal.say_json(report.to_json())
    else:
        names = project_names()
        rows = [_row(one, names) for one in report.projects if one.bytes]
        if rows:
            click.echo(terminal.columns([["PROJECT", "ON", "FILES", "OF", "SIZE"], *rows]))
        if report.bytes:
            terminal.note(f"{'would free' if dry_run else 'freed'} {size_text(report.bytes)}")
        else:
            terminal.note("nothing would be freed" if dry_run else "nothing was freed")
        _tell_held(report)
    for name, problem in report.failed.items():
        terminal.warning(f"{name}: {problem}")
    for one in report.projects:
        if one.problem:
            terminal.warning(f"nothing of {one.project[:16]} is pruned: {one.problem}")
    if not report.ok:
        raise SystemExit(RemoteError.exit_code)


def _row(one: Any, names: Mapping[str, str]) -> list[str]:
    label = inert(names.get(one.project, one.project[:16]))
    some = "s" * (len(one.subjects) != 1)
    subjects = f"{len(one.subjects)} run{some} or artifact{some}"
    return [label, inert(one.remote), str(one.logs + one.objects), subjects, size_text(one.bytes)]


def _tell_held(report: Any) -> None:
    held: dict[str, list[int]] = {}
    for one in report.projects:
        for reason, amount in one.held.items():
            found = held.setdefault(reason, [0, 0])
            found[0] += amount.items
            found[1] += amount.bytes
    for reason, (items, size) in sorted(held.items(), key=lambda pair: -pair[1][1]):
        terminal.note(f"{items} file{'s' * (items != 1)} ({size_text(size)}) stay: {reason}")
