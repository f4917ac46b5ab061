"""Opening segments: verify, decrypt, and list what each one holds (docs/format.md, section 6.6).

Damage costs what it damaged: each problem is kept with file and offset, and reading goes on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from localstore import crypto, layout
from localstore.errors import Damaged, Forged, NotPermitted, Torn
from localstore.format import spec
from localstore.format.columns import Block, decode_block
from localstore.format.packing import unpad
from localstore.format.records import Record, bounded, decode_record, decode_records
from localstore.format.segment import (
    Frame,
    Head,
    SegmentHeader,
    decode_head,
    decode_header,
    decode_ref,
    decode_unref,
    first_chain,
    scan_frames,
)
from localstore.format.spec import FrameType, RecordKind
from localstore.trust import Belief, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from localstore.project import Project


@dataclass(slots=True, kw_only=True)
class SegmentContent:
    """What one segment holds, as far as it could be read.

    Attributes:
        name: the log's name, relative to the project.
        blocks: COLUMNS frames in order.
        records: other records by sequence number, those of tails included.
        problems: damage, each with file and offset.
        references: object ids by the index of the REF frame that names them.
        cancelled: (segment id, frame index) of REF frames that this segment takes back.
        head: the last head that fits, None when there is none.
        vouched: bytes of the log that `head` signs.
    """

    name: str
    header: SegmentHeader
    verdict: Verdict
    length: int
    blocks: list[Block] = field(default_factory=list)
    records: dict[int, Record] = field(default_factory=dict)
    problems: list[Damaged] = field(default_factory=list)
    references: dict[int, list[bytes]] = field(default_factory=dict)
    cancelled: list[tuple[bytes, int]] = field(default_factory=list)
    head: Head | None = None
    vouched: int = 0
    last_seen_us: int = 0
    frames: int = 0
    chain: bytes = b""  # after the last frame

    def in_order(self) -> list[Record]:
        """The records that stand in no block, by sequence number."""
        return [self.records[at] for at in sorted(self.records)]


class FrameWalk:
    """Keyless facts of a log: its frames, their chain and heads."""

    def __init__(self, name: str, raw: bytes) -> None:
        self.view = memoryview(raw)
        self.header, self.start = decode_header(self.view)
        self.name, self.problems = name, list[Damaged]()
        self.frames: list[Frame] = []
        self.head: Head | None = None
        self.vouched = 0
        self.chain = b""  # after the last frame
        self.chains: dict[int, bytes] = {}  # by the length of the log that each covers
        self._walk()

    def _walk(self) -> None:
        chain, whole, count = first_chain(self.view[: self.start]), True, 0
        self.chains[self.start] = chain
        heads: list[tuple[Frame, bytes, int]] = []
        seen: set[int] = set()
        expected, after_damage = 0, False
        for item in scan_frames(self.view, self.start):
            if isinstance(item, Damaged):
                whole, after_damage = False, True
                self.problems.append(item.at(self.name))
                continue
            if item.index != expected and not (after_damage and item.index > expected):
                whole = False
                what = f"frame {item.index} stands where frame {expected} belongs"
                self.problems.append(Damaged(what, file=self.name, offset=item.offset))
            if item.kind == FrameType.HEAD and whole:
                heads.append((item, chain, count))
            if item.index not in seen:
                self.frames.append(item)
                seen.add(item.index)
            expected, after_damage = max(expected, item.index + 1), False
            chain = crypto.chain_step(chain, (item.raw,))
            self.chains[item.end] = chain
            count += 1
        self.chain = chain
        self._check_last(heads)

    def _check_last(self, heads: list[tuple[Frame, bytes, int]]) -> None:
        """The last head vouches for all before it, earlier heads included."""
        for frame, chain, count in reversed(heads):
            try:
                head = decode_head(frame, self.header.segment, self.header.device)
                if (head.count, head.length, head.chain) != (count, frame.offset, chain):
                    raise Forged("a head that does not fit what stands before it")
                self.head, self.vouched = head, frame.end
            except Damaged as problem:
                self.problems.append(problem.at(self.name, frame.offset))
                continue
            if head.final and frame is not self.frames[-1]:
                more = Damaged("bytes after the final head", file=self.name, offset=frame.end)
                self.problems.append(more)
            return


def read_segment(
    project: Project, name: str, *, tails: Iterable[Path] = (), raw: bytes | None = None
) -> SegmentContent:
    """Open one segment with this machine's keys.

    Args:
        project: open for reading.
        name: of the log or of a fork copy, relative to the project.
        tails: files with RECORD frames of the same segment.

    Returns:
        All that could be read; `problems` names the rest.

    Raises:
        Damaged: the header cannot be read or believed, so nothing can.
        NotPermitted: no keyslot here opens the run.
        OSError: the disk refused.
    """
    # Tails first: their records go from there into the log, never back.
    tail_bytes = [(path.name, data) for path in tails if (data := _tail_bytes(path))]
    data = project.paths.file(name).read_bytes() if raw is None else raw
    try:
        walk = FrameWalk(name, data)
        _check_place(project, name, walk.header)
        verdict = project.state.judge(walk.header)
        if verdict.belief is Belief.REFUSED:
            raise Forged(f"not believed: {verdict.reason}")
        opener = _opener(project, walk.header)
    except Damaged as problem:
        raise problem.at(name) from problem
    content = SegmentContent(
        name=name,
        header=walk.header,
        verdict=verdict,
        length=len(data),
        problems=walk.problems,
        head=walk.head,
        vouched=walk.vouched,
        frames=len(walk.frames),
        chain=walk.chain,
        last_seen_us=walk.head.time_us if walk.head else walk.header.started_us,
    )
    covered = _read_frames(content, walk.frames, opener)
    for tail, tail_data in tail_bytes:
        _read_tail(content, tail, tail_data, opener, covered)
    return content


def _tail_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _check_place(project: Project, name: str, header: SegmentHeader) -> None:
    place = layout.parse_name(name)
    found = (header.project, header.subject.hex(), header.segment.hex())
    if found != (project.id, place.subject, place.segment):
        raise Forged("a segment that belongs to another project, run or name")


def _opener(project: Project, header: SegmentHeader) -> crypto.FrameOpener:
    secret = project.class_secret(header.subject, header.pair, header.data_class)
    key = crypto.unseal(secret, header.sealed_key, header.context())
    if not crypto.same(crypto.derive(key, spec.LABEL_COMMIT, header.segment), header.commitment):
        raise Forged("a segment key that its header does not commit to")
    return crypto.FrameOpener(key, header.segment)


def _read_frames(
    content: SegmentContent, frames: list[Frame], opener: crypto.FrameOpener
) -> list[range]:
    """Decode the frames of a log; returns the sequence numbers that they cover."""
    covered: list[range] = []
    for frame in frames:
        try:
            if frame.kind == FrameType.COLUMNS:
                block = decode_block(unpad(opener.open(frame.header, frame.body)))
                content.blocks.append(block)
                covered.append(range(block.first_sequence, _end(block)))
            elif frame.kind == FrameType.RECORDS:
                first, records = decode_records(unpad(opener.open(frame.header, frame.body)))
                content.records.update(
                    zip(range(first, first + len(records)), records, strict=True)
                )
                covered.append(range(first, first + len(records)))
            elif frame.kind == FrameType.REF:
                content.references[frame.index] = decode_ref(frame)
            elif frame.kind == FrameType.UNREF:
                content.cancelled += decode_unref(frame)
            elif frame.kind == FrameType.RECORD:
                raise Damaged("a tail's record in a log")
        except Damaged as problem:
            content.problems.append(problem.at(content.name, frame.offset))
    return covered


def _end(block: Block) -> int:
    return block.first_sequence + block.record_count


def _read_tail(
    content: SegmentContent, tail: str, raw: bytes, opener: crypto.FrameOpener, covered: list[range]
) -> None:
    """Add the records of a tail that stand in no block; torn ends are no damage here."""
    for item in scan_frames(memoryview(raw), 0):
        if isinstance(item, Damaged):
            # A live tail is overwritten from its start: only shipped copies must be whole.
            if tail.endswith(".tail") and not isinstance(item, Torn):
                content.problems.append(item.at(f"{content.name}:{tail}"))
            continue
        if any(item.index in some for some in covered) or item.index in content.records:
            continue
        try:
            if item.kind == FrameType.RECORD:
                record = bounded(decode_record(unpad(opener.open(item.header, item.body))))
                content.records[item.index] = record
                content.last_seen_us = max(content.last_seen_us, record[1])
        except Damaged as problem:
            content.problems.append(problem.at(f"{content.name}:{tail}", item.offset))


def closed_logs(content: SegmentContent) -> list[tuple[bytes, int, bytes]]:
    """What a writer's STATE says of its other logs: segment id, class, chain after all frames."""
    found = []
    for record in content.records.values():
        match record:
            case [RecordKind.STATE, _, _, _, list(logs), *_]:
                for log in logs:
                    match log:
                        case [bytes(segment), int(data_class), int(), bytes(chain), *_]:
                            found.append((segment, data_class, chain))
            case _:
                pass
    return found


def tagged_logs(content: SegmentContent) -> frozenset[bytes]:
    """Segment ids of the logs among them that a rule may keep on their machine."""
    return frozenset(
        log[0]
        for record in content.records.values()
        if record[0] == RecordKind.STATE and len(record) > 4 and isinstance(record[4], list)
        for log in record[4]
        if isinstance(log, list) and len(log) > 4 and isinstance(log[0], bytes) and log[4] == 1
    )


# ------------------------------------------------------------------ all of one run
@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentFiles:
    """The files of one segment on disk."""

    name: str
    tails: tuple[Path, ...]
    header: SegmentHeader


def list_segments(
    project: Project, subject: bytes, problems: list[Damaged], tail_folder: Path | None = None
) -> Iterator[SegmentFiles]:
    """The segments of a run by their headers, which are read without any key.

    Files that cannot be read, or are none of ours, go to `problems`.
    """
    folder = project.paths.runs / subject.hex()
    if not folder.is_dir():
        return
    entries = sorted(path.name for path in folder.iterdir())
    for entry in entries:
        name = f"runs/{subject.hex()}/{entry}"
        if not entry.endswith((".log", ".fork")):
            continue
        try:
            segment = layout.parse_name(name).segment
            with (folder / entry).open("rb") as file:
                header, _ = decode_header(file.read(spec.MAX_HEADER_BYTES))
        except FileNotFoundError:
            continue
        except OSError as error:
            problems.append(Damaged(f"it cannot be read: {error.strerror}", file=name))
            continue
        except Damaged as problem:
            problems.append(problem.at(name))
            continue
        tails = [folder / one for one in entries if one.startswith(segment) and _is_tail(one)]
        if tail_folder is not None:
            tails += [tail_folder / f"{segment}.t0", tail_folder / f"{segment}.t1"]
        yield SegmentFiles(name=name, tails=tuple(tails), header=header)


def _is_tail(name: str) -> bool:
    return name.endswith((".t0", ".t1", ".tail"))


def read_run(
    project: Project,
    subject: bytes,
    classes: Iterable[int],
    problems: list[Damaged],
    tail_folder: Path | None = None,
) -> list[SegmentContent]:
    """All segments of some classes of one run; unreadable ones go to `problems`."""
    wanted = frozenset(classes)
    contents = []
    for files in list_segments(project, subject, problems, tail_folder):
        if files.header.data_class not in wanted:
            continue
        try:
            content = read_segment(project, files.name, tails=files.tails)
        except FileNotFoundError:
            continue
        except OSError as error:
            problems.append(Damaged(f"it cannot be read: {error.strerror}", file=files.name))
            continue
        except NotPermitted as problem:
            problems.append(Damaged(str(problem), file=files.name))
            continue
        except Damaged as problem:
            problems.append(problem)
            continue
        problems += content.problems
        contents.append(content)
    return _one_of_each(project, contents, problems)


def _one_of_each(
    project: Project, contents: list[SegmentContent], problems: list[Damaged]
) -> list[SegmentContent]:
    """Of two versions of one log, the one with more vouched bytes (format.md, section 6.7)."""

    def rank(one: SegmentContent) -> tuple[int, int, bytes]:
        raw = project.paths.file(one.name).read_bytes()
        return -one.vouched, -one.frames, crypto.digest(spec.LABEL_FILE, raw)

    chosen: dict[bytes, SegmentContent] = {}
    for content in contents:
        other = chosen.setdefault(content.header.segment, content)
        if other is content:
            continue
        better, worse = sorted((content, other), key=rank)
        chosen[content.header.segment] = better
        what = f"there are two versions of this log, {better.name} is read"
        problems.append(Damaged(what, file=worse.name))
    return list(chosen.values())
