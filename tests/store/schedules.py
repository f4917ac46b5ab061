"""Writers and collectors of one store, stopped at every step on the disk and let on in any order.

Run as a program: `python -m tests.store.schedules FOLDER FIRST COUNT`. Each schedule is one seed.
The code under test is the real one and runs in threads of which one moves at a time: an audit
hook stops it before each call that opens, renames, pins or removes a file, or lists a folder. A
hook stays for the life of a process, hence the program.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localstore.durable import sync_folder
from localstore.format import segment
from localstore.store.gc import TAKEN_PREFIX, collect
from localstore.store.objects import ObjectFiles, store
from localstore.trust import read_project
from tests.sync.makers import Log, make_project

if TYPE_CHECKING:
    from collections.abc import Callable

    from localstore.layout import ProjectPaths

_STEPS = frozenset(
    {
        "open",
        "os.rename",
        "os.remove",
        "os.utime",
        "os.link",
        "os.mkdir",
        "os.scandir",
        "os.listdir",
    }
)
_OLD_S = 7200.0
_GRACE_S = 3600.0


class Killed(BaseException):
    """SIGKILL: nothing that follows has an effect."""


class Actor:
    """A thread that takes one step when it is told to; `dies_at` is the step before which it is
    killed."""

    here = threading.local()

    def __init__(self, work: Callable[[], None], dies_at: int = sys.maxsize) -> None:
        self._work, self._dies_at, self.steps = work, dies_at, 0
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self.done = self.killed = False
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._stopped.acquire()

    def _run(self) -> None:
        self._pause()
        Actor.here.actor = self
        try:
            self._work()
        except Killed:
            self.killed = True
        except BaseException as error:  # noqa: BLE001 - shown by whoever scheduled it
            self.error = error
        finally:
            Actor.here.actor = None
            self.done = True
            self._stopped.release()

    def _pause(self) -> None:
        self._stopped.release()
        self._go.acquire()

    def at_step(self) -> None:
        """In the actor's own thread, before a call to the disk."""
        if self.steps < self._dies_at:
            self._pause()
        self.steps += 1
        if self.steps > self._dies_at:
            raise Killed

    def step(self) -> None:
        """Let it go on to its next step, or its end."""
        self._go.release()
        self._stopped.acquire()
        if self.done:
            self._thread.join()


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    actor = getattr(Actor.here, "actor", None)
    if actor is not None and event in _STEPS:
        actor.at_step()


class World:
    """One project, set back to nothing for each schedule."""

    def __init__(self, folder: Path) -> None:
        self.project = make_project(folder / "home")
        self.paths: ProjectPaths = self.project.paths
        self.files = ObjectFiles(self.paths)
        erased = "aa" * 16
        self.project.bury(erased)
        self.state, self.now_us = read_project(self.paths), 1 << 62
        self.ids = [self.project.object(size=200) for _ in range(2)]
        self.raw = {one: Path(self.files.path(one)).read_bytes() for one in self.ids}
        self.logs = [Log(self.project, "bb" * 16) for _ in range(4)]
        self._old = Log(self.project, "bb" * 16)  # names both; what it says may be cancelled
        self._old.ref(*self.ids)
        self._unref = Log(self.project, "bb" * 16)
        self._header = self._unref.path.read_bytes()
        self._unref.unref(self._old, 0)
        self._unref.head()
        self._gone = Log(self.project, erased)
        self._gone.ref(*self.ids)
        self._images = {
            log.path: log.path.read_bytes() for log in (*self.logs, self._old, self._gone)
        }
        self._cancelling = self._unref.path.read_bytes()

    def reset(self, chance: random.Random) -> None:
        """Objects that nothing needs, or nothing yet, or that a dead collector took away."""
        shutil.rmtree(self.paths.root / "objects", ignore_errors=True)
        for path, image in self._images.items():
            path.write_bytes(image)
        self._unref.path.write_bytes(self._header if chance.random() < 0.5 else self._cancelling)
        for object_id, raw in self.raw.items():
            path = Path(self.files.path(object_id))
            path.parent.mkdir(parents=True, exist_ok=True)
            where = chance.random()
            if where < 0.2:
                continue
            if where < 0.4:
                path = path.with_name(f"{TAKEN_PREFIX}{path.name}-{'0' * 16}")
            path.write_bytes(raw)
            old = time.time() - _OLD_S
            os.utime(path, (old, old))

    # -------------------------------------------------------------- who is at work
    def write(self, log: Log, wanted: list[bytes], finished: list[bytes]) -> None:
        """The four steps of a writer."""
        store(self.files, [(one, self.raw[one]) for one in wanted])
        with log.path.open("ab") as file:
            file.write(segment.encode_ref(wanted, 0))
        sync_folder(log.path.parent)
        missing = [one for one in wanted if not self.files.has(one)]
        store(self.files, [(one, self.raw[one]) for one in missing])
        finished += wanted

    def cancel(self) -> None:
        """A version is deleted: what named both objects no longer counts."""
        with self._unref.path.open("r+b") as file:
            file.write(self._cancelling)

    def collect(self, grace_s: float) -> None:
        """The collector itself."""
        collect(self.paths, self.state, grace_s=grace_s, now_us=self.now_us)

    # -------------------------------------------------------------- what must hold
    def lost(self, finished: list[bytes]) -> list[bytes]:
        """What a finished writer relies on and is not whole under its name."""
        return [one for one in set(finished) if not self._is_whole(one)]

    def _is_whole(self, object_id: bytes) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return Path(self.files.path(object_id)).read_bytes() == self.raw[object_id]
        return False

    def rubbish(self) -> list[str]:
        """Files of objects that are not objects."""
        found = (path.name for path in (self.paths.root / "objects").rglob(".*"))
        return [name for name in found if name.startswith(TAKEN_PREFIX)]


def play(world: World, seed: int) -> tuple[list[str], Counter[str]]:
    """One schedule; returns what went wrong, and what happened."""
    chance = random.Random(seed)
    world.reset(chance)
    finished: list[bytes] = []
    grace_s = chance.choice([0.0, _GRACE_S])
    actors = []
    for log in world.logs[: chance.randint(1, 3)]:
        wanted = chance.choice([world.ids, world.ids[:1], world.ids[1:]])
        actors.append(Actor(lambda log=log, wanted=wanted: world.write(log, wanted, finished)))  # type: ignore[misc]
    collectors = [
        Actor(
            lambda: world.collect(grace_s),
            chance.randint(1, 40) if chance.random() < 0.25 else sys.maxsize,
        )
        for _ in range(chance.randint(1, 3))
    ]
    actors += [*collectors, Actor(world.cancel)]
    _run(actors, chance)

    counts = Counter(schedules=1, steps=sum(one.steps for one in actors))
    counts["killed"] = sum(one.killed for one in actors)
    problems = [f"{seed}: {one.error!r}" for one in actors if one.error is not None]
    if not counts["killed"]:
        problems += [f"{seed}: lost {one.hex()}" for one in world.lost(finished)]
    world.collect(0.0)
    problems += [f"{seed}: lost for ever {one.hex()}" for one in world.lost(finished)]
    problems += [f"{seed}: left {name}" for name in world.rubbish()]
    counts["finished"] = len(finished)
    return problems, counts


def _run(actors: list[Actor], chance: random.Random) -> None:
    """One actor moves until it is its turn to stand still, for long: races need few such turns."""
    moving = list(actors)
    chance.shuffle(moving)
    turn = chance.choice([3, 10, 30])
    while moving:
        moving[0].step()
        if moving[0].done:
            del moving[0]
        elif chance.randrange(turn) == 0:
            moving.insert(chance.randint(1, len(moving)), moving.pop(0))


def main(folder: Path, first: int, count: int) -> None:
    world = World(folder)
    sys.addaudithook(_hook)
    problems: list[str] = []
    counts: Counter[str] = Counter()
    for seed in range(first, first + count):
        found, happened = play(world, seed)
        problems += found
        counts += happened
    sys.stdout.write(json.dumps({"problems": problems[:20], **counts}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
