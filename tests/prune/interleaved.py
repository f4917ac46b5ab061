"""Two replicas and one remote: one collects there while the other syncs and prunes, in any order.

The engine, prune and the collector are the real ones; each verb of the remote is a point where the
other one may go on, or where one is killed. One seed is one schedule.
"""

from __future__ import annotations

import random
import shutil
import threading
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from localstore import pruned
from localstore.format.spec import DataClass
from localstore.layout import HomePaths
from localstore.remotes import read_remotes
from localstore.store.gc import collect as collect_here
from localstore.store.references import References
from localstore.trust import read_project
from localstored.crew import Inline
from localstored.pruning.prune import prune
from localstored.pruning.remotegc import collect
from localstored.pruning.restoring import restore
from localstored.remotes.base import Unreachable
from localstored.remotes.memory import MemoryRemote
from tests.prune.makers import ended_run, make_world
from tests.sync.conftest import sync_with
from tests.sync.makers import NOW_US, Project
from tests.sync.recording import Around

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

    from localstored.remotes.base import Entry, Remote


class Killed(BaseException):
    """SIGKILL at a verb: nothing that follows has an effect."""


class Actor:
    """Somebody who takes one step, up to the next verb, when told to."""

    def __init__(self, work: Callable[[Remote], object], remote: Remote, dies_at: int) -> None:
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self.done = False
        self.error: BaseException | None = None
        self._steps, self._dies_at = 0, dies_at
        self._thread = threading.Thread(target=self._run, args=(work, Scheduled(remote, self)))
        self._thread.start()
        self._stopped.acquire()

    def _run(self, work: Callable[[Remote], object], remote: Remote) -> None:
        self._pause()
        try:
            work(remote)
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001 - shown by whoever scheduled it
            self.error = error
        self.done = True
        self._stopped.release()

    def _pause(self) -> None:
        self._stopped.release()
        self._go.acquire()

    def at_verb(self) -> None:
        """Before a verb of the remote, in whichever thread of this actor."""
        if self._steps < self._dies_at:
            self._pause()
        self._steps += 1
        if self._steps > self._dies_at:
            raise Killed

    def step(self) -> None:
        """Let it go on."""
        self._go.release()
        self._stopped.acquire()
        if self.done:
            self._thread.join()


class Scheduled(Around):
    """A remote whose verbs wait for their actor's turn."""

    def __init__(self, inner: Remote, actor: Actor) -> None:
        super().__init__(inner)
        self._actor = actor

    def projects(self) -> Iterator[str]:
        self._actor.at_verb()
        yield from list(super().projects())

    def list(self, prefix: str) -> Iterator[Entry]:
        self._actor.at_verb()
        yield from list(super().list(prefix))

    def have(self, names: Collection[str]) -> Mapping[str, int]:
        self._actor.at_verb()
        return super().have(names)

    def read(self, name: str, offset: int, length: int) -> bytes:
        self._actor.at_verb()
        return super().read(name, offset, length)

    def digest(self, name: str, length: int) -> bytes:
        self._actor.at_verb()
        return super().digest(name, length)

    def create(self, name: str, data: bytes) -> None:
        self._actor.at_verb()
        super().create(name, data)

    def append(self, name: str, offset: int, data: bytes) -> None:
        self._actor.at_verb()
        super().append(name, offset, data)

    def delete(self, name: str) -> None:
        self._actor.at_verb()
        super().delete(name)

    def confirm(self, name: str, length: int, source: Path) -> bool:
        self._actor.at_verb()
        return super().confirm(name, length, source)


@dataclass
class Template:
    """Two homes and a remote in step, and an object there that nothing refers to any more."""

    folder: Path
    project: Project
    orphan: bytes
    remote_id: str
    files: dict[str, bytes] = field(default_factory=dict)


def make_template(folder: Path) -> Template:
    """Both replicas remember what the remote lists."""
    world = make_world(folder)
    ended_run(world.project)
    orphan = world.project.object(DataClass.MEDIA)
    world.push()
    first, second = world.home, folder / "second"
    shutil.copytree(first, second)
    for home in (first, second, first, second):
        assert sync_with(home, world.remote).ok
    remote = world.remote
    files = {entry.name: remote.read(entry.name, 0, entry.size) for entry in remote.list("")}
    return Template(folder, world.project, orphan, remote.id, files)


class World:
    """One schedule's copy of the template."""

    def __init__(self, template: Template, folder: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.homes = [folder / "first", folder / "second"]
        for name, home in zip(("home", "second"), self.homes, strict=True):
            shutil.copytree(template.folder / name, home)
        self.remote = MemoryRemote(template.remote_id)
        for file, content in template.files.items():
            self.remote.create(file, content)
        paths = HomePaths(self.homes[1]).project(template.project.id)
        old = template.project
        self.project = Project(paths, old.user_seed, old.device_seed, old.cert, old.genesis)
        self.orphan, self.deleted = template.orphan, 0
        self.raw = {template.orphan: self._read(template.orphan)}

    def _read(self, object_id: bytes) -> bytes:
        return (self.project.paths.objects / object_id.hex()[:2] / object_id.hex()).read_bytes()

    # -------------------------------------------------------------- who is at work
    def sync(self, home: Path, remote: Remote) -> None:
        """The engine, in one thread."""
        crew = partial(Inline, chance=random.Random(self.chance.random()))
        sync_with(home, remote, crew=crew)

    def collector(self, remote: Remote) -> None:
        """The first home: now and then a sync, and collections without any grace."""
        if self.chance.random() < 0.3:
            self.sync(self.homes[0], remote)
        for _ in range(self.chance.randint(1, 3)):
            report = collect(
                self.homes[0],
                remote=_name(self.homes[0]),
                grace_us=0,
                clock=lambda: NOW_US,
                opener=lambda entry: remote,
            )
            self.deleted += sum(one.deleted for one in report.projects)

    def user(self, remote: Remote) -> None:
        """The second home: a run that refers to the orphan, which is there; synced and pruned."""
        fresh = self.project.object(DataClass.MEDIA)
        self.raw[fresh] = self._read(fresh)
        if self.chance.random() < 0.3:
            self.sync(self.homes[1], remote)
        ended_run(self.project, objects=[self.orphan, fresh])
        for _ in range(self.chance.randint(1, 2)):
            self.sync(self.homes[1], remote)
            self.prune(remote)

    def prune(self, remote: Remote) -> None:
        """Prune the second home as far as it may."""
        prune(self.homes[1], grace_us=0, clock=lambda: NOW_US, opener=lambda entry: remote)

    # -------------------------------------------------------------- what must hold
    def nowhere(self) -> list[str]:
        """Objects that are on no disk and not on the remote."""
        return [
            one.hex()
            for one, raw in self.raw.items()
            if not self._is_here(one) and self._there(one) != raw
        ]

    def _is_here(self, object_id: bytes) -> bool:
        folder = self.project.paths.objects / object_id.hex()[:2]
        places = [folder / object_id.hex(), *folder.glob(f".gc-{object_id.hex()}-*")]
        return any(one.exists() and one.read_bytes() == self.raw[object_id] for one in places)

    def _there(self, object_id: bytes) -> bytes:
        name = f"projects/{self.project.id}/objects/{object_id.hex()[:2]}/{object_id.hex()}"
        size = self.remote.have([name]).get(name)
        return self.remote.read(name, 0, size) if size is not None else b""

    def settle(self) -> list[str]:
        """What is missing on the remote, or here, when everybody has synced and pulled."""
        for _ in range(2):
            for home in reversed(self.homes):
                self.sync(home, self.remote)
        paths = self.project.paths
        state = read_project(paths)
        collect_here(paths, state, grace_s=0, now_us=NOW_US)
        restore(self.homes[1], clock=lambda: NOW_US, opener=lambda entry: self.remote)
        references = References(paths)
        references.look()
        needed = references.needed(state, ())
        out = [f"{one} is not on the remote" for one in needed if not self._there(_id(one))]
        out += [
            f"{one} is not here" for one in needed if not (paths.objects / one[:2] / one).exists()
        ]
        stubs = pruned.object_stubs(paths)
        return out + [f"{one} is still a stub" for one in needed if one in stubs]


def _name(home: Path) -> str:
    (name,) = read_remotes(home)
    return name


def _id(text: str) -> bytes:
    return bytes.fromhex(text)


def play(template: Template, folder: Path, seed: int) -> tuple[list[str], int]:
    """One schedule: what went wrong, and how many objects were collected."""
    world = World(template, folder, seed)
    chance = world.chance
    deaths = [chance.randint(1, 60) if chance.random() < 0.25 else 1 << 30 for _ in range(2)]
    actors = [
        Actor(work, world.remote, dies_at)
        for work, dies_at in zip((world.collector, world.user), deaths, strict=True)
    ]
    running, turn = list(actors), chance.choice([2, 5, 15])
    chance.shuffle(running)
    while running:
        running[0].step()
        if running[0].done:
            running.pop(0)
        elif chance.randrange(turn) == 0:
            running.append(running.pop(0))
    problems = [f"{seed}: {one.error!r}" for one in actors if _is_a_bug(one.error)]
    problems += [f"{seed}: nowhere any more: {one}" for one in world.nowhere()]
    problems += [f"{seed}: {one}" for one in world.settle()]
    shutil.rmtree(folder)
    return problems, world.deleted


def _is_a_bug(error: BaseException | None) -> bool:
    return error is not None and not isinstance(error, Unreachable)
