"""`localstore sync`: bring remotes and this machine to hold the same, and see how far that is.

A sync runs in the service when one answers, else in this process by the same engine; what a person
sees is alike.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any, Final

import click

from localstore.cli import context as store
from localstore.cli import terminal
from localstore.cli.completion import complete_project, complete_remote
from localstore.cli.durations import DURATION
from localstore.cli.engine import load_engine
from localstore.cli.sync_control import log, pause, resume
from localstore.cli.sync_display import duration_text, showing
from localstore.cli.sync_explain import explain
from localstore.cli.sync_report import has_broken_policy, print_report
from localstore.cli.sync_state import Trouble, trouble_of_remotes
from localstore.cli.sync_status import status
from localstore.errors import BadSetting, RemoteError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from localstore.control import Client

_FIRST_WAIT_S: Final = 2.0
_LONGEST_WAIT_S: Final = 60.0


@click.group()
def sync() -> None:
    """Bring remotes and this machine to hold the same."""


for _command in (status, pause, resume, explain, log):
    sync.add_command(_command)


@sync.command(short_help="Push and pull now, both ways.")
@click.option(
    "--remote",
    "remotes",
    multiple=True,
    metavar="NAME",
    help="Only this remote; may be repeated.",
    shell_complete=complete_remote,
)
@click.option(
    "--project",
    "projects",
    multiple=True,
    metavar="NAME",
    help="Only this project: its name, or its id; may be repeated.",
    shell_complete=complete_project,
)
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--wait", is_flag=True, help="Try again until everything that may leave has left.")
@click.option(
    "--timeout", "timeout_s", type=DURATION, help="With --wait: give up after so long, as 10m."
)
@click.option(
    "--full", is_flag=True, help="List remotes in full: somebody changed files there by hand."
)
@click.option("-v", "--verbose", is_flag=True, help="Every file of a dry run; progress as lines.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole report as JSON.")
@click.pass_context
def now(
    context: click.Context,
    remotes: tuple[str, ...],
    projects: tuple[str, ...],
    *,
    dry_run: bool,
    wait: bool,
    timeout_s: float | None,
    full: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Push and pull now, both ways; also while paused, and what leaves by hand alone.

    Does not wait for the hours and the power that your rules ask for, and obeys all else of them.

    Through the daemon when one runs and without --full, else in this process. Ctrl-C stops
    watching: what the daemon does goes on, what this process does is taken up where it stopped.
    With --wait a remote that is away is tried again, from each 2 s to each minute; trouble that
    only a person can mend ends it.

    EXIT STATUS: 0 when everything that may leave was acknowledged by every remote and nothing was
    refused or is damaged; else 69: something did not leave, and it is named. One damaged run among
    ten: nine arrive, and the exit status is 69. 78 while a policy file cannot be understood.
    """
    words = {
        "remotes": list(remotes) or None,
        "projects": [one for name in projects for one in store.project_ids(name)] or None,
    }
    job = Job(store.home(), words, verbose=verbose, as_json=as_json)
    if not dry_run:
        store.bring_tails_home()
    if dry_run or full:
        report = job.in_process(dry_run=dry_run, relist=full)
    else:
        report = job.until_done(timeout_s) if wait else job.once()
    job.say(report)
    if not dry_run:
        store.sweep_erased()
        news = store.adopt_keys()
        if news:
            terminal.always(news)
    if not report["ok"]:
        broken = any(map(has_broken_policy, report["projects"]))
        context.exit(BadSetting.exit_code if broken else RemoteError.exit_code)


class Job:
    """One `sync now`: what was asked for, and the ways to have it done."""

    def __init__(
        self, home: Path, words: Mapping[str, Any], *, verbose: bool = False, as_json: bool = False
    ) -> None:
        self.home, self._words = home, dict(words)
        self._verbose, self._as_json = verbose, as_json
        self._failures: dict[str, RemoteError] = {}
        self.names = store.project_names()

    # -------------------------------------------------------------- doing it
    def once(self) -> dict[str, Any]:
        """Sync through the daemon, or in this process when there is none or it goes away."""
        from localstore.control import NotAnswering, connect

        try:
            client = connect(self.home)
            if client is not None:
                with client:
                    return self._in_daemon(client)
        except NotAnswering as problem:
            terminal.warning(f"{problem}; syncing in this process instead")
        return self.in_process()

    def _in_daemon(self, client: Client) -> dict[str, Any]:
        terminal.note(f"the daemon syncs (process {client.facts.get('pid')})")
        with self._showing() as on_event:
            result = client.call("sync", self._words, on_event=on_event, timeout_s=None)
        report = result.get("report", result)
        return dict(report)

    def in_process(self, *, dry_run: bool = False, relist: bool = False) -> dict[str, Any]:
        """Sync with the engine in this process; what it did as JSON values.

        Raises:
            NotFound: this installation has no engine.
        """
        run = load_engine("sync_now", "sync")
        with self._showing(quiet=dry_run) as on_event:
            report = run(
                self.home,
                **self._words,
                dry_run=dry_run,
                relist=relist,
                on_event=on_event,
                recipients=store.recipients(),
            )
        self._failures = dict(getattr(report, "failures", {}))
        values: dict[str, Any] = report.to_json()
        return values

    def until_done(
        self,
        timeout_s: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> dict[str, Any]:
        """Sync until everything that may leave has left, or no waiting helps, or time is over."""
        deadline = None if timeout_s is None else clock() + timeout_s
        longest = _FIRST_WAIT_S
        while True:
            report = self.once()
            if report["ok"] or not self._passing(report):
                return report
            # Full jitter: five hundred epilogs that end with one job do not try together.
            pause_s = jitter(longest / 2, longest)
            if deadline is not None and clock() + pause_s > deadline:
                return report
            reason = next(iter(report["failed"].values()), "something did not leave")
            terminal.note(f"{reason}; trying again in {duration_text(pause_s)}")
            sleep(pause_s)
            longest = min(_LONGEST_WAIT_S, longest * 2)

    def _passing(self, report: Mapping[str, Any]) -> bool:
        """Whether waiting may mend what went wrong: some remote is merely away."""
        known = self._trouble()
        return any(name not in known or not known[name].permanent for name in report["failed"])

    def _trouble(self) -> dict[str, Trouble]:
        """What is known of remotes that failed: by this process, or as the daemon wrote it down."""
        return trouble_of_remotes(self.home) | {
            name: Trouble(str(one), one.hint, getattr(one, "permanent", False) is True)
            for name, one in self._failures.items()
        }

    # -------------------------------------------------------------- saying it
    def _showing(self, *, quiet: bool = False) -> Any:
        return showing(self.names, quiet=quiet or self._as_json, verbose=self._verbose)

    def say(self, report: Mapping[str, Any]) -> None:
        """Data on stdout, trouble on stderr."""
        if self._as_json:
            terminal.say_json({**report, "names": _names_in(report, self.names)})
            return
        hints = {name: one.hint for name, one in self._trouble().items()}
        print_report(report, self.names, hints, verbose=self._verbose)


def _names_in(report: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, str]:
    found = [project["project"] for project in report["projects"]]
    return {one: names[one] for one in found if one in names}
