"""Edits of one artifact: who saw whom, and what each thing was set to last (docs/format.md 7).

An edit wins over those it saw, directly or through others; of several that nobody saw the later
time wins, then the larger id. Pure; nothing here raises for what a record holds.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from localstore.artifacts.names import check_alias, check_tag
from localstore.errors import BadName
from localstore.format.spec import HASH_BYTES, ID_BYTES, DataClass, RecordKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from localstore.format.records import Record

_FIELDS: Final = ("description", "metadata", "ttl_us")

_Order = tuple[int, bytes, tuple[bytes, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One record, and who said it.

    Attributes:
        place: segment id and sequence number, the same on every replica.
        writer: id of the process.
        flag: why the writer deserves a second look; empty as a rule.
        deposit: whether the writer's device may only write.
    """

    record: Record
    place: tuple[bytes, int]
    writer: bytes = b""
    data_class: int = DataClass.ARTIFACTS
    flag: str = ""
    deposit: bool = False


@dataclass(frozen=True, slots=True)
class Edit:
    """One EDIT record whose form is right; what its operation holds is still to be checked."""

    order: _Order  # time, id, place
    seen: tuple[bytes, ...]
    operation: Mapping[Any, Any]
    deposit: bool

    @property
    def id(self) -> bytes:
        """16 random bytes, by which later edits name this one."""
        return self.order[1]


class Edits:
    """All edits and who saw whom. Seeing is transitive."""

    def __init__(self, said: Iterable[Said]) -> None:
        self.all: list[Edit] = []
        self._parents: dict[bytes, set[bytes]] = defaultdict(set)
        self._asked: tuple[tuple[_Order, ...], set[bytes]] = (), set()
        for one in said:
            match one.record:
                case [RecordKind.EDIT, time_us, bytes(own), list(seen), dict(operation), *_]:
                    if len(own) != ID_BYTES:
                        continue
                    ids = tuple(other for other in seen if is_id(other))
                    order = (time_us, own, one.place)
                    self.all.append(Edit(order, ids, operation, one.deposit))
                    self._parents[own].update(ids)
                case _:
                    pass
        self.all.sort(key=lambda edit: edit.order)

    def seen_by(self, edits: Iterable[Edit]) -> set[bytes]:
        """Ids of the edits that at least one of `edits` saw, directly or through others."""
        edits = list(edits)
        places = tuple(edit.order for edit in edits)
        if places == self._asked[0]:  # one edit may touch very many things
            return self._asked[1]
        waiting = [parent for edit in edits for parent in edit.seen]
        found: set[bytes] = set()
        while waiting:
            one = waiting.pop()
            if one not in found:
                found.add(one)
                waiting += self._parents.get(one, ())
        self._asked = places, found
        return found

    def winner(self, edits: list[Edit]) -> Edit:
        """Of the edits of one thing: an unseen one; the later of several, then the larger id."""
        if len(edits) == 1:
            return edits[0]
        seen = self.seen_by(edits)
        return max(
            [edit for edit in edits if edit.id not in seen] or edits, key=lambda edit: edit.order
        )

    def tips(self) -> tuple[bytes, ...]:
        """Ids of the edits that no other edit saw, the newest last."""
        seen = {parent for own, some in self._parents.items() for parent in some if parent != own}
        return tuple(dict.fromkeys(edit.id for edit in self.all if edit.id not in seen))


def is_id(value: object) -> bool:
    """Whether this may be the id of an edit, segment or writer."""
    return isinstance(value, bytes) and len(value) == ID_BYTES


def is_digest(value: object) -> bool:
    """Whether this may be the digest of a version."""
    return isinstance(value, bytes) and len(value) == HASH_BYTES


def passes(check: Callable[[object], str], value: object) -> bool:
    """Whether a check of names takes this."""
    try:
        check(value)
    except BadName:
        return False
    return True


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, list):
        yield from (one for one in value if isinstance(one, str) and passes(check_tag, one))


class Registers:
    """What edits say, by the thing that they say it of."""

    def __init__(self, edits: Edits) -> None:
        self._edits = edits
        self._aliases: dict[str, list[Edit]] = defaultdict(list)
        self._fields: dict[tuple[bytes, str], list[Edit]] = defaultdict(list)
        self._added: dict[tuple[bytes, str], list[Edit]] = defaultdict(list)
        self._removed: dict[tuple[bytes, str], list[Edit]] = defaultdict(list)
        self.deleted: dict[bytes, set[bytes]] = defaultdict(set)
        for edit in edits.all:
            self._sort_in(edit)

    def _sort_in(self, edit: Edit) -> None:
        operation = edit.operation
        aliases, digest = operation.get("aliases"), operation.get("version")
        for alias, value in aliases.items() if isinstance(aliases, dict) else ():
            if (value is None or is_digest(value)) and passes(check_alias, alias):
                self._aliases[alias].append(edit)
        if isinstance(digest, bytes) and is_digest(digest):
            changed = operation.get("set")
            for name, value in changed.items() if isinstance(changed, dict) else ():
                if name in _FIELDS and is_field(name, value):
                    self._fields[digest, name].append(edit)
            for tag in _texts(operation.get("tags_add")):
                self._added[digest, tag].append(edit)
            for tag in _texts(operation.get("tags_remove")):
                self._removed[digest, tag].append(edit)
        gone = operation.get("delete")
        if isinstance(gone, bytes) and is_digest(gone) and not edit.deposit:
            self.deleted[gone].add(edit.id)

    def aliases(self) -> dict[str, bytes | None]:
        """Where each alias was put last; None where it was taken away."""
        return {
            alias: self._edits.winner(edits).operation["aliases"][alias]
            for alias, edits in self._aliases.items()
        }

    def fields(self) -> dict[bytes, dict[str, Any]]:
        """By digest: description, metadata and time to live, where edits gave them."""
        out: dict[bytes, dict[str, Any]] = defaultdict(dict)
        for (digest, name), edits in self._fields.items():
            out[digest][name] = self._edits.winner(edits).operation["set"][name]
        return out

    def tags(self) -> dict[bytes, list[str]]:
        """A tag stays while an addition stands that no removal of it saw."""
        out: dict[bytes, list[str]] = defaultdict(list)
        for (digest, tag), added in self._added.items():
            removed = self._edits.seen_by(self._removed.get((digest, tag), ()))
            if any(edit.id not in removed for edit in added):
                out[digest].append(tag)
        return out


def is_field(name: str, value: object) -> bool:
    """Whether a description, metadata or time to live may have this value; None takes it away."""
    if value is None:
        return True
    if name == "ttl_us":
        return type(value) is int and value > 0
    return isinstance(value, str if name == "description" else dict)
