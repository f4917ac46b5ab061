"""Files that were changed, cut, repeated, swapped or moved between runs and projects.

Whatever is done to one file: nothing raises, the damage is named with a file, what is read is
true, and the other runs are read whole.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

import localstore
from localstore import crypto
from localstore.format import spec
from localstore.layout import HomePaths, ProjectPaths
from tests.sdk.scripts import points, run_script

if TYPE_CHECKING:
    from pathlib import Path

STEPS = 400
MAKE = """
import os, sys, localstore
for project in ("one", "two"):
    for name in ("a", "b"):
        run = localstore.init(project=project, id=name, config={"of": project + name})
        for step in range(400):
            run.log({"n": step, "of": project + name})
            if step % 100 == 99: run.flush()
        run.finish()
run = localstore.init(project="one", id="tail")
for step in range(400): run.log({"n": step, "of": "onetail"})
os._exit(1)
"""
Attack = Callable[["Store"], "Path"]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two projects of two whole runs each, and a run whose writer vanished."""
    home = tmp_path_factory.mktemp("template") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCALSTORE_HOME", str(home))
        patch.setenv("LOCALSTORE_QUIET", "1")
        code, _, err = run_script(MAKE)
    assert (code, err) == (1, "")
    for tail in home.rglob("*.t[01]"):
        raw = tail.read_bytes()
        if raw:
            name = crypto.digest(spec.LABEL_FILE, raw).hex()[:32]
            tail.with_name(f"{tail.stem}-{name}.tail").write_bytes(raw)
        tail.unlink()
    return home


class Store:
    """A copy of the template, to be attacked."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.api = localstore.Api(root)
        self.projects = {
            run.project: run._project  # where the files of a run lie is nobody's business
            for run in self.api.runs()
        }
        for cache in root.rglob("runs.cache"):
            cache.unlink()

    def paths(self, project: str) -> ProjectPaths:
        return self.projects[project].paths

    def folder(self, project: str, run: str, what: str = "runs") -> Path:
        return self.paths(project).root / what / self.projects[project].subject(run).hex()

    def log(self, project: str, run: str, data_class: spec.DataClass) -> Path:
        """The log of a class: its byte 10."""
        logs = sorted(self.folder(project, run).glob("*.log"))
        return next(path for path in logs if path.read_bytes()[10] == data_class)

    def metrics(self, project: str = "one", run: str = "a") -> Path:
        return self.log(project, run, spec.DataClass.METRICS)

    def meta(self, project: str = "one", run: str = "a") -> Path:
        return self.log(project, run, spec.DataClass.META)

    def slot(self, project: str, run: str) -> Path:
        return next(self.folder(project, run, "keys").iterdir())

    def tail_copy(self) -> Path:
        found = self.folder("one", "tail").glob("*.tail")
        return max(found, key=lambda path: path.stat().st_size)


@pytest.fixture
def store(template: Path, tmp_path: Path) -> Store:
    shutil.copytree(template, tmp_path / "home")
    return Store(tmp_path / "home")


def read_all(root: Path) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    """Rows of every run by path without entity, and every problem; nothing may raise."""
    api = localstore.Api(root)
    rows, problems = {}, list[str]()
    for run in api.runs():
        rows[f"{run.project}/{run.id}"] = points(run)
        run.to_dict()
        run.history(pandas=False)
        problems += run.problems
    return rows, [*problems, *(str(problem) for problem in api.problems)]


def true_row(path: str, row: dict[str, Any]) -> bool:
    """Whether a row is one that was logged; names of keys may be lost with their frame."""
    of = path.replace("/", "")
    step = row["_step"]
    return 0 <= step < STEPS and all(
        value == {"n": step, "of": of}.get(key, value) and value in (step, of)
        for key, value in row.items()
    )


def check(store: Store, hit: str, named: Path, least_left: int = 0) -> None:
    """After an attack on one run (`project/run`, or a project alone)."""
    rows, problems = read_all(store.root)
    for path in ("one/a", "one/b", "two/a", "two/b", "one/tail"):
        if not path.startswith(hit):
            assert [row["n"] for row in rows[path]] == list(range(STEPS)), path
    for path, found in rows.items():
        if path.startswith(hit):
            assert all(true_row(path, row) for row in found), path
            assert len({row["_step"] for row in found}) == len(found)
            assert len(found) >= least_left
    assert [one for one in problems if named.name in one or named.parent.name in one], problems


def test_the_template_is_whole(store: Store) -> None:
    rows, problems = read_all(store.root)
    assert {path: len(found) for path, found in rows.items()} == dict.fromkeys(
        ("one/a", "one/b", "two/a", "two/b", "one/tail"), STEPS
    )
    assert problems == []


# ------------------------------------------------------------------ within one file
@pytest.mark.parametrize("seed", range(40))
def test_a_flipped_bit_of_a_log_costs_a_block_at_most(store: Store, seed: int) -> None:
    rng = random.Random(seed)
    log = store.metrics()
    raw = bytearray(log.read_bytes())
    at = rng.randrange(len(raw)) if seed % 2 else rng.randrange(444, len(raw))
    raw[at] ^= 1 << rng.randrange(8)
    log.write_bytes(raw)
    check(store, "one/a", log, least_left=0 if at < 444 else STEPS * 3 // 4)


@pytest.mark.parametrize("seed", range(20))
def test_a_flipped_bit_of_the_facts_leaves_the_history_alone(store: Store, seed: int) -> None:
    rng = random.Random(seed)
    log = store.meta()
    raw = bytearray(log.read_bytes())
    raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    log.write_bytes(raw)
    rows, problems = read_all(store.root)
    assert max(len(found) for path, found in rows.items() if path.startswith("one/")) == STEPS
    assert sum(len(found) for found in rows.values()) == 5 * STEPS
    assert [one for one in problems if log.name in one]


@pytest.mark.parametrize("seed", range(20))
def test_a_log_that_was_cut_is_named(store: Store, seed: int) -> None:
    log = store.metrics()
    raw = log.read_bytes()
    log.write_bytes(raw[: random.Random(seed).randrange(len(raw))])
    check(store, "one/a", log)


def test_a_log_that_was_cut_between_two_frames_is_named(store: Store) -> None:
    from localstore.format.segment import Frame, decode_header, scan_frames

    log = store.metrics()
    raw = log.read_bytes()
    _, start = decode_header(memoryview(raw))
    ends = [one.end for one in scan_frames(memoryview(raw), start) if isinstance(one, Frame)]
    assert len(ends) >= 5
    for end in (start, *ends[:-1]):
        log.write_bytes(raw[:end])
        check(store, "one/a", log)


@pytest.mark.parametrize("seed", range(10))
def test_bytes_that_were_repeated_or_inserted_are_named(store: Store, seed: int) -> None:
    rng = random.Random(seed)
    log = store.metrics()
    raw = log.read_bytes()
    begin = rng.randrange(444, len(raw))
    end = rng.randrange(begin, len(raw)) + 1
    at = rng.randrange(444, len(raw) + 1)
    piece = raw[begin:end] if seed % 2 else rng.randbytes(end - begin)
    log.write_bytes(raw[:at] + piece + raw[at:])
    check(store, "one/a", log, least_left=STEPS * 3 // 4)


def test_frames_that_changed_places_are_named(store: Store) -> None:
    from localstore.format.segment import Frame, decode_header, scan_frames

    log = store.metrics()
    raw = log.read_bytes()
    _, start = decode_header(memoryview(raw))
    frames = [one for one in scan_frames(memoryview(raw), start) if isinstance(one, Frame)]
    pieces = [bytes(one.raw) for one in frames]
    pieces[0], pieces[1] = pieces[1], pieces[0]
    log.write_bytes(raw[:start] + b"".join(pieces))
    check(store, "one/a", log, least_left=STEPS)


@pytest.mark.parametrize("content", [b"", b"\0" * 5000, b"LSEG\r\n\x1a\n", b"\xff" * 100_000])
@pytest.mark.parametrize("which", ["metrics", "meta"])
def test_a_log_of_nonsense_is_named(store: Store, which: str, content: bytes) -> None:
    log = store.metrics() if which == "metrics" else store.meta()
    log.write_bytes(content)
    rows, problems = read_all(store.root)
    assert [len(rows[path]) for path in ("one/b", "two/a", "two/b")] == [STEPS] * 3
    # Without its facts a run has no name, and its history is there.
    left = rows.get("one/a", rows.get(f"one/{store.folder('one', 'a').name}"))
    assert len(left or []) == (0 if which == "metrics" else STEPS)
    assert [one for one in problems if log.name in one]


# ------------------------------------------------------------------ between files
def swap(left: Path, right: Path) -> None:
    left_raw, right_raw = left.read_bytes(), right.read_bytes()
    left.write_bytes(right_raw)
    right.write_bytes(left_raw)


def test_logs_that_changed_places_between_runs_are_named(store: Store) -> None:
    swap(store.metrics("one", "a"), store.metrics("one", "b"))
    rows, problems = read_all(store.root)
    assert (rows["one/a"], rows["one/b"], len(rows["two/a"])) == ([], [], STEPS)
    for run in "ab":
        assert [one for one in problems if store.folder("one", run).name in one]


def test_logs_that_changed_places_within_a_run_are_named(store: Store) -> None:
    facts, log = store.meta(), store.metrics()
    swap(facts, log)
    rows, problems = read_all(store.root)
    assert "one/a" not in rows or rows["one/a"] == []
    assert len([one for one in problems if facts.name in one or log.name in one]) >= 2


@pytest.mark.parametrize("source", ["one/b", "two/a"])
def test_a_log_that_was_put_into_another_run_is_named(store: Store, source: str) -> None:
    foreign = store.metrics(*source.split("/"))
    target = store.folder("one", "a") / foreign.name
    shutil.copy(foreign, target)
    check(store, "one/a", target, least_left=STEPS)


def test_a_run_that_was_moved_to_another_project_is_named(store: Store) -> None:
    for what in ("runs", "keys"):
        shutil.rmtree(store.folder("one", "a", what))
        shutil.copytree(store.folder("two", "a", what), store.folder("one", "a", what))
    rows, problems = read_all(store.root)
    assert rows.get("one/a", []) == []
    assert [one for one in problems if store.metrics("two", "a").name in one]


def test_a_frame_that_was_moved_to_another_run_is_named(store: Store) -> None:
    from localstore.format.segment import decode_frame, decode_header

    log, other = store.metrics(), store.metrics("one", "b")
    raw, foreign = log.read_bytes(), memoryview(other.read_bytes())
    mine = decode_frame(memoryview(raw), decode_header(raw)[1])
    theirs = decode_frame(foreign, decode_header(foreign)[1])
    log.write_bytes(raw[: mine.offset] + bytes(theirs.raw) + raw[mine.end :])
    check(store, "one/a", log, least_left=STEPS * 3 // 4)


@pytest.mark.parametrize("seed", range(10))
def test_a_damaged_tail_copy_is_named_and_costs_a_record(store: Store, seed: int) -> None:
    copy = store.tail_copy()
    raw = bytearray(copy.read_bytes())
    raw[random.Random(seed).randrange(len(raw) - 300)] ^= 0x10
    copy.write_bytes(raw)
    check(store, "one/tail", copy, least_left=STEPS - 2)


def test_a_tail_copy_of_another_run_is_named(store: Store) -> None:
    tail, log = store.tail_copy(), store.metrics()
    target = log.with_name(f"{log.stem}-{tail.stem[-32:]}.tail")
    shutil.copy(tail, target)
    raw = log.read_bytes()
    log.write_bytes(raw[: len(raw) // 2])
    check(store, "one/a", target)


@pytest.mark.parametrize("attack", ["flip", "cut", "empty", "swap", "delete", "other project"])
def test_a_keyslot_that_is_not_itself_is_named(store: Store, attack: str) -> None:
    slot = store.slot("one", "a")
    raw = slot.read_bytes()
    other = store.slot("two" if attack == "other project" else "one", "b").read_bytes()
    match attack:
        case "flip":
            slot.write_bytes(raw[:100] + bytes([raw[100] ^ 1]) + raw[101:])
        case "cut":
            slot.write_bytes(raw[:-1])
        case "empty":
            slot.write_bytes(b"")
        case "delete":
            slot.unlink()
        case _:
            slot.write_bytes(other)
    named = store.metrics() if attack == "delete" else slot
    rows, problems = read_all(store.root)
    unreadable = store.folder("one", "a").name
    assert {path for path in rows if path.startswith("one")} >= {"one/b", "one/tail"}
    assert len(rows["one/b"]) == STEPS
    assert [one for one in problems if unreadable in one]
    assert [one for one in problems if named.name in one]


def test_a_planted_keyslot_of_a_stranger_keeps_nobody_from_reading(store: Store) -> None:
    from localstore import keyslots

    project = store.projects["one"]
    (slot,) = keyslots.read_slots(project.paths, project.subject("a"))
    for number in range(20):
        keyslots.write_slot(
            project.paths,
            spec.SlotKind.PAIR,
            subject=slot.subject,
            recipient=slot.recipient,
            secret=bytes(32) if number % 2 else bytes(31),
            signer_seed=crypto.random_bytes(32),
            epoch=slot.epoch,
            cert=slot.cert,
            pair=slot.pair,
            classes=slot.classes,
        )
    rows, _ = read_all(store.root)
    assert len(rows["one/a"]) == STEPS


@pytest.mark.parametrize("folder", ["links", "certs"])
@pytest.mark.parametrize("attack", ["flip", "cut", "empty", "swap"])
def test_a_link_or_certificate_that_is_not_itself_is_named(
    store: Store, folder: str, attack: str
) -> None:
    for number in range(len(list((store.paths("one").root / folder).iterdir()))):
        path = sorted((store.paths("one").root / folder).iterdir())[number]
        raw = path.read_bytes()
        changed = {
            "flip": raw[:90] + bytes([raw[90] ^ 4]) + raw[91:],
            "cut": raw[:-1],
            "empty": b"",
            "swap": sorted((store.paths("two").root / folder).iterdir())[0].read_bytes(),
        }[attack]
        if changed == raw:
            continue  # a certificate that both projects have
        path.write_bytes(changed)
        rows, problems = read_all(store.root)
        assert {len(rows["two/a"]), len(rows["two/b"])} == {STEPS}
        assert [one for one in problems if path.name in one or f"{folder}" in one], problems
        path.write_bytes(raw)


@pytest.mark.parametrize("name", ["x.log", "0" * 32 + ".log", "..log", "a" * 200])
def test_a_stray_file_is_no_run_and_hides_none(store: Store, name: str) -> None:
    (store.folder("one", "a") / name).write_bytes(b"stray")
    rows, _ = read_all(store.root)
    assert len(rows["one/a"]) == STEPS


def test_a_folder_in_the_place_of_a_log_is_named(store: Store) -> None:
    log = store.metrics()
    log.unlink()
    log.mkdir()
    check(store, "one/a", log)


def test_a_file_in_the_place_of_a_run_is_passed_over(store: Store) -> None:
    folder = store.folder("one", "a")
    shutil.rmtree(folder)
    folder.write_bytes(b"")
    rows, _ = read_all(store.root)
    assert len(rows["one/b"]) == STEPS


@pytest.mark.parametrize("content", [b"", b"\0", b"\xff" * 5000])
def test_a_damaged_cache_is_made_anew(store: Store, content: bytes) -> None:
    read_all(store.root)
    (cache,) = store.paths("one").root.rglob("runs.cache")
    cache.write_bytes(content)
    rows, problems = read_all(store.root)
    assert (len(rows["one/a"]), problems) == (STEPS, [])


def test_a_cache_of_another_project_is_made_anew(store: Store) -> None:
    read_all(store.root)
    local = [store.paths(name).local / "runs.cache" for name in ("one", "two")]
    swap(*local)
    rows, problems = read_all(store.root)
    assert (len(rows), problems) == (5, [])


def test_a_damaged_project_costs_no_training(store: Store, capsys: Any) -> None:
    for path in (store.paths("one").root / "links").iterdir():
        path.write_bytes(b"")
    assert HomePaths(store.root).all_projects()
    with localstore.init(project="two", dir=store.root) as run:
        run.log({"n": 1})
    assert len(read_all(store.root)[0]) == 3
