"""What `pull` promises: what comes back is what went, and a kill leaves nothing in doubt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from localstore import pruned
from localstore.errors import AlreadyExists, NotFound
from localstore.format.spec import DataClass
from localstored.remotes.base import Unreachable
from localstored.remotes.memory import MemoryRemote
from tests.prune.makers import ended_run, object_path, push_all

if TYPE_CHECKING:
    from pathlib import Path

    from localstored.pruning.restoring import Progress
    from tests.prune.makers import World


def stubs_of(world: World) -> list[Path]:
    """Every file below the folder of stubs."""
    top = world.project.paths.root / "stubs"
    return [path for path in top.rglob("*") if path.is_file()]


def test_what_comes_back_is_what_went_byte_for_byte(world: World) -> None:
    for _ in range(3):
        ended_run(world.project)
    world.push()
    before = world.files()
    freed = world.prune().bytes
    assert world.files() != before

    report = world.restore()

    assert report.ok
    assert world.files() == before
    assert report.bytes == freed
    assert stubs_of(world) == []


def test_one_run_comes_back_and_the_others_do_not(world: World) -> None:
    wanted, other = ended_run(world.project), ended_run(world.project)
    world.push()
    world.prune()
    assert world.restore(subjects=[wanted.subject]).items == 5
    assert wanted.logs[DataClass.METRICS].path.exists()
    assert object_path(world.project, wanted.objects[0]).exists()
    assert not other.logs[DataClass.METRICS].path.exists()
    assert not object_path(world.project, other.objects[0]).exists()


def test_classes_and_single_objects_can_be_asked_for(world: World) -> None:
    run = ended_run(world.project)
    world.push()
    world.prune()
    world.restore(subjects=[], objects=[run.objects[0].hex()])
    assert object_path(world.project, run.objects[0]).exists()
    assert not run.logs[DataClass.METRICS].path.exists()
    world.restore(classes=[DataClass.METRICS])
    assert run.logs[DataClass.METRICS].path.exists()
    assert not run.logs[DataClass.CONSOLE].path.exists()


def test_progress_counts_to_the_end(world: World) -> None:
    ended_run(world.project)
    world.push()
    world.prune()
    seen: list[Progress] = []
    world.restore(on_progress=seen.append)
    assert [one.done_items for one in seen] == [1, 2, 3, 4, 5]
    assert (seen[-1].items, seen[-1].done_bytes) == (5, seen[-1].bytes)


def test_a_dry_run_says_what_would_come(world: World) -> None:
    ended_run(world.project)
    world.push()
    freed, files = world.prune().bytes, world.files()
    report = world.restore(dry_run=True)
    assert (report.items, report.bytes) == (5, freed)
    assert world.files() == files


def test_a_remote_with_other_bytes_brings_nothing_and_the_stub_stays(world: World) -> None:
    run = ended_run(world.project)
    other = ended_run(world.project)
    world.push()
    world.prune()
    names = [run.names(DataClass.METRICS)[0], other.names(DataClass.METRICS)[0]]
    there = [f"projects/{world.project.id}/{name}" for name in names]
    swapped = world.remote.read(there[1], 0, 1 << 20)
    world.remote.delete(there[0])
    world.remote.create(there[0], swapped)
    report = world.restore(subjects=[run.subject])
    assert set(report.projects[0].failed) == {names[0]}
    assert not run.logs[DataClass.METRICS].path.exists()
    assert pruned.is_pruned(world.project.paths, *names[0][5:-4].split("/"))
    assert object_path(world.project, run.objects[0]).exists()


def test_a_log_that_was_cut_on_the_remote_is_refused(world: World) -> None:
    run = ended_run(world.project)
    world.push()
    world.prune()
    name = f"projects/{world.project.id}/{run.names(DataClass.METRICS)[0]}"
    raw = world.remote.read(name, 0, 1 << 20)
    world.remote.delete(name)
    world.remote.create(name, raw[:-200])
    assert not world.restore().ok
    assert not run.logs[DataClass.METRICS].path.exists()


def test_another_remote_helps_when_the_first_lost_it(world: World, tmp_path: Path) -> None:
    from localstore.remotes import add_remote

    run = ended_run(world.project)
    world.push()
    entry = add_remote(world.home, "second", str(tmp_path / "second"))
    second = MemoryRemote(entry.id)
    push_all(world.project, second)
    before = world.files()
    world.prune(remotes=["stick"])
    empty = MemoryRemote(world.remote.id)
    both = {world.remote.id: empty, entry.id: second}
    assert world.restore(opener=lambda one: both[one.id]).ok
    assert world.files() == before
    assert run.logs[DataClass.METRICS].path.exists()


def test_a_remote_that_is_away_is_named_and_what_it_has_stays_pruned(world: World) -> None:
    ended_run(world.project)
    world.push()
    world.prune()

    def opener(entry: object) -> MemoryRemote:
        raise Unreachable("not mounted")

    report = world.restore(opener=opener)
    assert report.unreachable == {"stick": "not mounted"}
    assert len(report.projects[0].failed) == 5
    assert world.restore().ok


def test_nobody_prunes_while_somebody_pulls(world: World) -> None:
    ended_run(world.project)
    world.push()
    with pruned.lock(world.project.paths):
        (said,) = world.prune().projects
        assert "another process" in said.problem
        with pytest.raises(AlreadyExists):
            world.restore()


def test_stubs_beside_what_is_here_mean_nothing_and_go(world: World) -> None:
    """As a killed prune, or a content that was stored again, leaves them."""
    ended_run(world.project)
    world.push()
    before = world.files()
    world.prune()
    for name, raw in before.items():
        world.project.paths.file(name).write_bytes(raw)
    assert list(pruned.absent_logs(world.project.paths)) == []
    assert world.restore().items == 0
    assert stubs_of(world) == []


def test_an_unknown_remote_is_an_error(world: World) -> None:
    with pytest.raises(NotFound, match="cloud"):
        world.restore(remotes=["cloud"])
