"""`localstore policy test`: what would be decided, of something that is here or that could be."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Final

import click

from localstore.cli import context as store
from localstore.cli import exit_status, terminal
from localstore.cli.completion import complete_project, complete_remote
from localstore.cli.engine import load_engine
from localstore.cli.terminal import inert
from localstore.errors import UsageError
from localstore.policy.rules import CLASS_WORDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_CLOCK: Final = re.compile(r"(?:(mon|tue|wed|thu|fri|sat|sun) +)?(\d{1,2}):(\d{2})")
_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def class_word(word: str) -> str:
    """A class as the engine names all of its files."""
    return f"class:{word}"


@click.command(
    short_help="Say what would be decided, and by which rule.", epilog=exit_status(0, 2, 66, 78)
)
@click.argument("item", required=False)
@click.option("--class", "data_class", type=click.Choice(list(CLASS_WORDS)), help="Of this class.")
@click.option("--artifact", metavar="NAME", help="Of an artifact of this name.")
@click.option("--type", "kind", metavar="TYPE", help="Of an artifact of this type.")
@click.option("--config", metavar="KEY", help="Of a config value of this key.")
@click.option("--size", metavar="SIZE", help='So large, as "2 GiB".')
@click.option("--remote", "remotes", multiple=True, metavar="NAME", shell_complete=complete_remote,
              help="To this remote; all by default.")  # fmt: skip
@click.option("--project", metavar="NAME", shell_complete=complete_project, help="In this project.")
@click.option("--manual", is_flag=True, help="When a person says `sync now`.")
@click.option("--metered/--unmetered", default=None, help="On such a network; else not known.")
@click.option("--network", "networks", multiple=True, metavar="NAME", help="On this network.")
@click.option("--interface", "interfaces", multiple=True, metavar="NAME", help="With this VPN up.")
@click.option("--on-battery", type=click.IntRange(0, 100), metavar="PERCENT", help="On battery.")
@click.option("--on-mains", is_flag=True, help="Not on battery.")
@click.option("--at", metavar="[DAY] HH:MM", help="At this local time; now by default.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def test(item: str | None, project: str | None, as_json: bool, **given: Any) -> None:
    """Say whether ITEM would leave: a run, an artifact, a class, a file, as in `sync explain`.

    Without ITEM: something that need not exist, by --class, --artifact, --type, --config, --size.
    What is said of the world counts; of the rest nothing is known, and meets no condition.
    """
    world = _world(given)
    remotes = list(given["remotes"]) or _all_remotes()
    if item is not None:
        found = _of_item(item, project, remotes, world, manual=given["manual"])
    else:
        found = _of_words(project, remotes, world, given)
    if as_json:
        terminal.say_json(found)
        return
    for line in dict.fromkeys(map(_line, found)):
        click.echo(inert(line))


def _all_remotes() -> list[str]:
    from localstore.remotes import read_remotes

    known = list(read_remotes(store.home()))
    if not known:
        terminal.note("nothing leaves: no remote was added")
    return known


def _of_item(
    item: str,
    project: str | None,
    remotes: Sequence[str],
    world: Mapping[str, Any],
    *,
    manual: bool,
) -> list[dict[str, Any]]:
    from localstore.cli.sync_items import resolve

    ids = [] if project is None else store.project_ids(project)
    explain = load_engine("explain")
    return [
        dict(one)
        for asked in resolve(item, ids)
        for one in explain(
            store.home(),
            asked.project,
            list(asked.items),
            remotes=list(remotes),
            conditions=world,
            manual=manual,
        )
    ]


def _of_words(
    project: str | None, remotes: Sequence[str], world: Mapping[str, Any], given: Mapping[str, Any]
) -> list[dict[str, Any]]:
    from localstore.policy import values

    size = values.size(given["size"], "--size") if given["size"] else 0
    ids = [] if project is None else store.project_ids(project)
    stamp, data_class = _stamp(ids[0] if ids else "00" * 32, size, given)
    judge = load_engine("judge")
    return [
        dict(
            judge(
                store.home(),
                ids[0] if ids else None,
                data_class=data_class,
                remote=remote,
                stamp=stamp,
                size=0 if stamp[1] else size,
                conditions=world,
                manual=given["manual"],
            )
        )
        for remote in remotes
    ]


def _stamp(
    project: str, size: int, given: Mapping[str, Any]
) -> tuple[tuple[tuple[str, ...], int], str]:
    """What its writer would stamp on it, and its class."""
    from localstore.policy.inforce import InForce

    artifact, kind, config = given["artifact"], given["kind"], given["config"]
    data_class = given["data_class"]
    if artifact is None and kind is None and config is None:
        if data_class is None:
            raise UsageError("say what: ITEM, --class, --artifact, --type or --config")
        return ((), 0), data_class
    in_force = InForce.read(store.home_paths().project(project), store.home())
    if config is not None:
        if in_force.config({config: ""}).removed:
            terminal.note(f"the value of {config!r} is never recorded")
        return (tuple(sorted(in_force.config_rules(config))), 0), data_class or "meta"
    found = in_force.artifact(artifact or "", kind, size)
    return (found.rules, found.largest_file), data_class or "artifacts"


def _world(given: Mapping[str, Any]) -> dict[str, Any]:
    minute, weekday = _time(given["at"])
    percent = given["on_battery"]
    return {
        "metered": given["metered"],
        "networks": list(given["networks"]),
        "interfaces": list(given["interfaces"]),
        "on_battery": True if percent is not None else False if given["on_mains"] else None,
        "battery_percent": percent,
        "minute": minute,
        "weekday": weekday,
    }


def _time(text: str | None) -> tuple[int, int]:
    """Minute of the day, and weekday."""
    now = time.localtime()
    if text is None:
        return now.tm_hour * 60 + now.tm_min, now.tm_wday
    found = _CLOCK.fullmatch(text.strip().lower())
    if found is None or int(found[2]) > 23 or int(found[3]) > 59:
        raise UsageError(f"--at is {text!r}, want a time such as 03:00 or 'sat 14:30'")
    weekday = _DAYS.index(found[1]) if found[1] else now.tm_wday
    return int(found[2]) * 60 + int(found[3]), weekday


def _line(fact: Mapping[str, Any]) -> str:
    rule = fact["rule"]
    by = (
        f'rule "{rule["rule"]}" of {rule["file"]}'
        if rule["file"]
        else (f'the built-in rule "{rule["rule"]}"')
    )
    what = fact["class"] or "keys and links"
    if fact["leaves"]:
        return f"{what} leaves for {fact['remote']}: {by}"
    return f"{what} is held from {fact['remote']}: {fact['reason']}"
