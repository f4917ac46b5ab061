"""Artifacts are read from what lies there: signed, in its place, in the class where it counts."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

import localstore
from localstore import Api
from localstore.appending import SegmentPlan
from localstore.artifacts import reading
from localstore.artifacts.reading import ArtifactReader
from localstore.errors import Damaged, NotFound
from localstore.format.spec import DataClass, RecordKind
from localstore.reading import read_segment
from localstore.writer import Writer
from tests.artifacts.conftest import log, open_project, state

if TYPE_CHECKING:
    from localstore.layout import HomePaths
    from localstore.project import Project


def write(project: Project, subject: bytes, records: list[tuple[DataClass, list[Any]]]) -> None:
    """Segments of any records, signed by this machine as its own would be."""
    writer = Writer(
        lambda lane, own, before: SegmentPlan(
            project=project, subject=subject, pair=project.pair(subject), writer=own,
            data_class=lane[0], predecessors=before,
        ),
        warn=lambda _text: None,
        on_points=lambda _points: None,
    )  # fmt: skip
    for data_class, record in records:
        writer.append(data_class, record)
    assert writer.close() == 0


def folder_of(project: Project, name: str = "model") -> Any:
    return project.paths.runs / project.artifact_subject(name).hex()


def test_records_of_another_name_do_not_count(home: HomePaths) -> None:
    log(home, {"a": "1"})
    project = open_project(home)
    foreign = [RecordKind.ARTIFACT, 1, {"name": "another", "type": "model"}]
    write(project, project.artifact_subject("model"), [(DataClass.META, foreign)])
    write(project, project.artifact_subject("third"), [(DataClass.META, foreign)])

    reader = ArtifactReader(open_project(home))
    assert [found.name for found in reader.all()] == ["model"]
    assert any("another" in str(problem) for problem in reader.problems.values())
    assert reader.read("another").versions == reader.read("third").versions == ()
    with pytest.raises(NotFound):
        reader.require("another")


def test_records_count_in_their_own_class_alone(home: HomePaths) -> None:
    log(home, {"a": "1"})
    project = open_project(home)
    digest = bytes([7]) * 32
    version = [RecordKind.VERSION, 1, 5, digest, {}]
    edit = [RecordKind.EDIT, 1, bytes(16), [], {"delete": state(home).versions[0].digest}]
    subject = project.artifact_subject("model")
    write(project, subject, [(DataClass.META, version), (DataClass.ARTIFACTS, edit)])
    write(project, subject, [(DataClass.METRICS, version), (DataClass.CONSOLE, edit)])

    assert [found.label for found in state(home).versions] == ["v0"]


def test_a_version_that_claims_anothers_manifest_gives_no_other_files(home: HomePaths) -> None:
    log(home, {"a": "1"})
    project = open_project(home)
    (name, key) = state(home).versions[0].manifests[0]
    body = {"manifest": [name, key], "size": 1, "files": 1, "type": "model"}
    version = [RecordKind.VERSION, 1, 5, bytes([7]) * 32, body]
    write(project, project.artifact_subject("model"), [(DataClass.ARTIFACTS, version)])

    with pytest.raises(Damaged, match="not those that its digest names"):
        Api().artifact("model:v5").files()
    assert Api().artifact("model:v0").get_entry("a").read() == b"1"


def test_one_good_manifest_of_several_is_enough(home: HomePaths) -> None:
    log(home, {"a": "1"})
    project = open_project(home)
    body = {"manifest": [bytes(32), bytes(32)], "size": 1, "files": 1}
    digest = state(home).versions[0].digest
    version = [RecordKind.VERSION, 1, 0, digest, body]
    write(project, project.artifact_subject("model"), [(DataClass.ARTIFACTS, version)])

    assert len(state(home).versions[0].manifests) == 2
    assert Api().artifact("model").get_entry("a").read() == b"1"


def test_a_run_that_says_it_is_an_artifact_stays_a_run(home: HomePaths) -> None:
    log(home, {"a": "1"})
    run = localstore.init(project="digits")
    run._append_meta([RecordKind.ARTIFACT, 1, {"name": "model", "type": "x"}])
    run._append_meta([RecordKind.EDIT, 1, bytes(16), [], {"aliases": {"best": bytes(32)}}])
    run.finish()

    assert run.id in {one.id for one in Api().runs()}
    assert [one.name for one in Api().artifacts()] == ["model:v0"]


def test_damage_in_one_log_costs_what_stood_there_and_is_named(home: HomePaths) -> None:
    log(home, {"a": "1"})
    log(home, {"a": "2"})
    log(home, {"a": "1"}, "other")
    project = open_project(home)
    damaged = min(folder_of(project).glob("*.log"))
    raw = bytearray(damaged.read_bytes())
    raw[-200] ^= 1
    damaged.write_bytes(raw)

    api = Api()
    assert "other:v0" in [one.name for one in api.artifacts()]
    assert any(damaged.name in str(problem) for problem in api.problems)
    again = Api()
    again.artifacts()
    assert any(damaged.name in str(problem) for problem in again.problems), "not only once"


def test_the_cache_can_be_deleted_and_says_the_same(home: HomePaths) -> None:
    log(home, {"a": "1"}, "model", "best")
    log(home, {"a": "2"})
    before = ArtifactReader(open_project(home)).all()
    cache = home.all_projects()[0].local / "artifacts.cache"
    assert cache.exists()
    opened: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        read = read_segment

        def watched(project: Project, name: str, **more: Any) -> Any:
            opened.append(name)
            return read(project, name, **more)

        patch.setattr(reading, "read_segment", watched)
        assert ArtifactReader(open_project(home)).all() == before
        assert opened == []
        cache.unlink()
        assert ArtifactReader(open_project(home)).all() == before
        assert opened
    cache.write_bytes(b"nonsense")
    assert ArtifactReader(open_project(home)).all() == before


def test_what_arrives_after_the_first_look_is_seen(home: HomePaths) -> None:
    log(home, {"a": "1"})
    api = Api()
    assert len(api.artifacts(name="model")) == 1
    log(home, {"a": "2"})
    assert len(api.artifacts(name="model")) == 2


def test_of_two_versions_of_a_log_one_is_read(home: HomePaths) -> None:
    log(home, {"a": "1"})
    log(home, {"a": "2"})
    before = state(home)
    project = open_project(home)
    for path in sorted(folder_of(project).glob("*.log")):
        shutil.copy(path, path.with_name(f"{path.stem}-{'0' * 32}.fork"))

    assert ArtifactReader(open_project(home)).read("model") == before


def test_an_erased_artifact_leaves_no_word_in_the_cache(home: HomePaths) -> None:
    from localstore.erase import delete_run, undelete_run

    log(home, {"a": "1"})
    log(home, {"b": "1"}, "other")
    assert len(Api().artifacts()) == 2
    project = open_project(home)
    subject = project.artifact_subject("model")
    delete_run(project, subject)
    assert [one.name for one in Api().artifacts()] == ["other:v0"]
    undelete_run(project, subject)
    assert len(Api().artifacts()) == 2
    delete_run(project, subject, now=True)
    assert [one.name for one in Api().artifacts()] == ["other:v0"]
    assert not folder_of(project).exists()


def test_tails_of_a_writer_that_was_killed_are_read(home: HomePaths) -> None:
    """A version whose log was cut to nothing but its tail would be lost; a record in it is not."""
    log(home, {"a": "1"})
    project = open_project(home)
    subject = project.artifact_subject("model")
    digest = state(home).versions[0].digest
    writer = Writer(
        lambda lane, own, before: SegmentPlan(
            project=project, subject=subject, pair=project.pair(subject), writer=own,
            data_class=lane[0], predecessors=before,
        ),
        warn=lambda _text: None,
        on_points=lambda _points: None,
    )  # fmt: skip
    edit = [RecordKind.EDIT, 9, bytes([9]) * 16, [], {"aliases": {"tail": digest}}]
    writer.append(DataClass.META, edit)
    assert "tail" in ArtifactReader(open_project(home)).read("model").aliases
    writer.close()
    assert "tail" in ArtifactReader(open_project(home)).read("model").aliases
