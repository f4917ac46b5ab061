"""One damaged run among ten: nine arrive in a bucket, and the exit code says that one did not."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING

import pytest

from localstore.format.spec import DataClass
from localstore.layout import HomePaths
from localstore.remotes import read_remotes
from localstored.remotes import open_remote
from tests.cli.conftest import call
from tests.house.servers import CEPH, S3Server
from tests.sync.makers import Project, contents, make_project, synced_bytes

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["rclone_s3", pytest.param("ceph", marks=CEPH)])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The home of the command, with a bucket as its remote."""
    server: S3Server = request.getfixturevalue(request.param)
    found = HomePaths(tmp_path / "home").root
    url = f"s3://{server.bucket}/{secrets.token_hex(8)}"
    words = ["--endpoint", server.endpoint, "--credentials", server.credentials]
    assert call("remote", "add", "cloud", url, *words).code == 0
    return found


@pytest.fixture
def project(home: Path) -> Project:
    """Ten runs with an object each."""
    made = make_project(home)
    for _ in range(10):
        made.log(made.run(), DataClass.ARTIFACTS, refs=[made.object(size=3000)])
    return made


def in_the_bucket(home: Path) -> dict[str, bytes]:
    """Every file that is there."""
    return contents(open_remote(read_remotes(home)["cloud"]))


def test_a_damaged_log_keeps_itself_here_and_nothing_else(home: Path, project: Project) -> None:
    log = next(path for path in project.paths.runs.glob("*/*.log"))
    log.write_bytes(b"no segment" * 100)
    done = call("sync", "now")
    assert done.code == 69
    assert f"{log.stem}.log at byte 0: not a segment" in done.err
    assert call("sync", "now", "--json").code == 69, "it is told again"
    there, here = in_the_bucket(home), synced_bytes(home)
    assert there.items() <= here.items()
    left = {name for name in here.keys() - there.keys() if "/objects/" not in name}
    assert left == {str(log.relative_to(home))}


def test_a_damaged_object_is_named_and_the_nine_others_arrive(home: Path, project: Project) -> None:
    bad = min((project.paths.root / "objects").glob("*/*"))
    bad.write_bytes(bad.read_bytes()[:-1] + b"\0")
    done = call("sync", "now", "--json")
    assert done.code == 69
    (found,) = json.loads(done.out)["projects"]
    assert [note["name"] for note in found["damaged"]] == [f"objects/{bad.parent.name}/{bad.name}"]
    there = in_the_bucket(home)
    objects = {name.rpartition("/")[2] for name in there if "/objects/" in name}
    wanted = {path.name for path in (project.paths.root / "objects").glob("*/*")} - {bad.name}
    assert objects == wanted
    assert len([name for name in there if name.endswith(".log")]) == 30
