"""People and links that are made up, signed as anybody could sign them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from localstore import crypto, trust
from localstore.format import signed, spec
from localstore.format.spec import CertKind, LinkKind
from localstore.people import rotation_statement, user_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    from localstore.format.signed import SignedFile

SUBJECT = b"run of somebody!"
BOX = crypto.box_public(b"b" * 32)


def cert(seed: bytes, kind: int, **body: Any) -> SignedFile:
    raw = signed.encode(
        spec.CERT_MAGIC, kind, project=signed.NO_PROJECT, seed=seed, created_us=1, body=body
    )
    return signed.decode(raw, spec.CERT_MAGIC)


class Person:
    """A user with all generations of keys so far."""

    def __init__(self, name: str) -> None:
        self.seeds = [crypto.digest(spec.LABEL_USER, name.encode())]
        self.id = user_id(crypto.sign_public(self.seeds[0]))
        self.certs = [cert(self.seeds[0], CertKind.USER, user=self.id, generation=1, box=BOX)]

    def rotate(self, seed: bytes, *, kept: tuple[bytes, ...] = (), follow: bool = True) -> None:
        """A ROTATION to a new key; with `follow` False the person goes on with the old one."""
        body: dict[str, Any] = {
            "user": self.id,
            "generation": len(self.seeds) + 1,
            "sign": crypto.sign_public(seed),
            "box": BOX,
            "kept": list(kept),
        }
        statement = rotation_statement(crypto.sign_public(self.seeds[-1]), body)
        proof = crypto.sign(seed, spec.SIGN_ROTATION, statement)
        self.certs.append(cert(self.seeds[-1], CertKind.ROTATION, **body, proof=proof))
        if follow:
            self.seeds.append(seed)


@dataclass
class World:
    """A project in the making."""

    founder: Person
    people: list[Person] = field(default_factory=list)
    links: list[SignedFile] = field(default_factory=list)

    def __post_init__(self) -> None:
        body = {"entity": self.founder.id, "user": self.founder.id, "nonce": bytes(16)}
        self.genesis = self._sign(self.founder.seeds[0], LinkKind.GENESIS, (), 1, body, b"")
        self.project = trust.project_id(self.genesis.raw)
        self.people.append(self.founder)

    def _sign(
        self,
        seed: bytes,
        kind: int,
        parents: Iterable[SignedFile | bytes],
        at: int,
        body: dict[str, Any],
        project: bytes,
    ) -> SignedFile:
        known = [p if isinstance(p, bytes) else p.hash for p in parents]
        raw = signed.encode(
            spec.LINK_MAGIC,
            kind,
            project=project or signed.NO_PROJECT,
            seed=seed,
            created_us=at,
            body={**body, "parents": known},
        )
        link = signed.decode(raw, spec.LINK_MAGIC)
        self.links.append(link)
        return link

    def link(
        self,
        who: Person,
        kind: int,
        *parents: SignedFile | bytes,
        at: int = 10,
        generation: int = 0,
        **body: Any,
    ) -> SignedFile:
        if who not in self.people:
            self.people.append(who)
        seed = who.seeds[generation - 1 if generation else -1]
        return self._sign(seed, kind, parents, at, body, self.project)

    def add(
        self, who: Person, whom: Person, *parents: SignedFile, role: str = "admin", at: int = 10
    ) -> SignedFile:
        if whom not in self.people:
            self.people.append(whom)
        key = crypto.sign_public(whom.seeds[0])
        body: dict[str, Any] = {"user": whom.id, "sign": key, "box": BOX, "role": role}
        return self.link(who, LinkKind.MEMBER_ADD, *parents, at=at, **body)

    def remove(self, who: Person, whom: Person, *parents: SignedFile, at: int = 10) -> SignedFile:
        return self.link(who, LinkKind.MEMBER_REMOVE, *parents, at=at, user=whom.id)

    def erase(
        self,
        who: Person,
        *parents: SignedFile | bytes,
        subject: bytes = SUBJECT,
        effective: int = 50,
        at: int = 10,
        generation: int = 0,
    ) -> SignedFile:
        body: dict[str, Any] = {"subject": subject, "effective": effective}
        return self.link(who, LinkKind.TOMBSTONE, *parents, at=at, generation=generation, **body)

    def epoch(
        self, who: Person, number: int, *parents: SignedFile, generation: int = 0
    ) -> SignedFile:
        return self.link(
            who, LinkKind.EPOCH, *parents, epoch=number, box=BOX, generation=generation
        )

    @property
    def certs(self) -> list[SignedFile]:
        return [one for person in self.people for one in person.certs]

    def fold(self, *, own: frozenset[bytes] = frozenset()) -> trust.ProjectState:
        return trust.fold(self.project, self.links, self.certs, own_keys=own)

    def refused(self) -> dict[str, str]:
        return dict(self.fold().refused)
