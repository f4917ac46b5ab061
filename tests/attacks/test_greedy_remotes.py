"""Remotes that want more of a machine than they may have."""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import TYPE_CHECKING

from localstore import crypto
from localstore.format import segment, spec
from localstore.format.spec import DataClass
from localstored.remotes.base import Entry
from localstored.remotes.bundlefile import BundleFile
from localstored.remotes.bundleindex import Held
from localstored.remotes.memory import MemoryRemote
from localstored.stamps import MAX_STAMPS
from tests.prune.makers import ended_run, make_world
from tests.sync.conftest import sync_with
from tests.sync.makers import make_project
from tests.sync.recording import Around

if TYPE_CHECKING:
    from collections.abc import ItemsView, Iterator
    from pathlib import Path

    import pytest

DISK_BYTES = 64 * 1024 * 1024
KEPT_BYTES = DISK_BYTES // 50
JUNK_BYTES = 400_000


def test_objects_that_a_remote_names_itself_do_not_take_the_room_of_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of a log that no head covers may be anybody's, and names what is to be pulled."""
    home, remote = tmp_path / "home", MemoryRemote()
    project = make_project(home)
    subject = project.run()
    log = project.log(subject, DataClass.ARTIFACTS)
    assert sync_with(home, remote).ok
    planted = [_plant(remote, project.id) for _ in range(8)]
    name = f"projects/{project.id}/runs/{subject}/{log.name}"
    remote.append(name, log.stat().st_size, segment.encode_ref(planted, 3))

    ask = os.statvfs
    free = [KEPT_BYTES + 3 * JUNK_BYTES]

    def small(path: str) -> os.statvfs_result:
        facts = list(ask(path))
        taken = sum(file.stat().st_size for file in project.paths.objects.rglob("*"))
        facts[0] = facts[1] = 1
        facts[2], facts[3] = DISK_BYTES, free[0]
        facts[4] = max(0, free[0] - taken)
        return os.statvfs_result(facts)

    monkeypatch.setattr(os, "statvfs", small)
    report = sync_with(home, remote, relist=True)
    taken = sum(one.stat().st_size for one in project.paths.objects.rglob("*") if one.is_file())
    assert 0 < taken <= 3 * JUNK_BYTES
    notes = [note.reason for note in report.projects[0].errors]
    assert notes
    assert all("are for runs" in note for note in notes)


def _plant(remote: MemoryRemote, project: str) -> bytes:
    head = bytes([spec.FORMAT_VERSION, spec.SUITE, DataClass.ARTIFACTS, 0])
    content = spec.OBJECT_MAGIC + head + secrets.token_bytes(JUNK_BYTES - 8)
    name = crypto.sha256(content)
    remote.create(f"projects/{project}/objects/{name.hex()[:2]}/{name.hex()}", content)
    return name


class _Counted(dict[str, Held]):
    """Counts how often all names are gone through."""

    rounds = 0

    def __iter__(self) -> Iterator[str]:
        self.rounds += 1
        return super().__iter__()

    def items(self) -> ItemsView[str, Held]:  # type: ignore[override]
        self.rounds += 1
        return super().items()


def test_a_bundle_of_very_many_projects_is_gone_through_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each project is listed: that must not cost a look at the files of all others."""
    path, ids = tmp_path / "b.bundle", [f"{number:064x}" for number in range(500)]
    with contextlib.closing(BundleFile.for_writing(path, now_us=0)) as made:
        for one in ids:
            made.create(f"projects/{one}/FORMAT", b"x")
        made.finish([], 0)
    with contextlib.closing(BundleFile.for_reading(path)) as bundle:
        files = _Counted(bundle.files)
        monkeypatch.setattr(bundle._index, "files", files)
        assert list(bundle.projects()) == ids
        for one in ids:
            found = [entry.name for entry in bundle.list(f"projects/{one}/")]
            assert found == [f"projects/{one}/FORMAT"]
        assert len(list(bundle.list("projects/"))) == len(ids)
        assert len(list(bundle.list(f"projects/{'0' * 63}"))) == 16
        assert not list(bundle.list("stamps"))
        assert files.rounds <= 3


class _Stamped(Around):
    """Lists stamps without end."""

    def list(self, prefix: str) -> Iterator[Entry]:
        yield from super().list(prefix)
        if prefix.endswith("/stamps/"):
            for number in range(100 * MAX_STAMPS):
                self.listed = number
                yield Entry(f"{prefix}{number:016x}-{number:016x}.open", 0)


def test_stamps_without_end_fill_neither_memory_nor_a_file_of_a_prune(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    ended_run(world.project)
    world.push()
    remote, before = _Stamped(world.remote), world.files()
    report = world.prune(opener=lambda _: remote)
    assert "stamps" in report.projects[0].problem
    assert remote.listed <= MAX_STAMPS
    assert world.files() == before
    largest = max(path.stat().st_size for path in world.project.paths.local.rglob("*"))
    assert largest < 1_000_000
