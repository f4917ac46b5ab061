"""Reads one log with keys, frame by frame, by the rules of docs/format.md, chapter 6.

The shortest reader that checks everything: what the tests of attacks compare with.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from localstore import crypto
from localstore.errors import Damaged, Forged, Torn
from localstore.format import spec
from localstore.format.columns import Block, decode_block
from localstore.format.packing import unpad
from localstore.format.records import decode_records
from localstore.format.segment import (
    Frame,
    SegmentHeader,
    decode_head,
    decode_header,
    decode_ref,
    first_chain,
    scan_frames,
)
from localstore.format.spec import FrameType

VECTORS: Final = Path(__file__).parent.parent / "vectors"


def _load_generator() -> Any:
    source = importlib.util.spec_from_file_location("vectors_generate", VECTORS / "generate.py")
    assert source is not None
    assert source.loader is not None
    module = importlib.util.module_from_spec(source)
    source.loader.exec_module(module)
    return module


generate: Final = _load_generator()


def word(problem: Damaged) -> str:
    """What a vector calls this error."""
    match problem:
        case Torn():
            return "torn"
        case Forged():
            return "forged"
        case _:
            return "damaged"


@dataclass
class Walked:
    """What a reader made of a log: a verdict and a content for each frame."""

    header: SegmentHeader
    verdicts: list[str] = field(default_factory=list)
    contents: list[Any] = field(default_factory=list)
    vouched: int = 0
    missing: int = 0


def open_key(header: SegmentHeader, class_secret: bytes) -> bytes:
    """The segment key, when it is the one that the header commits to."""
    key = crypto.unseal(class_secret, header.sealed_key, header.context())
    if not crypto.same(crypto.derive(key, spec.LABEL_COMMIT, header.segment), header.commitment):
        raise Forged("a segment key that is not the one of the commitment")
    return key


class _Walk:
    def __init__(self, raw: bytes, class_secret: bytes) -> None:
        self.raw = raw
        header, self.at = decode_header(raw)
        self.opener = crypto.FrameOpener(open_key(header, class_secret), header.segment)
        self.walked = Walked(header)
        self.chain, self.whole = first_chain(raw[: self.at]), True
        self.next, self.final = 0, False

    def run(self) -> Walked:
        for found in scan_frames(memoryview(self.raw), self.at):
            try:
                content = self._one(found)
                self.walked.verdicts.append("ok")
                self.walked.contents.append(content)
            except Damaged as problem:
                self.walked.verdicts.append(word(problem))
            if isinstance(found, Frame):
                self.chain = crypto.chain_step(self.chain, (found.raw,))
        return self.walked

    def _one(self, found: Frame | Damaged) -> Any:
        if isinstance(found, Damaged):
            self.whole = False
            raise found
        if self.final or found.index < self.next:
            self.whole = False
            raise Damaged("a frame out of place")
        self.walked.missing += found.index - self.next
        self.whole = self.whole and found.index == self.next
        self.next = found.index + 1
        return self._content(found)

    def _content(self, frame: Frame) -> Any:
        match frame.kind:
            case FrameType.HEAD:
                return self._head(frame)
            case FrameType.REF:
                return decode_ref(frame)
            case FrameType.RECORDS:
                return decode_records(unpad(self.opener.open(frame.header, frame.body)))
            case FrameType.COLUMNS:
                return decode_block(unpad(self.opener.open(frame.header, frame.body)))
            case FrameType.RECORD:
                raise Damaged("a record of a tail in a log")
        return None

    def _head(self, frame: Frame) -> int:
        head = decode_head(frame, self.walked.header.segment, self.walked.header.device)
        fits = self.whole and (head.count, head.length) == (frame.index, frame.offset)
        if not fits or head.chain != self.chain:
            raise Damaged("a head of other bytes than these")
        self.walked.vouched, self.final = frame.offset, head.final
        return self.walked.vouched


def walk(raw: bytes, class_secret: bytes) -> Walked:
    """Read a whole log.

    Raises:
        Damaged: the header cannot be used at all.
    """
    return _Walk(raw, class_secret).run()


def rows(block: Block) -> dict[str, list[list[Any]]]:
    """The columns of a block by name: [row, value] each."""
    found: dict[str, list[list[Any]]] = {}
    for number, column in block.columns.items():
        at = range(len(block.steps)) if column.rows is None else column.rows
        found[block.names[number]] = [
            [row, value] for row, value in zip(at, column.values, strict=True)
        ]
    return found
