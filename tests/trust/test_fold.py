"""The fold of links: the same for everybody, and nobody has more say than they were given."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localstore import crypto, trust
from localstore.check import inspect_home
from localstore.erase import delete_run
from localstore.errors import Damaged
from localstore.format import signed, spec
from localstore.format.spec import CertKind, LinkKind
from localstore.remotes import add_remote
from localstored.engine import sync_home
from localstored.repair import repair_home
from tests.keys.conftest import record
from tests.trust.made import BOX, SUBJECT, Person, World, cert
from tests.trust.test_forged_data import open_project

if TYPE_CHECKING:
    from pathlib import Path

    from localstore.layout import HomePaths
    from localstore.project import Project

ADA, BOB, EVE, SAM = Person("ada"), Person("bob"), Person("eve"), Person("sam")
ERASED = frozenset({SUBJECT.hex()})


def full_world() -> World:
    """Members, removals, epochs, labels, tombstones, restores, same-as, and rubbish."""
    world = World(ADA)
    one = world.epoch(ADA, 1, world.genesis)
    name = world.link(ADA, LinkKind.LABEL, one, what="project", epoch=1, name=b"x" * 40)
    bob = world.add(ADA, BOB, name)
    sam = world.add(BOB, SAM, bob, role="member")
    stone = world.erase(BOB, sam, effective=100, at=11)
    world.link(ADA, LinkKind.RESTORE, stone, at=50, tombstone=stone.hash)
    world.erase(ADA, sam, subject=b"b" * 16)
    gone = world.remove(ADA, BOB, stone)
    world.epoch(BOB, 2, stone)
    world.link(BOB, LinkKind.SAME_AS, stone, project=b"p" * 32)
    world.link(ADA, LinkKind.SAME_AS, gone, project=b"q" * 32)
    world.epoch(ADA, 2, gone)
    world.link(SAM, LinkKind.LABEL, gone, at=20, what="project", epoch=1, name=b"y" * 40)
    world.link(SAM, 99, gone)
    world.erase(EVE, gone, subject=b"e" * 16)
    world.links.append(World(EVE).genesis)
    return world


@given(st.data())
def test_every_order_of_files_gives_the_same_state(data: st.DataObject) -> None:
    world = full_world()
    expected = world.fold()
    links = data.draw(st.permutations(world.links))
    certs = data.draw(st.permutations(world.certs))
    assert trust.fold(world.project, [*links, links[0]], certs) == expected


def test_the_full_world_is_as_it_was_signed() -> None:
    state = full_world().fold()
    assert state.roles == {ADA.id: "admin", SAM.id: "member"}
    assert state.ever_members == {ADA.id, BOB.id, SAM.id}
    assert [epoch.number for epoch in state.epochs] == [1, 2]
    assert state.same_as == {b"q" * 32}
    assert set(state.tombstones) == {(b"b" * 16).hex()}
    assert len(state.labels) == 2


# ------------------------------------------------------------------ strangers
def test_a_strangers_genesis_makes_nobody_an_administrator() -> None:
    """All that it needs is public: it would erase every run on every replica."""
    world = World(ADA)
    forged = World(EVE).genesis
    world.links.append(forged)
    world.erase(EVE, forged)
    state = world.fold()
    assert state.tombstones == {}
    assert state.roles == {ADA.id: "admin"}


def test_a_stranger_is_refused_whatever_is_signed() -> None:
    world = World(ADA)
    world.erase(EVE, world.genesis)
    world.add(EVE, EVE, world.genesis)
    world.epoch(EVE, 1, world.genesis)
    good = world.erase(ADA, world.genesis, subject=b"g" * 16)
    state = world.fold()
    assert len(state.refused) == 3
    assert set(state.tombstones) == {(b"g" * 16).hex()}
    assert state.tips == (good.hash,)


def test_links_of_strangers_do_not_swell_what_members_must_name() -> None:
    """Tips go into each new link, which holds 64 KiB: a flood would stop every deletion."""
    world = World(ADA)
    for at in range(300):
        world.erase(EVE, world.genesis, at=at)
    assert world.fold().tips == (world.genesis.hash,)


def test_members_who_were_never_merged_do_not_swell_it_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(ADA)
    for at in range(40):
        world.erase(ADA, world.genesis, at=at)
    monkeypatch.setattr(trust, "MAX_PARENTS", 16)
    assert len(world.fold().tips) == 16


def test_a_long_history_is_folded_in_a_moment() -> None:
    """Ten thousand ancestor sets of ten thousand links would not fit into memory."""
    world = World(ADA)
    last = world.genesis
    seed = ADA.seeds[0]
    key = crypto.sign_public(seed)
    for at in range(3000):
        body: dict[str, Any] = {"subject": at.to_bytes(16, "big"), "effective": 1}
        body["parents"] = [last.hash]
        last = signed.SignedFile(
            magic=spec.LINK_MAGIC,
            kind=LinkKind.TOMBSTONE,
            project=world.project,
            signer=key,
            created_us=at,
            body=body,
            hash=crypto.digest(spec.LABEL_FILE, at.to_bytes(4, "big")),
            raw=b"",
        )
        world.links.append(last)
    begun = time.monotonic()
    state = world.fold()
    assert time.monotonic() - begun < 3
    assert len(state.tombstones) == 3000


def test_a_wide_history_keeps_every_ancestor() -> None:
    """Each link names all before it; a removal at the end knew them all."""
    world = World(ADA)
    known = [world.genesis, world.add(ADA, BOB, world.genesis)]
    for at in range(60):
        known.append(world.erase(BOB, *known, subject=at.to_bytes(16, "big"), at=100 - at))
    world.remove(ADA, BOB, known[-1])
    assert len(world.fold().tombstones) == 60


NONSENSE: list[tuple[int, dict[str, Any]]] = [
    (LinkKind.TOMBSTONE, {}),
    (LinkKind.TOMBSTONE, {"subject": b"short", "effective": 1}),
    (LinkKind.TOMBSTONE, {"subject": SUBJECT, "effective": True}),
    (LinkKind.TOMBSTONE, {"subject": SUBJECT, "effective": "1"}),
    (LinkKind.EPOCH, {"epoch": 2, "box": b""}),
    (LinkKind.EPOCH, {"epoch": 0, "box": BOX}),
    (LinkKind.EPOCH, {"epoch": -1, "box": BOX}),
    (LinkKind.EPOCH, {"epoch": 2**40, "box": BOX}),
    (LinkKind.EPOCH, {"epoch": 7, "box": BOX}),
    (LinkKind.MEMBER_ADD, {"user": BOB.id}),
    (LinkKind.LABEL, {"what": 1, "epoch": 1, "name": b""}),
    (LinkKind.RESTORE, {"tombstone": None}),
]


@pytest.mark.parametrize(("kind", "body"), NONSENSE)
def test_nonsense_of_an_administrator_is_refused_alone(kind: int, body: dict[str, Any]) -> None:
    world = World(ADA)
    bad = world.link(ADA, kind, world.genesis, **body)
    world.erase(ADA, world.genesis, bad)
    state = world.fold()
    assert bad.hash.hex() in dict(state.refused)
    assert set(state.tombstones) == ERASED


@pytest.mark.parametrize("parents", [None, 7, [7, None, b"", {}], ["x"] * 900, [b"z" * 32] * 900])
def test_strange_lists_of_parents_hide_nothing(parents: Any) -> None:
    world = World(ADA)
    raw = signed.encode(
        spec.LINK_MAGIC,
        LinkKind.TOMBSTONE,
        project=world.project,
        seed=ADA.seeds[0],
        created_us=1,
        body={"subject": b"s" * 16, "effective": 1, "parents": parents},
    )
    world.links.append(signed.decode(raw, spec.LINK_MAGIC))
    world.erase(ADA, world.genesis)
    assert set(world.fold().tombstones) == ERASED


def test_a_parent_that_is_missing_is_reported_and_no_error() -> None:
    world = World(ADA)
    world.erase(ADA, world.genesis, b"m" * 32)
    state = world.fold()
    assert set(state.tombstones) == ERASED
    assert state.missing == {b"m" * 32}


def test_a_link_of_another_project_does_not_count_here() -> None:
    world = World(ADA)
    raw = signed.encode(
        spec.LINK_MAGIC,
        LinkKind.TOMBSTONE,
        project=b"o" * 32,
        seed=ADA.seeds[0],
        created_us=1,
        body={"subject": SUBJECT, "effective": 1, "parents": [world.genesis.hash]},
    )
    world.links.append(signed.decode(raw, spec.LINK_MAGIC))
    assert world.fold().tombstones == {}


def test_a_genesis_that_names_another_as_its_founder_makes_no_project() -> None:
    world = World(EVE)
    body = {"entity": ADA.id, "user": ADA.id, "nonce": bytes(16), "parents": []}
    raw = signed.encode(
        spec.LINK_MAGIC,
        LinkKind.GENESIS,
        project=signed.NO_PROJECT,
        seed=EVE.seeds[0],
        created_us=1,
        body=body,
    )
    link = signed.decode(raw, spec.LINK_MAGIC)
    with pytest.raises(Damaged, match="vouches for the founder"):
        trust.fold(trust.project_id(raw), [link], [*ADA.certs, *world.certs])


def test_a_genesis_cannot_claim_the_entity_of_another() -> None:
    body = {"entity": ADA.id, "user": EVE.id, "nonce": bytes(16), "parents": []}
    raw = signed.encode(
        spec.LINK_MAGIC,
        LinkKind.GENESIS,
        project=signed.NO_PROJECT,
        seed=EVE.seeds[0],
        created_us=1,
        body=body,
    )
    state = trust.fold(
        trust.project_id(raw), [signed.decode(raw, spec.LINK_MAGIC)], [*ADA.certs, *EVE.certs]
    )
    assert state.entity == trust.UNKNOWN_ENTITY


# All encodings of points of small order that libsodium lists, and the two that are not canonical.
SMALL_ORDER = [
    bytes(32),
    b"\1" + bytes(31),
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    bytes.fromhex("13e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


@pytest.mark.parametrize("key", SMALL_ORDER)
def test_a_signer_of_small_order_signs_nothing(key: bytes) -> None:
    """With such a key one signature fits every message."""
    raw = bytearray(World(ADA).genesis.raw)
    raw[40:72] = key
    for signature in (bytes(64), key + bytes(32), b"\1" + bytes(63)):
        raw[-64:] = signature
        with pytest.raises(Damaged):
            signed.decode(bytes(raw), spec.LINK_MAGIC)


# ------------------------------------------------------------------ members and removals
def test_a_removal_beats_what_the_removed_did_meanwhile_and_nothing_before() -> None:
    world = World(ADA)
    bob = world.add(ADA, BOB, world.genesis)
    before = world.erase(BOB, bob, subject=b"1" * 16)
    world.remove(ADA, BOB, before)
    world.erase(BOB, before, subject=b"2" * 16, at=5)
    assert set(world.fold().tombstones) == {(b"1" * 16).hex()}


def test_who_is_added_again_counts_again() -> None:
    world = World(ADA)
    bob = world.add(ADA, BOB, world.genesis)
    gone = world.remove(ADA, BOB, bob)
    again = world.add(ADA, BOB, gone, role="member")
    world.link(BOB, LinkKind.LABEL, again, what="project", epoch=1, name=b"n")
    world.erase(BOB, again)
    state = world.fold()
    assert state.roles[BOB.id] == "member"
    assert len(state.labels) == 1
    assert state.tombstones == {}


def test_adding_and_removing_at_once_is_a_removal() -> None:
    world = World(ADA)
    bob = world.add(ADA, BOB, world.genesis)
    sam = world.add(ADA, SAM, bob)
    world.remove(ADA, SAM, sam)
    world.add(BOB, SAM, sam, at=99)
    assert SAM.id not in world.fold().roles


@pytest.mark.parametrize("role", ["member", "viewer", "", "Admin"])
def test_a_plain_member_may_do_nothing_that_is_an_administrators(role: str) -> None:
    """Also a role that only a later version knows is none of an administrator."""
    world = World(ADA)
    bob = world.add(ADA, BOB, world.genesis, role=role)
    puppet = world.add(BOB, EVE, bob)
    world.erase(EVE, puppet, subject=b"1" * 16)
    world.erase(BOB, bob, subject=b"2" * 16)
    world.remove(BOB, ADA, bob)
    world.epoch(BOB, 1, bob)
    world.link(BOB, LinkKind.SAME_AS, bob, project=b"p" * 32)
    world.erase(ADA, bob, subject=b"3" * 16)
    state = world.fold()
    assert state.roles == {ADA.id: "admin", BOB.id: role}
    assert set(state.tombstones) == {(b"3" * 16).hex()}
    assert not state.epochs
    assert not state.same_as
    assert EVE.id not in state.ever_members


def test_a_plain_member_does_not_undo_a_deletion() -> None:
    world = World(ADA)
    bob = world.add(ADA, BOB, world.genesis, role="member")
    stone = world.erase(ADA, bob)
    world.link(BOB, LinkKind.RESTORE, stone, at=1, tombstone=stone.hash)
    assert set(world.fold().tombstones) == ERASED


@pytest.mark.parametrize("at", [1, 10, 99])
def test_a_removed_administrator_does_not_remove_the_remover(at: int) -> None:
    """Also not with a link that pretends to be older, and knows less."""
    world = World(ADA)
    bob = world.add(ADA, BOB, world.genesis)
    last = bob
    for index in range(5):
        last = world.erase(ADA, last, subject=index.to_bytes(16, "big"))
    world.remove(ADA, BOB, last)
    world.remove(BOB, ADA, bob, at=at)
    state = world.fold()
    assert state.roles == {ADA.id: "admin"}
    assert len(state.tombstones) == 5


def test_a_removed_founder_who_knows_it_has_no_say() -> None:
    world = World(ADA)
    bob = world.add(ADA, BOB, world.genesis)
    gone = world.remove(BOB, ADA, bob)
    world.remove(ADA, BOB, gone)
    assert world.fold().roles == {BOB.id: "admin"}


def test_what_a_removed_administrator_adds_meanwhile_is_nobody() -> None:
    world = World(ADA)
    bob = world.add(ADA, BOB, world.genesis)
    world.remove(ADA, BOB, bob)
    eve = world.add(BOB, EVE, bob)
    world.erase(EVE, eve)
    state = world.fold()
    assert state.tombstones == {}
    assert EVE.id not in state.ever_members


# ------------------------------------------------------------------ tombstones
def test_the_earliest_tombstone_counts() -> None:
    world = World(ADA)
    world.erase(ADA, world.genesis, effective=90)
    early = world.erase(ADA, world.genesis, effective=40)
    assert world.fold().tombstones[SUBJECT.hex()] == (40, early.hash)


def test_a_restore_counts_before_the_time_and_never_after() -> None:
    world = World(ADA)
    stone = world.erase(ADA, world.genesis, effective=50)
    world.link(ADA, LinkKind.RESTORE, stone, at=50, tombstone=stone.hash)
    assert world.fold().erased(51) == ERASED
    world.link(ADA, LinkKind.RESTORE, stone, at=49, tombstone=stone.hash)
    assert world.fold().erased(51) == frozenset()
    world.link(ADA, LinkKind.RESTORE, stone, at=99, tombstone=stone.hash)
    assert world.fold().erased(51) == frozenset(), "a late restore takes back no good one"


def test_a_restore_takes_back_the_tombstone_that_it_names_and_no_other() -> None:
    world = World(ADA)
    stone = world.erase(ADA, world.genesis, effective=50)
    world.erase(ADA, world.genesis, effective=60)
    world.link(ADA, LinkKind.RESTORE, stone, at=20, tombstone=stone.hash)
    state = world.fold()
    assert state.erased(55) == frozenset()
    assert state.erased(61) == ERASED


def test_a_restore_of_what_is_no_tombstone_does_nothing() -> None:
    world = World(ADA)
    world.link(ADA, LinkKind.RESTORE, world.genesis, tombstone=world.genesis.hash)
    world.erase(ADA, world.genesis)
    assert world.fold().erased(60) == ERASED


def test_a_tombstone_does_not_destroy_the_keys_of_the_project() -> None:
    from localstore.keyslots import epoch_subject, project_subject

    world = World(ADA)
    one = world.epoch(ADA, 1, world.genesis)
    for subject in (epoch_subject(1), project_subject(), ADA.id):
        world.erase(ADA, one, subject=subject)
    assert world.fold().tombstones == {}


# ------------------------------------------------------------------ lost keys
def thief_world() -> tuple[World, Person]:
    """Ada has rotated; the thief of her laptop has her first key."""
    ada = Person("ada who lost a laptop")
    world = World(ada)
    first = world.epoch(ada, 1, world.genesis)
    ada.rotate(b"2" * 32)
    world.epoch(ada, 2, first)
    return world, ada


def test_an_old_key_says_nothing_that_the_new_one_did_not_know() -> None:
    """Else the thief would erase everything, or begin an epoch to which all would seal."""
    world, ada = thief_world()
    first = world.links[1]
    world.erase(ada, first, generation=1)
    world.epoch(ada, 2, first, generation=1)
    world.epoch(ada, 3, world.links[2], generation=1)
    world.add(ada, EVE, first)
    state = world.fold()
    assert state.tombstones == {}
    assert state.current_epoch.link == world.links[2].hash
    assert [epoch.number for epoch in state.epochs] == [1, 2]


def test_what_an_old_key_said_before_the_rotation_stays() -> None:
    ada = Person("ada who deleted before")
    world = World(ada)
    stone = world.erase(ada, world.genesis)
    ada.rotate(b"2" * 32)
    world.epoch(ada, 1, stone)
    assert set(world.fold().tombstones) == ERASED


def test_a_project_that_the_new_key_never_met_goes_on() -> None:
    ada = Person("ada with another project")
    world = World(ada)
    world.erase(ada, world.genesis)
    ada.rotate(b"2" * 32)
    assert set(world.fold().tombstones) == ERASED


def test_competing_rotations_have_no_say_where_nobody_holds_their_keys() -> None:
    ada = Person("ada with two rotations")
    world = World(ada)
    ada.rotate(b"t" * 32, follow=False)
    ada.rotate(b"2" * 32)
    mine = crypto.sign_public(ada.seeds[-1])
    world.erase(ada, world.genesis)
    other, own = world.fold(), world.fold(own=frozenset({mine}))
    assert other.users[ada.id].contested
    assert other.tombstones == {}
    assert not own.users[ada.id].contested
    assert set(own.tombstones) == ERASED


def test_a_rotation_that_is_not_followed_revokes_nobody() -> None:
    ada = Person("ada whose device stays")
    world = World(ada)
    device = cert(
        ada.seeds[0],
        CertKind.DEVICE,
        user=ada.id,
        generation=1,
        sign=b"d" * 32,
        box=BOX,
        name=b"",
    )
    ada.rotate(b"t" * 32, follow=False)
    ada.rotate(b"2" * 32, kept=(b"d" * 32,))
    ada.certs.append(device)
    own = frozenset({crypto.sign_public(ada.seeds[-1])})
    assert world.fold(own=own).revoked == frozenset()


def test_the_last_key_decides_on_a_machine_that_has_no_other() -> None:
    """Recovered with the code of generation 3, while the thief made a generation 2."""
    for seed in (b"t" * 32, b"u" * 32, b"v" * 32, b"w" * 32):
        ada = Person("ada of three generations")
        world = World(ada)
        ada.rotate(seed, follow=False)
        ada.rotate(b"2" * 32)
        ada.rotate(b"3" * 32)
        own = crypto.sign_public(ada.seeds[-1])
        user = world.fold(own=frozenset({own})).users[ada.id]
        assert user.sign[3] == own
        assert not user.contested


def test_a_rotation_to_a_key_that_its_maker_does_not_have_is_refused() -> None:
    """A thief would name Ada's own new key, and keep none of her devices."""
    ada = Person("ada and a false proof")
    world = World(ada)
    new = crypto.sign_public(b"2" * 32)
    body: dict[str, Any] = {"user": ada.id, "generation": 2, "sign": new, "box": BOX, "kept": []}
    for proof in (bytes(64), crypto.sign(b"t" * 32, spec.SIGN_ROTATION, b"")):
        ada.certs.append(cert(ada.seeds[0], CertKind.ROTATION, **body, proof=proof))
    assert world.fold().users[ada.id].generation == 1


@pytest.mark.parametrize("kept", [[b"x"], [7], [None]])
def test_a_rotation_that_keeps_nonsense_is_refused(kept: list[Any]) -> None:
    ada = Person("ada keeps nonsense")
    world = World(ada)
    body: dict[str, Any] = {"user": ada.id, "generation": 2, "sign": b"s" * 32, "box": BOX}
    ada.certs.append(cert(ada.seeds[0], CertKind.ROTATION, **body, kept=kept, proof=bytes(64)))
    assert world.fold().users[ada.id].generation == 1


def test_a_certificate_of_a_later_version_hides_nothing() -> None:
    world = World(ADA)
    later = cert(ADA.seeds[0], 77, user=ADA.id)
    assert trust.fold(world.project, world.links, [*world.certs, later]).roles


def test_a_link_that_was_withheld_is_named_and_healed(home: HomePaths, tmp_path: Path) -> None:
    """A remote that holds back one link is noticed by the links that know it."""
    run_id = record(home)
    project = open_project(home)
    delete_run(project, project.subject(run_id))
    delete_run(project, project.subject(run_id), now=True)
    add_remote(home.root, "stick", str(tmp_path / "stick"))
    assert sync_home(home.root).ok
    (early,) = {hash.hex() for _, hash in [project.state.tombstones[project.subject(run_id).hex()]]}
    knew = {p.hex() for p in _parents(project, early)}
    held_back = knew.pop()
    project.paths.links.joinpath(held_back).unlink()
    found = inspect_home(home, None)
    assert (f"links/{held_back}", "missing") in {(one.file, one.kind) for one in found.findings}
    assert repair_home(home.root, found.to_heal()).ok
    assert inspect_home(home, None).ok


def _parents(project: Project, link: str) -> list[bytes]:
    raw = project.paths.links.joinpath(link).read_bytes()
    return [bytes(one) for one in signed.decode(raw, spec.LINK_MAGIC).get("parents", list)]
