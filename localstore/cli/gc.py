"""`localstore gc`: list what nothing refers to any more, or free it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from localstore.cli import exit_status, terminal
from localstore.cli.chosen import chosen_projects
from localstore.cli.gc_remote import REMOTE_GRACE_S, Grace, collect_remote
from localstore.cli.ls import iso, local_minute
from localstore.cli.rm import size_text
from localstore.cli.terminal import inert

if TYPE_CHECKING:
    from localstore.cli.chosen import Chosen
    from localstore.format.references import RefFrame
    from localstore.store.gc import Report
    from localstore.trust import ProjectState

_DAMAGED: Final = 20
_GRACE_S: Final = 3600.0


@click.command(epilog=exit_status(0, 2, 20, 66, 69, 74))
@click.option("-n", "--dry-run", is_flag=True, help="List what would go, change nothing.")
@click.option("-p", "--project", metavar="PROJECT", help="Only this project.")
@click.option(
    "--grace",
    "grace_s",
    type=Grace(),
    metavar="TIME",
    help="Keep what was stored or used so shortly ago; default 1h, on a remote 24h.",
)
@click.option("--remote", metavar="NAME", help="Collect on this remote instead.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def gc(
    ctx: click.Context,
    *,
    dry_run: bool,
    project: str | None,
    grace_s: float | None,
    remote: str | None,
    as_json: bool,
) -> None:
    """Free the space of what was deleted: versions of artifacts, runs, loggings that gave up.

    Versions whose time to live is over are deleted first, but for those that an alias of yours
    names.

    Only objects go that no log refers to any more, here; remotes free theirs as they sync. Runs may
    write meanwhile. While a log is damaged nothing of its project goes: it may refer to anything.

    With --remote, objects there that no log refers to are condemned first, and deleted by a later
    call, a day after; only while this store knows everything that is there and nobody is at it.
    """
    if remote is not None:
        grace_s = REMOTE_GRACE_S if grace_s is None else grace_s
        collect_remote(remote, project, grace_s, dry_run=dry_run, as_json=as_json)
        return
    grace_s = _GRACE_S if grace_s is None else grace_s
    found: list[tuple[Chosen, Report]] = []
    closed = False
    for one in chosen_projects(project):
        if one.state is None:
            terminal.warning(f"project {one.label}: {one.problem}")
            closed = True
            continue
        found.append((one, _collect(one, one.state, dry_run=dry_run, grace_s=grace_s)))
    if as_json:
        projects = [_document(one, report) for one, report in found]
        terminal.say_json({"dry_run": dry_run, "projects": projects})
    else:
        _print(found, dry_run=dry_run)
    held = [(one, name, why) for one, report in found for name, why in report.held.items()]
    for one, name, why in held:
        terminal.warning(f"nothing of {one.label} is freed: {name}: {why}")
    if held:
        terminal.note("`localstore repair` takes good bytes from a remote")
    if held or closed:
        ctx.exit(_DAMAGED)


def _collect(one: Chosen, state: ProjectState, *, dry_run: bool, grace_s: float) -> Report:
    from localstore.erase import sweep
    from localstore.identity import now_us
    from localstore.store.gc import collect

    if dry_run:
        given_up = _given_up(one)
        return collect(one.paths, state, grace_s=grace_s, dry_run=True, given_up=given_up)
    sweep(one.paths, state.erased(now_us()))
    _release(one)
    return collect(one.paths, state, grace_s=grace_s)


def _release(one: Chosen) -> None:
    """Delete versions whose time is over, cancel what no version will come of; needs keys."""
    from localstore import settings
    from localstore.artifacts.editing import delete_expired, release
    from localstore.artifacts.reading import reader

    if one.project is None:
        return
    options = settings.load()
    for state in reader(one.project).all():
        for version in delete_expired(one.project, state.name, options, terminal.warning):
            terminal.note(f"{one.label}/{state.name}:{version.label} has expired")
        release(one.project, state.name, options, terminal.warning)


def _given_up(one: Chosen) -> list[RefFrame]:
    """What `_release` would cancel."""
    from localstore.artifacts.reading import reader
    from localstore.artifacts.unreferenced import unreferenced
    from localstore.format.references import RefFrame

    if one.project is None:
        return []
    return [
        RefFrame(one.project.artifact_subject(state.name).hex(), segment.hex(), index)
        for state in reader(one.project).all()
        for segment, index in unreferenced(one.project, state)
    ]


# ------------------------------------------------------------------ output
def _print(found: list[tuple[Chosen, Report]], *, dry_run: bool) -> None:
    if dry_run:
        rows = [
            [inert(one.label), item.id, size_text(item.size), local_minute(item.mtime_ns / 1e9)]
            for one, report in found
            for item in report.unneeded
        ]
        if rows:
            click.echo(terminal.columns([["PROJECT", "OBJECT", "SIZE", "LAST USED"], *rows]))
        size = sum(item.size for _, report in found for item in report.unneeded)
        none = "nothing here is unused"
        terminal.note(
            f"nothing refers to {_objects(len(rows))} ({size_text(size)})" if rows else none
        )
    else:
        for one, report in found:
            if report.freed or report.leftovers:
                freed = report.freed_bytes + report.leftover_bytes
                click.echo(f"{inert(one.label)}  {_freed(report)}  {size_text(freed)}")
        size = sum(report.freed_bytes + report.leftover_bytes for _, report in found)
        terminal.note(f"freed {size_text(size)}")
    young = sum(report.young for _, report in found)
    if young:
        size = sum(report.young_bytes for _, report in found)
        terminal.note(f"{_objects(young)} ({size_text(size)}) may still be in use: see --grace")


def _freed(report: Report) -> str:
    words = [_objects(report.freed)] if report.freed else []
    if report.leftovers:
        words.append(f"{report.leftovers} left by crashes")
    return ", ".join(words)


def _objects(count: int) -> str:
    return f"{count} object{'s' * (count != 1)}"


def _document(one: Chosen, report: Report) -> dict[str, Any]:
    return {
        "project": one.paths.id,
        "name": one.name or None,
        "unneeded": [
            {"object": item.id, "bytes": item.size, "last_used": iso(item.mtime_ns / 1e9)}
            for item in report.unneeded
        ],
        "young": report.young,
        "young_bytes": report.young_bytes,
        "freed": report.freed,
        "freed_bytes": report.freed_bytes,
        "spared": report.spared,
        "returned": report.returned,
        "leftovers": report.leftovers,
        "leftover_bytes": report.leftover_bytes,
        "held": [{"file": name, "problem": why} for name, why in report.held.items()],
    }
