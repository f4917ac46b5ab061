"""Training does not wait for artifacts, and never dies of them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

import localstore
from localstore import Api, Artifact
from localstore.artifacts.background import Background, Job
from localstore.errors import NotFound, StoreError, UsageError
from localstore.store import sources
from tests.artifacts.conftest import log

if TYPE_CHECKING:
    from pathlib import Path

    from localstore.layout import HomePaths


class Told:
    """What a queue said of failures."""

    def __init__(self) -> None:
        self.failures: list[tuple[str, BaseException]] = []
        self.background = Background(lambda label, error: self.failures.append((label, error)))


def test_jobs_run_one_after_another_and_are_waited_for() -> None:
    told, seen = Told(), list[str]()
    gate = threading.Event()

    def first(job: Job) -> None:
        gate.wait(60)
        job(5)
        seen.append("first")

    told.background.submit("first", first, 10)
    told.background.submit("second", lambda _job: seen.append("second"))
    assert told.background.pending().artifacts == ("first", "second")
    assert told.background.pending().total_bytes == 10
    assert not told.background.wait(0.01)
    assert not told.background.wait(0.01, label="second")
    assert told.background.wait(0.01, label="another")
    gate.set()
    assert told.background.wait(60)
    assert seen == ["first", "second"]
    assert told.background.pending().artifacts == ()


def test_a_job_that_fails_is_told_and_the_next_one_runs() -> None:
    told, seen = Told(), list[int]()

    def fail(_job: Job) -> None:
        raise StoreError("no")

    job = told.background.submit("bad", fail)
    told.background.submit("good", lambda _job: seen.append(1))
    assert told.background.wait(60)
    assert seen == [1]
    assert [label for label, _ in told.failures] == ["bad"]
    assert isinstance(job.error, StoreError)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_job_that_kills_its_thread_keeps_nobody_waiting() -> None:
    told, seen = Told(), list[int]()

    def leave(_job: Job) -> None:
        raise SystemExit(3)

    told.background.submit("bad", leave)
    told.background.submit("good", lambda _job: seen.append(1))
    assert told.background.wait(60)
    assert seen == [1]


def test_where_no_thread_can_start_the_work_is_done_by_who_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    told, seen = Told(), list[int]()
    job = told.background.submit("one", lambda _job: seen.append(1))
    assert seen == []
    assert job.wait(60)
    assert seen == [1]


def test_a_job_that_waits_for_itself_does_not_wait_for_ever() -> None:
    told, seen = Told(), list[bool]()
    told.background.submit("one", lambda job: seen.append(job.wait()))
    assert told.background.wait(60)
    assert seen == [False]


def test_a_closed_queue_takes_nothing() -> None:
    told = Told()
    told.background.close()
    with pytest.raises(UsageError, match="too late"):
        told.background.submit("late", lambda _job: None)


def test_an_artifact_that_cannot_be_stored_is_told_and_counted(
    home: HomePaths, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"x")
    with localstore.init(project="digits") as run:
        artifact = Artifact("model", "model")
        artifact.add_file(file, policy="immutable")
        file.unlink()
        run.log_artifact(artifact)
        run.log({"loss": 1.0})
        with pytest.raises(NotFound, match="weights"):
            artifact.wait()
        assert artifact.state == "PENDING"

    assert "weights" in capsys.readouterr().err
    stored = Api().runs()[0]
    assert stored.gaps == {"not stored: model": 1}
    assert stored.state == "finished"
    assert stored.logged_artifacts() == []


def test_an_artifact_that_failed_can_be_logged_again(home: HomePaths, tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"x")
    run = localstore.init(project="digits")
    artifact = Artifact("model", "model")
    artifact.add_file(file, policy="immutable")
    file.unlink()
    with pytest.raises(NotFound):
        run.log_artifact(artifact).wait()
    file.write_bytes(b"y")
    assert run.log_artifact(artifact).wait().version == "v0"


def test_use_waits_for_what_the_same_run_is_logging(home: HomePaths) -> None:
    run = localstore.init(project="digits")
    artifact = Artifact("model", "model")
    for number in range(3):
        artifact = Artifact("model", "model")
        with artifact.new_file("a") as file:
            file.write(str(number))
        run.log_artifact(artifact)
        assert run.use_artifact("model").get_entry("a").read() == str(number).encode()
    run.use_artifact(artifact)
    run.finish()

    stored = Api().runs()[0]
    assert [one.version for one in stored.used_artifacts()] == ["v0", "v1", "v2"]
    with pytest.raises(UsageError, match="finished"):
        run.log_artifact(artifact)


def test_an_artifact_that_is_logged_twice_moves_its_aliases(home: HomePaths) -> None:
    run = localstore.init(project="digits")
    artifact = Artifact("model", "model")
    with artifact.new_file("a") as file:
        file.write("1")
    run.log_artifact(artifact, aliases=["one"])
    run.log_artifact(artifact, aliases=["two"], tags=["t"]).wait()
    assert artifact.aliases == ["latest", "one", "two"]
    assert (artifact.version, artifact.tags) == ("v0", ["t"])


def test_an_older_version_that_is_logged_again_is_latest_again(home: HomePaths) -> None:
    log(home, {"a": "1"})
    log(home, {"a": "2"})
    run = localstore.init(project="digits")
    run.log_artifact(run.use_artifact("model:v0")).wait()
    assert Api().artifact("model").version == "v0"


def test_a_path_gets_a_name_of_its_run(home: HomePaths, tmp_path: Path) -> None:
    (tmp_path / "out:put").write_text("x")
    run = localstore.init(project="digits")
    artifact = run.log_artifact(str(tmp_path / "out:put")).wait()
    assert artifact.name == f"run-{run.id}-out_put:v0"
    assert artifact.type == "unspecified"
    folder = run.log_artifact(tmp_path / "work", name="all", type="dataset").wait()
    assert (folder.file_count, folder.type) == (0, "dataset")
    for wrong in (5, None, tmp_path / "none"):
        with pytest.raises((UsageError, NotFound)):
            run.log_artifact(wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="for a path"):
        run.log_artifact(artifact, name="another")


_FORKS = """
import os, localstore
from localstore.errors import UsageError
run = localstore.init(project="digits")

def make(name, content):
    artifact = localstore.Artifact(name, "model")
    with artifact.new_file("a") as file:
        file.write(content)
    return artifact

run._artifacts.background.submit("slow", lambda job: __import__("time").sleep(0.5))
of_parent = make("model", "parent")
run.log_artifact(of_parent)
child = os.fork()
if child == 0:
    try:
        of_parent.wait()
    except UsageError as error:
        assert "forked" in str(error)
    run.log_artifact(make("model", "child")).wait()
    run.finish()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
of_parent.wait()
"""


def test_a_forked_child_logs_its_own_and_leaves_the_parents_to_the_parent(
    home: HomePaths,
) -> None:
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _FORKS], check=True, timeout=120, env=os.environ
    )
    found = Api().artifacts(name="model")
    assert {one.get_entry("a").read() for one in found} == {b"parent", b"child"}
    assert {one.version for one in found} == {"v0", "v1"}
    assert len(Api().runs()[0].logged_artifacts()) == 2


def test_nothing_is_read_or_walked_in_the_callers_thread_of_a_great_folder(
    home: HomePaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from localstore.artifacts import draft as draft_module

    data = tmp_path / "data"
    data.mkdir()
    for number in range(20):
        (data / str(number)).write_text(str(number))
    threads: list[str] = []

    def watched(root: Path) -> list[tuple[str, str]]:
        threads.append(threading.current_thread().name)
        return sources.walk(root)

    monkeypatch.setattr(draft_module, "walk", watched)
    monkeypatch.setattr(draft_module, "_AT_ONCE", 10)
    run = localstore.init(project="digits")
    assert run.log_artifact(data).wait().file_count == 20
    assert threads == ["localstore-files"]
