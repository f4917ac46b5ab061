"""Tickets: a machine that holds one may write runs to one project, and read nothing.

Not even what it wrote itself: it has no key that opens anything (docs/format.md, section 5.5).
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from localstore import crypto, trust
from localstore.durable import create_file, make_folder
from localstore.errors import Damaged, Forged, KeyUnavailable
from localstore.format import signed, spec
from localstore.format.spec import CertKind
from localstore.format.version import format_file
from localstore.identity import Deposit, now_us
from localstore.layout import FORMAT_FILE, check_label
from localstore.vault import add_deposit

if TYPE_CHECKING:
    from localstore.layout import HomePaths, ProjectPaths
    from localstore.project import Project
    from localstore.settings import Settings


def make_ticket(project: Project, not_after_us: int) -> bytes:
    """A ticket for one project, as the bytes of a secret file.

    Its certificate joins the project, so that every replica knows whose data it vouches for.

    Raises:
        NotPermitted: this machine is itself a deposit machine.
    """
    identity = project.identity
    user_seed, device_seed = identity.user_seed(), crypto.random_bytes(32)
    cert = signed.encode(
        spec.CERT_MAGIC,
        CertKind.DEPOSIT,
        project=project.id,
        seed=user_seed,
        created_us=now_us(),
        body={
            "user": identity.user,
            "generation": identity.generation,
            "sign": crypto.sign_public(device_seed),
            "not_after": not_after_us,
            "on_behalf_of": identity.user,
        },
    )
    create_file(project.paths.certs / signed.file_hash(cert).hex(), cert)
    epoch = project.state.current_epoch
    return signed.encode(
        spec.TICKET_MAGIC,
        0,
        project=project.id,
        seed=user_seed,
        created_us=now_us(),
        body={
            "device_seed": device_seed,
            "cert": cert,
            "links": _files(project.paths, "links"),
            "certs": _user_certs(project.paths),
            "epoch": epoch.number,
            "epoch_box": epoch.box,
            "entity": project.entity,
            "name": project.name,
            "naming": project.naming,
            "dedup": crypto.random_bytes(32),
            "not_after": not_after_us,
        },
    )


def _files(paths: ProjectPaths, folder: str) -> list[bytes]:
    found = sorted((paths.root / folder).iterdir())
    return [path.read_bytes() for path in found if not path.name.startswith(".")]


def _user_certs(paths: ProjectPaths) -> list[bytes]:
    """Statements and rotations of users; devices' certificates are not needed to write."""
    wanted = (CertKind.USER, CertKind.ROTATION)
    files = (signed.decode(raw, spec.CERT_MAGIC) for raw in _files(paths, "certs"))
    return [file.raw for file in files if file.kind in wanted]


def enroll(home: HomePaths, raw: bytes, options: Settings) -> Deposit:
    """Put a ticket and its project into a home.

    Raises:
        KeyUnavailable: the ticket has expired.
        Damaged: not a ticket, or one whose project, signer or certificate do not fit.
        UsageError: the home belongs to a person.
    """
    ticket = signed.decode(raw, spec.TICKET_MAGIC)
    links = [signed.decode(one, spec.LINK_MAGIC) for one in _blobs(ticket, "links")]
    certs = [signed.decode(one, spec.CERT_MAGIC) for one in _blobs(ticket, "certs")]
    own = signed.decode(ticket.get("cert", bytes), spec.CERT_MAGIC)
    state = trust.fold(ticket.project, links, [*certs, own])
    deposit = _check(ticket, own, state)
    if deposit.not_after_us < now_us():
        raise KeyUnavailable(
            "the ticket has expired", hint="ask its maker for a new one: localstore project ticket"
        )
    add_deposit(home, deposit, options)  # refuses a person's home before anything is laid out
    _lay_out(home, ticket.project, [*links, *certs, own])
    return deposit


def _blobs(ticket: signed.SignedFile, name: str) -> list[bytes]:
    blobs: list[Any] = ticket.get(name, list)
    if not all(isinstance(one, bytes) for one in blobs):
        raise Damaged(f"a ticket whose {name} are no files")
    return blobs


def _check(ticket: signed.SignedFile, own: signed.SignedFile, state: trust.ProjectState) -> Deposit:
    device = state.devices.get(own.hash)
    seed = ticket.get("device_seed", bytes, 32)
    member = device is not None and ticket.signer in state.users[device.user].sign.values()
    if ticket.kind:
        raise Damaged(f"a ticket of kind {ticket.kind}, of a newer localstore")
    if device is None or not member or device.user not in state.roles or not device.deposit:
        raise Forged("a ticket that no member of its project signed")
    if crypto.sign_public(seed) != device.sign:
        raise Forged("a ticket whose key is not the one in its certificate")
    return Deposit(
        project=ticket.project,
        device_seed=seed,
        cert=own.raw,
        naming=ticket.get("naming", bytes, 32),
        dedup=ticket.get("dedup", bytes, 32),
        entity=check_label("entity", ticket.get("entity", str)),
        name=check_label("project", ticket.get("name", str)),
        not_after_us=device.not_after_us,
    )


def _lay_out(home: HomePaths, project: bytes, files: list[signed.SignedFile]) -> None:
    """The project's folder, whole or not at all; one that is here gets what it lacks."""
    paths = home.project(project.hex())
    root = paths.root
    fresh = not root.exists()
    if fresh:
        root = make_folder(home.projects / f".new-{crypto.random_bytes(8).hex()}")
    for file in files:
        folder = "links" if file.magic == spec.LINK_MAGIC else "certs"
        create_file(root / folder / file.hash.hex(), file.raw)
    create_file(root / FORMAT_FILE, format_file(project))
    if not fresh:
        return
    try:
        root.rename(paths.root)
    except OSError:
        shutil.rmtree(root)
        if not paths.root.exists():
            raise
