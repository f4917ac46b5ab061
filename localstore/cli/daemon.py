"""`localstore daemon`: the service installed, started, stopped and looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

import localstore
from localstore.cli import context as store
from localstore.cli import exit_status, terminal
from localstore.cli.daemon_managers import manager_of
from localstore.cli.daemon_units import system_unit
from localstore.cli.ls import local_minute
from localstore.cli.terminal import inert
from localstore.control import NotAnswering

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localstore.cli.daemon_managers import Manager

_US: Final = 1_000_000
_NOT_RUNNING: Final = 3
_AT_BOOT: Final = "@reboot localstore daemon start"

SYSTEM_STEPS: Final = """\
An administrator does this once for a machine (the unit is printed to stdout):
  python3 -m venv /opt/localstore && /opt/localstore/bin/pip install 'localstore[daemon]'
  localstore daemon install --system > /etc/systemd/system/localstored@.service
  systemctl daemon-reload
and this for each account:
  systemctl enable --now localstored@ACCOUNT
Homes that lie elsewhere than below /home, remotes elsewhere than below /media, /mnt, /srv:
  systemctl edit localstored@ACCOUNT      [Service] ReadWritePaths=/data/homes
"""


@click.group()
def daemon() -> None:
    """The service that syncs by itself, outlives your programs and needs no key."""


@daemon.command(short_help="Have it run from now on.", epilog=exit_status(0, 1, 66, 78))
@click.option("--system", is_flag=True, help="Print the unit for all accounts, and what to do.")
def install(system: bool) -> None:
    """Have it run from now on: a systemd user unit, a launch agent, else a plain process.

    A plain process, where there is neither systemd nor launchd, ends with the machine; `cron` can
    start it again: @reboot localstore daemon start
    """
    if system:
        click.echo(system_unit(), nl=False)
        click.echo(SYSTEM_STEPS, nl=False, err=True)
        return
    from localstore.durable import make_folder

    make_folder(store.home())
    before = running_pid()
    manager = manager_of(store.home(), installing=True)
    manager.install()
    _say_running(manager, before)
    if manager.ends_with_machine:
        terminal.note("it ends with this machine; to have it again, `crontab -e`: " + _AT_BOOT)


@daemon.command(epilog=exit_status(0, 1, 66, 78))
def start() -> None:
    """Start it, and wait until it answers."""
    before = running_pid()
    manager = manager_of(store.home())
    manager.start()
    _say_running(manager, before)
    if manager.ends_with_machine and before is None:
        terminal.note(
            "it ends with this machine: `localstore daemon install` says how it comes back"
        )


@daemon.command(short_help="Stop it.", epilog=exit_status(0, 1, 66))
def stop() -> None:
    """Stop it; what is under way is taken up where it stopped. Nothing is wrong if it ran not."""
    before = running_pid()
    manager_of(store.home()).stop()
    terminal.note("the daemon did not run" if before is None else f"stopped, process {before}")


@daemon.command(short_help="Stop and start it.", epilog=exit_status(0, 1, 66, 78))
def restart() -> None:
    """Stop and start it, to have a new version or new settings of the environment."""
    manager = manager_of(store.home())
    manager.stop()
    manager.start()
    _say_running(manager, None)


@daemon.command(short_help="Say whether it runs.", epilog=exit_status(0, 3, 69))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def status(ctx: click.Context, as_json: bool) -> None:
    """Say whether it runs, since when, in which version, and who keeps it running."""
    facts = running_facts()
    kept = manager_of(store.home()).describe()
    if as_json:
        terminal.say_json({"running": facts is not None, "manager": kept, **(facts or {})})
    else:
        click.echo(running_line(facts))
        click.echo(inert(kept))
    version = (facts or {}).get("version", localstore.__version__)
    if version != localstore.__version__:
        terminal.warning(
            f"it is of version {version}, installed is {localstore.__version__}:"
            " `localstore daemon restart`"
        )
    if facts is None:
        ctx.exit(_NOT_RUNNING)


@daemon.command(epilog=exit_status(0, 66, 130))
@click.option("-f", "--follow", is_flag=True, help="Go on until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(1), default=50, show_default=True)
def logs(follow: bool, lines: int) -> None:
    """Print what it said: ids and numbers, no values."""
    manager_of(store.home()).logs(lines, follow=follow)


@daemon.command(short_help="Start it no more.", epilog=exit_status(0, 1))
def uninstall() -> None:
    """Stop it, and start it no more. The home, its remotes and its rules stay as they are."""
    manager_of(store.home()).uninstall()
    terminal.note("the daemon is not installed here any more")


def _say_running(manager: Manager, before: int | None) -> None:
    """That it runs, since when, and who keeps it running."""
    pid = running_pid()
    already = " already" if pid is not None and pid == before else ""
    kept = "" if manager.ends_with_machine else f"; {manager.describe()}"
    terminal.note(f"the daemon runs{already}, process {pid}{kept}")


# ------------------------------------------------------------------ what runs
def running_pid() -> int | None:
    """The process of this home's daemon; None where none runs, 0 where one does not answer."""
    try:
        facts = running_facts()
    except NotAnswering:
        return 0
    pid = (facts or {}).get("pid")
    return pid if isinstance(pid, int) else None


def running_facts() -> dict[str, Any] | None:
    """What the daemon of this home says of itself; None where none answers."""
    from localstore.control import connect

    client = connect(store.home())
    if client is None:
        return None
    with client:
        return client.facts


def running_line(facts: Mapping[str, Any] | None) -> str:
    """The same for a person."""
    if facts is None:
        return "not running"
    since = facts.get("started_us")
    when = f", since {local_minute(since / _US)}" if isinstance(since, int) else ""
    return inert(f"running, process {facts.get('pid')}, version {facts.get('version')}{when}")
