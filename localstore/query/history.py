"""A run's history: the segments of all its writers as one table (docs/format.md, section 6.8)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from localstore.errors import Damaged
from localstore.format.columns import Block, Column, rows_of
from localstore.format.segment import NOTHING_SUPERSEDED
from localstore.format.spec import DataClass, RecordKind
from localstore.sdk.summary import SummaryFold

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from localstore.query.info import RunInfo
    from localstore.reading import SegmentContent

MISSING: Final = object()
OWN_COLUMNS: Final = frozenset({"_step", "_timestamp", "_runtime"})


@dataclass(slots=True)
class Table:
    """Rows in order, with columns as pieces that start at a row.

    Attributes:
        steps: int. times_us: int, Unix time in microseconds. Both of shape (rows,).
        pieces: by key: the row at which each piece starts, and its values.
        order: row numbers to show, in order; None for all as they stand.
    """

    steps: list[int] = field(default_factory=list)
    times_us: list[int] = field(default_factory=list)
    pieces: dict[str, list[tuple[int, Column]]] = field(default_factory=dict)
    order: list[int] | None = None

    def __len__(self) -> int:
        return len(self.steps) if self.order is None else len(self.order)

    def _add(
        self, steps: Sequence[int], times: Sequence[int], columns: Mapping[str, Column]
    ) -> None:
        """Append rows; a first row of the step before completes that row."""
        start = len(self.steps)
        if start and steps and self.steps[-1] == steps[0]:
            start -= 1
            self.times_us[-1] = times[0]
            steps, times = steps[1:], times[1:]
        self.steps += steps
        self.times_us += times
        for name, column in columns.items():
            if name in OWN_COLUMNS:
                continue  # whoever logs these keys gets ours
            self.pieces.setdefault(name, []).append((start, column))

    def column(self, name: str) -> list[Any]:
        """Values of one key by row, `MISSING` where there is none."""
        values: list[Any] = [MISSING] * len(self.steps)
        for start, column in self.pieces.get(name, ()):
            if column.rows is None:
                values[start : start + len(column.values)] = column.values
            else:
                for row, value in zip(column.rows, column.values, strict=True):
                    values[start + row] = value
        return values if self.order is None else [values[row] for row in self.order]

    def rows(self, keys: Iterable[str] | None = None) -> Iterator[dict[str, Any]]:
        """Rows as dicts with `_step`, `_timestamp` (s) and the keys that have a value."""
        names = list(self.pieces if keys is None else (k for k in keys if k in self.pieces))
        order = range(len(self.steps)) if self.order is None else self.order
        columns = [self.column(name) for name in names]
        for at, row in enumerate(order):
            out = {"_step": self.steps[row], "_timestamp": self.times_us[row] / 1e6}
            for name, values in zip(names, columns, strict=True):
                if values[at] is not MISSING:
                    out[name] = values[at]
            if keys is None or len(out) > 2:
                yield out

    def values(self) -> Iterator[dict[str, Any]]:
        """What was logged, row by row."""
        for row in self.rows():
            del row["_step"], row["_timestamp"]
            yield row


# ------------------------------------------------------------------ one segment
def _segment_table(content: SegmentContent) -> Table:
    """The rows of one segment by sequence number: its blocks, and points that are in none."""
    names: dict[int, str] = {}
    for block in content.blocks:
        names.update(block.names)
    parts: list[tuple[int, Block | list[Any]]] = list(_once(content.blocks))
    run: list[Any] = []
    before = -2
    for sequence in sorted(content.records):
        record = content.records[sequence]
        if record[0] != RecordKind.POINT or not _is_point(record):
            continue
        if sequence != before + 1:
            run = []
            parts.append((sequence, run))
        run.append(record)
        before = sequence
    table = Table()
    for _, part in sorted(parts, key=lambda item: item[0]):
        if isinstance(part, Block):
            columns = {names.get(key, f"key#{key}"): one for key, one in part.columns.items()}
            table._add(part.steps, part.times_us, columns)
        else:
            _add_points(table, part)
    return table


def _once(blocks: Iterable[Block]) -> Iterator[tuple[int, Block]]:
    """Blocks by first sequence number, without those whose records stand in an earlier frame."""
    seen: list[range] = []
    for block in blocks:
        covers = range(block.first_sequence, block.first_sequence + block.record_count)
        if not any(covers.start < one.stop and one.start < covers.stop for one in seen[-64:]):
            seen.append(covers)
            yield block.first_sequence, block


def _is_point(record: Sequence[Any]) -> bool:
    if len(record) < 4 or not isinstance(record[2], int) or not isinstance(record[3], dict):
        return False
    return all(isinstance(key, str) for key in record[3])


def _add_points(table: Table, points: list[Any]) -> None:
    steps, times, rows = rows_of(record[:4] for record in points)
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {}
    for name in names:
        present = [at for at, row in enumerate(rows) if name in row]
        columns[name] = Column([rows[at][name] for at in present], present)
    table._add(steps, times, columns)


def fold_points(definitions: Iterable[tuple[str, dict[str, Any]]], table: Table) -> SummaryFold:
    """The summary that definitions and points make."""
    fold = SummaryFold()
    for name, body in definitions:
        fold.define(name, body)
    fold.add_points([0, 0, 0, row] for row in table.values())
    return fold


def cut_off(contents: Sequence[SegmentContent], info: RunInfo) -> list[Damaged]:
    """Logs that end before their writer did, which a final head would show."""
    replaced = {(p.segment, one.header.writer) for one in contents for p in one.header.predecessors}
    found = []
    for one in contents:
        writer = info.writers.get(one.header.writer.hex())
        failed_under = (one.header.segment, one.header.writer) in replaced
        if writer is None or not writer.process or failed_under:
            continue
        final = one.head is not None and one.head.final
        if final != bool(writer.ended):
            which = "its facts do" if final else "it does"
            what = f"its writer ended, and {which} not: cut off, or refused by the disk"
            found.append(Damaged(what, file=one.name, offset=one.length))
    here = {one.header.segment: one for one in contents}
    for writer in info.writers.values():
        for segment, data_class, chain in writer.closed:
            if data_class != DataClass.METRICS:
                continue
            if segment not in here:
                what = "its writer closed it, and it is not here: not arrived yet, or withheld"
                found.append(Damaged(what, file=f"{segment.hex()}.log"))
            elif here[segment].chain != chain and not here[segment].problems:
                what = "its writer closed it with other bytes"
                found.append(Damaged(what, file=here[segment].name))
    return found


# ------------------------------------------------------------------ many segments
def merge(contents: Sequence[SegmentContent]) -> Table:
    """All segments of a run's metrics as one table.

    A segment that supersedes from step s hides what its predecessors have from s on. Segments
    that continue one another follow one another; rows of others are ordered by (time, writer,
    sequence).
    """
    ordered = sorted(contents, key=lambda c: (c.header.started_us, c.header.segment))
    tables = [_segment_table(content) for content in ordered]
    if not tables:
        return Table()
    hidden = _hidden_rows(ordered, tables)
    if len(tables) == 1 and not hidden[0]:
        return tables[0]
    whole = Table()
    keys: list[tuple[Any, ...]] = []
    chained = _is_chain(ordered)
    for content, table, gone in zip(ordered, tables, hidden, strict=True):
        offset = len(whole.steps)
        whole.steps += table.steps
        whole.times_us += table.times_us
        for name, pieces in table.pieces.items():
            moved = ((start + offset, column) for start, column in pieces)
            whole.pieces.setdefault(name, []).extend(moved)
        writer = content.header.writer
        keys += (
            (0 if chained else time_us, b"" if chained else writer, offset + row)
            for row, time_us in enumerate(table.times_us)
            if row not in gone
        )
    whole.order = [key[2] for key in sorted(keys)]
    return whole


def _is_chain(ordered: Sequence[SegmentContent]) -> bool:
    """Whether each segment names the one before it."""
    return all(
        before.header.segment in {p.segment for p in after.header.predecessors}
        for before, after in itertools.pairwise(ordered)
    )


def _hidden_rows(ordered: Sequence[SegmentContent], tables: Sequence[Table]) -> list[set[int]]:
    by_id = {content.header.segment: at for at, content in enumerate(ordered)}
    hidden: list[set[int]] = [set() for _ in ordered]
    for content, table in zip(ordered, tables, strict=True):
        header = content.header
        for before in _all_before(header.segment, by_id, ordered):
            old = tables[before]
            if ordered[before].header.writer == header.writer:
                # The disk failed under the old one: what it had not acknowledged stands here anew.
                again = set(zip(table.times_us, table.steps, strict=True))
                rows = enumerate(zip(old.times_us, old.steps, strict=True))
                hidden[before].update(row for row, row_id in rows if row_id in again)
            elif header.supersedes != NOTHING_SUPERSEDED:
                hidden[before].update(
                    row for row, step in enumerate(old.steps) if step >= header.supersedes
                )
    return hidden


def _all_before(
    segment: bytes, by_id: Mapping[bytes, int], ordered: Sequence[SegmentContent]
) -> set[int]:
    """Predecessors of a segment, and theirs."""
    found: set[int] = set()
    stack = [segment]
    while stack:
        for predecessor in ordered[by_id[stack.pop()]].header.predecessors:
            at = by_id.get(predecessor.segment)
            if at is not None and at not in found:
                found.add(at)
                stack.append(predecessor.segment)
    return found
