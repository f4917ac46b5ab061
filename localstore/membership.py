"""Which links of a project count: who was a member, with which key, when they signed each.

Pure and key-free (docs/format.md, section 10.3). "Before" is never a matter of clocks: a link is
before another when that one names it among its ancestors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from localstore.format.spec import LinkKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from localstore.format.signed import SignedFile

ADMIN: Final = "admin"
# What a link by another member than an administrator may be.
_FOR_MEMBERS: Final = frozenset({LinkKind.LABEL})


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """Whose a sign key is.

    Attributes:
        disputed: another rotation claims this generation, so its key signs no links.
    """

    user: bytes
    generation: int
    disputed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A link among the others.

    Attributes:
        bit: one bit of its own. before: the bits of its ancestors, without its own.
        place: its place in the order of application.
    """

    link: SignedFile
    author: Author
    bit: int
    before: int
    place: int

    @property
    def subject(self) -> bytes:
        """The user whom a membership link is about."""
        user: bytes = self.link.get("user", bytes, 16)
        return user

    @property
    def role(self) -> str:
        """What a link that adds somebody makes of them."""
        return ADMIN if self.link.kind == LinkKind.GENESIS else self.link.get("role", str)


def parents(link: SignedFile) -> list[bytes]:
    """Hashes of the links that this one names."""
    return [one for one in link.get("parents", list) if isinstance(one, bytes)]


def possible(
    links: Iterable[SignedFile], authors: Mapping[bytes, Author], founder: bytes
) -> set[bytes]:
    """Users who may ever have been members: whoever somebody possible added.

    Everybody can sign links, and any number of them. What nobody possible signed is left out before
    anything is computed from it.
    """
    adds: dict[bytes, list[bytes]] = {}
    for link in links:
        author = authors.get(link.signer)
        if author is not None and link.kind == LinkKind.MEMBER_ADD:
            adds.setdefault(author.user, []).append(link.get("user", bytes, 16))
    found, waiting = {founder}, [founder]
    while waiting:
        new = set(adds.get(waiting.pop(), ())) - found
        found |= new
        waiting += new
    return found


def in_order(links: Mapping[bytes, SignedFile], authors: Mapping[bytes, Author]) -> list[Node]:
    """All links in the order of (number of ancestors, created, hash)."""
    bits = {name: 1 << at for at, name in enumerate(sorted(links))}
    before = _ancestors(links, bits)
    order = sorted(links.values(), key=lambda x: (before[x.hash].bit_count(), x.created_us, x.hash))
    return [
        Node(
            link=link,
            author=authors[link.signer],
            bit=bits[link.hash],
            before=before[link.hash],
            place=place,
        )
        for place, link in enumerate(order)
    ]


def _ancestors(links: Mapping[bytes, SignedFile], bits: Mapping[bytes, int]) -> dict[bytes, int]:
    """A bit for each link that each one knew of, directly or through others."""
    named = {name: {p for p in parents(link) if p in links} for name, link in links.items()}
    children: dict[bytes, list[bytes]] = {}
    for name, known in named.items():
        for parent in known:
            children.setdefault(parent, []).append(name)
    left = {name: len(known) for name, known in named.items()}
    ready = [name for name, count in left.items() if not count]
    before = dict.fromkeys(links, 0)
    while ready:
        name = ready.pop()
        for child in children.get(name, ()):
            before[child] |= before[name] | bits[name]
            left[child] -= 1
            if not left[child]:
                ready.append(child)
    return before


class Membership:
    """Decides which nodes count.

    Attributes:
        adds, removals: by user, the membership links that count, in order.
    """

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = nodes
        self._stale = _signed_with_old_keys(nodes)
        self.removals: dict[bytes, list[Node]] = {}
        self.adds = self._find_adds()
        for removal in self._candidates():
            if self._standing(removal) == ADMIN:
                self.removals.setdefault(removal.subject, []).append(removal)
                self.adds = self._find_adds()

    def refusal(self, node: Node) -> str:
        """Why a link does not count; empty when it does."""
        kind = node.link.kind
        if kind == LinkKind.GENESIS:
            return ""
        if node.author.disputed:
            return "signed with a key that competes with another"
        if node.bit & self._stale:
            return "signed with an old key of its author, unknown to the new one"
        if kind == LinkKind.MEMBER_REMOVE:
            counts = any(node is one for one in self.removals.get(node.subject, ()))
            return "" if counts else "its author could not remove anybody then"
        role = self._standing(node)
        if not role:
            return "its author was no member then, or was removed"
        if role != ADMIN and kind not in _FOR_MEMBERS:
            return "its author is no administrator"
        return ""

    def roles(self) -> dict[bytes, str]:
        """What each member is now."""
        found = {}
        for user, adds in self.adds.items():
            for add in adds:
                if all(gone.bit & add.before for gone in self.removals.get(user, ())):
                    found[user] = add.role
        return found

    def _standing(self, node: Node) -> str:
        """The role of a link's author when it was signed; empty for none."""
        if node.author.disputed or node.bit & self._stale:
            return ""
        role, user = "", node.author.user
        for add in self.adds.get(user, ()):
            stands = add.bit & node.before and all(
                gone.bit & add.before or node.bit & gone.before
                for gone in self.removals.get(user, ())
            )
            if stands:
                role = add.role
        return role

    def _find_adds(self) -> dict[bytes, list[Node]]:
        """Who was added, by what has been decided of removals so far."""
        self.adds = {}
        for node in self._nodes:
            if node.link.kind == LinkKind.GENESIS or (
                node.link.kind == LinkKind.MEMBER_ADD and self._standing(node) == ADMIN
            ):
                self.adds.setdefault(node.subject, []).append(node)
        return self.adds

    def _candidates(self) -> list[Node]:
        """Removals in the order in which they are decided.

        A removal comes after those that it knew. Of others, that by the senior author comes first
        (whoever was added earlier): else a removed administrator could remove the remover, in a
        link that pretends to be older.
        """
        seniority = {user: adds[0].place for user, adds in self.adds.items()}
        found = [n for n in self._nodes if n.link.kind == LinkKind.MEMBER_REMOVE]
        rank = {one.place: seniority.get(one.author.user, len(self._nodes)) for one in found}
        for later in reversed(found):
            for one in found:
                if one.bit & later.before:
                    rank[one.place] = min(rank[one.place], rank[later.place])
        return sorted(found, key=lambda one: (rank[one.place], one.place))


def _signed_with_old_keys(nodes: Sequence[Node]) -> int:
    """The bits of links that were signed with an old key and that no newer key vouches for.

    Whoever has an old key, such as the thief of a revoked device, could go on signing links with it
    for ever. A link with an old key counts if a link with a newer one names it as an ancestor, or
    while its author has signed nothing with a newer one here.
    """
    stale = 0
    for mine in _by_author(nodes):
        vouched, newer = 0, False
        for generation in sorted({node.author.generation for node in mine}, reverse=True):
            now = [node for node in mine if node.author.generation == generation]
            kept = [node for node in now if not newer or node.bit & vouched]
            stale |= sum(node.bit for node in now if newer and not node.bit & vouched)
            for node in kept:
                vouched |= node.before
            newer = newer or bool(kept)
    return stale


def _by_author(nodes: Sequence[Node]) -> Iterator[list[Node]]:
    found: dict[bytes, list[Node]] = {}
    for node in nodes:
        # The genesis is vouched for by the project's id; disputed keys vouch for nothing.
        if node.link.kind != LinkKind.GENESIS and not node.author.disputed:
            found.setdefault(node.author.user, []).append(node)
    yield from found.values()
