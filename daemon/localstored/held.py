"""What policy holds of a part, in few rows that name nothing: enough to ask again later.

A decision depends on class, tag and size, and for objects on those of the logs that refer to them.
Files that are alike in this are one row, so that the standing of a large project, and whether
something in it may leave by now, cost a few questions and no look at a file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from localstore.layout import FileKind, FileName
from localstored.inventory import Item
from localstored.policy import Held
from localstored.report import Stand

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from localstored.policy import Decider

Row = list[object]  # kind, class, tag, smallest, largest, items, bytes, logs
_Log = tuple[int, str, int]  # class, tag, bits of the size


def rows_of(held: Iterable[tuple[Item, Collection[Item] | None]]) -> list[Row]:
    """Group what is held; of objects with the logs that refer to them."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for item, logs in held:
        key = (item.file.kind.value, item.data_class, item.policy_tag, _logs(logs))
        found = groups.setdefault(key, [item.size, item.size, 0, 0])
        found[0], found[1] = min(found[0], item.size), max(found[1], item.size)
        found[2], found[3] = found[2] + 1, found[3] + item.size
    return [
        [kind, number, tag, *sizes, logs] for (kind, number, tag, logs), sizes in groups.items()
    ]


def _logs(items: Collection[Item] | None) -> tuple[_Log, ...] | None:
    if items is None:
        return None
    return tuple(sorted({(log.data_class, log.policy_tag, log.size.bit_length()) for log in items}))


def still_held(rows: Iterable[Row], decider: Decider) -> Stand | None:
    """What is held now, by reason; None when something of it may leave."""
    stand = Stand()
    for row in rows:
        match row:
            case [
                str(kind),
                int(number),
                str(tag),
                int(least),
                int(most),
                int(items),
                int(size),
                logs,
            ]:
                item = FileName("", FileKind(kind))
                pair = [Item(item, one, number, tag) for one in (least, most)]
                decisions = [d for one in pair for d in _decisions(one, logs, decider)]
            case _:
                return None
        if not all(isinstance(decision, Held) for decision in decisions):
            return None
        last = decisions[-1]
        if isinstance(last, Held):
            stand.hold(last.reason, items, size)
    return stand


def _decisions(item: Item, logs: object, decider: Decider) -> list[object]:
    if not isinstance(logs, list):
        return [decider.item(item)]
    # Only the magnitude of a log was kept: what holds for both ends of it holds between.
    ends = ([(1 << bits) >> 1 for _, _, bits in logs], [(1 << bits) - 1 for _, _, bits in logs])
    name = FileName("", FileKind.LOG)
    return [
        decider.object(
            item,
            [
                Item(name, size, number, tag)
                for size, (number, tag, _) in zip(sizes, logs, strict=True)
            ],
        )
        for sizes in ends
    ]
