"""Deposit machines write and sync, and read nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import localstore
from localstore import settings
from localstore.errors import Damaged, Forged, KeyUnavailable, NotFound, NotPermitted, UsageError
from localstore.identity import now_us
from localstore.layout import HomePaths
from localstore.project import Project
from localstore.projects import Projects
from localstore.reading import read_run
from localstore.tickets import enroll, make_ticket
from localstore.vault import Vault
from tests.keys.conftest import carry, record

if TYPE_CHECKING:
    from pathlib import Path

_HOUR_US = 3_600_000_000


def ticket_for(home: HomePaths, project: str = "digits", valid_us: int = _HOUR_US) -> bytes:
    found, _ = Projects(home, Vault(home).load()).open_or_create("", project)
    return make_ticket(found, now_us() + valid_us)


@pytest.fixture
def node(tmp_path: Path) -> HomePaths:
    return HomePaths(tmp_path / "node")


def enroll_here(node: HomePaths, raw: bytes) -> None:
    enroll(node, raw, settings.load({"home": str(node.root)}))


def test_a_node_with_a_ticket_records_and_its_owner_reads(home: HomePaths, node: HomePaths) -> None:
    record(home)
    enroll_here(node, ticket_for(home))
    run_id = record(node, extra=3.0)
    carry(node, home)

    run = localstore.Api(home.root).run(f"digits/{run_id}")

    assert run.state == "finished"
    assert run.summary["extra"] == 3.0
    assert run.flags == []


def test_a_node_cannot_read_its_own_runs_nor_those_of_others(
    home: HomePaths, node: HomePaths
) -> None:
    record(home)
    enroll_here(node, ticket_for(home))
    record(node)
    carry(home, node)

    with pytest.raises(NotPermitted, match="read none"):
        localstore.Api(node.root)
    identity = Vault(node).load()
    project = Project(node.all_projects()[0], identity)
    for folder in project.paths.runs.iterdir():
        problems: list[Damaged] = []
        contents = read_run(project, bytes.fromhex(folder.name), range(1, 8), problems)
        assert contents == []
        assert problems


def test_nothing_on_a_node_opens_a_run_with_all_keys_that_lie_there(
    home: HomePaths, node: HomePaths
) -> None:
    """The whole disk of a node, tried key by key against every sealed box on it."""
    from localstore import crypto
    from localstore.format.segment import decode_header
    from localstore.keyslots import read_slots

    enroll_here(node, ticket_for_new(home))
    record(node)
    identity = Vault(node).load()
    assert not identity.roots
    paths = node.all_projects()[0]
    (deposit,) = identity.deposits.values()
    secrets = [deposit.device_seed, deposit.naming, deposit.dedup, identity.home_key]
    boxes = []
    for folder in paths.keys.iterdir():
        for slot in read_slots(paths, bytes.fromhex(folder.name)):
            boxes.append((slot.box, b""))
    for log in paths.runs.glob("*/*.log"):
        header, _ = decode_header(log.read_bytes())
        boxes.append((header.sealed_key, header.context()))
    assert boxes
    for secret in secrets:
        for box, context in boxes:
            with pytest.raises(Forged):
                crypto.unseal(secret, box, context or bytes(32))


def ticket_for_new(home: HomePaths) -> bytes:
    record(home)
    return ticket_for(home)


def test_a_node_without_a_ticket_for_a_project_is_told_so(home: HomePaths, node: HomePaths) -> None:
    enroll_here(node, ticket_for_new(home))
    with pytest.raises(NotFound, match="no ticket of this machine is for project 'other'"):
        localstore.init(project="other", dir=node.root)


def test_an_expired_ticket_is_refused_at_enrolment(home: HomePaths, node: HomePaths) -> None:
    record(home)
    raw = ticket_for(home, valid_us=-1)
    with pytest.raises(KeyUnavailable, match="expired"):
        enroll_here(node, raw)
    assert not node.identity.exists()


def test_what_an_expired_ticket_wrote_is_read_and_flagged(
    home: HomePaths, node: HomePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(home)
    enroll_here(node, ticket_for(home, valid_us=2_000_000))
    monkeypatch.setattr("localstore.appending.now_us", lambda: now_us() + _HOUR_US)
    run_id = record(node)
    monkeypatch.undo()
    carry(node, home)

    run = localstore.Api(home.root).run(f"digits/{run_id}")

    assert "by an expired ticket" in run.flags
    assert len(run.history(pandas=False)["loss"]) == 10


@pytest.mark.parametrize("at", range(0, 1200, 37))
def test_a_changed_ticket_is_refused(home: HomePaths, node: HomePaths, at: int) -> None:
    raw = bytearray(ticket_for_new(home))
    raw[at % len(raw)] ^= 1
    with pytest.raises(Damaged):
        enroll_here(node, bytes(raw))
    assert not node.identity.exists()


def test_a_persons_home_takes_no_ticket(home: HomePaths, node: HomePaths) -> None:
    record(node)
    with pytest.raises(UsageError, match="belongs to a person"):
        enroll_here(node, ticket_for_new(home))


def test_two_tickets_serve_two_projects_on_one_node(home: HomePaths, node: HomePaths) -> None:
    record(home, project="one")
    record(home, project="two")
    enroll_here(node, ticket_for(home, "one"))
    enroll_here(node, ticket_for(home, "two"))
    record(node, project="one")
    record(node, project="two")
    carry(node, home)
    assert len(localstore.Api(home.root).runs("two")) == 2


def test_a_ticket_on_behalf_of_somebody_else_is_refused(home: HomePaths, node: HomePaths) -> None:
    """Nobody can yet be asked whether they agreed."""
    from localstore import crypto
    from localstore.format import signed, spec
    from localstore.format.spec import CertKind

    record(home)
    identity = Vault(home).load()
    (paths,) = home.all_projects()
    cert = signed.encode(
        spec.CERT_MAGIC,
        CertKind.DEPOSIT,
        project=bytes.fromhex(paths.id),
        seed=identity.user_seed(),
        created_us=now_us(),
        body={
            "user": identity.user,
            "generation": 1,
            "sign": crypto.sign_public(crypto.random_bytes(32)),
            "not_after": now_us() + _HOUR_US,
            "on_behalf_of": crypto.random_bytes(16),
        },
    )
    (paths.certs / signed.file_hash(cert).hex()).write_bytes(cert)
    state = Project(paths, identity).state
    assert signed.file_hash(cert) not in state.devices
    assert (signed.file_hash(cert).hex(), "on behalf of somebody else than its signer") in (
        state.refused
    )


def test_other_project_secrets_than_the_founder_committed_to_are_not_taken(
    home: HomePaths,
) -> None:
    """Not even from a member's own key: it would move runs, or learn their contents."""
    from localstore import crypto, keyslots
    from localstore.format.spec import SlotKind

    run_id = record(home)
    identity = Vault(home).load()
    (paths,) = home.all_projects()
    before = Project(paths, identity).naming
    for _ in range(8):  # names are hashes: some of these sort before the true one
        keyslots.write_slot(
            paths,
            SlotKind.PROJECT,
            subject=keyslots.project_subject(),
            recipient=crypto.box_public(identity.user_box()),
            secret=crypto.random_bytes(96),
            signer_seed=identity.user_seed(),
        )
    assert Project(paths, identity).naming == before
    assert localstore.Api(home.root).run(run_id).state == "finished"
