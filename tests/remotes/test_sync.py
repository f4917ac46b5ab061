"""Whole syncs through a bucket: two homes come to hold the same, whatever happens on the way."""

from __future__ import annotations

import random
import secrets
from typing import TYPE_CHECKING

import pytest

from localstore.format.spec import DataClass
from localstore.layout import HomePaths
from localstore.remotes import RemoteEntry, add_remote, read_remotes
from localstored.remotes import claim, open_remote
from localstored.remotes.base import MAX_PIECE_BYTES
from tests.house.servers import CEPH, S3Server
from tests.remotes.faults import SLOW_DOWN, Fault, Request, front
from tests.sync.conftest import sync
from tests.sync.makers import Project, frame, make_project, synced_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from localstored.remotes.base import Remote
    from localstored.report import SyncReport


@pytest.fixture(params=["rclone_s3", pytest.param("ceph", marks=CEPH)])
def server(request: pytest.FixtureRequest) -> S3Server:
    """The quick server, and the real one."""
    found: S3Server = request.getfixturevalue(request.param)
    return found


def home_with(folder: Path, server: S3Server, prefix: str) -> Path:
    """A home that knows one place in the bucket."""
    HomePaths(folder).root.mkdir(parents=True)
    url = f"s3://{server.bucket}/{prefix}"
    add_remote(folder, "cloud", url, claim=claim, **server.options)
    return folder


@pytest.fixture
def homes(tmp_path: Path, server: S3Server) -> tuple[Path, Path]:
    """Two machines with one remote."""
    prefix = secrets.token_hex(8)
    return home_with(tmp_path / "one", server, prefix), home_with(tmp_path / "two", server, prefix)


def fill(home: Path) -> Project:
    """A project with runs, objects of all sizes and a long log."""
    project = make_project(home)
    subject = [project.run() for _ in range(3)][-1]
    sizes = (500, 300_000, MAX_PIECE_BYTES - 8, MAX_PIECE_BYTES, MAX_PIECE_BYTES + 3_000_000)
    project.log(subject, DataClass.ARTIFACTS, refs=[project.object(size=size) for size in sizes])
    project.log(subject, DataClass.MEDIA, frames=90, size=100_000)
    return project


def test_two_homes_hold_the_same_after_a_sync_each(homes: tuple[Path, Path]) -> None:
    one, two = homes
    fill(one)
    for home in (one, two):
        report = sync(home)
        assert report.ok, report.to_json()
    assert synced_bytes(one) == synced_bytes(two)
    assert sync(one).moved == sync(two).moved == 0


def test_a_sync_that_finds_nothing_new_asks_a_handful_of_questions(
    rclone_s3: S3Server, tmp_path: Path
) -> None:
    with front(rclone_s3.endpoint) as network:
        behind = S3Server(network.endpoint, rclone_s3.credentials)
        one = home_with(tmp_path / "one", behind, secrets.token_hex(8))
        project = make_project(one)
        for _ in range(20):
            project.log(project.run(), DataClass.ARTIFACTS, refs=[project.object()])
        assert sync(one).moved > 0
        network.seen.clear()
        assert sync(one).moved == 0
        assert len(network.seen) <= 4, network.seen


def test_a_log_that_grows_arrives_piece_by_piece(homes: tuple[Path, Path]) -> None:
    one, two = homes
    project = make_project(one)
    subject = project.run()
    log = project.log(subject, DataClass.METRICS, frames=1)
    for index in range(1, 30):
        with log.open("ab") as file:
            file.write(frame(index, 50))
        assert sync(one).ok
    assert sync(two).ok
    assert synced_bytes(one) == synced_bytes(two)


def test_an_erased_run_leaves_the_bucket_with_all_its_pieces(
    homes: tuple[Path, Path], server: S3Server
) -> None:
    one, two = homes
    project = make_project(one)
    kept, gone = project.run(), project.run()
    assert sync(one).ok and sync(two).ok
    project.bury(gone)
    assert sync(one).ok and sync(two).ok
    assert synced_bytes(one) == synced_bytes(two)
    remote = open_remote(entry_of(one))
    try:
        names = [entry.name for entry in remote.list("projects/")]
    finally:
        remote.close()
    assert not [name for name in names if gone in name]
    assert [name for name in names if kept in name]


def entry_of(home: Path) -> RemoteEntry:
    """What a home knows of its remote."""
    return read_remotes(home)["cloud"]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "fault",
    [SLOW_DOWN, Fault(cut_after=0), Fault(commits=True, cut_after=0), Fault(cut_after=100)],
    ids=["slow down", "cut", "done and cut", "cut within"],
)
def test_over_a_bad_network_everything_arrives_in_some_syncs(
    rclone_s3: S3Server, tmp_path: Path, fault: Fault, seed: int
) -> None:
    rng, prefix = random.Random(seed), secrets.token_hex(8)

    def trouble(_: Request) -> Fault | None:
        return fault if rng.random() < 0.3 else None

    with front(rclone_s3.endpoint) as network:
        behind = S3Server(network.endpoint, rclone_s3.credentials)
        one = home_with(tmp_path / "one", behind, prefix)
        two = home_with(tmp_path / "two", rclone_s3, prefix)
        project = make_project(one)
        for _ in range(3):
            project.log(project.run(), DataClass.ARTIFACTS, refs=[project.object(size=3000)])
        network.trouble = trouble
        reports: list[SyncReport] = []
        while not (reports and reports[-1].ok and reports[-1].moved == 0):
            assert len(reports) < 30
            reports.append(sync(one, opener=impatient))
    assert sync(two).ok
    assert synced_bytes(one) == synced_bytes(two)


def impatient(entry: RemoteEntry) -> Remote:
    """Open a remote whose waits take no time."""
    return open_remote(entry, sleep=lambda _: None)
