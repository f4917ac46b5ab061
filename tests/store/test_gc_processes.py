"""A collector without any grace in one process, writers that find its prey useful in another."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import localstore
from localstore.durable import sync_file
from localstore.format.spec import DataClass
from localstore.layout import HomePaths
from localstore.project import Project as Opened
from localstore.store.ingest import Ingest
from localstore.store.manifests import load_entries
from localstore.store.objects import ObjectFiles
from localstore.store.sources import Source
from localstore.vault import Vault
from tests.sync.makers import Log, Project

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from localstore.layout import ProjectPaths

ROUNDS = 40
COLLECTOR = """
import sys
from pathlib import Path
from localstore.layout import ProjectPaths
from localstore.store.gc import collect
from localstore.trust import read_project

paths, stop, freed = ProjectPaths(Path(sys.argv[1])), Path(sys.argv[2]), 0
print("ready", flush=True)
while not stop.exists():
    freed += collect(paths, read_project(paths), grace_s=0).freed
print(freed)
"""


@pytest.fixture
def opened() -> Opened:
    """A project with keys."""
    localstore.init(project="digits").finish()
    home = HomePaths(Path(os.environ["LOCALSTORE_HOME"]))
    (paths,) = home.all_projects()
    return Opened(paths, Vault(home).load())


@contextlib.contextmanager
def collectors(paths: ProjectPaths, stop: Path) -> Iterator[list[int]]:
    """Two processes that free what they can, all the time; what they freed stands there later."""
    freed: list[int] = []
    words = [sys.executable, "-c", COLLECTOR, str(paths.root), str(stop)]
    found = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for one in found:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    try:
        yield freed
    finally:
        stop.touch()
        for one in found:
            out, _ = one.communicate(timeout=60)
            assert one.returncode == 0
            freed.append(int(out))


def test_a_writer_that_relies_on_what_is_being_freed_never_loses_it(
    opened: Opened, tmp_path: Path
) -> None:
    sources = [Source(f"{number}.bin", os.urandom(300_000)) for number in range(3)]
    with collectors(opened.paths, tmp_path / "stop") as freed:
        for _ in range(ROUNDS):
            log = write_version(opened, sources)
            # The version is deleted: the next one finds its objects, or finds them vanish.
            log.unref(log, *range(log.count))
            log.head(final=True)
    assert sum(freed) > ROUNDS


def write_version(opened: Opened, sources: list[Source]) -> Log:
    """Log the same content again, and read all of it back."""
    maker = Project(opened.paths, b"", opened.device_seed, opened.cert, b"")
    log = Log(maker, opened.artifact_subject("data").hex(), DataClass.ARTIFACTS)

    def refer(objects: Sequence[bytes]) -> None:
        log.ref(*objects)
        sync_file(log.path)

    ingest = Ingest(opened, DataClass.ARTIFACTS, refer=refer)
    entries = ingest.run(sources)
    manifest, key = ingest.store_manifest(entries)

    assert load_entries(opened, manifest, key) == entries
    files = ObjectFiles(opened.paths)
    for part in (part for entry in entries for part in entry.parts):
        content = files.read_object(part.object_id, part.key).content
        assert len(content) >= part.offset + part.length
    return log
