"""After a power cut at any moment the store is read, and holds what was durable."""

from __future__ import annotations

import random
import shutil
from typing import TYPE_CHECKING

import pytest

import localstore
from localstore.errors import KeyUnavailable
from tests.attacks.power import Disk, Event, Recorder
from tests.sdk.scripts import column

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    """A person's first two runs, from the first call of `init` on, with six flushes each."""
    root = tmp_path_factory.mktemp("power")
    recorder = Recorder(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCALSTORE_HOME", str(root / "home"))
        patch.setenv("LOCALSTORE_QUIET", "1")
        recorder.install(patch)
        for name in ("first", "second"):
            with localstore.init(project="power", id=name, config={"of": name}) as run:
                for part in range(6):
                    for number in range(part * 15, part * 15 + 15):
                        run.log({"n": number})
                    run.flush()
                    recorder.note("durable", name, part * 15 + 15)
            recorder.note("finished", name)
    disk = Disk()
    for event in recorder.events:
        disk.play(event)
    shutil.rmtree(root / "replayed", ignore_errors=True)
    disk.write_to(root / "replayed", lambda count: count)
    assert tree(root / "home") == tree(root / "replayed" / "home")  # nothing escaped the notes
    return recorder.events


def tree(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def check(home: Path, promised: dict[str, int], finished: set[str]) -> None:
    """What a person finds after the power is back."""
    try:
        api = localstore.Api(home)
    except KeyUnavailable:
        assert promised == {}
        return
    runs = {run.id: run for run in api.runs()}
    for name, count in promised.items():
        found = column("n", runs[name])
        assert found[:count] == list(range(count))
        assert found == list(range(len(found)))
        assert runs[name].config == {"of": name}
    for run in runs.values():
        run.to_dict()
    for name in finished:
        assert (runs[name].state, runs[name].problems) == ("finished", [])


def cuts(
    events: list[Event], target: Path, keep: Callable[[int], int], *, every: int = 1
) -> list[str]:
    """Cut the power after each event, read, go on with a new run, and read again."""
    disk, promised, finished, failures = Disk(), dict[str, int](), set[str](), list[str]()
    quiet = 0
    for number, event in enumerate(events):
        disk.play(event)
        if event[0] == "durable":
            promised[event[1]] = event[2]
        elif event[0] == "finished":
            finished.add(event[1])
        # Between two writes into one tail nothing new can go wrong.
        quiet = quiet + 1 if event[0] in ("pwrite", "close", "open") else 0
        if number % every or quiet % 8 not in (0, 1):
            continue
        shutil.rmtree(target, ignore_errors=True)
        disk.write_to(target, keep)
        try:
            check(target / "home", promised, finished)
            with localstore.init(project="power", id="after", dir=target / "home") as run:
                run.log({"n": 0})
                assert not run.disabled
            check(target / "home", {**promised}, finished)
        except Exception as error:  # noqa: BLE001 - every failure is wanted, with its place
            failures.append(f"event {number} {event[:2]}: {type(error).__name__} {error}"[:300])
            localstore.finish()
    return failures


def test_with_nothing_but_what_was_synced(events: list[Event], tmp_path: Path) -> None:
    assert cuts(events, tmp_path / "cut", lambda _count: 0, every=2) == []


def test_with_everything_that_was_written(events: list[Event], tmp_path: Path) -> None:
    assert cuts(events, tmp_path / "cut", lambda count: count, every=5) == []


@pytest.mark.parametrize("seed", range(3))
def test_with_an_arbitrary_beginning_of_the_rest(
    events: list[Event], tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    assert cuts(events, tmp_path / "cut", lambda count: rng.randint(0, count), every=4) == []


@pytest.mark.fuzz
@pytest.mark.parametrize("seed", range(100, 130))
def test_with_many_arbitrary_beginnings_of_the_rest(
    events: list[Event], tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    assert cuts(events, tmp_path / "cut", lambda count: rng.randint(0, count)) == []
