"""`localstore pull`: bring back what was pruned."""

from __future__ import annotations

from collections import Counter
from typing import Any

import click

from localstore.cli import exit_status, terminal
from localstore.cli.artifact_found import bar
from localstore.cli.context import home, project_names
from localstore.cli.engine import load_engine
from localstore.cli.prune import classes_of
from localstore.cli.rm import size_text
from localstore.cli.terminal import inert
from localstore.errors import RemoteError


@click.command(epilog=exit_status(0, 2, 11, 66, 69, 73, 74))
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@click.option("--remote", "remotes", multiple=True, metavar="NAME", help="Only from this remote.")
@click.option("--classes", metavar="LIST", help="Only logs of these classes, as metrics,console.")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would come, change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def pull(
    targets: tuple[str, ...],
    *,
    remotes: tuple[str, ...],
    classes: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Bring back what was pruned of each TARGET: a run, an artifact, or a project.

    As RUN, ENTITY/PROJECT/RUN, model, model:v3, PROJECT. A run comes with the artifacts that it
    logged. Every byte is checked before it counts; what was cut off goes on when called again.
    """
    from localstore import pruning
    from localstore.query.api import Api

    words: dict[str, Any] = {"remotes": list(remotes) or None, "classes": classes_of(classes)}
    parts = pruning.of_targets(Api(), targets)
    words["projects"] = parts.projects
    if parts.subjects or parts.writers:
        words |= {"subjects": parts.subjects, "writers": parts.writers}
    engine = load_engine("restore")
    done = 0
    with bar("pulling", hidden=as_json or dry_run) as advance:

        def on_progress(progress: Any) -> None:
            nonlocal done
            advance(progress.done_bytes - done, progress.bytes)
            done = progress.done_bytes

        report = engine(home(), dry_run=dry_run, on_progress=on_progress, **words)
    _tell(report, as_json=as_json)


def _tell(report: Any, *, as_json: bool) -> None:
    if as_json:
        terminal.say_json(report.to_json())
    else:
        names = project_names()
        verb = "would bring" if report.dry_run else "brought"
        for one in report.projects:
            if one.items:
                label = inert(names.get(one.project, one.project[:16]))
                click.echo(f"{label}  {verb} {one.items} files  {size_text(one.bytes)}")
        if not report.items and report.ok:
            terminal.note("nothing of it was pruned here")
    for name, problem in report.unreachable.items():
        terminal.warning(f"{name}: {problem}")
    for one in report.projects:
        reasons = Counter(one.failed.values())
        for reason, count in reasons.most_common():
            some = "s" * (count != 1)
            terminal.warning(f"{count} file{some} did not come: {reason}")
    if not report.ok:
        away = ", ".join(report.unreachable)
        raise RemoteError(
            "not everything came back",
            hint=f"when {away} can be reached, call it again"
            if away
            else "`--json` names each file; `localstore remote check NAME` tries a remote",
        )
