"""One segment's files, open for appending by this process alone (docs/format.md, section 6).

Whatever the disk refuses is an `OSError` for `localstore.stream` to deal with.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from localstore import crypto
from localstore.durable import make_folder, sync_folder, write_all
from localstore.format import spec
from localstore.format.segment import (
    NOTHING_SUPERSEDED,
    Head,
    Predecessor,
    SegmentHeader,
    encode_frame,
    encode_head,
    first_chain,
)
from localstore.identity import now_us

if TYPE_CHECKING:
    from pathlib import Path

    from localstore.format.spec import DataClass, FrameType
    from localstore.project import Pair, Project


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentPlan:
    """All that a new segment needs to know before its header is signed."""

    project: Project
    subject: bytes
    pair: Pair
    writer: bytes
    data_class: DataClass
    policy_tag: bytes = bytes(16)
    supersedes: int = NOTHING_SUPERSEDED
    predecessors: tuple[Predecessor, ...] = ()
    tail_folder: Path | None = None


class Untrusted(OSError):
    """What was written to a file may be gone, whatever the disk says next."""


class Segment:
    """One segment's files, open for appending by this process alone."""

    def __init__(self, plan: SegmentPlan) -> None:
        """Create the log with its header.

        Raises:
            OSError: the disk refused.
        """
        key, self.id = crypto.random_bytes(32), crypto.random_bytes(16)
        header = SegmentHeader(
            data_class=plan.data_class,
            project=plan.project.id,
            subject=plan.subject,
            segment=self.id,
            writer=plan.writer,
            pair=plan.pair.public,
            device=crypto.sign_public(plan.project.device_seed),
            cert=plan.project.cert,
            epoch=plan.pair.epoch,
            started_us=now_us(),
            policy_tag=plan.policy_tag,
            supersedes=plan.supersedes,
            commitment=crypto.derive(key, spec.LABEL_COMMIT, self.id),
            sealed_key=bytes(112),
            predecessors=plan.predecessors,
        )
        recipient = plan.pair.classes[plan.data_class]
        sealed = crypto.seal(recipient, key, header.context())
        raw = header.with_key(sealed).encode(plan.project.device_seed)
        self._device_seed = plan.project.device_seed
        self.record_sealer = crypto.FrameSealer(key, self.id)
        self._block_sealer = crypto.FrameSealer(key, self.id)
        self.folder = make_folder(plan.project.paths.runs / plan.subject.hex())
        self._tail_folder = make_folder(plan.tail_folder) if plan.tail_folder else self.folder
        self._log = self._open(self.folder / f"{self.id.hex()}.log")
        self.tails: list[int | None] = [None, None]
        try:
            write_all(self._log, raw, 0)
        except OSError:
            self.discard()
            raise
        self.chain, self.length, self.count = first_chain(raw), len(raw), 0
        self._durable = (self.chain, self.length)
        self.last_head_us = header.started_us
        self._head_length = 0
        self._named = False

    @staticmethod
    def _open(path: Path) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(path, flags, 0o600)

    def open_tail(self, which: int) -> int:
        """Make one of the two tails at its first use; returns the file handle.

        Raises:
            OSError: the disk refused.
        """
        handle = self._open(self._tail_folder / f"{self.id.hex()}.t{which}")
        self.tails[which] = handle
        return handle

    def empty_tail(self, which: int) -> None:
        """Forget the records of a tail; they stand in a durable block."""
        handle = self.tails[which]
        if handle is not None:
            os.ftruncate(handle, 0)

    def append_block(self, kind: FrameType, content: bytes, compression: int) -> None:
        """Append one sealed frame to the log; on failure the log is as it was.

        Raises:
            OSError: the disk refused.
        """
        self._append(bytes(self._block_sealer.seal(kind, self.count, content, compression)))

    def append_clear(self, kind: FrameType, body: bytes) -> None:
        """Append a REF or UNREF frame to the log; on failure the log is as it was.

        Raises:
            OSError: the disk refused.
        """
        self._append(encode_frame(kind, self.count, body))

    def append_head(self, *, final: bool) -> None:
        """Sign what the log holds.

        Raises:
            OSError: the disk refused.
        """
        head = Head(
            count=self.count,
            length=self.length,
            chain=self.chain,
            time_us=now_us(),
            final=final,
        )
        self._append(encode_head(head, self.id, self.count, self._device_seed))
        self.last_head_us, self._head_length = head.time_us, self.length

    @property
    def vouched(self) -> bool:
        """Whether the last frame is a head."""
        return self._head_length == self.length

    def _append(self, frame: bytes) -> None:
        try:
            write_all(self._log, frame, self.length)
        except OSError:
            # Bytes of a frame that nobody has seen whole: take them back.
            os.ftruncate(self._log, self.length)
            raise
        self.chain = crypto.chain_step(self.chain, (frame,))
        self.length += len(frame)
        self.count += 1

    def sync(self) -> None:
        """Make the log durable, and once its name.

        Raises:
            Untrusted: the disk refused; a second attempt would say yes and have lost the bytes.
        """
        try:
            os.fdatasync(self._log)
        except OSError as error:
            raise Untrusted(error.errno, error.strerror) from error
        self._durable = (self.chain, self.length)
        if not self._named:
            sync_folder(self.folder)
            self._named = True

    def close(self, *, keep_tails: bool) -> None:
        """Close the files; tails are removed unless their records stand nowhere else."""
        for which, handle in enumerate(self.tails):
            if handle is None:
                continue
            _close(handle)
            if not keep_tails:
                _remove(self._tail_folder / f"{self.id.hex()}.t{which}")
        self.tails = [None, None]
        _close(self._log)

    def discard(self) -> None:
        """Take back a segment that never became one."""
        self.close(keep_tails=False)
        _remove(self.folder / f"{self.id.hex()}.log")

    def as_predecessor(self) -> Predecessor:
        """This segment as a later one names it: as far as the disk ever acknowledged it."""
        chain, length = self._durable
        return Predecessor(segment=self.id, chain=chain, length=length)


def _close(handle: int) -> None:
    """Close a file; what its disk says only now concerns nothing that was promised."""
    with contextlib.suppress(OSError):
        os.close(handle)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # on a disk that refuses: a copy too many
        path.unlink(missing_ok=True)
