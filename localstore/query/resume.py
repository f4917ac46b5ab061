"""What a process that goes on with a run must know of its past."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from localstore import crypto
from localstore.errors import Damaged
from localstore.format import spec
from localstore.format.segment import Predecessor, first_chain, scan_frames
from localstore.format.spec import DataClass
from localstore.identity import now_us
from localstore.query.history import fold_points, merge
from localstore.query.info import fold_info
from localstore.reading import list_segments, read_run
from localstore.trust import Belief

if TYPE_CHECKING:
    from pathlib import Path

    from localstore.project import Project
    from localstore.sdk.summary import SummaryFold


@dataclass(slots=True)
class Past:
    """Heads to name, and for those who may read: config, name and the next step."""

    predecessors: dict[int, tuple[Predecessor, ...]] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    next_step: int = 0
    summary: SummaryFold | None = None


def look_back(project: Project, subject: bytes, tail_folder: Path | None) -> Past:
    """The past of a run on this disk; damaged parts of it are passed over.

    Writers that are at work now, such as the other ranks of a job, are its present: what they
    write is neither continued nor replaced.
    """
    past = Past()
    problems: list[Damaged] = []
    working: frozenset[bytes] = frozenset()
    if project.can_read:
        info = fold_info(read_run(project, subject, (DataClass.META,), problems, tail_folder))
        past.config, past.name = info.config, str(info.info.get("name", ""))
        working = frozenset(bytes.fromhex(writer) for writer in info.working(now_us()))
        metrics = read_run(project, subject, (DataClass.METRICS,), problems, tail_folder)
        table = merge([one for one in metrics if one.header.writer not in working])
        shown = table.steps if table.order is None else [table.steps[row] for row in table.order]
        past.next_step = max(shown, default=-1) + 1
        if info.definitions:
            past.summary = fold_points(info.definitions, table)
    heads: dict[int, list[Predecessor]] = {}
    for files in list_segments(project, subject, problems, tail_folder):
        refused = project.state.judge(files.header).belief is Belief.REFUSED
        if refused or files.name.endswith(".fork"):
            continue  # anybody can put a log here; a run continues none that is not believed
        if any(files.header.policy_tag):
            continue  # it may never leave this machine, and would be missed elsewhere
        if files.header.writer not in working:
            raw = project.paths.file(files.name).read_bytes()
            heads.setdefault(files.header.data_class, []).append(_head(raw, files.header.segment))
    past.predecessors = {
        data_class: tuple(found[-spec.MAX_PREDECESSORS :]) for data_class, found in heads.items()
    }
    return past


def _head(raw: bytes, segment: bytes) -> Predecessor:
    """Chain and length of a log up to its last whole frame."""
    from localstore.format.segment import decode_header

    view = memoryview(raw)
    _, end = decode_header(view)
    chain = first_chain(view[:end])
    for item in scan_frames(view, end):
        if isinstance(item, Damaged):
            break
        chain, end = crypto.chain_step(chain, (item.raw,)), item.end
    return Predecessor(segment=segment, chain=chain, length=end)
