"""Bytes on their way from files to chunks: bounded buffers, filled, cut, and used again."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Final

from localstore.store.sealing import Sealer, Slab, Slot

if TYPE_CHECKING:
    from localstore.store.chunks import Cutter

_WINDOWS: Final = 3  # of a cutter, in each slab


class Slabs:
    """The buffers of one ingest: made when first needed, then used again and again.

    Two streams may take from them at once.
    """

    def __init__(self, window: int, most: int) -> None:
        """`window`: of the cutter. `most`: how many; at least two more than threads that seal."""
        self._size, self._left = _WINDOWS * window, most
        self._lock = threading.Lock()
        self._free: queue.SimpleQueue[Slab] = queue.SimpleQueue()
        self._zeros: dict[int, Slot] = {}

    def take(self) -> Slab:
        """A buffer; waits for one when all are in use."""
        with self._lock:
            make = self._left > 0 and self._free.empty()
            self._left -= make
        slab = Slab(self._size, self._free) if make else self._free.get()
        slab.hold()
        return slab

    def zeros(self, cutter: Cutter, sealer: Sealer) -> Slot:
        """The chunk that a cutter makes of endless zeros; sealed once."""
        if cutter.window not in self._zeros:
            slab = Slab(cutter.window, queue.SimpleQueue())
            length = cutter.cut(slab.view, last=False)[0]
            self._zeros[cutter.window] = sealer.submit(slab.view[:length], slab)
        return self._zeros[cutter.window]


class Stream:
    """Bytes that come piece by piece and are cut into chunks, which go to a sealer."""

    def __init__(self, cutter: Cutter, sealer: Sealer, slabs: Slabs) -> None:
        self._cutter, self._sealer, self._slabs = cutter, sealer, slabs
        self._slab = slabs.take()
        self._start = self._end = 0  # of what is not cut yet, in the slab
        self._slots: list[Slot] = []

    def room(self) -> memoryview:
        """Where the next bytes go; never empty, and good until the next call."""
        if self._end == len(self._slab.view):
            self._cut(last=False)
            self._renew()
        return self._slab.view[self._end :]

    def advance(self, count: int) -> None:
        """So many bytes stand in the room now."""
        self._end += count

    @property
    def pending(self) -> int:
        """How many of the last bytes are not cut yet."""
        return self._end - self._start

    def zeros(self, count: int) -> int:
        """Cut chunks from a hole that begins where the pending bytes begin, without its bytes.

        Args:
            count: how long the hole is; the pending bytes are its first ones.

        Returns:
            How much of it is in chunks now; nothing is pending, unless it is 0.
        """
        slot = self._slabs.zeros(self._cutter, self._sealer)
        chunks = max(0, count - self._cutter.window) // slot.length
        if chunks * slot.length < self.pending:
            return 0
        self._start = self._end
        self._slots += [slot] * chunks
        return chunks * slot.length

    def write(self, content: bytes) -> None:
        """Take bytes that are in memory."""
        at = 0
        while at < len(content):
            room = self.room()
            piece = content[at : at + len(room)]
            room[: len(piece)] = piece
            self.advance(len(piece))
            at += len(piece)

    def finish(self) -> list[Slot]:
        """Cut the rest; the slots of all chunks, in order."""
        self._cut(last=True)
        self._slab.release()
        return self._slots

    def _cut(self, *, last: bool) -> None:
        view = self._slab.view
        for length in self._cutter.cut(view[self._start : self._end], last=last):
            chunk = view[self._start : self._start + length]
            self._start += length
            self._slots.append(self._sealer.submit(chunk, self._slab))

    def _renew(self) -> None:
        old, rest = self._slab, self._slab.view[self._start : self._end]
        self._slab = self._slabs.take()
        self._slab.view[: len(rest)] = rest
        self._start, self._end = 0, len(rest)
        old.release()
