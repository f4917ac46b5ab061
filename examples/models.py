"""The demo's chapters on what a run keeps beside numbers: models, code, files, and their end.

Each chapter is told to two homes and the folder between them, prints what it does, and proves it.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final

import localstore
from examples.stage import (
    CANARY,
    HERE,
    PROJECT,
    ROOT,
    Proofs,
    Training,
    command,
    ending,
    files_below,
    indented,
    objects_in,
    size_of,
    start,
    title,
    watch,
)
from localstore import Api, Artifact

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from localstore.query.api import StoredRun

MODEL: Final = f"{PROJECT}/{CANARY}_model"
IMAGES: Final = f"{PROJECT}/{CANARY}-images"
COPY: Final = f"{PROJECT}/{CANARY}-copy"
BEST: Final = f"{CANARY}-best"
_DATA_BYTES: Final = 8_000_000


@dataclass(frozen=True, slots=True)
class Places:
    """Where the demo happens; all of it below one folder that is thrown away."""

    folder: Path

    @property
    def first(self) -> Path:
        """The home in which most runs train."""
        return self.folder / "home"

    @property
    def second(self) -> Path:
        """The home that is made from the recovery code."""
        return self.folder / "second-home"

    @property
    def stick(self) -> Path:
        """The folder that both sync with."""
        return self.folder / "stick"

    @property
    def work(self) -> Path:
        """Where a person has files, plain ones."""
        return self.folder / "work"

    def all(self) -> tuple[Path, Path, Path]:
        """Everywhere where nothing may be in the clear."""
        return self.first, self.stick, self.second

    def sync_both(self) -> None:
        """Carry everything both ways."""
        for home in (self.first, self.second, self.first):
            command(home, "sync", "now")


def versions(home: Path) -> list[Artifact]:
    """All versions of the model, the oldest first."""
    return Api(home).artifact_versions("model", MODEL)[::-1]


def listed(home: Path) -> list[tuple[str, str, str, str]]:
    """Label, aliases, digest and first run of each version: what must be the same everywhere."""
    return [
        (one.version, ", ".join(sorted(one.aliases)), one.digest, one.source)
        for one in versions(home)
    ]


def show_versions(home: Path) -> None:
    """The versions as a table."""
    print(f"  {'version':<10}{'accuracy':>9}{'bytes':>8}  aliases")
    for one in versions(home):
        accuracy, aliases = one.metadata[f"{CANARY}_accuracy"], ", ".join(sorted(one.aliases))
        print(f"  {one.version:<10}{accuracy:>9.4f}{one.size:>8}  {aliases}")


# ------------------------------------------------------------------ one name, many versions
def tell_versions(places: Places, finished: int, proofs: Proofs) -> None:
    """Processes that ran at once gave their models one name; another home has the same list."""
    title("6. One model, a version from each run that ended")
    show_versions(places.second)
    here, there = listed(places.first), listed(places.second)
    numbers = [label for label, *_ in here]
    proofs.check(
        "processes that ran at once got a number each",
        numbers == [f"v{number}" for number in range(finished)],
        f"{len(numbers)} versions by {finished} processes: {' '.join(numbers)}",
    )
    same = here == there
    proofs.check("both homes have the same versions", same, f"{len(here)} here, {len(there)} there")


def tell_apart(places: Places, proofs: Proofs) -> None:
    """Two homes go on with one model and do not see each other; then they sync."""
    title("7. Two machines work on one model, apart")
    before = len(versions(places.first))
    jobs = {
        places.first: [Training("here", seed=1), Training("twin-here", width=48)],
        places.second: [Training("there", seed=2), Training("twin-there", width=48)],
    }
    with ThreadPoolExecutor(len(jobs)) as machines:
        ends = list(
            machines.map(lambda item: [watch(item[0], job) for job in item[1]], jobs.items())
        )
    proofs.check(
        "all four runs ended as meant",
        [status for machine in ends for _, status in machine] == [0] * 4,
        ", ".join(ending(status) for machine in ends for _, status in machine),
    )
    for home, name in ((places.first, "here"), (places.second, "there")):
        chosen = Api(home).artifact(f"{MODEL}:{CANARY}-{name}")
        print(f"  {home.name}: {CANARY}-{name} is {chosen.version}, and {BEST} points to it")
        command(home, "artifact", "alias", chosen.qualified_name, BEST)
    places.sync_both()
    show_versions(places.second)
    prove_joined(places, before, proofs)


def prove_joined(places: Places, before: int, proofs: Proofs) -> None:
    """What both homes must show after they worked apart."""
    here, there = listed(places.first), listed(places.second)
    same = here == there
    proofs.check("both homes list the same", same, f"{len(here)} here, {len(there)} there")
    api = Api(places.second)
    one, two, twin, again, best = (
        api.artifact(f"{MODEL}:{alias}").version
        for alias in (
            *(f"{CANARY}-{w}" for w in ("here", "there", "twin-here", "twin-there")),
            BEST,
        )
    )
    plain, marked = sorted((one, two), key=len)
    proofs.check(
        "one number that was given twice tells its contents apart",
        plain == f"v{before}"
        and marked.startswith(f"v{before}.")
        and len(marked) == len(plain) + 5,
        f"{CANARY}-here is {one}, {CANARY}-there is {two}",
    )
    runs = [api.run(f"{PROJECT}/{CANARY}-{name}") for name in ("twin-here", "twin-there")]
    logged = [[made.version for made in run.logged_artifacts()] for run in runs]
    proofs.check(
        "the same content is one version",
        twin == again and logged == [[twin], [twin]] and len(here) == before + 3,
        f"two runs logged {twin}; {len(here) - before} new versions from 4 runs",
    )
    proofs.check("of two moves of an alias the later counts", best == two, f"{BEST} is {best}")


# ------------------------------------------------------------------ reproduced
def tell_reproduced(places: Places, proofs: Proofs) -> None:
    """A model of the first home is fetched in the second, and its run made again from its code."""
    title("8. A model fetched elsewhere, its run checked out, its accuracy found again")
    api = Api(places.second)
    model = api.artifact(f"{MODEL}:{CANARY}-wide")
    fetched = places.work / "fetched"
    command(places.second, "artifact", "get", model.qualified_name, "--root", str(fetched))
    file = fetched / f"{CANARY}_weights.npz"
    run = api.run(model.source)
    main = str(run.facts("git")["main"])
    print(f"  {model.name}, {file.stat().st_size} bytes, was made by run {run.name}, of {main}")
    with checked_out(places.second, run, places.work / "code") as code:
        prove_code(places, run, main, proofs)
        script = code / main
        prove_accuracy(run, model, script, file, proofs)
        retrain(places.second, run, script, code / "localstore-run" / "config.json")
    prove_made_again(places.second, run, model, proofs)


@contextmanager
def checked_out(home: Path, run: StoredRun, folder: Path) -> Iterator[Path]:
    """The code of a run, as a worktree of this repository where it is one; removed at the end."""
    try:
        print(indented(command(home, "checkout", run.path, str(folder), "--repo", str(ROOT))))
        yield folder
    finally:
        if (folder / ".git").is_file():
            words = ("worktree", "remove", "--force", str(folder))
            subprocess.run(["git", "-C", str(ROOT), *words], check=True)


def prove_code(places: Places, run: StoredRun, main: str, proofs: Proofs) -> None:
    """Also where no repository is at hand the script itself comes back."""
    nowhere, bare = places.work / "nowhere", places.work / "bare"
    nowhere.mkdir()
    command(places.second, "checkout", run.path, str(bare), "--repo", str(nowhere))
    found = [(places.work / name / main).read_bytes() for name in ("code", "bare")]
    want = (HERE / "digits.py").read_bytes()
    proofs.check(
        "the script is the one that ran, with a repository and without",
        found == [want, want],
        f"{len(want)} bytes",
    )


def prove_accuracy(
    run: StoredRun, model: Artifact, script: Path, file: Path, proofs: Proofs
) -> None:
    """The fetched file, tested by the checked-out script, is as good as the run said."""
    done = subprocess.run(
        [sys.executable, str(script), "--evaluate", str(file)],
        capture_output=True,
        text=True,
        check=True,
    )
    key = f"{CANARY}_accuracy"
    found, logged = float(done.stdout), numbers_of(run)[-1][-1]
    same = found == logged == model.metadata[key]
    proofs.check("the accuracy is the logged one", same, f"{found!r} found, {logged!r} logged")


def numbers_of(run: StoredRun) -> list[list[float]]:
    """All numbers of a training, by step."""
    keys = [f"{CANARY}_{name}" for name in ("loss", "val_loss", "accuracy")]
    return [[row[key] for key in keys] for row in run.scan_history(keys)]


def retrain(home: Path, run: StoredRun, script: Path, config: Path) -> None:
    """Start the checked-out script with the config that came with it."""
    values = json.loads(config.read_text("utf-8"))
    words = [
        word
        for key, value in values.items()
        for word in (f"--{key.removeprefix(f'{CANARY}_')}", str(value))
    ]
    print(f"  again: {script.name} {' '.join(words)}")
    process, pipe = start(home, script, "again", words)
    while os.read(pipe, 4096):
        pass
    os.close(pipe)
    if process.wait():
        raise SystemExit(f"the checked-out script of {run.name}: {ending(process.returncode)}")


def prove_made_again(home: Path, run: StoredRun, model: Artifact, proofs: Proofs) -> None:
    """The second training gave the same numbers and the same file."""
    again = Api(home).run(f"{PROJECT}/{CANARY}-again")
    old, new = numbers_of(run), numbers_of(again)
    flat = [list(itertools.chain.from_iterable(rows)) for rows in (old, new)]
    equal = sum(one == other for one, other in zip(*flat, strict=False))
    proofs.check(
        "trained again from its code and config, all numbers are the same",
        old == new,
        f"{equal} of {len(flat[0])} floats of {len(old)} steps equal to the last digit",
    )
    (made,) = again.logged_artifacts()
    same = made.digest == model.digest and made.version == model.version
    proofs.check("and so is the model", same, f"{made.version}, {made.digest[:16]}…")


# ------------------------------------------------------------------ bytes
def tell_once(places: Places, proofs: Proofs) -> None:
    """One content is stored under two names, and once more with a change."""
    title("9. The same bytes are kept once")
    data = random.Random(7).randbytes(_DATA_BYTES)
    sizes = [size_of(places.first)]
    for name, file, content in (
        (IMAGES, "one", data),
        (COPY, "two", data),
        (IMAGES, "three", b"\0" + data),
    ):
        path = places.work / f"{CANARY}-{file}.bin"
        path.write_bytes(content)
        note = ("--type", "dataset", "--description", f"{CANARY}: noise")
        print(indented(command(places.first, "artifact", "put", str(path), "--name", name, *note)))
        sizes.append(size_of(places.first))
    first, second, third = (after - before for before, after in itertools.pairwise(sizes))
    proofs.check(
        "the same file stored twice takes its bytes once",
        _DATA_BYTES <= first < 1.05 * _DATA_BYTES and second < 0.01 * _DATA_BYTES,
        f"{_DATA_BYTES} random bytes take {first}, under another name {second} more",
    )
    proofs.check(
        "of a changed file only what changed is stored",
        third < 0.5 * _DATA_BYTES,
        f"a byte put in front of all takes {third} more",
    )
    before = size_of(places.stick)
    places.sync_both()
    carried = size_of(places.stick) - before
    once = _DATA_BYTES <= carried < 1.05 * (first + second + third)
    proofs.check("and carried once", once, f"the stick grew by {carried}")


def tell_whole(places: Places, proofs: Proofs) -> None:
    """Everything that is there can be read, and is what was logged."""
    title("10. All of it is whole")
    for home in (places.first, places.second):
        said = command(home, "verify", "--read-data").splitlines()[-1]
        proofs.check(f"{home.name}, every byte", "nothing is wrong" in said, said)
        prove_versions_whole(home, proofs)
    labels = [label for label, *_ in listed(places.second)]
    reports = [
        json.loads(command(places.second, "artifact", "verify", f"{MODEL}:{label}", "--json"))
        for label in labels
    ]
    proofs.check(
        "`localstore artifact verify` is clean",
        all(report["ok"] for report in reports),
        f"{len(reports)} versions of the model, {sum(one['bytes'] for one in reports)} bytes",
    )


def prove_versions_whole(home: Path, proofs: Proofs) -> None:
    """Fetch each version of every artifact, and compare each file with its hash."""
    found = [
        one for name in (MODEL, IMAGES, COPY) for one in Api(home).artifact_versions(None, name)
    ]
    for one in found:
        one.verify(one.download(home.parent / "work" / f"{home.name}-files" / one.name))
    facts = f"{len(found)} versions, {sum(one.size for one in found)} bytes"
    proofs.check(f"{home.name}, every version fetched and compared", bool(found), facts)


# ------------------------------------------------------------------ the end of things
def tell_deleted(places: Places, proofs: Proofs) -> None:
    """A run and versions are deleted; their bytes go, here and there, and the rest stays."""
    title("15. Deleted, and the bytes are gone")
    run, of_run = keep_file(places)
    model = Api(places.first).artifact(f"{MODEL}:{CANARY}-slow")
    kept = [row for row in listed(places.first) if row[0] != model.version]
    before = [size_of(place) for place in places.all()]
    gone = (IMAGES, COPY, f"{MODEL}:{model.version}")
    print(indented(command(places.first, "artifact", "rm", *gone, "--yes")))
    of_versions = unneeded(places.first)
    print(indented(command(places.first, "rm", run.path, "--now", "--yes")))
    print(indented(command(places.first, "gc", "--grace", "0")))
    places.sync_both()
    print(indented(command(places.second, "gc", "--grace", "0")))
    left = objects_in(places.stick)
    proofs.check(
        "the stick is rid of the run at once",
        bool(of_run) and not left & of_run,
        f"{len(of_run)} objects, {len(left & of_run)} left; of the versions"
        f" {len(left & of_versions)} of {len(of_versions)} wait a day for who syncs right now",
    )
    sync_a_day_later(places.first)
    for place, size in zip(places.all(), before, strict=True):
        left = objects_in(place) & (of_run | of_versions)
        logs = sum(run.subject in str(path) for path in files_below(place))
        freed = size - size_of(place)
        facts = f"{len(left)} of {len(of_run | of_versions)} objects and {logs} logs are left"
        whole = not left and not logs and freed > _DATA_BYTES
        proofs.check(f"{place.name} is rid of all of it", whole, f"{facts}, {freed} bytes freed")
    for home in (places.first, places.second):
        rest = listed(home)
        facts = f"{len(rest)} of {len(kept)} versions"
        proofs.check(f"{home.name} has the other models", rest == kept, facts)
        prove_versions_whole(home, proofs)


def keep_file(places: Places) -> tuple[StoredRun, set[str]]:
    """A run that keeps a file, on both homes and the stick; with the objects that it made."""
    file = places.work / f"{CANARY}-state.bin"
    file.write_bytes(random.Random(8).randbytes(_DATA_BYTES // 8))
    before = objects_in(places.first)
    run = localstore.init(
        project=PROJECT,
        name=f"{CANARY}-saved",
        dir=places.first,
        settings={"quiet": True, "console": False},
    )
    run.save(file)
    run.finish()
    places.sync_both()
    return Api(places.first).run(f"{PROJECT}/{run.id}"), objects_in(places.first) - before


def unneeded(home: Path) -> set[str]:
    """What the collector would take."""
    report: dict[str, Any] = json.loads(command(home, "gc", "--dry-run", "--grace", "0", "--json"))
    return {one["object"] for project in report["projects"] for one in project["unneeded"]}


def sync_a_day_later(home: Path) -> None:
    """A sync whose clock is set forward."""
    (point,) = entry_points(group="localstore.engine", name="sync")
    later_us = time.time_ns() // 1000 + 25 * 3600 * 1_000_000
    report = point.load()(home, clock=lambda: later_us)
    if not report.ok:
        raise SystemExit(f"a sync a day later: {report.to_json()}")
