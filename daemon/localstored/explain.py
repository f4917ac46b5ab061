"""Says of any file of a project whether it leaves, where to, and by which rule of which file.

Reads what is here and nothing else: no network, no key. What it says is what a sync would decide.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from localstore import pruned, trust
from localstore.errors import BadSetting, Damaged, NotFound
from localstore.format.spec import DataClass
from localstore.layout import FileKind, HomePaths, object_name, parse_name
from localstore.policy.rules import BUILT_IN, RuleRef, Stamp
from localstore.remotes import read_remotes
from localstore.store.references import References
from localstored.inventory import OBJECT_HEADER_BYTES, Item, object_class
from localstored.policy import Conditions, Decider, Decision, Held
from localstored.policyfile import Book, remote_facts
from localstored.receipts import ReceiptFile

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from localstore.layout import ProjectPaths
    from localstore.remotes import RemoteEntry

_PRUNED: Final = RuleRef(BUILT_IN, "", "pruned")
_CLASS_ITEM: Final = "class:"
_TEST_TAG: Final = "7e" * 16
_TEST_NAME: Final = f"runs/{'00' * 16}/{'00' * 16}.log"


def explain(
    home: Path,
    project: str,
    items: Sequence[str] = (),
    *,
    remotes: Sequence[str] | None = None,
    conditions: Conditions | Mapping[str, Any] | None = None,
    manual: bool = False,
) -> list[dict[str, Any]]:
    """What would be decided now, for each file and remote.

    Args:
        project: its id.
        items: names of files, subjects (32 hex digits) with the contents that they refer to,
            `class:media`; none: the whole project. Files that were pruned here count.
        remotes: names; None: all.
        conditions: or their fields, those that are missing unknown; None: as they are now.
        manual: as a sync that a person asks for, not as the service.

    Returns:
        Of each `item`, `kind`, `class` (empty for keys and links), `size`, `remote`, `leaves`,
        `reason`, `rule` (`level`, `file`, `rule`), `waits`, `pruned`: whether its bytes were pruned
        here, and `there`: whether a receipt proves that the remote has all of it.

    Raises:
        NotFound: no such project, remote, file or subject here.
    """
    paths = HomePaths(home).project(project)
    if not paths.root.is_dir():
        raise NotFound(f"no project {project[:16]} in {home}")
    book = Book.read(home)
    world = _conditions(book) if conditions is None else _as_conditions(conditions)
    chosen = _remotes(home, remotes)
    contents = _Contents(paths)
    found = list(contents.chosen(items))
    out: list[dict[str, Any]] = []
    for entry in chosen:
        decider = Decider(remote_facts(entry), world, book.rules(paths), manual=manual)
        there = _acknowledged(paths, entry)
        for item in found:
            decision = contents.decide(item, decider)
            facts = _facts(item, decision, entry.name)
            pruned_here = item.name in contents.absent
            is_there = there.get(item.name, -1) >= item.size
            out.append({**facts, "pruned": pruned_here, "there": is_there})
    return out


def judge(
    home: Path,
    project: str | None,
    *,
    data_class: str,
    remote: str,
    stamp: tuple[Sequence[str], int] = ((), 0),
    size: int = 0,
    conditions: Mapping[str, Any],
    manual: bool = False,
) -> dict[str, Any]:
    """What would be decided of a file that need not exist.

    Args:
        project: its id; None: by the user's file alone.
        data_class: its word. stamp: names of rules that fit, and bytes of the largest file.
        size: bytes. conditions: fields of `Conditions`.

    Raises:
        NotFound: no such remote.
        BadSetting: no such class.
    """
    if data_class.upper() not in DataClass.__members__:
        raise BadSetting(f"class is {data_class!r}, want one of {', '.join(_words())}")
    (entry,) = _remotes(home, [remote])
    paths = HomePaths(home).project(project or "00" * 32)
    rules = Book.read(home).rules(paths)
    names, largest = stamp
    meant = Stamp(tuple(sorted(names)), largest)
    if meant:
        rules = replace(rules, stamps={**rules.stamps, _TEST_TAG: meant})
    number = int(DataClass[data_class.upper()])
    item = Item(parse_name(_TEST_NAME), size, number)
    item = replace(item, policy_tag=_TEST_TAG) if meant else item
    world = _as_conditions(conditions)
    decider = Decider(remote_facts(entry), world, rules, manual=manual)
    return _facts(item, decider.item(item), entry.name)


# ------------------------------------------------------------------ what is asked
def _words() -> list[str]:
    return [one.name.lower() for one in DataClass]


def _conditions(book: Book) -> Conditions:
    """As they are now, where any file asks for some."""
    from localstored.conditions import read_once

    return read_once() if book.files() else Conditions()


def _as_conditions(given: Conditions | Mapping[str, Any]) -> Conditions:
    if isinstance(given, Conditions):
        return given
    names = {one: frozenset(given.get(one, ())) for one in ("networks", "interfaces")}
    return Conditions(**{**given, **names})


def _remotes(home: Path, names: Sequence[str] | None) -> list[RemoteEntry]:
    known = read_remotes(home)
    for name in names or ():
        if name not in known:
            raise NotFound(f"no remote {name!r}; there are: {', '.join(known) or 'none'}")
    return [entry for name, entry in known.items() if names is None or name in names]


def _acknowledged(paths: ProjectPaths, entry: RemoteEntry) -> dict[str, int]:
    """Bytes of each file that the remote said it has."""
    batches = ReceiptFile.of(paths, entry.id).batches()
    return {line.name: line.size for lines, _ in batches for line in lines}


# ------------------------------------------------------------------ what is here
@dataclass(slots=True)
class _Contents:
    """The files of one project as the rules see them."""

    paths: ProjectPaths
    logs: dict[str, Item]
    needed: Mapping[str, list[str]]
    absent: dict[str, Item]

    def __init__(self, paths: ProjectPaths) -> None:
        self.paths = paths
        references = References(paths)
        references.look()
        self.logs = {
            log.file.name: Item(
                log.file, log.end, log.header.data_class, log.header.policy_tag.hex()
            )
            for log in references.logs()
        }
        try:
            state = trust.read_project(paths)
        except Damaged:
            self.needed = {}
        else:
            self.needed = references.needed(state, ())
        self.absent = {item.name: item for item in self._pruned()}

    def _pruned(self) -> Iterator[Item]:
        """What its stubs say is not here any more."""
        logs = {stub.name: stub for stub in pruned.absent_logs(self.paths)}
        for stub in logs.values():
            yield Item(parse_name(stub.name), stub.size, stub.data_class)
        for id_, one in pruned.object_stubs(self.paths).items():
            name = object_name(bytes.fromhex(id_))
            if not self.paths.file(name).exists():
                users = self.needed.get(id_, ())
                known = (self.logs[user].data_class for user in users if user in self.logs)
                gone = (logs[user].data_class for user in users if user in logs)
                yield Item(parse_name(name), one.size, next(chain(known, gone), 0))

    def _all(self) -> Iterator[str]:
        yield from filter(_syncs, self.paths.names())
        yield from self.absent

    def chosen(self, items: Sequence[str]) -> Iterator[Item]:
        """The files that were asked for, each once.

        Raises:
            NotFound: one of them is not here.
        """
        if not items:
            yield from map(self._item, self._all())
            return
        names: dict[str, None] = {}
        for asked in items:
            found = self._names(asked)
            if not found and not asked.startswith(_CLASS_ITEM):
                raise NotFound(f"nothing called {asked!r} in project {self.paths.id[:16]}")
            names.update(dict.fromkeys(found))
        yield from map(self._item, names)

    def _names(self, asked: str) -> Collection[str]:
        if asked.startswith(_CLASS_ITEM):
            number = {one.name.lower(): one for one in DataClass}.get(asked[len(_CLASS_ITEM) :])
            return [one for one in self._all() if number and self._item(one).data_class == number]
        if len(asked) == 32 and "/" not in asked:
            return [name for name in self._all() if f"/{asked}/" in name] + self._used_by(asked)
        try:
            file = parse_name(asked)
        except Damaged:
            return []
        here = asked in self.absent or self.paths.file(asked).exists()
        return [asked] if file.kind.syncs and here else []

    def _used_by(self, subject: str) -> list[str]:
        """The contents that a subject's logs refer to, as far as they are here or were."""
        owned = f"runs/{subject}/"
        found = (
            object_name(bytes.fromhex(one))
            for one, users in self.needed.items()
            if any(user.startswith(owned) for user in users)
        )
        return [one for one in found if one in self.absent or self.paths.file(one).exists()]

    def _item(self, name: str) -> Item:
        if name in self.logs:
            return self.logs[name]
        if name in self.absent:
            return self.absent[name]
        file, path = parse_name(name), self.paths.file(name)
        try:
            size = path.stat().st_size
            if file.kind is FileKind.OBJECT:
                with path.open("rb") as opened:
                    return Item(file, size, object_class(opened.read(OBJECT_HEADER_BYTES)))
        except (OSError, Damaged):
            return Item(file, 0)
        log = self.logs.get(f"runs/{file.subject}/{file.segment}.log")
        if file.kind is FileKind.TAIL_COPY and log is not None:
            return Item(file, size, log.data_class, log.policy_tag)
        return Item(file, size)

    def decide(self, item: Item, decider: Decider) -> Decision:
        """As a sync would."""
        if item.name in self.absent:
            return Held("pruned here; `localstore pull` brings it back", _PRUNED)
        if item.file.kind is not FileKind.OBJECT:
            return decider.item(item)
        names = self.needed.get(item.file.hash, ())
        return decider.object(item, [self.logs[name] for name in names if name in self.logs])


def _syncs(name: str) -> bool:
    try:
        return parse_name(name).kind.syncs
    except Damaged:
        return False


def _facts(item: Item, decision: Decision, remote: str) -> dict[str, Any]:
    held = isinstance(decision, Held)
    known = item.data_class in DataClass._value2member_map_
    rule = decision.rule
    return {
        "item": item.name,
        "kind": item.file.kind.value,
        "class": DataClass(item.data_class).name.lower() if known else "",
        "size": item.size,
        "remote": remote,
        "leaves": not held,
        "reason": decision.reason if isinstance(decision, Held) else "",
        "rule": {"level": rule.level, "file": rule.file, "rule": rule.rule},
        "waits": decision.waits if isinstance(decision, Held) else "",
    }
