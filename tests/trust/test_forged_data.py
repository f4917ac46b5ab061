"""Runs, keyslots and whole projects that somebody forged from what a remote can see."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import localstore
from localstore import crypto, identity, keyslots, settings
from localstore import vault as vault_module
from localstore.check import inspect_home
from localstore.errors import Damaged, Forged, LocalStoreError, NotPermitted
from localstore.format import segment, signed, spec
from localstore.format.spec import CertKind, DataClass, LinkKind, SlotKind
from localstore.identity import Identity, now_us
from localstore.layout import HomePaths, ProjectPaths
from localstore.project import Project
from localstore.projects import Projects, _write_new
from localstore.rotation import adopt_rotations, complete_rotation, list_devices, revoke_device
from localstore.trust import Belief
from localstore.vault import Vault
from tests.keys.conftest import carry, record, recover

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def run_id(home: HomePaths) -> str:
    return record(home)


@pytest.fixture
def project(home: HomePaths, run_id: str) -> Project:
    return open_project(home)


def open_project(home: HomePaths, name: str = "digits") -> Project:
    (found,) = Projects(home, Vault(home).load()).named("", name)
    return found


def stranger() -> Identity:
    return identity.new_member("eve")


def put_cert(paths: ProjectPaths, raw: bytes) -> bytes:
    name = signed.file_hash(raw)
    (paths.certs / name.hex()).write_bytes(raw)
    return name


def forged_log(
    project: Project,
    subject: bytes,
    seed: bytes,
    cert: bytes,
    *,
    target: bytes = b"",
) -> str:
    """A whole `meta` log and its keyslot, made with public data and the given device key."""
    epoch = project.state.current_epoch
    pair_seed, key, segment_id = (crypto.random_bytes(size) for size in (32, 32, 16))
    pair = crypto.box_public(crypto.derive(pair_seed, spec.LABEL_PAIR))
    box = crypto.box_public(crypto.derive(pair_seed, spec.LABEL_CLASS, salt=b"\1"))
    keyslots.write_slot(
        project.paths,
        SlotKind.PAIR,
        subject=subject,
        recipient=epoch.box,
        secret=pair_seed,
        signer_seed=seed,
        epoch=epoch.number,
        cert=cert,
        pair=pair,
        classes={1: box},
    )
    header = segment.SegmentHeader(
        data_class=DataClass.META,
        project=target or project.id,
        subject=subject,
        segment=segment_id,
        writer=bytes(16),
        pair=pair,
        device=crypto.sign_public(seed),
        cert=cert,
        epoch=epoch.number,
        started_us=now_us(),
        policy_tag=bytes(16),
        supersedes=segment.NOTHING_SUPERSEDED,
        commitment=crypto.derive(key, spec.LABEL_COMMIT, segment_id),
        sealed_key=b"",
    )
    sealed = crypto.seal(box, key, replace(header, sealed_key=bytes(112)).context())
    name = f"runs/{subject.hex()}/{segment_id.hex()}.log"
    path = project.paths.file(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header.with_key(sealed).encode(seed))
    return name


def assert_refused_and_named(home: HomePaths, name: str, reason: str) -> None:
    api = localstore.Api(home.root)
    subject = name.split("/")[1]
    shown = [run for run in api.runs() if run.subject == subject]
    assert all(run.config == {} and not len(run.table().steps) for run in shown)
    told = [str(problem) for problem in api.problems if name in str(problem)]
    assert told
    assert reason in told[0]
    found = inspect_home(home, Vault(home).load(), read_data=True).findings
    assert (name, "unbelieved") in {(one.file, one.kind) for one in found}


# ------------------------------------------------------------------ judge
def test_a_run_forged_by_an_unknown_device_is_refused_and_named(
    home: HomePaths, project: Project
) -> None:
    name = forged_log(project, b"f" * 16, crypto.random_bytes(32), b"c" * 32)
    assert_refused_and_named(home, name, "unknown certificate")


def test_a_forged_segment_in_a_run_that_is_there_changes_nothing_of_it(
    home: HomePaths, project: Project, run_id: str
) -> None:
    subject = project.subject(run_id)
    name = forged_log(project, subject, crypto.random_bytes(32), project.cert)
    api = localstore.Api(home.root)
    run = api.run(run_id)
    assert run.config == {"lr": 0.1}
    assert len(run.table().steps) == 10
    assert any(name in problem for problem in run.problems)


def test_a_resumed_run_continues_no_forged_segment(
    home: HomePaths, project: Project, run_id: str
) -> None:
    subject = project.subject(run_id)
    name = forged_log(project, subject, crypto.random_bytes(32), b"c" * 32)
    forged = bytes.fromhex(name.split("/")[2][:32])
    run = localstore.init(project="digits", id=run_id, resume="must", dir=home.root)
    run.finish()
    named = set()
    for path in (project.paths.runs / subject.hex()).glob("*.log"):
        named |= {one.segment for one in segment.decode_header(path.read_bytes())[0].predecessors}
    assert named
    assert forged not in named


def test_a_user_who_was_never_a_member_is_refused(home: HomePaths, project: Project) -> None:
    eve = stranger()
    put_cert(project.paths, eve.user_certs[0])
    cert = put_cert(project.paths, eve.device_cert)
    name = forged_log(project, b"f" * 16, eve.device_seed, cert)
    assert_refused_and_named(home, name, "never a member")


def test_the_certificate_of_another_device_does_not_help(home: HomePaths, project: Project) -> None:
    name = forged_log(project, b"f" * 16, crypto.random_bytes(32), project.cert)
    assert_refused_and_named(home, name, "another device than its certificate")


def test_a_certificate_that_only_claims_the_user_is_refused(
    home: HomePaths, project: Project
) -> None:
    eve = replace(stranger(), user=project.identity.user)
    cert = put_cert(project.paths, identity.certify_device(eve, eve.device_seed, b"b" * 32))
    name = forged_log(project, b"f" * 16, eve.device_seed, cert)
    assert_refused_and_named(home, name, "unknown certificate")


def test_a_ticket_for_another_project_is_no_certificate_here(
    home: HomePaths, project: Project
) -> None:
    from localstore.tickets import make_ticket

    record(home, project="other")
    ticket = signed.decode(make_ticket(open_project(home, "other"), now_us() + 10**9), b"LSTK")
    cert = put_cert(project.paths, ticket.get("cert", bytes))
    name = forged_log(project, b"f" * 16, ticket.get("device_seed", bytes), cert)
    assert_refused_and_named(home, name, "unknown certificate")


def test_a_run_of_another_project_does_not_move_by_being_copied(
    home: HomePaths, project: Project
) -> None:
    record(home, project="other")
    other = open_project(home, "other")
    for folder in ("keys", "runs"):
        shutil.copytree(other.paths.root / folder, project.paths.root / folder, dirs_exist_ok=True)
    api = localstore.Api(home.root)
    assert [run.config for run in api.runs("digits") if run.config] == [{"lr": 0.1}]
    assert any("another project" in str(problem) for problem in api.problems)


def test_a_header_that_another_device_signs_again_opens_nothing(
    home: HomePaths, laptop: HomePaths, project: Project
) -> None:
    """The device stands inside the sealed key's context: nobody can take over a segment."""
    recover(home, laptop)
    carry(home, laptop)
    other = open_project(laptop)
    other.ensure_cert()
    carry(laptop, home)
    path = min(project.paths.runs.glob("*/*.log"))
    raw = path.read_bytes()
    header, end = segment.decode_header(raw)
    stolen = replace(header, device=crypto.sign_public(other.device_seed), cert=other.cert)
    path.write_bytes(stolen.encode(other.device_seed) + raw[end:])
    assert open_project(home).state.judge(stolen).belief is Belief.TRUSTED
    api = localstore.Api(home.root)
    api.runs()
    found = inspect_home(home, Vault(home).load(), read_data=True)
    assert any("sealed box that belongs elsewhere" in str(one) for one in found.findings)


# ------------------------------------------------------------------ keyslots
def slot_args(project: Project) -> tuple[bytes, bytes]:
    (folder,) = [f for f in project.paths.keys.iterdir() if _has_pair(project.paths, f.name)]
    return bytes.fromhex(folder.name), next(project.paths.runs.glob("*/*.log")).read_bytes()[96:128]


def _has_pair(paths: ProjectPaths, subject: str) -> bool:
    slots = keyslots.read_slots(paths, bytes.fromhex(subject))
    return any(slot.kind == SlotKind.PAIR for slot in slots)


@pytest.mark.parametrize(
    "change", ["kind", "subject", "recipient", "epoch", "pair", "project", "key"]
)
def test_a_keyslot_opens_in_its_place_alone(project: Project, change: str) -> None:
    subject, _ = slot_args(project)
    (slot,) = keyslots.read_slots(project.paths, subject)
    epoch = project.state.current_epoch
    private = crypto.derive(project.epoch_seed(epoch), spec.LABEL_EPOCH_BOX)
    assert slot.open(private, project.id)
    where = project.id
    if change == "project":
        where = b"p" * 32
    elif change == "key":
        private = b"k" * 32
    elif change in ("kind", "epoch"):
        slot = replace(slot, **{change: 2})  # type: ignore[arg-type] # by name
    else:
        blank: dict[str, Any] = {change: bytes(len(getattr(slot, change)))}
        slot = replace(slot, **blank)
    with pytest.raises(Forged):
        slot.open(private, where)


def test_every_flipped_byte_of_a_keyslot_is_found(project: Project) -> None:
    subject, _ = slot_args(project)
    (path,) = (project.paths.keys / subject.hex()).iterdir()
    raw = path.read_bytes()
    for at in range(len(raw)):
        path.write_bytes(raw[:at] + bytes((raw[at] ^ 1,)) + raw[at + 1 :])
        problems: list[Damaged] = []
        assert list(keyslots.read_slots(project.paths, subject, problems)) == []
        assert len(problems) == 1


def test_keyslots_copied_to_another_subject_or_project_are_refused(
    home: HomePaths, project: Project
) -> None:
    subject, _ = slot_args(project)
    record(home, project="other")
    other = open_project(home, "other")
    for paths, target in ((project.paths, b"t" * 16), (other.paths, subject)):
        shutil.copytree(project.paths.keys / subject.hex(), paths.keys / target.hex())
        problems: list[Damaged] = []
        assert list(keyslots.read_slots(paths, target, problems)) == []
        assert "another project or subject" in str(problems[0])


@pytest.mark.parametrize("content", ["another seed", "garbage", "wide epoch", "folder"])
def test_bad_keyslots_beside_a_good_one_hide_no_run(
    home: HomePaths, project: Project, run_id: str, content: str
) -> None:
    """Anybody can make them: the epoch's public key is public, and names sort by their hash."""
    subject, pair = slot_args(project)
    epoch = project.state.current_epoch
    for at in range(12):
        if content == "folder":
            (project.paths.keys / subject.hex() / f"{at:032x}-{at:032x}").mkdir()
            continue
        raw = keyslots.encode_slot(
            project.id,
            SlotKind.PAIR,
            subject=subject,
            recipient=epoch.box,
            secret=bytes(32) if content == "another seed" else b"",
            signer_seed=crypto.random_bytes(32),
            epoch=epoch.number,
            pair=pair,
        )
        if content == "wide epoch":
            file = signed.decode(raw, spec.KEYSLOT_MAGIC)
            raw = signed.encode(
                spec.KEYSLOT_MAGIC,
                SlotKind.PAIR,
                project=project.id,
                seed=crypto.random_bytes(32),
                created_us=1,
                body={**file.body, "epoch": 2**40 if at % 2 else -1},
            )
            name = f"{identity.recipient_tag(epoch.box)}-{signed.file_hash(raw).hex()[:32]}"
            (project.paths.keys / subject.hex() / name).write_bytes(raw)
        else:
            keyslots.store_slot(project.paths, raw)
    assert len(localstore.Api(home.root).run(run_id).table().steps) == 10


def test_a_writer_adopts_no_pair_of_a_stranger(home: HomePaths, project: Project) -> None:
    """Whoever made the seed reads what is sealed to it."""
    subject = project.subject("next")
    forged_log(project, subject, crypto.random_bytes(32), project.cert)
    shutil.rmtree(project.paths.runs / subject.hex())
    planted = {slot.pair for slot in keyslots.read_slots(project.paths, subject)}
    fresh = open_project(home)
    assert fresh.pair(subject).public not in planted


@pytest.mark.parametrize("kind", [SlotKind.EPOCH, SlotKind.PROJECT])
def test_secrets_that_a_stranger_sealed_are_not_taken(
    home: HomePaths, project: Project, run_id: str, kind: SlotKind
) -> None:
    """The person's box key is public too: a stranger's naming key or epoch would be theirs."""
    user_box = crypto.box_public(project.identity.user_box())
    epoch = kind == SlotKind.EPOCH
    subject = keyslots.epoch_subject(1) if epoch else keyslots.project_subject()

    def seal_as_stranger() -> None:
        for _ in range(12):
            keyslots.write_slot(
                project.paths,
                kind,
                subject=subject,
                recipient=user_box,
                secret=bytes(32 if epoch else 96),
                signer_seed=crypto.random_bytes(32),
                epoch=1 if epoch else 0,
            )

    seal_as_stranger()
    assert localstore.Api(home.root).run(run_id).config == {"lr": 0.1}
    assert open_project(home).naming == project.naming
    shutil.rmtree(project.paths.keys / subject.hex())
    seal_as_stranger()
    with pytest.raises(NotPermitted, match="no key of this machine"):
        Project(project.paths, project.identity)


# ------------------------------------------------------------------ whole projects
@pytest.mark.parametrize("entity", ["", "team"])
def test_a_project_that_a_stranger_made_gets_no_runs_and_shows_none(
    home: HomePaths, tmp_path: Path, entity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest of a name gets all new runs: a remote would hand over one of its own."""
    first = localstore.init(project="mine", dir=home.root)
    first.finish()
    ada, eve = Vault(home).load(), stranger()
    monkeypatch.setattr("localstore.projects.now_us", lambda: 1)
    root = tmp_path / "made"
    called = entity or ada.user_name
    made = _write_new(root, replace(eve, user_name="" if entity else called), called, "digits")
    root.rename(tmp_path / made.hex())
    paths = ProjectPaths(tmp_path / made.hex())
    put_cert(paths, ada.user_certs[0])
    theirs = Project(paths, eve)
    key = crypto.sign_public(ada.user_seed())
    box = crypto.box_public(ada.user_box())
    body = {"user": ada.user, "sign": key, "box": box, "role": "admin"}
    theirs.add_link(LinkKind.MEMBER_ADD, body)
    seed = theirs.epoch_seed(theirs.state.current_epoch)
    for kind, subject, secret, number in (
        (SlotKind.EPOCH, keyslots.epoch_subject(1), seed, 1),
        (SlotKind.PROJECT, keyslots.project_subject(), theirs.project_secrets(), 0),
    ):
        keyslots.write_slot(
            paths,
            kind,
            subject=subject,
            recipient=box,
            secret=secret,
            signer_seed=eve.user_seed(),
            epoch=number,
        )
    monkeypatch.undo()
    monkeypatch.setenv("LOCALSTORE_QUIET", "1")
    shutil.copytree(paths.root, home.projects / made.hex())

    run = localstore.init(project="digits", entity=entity or None, dir=home.root)
    run.log({"loss": 1.0})
    run.finish()

    assert not list((home.projects / made.hex()).glob("runs/*"))
    assert localstore.Api(home.root).run(run.id).state == "finished"
    assert len(localstore.Api(home.root).runs("digits")) == 1


# ------------------------------------------------------------------ rotation
def id_of(home: HomePaths, of: HomePaths) -> str:
    sign = crypto.sign_public(Vault(of).load().device_seed)
    devices = list_devices(Projects(home, Vault(home).load()))
    return next(device.id for device in devices if device.sign == sign)


@pytest.fixture
def thief(home: HomePaths, laptop: HomePaths, run_id: str) -> Identity:
    """Holds the laptop's keys; it has just been revoked."""
    recover(home, laptop)
    carry(home, laptop)
    record(laptop)
    carry(laptop, home)
    stolen = Vault(laptop).load()
    revoke_device(home, id_of(home, laptop))
    return stolen


def test_a_thief_gets_no_later_run_by_beginning_an_epoch(
    home: HomePaths, laptop: HomePaths, thief: Identity
) -> None:
    theirs = open_project(laptop)
    box = crypto.box_public(crypto.derive(b"t" * 32, spec.LABEL_EPOCH_BOX))
    theirs.add_link(LinkKind.EPOCH, {"epoch": 2, "box": box})
    theirs.add_link(LinkKind.EPOCH, {"epoch": 3, "box": box})
    carry(laptop, home)
    late = record(home)
    assert localstore.Api(home.root).run(late).flags == []
    for slot in keyslots.read_slots(open_project(home).paths, open_project(home).subject(late)):
        assert slot.recipient != box


def test_a_thief_erases_nothing(
    home: HomePaths, laptop: HomePaths, thief: Identity, run_id: str
) -> None:
    from localstore.erase import delete_run

    theirs = open_project(laptop)
    delete_run(theirs, theirs.subject(run_id), now=True)
    carry(laptop, home)
    assert localstore.Api(home.root).run(run_id).config == {"lr": 0.1}


def test_a_thief_who_planted_an_epoch_does_not_stop_the_rotation(
    home: HomePaths, laptop: HomePaths, run_id: str
) -> None:
    recover(home, laptop)
    carry(home, laptop)
    theirs = open_project(laptop)
    theirs.ensure_cert()
    theirs.add_link(LinkKind.EPOCH, {"epoch": 2, "box": crypto.box_public(b"t" * 32)})
    carry(laptop, home)
    revoke_device(home, id_of(home, laptop))
    assert open_project(home).state.current_epoch.number == 3
    late = record(home)
    assert localstore.Api(home.root).run(late).state == "finished"


def test_a_thief_cannot_swap_the_projects_secrets(
    home: HomePaths, laptop: HomePaths, thief: Identity, run_id: str
) -> None:
    project = open_project(home)
    for secret in (b"", bytes(96)):
        keyslots.write_slot(
            project.paths,
            SlotKind.PROJECT,
            subject=keyslots.project_subject(),
            recipient=crypto.box_public(project.identity.user_box()),
            secret=secret,
            signer_seed=thief.user_seed(),
        )
    assert open_project(home).naming == project.naming


def test_an_older_project_that_a_thief_makes_gets_a_new_epoch_before_any_run(
    home: HomePaths, laptop: HomePaths, thief: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(home, project="other")
    shutil.rmtree(laptop.projects)
    monkeypatch.setattr("localstore.projects.now_us", lambda: 1)
    record(laptop, project="other")
    monkeypatch.undo()
    monkeypatch.setenv("LOCALSTORE_QUIET", "1")
    carry(laptop, home)
    late = record(home, project="other")
    api = localstore.Api(home.root)
    old = min(Projects(home, api.identity).named("", "other"), key=lambda p: p.state.created_us)
    assert old.state.current_epoch.signer == crypto.sign_public(api.identity.user_seed())
    slots = list(keyslots.read_slots(old.paths, old.subject(late)))
    assert [slot.recipient for slot in slots] == [old.state.current_epoch.box]


def test_a_strangers_statement_does_not_pass_for_ones_own(
    home: HomePaths, laptop: HomePaths, tmp_path: Path, run_id: str
) -> None:
    """A machine that learns its person's statements by syncing takes no others."""
    desktop = HomePaths(tmp_path / "desktop")
    for machine in (laptop, desktop):
        recover(home, machine)
        carry(home, machine)
        record(machine)
        carry(machine, home)
    revoke_device(home, id_of(home, laptop))
    paths = home.all_projects()[0]
    for _ in range(12):
        eve = stranger()
        body = {"user": Vault(home).load().user, "generation": 2}
        more = {"sign": b"s" * 32, "box": b"b" * 32, "kept": [], "proof": bytes(64)}
        raw = signed.encode(
            spec.CERT_MAGIC,
            CertKind.ROTATION,
            project=signed.NO_PROJECT,
            seed=eve.user_seed(),
            created_us=1,
            body={**body, **more},
        )
        put_cert(paths, raw)
    carry(home, desktop)
    adopted = adopt_rotations(desktop, Vault(desktop))
    assert adopted is not None
    assert adopted.user_certs[1:] == Vault(home).load().user_certs[1:]
    fresh = record(desktop, project="fresh")
    assert localstore.Api(desktop.root).run(fresh).flags == []


def test_two_machines_that_renew_a_project_at_once_lose_nothing(
    home: HomePaths, laptop: HomePaths, tmp_path: Path, run_id: str
) -> None:
    """Two epochs of one number: each has its own seed, under one subject."""
    desktop = HomePaths(tmp_path / "desktop")
    for machine in (laptop, desktop):
        recover(home, machine)
        carry(home, machine)
        record(machine)
        carry(machine, home)
    carry(home, desktop)
    apart = record(desktop, project="apart")
    revoke_device(home, id_of(home, laptop))
    links = {path.name for path in home.all_projects()[0].links.iterdir()}
    assert links
    carry(home, desktop)
    carry(desktop, home)
    assert adopt_rotations(desktop, Vault(desktop)) is not None
    complete_rotation(desktop, Vault(desktop).load())
    complete_rotation(home, Vault(home).load())
    runs = [record(machine, project="apart") for machine in (home, desktop)]
    carry(home, desktop)
    carry(desktop, home)
    numbers = [epoch.number for epoch in open_project(home, "apart").state.epochs]
    assert numbers == [1, 2, 2]
    for machine in (home, desktop):
        api = localstore.Api(machine.root)
        assert [api.run(one).state for one in (apart, *runs)] == ["finished"] * 3
    fresh = HomePaths(tmp_path / "fresh")
    recover(home, fresh)
    carry(home, fresh)
    assert len(localstore.Api(fresh.root).runs("apart")) == 3


def test_a_machine_whose_key_is_a_credential_follows_without_writing(
    home: HomePaths, laptop: HomePaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_id: str
) -> None:
    served = HomePaths(tmp_path / "served")
    for machine in (laptop, served):
        recover(home, machine)
        carry(home, machine)
        record(machine)
        carry(machine, home)
    revoke_device(home, id_of(home, laptop))
    late = record(home)
    carry(home, served)
    folder = tmp_path / "credentials"
    folder.mkdir()
    credential = folder / vault_module.CREDENTIAL_NAME
    (served.identity / vault_module.SECRET_FILE).rename(credential)
    before = credential.read_bytes()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    assert localstore.Api(served.root).run(late).state == "finished"
    assert credential.read_bytes() == before


def test_a_person_whose_home_takes_a_ticket_is_left_as_it_was(
    home: HomePaths, laptop: HomePaths, project: Project
) -> None:
    from localstore.tickets import enroll, make_ticket

    record(laptop)
    raw = make_ticket(project, now_us() + 10**9)
    with pytest.raises(LocalStoreError, match="belongs to a person"):
        enroll(laptop, raw, settings.load({"home": str(laptop.root)}))
    assert len(laptop.all_projects()) == 1
