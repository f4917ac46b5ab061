"""What leaves this machine: a pure function that says by which rule of which file.

Everything that the engine does not know stays: a class, a tag, a state of the world. Every rule
that applies must let go; of those that hold, the strictest is told. A remote cannot loosen any of
this.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from localstore.format.spec import ID_BYTES, DataClass
from localstore.layout import FileKind
from localstore.policy.places import HOST_NAMES, KEEP_LOCAL, UNREADABLE
from localstore.policy.rules import BUILT_IN, Leave, Rule, RuleRef, Stamp, merged

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from localstore.policy.rules import When
    from localstored.inventory import Item

_NO_TAG: Final = "00" * ID_BYTES
_CLASSLESS: Final = frozenset({FileKind.FORMAT, FileKind.LINK, FileKind.CERT, FileKind.KEYSLOT})
_NO_CLASS: Final = -1  # of what has none, so that no rule on a class is about it
MANUAL, NETWORK, POWER, HOURS = "manual", "network", "power", "hours"


_NOBODY: Final = RuleRef(BUILT_IN, "", "")


# ------------------------------------------------------------------ what is decided
@dataclass(frozen=True, slots=True)
class Leaves:
    """It may go to this remote; the rule is the basic statement on its class."""

    rule: RuleRef = _NOBODY


@dataclass(frozen=True, slots=True)
class Held:
    """It stays here.

    Attributes:
        reason: one line for a person, with the rule.
        waits: for what it waits: `manual`, `network`, `power`, `hours`; empty when a rule must
            change first.
    """

    reason: str
    rule: RuleRef = _NOBODY
    waits: str = ""


Decision = Leaves | Held


class _Weight(IntEnum):
    """The strictest wins."""

    HOURS = 1
    POWER = 2
    NETWORK = 3
    MANUAL = 4
    SIZE = 5
    UNKNOWN = 6
    NEVER = 7
    BROKEN = 8


_WAITS: Final = {
    _Weight.HOURS: HOURS,
    _Weight.POWER: POWER,
    _Weight.NETWORK: NETWORK,
    _Weight.MANUAL: MANUAL,
}


# ------------------------------------------------------------------ what it is decided by
@dataclass(frozen=True, slots=True)
class RemoteFacts:
    """A remote as rules see it.

    Attributes:
        scheme: such as `folder`, `s3`.
        local: a disk of this machine, so that no network carries what goes there.
    """

    name: str
    scheme: str = ""
    local: bool = False


@dataclass(frozen=True, slots=True)
class Conditions:
    """The world as far as it is known; what is not known meets no condition.

    Attributes:
        online: whether there is a network. metered: whether its use costs.
        captive: a portal stands before it.
        networks: names of active connections. interfaces: those that are up.
        on_battery, battery_percent: of this machine.
        minute: since midnight, local time. weekday: 0 is Monday.
    """

    online: bool | None = None
    metered: bool | None = None
    captive: bool = False
    networks: frozenset[str] = frozenset()
    interfaces: frozenset[str] = frozenset()
    on_battery: bool | None = None
    battery_percent: int | None = None
    minute: int = 0
    weekday: int = 0


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules of one project, and what its writers' stamps stand for.

    Attributes:
        rules: of all levels; see `localstore.policy.rules.merged`.
        stamps: by policy tag, 32 hex digits.
        broken: why nothing leaves at all: a file that cannot be understood.
    """

    rules: tuple[Rule, ...] = field(default_factory=lambda: merged(()))
    stamps: Mapping[str, Stamp] = field(default_factory=dict)
    broken: Held | None = None


BUILT_IN_RULES: Final = Rules()
UNKNOWN_CONDITIONS: Final = Conditions()


def broken_rules(problem: str, level: str, file: str) -> Rules:
    """What is in force while a policy file cannot be understood: nothing leaves."""
    reason = f"nothing leaves while a policy file cannot be understood: {problem}"
    return Rules(broken=Held(reason, RuleRef(level, file, "unreadable")))


def _built_in(rule: str) -> RuleRef:
    return RuleRef(BUILT_IN, "", rule)


_Verdict = tuple[_Weight, Held]


# ------------------------------------------------------------------ one file
def decide(
    item: Item, remote: RemoteFacts, conditions: Conditions, rules: Rules, *, manual: bool
) -> Decision:
    """Whether one file may go to a remote now.

    Args:
        manual: a person asked for this very sync. That releases what is `manual`, and waives what
            is for comfort: power and hours. It waives nothing else.
    """
    if rules.broken is not None:
        return rules.broken
    held = list(_verdicts(item, remote, conditions, rules, manual=manual))
    if held:
        return max(held, key=lambda one: one[0])[1]  # of equals the first
    return Leaves(_basic(item, rules))


def _verdicts(
    item: Item, remote: RemoteFacts, conditions: Conditions, rules: Rules, *, manual: bool
) -> Iterator[_Verdict]:
    """Everything that holds this file, in the order of the rules."""
    data_class = _NO_CLASS if item.file.kind in _CLASSLESS else item.data_class
    yield from _unknown(item, data_class, rules)
    if conditions.captive and not remote.local and not manual:
        reason = "waits: the network shows a page to sign in at"
        yield _Weight.NETWORK, Held(reason, _built_in("captive-portal"), NETWORK)
    stamp = rules.stamps.get(item.policy_tag, Stamp())
    size = 0 if data_class == _NO_CLASS else max(item.size, stamp.largest_file)
    for rule in rules.rules:
        about = rule.is_about(data_class, remote.name)
        if not about and not (stamp.like and rule.is_about(stamp.like, remote.name)):
            continue
        if rule.stamped and rule.name not in stamp.rules:
            continue
        yield from _leave(rule, data_class, manual=manual)
        yield from _size(rule.ref, rule.when, size)
        if not remote.local:
            yield from _network(rule.ref, rule.when, conditions)
        if not manual:
            yield from _comfort(rule.ref, rule.when, conditions)


def _unknown(item: Item, data_class: int, rules: Rules) -> Iterator[_Verdict]:
    """What nobody can judge stays."""
    if data_class == _NO_CLASS:
        return
    if data_class not in DataClass._value2member_map_:
        what = "of an unknown class" if data_class else "of a segment that is not here"
        yield _Weight.UNKNOWN, Held(what, _built_in("unknown-class"))
    elif not any(rule.states == data_class for rule in rules.rules):
        yield (
            _Weight.UNKNOWN,
            Held("no rule speaks of its class", _built_in("unknown-class")),
        )
    if item.policy_tag == _NO_TAG:
        return
    stamp = rules.stamps.get(item.policy_tag)
    if stamp is None:
        reason = "its writer marked it by a rule that this machine does not know"
        yield _Weight.UNKNOWN, Held(reason, _built_in("unknown-tag"))
        return
    known = {rule.name for rule in rules.rules if rule.stamped}
    for name in stamp.rules:
        if name not in known:
            reason = f'its writer marked it by rule "{name}", which no policy file has any more'
            yield _Weight.UNKNOWN, Held(reason, _built_in("unknown-rule"))


# ------------------------------------------------------------------ one rule
def _word(data_class: int) -> str:
    known = data_class in DataClass._value2member_map_
    return DataClass(data_class).name.lower() if known else "it"


_MARKED: Final = {
    HOST_NAMES: "the name of machine and account",
    KEEP_LOCAL: "a value that is kept local",
    UNREADABLE: "what was recorded while a policy file was broken",
}


def _leave(rule: Rule, data_class: int, *, manual: bool) -> Iterator[_Verdict]:
    marked = _MARKED.get(rule.name, "what its writer marked")
    what = marked if rule.stamped else _word(data_class)
    if rule.leave is Leave.NEVER:
        yield _Weight.NEVER, Held(f"{what} never leaves: {rule.ref}", rule.ref)
    elif rule.leave is Leave.MANUAL and not manual:
        reason = f"{what} leaves by hand alone: {rule.ref}"
        yield _Weight.MANUAL, Held(reason, rule.ref, MANUAL)


def _size(ref: RuleRef, when: When, size: int) -> Iterator[_Verdict]:
    if when.max_file is not None and size > when.max_file:
        reason = f"{_size_text(size)}, more than the {_size_text(when.max_file)} of {ref}"
        yield _Weight.SIZE, Held(reason, ref)


def _size_text(count: int) -> str:
    """Bytes for a person: whole units as a person writes them, else five digits."""
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if count and count % (1 << 10 * power) == 0:
            return f"{count >> 10 * power} {unit}"
    for power, unit in ((4, "TB"), (3, "GB"), (2, "MB"), (1, "kB")):
        if count >= 10 ** (3 * power):
            return f"{count / 10 ** (3 * power):.5g} {unit}"
    return f"{count} bytes"


def _network(ref: RuleRef, when: When, now: Conditions) -> Iterator[_Verdict]:
    wanted = when.network
    if wanted is None:
        return
    if wanted.unmetered:
        met = now.metered is False
    else:
        met = bool(wanted.names & now.networks or wanted.interfaces & now.interfaces)
    if not met:
        yield _Weight.NETWORK, Held(f"waits for {wanted}: {ref}", ref, NETWORK)


def _comfort(ref: RuleRef, when: When, now: Conditions) -> Iterator[_Verdict]:
    """Power and hours: for the person's comfort, so waived when the person asks."""
    least = when.battery_above
    if least is not None and not _enough_power(least, now):
        reason = f"waits for mains, or {least} % of battery: {ref}"
        yield _Weight.POWER, Held(reason, ref, POWER)
    if when.hours is not None and not any(
        window.holds(now.minute, now.weekday) for window in when.hours
    ):
        yield _Weight.HOURS, Held(f"waits for the hours of {ref}", ref, HOURS)


def _enough_power(least: int, now: Conditions) -> bool:
    if now.on_battery is False:
        return True
    return now.battery_percent is not None and now.battery_percent >= least


def _basic(item: Item, rules: Rules) -> RuleRef:
    """The rule that lets go."""
    if item.file.kind in _CLASSLESS:
        return _built_in("keys-and-links")
    return next(rule.ref for rule in rules.rules if rule.states == item.data_class)


# ------------------------------------------------------------------ objects
def decide_object(
    item: Item,
    referrers: Collection[Item],
    remote: RemoteFacts,
    conditions: Conditions,
    rules: Rules,
    *,
    manual: bool,
) -> Decision:
    """Whether an object may go: by its class, and only for a segment that may go itself.

    An object that nobody refers to yet could turn out to belong to what stays; one that nobody
    refers to any more is for a collector.
    """
    own = decide(item, remote, conditions, rules, manual=manual)
    logs = [decide(log, remote, conditions, rules, manual=manual) for log in referrers]
    return _of_object(own, logs)


def _of_object(own: Decision, logs: Iterable[Decision]) -> Decision:
    if isinstance(own, Held):
        return own
    mildest: Held | None = None
    for decision in logs:
        if isinstance(decision, Leaves):
            return own
        if mildest is None or (decision.waits and not mildest.waits):
            mildest = decision
    if mildest is None:
        return Held("no segment refers to it", _built_in("no-reference"))
    reason = f"only segments that stay refer to it: {mildest.reason}"
    return Held(reason, mildest.rule, mildest.waits)


# ------------------------------------------------------------------ many files
class Decider:
    """The same decisions for many files: what is equal in the eyes of the rules is judged once."""

    def __init__(
        self, remote: RemoteFacts, conditions: Conditions, rules: Rules, *, manual: bool
    ) -> None:
        self._remote, self._conditions = remote, conditions
        self._rules, self._manual = rules, manual
        self._limits = sorted(
            {rule.when.max_file for rule in rules.rules if rule.when.max_file is not None}
        )
        self._known: dict[tuple[bool, int, str, int], Decision] = {}

    def item(self, item: Item) -> Decision:
        """As `decide`. Of a file that is too large, the size that is told may be another's."""
        size = bisect_left(self._limits, item.size) if self._limits else 0
        key = (item.file.kind in _CLASSLESS, item.data_class, item.policy_tag, size)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = decide(
                item, self._remote, self._conditions, self._rules, manual=self._manual
            )
        return found

    def object(self, item: Item, referrers: Iterable[Item]) -> Decision:
        """As `decide_object`."""
        return _of_object(self.item(item), map(self.item, referrers))
