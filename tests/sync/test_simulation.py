"""Seeded histories of three homes and two sticks: whatever happens, all end up with the same.

Writers append, runs are erased, plugs are pulled in the middle of a byte, sticks are set back to
an old copy, catalogs vanish. Then everybody syncs in peace, and the replicas must agree with a
model that knows nothing of sync.
"""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING

import pytest

from localstore.layout import HomePaths
from localstored.remotes.base import Unreachable
from localstored.remotes.memory import MemoryRemote
from tests.sync.conftest import sync_with
from tests.sync.makers import Project, contents, frame, make_project, synced_bytes
from tests.sync.recording import Dying

if TYPE_CHECKING:
    from pathlib import Path


class World:
    """Homes, sticks, and the model: what each living log must hold, and who was erased."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.homes = [folder / f"home{number}" for number in range(3)]
        self.sticks = [MemoryRemote(f"{number:016x}") for number in range(2)]
        self.old = [MemoryRemote(stick.id) for stick in self.sticks]
        self.first = make_project(self.homes[0])
        self.first.keyslot("ee" * 16)  # as the project's own keys: never erased
        self.logs: dict[str, tuple[Path, bytes]] = {}  # by name below a home: its owner, its bytes
        self.erased: set[str] = set()

    def project(self, home: Path) -> Project | None:
        """The project as this home has it, if it has it."""
        paths = HomePaths(home).project(self.first.id)
        if not (paths.root / "FORMAT").exists():
            return None
        first = self.first
        return Project(paths, first.user_seed, first.device_seed, first.cert, first.genesis)

    def act(self) -> None:
        """Something happens."""
        home = self.random.choice(self.homes)
        project = self.project(home)
        actions = [self.sync] * 4
        if project is not None:
            actions += [self.begin, self.append, self.append, self.bury, self.forget]
        self.random.choice([*actions, self.copy_stick, self.set_stick_back])(home)

    def begin(self, home: Path) -> None:
        project = self.project(home)
        assert project is not None
        subject = project.run()
        for log in (project.paths.runs / subject).iterdir():
            self.logs[str(log.relative_to(home))] = (home, log.read_bytes())

    def append(self, home: Path) -> None:
        own = [name for name, (owner, _) in self.logs.items() if owner == home]
        if own:
            name = self.random.choice(own)
            data = self.logs[name][1] + frame(7, self.random.randrange(400))
            if (home / name).exists():
                (home / name).write_bytes(data)
                self.logs[name] = (home, data)

    def bury(self, home: Path) -> None:
        project, subjects = self.project(home), {name.split("/")[3] for name in self.logs}
        assert project is not None
        if subjects and self.random.random() < 0.3:
            subject = self.random.choice(sorted(subjects))
            project.bury(subject)
            self.erased.add(subject)

    def forget(self, home: Path) -> None:
        for catalog in home.rglob("catalog.db"):
            catalog.unlink()

    def sync(self, home: Path) -> None:
        stick = self.random.choice(self.sticks)
        with contextlib.suppress(Unreachable):
            sync_with(home, Dying(stick, self.random.choice([0, 50, 500, 3000, 1 << 30])))

    def copy_stick(self, _: Path) -> None:
        which = self.random.randrange(len(self.sticks))
        self.old[which] = _copy(self.sticks[which])

    def set_stick_back(self, _: Path) -> None:
        if self.random.random() < 0.3:
            which = self.random.randrange(len(self.sticks))
            self.sticks[which] = _copy(self.old[which])

    def settle(self) -> int:
        """Everybody syncs with every stick, until word has gone round; files moved at last."""
        moved = 0
        for _ in range(4):
            moved = 0
            for home in self.homes:
                for stick in self.sticks:
                    report = sync_with(home, stick)
                    assert report.ok, report.to_json()
                    moved += report.moved
        return moved


def _copy(stick: MemoryRemote) -> MemoryRemote:
    fresh = MemoryRemote(stick.id)
    for entry in stick.list(""):
        fresh.create(entry.name, stick.read(entry.name, 0, entry.size))
    return fresh


@pytest.mark.parametrize("seed", range(25))
def test_all_replicas_agree_with_the_model_in_the_end(tmp_path: Path, seed: int) -> None:
    world = World(tmp_path, seed)
    for _ in range(60):
        world.act()

    assert world.settle() == 0

    want = synced_bytes(world.homes[0])
    for home in world.homes:
        assert synced_bytes(home) == want
    for stick in world.sticks:
        assert contents(stick) == want
    living = {
        name: data
        for name, (_, data) in world.logs.items()
        if name.split("/")[3] not in world.erased
    }
    assert {name: data for name, data in want.items() if "/runs/" in name} == living
    assert not [name for name in want if any(subject in name for subject in world.erased)]
