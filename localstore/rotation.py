"""A lost device: new user keys that it does not have, then a new epoch in every project.

A rotation is a signed statement that names the devices that stay. It and the keyslots that follow
travel with each project, so the other devices of the same person adopt it when they sync.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from localstore import crypto, keyslots, people, trust
from localstore.durable import create_file
from localstore.errors import (
    Damaged,
    Forged,
    LocalStoreError,
    NotFound,
    NotPermitted,
    UsageError,
)
from localstore.format import signed, spec
from localstore.format.spec import CertKind, LinkKind, SlotKind
from localstore.identity import Identity, now_us
from localstore.project import Project
from localstore.projects import Projects, user_statements
from localstore.vault import Vault

if TYPE_CHECKING:
    from localstore.layout import HomePaths, ProjectPaths


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDevice:
    """One of the person's devices, as the projects of this home know it.

    Attributes:
        id: 16 hex digits. name: the machine's name; empty when it cannot be opened.
        state: this device, trusted, revoked or expired. kind: member or deposit.
    """

    id: str
    name: str
    kind: str
    state: str
    created_us: int
    not_after_us: int
    sign: bytes


def device_id(sign: bytes) -> str:
    """How people name a device: 16 hex digits of its public key's hash."""
    return crypto.digest(spec.LABEL_USER, sign, size=8).hex()


def list_devices(projects: Projects) -> list[KnownDevice]:
    """The person's devices and tickets, oldest first."""
    identity = projects.identity
    identity.user_seed()
    found: dict[bytes, KnownDevice] = {}
    for project in projects.all():
        for device in project.state.devices.values():
            if device.user != identity.user:
                continue
            known = found.get(device.sign)
            if known is None or known.state != "revoked":  # in one project is in all
                found[device.sign] = _describe(device, project.state, identity)
    own = signed.decode(identity.device_cert, spec.CERT_MAGIC)
    sign = own.get("sign", bytes, 32)
    if sign not in found:
        found[sign] = KnownDevice(
            id=device_id(sign),
            name=_name(own.get("name", bytes), identity),
            kind="member",
            state="this device",
            created_us=own.created_us,
            not_after_us=0,
            sign=sign,
        )
    return sorted(found.values(), key=lambda device: (device.created_us, device.id))


def _describe(device: trust.Device, state: trust.ProjectState, identity: Identity) -> KnownDevice:
    if device.sign == crypto.sign_public(identity.device_seed):
        status = "this device"
    elif device.cert in state.revoked:
        status = "revoked"
    elif device.not_after_us and device.not_after_us < now_us():
        status = "expired"
    else:
        status = "trusted"
    return KnownDevice(
        id=device_id(device.sign),
        name=_name(device.name, identity),
        kind="deposit" if device.deposit else "member",
        state=status,
        created_us=device.created_us,
        not_after_us=device.not_after_us,
        sign=device.sign,
    )


def _name(sealed: bytes, identity: Identity) -> str:
    for root in identity.roots.values():
        key = crypto.derive(root, spec.LABEL_USER_META)
        try:
            return crypto.decrypt_with_nonce(key, sealed, spec.LABEL_USER_META).decode()
        except (Forged, UnicodeDecodeError):
            continue
    return ""


# ------------------------------------------------------------------ revoking
def revoke_device(home: HomePaths, wanted: str | None) -> Identity:
    """Leave a device out of new user keys, and begin a new epoch in every project.

    Args:
        wanted: a device id, or enough of its beginning. None shuts out every device that is not
            listed: one that recovered the key and never recorded has no certificate here.

    Returns:
        The identity with its new generation; its recovery code is a new one.

    Raises:
        NotFound: no such device. UsageError: several, this very one, or one revoked before.
        NotPermitted: a deposit-only machine.
    """
    vault = Vault(home)
    identity = vault.load()
    projects = Projects(home, identity)
    devices = list_devices(projects)
    gone = [] if wanted is None else [_choose(devices, wanted).sign]
    stays = ("trusted", "this device")
    kept = [d.sign for d in devices if d.state in stays and d.sign not in gone]
    root = crypto.random_bytes(16)
    rotation = rotate_user(identity, root, kept=kept, revoked=gone)
    fresh = replace(
        identity,
        roots={**identity.roots, identity.generation + 1: root},
        user_certs=(*identity.user_certs, rotation),
    )
    # First of all the new root must not be lost: what follows can be done again from it.
    vault.save(fresh)
    complete_rotation(home, fresh)
    return fresh


def rotate_user(
    identity: Identity, root: bytes, *, kept: list[bytes], revoked: list[bytes]
) -> bytes:
    """The ROTATION certificate from the user's latest keys to those of a new root.

    Args:
        kept: sign keys of the devices that stay. revoked: of those that go, for people.
    """
    seed = crypto.derive(root, spec.LABEL_USER_SIGN)
    body = {
        "user": identity.user,
        "generation": identity.generation + 1,
        "sign": crypto.sign_public(seed),
        "box": crypto.box_public(crypto.derive(root, spec.LABEL_USER_BOX)),
        "kept": kept,
        "revoked": revoked,
    }
    old = identity.user_seed()
    statement = people.rotation_statement(crypto.sign_public(old), body)
    return signed.encode(
        spec.CERT_MAGIC,
        CertKind.ROTATION,
        project=signed.NO_PROJECT,
        seed=old,
        created_us=now_us(),
        body={**body, "proof": crypto.sign(seed, spec.SIGN_ROTATION, statement)},
    )


def _choose(devices: list[KnownDevice], wanted: str) -> KnownDevice:
    found = [d for d in devices if d.id.startswith(wanted.lower())] if wanted else []
    if not found:
        raise NotFound(f"no device {wanted!r}", hint="`localstore device ls` lists them")
    if len(found) > 1:
        raise UsageError(f"{wanted!r} fits several devices: {', '.join(d.id for d in found)}")
    if found[0].state == "this device":
        raise UsageError("this is the device you are on", hint="revoke it from another one")
    if found[0].state == "revoked":
        raise UsageError(f"device {found[0].id} is revoked already")
    return found[0]


def complete_rotation(home: HomePaths, identity: Identity) -> int:
    """Bring every project to the latest generation of this person's keys; safe to repeat.

    Returns:
        How many projects needed it.

    Raises:
        NotPermitted, Damaged: a project could not be; all others were.
    """
    done = 0
    failed: LocalStoreError | None = None
    for project in list(Projects(home, identity).all()):
        try:
            done += rotate_project(project, identity)
        except (NotPermitted, Damaged) as problem:
            failed = problem
    if failed is not None:
        raise failed
    return done


def rotate_project(project: Project, identity: Identity) -> bool:
    """Bring one project to the latest generation of this person's keys; says if it needed it."""
    newest = crypto.sign_public(identity.user_seed())
    if len(identity.user_certs) < identity.generation or identity.generation == 1:
        return False
    if identity.user not in project.state.roles:
        return False
    if any(epoch.signer == newest for epoch in project.state.epochs):
        return False
    _rotate_project(identity, project)
    return True


def _rotate_project(identity: Identity, project: Project) -> None:
    for raw in identity.user_certs:
        create_file(project.paths.certs / signed.file_hash(raw).hex(), raw)
    number = max((epoch.number for epoch in project.state.epochs), default=0) + 1
    seed = crypto.random_bytes(32)
    signer = identity.user_seed()
    box = crypto.box_public(identity.user_box())
    for epoch, secret in [*_old_seeds(project), (number, seed)]:
        keyslots.write_slot(
            project.paths,
            SlotKind.EPOCH,
            subject=keyslots.epoch_subject(epoch),
            recipient=box,
            secret=secret,
            signer_seed=signer,
            epoch=epoch,
        )
    keyslots.write_slot(
        project.paths,
        SlotKind.PROJECT,
        subject=keyslots.project_subject(),
        recipient=box,
        secret=project.project_secrets(),
        signer_seed=signer,
    )
    _tell_devices(project, identity)
    # The link comes last: once it stands, its keyslots do.
    renewed = Project(project.paths, identity)
    epoch_box = crypto.box_public(crypto.derive(seed, spec.LABEL_EPOCH_BOX))
    renewed.add_link(LinkKind.EPOCH, {"epoch": number, "box": epoch_box})


def _old_seeds(project: Project) -> list[tuple[int, bytes]]:
    """Number and seed of each epoch that opens; one that does not must not keep the thief in."""
    seeds = []
    for epoch in project.state.epochs:
        try:
            seeds.append((epoch.number, project.epoch_seed(epoch)))
        except (NotPermitted, Forged):
            continue
    return seeds


def _tell_devices(project: Project, identity: Identity) -> None:
    """Seal the new root to every device that stays."""
    state = trust.read_project(project.paths, own_keys=identity.own_keys())
    own = crypto.sign_public(identity.device_seed)
    for device in state.devices.values():
        stays = device.user == identity.user and device.cert not in state.revoked
        if device.box is None or not stays or device.sign == own:
            continue
        keyslots.write_slot(
            project.paths,
            SlotKind.USER,
            subject=identity.user,
            recipient=device.box,
            secret=identity.roots[identity.generation],
            signer_seed=identity.user_seed(),
            epoch=identity.generation,
        )


# ------------------------------------------------------------------ adopting
def adopt_rotations(home: HomePaths, vault: Vault) -> Identity | None:
    """Take over newer user keys that another device of this person made and sealed to this one.

    Returns:
        The new identity when there was something to adopt, else None.

    Raises:
        KeyUnavailable: the key of this home does not open.
    """
    identity = vault.load()
    if not identity.is_member:
        return None
    adopted = identity
    for paths in home.all_projects():
        try:
            state = trust.read_project(paths, own_keys=identity.own_keys())
        except Damaged:
            continue
        adopted = _adopt_from(state, _user_slots(paths, adopted), adopted)
    if adopted.generation == identity.generation:
        return None
    statements = user_statements(home, adopted)
    adopted = replace(adopted, user_certs=statements or adopted.user_certs)
    # A systemd credential is never written: each process adopts anew.
    if not vault.is_credential:
        vault.save(adopted)
    return adopted


def _user_slots(paths: ProjectPaths, identity: Identity) -> list[tuple[keyslots.Slot, bytes]]:
    """The slots that hold user roots for this device, opened."""
    opened = []
    box = crypto.box_public(identity.device_box)
    for slot in keyslots.read_slots(paths, identity.user):
        if slot.kind == SlotKind.USER and slot.recipient == box:
            try:
                opened.append((slot, slot.open(identity.device_box, bytes.fromhex(paths.id))))
            except Forged:
                continue
    return opened


def _adopt_from(
    state: trust.ProjectState, slots: list[tuple[keyslots.Slot, bytes]], identity: Identity
) -> Identity:
    user = state.users.get(identity.user)
    if user is None or user.contested:
        return identity
    for slot, root in slots:
        sign = crypto.sign_public(crypto.derive(root, spec.LABEL_USER_SIGN))
        # The rotation that the state believes must name exactly this key.
        if user.sign.get(slot.epoch) == sign and slot.epoch not in identity.roots:
            identity = replace(identity, roots={**identity.roots, slot.epoch: root})
    return identity
