"""Several homes and sticks: both ways, forks, and erasure that reaches every copy."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from localstore.format.spec import DataClass
from localstore.layout import HomePaths
from tests.sync.conftest import sync
from tests.sync.makers import NOW_US, Project, frame, make_project, synced_bytes, with_remote

if TYPE_CHECKING:
    from pathlib import Path


def size_of(root: Path) -> int:
    """Bytes that replicas exchange below a home."""
    return sum(map(len, synced_bytes(root).values()))


class TestTwoHomes:
    def test_two_homes_come_to_hold_the_same(self, home: Path, other: Path, stick: Path) -> None:
        project = make_project(home)
        project.log(project.run(), DataClass.ARTIFACTS, refs=[project.object()])
        assert sync(home).ok
        assert sync(other).ok
        assert synced_bytes(other) == synced_bytes(home)

        there = Project(
            HomePaths(other).project(project.id),
            project.user_seed,
            project.device_seed,
            project.cert,
            project.genesis,
        )
        subject = there.run()
        there.log(subject, DataClass.MEDIA, refs=[there.object(DataClass.MEDIA)])
        for place in (other, home, other):
            assert sync(place).ok
        assert synced_bytes(other) == synced_bytes(home) == synced_bytes(stick)
        for place in (home, other):
            assert sync(place).moved == 0

    def test_a_run_that_grows_here_grows_there(self, home: Path, other: Path) -> None:
        project = make_project(home)
        log = project.log(project.run(), DataClass.MEDIA)
        for index in range(3, 7):
            with log.open("ab") as file:
                file.write(frame(index))
            assert sync(home).ok
            report = sync(other)
            assert report.ok
            assert report.projects[0].pulled_bytes == (
                len(frame(0)) if index > 3 else size_of(other)
            )
            assert synced_bytes(other) == synced_bytes(home)

    def test_a_pull_cut_inside_a_frame_is_mended(self, home: Path, other: Path) -> None:
        project = make_project(home)
        log = project.log(project.run(), DataClass.MEDIA)
        sync(home)
        sync(other)
        with log.open("ab") as file:
            file.write(frame(3))
        sync(home)
        copy = other / log.relative_to(home)
        for half in (log.read_bytes()[: copy.stat().st_size + 20], copy.read_bytes() + b"LF\1"):
            copy.write_bytes(half)
            assert sync(other).ok
            assert copy.read_bytes() == log.read_bytes()

    def test_a_project_of_strangers_stays_on_the_stick(self, home: Path, other: Path) -> None:
        make_project(home).run()
        sync(home)
        report = sync(other, recipients=frozenset({"ab" * 16}))
        assert report.ok
        assert report.projects == []
        assert not (other / "projects").exists()

    def test_a_pruned_log_is_not_pulled_again(self, home: Path) -> None:
        project = make_project(home)
        log = project.log(project.run(), DataClass.MEDIA)
        sync(home)
        stub = project.paths.root / "stubs" / log.parent.name / log.stem
        stub.parent.mkdir(parents=True)
        stub.write_text("{}")
        log.unlink()
        assert sync(home).moved == 0
        assert not log.exists()


class TestForks:
    def test_two_versions_of_a_log_are_both_kept_on_every_side(
        self, home: Path, other: Path, stick: Path
    ) -> None:
        project = make_project(home)
        log = project.log(project.run(), DataClass.MEDIA)
        sync(home)
        sync(other)
        copy, begin = other / log.relative_to(home), log.read_bytes()
        mine, theirs = begin + frame(3) + frame(4), begin + frame(3)
        log.write_bytes(mine)
        copy.write_bytes(theirs)

        sync(home)
        report = sync(other)
        sync(home)

        assert report.ok
        assert len(report.projects[0].forks) == 1
        assert log.read_bytes() == mine
        assert copy.read_bytes() == theirs
        (fork_here,), (fork_there,) = home.rglob("*.fork"), other.rglob("*.fork")
        assert fork_here.read_bytes() == theirs
        assert fork_there.read_bytes() == mine
        for place in (home, other, home):
            report = sync(place)
            assert report.ok
            assert report.moved == 0, report.to_json()
        assert {mine, theirs} == {
            path.read_bytes() for path in stick.rglob(f"{log.stem}*") if path.is_file()
        }


class TestErasure:
    def test_a_tombstone_erases_here_there_and_on_the_stick(
        self, home: Path, other: Path, stick: Path
    ) -> None:
        project = make_project(home)
        kept, gone = project.run(), project.run()
        shared, alone = project.object(), project.object()
        project.log(kept, DataClass.ARTIFACTS, refs=[shared])
        log = project.log(gone, DataClass.ARTIFACTS, refs=[shared, alone])
        log.with_suffix(".t0").write_bytes(frame(9, kind=3))
        sync(home)
        sync(other)
        project.bury(gone)

        for place in (home, other):
            assert sync(place).ok

        for place in (home, other, stick):
            names = [str(path) for path in place.rglob("*") if path.is_file()]
            assert not [name for name in names if f"/{gone}/" in name]
            assert not [name for name in names if alone.hex() in name]
            assert [name for name in names if shared.hex() in name]
            assert len([name for name in names if f"/{kept}/" in name]) == 4
            assert not (place / "projects" / project.id / "runs" / gone).exists()

    def test_an_old_stick_never_brings_an_erased_run_back(self, home: Path, tmp_path: Path) -> None:
        project = make_project(home)
        gone = project.run()
        project.log(gone, DataClass.ARTIFACTS, refs=[project.object()])
        with_remote(home, tmp_path / "old", "old")
        sync(home)
        project.bury(gone)
        assert sync(home, remotes=["stick"]).ok

        report = sync(home, remotes=["old"])

        assert report.ok
        for place in (home, tmp_path / "old"):
            assert not [p for p in place.rglob("*") if gone in str(p) and "local/" not in str(p)]
            assert not [p for p in place.rglob("objects/*/*") if p.is_file()]
        fresh = with_remote(tmp_path / "fresh", tmp_path / "old")
        assert sync(fresh).ok
        assert not [p for p in fresh.rglob("*") if gone in str(p)]

    def test_a_run_in_the_trash_is_still_there(self, home: Path, stick: Path) -> None:
        project = make_project(home)
        subject = project.run()
        project.bury(subject, NOW_US + 1)
        assert sync(home).ok
        assert (stick / "projects" / project.id / "runs" / subject).exists()

    def test_a_stranger_cannot_erase(self, home: Path, stick: Path) -> None:
        project = make_project(home)
        subject = project.run()
        project.user_seed = secrets.token_bytes(32)
        project.bury(subject)
        sync(home)
        assert (stick / "projects" / project.id / "runs" / subject).exists()

    def test_an_object_is_kept_while_a_damaged_log_may_refer_to_it(self, home: Path) -> None:
        project = make_project(home)
        kept, gone = project.run(), project.run()
        alone = project.object()
        project.log(gone, DataClass.ARTIFACTS, refs=[alone])
        sync(home)
        damaged = project.log(kept, DataClass.ARTIFACTS, refs=[alone])
        raw = bytearray(damaged.read_bytes())
        raw[-300] ^= 1
        damaged.write_bytes(raw)
        project.bury(gone)
        sync(home)
        assert [path for path in home.rglob(alone.hex())]
