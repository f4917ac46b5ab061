"""Records that a member, or a machine with a ticket, may write into segments that are believed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from localstore import crypto
from localstore.appending import Segment, SegmentPlan
from localstore.format import spec
from localstore.format.packing import varint
from localstore.format.spec import DataClass, FrameType, RecordKind

if TYPE_CHECKING:
    from localstore.project import Project

Rows = list[list[Any]]
HUGE: Final = 2**64 - 1
NOTHING: Final = bytes(32)
# Clears the screen, turns text around, ends lines, sets a clipboard.
EVIL: Final = "\x1b[2J\u202e\r\n\x9b31m\x1b]52;c;AAAA\x07\u2028\x85"
LONG_NAME: Final = "l" * 300


def nested(levels: int, *, lists: bool = False) -> Any:
    """A value of so many arrays or maps within each other."""
    value: Any = 1
    for _ in range(levels):
        value = [value] if lists else {"d": value}
    return value


def whole(path: str, content: bytes, **facts: Any) -> list[Any]:
    """Path and body of a FILE that is what it says."""
    body = {"size": len(content), "hash": crypto.content_hash(content), "data": content}
    return [path, {**body, **facts}]


def parts(size: Any, *listed: Any) -> dict[str, Any]:
    """The body of a FILE with parts."""
    return {"size": size, "hash": NOTHING, "parts": list(listed)}


FILES: Final[Rows] = [
    *(["x", {"size": size, "hash": NOTHING, "data": b"x"}] for size in (-5, HUGE, 1.5, None)),
    ["true", {"size": True, "hash": crypto.content_hash(b"x"), "data": b"x"}],
    ["hash", {"size": 1, "hash": b"", "data": b"x"}],
    ["map", {"size": 1, "hash": NOTHING, "data": {"x": 1}}],
    ["id", parts(5, [b"a" * 5000, b"k", 0, 5])],
    ["key", parts(5, [NOTHING, b"k", 0, 5])],
    ["before", parts(5, [NOTHING, NOTHING, -9, 5])],
    ["beyond", parts(HUGE, [b"", b"", HUGE, HUGE])],
    ["less", parts(5, [NOTHING, NOTHING, 0, -(2**63)], [NOTHING, NOTHING, 0, 5])],
    ["absent", parts(5, [NOTHING, NOTHING, 0, 5])],
    ["requirements.txt", parts(2, [b"a" * 5000, b"k", 0, 2])],
    ["short"], ["number", 5], [5, {}], [],
    *(whole(path, b"evil") for path in ("../up", "/abs", "", "nul\0", "a/../../b", "./c")),
    *(whole(path, b"evil") for path in (LONG_NAME, "a/" * 3000 + "b", "a/" * 150 + "b")),
    *(whole(path, b"evil") for path in ("file", "file/below")),
    *(whole(f"code/{path}", b"evil") for path in ("../../up", ".git/hooks/x", LONG_NAME, EVIL)),
    *(whole(f"untracked/{path}", b"evil") for path in (".GIT/config", "nul\0", "b", "b/c")),
    whole("diff.patch", b'--- "a\\\n@@ -1 +1 @@\n-***MASKED:x***\n'),
    whole("media/x.png", b"\x89PNG", kind="image-file"),
    whole(
        EVIL, b"x", caption=EVIL, kind=EVIL, width=2**63, height=-1,
        fps=float("nan"), seconds=float("inf"), rows=nested(800), title=nested(800, lists=True),
    ),
    whole("fine", b"fine"),
]  # fmt: skip

FACTS: Final[Rows] = [
    ["git", {
        "commit": 5, "submodules": {EVIL: EVIL, "-x": 5}, "limits": {EVIL: nested(800)},
        "code_root": "../..", "dirty": [], "masked": [5, {"file": nested(500)}], "remote": EVIL,
    }],
    ["git", {"commit": "a" * 40, "limits": ["x"], "code_root": nested(800)}],
    ["environment", {"command": 5, "folder": "\0", "hardware": {"memory_bytes": 10**18}}],
    ["environment", {
        "command": {"a": 1}, "folder": 7, "python": nested(800), "job": {EVIL: EVIL},
        "gpus": [{"name": EVIL, "memory_mb": 2**63}, {"memory_mb": float("inf")}],
        "hardware": {"memory_bytes": float("nan"), "cpu_limit": float("inf")},
    }],
    ["environment", {"command": ["python", "x\0y"], "folder": "a" * 5000, "x": nested(800)}],
    ["environment", {"command": ["python", EVIL, MASK := "***MASKED:x***"], "folder": MASK}],
    ["host", {"user": EVIL, "host": nested(800, lists=True)}],
    ["git", 5],
    [5, {}],
]  # fmt: skip

OUTPUTS: Final[Rows] = [
    [1, EVIL], [2**63, "x\r"], [-1, "\r\r\r"], [1, ""], ["x", "y"], [1, 5],
    [1, "\x1b[31;5;" + "1;" * 70 + "m"], [2, "\u2029"],
]  # fmt: skip

LINEAGE: Final[Rows] = [
    ["output", EVIL, NOTHING, {"type": EVIL, "project": EVIL, "entity": EVIL}],
    ["input", "../x", b"", {}],
    ["input", "model", NOTHING, {"project": "../..", "entity": "\0"}],
    ["input", "a" * 5000, NOTHING, {"project": nested(800)}],
    ["input", "model", NOTHING, 5],
    ["sideways", "model", NOTHING],
    ["input", 5, 5],
    [5, 5, 5],
]

EDITS: Final[Rows] = [
    [bytes(16), [], {
        "aliases": {EVIL: NOTHING, 5: 6, "v3": NOTHING, "ok": b"x"}, "version": NOTHING,
        "set": {"ttl_us": HUGE, "description": EVIL, "metadata": nested(800)},
        "tags_add": [EVIL, 5, "t" * 9999], "delete": b"x",
    }],
    [bytes(16), [bytes(16)], {"aliases": [], "set": 5, "tags_remove": {}}],
    [bytes(15) + b"1", [5, b"", nested(500)], {"delete": nested(800)}],
    [b"x", 5, 5],
]  # fmt: skip

VERSIONS: Final[Rows] = [
    [0, b"\xff" * 32, {
        "size": -1, "files": -5, "type": EVIL, "description": EVIL, "metadata": nested(800),
        "ttl_us": HUGE, "manifest": [NOTHING, NOTHING], "after": [5, nested(800)],
        "run": {"id": EVIL, "project": nested(800), "entity": 5},
    }],
    [2, bytes(31) + b"b", {
        "size": HUGE, "files": HUGE, "type": "../..", "manifest": [b"a" * 5000, NOTHING],
        "metadata": {"deep": nested(800, lists=True), EVIL: EVIL, "nan": float("nan")},
    }],
    [3, bytes(31) + b"c", {"manifest": [NOTHING], "ttl_us": 1, "metadata": {"z": b"\xff"}}],
    [10**9, bytes(31) + b"d", {"manifest": 5}],
    [-1, NOTHING, {}], [2**63, NOTHING, {}], [1, b"", {}], [1, NOTHING, 5], ["x", NOTHING, {}],
]  # fmt: skip

METAS: Final[Rows] = [
    [RecordKind.START, {"rerun_of": nested(800), "group": nested(800), "tags": [nested(800)]}],
    [RecordKind.START, {"process": {"pid": nested(800), "boot": EVIL}, "name": nested(800)}],
    [RecordKind.CONFIG, {"deep": nested(800), EVIL: EVIL}, []],
    [RecordKind.CONFIG, {"list": nested(800, lists=True), "when": datetime.now(UTC)}, []],
    [RecordKind.CONFIG, {"extension": msgspec.msgpack.Ext(5, b"x")}, []],
    [RecordKind.SUMMARY, {"deep": nested(800), "when": datetime.now(UTC)}, [nested(800)]],
    [RecordKind.STATE, "x", HUGE, [[b"x", 5, 5, b"x"], [NOTHING, HUGE, 0, b""], 5]],
    [RecordKind.ARTIFACT, {"name": "../x", "type": EVIL}],
    [RecordKind.ARTIFACT, {"name": EVIL, "type": nested(800)}],
    [RecordKind.ARTIFACT, 5],
    [RecordKind.GAP, HUGE, EVIL],
    [RecordKind.FACTS, "start", {"fingerprint": b"x"}],
]
TIMES: Final = (-(2**63), 2**64 - 1, 2**63, 2**61, -(2**61), 0)


def of_kind(kind: RecordKind, rows: Rows, time_us: int = 1) -> Rows:
    """Records with a time of these kinds."""
    return [[kind, time_us, *row] for row in rows]


def write(project: Project, subject: bytes, data_class: DataClass, records: Rows) -> None:
    """A segment of this machine, signed and believed, with any records."""
    plan = SegmentPlan(
        project=project,
        subject=subject,
        pair=project.pair(subject),
        writer=crypto.random_bytes(16),
        data_class=data_class,
    )
    segment = Segment(plan)
    for at, record in enumerate(records):
        body = msgspec.msgpack.encode(record)
        content = varint(at) + varint(1) + varint(len(body)) + body
        segment.append_block(FrameType.RECORDS, content, spec.Compression.NONE)
    segment.append_head(final=True)
    segment.sync()
    segment.close(keep_tails=False)
