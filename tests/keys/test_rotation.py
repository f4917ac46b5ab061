"""A lost laptop is left out of new keys; the machines that stay follow."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import localstore
from localstore import crypto, identity, settings
from localstore.errors import Damaged, NotFound, NotPermitted, UsageError
from localstore.format import signed
from localstore.identity import now_us
from localstore.layout import HomePaths
from localstore.project import Project
from localstore.projects import Projects
from localstore.reading import read_run
from localstore.rotation import adopt_rotations, list_devices, revoke_device, rotate_user
from localstore.trust import read_project
from localstore.vault import Vault
from tests.keys.conftest import carry, record, recover

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def laptop(tmp_path: Path, home: HomePaths) -> HomePaths:
    """A second machine of the person, which will be lost."""
    record(home)
    laptop = HomePaths(tmp_path / "laptop")
    recover(home, laptop)
    carry(home, laptop)
    record(laptop)
    carry(laptop, home)
    return laptop


def id_of(home: HomePaths, of: HomePaths) -> str:
    sign = crypto.sign_public(Vault(of).load().device_seed)
    devices = list_devices(Projects(home, Vault(home).load()))
    return next(device.id for device in devices if device.sign == sign)


def test_a_revoked_device_opens_nothing_that_is_recorded_later(
    home: HomePaths, laptop: HomePaths
) -> None:
    revoke_device(home, id_of(home, laptop))
    run_id = record(home)
    carry(home, laptop)

    project = Project(laptop.all_projects()[0], Vault(laptop).load())
    problems: list[object] = []
    contents = read_run(project, project.subject(run_id), range(1, 8), problems)  # type: ignore[arg-type]
    assert contents == []
    assert problems
    assert localstore.Api(home.root).run(run_id).state == "finished"


def test_what_a_revoked_device_wrote_is_read_and_flagged(
    home: HomePaths, laptop: HomePaths
) -> None:
    revoke_device(home, id_of(home, laptop))
    late = record(laptop)
    carry(laptop, home)
    assert "by a revoked device" in localstore.Api(home.root).run(late).flags


def test_a_device_that_the_thief_certifies_with_the_old_user_key_is_revoked_too(
    home: HomePaths, laptop: HomePaths
) -> None:
    revoke_device(home, id_of(home, laptop))
    stolen = Vault(laptop).load()
    seed, box = crypto.random_bytes(32), crypto.random_bytes(32)
    cert = identity.certify_device(stolen, seed, box)
    paths = home.all_projects()[0]
    (paths.certs / signed.file_hash(cert).hex()).write_bytes(cert)

    state = read_project(paths, own_keys=Vault(home).load().own_keys())

    assert signed.file_hash(cert) in state.revoked


def test_everything_older_stays_readable_after_a_revocation(
    home: HomePaths, laptop: HomePaths
) -> None:
    revoke_device(home, id_of(home, laptop))
    runs = localstore.Api(home.root).runs("digits")
    assert [run.state for run in runs] == ["finished", "finished"]
    assert all(len(run.history(pandas=False)["loss"]) == 10 for run in runs)


def test_another_machine_of_the_person_adopts_the_new_keys(
    home: HomePaths, laptop: HomePaths, tmp_path: Path
) -> None:
    desktop = HomePaths(tmp_path / "desktop")
    recover(home, desktop)
    carry(home, desktop)
    record(desktop)
    carry(desktop, home)
    revoke_device(home, id_of(home, laptop))
    run_id = record(home)
    carry(home, desktop)

    adopted = adopt_rotations(desktop, Vault(desktop))

    assert adopted is not None
    assert adopted.generation == 2
    assert localstore.Api(desktop.root).run(run_id).state == "finished"
    back = record(desktop)
    carry(desktop, home)
    assert localstore.Api(home.root).run(back).flags == []


def test_the_new_recovery_code_brings_everything_back_on_an_empty_machine(
    home: HomePaths, laptop: HomePaths, tmp_path: Path
) -> None:
    revoke_device(home, id_of(home, laptop))
    record(home)
    fresh = HomePaths(tmp_path / "fresh")
    recover(home, fresh)
    carry(home, fresh)
    assert len(localstore.Api(fresh.root).runs("digits")) == 3
    assert record(fresh)


def test_a_rotation_that_the_thief_makes_is_noticed_and_not_followed(
    home: HomePaths, laptop: HomePaths, tmp_path: Path
) -> None:
    """Two rotations of one generation: nobody but their makers follows either blindly."""
    desktop = HomePaths(tmp_path / "desktop")
    recover(home, desktop)
    carry(home, desktop)
    record(desktop)
    carry(desktop, home)
    stolen = Vault(laptop).load()
    root = crypto.random_bytes(16)
    theirs = rotate_user(stolen, root, kept=[], revoked=[])
    revoke_device(home, id_of(home, laptop))
    for machine in (home, desktop):
        paths = machine.all_projects()[0]
        (paths.certs / signed.file_hash(theirs).hex()).write_bytes(theirs)
    carry(home, desktop)

    mine = read_project(home.all_projects()[0], own_keys=Vault(home).load().own_keys())
    other = read_project(desktop.all_projects()[0], own_keys=Vault(desktop).load().own_keys())

    user = Vault(home).load().user
    assert not mine.users[user].contested
    assert other.users[user].contested
    assert adopt_rotations(desktop, Vault(desktop)) is None


def test_the_device_one_sits_at_is_not_revoked(home: HomePaths) -> None:
    record(home)
    with pytest.raises(UsageError, match="the device you are on"):
        revoke_device(home, id_of(home, home))


def test_an_unknown_device_is_named(home: HomePaths) -> None:
    record(home)
    with pytest.raises(NotFound, match="'feed'"):
        revoke_device(home, "feed")


def test_a_protected_key_stays_protected_through_a_revocation(
    home: HomePaths, laptop: HomePaths, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    vault = Vault(home)
    vault.save(vault.load(), "correct horse")
    monkeypatch.setenv("LOCALSTORE_PASSPHRASE_FILE", str(tmp_path / "word"))
    (tmp_path / "word").write_text("correct horse\n")
    (tmp_path / "word").chmod(0o600)
    revoke_device(home, id_of(home, laptop))
    assert Vault(home).protected()
    assert Vault(home).load().generation == 2


def test_a_machine_that_may_not_read_revokes_nothing(home: HomePaths, tmp_path: Path) -> None:
    from localstore.tickets import enroll, make_ticket

    record(home)
    project, _ = Projects(home, Vault(home).load()).open_or_create("", "digits")
    node = HomePaths(tmp_path / "node")
    raw = make_ticket(project, now_us() + 10**9)
    enroll(node, raw, settings.load({"home": str(node.root)}))
    with pytest.raises(NotPermitted):
        revoke_device(node, "00")


def test_secrets_do_not_show_in_a_repr(home: HomePaths) -> None:
    record(home)
    one = Vault(home).load()
    for secret in (*one.roots.values(), one.device_seed, one.device_box, one.home_key):
        assert secret.hex() not in repr(one)
        assert repr(secret) not in repr(one)
    assert replace(one) == one


def test_reading_on_another_machine_adopts_by_itself(
    home: HomePaths, laptop: HomePaths, tmp_path: Path
) -> None:
    desktop = HomePaths(tmp_path / "desktop")
    recover(home, desktop)
    carry(home, desktop)
    record(desktop)
    carry(desktop, home)
    revoke_device(home, id_of(home, laptop))
    run_id = record(home)
    carry(home, desktop)

    assert localstore.Api(desktop.root).run(run_id).state == "finished"
    assert Vault(desktop).load().generation == 2


def test_a_stolen_machine_that_only_ever_read_is_shut_out(home: HomePaths, tmp_path: Path) -> None:
    """It left no certificate, so nobody can name it; a rotation names who stays."""
    record(home)
    thief = HomePaths(tmp_path / "thief")
    recover(home, thief)
    carry(home, thief)
    assert len(list_devices(Projects(home, Vault(home).load()))) == 1

    revoke_device(home, None)
    run_id = record(home)
    carry(home, thief)

    assert adopt_rotations(thief, Vault(thief)) is None
    project = Project(thief.all_projects()[0], Vault(thief).load())
    problems: list[Damaged] = []
    assert read_run(project, project.subject(run_id), range(1, 8), problems) == []
    assert problems
    late = record(thief)
    carry(thief, home)
    assert "by a revoked device" in localstore.Api(home.root).run(late).flags
    assert localstore.Api(home.root).run(run_id).state == "finished"


@pytest.mark.parametrize("words", [[], ["feed", "--unlisted"]])
def test_a_revocation_wants_one_device_or_all_unlisted_ones(words: list[str]) -> None:
    from click.testing import CliRunner

    from localstore.cli.device import revoke

    outcome = CliRunner().invoke(revoke, [*words, "--yes"])
    assert isinstance(outcome.exception, UsageError)
