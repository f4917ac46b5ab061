"""A prune or a pull killed before each of its steps on the disk, and prunes beside a writer.

Run as a program: `python -m tests.prune.kills FOLDER WHAT FIRST COUNT EACH`, WHAT is `prune`,
`pull` or `beside`. The code is the real one; an audit hook stops it before each call that opens,
renames, links or removes a file, or lists a folder. A hook stays for the life of a process, hence
the program.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from localstore import pruned
from localstore.durable import sync_folder
from localstore.format import segment
from localstore.format.spec import DataClass
from localstore.store.gc import collect
from localstore.store.objects import ObjectFiles, store
from localstore.trust import read_project
from tests.prune.makers import ended_run, make_world, object_path
from tests.store.schedules import Actor, _hook
from tests.sync.makers import NOW_US, Log

if TYPE_CHECKING:
    from tests.prune.makers import World


def doubts(world: World, before: dict[str, bytes]) -> list[str]:
    """Files that are neither here, whole, nor pruned and on the remote."""
    paths = world.project.paths
    logs, objects = pruned.pruned_logs(paths), pruned.object_stubs(paths)
    out = []
    for name, raw in before.items():
        path = paths.file(name)
        taken = list(path.parent.glob(f".gc-{path.name}-*"))
        if any(one.exists() and one.read_bytes() == raw for one in (path, *taken)):
            continue
        there = f"projects/{world.project.id}/{name}"
        stub = name in logs or path.name in objects
        if not stub or world.remote.read(there, 0, len(raw)) != raw or path.exists():
            out.append(name)
    return out


def settle(world: World) -> None:
    """What a person does after a crash: nothing but the usual commands."""
    paths = world.project.paths
    collect(paths, read_project(paths), grace_s=0, now_us=NOW_US)
    world.restore()


def killed_at(folder: Path, what: str, step: int) -> tuple[list[str], bool]:
    """One prune or pull that dies before a step; what went wrong, and whether it died at all."""
    world = make_world(folder)
    ended_run(world.project)
    ended_run(world.project, closed=False)
    world.push()
    before = world.files()
    if what == "pull":
        world.prune()

    def act() -> None:
        world.prune() if what == "prune" else world.restore()

    actor = Actor(act, step)
    while not actor.done:
        actor.step()
    problems = [f"{step}: {actor.error!r}"] if actor.error is not None else []
    problems += [f"{step}: in doubt {name}" for name in doubts(world, before)]
    report = world.prune() if step % 2 else world.restore()
    problems += [f"{step}: in doubt afterwards {name}" for name in doubts(world, before)]
    problems += [] if report.ok else [f"{step}: {report.to_json()}"]
    settle(world)
    if world.files() != before:
        problems.append(f"{step}: not what it was")
    left = [path for path in (world.project.paths.root / "stubs").rglob("*") if path.is_file()]
    return problems + [f"{step}: left {path.name}" for path in left], actor.killed


def beside(folder: Path, seed: int) -> list[str]:
    """A run that begins to use what is being pruned has it in the end."""
    chance = random.Random(seed)
    world = make_world(folder)
    run = ended_run(world.project, objects=[world.project.object() for _ in range(2)])
    world.push()
    files = ObjectFiles(world.project.paths)
    raw = {one: object_path(world.project, one).read_bytes() for one in run.objects}
    log = Log(world.project, "bb" * 16, DataClass.MEDIA)
    wanted = chance.choice([run.objects, run.objects[:1]])

    def write() -> None:
        store(files, [(one, raw[one]) for one in wanted])
        with log.path.open("ab") as file:
            file.write(segment.encode_ref(wanted, 0))
        sync_folder(log.path.parent)
        missing = [one for one in wanted if not files.has(one)]
        store(files, [(one, raw[one]) for one in missing])

    def prune() -> None:
        world.prune()

    actors = [Actor(write), Actor(prune)]
    turn = chance.choice([3, 10, 30])
    chance.shuffle(actors)
    while actors:
        actors[0].step()
        if actors[0].done:
            gone = actors.pop(0)
            if gone.error is not None:
                return [f"{seed}: {gone.error!r}"]
        elif chance.randrange(turn) == 0:
            actors.append(actors.pop(0))
    lost = [one.hex() for one in wanted if not files.has(one) or files.read(one) != raw[one]]
    return [f"{seed}: lost {one}" for one in lost]


def main(folder: Path, what: str, first: int, count: int, each: int) -> None:
    sys.addaudithook(_hook)
    problems: list[str] = []
    counts: Counter[str] = Counter()
    for number in range(first, first + count, each):
        if what == "beside":
            problems += beside(folder / str(number), number)
        else:
            found, killed = killed_at(folder / str(number), what, number)
            problems += found
            counts["killed"] += killed
            if not killed:
                break
        counts["played"] += 1
    sys.stdout.write(json.dumps({"problems": problems[:20], **counts}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:]))
