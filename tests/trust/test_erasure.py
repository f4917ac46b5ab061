"""What is erased opens nowhere again, whoever brings it back."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

import localstore
from localstore import crypto, keyslots, settings
from localstore.erase import delete_run, sweep, undelete_run
from localstore.errors import Damaged, NotFound, NotPermitted, UsageError
from localstore.format import signed, spec
from localstore.format.segment import decode_header
from localstore.format.spec import DataClass
from localstore.identity import now_us
from localstore.projects import Projects
from localstore.reading import read_run
from localstore.tickets import enroll, make_ticket
from localstore.vault import Vault
from tests.keys.conftest import carry, record, recover
from tests.trust.test_forged_data import open_project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from localstore.layout import HomePaths
    from localstore.project import Project

CLASSES = range(1, 8)


def delete(home: HomePaths, run_id: str, *, now: bool = True) -> None:
    localstore.Api(home.root).run(run_id).delete(now=now)


def ids(home: HomePaths, *, trashed: bool = False) -> set[str]:
    return {run.id for run in localstore.Api(home.root).runs(trashed=trashed)}


def keys_of(project: Project) -> Iterator[bytes]:
    """Every secret that a member holds or can derive."""
    one = project.identity
    yield from (one.device_box, one.user_box(), one.home_key, project.naming, project.dedup)
    for epoch in project.state.epochs:
        seed = project.epoch_seed(epoch)
        yield seed
        yield crypto.derive(seed, spec.LABEL_EPOCH_BOX)


def opens(project: Project, kept: dict[str, bytes]) -> list[str]:
    """Which sealed boxes of the kept files open with any key that is left."""
    found = []
    for name, raw in kept.items():
        if name.endswith(".log"):
            header, _ = decode_header(raw)
            box, context = header.sealed_key, header.context()
        elif name.startswith("keys/"):
            body = signed.decode(raw, spec.KEYSLOT_MAGIC).body
            box, context = body["box"], b""
        else:
            continue
        for secret in keys_of(project):
            try:
                crypto.unseal(secret, box, context or bytes(32))
                found.append(name)
            except Damaged as problem:
                if "belongs elsewhere" in str(problem):
                    found.append(name)  # it opened: only our guess at its context was wrong
    return found


def test_nothing_that_is_left_opens_an_erased_run(home: HomePaths) -> None:
    """With all keys of the home, and a copy of every byte but the keyslots from before."""
    run_id = record(home)
    project = open_project(home)
    subject = project.subject(run_id)
    names = [name for name in project.paths.names() if subject.hex() in name]
    before = {name: project.paths.file(name).read_bytes() for name in names}
    assert opens(project, before), "the keyslot opens while it is there"
    assert localstore.Api(home.root).run(run_id).config

    delete(home, run_id)

    left = {name: raw for name, raw in before.items() if not name.startswith("keys/")}
    assert opens(open_project(home), left) == []
    assert not [path for path in home.root.rglob("*") if subject.hex() in str(path)]
    assert not list(project.paths.local.glob("*.cache")), "the sealed list quotes the run"
    for name, raw in left.items():
        project.paths.file(name).parent.mkdir(parents=True, exist_ok=True)
        project.paths.file(name).write_bytes(raw)
    problems: list[Damaged] = []
    assert read_run(open_project(home), subject, CLASSES, problems) == []
    assert problems


def test_a_stick_that_brings_everything_back_shows_nothing(home: HomePaths, tmp_path: Path) -> None:
    run_id, other = record(home), record(home)
    project = open_project(home)
    shutil.copytree(project.paths.root, tmp_path / "stick")
    delete(home, run_id)
    shutil.copytree(tmp_path / "stick", project.paths.root, dirs_exist_ok=True)

    assert ids(home) == {other}
    with pytest.raises(NotFound):
        localstore.Api(home.root).run(run_id)
    back = open_project(home)
    assert sweep(back.paths, back.state.erased(now_us())) == 2
    assert not (back.paths.keys / back.subject(run_id).hex()).exists()
    assert not (back.paths.runs / back.subject(run_id).hex()).exists()
    assert ids(home) == {other}


@pytest.mark.parametrize("now", [True, False])
def test_a_deleted_id_is_not_taken_again(home: HomePaths, now: bool) -> None:
    run_id = record(home)
    delete(home, run_id, now=now)
    for resume in (None, "allow", "must"):
        with pytest.raises(UsageError, match="was deleted"):
            localstore.init(project="digits", id=run_id, dir=home.root, resume=resume)
    assert record(home)


def test_the_trash_gives_back_until_its_time_comes(
    home: HomePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = record(home)
    delete(home, run_id, now=False)
    assert ids(home) == set()
    assert ids(home, trashed=True) == {run_id}
    localstore.Api(home.root).run(run_id).undelete()
    assert ids(home) == {run_id}
    with pytest.raises(NotFound, match="not in the trash"):
        localstore.Api(home.root).run(run_id).undelete()

    delete(home, run_id, now=False)
    project = open_project(home)
    later = now_us() + 8 * 86_400 * 10**6
    for place in ("localstore.erase.now_us", "localstore.query.api.now_us"):
        monkeypatch.setattr(place, lambda: later)
    assert ids(home, trashed=True) == set()
    with pytest.raises(UsageError, match="never comes back"):
        undelete_run(project, project.subject(run_id))
    assert sweep(project.paths, project.state.erased(later)) == 2


def test_a_run_that_two_machines_threw_away_comes_back_whole(
    home: HomePaths, laptop: HomePaths
) -> None:
    """Undoing one of two deletions would let the other erase it later."""
    run_id = record(home)
    recover(home, laptop)
    carry(home, laptop)
    for machine in (home, laptop):
        delete(machine, run_id, now=False)
    carry(laptop, home)
    localstore.Api(home.root).run(run_id).undelete()
    assert ids(home) == {run_id}
    carry(home, laptop)
    assert ids(laptop) == {run_id}


def test_deleting_twice_is_deleting_once(home: HomePaths) -> None:
    run_id = record(home)
    project = open_project(home)
    subject = project.subject(run_id)
    first = delete_run(project, subject, now=True)
    count = len(list(project.paths.links.iterdir()))
    assert delete_run(project, subject, now=True) == first
    assert delete_run(project, subject, days=7) == first
    assert len(list(project.paths.links.iterdir())) == count


def test_deleting_at_once_empties_the_trash_too(home: HomePaths) -> None:
    run_id = record(home)
    project = open_project(home)
    subject = project.subject(run_id)
    delete_run(project, subject)
    delete_run(project, subject, now=True)
    assert not (project.paths.keys / subject.hex()).exists()
    with pytest.raises(UsageError, match="never comes back"):
        undelete_run(project, subject)


def test_a_machine_with_a_ticket_deletes_nothing(home: HomePaths, laptop: HomePaths) -> None:
    run_id = record(home)
    raw = make_ticket(open_project(home), now_us() + 10**9)
    enroll(laptop, raw, settings.load({"home": str(laptop.root)}))
    (node,) = Projects(laptop, Vault(laptop).load()).all()
    links = sorted(node.paths.links.iterdir())
    with pytest.raises(NotPermitted):
        delete_run(node, node.subject(run_id), now=True)
    with pytest.raises((NotPermitted, NotFound)):
        undelete_run(node, node.subject(run_id))
    assert sorted(node.paths.links.iterdir()) == links


def test_a_machine_whose_keys_were_replaced_is_told_that_nobody_hears_it(
    home: HomePaths, laptop: HomePaths
) -> None:
    """A deletion that others will not believe must not look like one."""
    from localstore.rotation import revoke_device
    from tests.trust.test_forged_data import id_of

    run_id = record(home)
    recover(home, laptop)
    carry(home, laptop)
    record(laptop)
    carry(laptop, home)
    revoke_device(home, id_of(home, laptop))
    carry(home, laptop)
    project = open_project(laptop)
    with pytest.raises(NotPermitted, match="does not take this machine's word"):
        delete_run(project, project.subject(run_id), now=True)
    assert (project.paths.keys / project.subject(run_id).hex()).exists()
    assert project.subject(run_id).hex() not in open_project(laptop).state.tombstones


def test_a_tombstone_that_arrives_hides_at_once_and_erases_at_the_next_sweep(
    home: HomePaths, laptop: HomePaths
) -> None:
    run_id = record(home)
    recover(home, laptop)
    carry(home, laptop)
    assert ids(laptop) == {run_id}
    delete(home, run_id)
    carry(home, laptop)

    assert ids(laptop) == set()
    project = open_project(laptop)
    subject = project.subject(run_id).hex()
    assert sweep(project.paths, project.state.erased(now_us()))
    assert not (project.paths.keys / subject).exists()
    carry(laptop, home)
    assert ids(home) == set()
    assert not (home.project(project.paths.id).keys / subject).exists()


def test_what_repair_put_aside_is_erased_too(home: HomePaths) -> None:
    """A keyslot with one bad byte in its signature still holds the seed."""
    run_id, other = record(home), record(home)
    project = open_project(home)
    subject, kept = project.subject(run_id).hex(), project.subject(other).hex()
    project.paths.quarantine.mkdir(parents=True)
    for one in (subject, kept):
        (project.paths.quarantine / f"keys-{one}-{'a' * 32}-{'b' * 32}.17").write_bytes(b"slot")
    delete(home, run_id)
    assert [path.name[5:37] for path in project.paths.quarantine.iterdir()] == [kept]


def test_other_runs_stay_as_they_are(home: HomePaths) -> None:
    run_id, other = record(home), record(home)
    delete(home, run_id)
    assert len(localstore.Api(home.root).run(other).table().steps) == 10
    project = open_project(home)
    assert list(keyslots.read_slots(project.paths, project.subject(other)))
    problems: list[Damaged] = []
    assert read_run(project, project.subject(other), (DataClass.META,), problems)
    assert problems == []
