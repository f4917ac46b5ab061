"""What the `meta` class of a run says: a fold of its records over all its writers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from localstore.format.spec import RecordKind
from localstore.reading import closed_logs
from localstore.sdk.liveness import is_alive
from localstore.trust import Belief

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from localstore.format.records import Record
    from localstore.reading import SegmentContent


@dataclass(slots=True)
class WriterFacts:
    """One process that wrote the run."""

    process: dict[str, Any] = field(default_factory=dict)
    last_seen_us: int = 0
    ended: str = ""  # finished or failed; empty while nothing was said
    exit_code: int = 0
    succeeded: bool = False  # another writer goes on from where this one stopped
    closed: list[tuple[bytes, int, bytes]] = field(default_factory=list)  # its other logs


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """A version of an artifact that a run used (`input`) or logged (`output`)."""

    direction: str
    name: str
    digest: bytes
    type: str = ""
    project: str = ""
    entity: str = ""
    time_us: int = 0

    @property
    def key(self) -> tuple[str, str, bytes, str, str]:
        """What is the same however often the run said it."""
        return self.direction, self.name, self.digest, self.project, self.entity


@dataclass(slots=True)
class RunInfo:
    """Everything of a run but its history; plain values, so that it can be cached."""

    id: str = ""
    created_us: int = 0
    updated_us: int = 0
    info: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    definitions: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    gaps: dict[str, int] = field(default_factory=dict)
    writers: dict[str, WriterFacts] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    lineage: list[Lineage] = field(default_factory=list)
    artifact: str = ""  # the name, where these are the records of an artifact
    fingerprint: bytes = b""  # of code and config, when the last writer began

    @property
    def complete(self) -> bool:
        """Whether every writer ended and so left its summary."""
        return all(w.ended or not w.process for w in self.writers.values())

    def working(self, now_us: int) -> list[str]:
        """The writers that may still write."""
        return [
            writer
            for writer, facts in self.writers.items()
            if facts.process
            and not facts.ended
            and is_alive(facts.process, facts.last_seen_us, now_us)
        ]

    def state(self, now_us: int) -> tuple[str, int | None]:
        """running, finished, failed or crashed, and the exit code."""
        last = [w for w in self.writers.values() if not w.succeeded and w.process]
        silent = [w for w in last if not w.ended]
        if any(is_alive(w.process, w.last_seen_us, now_us) for w in silent):
            return "running", None
        failed = [w for w in last if w.ended == "failed"]
        if failed:
            return "failed", failed[0].exit_code
        if silent or not last:
            return "crashed", None
        return "finished", 0


def fold_info(contents: Iterable[SegmentContent]) -> RunInfo:
    """Fold the `meta` segments of one run; order is (time, writer, sequence)."""
    out = RunInfo()
    records: list[tuple[int, bytes, int, Record]] = []
    followed: set[tuple[bytes, str]] = set()
    by_segment: dict[bytes, WriterFacts] = {}
    for content in contents:
        header = content.header
        writer = out.writers.setdefault(header.writer.hex(), WriterFacts())
        writer.last_seen_us = max(writer.last_seen_us, content.last_seen_us)
        by_segment[header.segment] = writer
        writer.closed += closed_logs(content)
        followed.update((p.segment, header.writer.hex()) for p in header.predecessors)
        if content.verdict.belief is Belief.FLAGGED:
            out.flags.append(content.verdict.reason)
        records += ((r[1], header.writer, s, r) for s, r in content.records.items())
    for segment, by in followed:
        # A writer that goes on in another segment, because its disk failed, succeeds nobody.
        if segment in by_segment and by_segment[segment] is not out.writers[by]:
            by_segment[segment].succeeded = True
    records.sort(key=lambda item: item[:3])
    before: tuple[int, bytes, Record] | None = None
    for time_us, writer_id, _, record in records:
        if before == (time_us, writer_id, record):
            continue  # once more in another segment, because the disk failed under the first
        before = (time_us, writer_id, record)
        _apply(out, out.writers[writer_id.hex()], time_us, record)
    out.lineage = list({one.key: one for one in reversed(out.lineage)}.values())[::-1]
    return out


def _apply(out: RunInfo, writer: WriterFacts, time_us: int, record: Record) -> None:
    out.created_us = out.created_us or time_us
    out.updated_us = max(out.updated_us, time_us)
    match record:
        case [RecordKind.START, _, dict(start), *_] if _is_start(start):
            writer.process = start.get("process", {})
            out.id = str(start.get("id", out.id))
            out.info.update((k, v) for k, v in start.items() if k not in ("process", "id"))
        case [RecordKind.CONFIG, _, dict(changed), list(deleted), *_]:
            _update(out.config, changed, deleted)
        case [RecordKind.SUMMARY, _, dict(changed), list(deleted), *_]:
            _update(out.summary, changed, deleted)
        case [RecordKind.STATE, _, str(state), code, *_]:
            writer.ended = "failed" if state == "failed" else "finished"
            writer.exit_code = code if isinstance(code, int) else 0
        case [RecordKind.DEFINE, _, str(name), dict(body), *_] if _is_definition(body):
            out.definitions.append((name, body))
        case [RecordKind.GAP, _, int(count), str(reason), *_]:
            out.gaps[reason] = out.gaps.get(reason, 0) + count
        case [RecordKind.FACTS, _, "start", {"fingerprint": bytes(found)}, *_]:
            out.fingerprint = found
        case [RecordKind.LINEAGE | RecordKind.ARTIFACT, *_]:
            _apply_artifact(out, time_us, record)
        case _:
            pass  # of a later localstore, or nonsense: one bad run must not stop the others


def _apply_artifact(out: RunInfo, time_us: int, record: Record) -> None:
    match record:
        case [RecordKind.ARTIFACT, _, {"name": str(name)}, *_]:
            out.artifact = out.artifact or name
        case [RecordKind.LINEAGE, _, "input" | "output" as way, str(name), bytes(digest), *more]:
            facts = more[0] if more and isinstance(more[0], dict) else {}
            out.lineage.append(
                Lineage(
                    direction=way,
                    name=name,
                    digest=digest,
                    type=str(facts.get("type", "")),
                    project=str(facts.get("project", "")),
                    entity=str(facts.get("entity", "")),
                    time_us=time_us,
                )
            )


def _is_start(body: Mapping[Any, Any]) -> bool:
    process, tags = body.get("process", {}), body.get("tags", [])
    return isinstance(process, dict) and isinstance(tags, list)


def _is_definition(body: Mapping[Any, Any]) -> bool:
    wanted = body.get("summary", [])
    return isinstance(wanted, list) and all(isinstance(one, str) for one in wanted)


def _update(target: dict[str, Any], changed: Mapping[Any, Any], deleted: Iterable[Any]) -> None:
    target.update((key, value) for key, value in changed.items() if isinstance(key, str))
    for key in deleted:
        if isinstance(key, str):
            target.pop(key, None)
