"""`localstored`: keeps one home in sync with its remotes until it is told to stop.

It polls: every interval one sync with everything. It needs no key and never asks for one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from localstore import settings
from localstore.durable import make_folder
from localstore.errors import AlreadyExists, LocalStoreError, RemoteError
from localstore.layout import FILE_MODE, HomePaths
from localstored.engine import sync_home

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from localstored.report import Event, SyncReport

LOCK_FILE: Final = "localstored.lock"
RECIPIENTS_FILE: Final = "recipients"
DEFAULT_INTERVAL_S: Final = 60.0
MIN_INTERVAL_S: Final = 1.0


class Stopped(Exception):
    """The service was told to stop, and stands between two files."""


class Service:
    """Syncs one home, once or for ever."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._stop = threading.Event()
        self._last_trouble: list[str] = []

    def stop(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        """Ask to stop; the file that is being moved is the last. Fit for a signal handler."""
        self._stop.set()

    def run(self, interval_s: float) -> None:
        """Sync every `interval_s` seconds until stopped."""
        with contextlib.suppress(Stopped):
            while not self._stop.is_set():
                self.sync_once()
                self._stop.wait(interval_s)

    def sync_once(self) -> bool:
        """One sync with every remote; says what moved, and what is wrong when that changes.

        Returns:
            Whether everything that should leave has left.
        """
        try:
            report = sync_home(
                self._home,
                recipients=read_recipients(HomePaths(self._home)),
                on_event=self._check_stop,
                sleep=self._stop.wait,
            )
        except (LocalStoreError, OSError) as problem:
            self._say([str(problem)])
            return False
        _say_what_moved(report)
        self._say(trouble_of(report))
        return report.ok

    def _check_stop(self, _event: Event) -> None:
        if self._stop.is_set():
            raise Stopped

    def _say(self, trouble: list[str]) -> None:
        # A stick that is away for a week is news once, not ten thousand times.
        if trouble != self._last_trouble:
            for line in trouble or ["all is well again"]:
                click.echo(f"localstored: {line}", err=True)
        self._last_trouble = trouble


def read_recipients(home: HomePaths) -> frozenset[str]:
    """Tags of this home's keys, which stand in clear beside them."""
    try:
        return frozenset((home.identity / RECIPIENTS_FILE).read_text("ascii").split())
    except FileNotFoundError:
        return frozenset()


def trouble_of(report: SyncReport) -> list[str]:
    """Everything in a report that a person should do something about."""
    lines = [f"remote {name}: {reason}" for name, reason in report.failed.items()]
    lines += [str(note) for note in (*report.refused, *report.damaged)]
    for project in report.projects:
        head = f"{project.remote} {project.project[:16]}"
        for what in ("refused", "damaged", "errors"):
            lines += [f"{head} {what}: {note}" for note in getattr(project, what)]
        if project.lost:
            lines.append(f"{head} was set back: {len(project.lost)} links were pushed again")
    return lines


def _say_what_moved(report: SyncReport) -> None:
    for project in report.projects:
        if project.pushed + project.pulled + project.erased:
            click.echo(
                f"{project.remote} {project.project[:16]} pushed {project.pushed}"
                f" pulled {project.pulled} erased {project.erased}"
            )


@contextlib.contextmanager
def only_instance(home: Path) -> Iterator[None]:
    """Hold the place of this home's one service.

    Raises:
        AlreadyExists: another service holds it.
    """
    make_folder(home)
    handle = os.open(home / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, FILE_MODE)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyExists(f"another localstored keeps {home} in sync") from None
        except OSError:
            pass  # no locks on this file system; two services are wasteful, not harmful
        yield
    finally:
        os.close(handle)


@click.command()
@click.option("--home", type=click.Path(path_type=Path), help="The home; default as everywhere.")
@click.option(
    "--interval",
    type=click.FloatRange(min=MIN_INTERVAL_S),
    default=DEFAULT_INTERVAL_S,
    show_default=True,
    help="Seconds between two syncs.",
)
@click.option("--once", is_flag=True, help="Sync once, and exit.")
def serve(home: Path | None, interval: float, *, once: bool) -> None:
    """Keep a home in sync with its remotes, until SIGTERM or SIGINT.

    EXIT STATUS: 0 told to stop, or with --once everything that should leave was acknowledged;
    69 with --once when not; 73 another localstored serves this home; 78 a setting is wrong.
    """
    place = settings.load({"home": str(home) if home is not None else None}).home_path
    service = Service(place)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, service.stop)
    if once:
        with contextlib.suppress(Stopped):
            sys.exit(0 if service.sync_once() else RemoteError.exit_code)
        return
    with only_instance(place):
        service.run(interval)


def main() -> None:
    """The command `localstored`."""
    try:
        serve(prog_name="localstored", standalone_mode=True)
    except LocalStoreError as problem:
        click.echo(f"localstored: error: {problem}", err=True)
        if problem.hint:
            click.echo(f"localstored: hint: {problem.hint}", err=True)
        sys.exit(problem.exit_code)
