"""What a writer that has gone silent left in its tails leaves too; a live writer is left alone."""

from __future__ import annotations

import os
import secrets
import time
from typing import TYPE_CHECKING

import pytest

from localstore.format import segment
from localstore.format.spec import DataClass, FrameType
from localstored.tails import SILENT_S, copy_tails, silent_tails
from tests.sync.conftest import sync
from tests.sync.makers import NOW_US, Project, frame, make_project

if TYPE_CHECKING:
    from pathlib import Path

NOW_S = NOW_US / 1e6


def record(index: int) -> bytes:
    return frame(index, 60, FrameType.RECORD)


@pytest.fixture
def project(home: Path) -> Project:
    return make_project(home)


def tail(log: Path, content: bytes, number: int = 0, age_s: float = 100.0) -> Path:
    """A tail beside a log, last changed some seconds before now."""
    path = log.with_suffix(f".t{number}")
    path.write_bytes(content)
    os.utime(path, (NOW_S - age_s, NOW_S - age_s))
    return path


def test_a_silent_tail_is_shipped_as_an_immutable_copy(
    home: Path, stick: Path, project: Project
) -> None:
    log = project.log(project.run())
    records = [record(index) for index in range(4)]
    tail(log, b"".join(records[2:]), 0)
    tail(log, b"".join(records[:2]), 1)

    assert sync(home).ok

    (copy,) = home.rglob("*.tail")
    assert copy.read_bytes() == b"".join(records)
    assert (stick / copy.relative_to(home)).read_bytes() == copy.read_bytes()
    assert sync(home).moved == 0
    assert list(home.rglob("*.tail")) == [copy]
    assert not list(stick.rglob("*.t[01]"))


def test_a_record_cut_at_the_end_stays_behind(home: Path, project: Project) -> None:
    log = project.log(project.run())
    tail(log, record(0) + record(1)[:-3])
    assert sync(home).ok
    (copy,) = home.rglob("*.tail")
    assert segment.decode_frame(memoryview(copy.read_bytes()), 0).end == copy.stat().st_size


def test_a_damaged_tail_is_named_and_what_is_before_is_shipped(
    home: Path, project: Project
) -> None:
    log = project.log(project.run())
    bad = bytearray(record(1))
    bad[30] ^= 1
    first = record(0)
    tail(log, first + bad)
    report = sync(home)
    assert not report.ok
    assert report.damaged[0].name.endswith(".t0")
    assert report.damaged[0].offset == len(first)
    assert next(iter(home.rglob("*.tail"))).read_bytes() == first


@pytest.mark.parametrize("content", [b"", b"LF"])
def test_an_empty_tail_makes_no_copy(home: Path, project: Project, content: bytes) -> None:
    tail(project.log(project.run()), content)
    assert sync(home).ok
    assert not list(home.rglob("*.tail"))


def test_the_tail_of_a_held_class_stays_too(home: Path, stick: Path, project: Project) -> None:
    tail(project.log(project.run(), DataClass.CONSOLE), record(0))
    assert sync(home).ok
    assert list(home.rglob("*.tail"))
    assert not list(stick.rglob("*.tail"))


class TestJudgement:
    def test_old_tails_cost_no_wait(self, project: Project) -> None:
        path = tail(project.log("11" * 16), record(0))
        waits: list[float] = []
        assert set(silent_tails([project.paths], NOW_S, waits.append)) == {path}
        assert waits == []

    def test_a_young_tail_is_waited_for_once_and_no_longer_than_needed(
        self, project: Project
    ) -> None:
        young = tail(project.log("11" * 16), record(0), age_s=1.0)
        old = tail(project.log("22" * 16), record(0))
        waits: list[float] = []
        found = silent_tails([project.paths], NOW_S, waits.append)
        assert set(found) == {young, old}
        assert waits == [pytest.approx(SILENT_S - 1.0)]

    def test_a_tail_that_grows_while_we_wait_is_alive(self, project: Project) -> None:
        alive = tail(project.log("11" * 16), record(0), age_s=0.0)
        silent = tail(project.log("22" * 16), record(0), age_s=0.0)

        def grow(_: float) -> None:
            alive.write_bytes(record(0) + record(1))

        assert set(silent_tails([project.paths], NOW_S, grow)) == {silent}

    def test_a_time_in_the_future_is_waited_out(self, project: Project) -> None:
        path = tail(project.log("11" * 16), record(0), age_s=-1e6)
        waits: list[float] = []
        assert set(silent_tails([project.paths], NOW_S, waits.append)) == {path}
        assert waits == [SILENT_S]

    def test_a_fresh_tail_is_waited_for_once_and_three_seconds_at_most(
        self, project: Project
    ) -> None:
        project.log("11" * 16).with_suffix(".t0").write_bytes(record(0))
        waits: list[float] = []
        assert silent_tails([project.paths], time.time(), waits.append)
        assert len(waits) == 1
        assert 0 < waits[0] <= SILENT_S

    def test_a_copy_made_twice_is_one_file(self, project: Project) -> None:
        log = project.log(secrets.token_hex(16))
        path = tail(log, record(0))
        assert copy_tails([path]) == copy_tails([path]) == []
        assert len(list(log.parent.glob("*.tail"))) == 1
