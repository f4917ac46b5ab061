"""Who may be believed: a deterministic fold of a project's certificates and links.

Pure but for `read_project`, and key-free: everything here works on clear, signed bytes
(docs/format.md, section 10). Every replica that holds the same files computes the same state.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final

from localstore import crypto
from localstore.errors import Damaged
from localstore.format import signed, spec
from localstore.format.spec import CertKind, LinkKind
from localstore.membership import Author, Membership, Node, in_order, parents, possible
from localstore.people import (
    CERT_FIELDS,
    MAX_NUMBER,
    Fields,
    User,
    fold_users,
    is_followed,
    well_formed,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from localstore.format.segment import SegmentHeader
    from localstore.format.signed import SignedFile
    from localstore.layout import ProjectPaths

UNKNOWN_ENTITY: Final = bytes(16)
MAX_PARENTS: Final = 1024
_USER: Final[Fields] = {"user": (bytes, 16)}
_KNOWN: Final[Fields] = {"parents": (list, None)}
# What the body of each kind must hold; anybody can sign nonsense, so it is refused by itself.
LINK_FIELDS: Final[dict[int, Fields]] = {
    LinkKind.GENESIS: {**_KNOWN, **_USER, "entity": (bytes, 16), "nonce": (bytes, 16)},
    LinkKind.EPOCH: {**_KNOWN, "epoch": (int, None), "box": (bytes, 32)},
    LinkKind.LABEL: {**_KNOWN, "what": (str, None), "epoch": (int, None), "name": (bytes, None)},
    LinkKind.MEMBER_ADD: {
        **_KNOWN,
        **_USER,
        "sign": (bytes, 32),
        "box": (bytes, 32),
        "role": (str, None),
    },
    LinkKind.MEMBER_REMOVE: {**_KNOWN, **_USER},
    LinkKind.SAME_AS: {**_KNOWN, "project": (bytes, 32)},
    LinkKind.TOMBSTONE: {**_KNOWN, "subject": (bytes, 16), "effective": (int, None)},
    LinkKind.RESTORE: {**_KNOWN, "tombstone": (bytes, 32)},
}


class Belief(Enum):
    """What to make of bytes that somebody signed."""

    TRUSTED = "trusted"
    FLAGGED = "flagged"  # read and shown with the reason: an expired or revoked writer
    REFUSED = "refused"  # not read: nobody known signed it


@dataclass(frozen=True, slots=True)
class Verdict:
    """A belief and its reason, empty when trusted."""

    belief: Belief
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What one certificate says of a device."""

    cert: bytes
    sign: bytes
    box: bytes | None
    user: bytes
    generation: int
    created_us: int
    deposit: bool = False
    not_after_us: int = 0
    name: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One key epoch of a project: its number and X25519 public key."""

    number: int
    box: bytes
    link: bytes
    signer: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A sealed name of the project or its entity."""

    what: str
    epoch: int
    sealed: bytes
    created_us: int
    link: bytes


@dataclass(slots=True, kw_only=True)
class ProjectState:
    """The folded state of one project.

    Attributes:
        founder: the user who made the project. entity: whose it is, zeros when unknown.
        roles: what members are now: admin or member. ever_members: and who was one.
        revoked: hashes of certificates of devices that a later rotation of their user left out.
        tombstones: subject hex → (effective µs, hash of the link).
        tips: links that count and that no link that counts names; the newest MAX_PARENTS.
        refused: links and certificates that were not believed, with the reason.
        missing: links that are not here, but are named by one that counts.
        secrets: what the founder committed the project's secrets to; empty when to nothing.
    """

    project: bytes
    created_us: int
    founder: bytes
    entity: bytes
    users: dict[bytes, User] = field(default_factory=dict)
    devices: dict[bytes, Device] = field(default_factory=dict)
    revoked: frozenset[bytes] = frozenset()
    roles: dict[bytes, str] = field(default_factory=dict)
    ever_members: set[bytes] = field(default_factory=set)
    epochs: list[Epoch] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    same_as: set[bytes] = field(default_factory=set)
    tombstones: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    tips: tuple[bytes, ...] = ()
    refused: list[tuple[str, str]] = field(default_factory=list)
    missing: frozenset[bytes] = frozenset()
    secrets: bytes = b""

    @property
    def current_epoch(self) -> Epoch:
        """The epoch that new runs are sealed to: the highest, of two the smaller link.

        Raises:
            Damaged: the project has no epoch.
        """
        if not self.epochs:
            raise Damaged("a project without an epoch link")
        return min(self.epochs, key=lambda epoch: (-epoch.number, epoch.link))

    def erased(self, now_us: int) -> frozenset[str]:
        """Subjects (hex) whose tombstone is in force at `now_us`."""
        return frozenset(s for s, (effective, _) in self.tombstones.items() if effective <= now_us)

    def trashed(self, now_us: int) -> Mapping[str, int]:
        """Subjects (hex) in the trash at `now_us`, and when (µs) they will be erased."""
        return {s: effective for s, (effective, _) in self.tombstones.items() if effective > now_us}

    def judge(self, header: SegmentHeader) -> Verdict:
        """Whether a segment's writer may be believed; its signature was checked before."""
        device = self.devices.get(header.cert)
        if header.project != self.project:
            return Verdict(Belief.REFUSED, "made for another project")
        if device is None:
            return Verdict(Belief.REFUSED, f"unknown certificate {header.cert.hex()[:16]}")
        if device.sign != header.device:
            return Verdict(Belief.REFUSED, "signed by another device than its certificate names")
        return self.judge_device(device, header.started_us)

    def judge_cancel(self, header: SegmentHeader) -> Verdict:
        """Whether what a segment cancels (UNREF frames) counts: when trusted, for deleting.

        A machine that only writes could make the objects of others vanish, so it has no say.
        """
        device = self.devices.get(header.cert)
        if device is not None and device.deposit:
            return Verdict(Belief.REFUSED, "by a machine that only writes")
        return self.judge(header)

    def judge_device(self, device: Device, when_us: int) -> Verdict:
        """Whether what a device signed at `when_us` (its own claim) may be believed."""
        if device.user not in self.ever_members:
            return Verdict(Belief.REFUSED, "its user was never a member")
        if device.cert in self.revoked:
            return Verdict(Belief.FLAGGED, "by a revoked device")
        if device.user not in self.roles:
            return Verdict(Belief.FLAGGED, "by a former member")
        if device.not_after_us and when_us > device.not_after_us:
            return Verdict(Belief.FLAGGED, "by an expired ticket")
        if self.users[device.user].contested:
            return Verdict(Belief.FLAGGED, "two key rotations of its user compete")
        return Verdict(Belief.TRUSTED)


# ------------------------------------------------------------------ certificates
def _fold_devices(state: ProjectState, certs: Iterable[SignedFile]) -> None:
    rotations = []
    for cert in certs:
        user = state.users.get(cert.get("user", bytes, 16))
        if user is None or cert.signer not in user.sign.values():
            state.refused.append((cert.hash.hex(), "not signed by its user"))
            continue
        if cert.kind == CertKind.ROTATION and is_followed(cert, user):
            rotations.append(cert)
        elif cert.kind == CertKind.ROTATION:
            state.refused.append((cert.hash.hex(), "a rotation that competes with another"))
        elif cert.kind in (CertKind.DEVICE, CertKind.DEPOSIT):
            _add_device(state, cert, user)
    # A rotation names the devices that stay. Naming those that go would leave the thief of an old
    # user key free to certify a new device with it.
    state.revoked = frozenset(
        device.cert
        for device in state.devices.values()
        for rotation in rotations
        if rotation.body["user"] == device.user
        and rotation.body["generation"] > device.generation
        and device.sign not in rotation.body["kept"]
    )


def _add_device(state: ProjectState, cert: SignedFile, user: User) -> None:
    deposit = cert.kind == CertKind.DEPOSIT
    if deposit and cert.project != state.project:
        state.refused.append((cert.hash.hex(), "a ticket of another project"))
        return
    if deposit and cert.body.get("on_behalf_of") != user.id:
        state.refused.append((cert.hash.hex(), "on behalf of somebody else than its signer"))
        return
    generation = cert.get("generation", int)
    if user.sign.get(generation) != cert.signer:
        state.refused.append((cert.hash.hex(), "signed with a key of another generation"))
        return
    state.devices[cert.hash] = Device(
        cert=cert.hash,
        sign=cert.get("sign", bytes, 32),
        box=None if deposit else cert.get("box", bytes, 32),
        user=user.id,
        generation=generation,
        created_us=cert.created_us,
        deposit=deposit,
        not_after_us=cert.get("not_after", int) if deposit else 0,
        name=b"" if deposit else cert.get("name", bytes),
    )


# ------------------------------------------------------------------ links
class _LinkFold:
    """Applies the links that count, in causal order."""

    def __init__(self, state: ProjectState, links: Mapping[bytes, SignedFile]) -> None:
        self.state = state
        self.counted: dict[bytes, Node] = {}
        self.restores: list[SignedFile] = []
        authors = {
            key: Author(
                user=user.id,
                generation=generation,
                disputed=0 < user.disputed <= generation,
            )
            for user in state.users.values()
            for generation, key in user.sign.items()
        }
        known = possible(links.values(), authors, state.founder)
        self._nodes = in_order(
            {
                name: link
                for name, link in links.items()
                if self._may_count(link, authors.get(link.signer), known)
            },
            authors,
        )

    def _may_count(self, link: SignedFile, author: Author | None, known: set[bytes]) -> bool:
        reason = ""
        if link.kind == LinkKind.GENESIS:
            if project_id(link.raw) != self.state.project:
                reason = "another genesis"
        elif link.project != self.state.project:
            reason = "a link of another project"
        elif author is None or author.user not in known:
            reason = "not signed by anybody who was a member"
        if reason:
            self.state.refused.append((link.hash.hex(), reason))
        return not reason

    def run(self) -> None:
        members = Membership(self._nodes)
        for node in self._nodes:
            reason = members.refusal(node) or self._nonsense(node)
            if reason:
                self.state.refused.append((node.link.hash.hex(), reason))
            else:
                self.counted[node.link.hash] = node
                self._apply(node.link)
        self.state.roles = members.roles()
        self.state.ever_members = set(members.adds)
        self._forget_restored()
        self._spare_project_keys()
        self._find_tips()

    def _nonsense(self, node: Node) -> str:
        """An epoch follows one that its author knew: else the numbers could be used up at once."""
        if node.link.kind != LinkKind.EPOCH:
            return ""
        number = node.link.get("epoch", int)
        known = [e.number for e in self.state.epochs if self.counted[e.link].bit & node.before]
        fits = 0 < number <= min(max(known, default=0) + 1, MAX_NUMBER)
        return "" if fits else f"epoch {number} follows none that its author knew"

    def _apply(self, link: SignedFile) -> None:
        state = self.state
        match link.kind:
            case LinkKind.EPOCH:
                number, box = link.get("epoch", int), link.get("box", bytes, 32)
                epoch = Epoch(number=number, box=box, link=link.hash, signer=link.signer)
                state.epochs.append(epoch)
            case LinkKind.LABEL:
                state.labels.append(
                    Label(
                        what=link.get("what", str),
                        epoch=link.get("epoch", int),
                        sealed=link.get("name", bytes),
                        created_us=link.created_us,
                        link=link.hash,
                    )
                )
            case LinkKind.SAME_AS:
                state.same_as.add(link.get("project", bytes, 32))
            case LinkKind.TOMBSTONE:
                self._bury(link)
            case LinkKind.RESTORE:
                self.restores.append(link)
            case _:
                pass  # membership is decided before; or of a later localstore, without effect here

    def _bury(self, link: SignedFile) -> None:
        subject, effective = link.get("subject", bytes, 16).hex(), link.get("effective", int)
        known = self.state.tombstones.get(subject)
        if known is None or (effective, link.hash) < known:
            self.state.tombstones[subject] = (effective, link.hash)

    def _forget_restored(self) -> None:
        """A restore counts when it was made before the tombstone's time; then that one is void."""
        stones = {
            name: node.link
            for name, node in self.counted.items()
            if node.link.kind == LinkKind.TOMBSTONE
        }
        for restore in self.restores:
            stone = stones.get(restore.get("tombstone", bytes, 32))
            if stone is not None and restore.created_us < stone.get("effective", int):
                del stones[stone.hash]
        self.state.tombstones.clear()
        for stone in stones.values():
            self._bury(stone)

    def _spare_project_keys(self) -> None:
        """Runs and artifacts can be erased; the keys of project, epochs and users are no run."""
        spared = {crypto.digest(spec.LABEL_SUBJECT, b"project", size=16), *self.state.users}
        for epoch in self.state.epochs:
            name = b"epoch" + epoch.number.to_bytes(4, "little")
            spared.add(crypto.digest(spec.LABEL_SUBJECT, name, size=16))
        for subject in spared:
            self.state.tombstones.pop(subject.hex(), None)

    def _find_tips(self) -> None:
        named = {parent for node in self.counted.values() for parent in parents(node.link)}
        tips = [node for name, node in self.counted.items() if name not in named]
        newest = sorted(tips, key=lambda node: node.place)[-MAX_PARENTS:]
        self.state.tips = tuple(sorted(node.link.hash for node in newest))
        here = {node.link.hash for node in self._nodes}
        refused = {name for name, _ in self.state.refused}
        self.state.missing = frozenset(
            name
            for name in named
            if name not in here and len(name) == spec.HASH_BYTES and name.hex() not in refused
        )


def project_id(genesis: bytes) -> bytes:
    """A project's id: the hash of its genesis link, so that the id vouches for its owner."""
    return crypto.digest(spec.LABEL_PROJECT, genesis)


def fold(
    project: bytes,
    links: Iterable[SignedFile],
    certs: Iterable[SignedFile],
    *,
    own_keys: frozenset[bytes] = frozenset(),
) -> ProjectState:
    """Fold verified links and certificates into the project's state.

    Args:
        project: the 32-byte id, which the genesis link must hash to.
        own_keys: sign keys of the reader's own user, which decide between competing rotations.

    Raises:
        Damaged: no genesis link has this id, or nothing vouches for its author.
    """
    refused: list[tuple[str, str]] = []
    by_hash = {link.hash: link for link in well_formed(links, LINK_FIELDS, _KNOWN, refused)}
    all_certs = sorted(well_formed(certs, CERT_FIELDS, _USER, refused), key=lambda cert: cert.hash)
    genesis = next(
        (
            link
            for link in by_hash.values()
            if link.kind == LinkKind.GENESIS and project_id(link.raw) == project
        ),
        None,
    )
    if genesis is None:
        raise Damaged(f"project {project.hex()[:16]} has no genesis link")
    users, founder = fold_users(all_certs, own_keys), genesis.get("user", bytes, 16)
    if founder not in users or genesis.signer not in users[founder].sign.values():
        raise Damaged(f"nothing here vouches for the founder of project {project.hex()[:16]}")
    entity = genesis.get("entity", bytes, 16)
    state = ProjectState(
        project=project,
        created_us=genesis.created_us,
        founder=founder,
        # Anybody can write another's id into a genesis.
        entity=entity if entity == founder else UNKNOWN_ENTITY,
        users=users,
        refused=refused,
        secrets=_commitment(genesis),
    )
    _fold_devices(state, all_certs)
    _LinkFold(state, by_hash).run()
    state.refused.sort()
    return state


def _commitment(genesis: SignedFile) -> bytes:
    found = genesis.body.get("secrets")
    return found if isinstance(found, bytes) else b""


# ------------------------------------------------------------------ from the disk
def _read_signed(folder: Path, magic: bytes, problems: list[Damaged]) -> Iterator[SignedFile]:
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        try:
            found = signed.decode(path.read_bytes(), magic)
            if found.hash.hex() != path.name:
                raise Damaged("its name is not the hash of its bytes")
            yield found
        except Damaged as problem:
            problems.append(problem.at(f"{folder.name}/{path.name}"))
        except OSError as error:
            unread = Damaged(f"cannot be read: {error.strerror}")
            problems.append(unread.at(f"{folder.name}/{path.name}"))


def read_project(
    paths: ProjectPaths,
    *,
    own_keys: frozenset[bytes] = frozenset(),
    shown: Iterable[SignedFile] = (),
) -> ProjectState:
    """Read and fold the links and certificates of a project on disk.

    Damaged files are passed over and stand in `state.refused`.

    Args:
        own_keys: as in `fold`.
        shown: certificates of devices that never wrote here, and now say something.

    Raises:
        Damaged: no readable genesis link.
    """
    problems: list[Damaged] = []
    links = list(_read_signed(paths.links, spec.LINK_MAGIC, problems))
    certs = {cert.hash: cert for cert in _read_signed(paths.certs, spec.CERT_MAGIC, problems)}
    certs = {cert.hash: cert for cert in shown} | certs
    state = fold(bytes.fromhex(paths.id), links, certs.values(), own_keys=own_keys)
    state.refused += [(problem.file, str(problem)) for problem in problems]
    return state
