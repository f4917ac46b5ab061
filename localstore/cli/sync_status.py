"""`localstore sync status`: how far each project is with each remote, and what to do about it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import click

from localstore.cli import context as store
from localstore.cli import exit_status, terminal
from localstore.cli.engine import load_engine
from localstore.cli.ls import age, local_minute
from localstore.cli.rm import size_text
from localstore.cli.sync_display import duration_text
from localstore.cli.sync_report import called
from localstore.cli.sync_state import daemon_elsewhere
from localstore.cli.terminal import inert

if TYPE_CHECKING:
    from collections.abc import Mapping

_US: Final = 1_000_000
_BEHIND: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One project with one remote.

    Attributes:
        items, size: files, and bytes, that may leave and are not acknowledged.
        held: files and bytes that policy keeps here, by reason.
        receipt_us: when the remote last acknowledged something.
    """

    remote: str
    project: str
    items: int
    size: int
    held: dict[str, tuple[int, int]] = field(default_factory=dict)
    receipt_us: int | None = None

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Row:
        """Of one `Standing` of the engine."""
        held = raw.get("held")
        return cls(
            remote=str(raw.get("remote", "")),
            project=str(raw.get("project", "")),
            items=_number(raw, "behind_items") or 0,
            size=_number(raw, "behind_bytes") or 0,
            held={
                str(reason): (_number(one, "items") or 0, _number(one, "bytes") or 0)
                for reason, one in (held if isinstance(held, dict) else {}).items()
                if isinstance(one, dict)
            },
            receipt_us=_number(raw, "last_receipt_us"),
        )

    @property
    def in_step(self) -> bool:
        """Whether everything that may leave is acknowledged."""
        return self.items == 0


def _number(raw: Mapping[str, Any], name: str) -> int | None:
    value = raw.get(name)
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def read_status() -> dict[str, Any]:
    """What the daemon says, or where none answers what the files say; the same form."""
    from localstore.control import connect

    home = store.home()
    client = connect(home)
    if client is not None:
        with client:
            return client.call("status")
    found: dict[str, Any] = load_engine("status")(home)
    return found


@click.command(
    short_help="Show how far each project is with each remote.", epilog=exit_status(0, 1, 69, 78)
)
@click.option("--exit-code", is_flag=True, help="Leave with 1 when something is behind.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def status(ctx: click.Context, exit_code: bool, as_json: bool) -> None:
    """How far each project is with each remote: in step, behind, held and why, in trouble.

    Needs no network: it compares what is here with what remotes acknowledged. Works with and
    without a daemon. A file that only a remote has is not known before the next sync.
    """
    found = read_status()
    rows = [Row.from_json(one) for one in found.get("standing") or [] if isinstance(one, dict)]
    names = store.project_names()
    if as_json:
        known = {row.project: names[row.project] for row in rows if row.project in names}
        terminal.say_json({**found, "names": known, "in_step": _in_step(rows, found)})
    else:
        _print(found, rows, names)
    if exit_code and not _in_step(rows, found):
        ctx.exit(_BEHIND)


def _in_step(rows: list[Row], found: Mapping[str, Any]) -> bool:
    """A remote that never answered has no row of its own and is not in step."""
    return all(row.in_step for row in rows) and not any(
        _error(remote) for remote in _remotes(found).values()
    )


def _remotes(found: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    remotes = found.get("remotes")
    return remotes if isinstance(remotes, dict) else {}


def _error(remote: Mapping[str, Any]) -> dict[str, Any]:
    error = remote.get("error")
    return error if isinstance(error, dict) else {}


# ------------------------------------------------------------------ for people
def _print(found: Mapping[str, Any], rows: list[Row], names: Mapping[str, str]) -> None:
    for line in daemon_lines(found, daemon_elsewhere(store.home(), time.time())):
        click.echo(line)
    remotes = _remotes(found)
    if rows:
        table = [_cells(row, remotes.get(row.remote, {}), names) for row in rows]
        titles = ["REMOTE", "PROJECT", "STATE", "HELD", "LAST SUCCESS"]
        click.echo(terminal.columns([titles, *table]))
    elif not remotes:
        click.echo("no remote; add one with `localstore remote add`")
    for row in rows:
        for reason, (items, size) in row.held.items():
            head = f"{inert(row.remote)} {called(row.project, names)}"
            click.echo(f"{head} held {items} ({size_text(size)}): {inert(reason)}")
    for name, remote in remotes.items():
        _print_trouble(name, remote, is_running=_number(found, "pid") is not None)


def _cells(row: Row, remote: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    state = "in step" if row.in_step else f"behind {row.items} files, {size_text(row.size)}"
    doing = remote.get("doing")
    if _error(remote):
        state += ", in trouble"
    quiet = ("", "idle", "stopped", *(("waiting",) if _error(remote) else ()))
    if isinstance(doing, str) and doing not in quiet:
        state += f", {inert(doing)}"
    held = sum(items for items, _ in row.held.values())
    size = sum(size for _, size in row.held.values())
    success = _number(remote, "last_success_us") or row.receipt_us
    return [
        inert(row.remote),
        called(row.project, names),
        state,
        f"{held} ({size_text(size)})" if held else "-",
        age(success / _US) if success else "never",
    ]


def _print_trouble(name: str, remote: Mapping[str, Any], *, is_running: bool) -> None:
    error = _error(remote)
    if not error:
        return
    when = _number(remote, "last_try_us")
    at = f" ({age(when / _US)})" if when else ""
    click.echo(f"{inert(name)}: error{at}: {inert(error.get('text', ''))}")
    if error.get("hint"):
        click.echo(f"{inert(name)}: hint: {inert(error['hint'])}")
    again = _number(remote, "next_try_us")
    if error.get("permanent"):
        click.echo(f"{inert(name)}: a person must mend this; `localstore sync now` tries again")
    elif again and is_running and remote.get("doing") == "waiting":
        click.echo(f"{inert(name)}: the daemon tries again {_soon(again / _US - time.time())}")


def _soon(seconds: float) -> str:
    """When something is due: `now`, `in 8 s`, `in 2 h 5 min`."""
    return f"in {duration_text(seconds)}" if seconds >= 1 else "now"


def daemon_lines(found: Mapping[str, Any], elsewhere: str = "") -> list[str]:
    """Whether a daemon runs, here or on another machine, is paused, and what it warns of."""
    process = _number(found, "pid")
    if process is None and elsewhere:
        lines = [f"daemon: running on {inert(elsewhere)}, which shares this home"]
    elif process is None:
        lines = ["daemon: not running here; `localstore daemon start`, or sync by hand"]
    else:
        since = _number(found, "started_us")
        lines = [f"daemon: running, process {process}" + (f", {_since(since)}" if since else "")]
    paused = found.get("paused")
    if isinstance(paused, dict):
        until = _number(paused, "until_us")
        when = f"until {local_minute(until / _US)}" if until else "until `localstore sync resume`"
        lines.append(f"paused: {when}")
    lines += [f"warning: {inert(one)}" for one in _problems(found)]
    return lines


def _since(started_us: int) -> str:
    return f"since {local_minute(started_us / _US)}"


def _problems(found: Mapping[str, Any]) -> list[str]:
    """What the daemon says is wrong with itself."""
    said: list[str] = []
    for what in ("watching", "policy"):
        part = found.get(what)
        if isinstance(part, dict) and part.get("problem"):
            said.append(f"{what}: {part['problem']}")
    for one in found.get("damage") or []:
        if isinstance(one, dict):
            said.append(f"damaged: {one.get('name')}: {one.get('reason')}")
    return said
