"""Logging versions: numbers and aliases at once, the same content once, nothing lost on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

import localstore
from localstore import Api, Artifact
from localstore.errors import BadName, NotFound, StoreError, UsageError
from tests.artifacts.conftest import bytes_of, log, open_project, state

if TYPE_CHECKING:
    from pathlib import Path

    from localstore.layout import HomePaths


def test_a_version_has_its_number_and_aliases_at_once_offline(home: HomePaths) -> None:
    run = localstore.init(project="digits")
    artifact = Artifact("model", "model", description="first", metadata={"lr": 0.1})
    with artifact.new_file("weights.txt") as file:
        file.write("1 2 3")
    assert artifact.state == "PENDING"
    assert artifact.name == "model"

    assert run.log_artifact(artifact, aliases=["best"], tags=["small"]) is artifact
    artifact.wait()
    assert (artifact.name, artifact.version, artifact.state) == ("model:v0", "v0", "COMMITTED")
    assert artifact.aliases == ["best", "latest"]
    assert artifact.tags == ["small"]

    found = run.use_artifact("model:best")
    assert (found.description, found.metadata) == ("first", {"lr": 0.1})
    assert found.qualified_name == f"{run.entity}/digits/model:v0"
    assert found.digest == artifact.digest
    assert [entry.path for entry in found.files()] == ["weights.txt"]
    assert found.size == 5


def test_latest_moves_with_each_version_and_own_aliases_when_asked(home: HomePaths) -> None:
    log(home, {"a": "1"}, "model", "best")
    log(home, {"a": "2"})
    log(home, {"a": "3"}, "model", "best")

    api = Api()
    assert [one.version for one in api.artifacts(name="model")] == ["v2", "v1", "v0"]
    assert api.artifact("model").version == api.artifact("model:best").version == "v2"
    assert api.artifact("digits/model:v0").aliases == []


def test_the_same_content_is_the_same_version(home: HomePaths) -> None:
    log(home, {"a": "1", "b/c": "2"})
    log(home, {"a": "other"})
    again = log(home, {"b/c": "2", "a": "1"})

    assert again.version == "v0"
    assert again.aliases == ["latest"]
    assert len(state(home).versions) == 2


def test_a_file_that_is_logged_again_costs_next_to_nothing(home: HomePaths, tmp_path: Path) -> None:
    file = tmp_path / "weights.bin"
    file.write_bytes(os.urandom(5 << 20))
    run = localstore.init(project="digits")
    run.log_artifact(file, name="model", type="model").wait()
    run.flush()
    for _ in range(3):
        before = bytes_of(home)
        os.utime(file)
        assert run.log_artifact(file, name="model", type="model").wait().version == "v0"
        run.flush()
        assert bytes_of(home) - before <= 2048


_LOGS = """
import sys, localstore
with localstore.init(project="digits") as run:
    run.log_artifact(sys.argv[1], name="model", type="model").wait()
"""
_SAVES = """
import sys, localstore
artifact = localstore.Artifact("model", "model")
artifact.add_file(sys.argv[1])
artifact.save("digits")
"""


def test_four_processes_at_once_make_one_version_of_one_content(
    home: HomePaths, tmp_path: Path
) -> None:
    file = tmp_path / "weights.bin"
    file.write_bytes(os.urandom(1 << 20))
    log(home, {"a": "another"}, "other")
    started = [subprocess.Popen([sys.executable, "-c", _LOGS, str(file)]) for _ in range(4)]
    assert [one.wait(120) for one in started] == [0] * 4

    assert [version.label for version in state(home).versions] == ["v0"]


def test_another_process_that_saves_the_same_adds_next_to_nothing(
    home: HomePaths, tmp_path: Path
) -> None:
    file = tmp_path / "weights.bin"
    file.write_bytes(os.urandom(5 << 20))
    subprocess.run([sys.executable, "-c", _SAVES, str(file)], check=True, timeout=120)
    for _ in range(3):
        before = bytes_of(home)
        subprocess.run([sys.executable, "-c", _SAVES, str(file)], check=True, timeout=120)
        assert bytes_of(home) - before <= 2048
    assert [version.label for version in state(home).versions] == ["v0"]


_MANY = """
import sys, localstore
with localstore.init(project="digits") as run:
    for number in range(5):
        artifact = localstore.Artifact("model", "model")
        with artifact.new_file("a") as file:
            file.write(f"{sys.argv[1]} {number}")
        run.log_artifact(artifact)
"""


def test_processes_of_one_home_never_give_a_number_twice(home: HomePaths) -> None:
    log(home, {"a": "first"})
    started = [subprocess.Popen([sys.executable, "-c", _MANY, str(n)]) for n in range(4)]
    assert [one.wait(120) for one in started] == [0] * 4

    labels = [version.label for version in state(home).versions]
    assert labels == [f"v{number}" for number in range(21)]


_KILLED = """
import os, signal, localstore
run = localstore.init(project="digits")
artifact = localstore.Artifact("model", "model")
with artifact.new_file("a") as file:
    file.write("kept")
run.log_artifact(artifact, aliases=["best"]).wait()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_waited_for_survives_a_kill(home: HomePaths) -> None:
    log(home, {"a": "1"}, "other")
    done = subprocess.run([sys.executable, "-c", _KILLED], timeout=120)
    assert done.returncode == -signal.SIGKILL

    found = Api().artifact("model:best")
    assert found.get_entry("a").read() == b"kept"
    assert log(home, {"a": "more"}).version == "v1"


def test_a_process_that_just_ends_has_logged_everything(home: HomePaths) -> None:
    script = _KILLED.replace(".wait()\nos.kill(os.getpid(), signal.SIGKILL)", "")
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)

    run = Api().runs()[0]
    assert [one.name for one in run.logged_artifacts()] == ["model:v0"]


def test_an_artifact_is_saved_without_a_run(home: HomePaths) -> None:
    artifact = Artifact("data", "dataset")
    with artifact.new_file("a.bin", "wb") as file:
        file.write(b"\0\1")
    artifact.ttl = timedelta(days=30)
    artifact.save("digits")

    found = Api().artifact("digits/data:v0")
    assert found.ttl == timedelta(days=30)
    assert found.logged_by() is None
    assert Api().runs() == []


def test_changes_of_a_stored_version_are_kept_by_save(home: HomePaths) -> None:
    log(home, {"a": "1"}, "model", "old", metadata={"deep": {"lr": 1}})
    found = Api().artifact("model")
    found.aliases.append("prod")
    found.aliases.remove("old")
    found.tags = ["good"]
    found.description = "what it is"
    found.metadata["deep"]["lr"] = 0.5
    found.ttl = timedelta(days=1)
    found.save()

    again = Api().artifact("model:prod")
    assert (again.aliases, again.tags) == (["latest", "prod"], ["good"])
    assert (again.description, again.metadata) == ("what it is", {"deep": {"lr": 0.5}})
    assert again.ttl == timedelta(days=1)
    before = bytes_of(home)
    again.save()
    assert bytes_of(home) == before, "nothing changed, nothing written"


def test_a_deleted_version_is_gone_and_its_content_can_be_logged_again(home: HomePaths) -> None:
    log(home, {"a": "1"})
    log(home, {"a": "2"}, "model", "best")
    with pytest.raises(UsageError, match="best"):
        Api().artifact("model:best").delete()
    gone = Api().artifact("model:best")
    gone.delete(delete_aliases=True)

    assert gone.state == "DELETED"
    assert not Api().artifact_exists("model:best")
    assert Api().artifact("model").version == "v0"
    again = log(home, {"a": "2"})
    assert again.version == "v2"
    assert Api().artifact("model:v2").get_entry("a").read() == b"2"


def test_references_of_a_deleted_version_are_cancelled_and_no_others(home: HomePaths) -> None:
    from localstore.store.references import References

    log(home, {"a": "shared" * 9000, "b": "1"})
    log(home, {"a": "shared" * 9000, "b": "2"})

    def needed() -> set[str]:
        project = open_project(home)
        references = References(project.paths)
        references.look()
        return set(references.needed(project.state, ()))

    before = needed()
    Api().artifact("model:v0").delete()
    after = needed()
    assert after < before
    kept = Api().artifact("model:v1")
    entries = {part.object_id.hex() for e in kept.files() for part in e._entry.parts}
    assert entries <= after
    assert {name.hex() for name, _ in state(home).versions[0].manifests} <= after


def test_a_new_draft_has_the_content_of_its_version_and_can_change(home: HomePaths) -> None:
    log(home, {"a": "1", "b": "2"})
    run = localstore.init(project="digits")
    draft = run.use_artifact("model").new_draft()
    draft.remove("b")
    with draft.new_file("c") as file:
        file.write("3")
    run.log_artifact(draft).wait()
    Api().artifact("model:v0").delete()

    assert draft.version == "v1"
    found = Api().artifact("model:v1")
    assert [(e.path, e.read()) for e in found.files()] == [("a", b"1"), ("c", b"3")]


def test_what_is_logged_cannot_change(home: HomePaths) -> None:
    artifact = log(home, {"a": "1"})
    with pytest.raises(UsageError, match="new_draft"), artifact.new_file("b") as file:
        file.write("x")
    with pytest.raises(UsageError, match="new_draft"):
        artifact.remove("a")


def test_what_was_never_logged_says_so(home: HomePaths) -> None:
    artifact = Artifact("model", "model")
    for call in (artifact.wait, artifact.download, artifact.files, artifact.delete):
        with pytest.raises(UsageError, match="never logged"):
            call()


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "a\nb", "..", "x" * 129, "a\\b", "\ud800"])
def test_names_that_could_not_be_asked_for_are_refused(name: str) -> None:
    with pytest.raises(BadName):
        Artifact(name, "model")
    with pytest.raises(BadName):
        Artifact("model", name)


@pytest.mark.parametrize("alias", ["", "v3", "v03", "v3.", "v3.ab12", "a/b", "a:b", "\x1b[2J"])
def test_aliases_that_look_like_something_else_are_refused_at_once(
    home: HomePaths, alias: str, tmp_path: Path
) -> None:
    (tmp_path / "f").write_text("x")
    run = localstore.init(project="digits")
    with pytest.raises(BadName):
        run.log_artifact(tmp_path / "f", aliases=[alias])
    assert run.log_artifact(tmp_path / "f", aliases=["latest"]).wait().version == "v0"


@pytest.mark.parametrize(
    "text", ["", ":", "a:", "a//b", "/a", "a/b/c/d", "a:b:c", "a b:\n", "x" * 200]
)
def test_what_names_no_artifact_is_said_to_name_none(home: HomePaths, text: str) -> None:
    log(home, {"a": "1"})
    with pytest.raises(UsageError):
        Api().artifact(text)


def test_what_is_not_there_is_named_with_what_is(home: HomePaths) -> None:
    log(home, {"a": "1"}, "model", "best")
    with pytest.raises(NotFound) as problem:
        Api().artifact("model:prod")
    assert "best" in problem.value.hint
    with pytest.raises(NotFound):
        Api().artifact("none")
    with pytest.raises(UsageError, match="type"):
        Api().artifact("model", type="dataset")


def test_metadata_that_no_record_holds_is_refused_at_once() -> None:
    with pytest.raises(UsageError):
        Artifact("model", "model", metadata=[1])  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="MiB"):
        Artifact("model", "model", metadata={"a": "x" * (5 << 20)})


def test_what_another_project_has_is_named_with_that_project(home: HomePaths) -> None:
    log(home, {"a": "1"}, "letters")
    with (
        localstore.init(project="words", dir=home.root) as run,
        pytest.raises(NotFound, match="in project 'words'") as missing,
    ):
        run.use_artifact("letters:latest")
    assert "digits/letters" in missing.value.hint


def test_one_name_in_two_projects_is_asked_about(home: HomePaths) -> None:
    log(home, {"a": "1"})
    artifact = Artifact("model", "model")
    with artifact.new_file("a") as file:
        file.write("2")
    artifact.save("letters")

    with pytest.raises(UsageError, match="several"):
        Api().artifact("model")
    assert Api().artifact("letters/model").get_entry("a").read() == b"2"
    run = localstore.init(project="digits")
    assert run.use_artifact("model").get_entry("a").read() == b"1"
    assert run.use_artifact("letters/model:v0").project == "letters"


def test_runs_are_listed_without_artifacts(home: HomePaths) -> None:
    log(home, {"a": "1"})
    assert len(Api().runs()) == 1
    assert Api().problems == []


def test_an_artifact_that_was_deleted_as_a_whole_is_not_logged_again(home: HomePaths) -> None:
    from localstore.erase import delete_run

    log(home, {"a": "1"})
    project = open_project(home)
    delete_run(project, project.artifact_subject("model"), now=True)

    assert Api().artifacts() == []
    with pytest.raises(UsageError, match="deleted"):
        Artifact("model", "model").save("digits")


def test_waiting_has_an_end(home: HomePaths) -> None:
    run = localstore.init(project="digits")
    gate = threading.Event()
    run._artifacts.background.submit("slow", lambda _job: [gate.wait(60)].clear())
    artifact = Artifact("model", "model")
    run.log_artifact(artifact)
    with pytest.raises(StoreError, match="not stored"):
        artifact.wait(timeout=0.01)
    gate.set()
    assert artifact.wait().file_count == 0
