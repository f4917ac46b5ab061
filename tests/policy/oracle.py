"""The same decisions, written a second time, from the page docs/privacy.md and nothing else.

Knows no code of the engine: plain words and numbers in, leaves or the kinds of all holds out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

CLASSES = ("meta", "metrics", "system", "console", "code", "media", "artifacts")
BUILT_IN = {name: "auto" for name in CLASSES} | {"console": "never"}
MARKS = ("host-names", "keep-local", "policy-unreadable")


@dataclass(frozen=True)
class World:
    """What is so."""

    metered: bool | None = None
    captive: bool = False
    networks: frozenset[str] = frozenset()
    interfaces: frozenset[str] = frozenset()
    on_battery: bool | None = None
    percent: int | None = None
    minute: int = 0


@dataclass(frozen=True)
class Case:
    """One question.

    Attributes:
        data_class: a word, "" for keys and links, "?" for a class that nobody knows.
        tag: names of rules; None for no tag, "?" in it for a tag that nobody knows.
        levels: the tables of the user's and the project's file.
    """

    data_class: str
    tag: tuple[str, ...] | None
    size: int
    remote: str
    local: bool
    world: World
    manual: bool
    levels: tuple[dict, ...] = field(default_factory=tuple)  # type: ignore[type-arg]


def holds(case: Case) -> set[str]:
    """Every kind of hold that applies; nothing means that it leaves."""
    found: set[str] = set()
    if case.world.captive and not case.local and not case.manual:
        found.add("network")
    if case.data_class == "?":
        found.add("unknown")
    if case.tag and "?" in case.tag:
        found.add("unknown")
    for level in case.levels:
        found |= _terms(level.get("conditions", {}), case)
        own = level.get("remotes", {}).get(case.remote, {})
        found |= _terms(own.get("conditions", {}), case)
        found |= _word(own.get("classes", {}).get(case.data_class, "auto"), case)
        for name, rule in level.get("rules", {}).items():
            if _applies(name, rule, case):
                found |= _word(rule.get("leave", "auto"), case) | _terms(rule, case)
    if case.data_class in CLASSES:
        said = [
            level["classes"][case.data_class]
            for level in case.levels
            if case.data_class in level.get("classes", {})
        ]
        for word in said or [BUILT_IN[case.data_class]]:
            found |= _word(word, case)
    return found | _marked(case)


def _marked(case: Case) -> set[str]:
    """Stamps that no person's rule speaks of."""
    if not case.data_class:
        return set()
    found = set()
    for name in case.tag or ():
        if name != "?" and not any(name in level.get("rules", {}) for level in case.levels):
            found.add("never" if name in MARKS else "unknown")
    return found


def _applies(name: str, rule: dict, case: Case) -> bool:  # type: ignore[type-arg]
    if "remotes" in rule and case.remote not in rule["remotes"]:
        return False
    if case.remote in rule.get("except_remotes", []):
        return False
    if "classes" in rule and case.data_class not in rule["classes"]:
        return False
    by_stamp = name in MARKS or bool({"artifact_name", "artifact_type", "config"} & set(rule))
    return not by_stamp or (name in (case.tag or ()) and bool(case.data_class))


def _word(word: str, case: Case) -> set[str]:
    if word == "never":
        return {"never"}
    return {"manual"} if word == "manual" and not case.manual else set()


def _terms(terms: dict, case: Case) -> set[str]:  # type: ignore[type-arg]
    found = set()
    world = case.world
    wanted = terms.get("network", "any")
    if wanted != "any" and not case.local and not _network(wanted, world):
        found.add("network")
    if "max_file" in terms and case.data_class and case.size > terms["max_file"]:
        found.add("size")
    if case.manual:
        return found
    low = world.percent is None or world.percent < terms.get("battery_above", 0)
    if "battery_above" in terms and world.on_battery is not False and low:
        found.add("power")
    if "hours" in terms:
        start, end = terms["hours"]
        inside = (
            start <= world.minute < end
            if start < end
            else world.minute >= start or world.minute < end
        )
        if not inside:
            found.add("hours")
    return found


def _network(wanted: str | list[str], world: World) -> bool:
    if wanted == "unmetered":
        return world.metered is False
    names = [wanted] if isinstance(wanted, str) else wanted
    return any(
        name[4:] in world.interfaces if name.startswith("vpn:") else name in world.networks
        for name in names
    )
