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

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from localstore.format.segment import SegmentHeader
    from localstore.format.signed import SignedFile
    from localstore.layout import ProjectPaths

UNKNOWN_ENTITY: Final = bytes(16)

_Fields = dict[str, tuple[type, int | None]]
_USER: Final[_Fields] = {"user": (bytes, 16)}
_KNOWN: Final[_Fields] = {"parents": (list, None)}
# What the body of each kind must hold; anybody can sign nonsense, so it is refused by itself.
LINK_FIELDS: Final[dict[int, _Fields]] = {
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
CERT_FIELDS: Final[dict[int, _Fields]] = {
    CertKind.USER: {**_USER, "generation": (int, None), "box": (bytes, 32)},
    CertKind.DEVICE: {
        **_USER,
        "generation": (int, None),
        "sign": (bytes, 32),
        "box": (bytes, 32),
        "name": (bytes, None),
    },
    CertKind.DEPOSIT: {
        **_USER,
        "generation": (int, None),
        "sign": (bytes, 32),
        "not_after": (int, None),
    },
    CertKind.ROTATION: {
        **_USER,
        "generation": (int, None),
        "sign": (bytes, 32),
        "box": (bytes, 32),
        "kept": (list, None),
    },
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
class User:
    """A person: sign keys and box keys by generation."""

    id: bytes
    sign: Mapping[int, bytes]
    box: Mapping[int, bytes]
    contested: bool = False

    @property
    def generation(self) -> int:
        """The latest generation."""
        return max(self.sign)


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
        roles: what members are now: admin or member. ever_members: and who was one.
        revoked: hashes of certificates of devices that a later rotation of their user left out.
        tombstones: subject hex → (effective µs, hash of the link).
        refused: links and certificates that were not believed, with the reason.
    """

    project: bytes
    created_us: int
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


def _well_formed(
    files: Iterable[SignedFile],
    fields: Mapping[int, _Fields],
    refused: list[tuple[str, str]],
) -> Iterator[SignedFile]:
    least = _KNOWN if fields is LINK_FIELDS else _USER
    for file in files:
        try:
            for name, (kind, size) in fields.get(file.kind, least).items():
                file.get(name, kind, size)
            yield file
        except Damaged as problem:
            refused.append((file.hash.hex(), problem.problem))


# ------------------------------------------------------------------ certificates
def _fold_users(certs: Iterable[SignedFile], own: frozenset[bytes]) -> dict[bytes, User]:
    users: dict[bytes, User] = {}
    for cert in certs:
        if cert.kind == CertKind.USER:
            user = cert.get("user", bytes, 16)
            if user == user_id(cert.signer):
                box = cert.get("box", bytes, 32)
                users[user] = User(id=user, sign={1: cert.signer}, box={1: box})
    rotations = sorted(
        (c for c in certs if c.kind == CertKind.ROTATION),
        key=lambda c: (c.get("generation", int), c.get("sign", bytes, 32) not in own, c.hash),
    )
    for cert in rotations:
        user, generation = cert.get("user", bytes, 16), cert.get("generation", int)
        known = users.get(user)
        if known is None or known.sign.get(generation - 1) != cert.signer:
            continue
        sign, box = cert.get("sign", bytes, 32), cert.get("box", bytes, 32)
        if generation in known.sign:
            # Two rotations of one generation: a thief may have made one. The own one, or else the
            # smaller hash, goes on; everything of this user is flagged until a person decides.
            contested = known.sign[generation] not in own
            users[user] = User(id=user, sign=known.sign, box=known.box, contested=contested)
            continue
        users[user] = User(
            id=user,
            sign={**known.sign, generation: sign},
            box={**known.box, generation: box},
            contested=known.contested,
        )
    return users


def user_id(sign_public: bytes) -> bytes:
    """A user's id: the hash of the sign key of generation 1, 16 bytes."""
    return crypto.digest(spec.LABEL_USER, sign_public, size=16)


def _fold_devices(state: ProjectState, certs: Iterable[SignedFile]) -> None:
    rotations = []
    for cert in certs:
        user = state.users.get(cert.get("user", bytes, 16))
        if user is None or cert.signer not in user.sign.values():
            state.refused.append((cert.hash.hex(), "not signed by its user"))
            continue
        if cert.kind == CertKind.ROTATION:
            rotations.append(cert)
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
def _ancestors(links: Mapping[bytes, SignedFile]) -> dict[bytes, frozenset[bytes]]:
    """All links that each one knew of, directly or through others, in an order that has them."""
    known: dict[bytes, frozenset[bytes]] = {}
    for start in sorted(links):
        stack = [start]
        while stack:
            link = stack[-1]
            parents = [p for p in _parents(links[link]) if p in links]
            missing = [p for p in parents if p not in known]
            if missing and len(stack) <= len(links):
                stack.extend(missing)
                continue
            known[link] = frozenset(parents).union(*(known.get(p, frozenset()) for p in parents))
            stack.pop()
    return known


def _parents(link: SignedFile) -> list[bytes]:
    return [p for p in link.get("parents", list) if isinstance(p, bytes)]


def _author(state: ProjectState, link: SignedFile) -> bytes | None:
    for user in state.users.values():
        if link.signer in user.sign.values():
            return user.id
    return None


class _LinkFold:
    """Applies links in causal order; a removal beats what the removed did meanwhile."""

    def __init__(self, state: ProjectState, links: Mapping[bytes, SignedFile]) -> None:
        self.state, self.links = state, links
        self.ancestors = _ancestors(links)
        self.adds: dict[bytes, list[bytes]] = {}
        self.removals: dict[bytes, list[bytes]] = {}
        self.restored: dict[bytes, SignedFile] = {}

    def run(self) -> None:
        order = sorted(
            self.links.values(),
            key=lambda link: (len(self.ancestors[link.hash]), link.created_us, link.hash),
        )
        self._collect_members(order)
        for link in order:
            reason = self._refusal(link)
            if reason:
                self.state.refused.append((link.hash.hex(), reason))
            else:
                self._apply(link)
        self._forget_restored()
        heard = {p for link in order for p in _parents(link)}
        self.state.tips = tuple(sorted(h for h in self.links if h not in heard))

    def _collect_members(self, order: list[SignedFile]) -> None:
        """Membership first: whether other links count depends on removals that they never saw."""
        for link in order:
            if link.kind == LinkKind.GENESIS:
                self.adds.setdefault(link.get("user", bytes, 16), []).append(link.hash)
            elif link.kind in (LinkKind.MEMBER_ADD, LinkKind.MEMBER_REMOVE) and not self._refusal(
                link
            ):
                table = self.adds if link.kind == LinkKind.MEMBER_ADD else self.removals
                table.setdefault(link.get("user", bytes, 16), []).append(link.hash)

    def _refusal(self, link: SignedFile) -> str:
        if link.kind == LinkKind.GENESIS:
            return "" if project_id(link.raw) == self.state.project else "another genesis"
        if link.project != self.state.project:
            return "a link of another project"
        author = _author(self.state, link)
        if author is None:
            return "not signed by a known user"
        before = self.ancestors[link.hash]
        adds = [a for a in self.adds.get(author, []) if a in before]
        if not adds:
            return "its author was no member then"
        for removal in self.removals.get(author, []):
            earlier = link.hash in self.ancestors[removal]
            again = any(removal in self.ancestors[a] for a in adds)
            if not earlier and not again:
                return "its author was removed"
        if self.state.roles.get(author) == "member" and link.kind != LinkKind.LABEL:
            return "its author is no administrator"
        return ""

    def _apply(self, link: SignedFile) -> None:
        state = self.state
        match link.kind:
            case LinkKind.GENESIS:
                user = link.get("user", bytes, 16)
                state.roles[user] = "admin"
                state.ever_members.add(user)
            case LinkKind.MEMBER_ADD:
                user = link.get("user", bytes, 16)
                state.roles[user] = link.get("role", str)
                state.ever_members.add(user)
            case LinkKind.MEMBER_REMOVE:
                state.roles.pop(link.get("user", bytes, 16), None)
            case LinkKind.EPOCH:
                number, box = link.get("epoch", int), link.get("box", bytes, 32)
                state.epochs.append(Epoch(number=number, box=box, link=link.hash))
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
                self.restored[link.get("tombstone", bytes, 32)] = link
            case _:
                pass  # of a later localstore: kept, without effect here

    def _bury(self, link: SignedFile) -> None:
        subject, effective = link.get("subject", bytes, 16).hex(), link.get("effective", int)
        known = self.state.tombstones.get(subject)
        if known is None or (effective, link.hash) < known:
            self.state.tombstones[subject] = (effective, link.hash)

    def _forget_restored(self) -> None:
        """A restore counts when it was made before the tombstone's time; then that one is void."""
        valid = {
            stone
            for stone, restore in self.restored.items()
            if stone in self.links and restore.created_us < self.links[stone].get("effective", int)
        }
        if not valid:
            return
        self.state.tombstones.clear()
        for link in self.links.values():
            stands = link.kind == LinkKind.TOMBSTONE and link.hash not in valid
            if stands and not self._refusal(link):
                self._bury(link)


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
        Damaged: no genesis link has this id.
    """
    refused: list[tuple[str, str]] = []
    by_hash = {link.hash: link for link in _well_formed(links, LINK_FIELDS, refused)}
    all_certs = sorted(_well_formed(certs, CERT_FIELDS, refused), key=lambda cert: cert.hash)
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
    state = ProjectState(
        project=project,
        created_us=genesis.created_us,
        entity=genesis.get("entity", bytes, 16),
        users=_fold_users(all_certs, own_keys),
        refused=refused,
    )
    _fold_devices(state, all_certs)
    _LinkFold(state, by_hash).run()
    return state


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


def read_project(paths: ProjectPaths, *, own_keys: frozenset[bytes] = frozenset()) -> ProjectState:
    """Read and fold the links and certificates of a project on disk.

    Damaged files are passed over and stand in `state.refused`.

    Raises:
        Damaged: no readable genesis link.
    """
    problems: list[Damaged] = []
    links = list(_read_signed(paths.links, spec.LINK_MAGIC, problems))
    certs = list(_read_signed(paths.certs, spec.CERT_MAGIC, problems))
    state = fold(bytes.fromhex(paths.id), links, certs, own_keys=own_keys)
    state.refused += [(problem.file, str(problem)) for problem in problems]
    return state
