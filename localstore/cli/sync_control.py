"""`localstore sync pause | resume | log`: the service told to rest, and what it did."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import click

from localstore.cli import context as store
from localstore.cli import exit_status, terminal
from localstore.cli.durations import DURATION
from localstore.cli.engine import load_engine
from localstore.cli.ls import local_minute
from localstore.cli.rm import size_text
from localstore.cli.sync_state import read_history
from localstore.cli.terminal import inert

if TYPE_CHECKING:
    from collections.abc import Mapping

_US: Final = 1_000_000
_MOST_LINES: Final = 10_000


def ask(do: str, args: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the daemon answers; None where none runs."""
    from localstore.control import connect

    client = connect(store.home())
    if client is None:
        return None
    with client:
        return client.call(do, args)


@click.command(short_help="Let nothing leave by itself.", epilog=exit_status(0, 2, 69, 74))
@click.option("--for", "for_s", type=DURATION, help="Go on by itself after so long, as 2h or 30m.")
def pause(for_s: float | None) -> None:
    """Let nothing leave by itself until `sync resume`, or for a time.

    Also where no daemon runs: one that starts later obeys. Transfers under way stop. `sync now`
    still syncs, because you ask for it.
    """
    until_us = None if for_s is None else time.time_ns() // 1000 + int(for_s * _US)
    if ask("pause", {"until_us": until_us}) is None:
        load_engine("pause")(store.home(), until_us)
    until = "until `localstore sync resume`" if until_us is None else f"until {_when(until_us)}"
    terminal.note(f"paused {until}")


@click.command(epilog=exit_status(0, 69, 74))
def resume() -> None:
    """End a pause."""
    if ask("resume", {}) is None:
        load_engine("resume")(store.home())
        terminal.note("not paused any more; no daemon runs here: `localstore daemon start`")
    else:
        terminal.note("not paused any more")


@click.command(short_help="List the last syncs.", epilog=exit_status(0, 2, 74))
@click.option(
    "-n",
    "--lines",
    "count",
    type=click.IntRange(1, _MOST_LINES),
    default=20,
    show_default=True,
    help="So many, the newest.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def log(count: int, as_json: bool) -> None:
    """The syncs of this home that moved something or failed, the newest last."""
    entries = read_history(store.home(), count)
    if as_json:
        terminal.say_json(entries)
        return
    for entry in entries:
        click.echo(log_line(entry))
    if not entries:
        terminal.note("nothing was synced here yet")


def log_line(entry: Mapping[str, Any]) -> str:
    """One line of the history for a person."""
    numbers = {key: value for key, value in entry.items() if isinstance(value, (int, float))}

    def moved(what: str) -> str:
        count, size = int(numbers.get(what, 0)), int(numbers.get(f"{what}_bytes", 0))
        return f"{what} {count} ({size_text(size)})"

    words = [_when(int(numbers.get("time_us", 0))), str(entry.get("remote", "?"))]
    words += [moved("pushed"), moved("pulled")]
    words += [f"{what} {int(numbers[what])}" for what in ("erased", "held") if numbers.get(what)]
    if numbers.get("seconds"):
        words.append(f"in {numbers['seconds']:.1f} s")
    if entry.get("by") == "person":
        words.append("asked for")
    if entry.get("error"):
        words.append(f"failed: {entry['error']}")
    elif numbers.get("trouble"):
        words.append(f"trouble: {int(numbers['trouble'])}")
    return inert("  ".join(words))


def _when(time_us: int) -> str:
    return local_minute(time_us / _US)
