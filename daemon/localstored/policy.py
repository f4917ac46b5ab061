"""What leaves this machine: a pure function that also says why not.

Everything that the engine does not know stays. A remote cannot loosen any of this.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from localstore.format.spec import DataClass
from localstore.layout import FileKind
from localstored.inventory import NO_TAG

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from localstored.inventory import Item

CLASS_LEAVES: Final[Mapping[int, bool]] = {
    DataClass.META: True,
    DataClass.METRICS: True,
    DataClass.SYSTEM: True,  # its writer keeps host and user names in a segment with a tag
    DataClass.CONSOLE: False,
    DataClass.CODE: True,
    DataClass.MEDIA: True,
    DataClass.ARTIFACTS: True,
}
_CLASSLESS: Final = frozenset({FileKind.FORMAT, FileKind.LINK, FileKind.CERT, FileKind.KEYSLOT})


@dataclass(frozen=True, slots=True)
class Leaves:
    """It may go to this remote."""


@dataclass(frozen=True, slots=True)
class Held:
    """It stays here, and why."""

    reason: str


Decision = Leaves | Held


@dataclass(frozen=True, slots=True)
class Rules:
    """What a person allows.

    Attributes:
        classes: which classes leave; a class that is missing stays.
        tags: policy tags (32 hex digits) that may leave beside "none".
        held_remotes: classes that do not go to one remote, by its name.
    """

    classes: Mapping[int, bool] = field(default_factory=lambda: CLASS_LEAVES)
    tags: frozenset[str] = frozenset()
    held_remotes: Mapping[str, frozenset[int]] = field(default_factory=dict)


DEFAULT_RULES: Final = Rules()


def decide(item: Item, remote: str, rules: Rules) -> Decision:
    """Whether one file may go to the remote of this name; the most restrictive rule wins."""
    if item.file.kind in _CLASSLESS:
        return Leaves()
    number = item.data_class
    if number not in DataClass._value2member_map_:
        return Held("of an unknown class" if number else "of a segment that is not here")
    word = DataClass(number).name.lower()
    if not rules.classes.get(number, False):
        return Held(f"{word} stays on this machine")
    if number in rules.held_remotes.get(remote, ()):
        return Held(f"{word} does not go to {remote}")
    if item.policy_tag != NO_TAG and item.policy_tag not in rules.tags:
        return Held("its writer marked it to stay on its machine")
    return Leaves()


def decide_object(item: Item, referrers: Collection[Item], remote: str, rules: Rules) -> Decision:
    """Whether an object may go: by its class, and only for a segment that may go itself.

    An object that nobody refers to yet could turn out to belong to what stays; one that nobody
    refers to any more is for a collector.
    """
    if not referrers:
        return Held("no segment refers to it")
    decisions = [decide(log, remote, rules) for log in referrers]
    if all(isinstance(decision, Held) for decision in decisions):
        return Held("only segments that stay refer to it")
    return decide(item, remote, rules)
