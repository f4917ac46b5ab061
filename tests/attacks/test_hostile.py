"""Names, bytes and records of somebody who means harm."""

from __future__ import annotations

import resource
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import zstandard

import localstore
from localstore.appending import Segment, SegmentPlan
from localstore.errors import BadName, BadSetting
from localstore.format import spec
from localstore.format.packing import varint
from localstore.format.spec import DataClass, FrameType, RecordKind
from localstore.identity import now_us
from tests.sdk.scripts import column, only_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BAD_NAMES = (
    "a/b", "../up", "/etc/passwd", "..", ".", "...", "a\\b", "a:b", "nul\0byte", "line\nbreak",
    "\x7f", "\x1b[31m", "x" * 129, " ", "\t", "half \ud800 pair",
)  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
@pytest.mark.parametrize("what", ["project", "id", "entity"])
def test_a_bad_name_is_refused_and_leaves_nothing(tmp_path: Path, what: str, name: str) -> None:
    words: dict[str, Any] = {"project": "fine", what: name}
    with pytest.raises(BadName):
        localstore.init(**words)
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("words", [{"id": 5}, {"project": 5}, {"tags": 5}, {"mode": "online"}])
def test_an_argument_of_a_wrong_kind_is_refused_and_leaves_nothing(
    tmp_path: Path, words: dict[str, Any]
) -> None:
    with pytest.raises((BadSetting, TypeError)):
        localstore.init(**words)
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    "name", ["é", "日本", "a b", "🜚" * 128, "CON", "-rf", "%s{}$HOME", "x" * 128]
)
def test_an_unusual_name_is_a_name(name: str) -> None:
    with localstore.init(project=name, id=name, name=name, tags=[name]) as run:
        run.log({name: 1})
    run_again = localstore.Api().run(f"{name}/{name}")
    assert (run_again.name, run_again.tags, column(name, run_again)) == (name, [name], [1])


# ------------------------------------------------------------------ a writer who means harm
def forged_segment(data_class: DataClass) -> Segment:
    """A segment of a believed device in a run that is there: its holder may write anything."""
    with localstore.init(project="hostile", id="victim") as run:
        run.log({"n": 1})
    stored = only_run()
    project, subject = stored._project, stored._subject
    plan = SegmentPlan(
        project=project,
        subject=subject,
        pair=project.pair(subject),
        writer=b"hostile writer!!",
        data_class=data_class,
    )
    return Segment(plan)


def read_everything() -> Any:
    """As a viewer would: lists, histories, summaries, dicts."""
    api = localstore.Api()
    for run in api.runs():
        run.to_dict()
        list(run.scan_history())
        run.history(pandas=False)
        _ = (run.state, run.exit_code, run.gaps, run.summary, repr(run))
    return api.runs(order="-created_at")


def bomb(size: int) -> bytes:
    """A zstd frame that claims, and has, many zeros."""
    return zstandard.ZstdCompressor(level=19, write_content_size=True).compress(bytes(size))


def lying_bomb(claim: int) -> bytes:
    """A zstd frame of zeros whose header claims less."""
    honest = bomb(200_000_000)
    # Frame header: magic 4, descriptor 1, then window and content size of 4 bytes.
    small = bomb(claim)
    return small[:4] + small[4:9] + honest[9:]


@pytest.mark.parametrize("make", ["honest", "lying", "nested rows", "cells"])
@pytest.mark.parametrize("kind", [FrameType.RECORDS, FrameType.COLUMNS])
def test_a_bomb_in_a_frame_is_refused_in_bounded_memory(kind: FrameType, make: str) -> None:
    content = {
        "honest": lambda: bomb(900_000_000),
        "lying": lambda: lying_bomb(1000),
        "nested rows": lambda: bomb(60_000_000),
        "cells": cells_bomb,
    }[make]()
    segment = forged_segment(DataClass.METRICS)
    segment.append_block(kind, content, spec.Compression.ZSTD)
    segment.append_head(final=True)
    segment.sync()
    segment.close(keep_tails=False)
    code = """
import resource, sys, localstore
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
run, = localstore.Api().runs()
rows = list(run.scan_history())
assert [row["n"] for row in rows if "n" in row] == [1], rows
assert run.problems, "nothing was said"
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) < 700_000, f"{done.stdout} KiB"
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss > 0


def cells_bomb() -> bytes:
    """A block of few bytes that claims a constant of a million rows in very many columns."""
    rows = spec.MAX_BLOCK_ROWS
    head = varint(0) + varint(rows) + varint(rows) + varint(0)
    integers = varint(0) + varint(2) + b"\0"
    columns = b"".join(varint(number) + bytes((6,)) + varint(1) + b"\x00" for number in range(5000))
    raw = head + integers + integers + varint(5000) + columns
    return zstandard.ZstdCompressor(write_content_size=True).compress(raw)


RECORDS: dict[str, Callable[[], list[Any]]] = {
    "start without map": lambda: [RecordKind.START, now_us(), 5],
    "start of wrong kinds": lambda: [
        RecordKind.START,
        now_us(),
        {"id": 5, "name": {}, "tags": 7, "process": "x", "group": [], "notes": None},
    ],
    "start with a dead process": lambda: [
        RecordKind.START,
        now_us(),
        {"process": {"boot": [], "pid": 2**63, "pidns": {}, "started": "x"}},
    ],
    "start with a pid beyond all": lambda: [
        RecordKind.START,
        now_us(),
        {"process": {"pid": 2**63, "started": -1}},
    ],
    "config with keys that are no text": lambda: [RecordKind.CONFIG, now_us(), {5: 1}, [[]]],
    "summary with keys that are no text": lambda: [RecordKind.SUMMARY, now_us(), {5: {6: 1}}, []],
    "state of nothing": lambda: [RecordKind.STATE, now_us(), "", {}],
    "define of nonsense": lambda: [
        RecordKind.DEFINE, now_us(), "[", {"summary": 5, "goal": [], 7: 7},
    ],
    "define of a glob": lambda: [RecordKind.DEFINE, now_us(), "*", {"summary": ["min", 5]}],
    "gap of nonsense": lambda: [RecordKind.GAP, now_us(), -(2**63), "\u202e"],
    "time before time": lambda: [RecordKind.CONFIG, -(2**63), {"a": 1}, []],
    "time after time": lambda: [RecordKind.CONFIG, 2**63 - 1, {"a": 1}, []],
    "short": lambda: [RecordKind.POINT, now_us()],
    "point of wrong kinds": lambda: [RecordKind.POINT, now_us(), "x", []],
    "point with keys that are no text": lambda: [
        RecordKind.POINT, now_us(), 5, {5: 1, "a": {6: 2}},
    ],
    "nested keys that are no text": lambda: [RecordKind.POINT, now_us(), 5, {"a": {6: {7: 2}}}],
    "a time that no calendar has": lambda: [RecordKind.CONFIG, 2**61, {"a": 1}, []],
    "a time before all calendars": lambda: [RecordKind.CONFIG, -(2**61), {"a": 1}, []],
    "point beyond all steps": lambda: [RecordKind.POINT, 2**63 - 1, 2**64 - 1, {"a": 1}],
    "point of our own columns": lambda: [
        RecordKind.POINT, now_us(), 5, {"_step": "x", "_timestamp": [], "_runtime": {}},
    ],
    "point of deep values": lambda: [RecordKind.POINT, now_us(), 5, deep(400)],
    "unknown kind": lambda: [99, now_us(), "later"],
    "unknown negative kind": lambda: [-1, now_us()],
    "edit": lambda: [RecordKind.EDIT, now_us(), "x", 5, 5],
}  # fmt: skip


def deep(levels: int) -> dict[str, Any]:
    value: Any = 1
    for _ in range(levels):
        value = {"d": value}
    return {"deep": value}


@pytest.mark.parametrize("data_class", [DataClass.META, DataClass.METRICS])
@pytest.mark.parametrize("what", RECORDS)
def test_a_record_of_nonsense_breaks_no_list_and_no_history(
    what: str, data_class: DataClass
) -> None:
    body = msgspec.msgpack.encode(RECORDS[what]())
    segment = forged_segment(data_class)
    content = varint(0) + varint(1) + varint(len(body)) + body
    segment.append_block(FrameType.RECORDS, content, spec.Compression.NONE)
    segment.append_head(final=True)
    segment.sync()
    segment.close(keep_tails=False)
    (run,) = read_everything()
    assert 1 in column("n", run)
