"""`localstored` as a command: its options, its signals, its exit codes."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from localstore import settings
from localstore.control import socket_path
from localstore.ending import run_program
from localstore.errors import LocalStoreError, RemoteError
from localstored.front import sync_now
from localstored.remotes.base import Stopped
from localstored.service.children import Child
from localstored.service.instance import only_instance
from localstored.service.journal import FromLogging, Journal, Level
from localstored.service.ledger import notes_of
from localstored.service.notify_systemd import Systemd
from localstored.service.service import LOOK_S, RESCAN_S, Service
from localstored.service.upkeep import Upkeep

if TYPE_CHECKING:
    from localstored.service.instance import Lease

_MIN_S: Final = 1.0
_WATCHING: Final = (sys.executable, "-m", "localstore.watching", "--worker")


@click.command()
@click.option("--home", type=click.Path(path_type=Path), help="The home; default as everywhere.")
@click.option("--once", is_flag=True, help="Sync once, and exit.")
@click.option(
    "--interval",
    type=click.FloatRange(min=_MIN_S),
    default=LOOK_S,
    show_default=True,
    help="Seconds between looks for what other machines changed.",
)
@click.option(
    "--rescan",
    type=click.FloatRange(min=_MIN_S),
    default=RESCAN_S,
    show_default=True,
    help="Seconds between syncs that compare everything.",
)
@click.option("--log-json", is_flag=True, help="Log one JSON object per line.")
@click.option("-v", "--verbose", is_flag=True, help="Log also what happens all the time.")
def serve(
    home: Path | None,
    interval: float,
    rescan: float,
    *,
    once: bool,
    log_json: bool,
    verbose: bool,
) -> None:
    """Keep a home in step with its remotes, until SIGTERM or SIGINT.

    It syncs what writers have just written within two seconds, looks each minute for what other
    machines changed, and compares everything now and then. `localstore sync status` says how it
    goes; `localstore daemon install` makes it start by itself. It needs no key and has none.

    SIGHUP: read remotes and policy again.

    \b
    EXIT STATUS
      0   told to stop; with --once: everything that should leave was acknowledged
      69  with --once: not everything did
      73  another localstored serves this home
      78  a setting is wrong
    """
    options = settings.load({"home": str(home) if home is not None else None})
    place, told = options.home_path, settings.service_environment()
    journal = Journal(
        to_systemd=told.to_journal,
        as_json=log_json,
        least=Level.DEBUG if verbose else Level.INFO,
    )
    logging.getLogger().addHandler(FromLogging(journal))
    if once:
        sys.exit(_sync_once(place, journal))
    with only_instance(place) as lease:
        service = Service(
            place,
            journal,
            interval_s=interval,
            rescan_s=rescan,
            socket=_socket(place, journal),
            systemd=Systemd(told.notify_socket, told.watchdog_us),
            lease=lease,
            children=[_watching(place, journal)],
            upkeep=Upkeep(journal, settings.child_environment(place), cap_bytes=_cap(options)),
        )
        _serve(service, lease)


def _serve(service: Service, lease: Lease | None) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: service.stop())
    signal.signal(signal.SIGHUP, lambda *_: service.reload())
    code = service.run()
    if not service.is_clean:
        # A thread that hangs in a remote would keep the process for ever.
        if lease is not None:
            lease.release()
        os._exit(code)
    sys.exit(code)


def _sync_once(home: Path, journal: Journal) -> int:
    """One sync with every remote; the exit code."""
    stopped = [False]

    def stop(*_: object) -> None:
        stopped[0] = True

    def check() -> None:
        if stopped[0]:
            raise Stopped

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    with contextlib.suppress(Stopped):
        report = sync_now(home, check=check, manual=False)
        for project in report.projects:
            if project.pushed + project.pulled + project.erased:
                click.echo(
                    f"{project.remote} {project.project[:16]} pushed {project.pushed}"
                    f" pulled {project.pulled} erased {project.erased}"
                )
        for name, reason in report.failed.items():
            journal.error("sync", remote=name, problem=reason)
        for line in notes_of(report):
            journal.warning("sync", note=line)
        return 0 if report.ok else RemoteError.exit_code
    return 0


def _socket(home: Path, journal: Journal) -> Path | None:
    try:
        settings.runtime_folder()
    except LocalStoreError as problem:
        journal.warning("control", problem=problem, hint=problem.hint)
        return None
    return socket_path(home)


def _watching(home: Path, journal: Journal) -> Child:
    """The process that takes in watched folders, and tells people of runs."""
    return Child(
        "watching",
        _WATCHING,
        [home / "watch.toml", home / "notify.toml"],
        journal,
        environment=settings.child_environment(home),
        monotonic=time.monotonic,
    )


def _cap(options: settings.Settings) -> int | None:
    text = options.values.get("store_cap", "")
    return settings.byte_size(text) if text else None


def main() -> None:
    """The command `localstored`."""
    try:
        serve(prog_name="localstored", standalone_mode=True)
    except LocalStoreError as problem:
        click.echo(f"localstored: error: {problem}", err=True)
        if problem.hint:
            click.echo(f"localstored: hint: {problem.hint}", err=True)
        sys.exit(problem.exit_code)


def program() -> None:
    """The program `localstored`."""
    run_program(main)
