"""`localstore gc --remote`: collect on a remote what nothing refers to."""

from __future__ import annotations

from typing import Any, Final

import click

from localstore.cli import terminal
from localstore.cli.context import home, project_ids, project_names
from localstore.cli.durations import Duration
from localstore.cli.engine import load_engine
from localstore.cli.rm import size_text
from localstore.cli.terminal import inert
from localstore.errors import RemoteError

REMOTE_GRACE_S: Final = 24 * 3600.0


class Grace(Duration):
    """A length of time as `24h`, or a number of seconds; `0` for none."""

    _may_be_none = True

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds, or a usage error."""
        try:
            seconds = float(value)
        except ValueError:
            return super().convert(value, param, ctx)
        if not 0 <= seconds < 10 * 365 * 86_400:
            self.fail(f"{value!r} is not between nothing and ten years", param, ctx)
        return seconds


def collect_remote(
    remote: str, project: str | None, grace_s: float, *, dry_run: bool, as_json: bool
) -> None:
    """Collect on one remote and say what was done."""
    report: Any = load_engine("collect_remote")(
        home(),
        remote=remote,
        projects=None if project is None else project_ids(project),
        grace_us=int(grace_s * 1e6),
        dry_run=dry_run,
    )
    if as_json:
        terminal.say_json(report.to_json())
    else:
        _print(report, grace_s)
    names = project_names()
    for one in report.projects:
        if one.held:
            label = inert(names.get(one.project, one.project[:16]))
            terminal.warning(f"nothing of {label} is collected: {one.held}")
            if one.hint:
                terminal.note(f"hint: {one.hint}")
    if not report.ok:
        raise SystemExit(RemoteError.exit_code)


def _print(report: Any, grace_s: float) -> None:
    names = project_names()
    verb = "would delete" if report.dry_run else "deleted"
    for one in report.projects:
        if one.deleted:
            label = inert(names.get(one.project, one.project[:16]))
            click.echo(f"{label}  {one.deleted} objects  {size_text(one.deleted_bytes)}")
    terminal.note(f"{verb} {size_text(report.deleted_bytes)} on {inert(report.remote)}")
    waiting = sum(one.waiting for one in report.projects)
    if waiting:
        hours = f"{grace_s / 3600:g} hours"
        terminal.note(f"{waiting} unneeded objects wait until they were known so for {hours}")
