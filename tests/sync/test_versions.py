"""Seeded histories of versions that share their objects: logged, deleted, collected, synced.

Three homes and two sticks, with the accidents of `test_simulation`. In the end every replica holds
what a version that lives needs, and nothing else.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from localstore import crypto
from localstore.format import spec
from localstore.format.spec import DataClass
from localstore.layout import object_name
from localstore.store.gc import collect
from localstore.trust import read_project
from tests.sync.makers import NOW_US, Log, contents, synced_bytes, write
from tests.sync.test_simulation import World

if TYPE_CHECKING:
    from pathlib import Path

SUBJECT = "dd" * 16
DAY_US = 24 * 3600 * 1_000_000


class Versions(World):
    """The model: which objects each version needs, and which versions are deleted."""

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__(folder, seed)
        head = spec.OBJECT_MAGIC + bytes([spec.FORMAT_VERSION, spec.SUITE, DataClass.ARTIFACTS, 0])
        pool = [head + secrets.token_bytes(200) for _ in range(8)]
        self.pool = {crypto.sha256(raw): raw for raw in pool}
        self.versions: dict[str, tuple[Log, list[bytes]]] = {}  # by the name of the log
        self.deleted: set[str] = set()

    def act(self) -> None:
        home = self.random.choice(self.homes)
        actions = [self.sync] * 3
        if self.project(home) is not None:
            actions += [self.log, self.log, self.delete, self.collect, self.forget]
        self.random.choice([*actions, self.copy_stick, self.set_stick_back])(home)

    def log(self, home: Path) -> None:
        """A writer relies on what is here, and stores what is not."""
        project = self.project(home)
        assert project is not None
        wanted = self.random.sample(sorted(self.pool), self.random.randint(1, 3))
        for one in wanted:
            path = project.paths.file(object_name(one))
            if not path.exists():
                write(path, self.pool[one])
        log = Log(project, SUBJECT)
        log.ref(*wanted)
        log.records()
        log.head()
        self.versions[log.name] = (log, wanted)

    def delete(self, home: Path) -> None:
        """A version that has arrived here is deleted, days ago."""
        project = self.project(home)
        assert project is not None
        here = [name for name in sorted(self.versions) if project.paths.file(name).exists()]
        if here:
            name = self.random.choice(here)
            log = Log(project, SUBJECT, DataClass.META)
            log.unref(self.versions[name][0], 0)
            log.head(time_us=NOW_US - 2 * DAY_US)
            self.deleted.add(name)

    def collect(self, home: Path) -> None:
        """The collector of one home, with no grace."""
        project = self.project(home)
        assert project is not None
        report = collect(project.paths, read_project(project.paths), grace_s=0, now_us=NOW_US)
        assert not report.held

    def needed(self) -> set[bytes]:
        """What the versions that live need."""
        living = (v for name, v in self.versions.items() if name not in self.deleted)
        return {one for _, wanted in living for one in wanted}


@pytest.mark.parametrize("seed", range(25))
def test_in_the_end_everybody_has_what_living_versions_need_and_no_more(
    tmp_path: Path, seed: int
) -> None:
    world = Versions(tmp_path, seed)
    for _ in range(60):
        world.act()

    assert world.settle() == 0

    want = synced_bytes(world.homes[0])
    for home in world.homes:
        assert synced_bytes(home) == want
    for stick in world.sticks:
        assert contents(stick) == want
    objects = {bytes.fromhex(name[-64:]) for name in want if "/objects/" in name}
    assert objects == world.needed()
