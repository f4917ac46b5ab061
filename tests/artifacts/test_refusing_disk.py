"""A disk that refuses while an artifact is logged: told, and whole when it is tried again."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

import localstore
from localstore import Api, Artifact
from localstore.artifacts import editing
from localstore.artifacts.session import Session
from localstore.errors import LocalStoreError
from localstore.format.spec import DataClass
from tests.artifacts.conftest import log, open_project, options, state
from tests.attacks.bad_disk import always, failing, from_on

if TYPE_CHECKING:
    from localstore.layout import HomePaths


def artifact_of(content: bytes) -> Artifact:
    artifact = Artifact("model", "model")
    with artifact.new_file("a", "wb") as file:
        file.write(content)
    return artifact


@pytest.mark.parametrize("call", ["pwrite", "fdatasync", "rename", "replace", "mkdir"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_training_goes_on_and_the_next_attempt_is_whole(
    home: HomePaths, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    log(home, {"a": "before"})
    run = localstore.init(project="digits")
    artifact = artifact_of(b"x" * 300_000)
    with failing(monkeypatch, call, always, code):
        run.log_artifact(artifact)
        run.log({"loss": 1.0})
        run._artifacts.background.wait(120)
    run.log_artifact(artifact).wait()
    run.finish()

    assert Api().artifact("model").get_entry("a").read() == b"x" * 300_000
    assert Api().artifact("model").version in ("v1", "v2")
    assert Api().run(run.id).summary["loss"] == 1.0
    assert Api().problems == []


@pytest.mark.parametrize("number", [1, 2, 3, 5, 8, 13])
def test_a_disk_that_fails_somewhere_in_the_middle_leaves_all_or_nothing(
    home: HomePaths, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    log(home, {"a": "before"})
    artifact = artifact_of(b"x" * 300_000)
    with failing(monkeypatch, "pwrite", from_on(number), errno.ENOSPC) as fault:
        try:
            artifact.save("digits")
        except (LocalStoreError, OSError):
            assert artifact.state == "PENDING"
        fault.healed = True
    for found in Api().artifacts(name="model"):
        assert found.get_entry("a").read() in (b"before", b"x" * 300_000)
    artifact.save("digits")
    assert Api().artifact("model").get_entry("a").read() == b"x" * 300_000


def test_references_of_a_logging_that_gave_up_are_cancelled_and_of_one_under_way_not(
    home: HomePaths,
) -> None:
    log(home, {"a": "1"})
    project = open_project(home)
    said: list[str] = []
    with Session(project, "model", "model", options(home), said.append) as session:
        session.refer(DataClass.ARTIFACTS, [bytes([7]) * 32])
        assert editing.release(project, "model", options(home), said.append) == 0
    assert editing.release(project, "model", options(home), said.append) == 1
    assert editing.release(project, "model", options(home), said.append) == 0, "not twice"
    assert len(state(home).versions) == 1
    assert said == []
