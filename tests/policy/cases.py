"""From the words of a case to what the engine's function takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from localstore.format.spec import DataClass
from localstore.layout import parse_name
from localstore.policy.rules import Stamp, merged, parse
from localstored.inventory import Item
from localstored.policy import Conditions, RemoteFacts, Rules

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.policy.oracle import Case, World

SUBJECT, SEGMENT = "11" * 16, "22" * 16
LOG = f"runs/{SUBJECT}/{SEGMENT}.log"
LINK = f"links/{'44' * 32}"
OBJECT = f"objects/55/{'55' * 32}"
UNKNOWN_TAG = "ee" * 16
TAG = "ab" * 16
UNITS: dict[str, Callable[[Any], str]] = {
    "max_file": lambda count: f"{count} B",
    "hours": lambda given: _hours(*given),
}


def _hours(start: int, end: int) -> str:
    return f"{start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02}"


def _toml(table: dict[str, Any]) -> dict[str, Any]:
    """The tables of a case as they stand in a file."""
    return {
        key: UNITS[key](value)
        if key in UNITS
        else _toml(value)
        if isinstance(value, dict)
        else value
        for key, value in table.items()
    }


def rules_of(levels: tuple[dict[str, Any], ...], stamp: tuple[str, ...] = ()) -> Rules:
    """What the files of these levels say together."""
    names = ("user", "project", "team")
    files = [
        parse(_toml(level), level=name, path=f"/{name}/policy.toml")
        for name, level in zip(names, levels, strict=False)
    ]
    return Rules(rules=merged(files), stamps={TAG: Stamp(stamp)} if stamp else {})


def item_of(case: Case) -> Item:
    """The file that a case is about."""
    if not case.data_class:
        return Item(parse_name(LINK), case.size)
    number = 99 if case.data_class == "?" else int(DataClass[case.data_class.upper()])
    if case.tag is None:
        return Item(parse_name(LOG), case.size, number)
    return Item(parse_name(LOG), case.size, number, UNKNOWN_TAG if "?" in case.tag else TAG)


def conditions_of(world: World) -> Conditions:
    """The same world in the engine's words."""
    return Conditions(
        metered=world.metered,
        captive=world.captive,
        networks=world.networks,
        interfaces=world.interfaces,
        on_battery=world.on_battery,
        battery_percent=world.percent,
        minute=world.minute,
    )


def remote_of(case: Case) -> RemoteFacts:
    """The remote that a case is about."""
    return RemoteFacts(case.remote, local=case.local)
