"""What lies on disk is counted by class, without a key, whatever state it is in."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from localstore.format.spec import DataClass
from localstore.store.usage import Usage, measure
from tests.sync.makers import Log, Project, frame, make_project, write

if TYPE_CHECKING:
    from pathlib import Path

S = "11" * 16


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project without runs."""
    return make_project(tmp_path / "home")


def stored(project: Project) -> dict[str, int]:
    """Bytes on disk by class."""
    usage: Usage = measure(project.paths, None)
    assert not usage.readable
    assert not usage.artifacts
    assert usage.total.stored == sum(one.stored for one in usage.classes.values())
    return {name: one.stored for name, one in usage.classes.items()}


def test_everything_on_disk_is_in_some_class(project: Project) -> None:
    project.run()
    project.object(DataClass.MEDIA, 1000)
    files = [path for path in project.paths.root.rglob("*") if path.is_file()]
    assert sum(stored(project).values()) == sum(path.stat().st_size for path in files)


def test_objects_and_logs_count_for_their_class(project: Project) -> None:
    project.object(DataClass.MEDIA, 1000)
    project.object(DataClass.MEDIA, 500)
    project.object(DataClass.CODE, 100)
    log = Log(project, S, DataClass.MEDIA)
    log.records(300)
    found = stored(project)
    assert found["media"] == 1008 + 508 + log.path.stat().st_size
    assert found["code"] == 108


def test_keys_count_as_keys(project: Project) -> None:
    slot = project.keyslot(S)
    assert stored(project)["keys"] == slot.stat().st_size


def test_tails_count_for_the_class_of_their_log_or_as_other(project: Project) -> None:
    log = Log(project, S, DataClass.CONSOLE)
    before = stored(project)
    tail = write(log.path.with_suffix(".t0"), frame(0, 200))
    write(log.path.with_name(f"{'22' * 16}.t0"), frame(0, 200))
    found = stored(project)
    assert found["console"] - before["console"] == tail.stat().st_size
    assert found["other"] - before["other"] == tail.stat().st_size


def test_a_class_of_a_newer_localstore_has_a_number(project: Project) -> None:
    project.object(77, 100)
    Log(project, S, 78)
    found = stored(project)
    assert found["class 77"] == 108
    assert "class 78" in found


def test_what_is_damaged_or_strange_counts_as_other(project: Project) -> None:
    before = stored(project).get("other", 0)
    folder = project.paths.root / "objects" / "ab"
    write(folder / ("ab" * 32), b"no object")
    write(folder / ("ab" + "cd" * 31), b"LS")
    write(project.paths.runs / S / f"{'22' * 16}.log", secrets.token_bytes(600))
    write(project.paths.root / "note", b"mine")
    (project.paths.root / "link").symlink_to(project.paths.root / "note")
    assert stored(project)["other"] - before == 9 + 2 + 600 + 4
