"""Opens objects ahead of whoever reads them in order: some threads, bounded memory."""

from __future__ import annotations

import queue
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from localstore.errors import Damaged
from localstore.layout import object_name
from localstore.store.threads import start

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from localstore.format.manifest import Part
    from localstore.store.objects import ObjectFiles

_KEPT_BYTES: Final = 32 * 1024 * 1024
_AHEAD_BYTES: Final = 24 * 1024 * 1024


class _Opened:
    """One object's content, or why there is none; `zero` when it is nothing but zeros."""

    __slots__ = ("content", "done", "error", "zero")

    def __init__(self) -> None:
        self.content, self.zero = b"", False
        self.error: BaseException | None = None
        self.done = threading.Event()


class Objects:
    """Contents of objects, in about the order in which they will be asked for.

    Use as a context manager, in one thread.
    """

    def __init__(self, files: ObjectFiles, coming: Iterable[Part], *, threads: int = 0) -> None:
        """`coming`: the parts that will be asked for, in order. `threads`: 0 opens when asked."""
        self._files, self._coming = files, iter(coming)
        self._known: OrderedDict[bytes, _Opened] = OrderedDict()
        self._ahead: dict[bytes, int] = {}
        self._jobs: queue.SimpleQueue[tuple[Part, _Opened] | None] = queue.SimpleQueue()
        self._threads = start([self._open_jobs] * threads)

    def __enter__(self) -> Objects:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while not self._jobs.empty():
            self._jobs.get()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def piece(self, part: Part) -> tuple[memoryview, bool]:
        """The bytes of a part, and whether they are nothing but zeros.

        Raises:
            NotFound: the object is not here.
            Damaged, Forged: its bytes are wrong, or it is shorter than the part says.
        """
        opened = self._get(part)
        piece = memoryview(opened.content)[part.offset : part.offset + part.length]
        if len(piece) != part.length:
            raise Damaged(
                f"a part of {part.length} bytes at {part.offset}, where {len(opened.content)} are",
                file=object_name(part.object_id),
            )
        return piece, opened.zero

    def _get(self, part: Part) -> _Opened:
        opened = self._known.get(part.object_id)
        if opened is None:
            opened = self._known[part.object_id] = _Opened()
            self._open(part, opened)
        self._known.move_to_end(part.object_id)
        if self._ahead.pop(part.object_id, None) is not None:
            self._shed()
        if self._threads:
            self._look_ahead()
        opened.done.wait()
        if opened.error is not None:
            raise opened.error
        return opened

    def _look_ahead(self) -> None:
        while sum(self._ahead.values()) < _AHEAD_BYTES:
            part = next(self._coming, None)
            if part is None:
                return
            if part.object_id not in self._known:
                opened = self._known[part.object_id] = _Opened()
                self._ahead[part.object_id] = part.offset + part.length
                self._jobs.put((part, opened))

    def _shed(self) -> None:
        """Forget contents that were asked for longest ago."""
        idle = [name for name in self._known if name not in self._ahead]
        total = sum(len(self._known[name].content) for name in idle)
        for name in idle[:-1]:
            if total <= _KEPT_BYTES:
                break
            total -= len(self._known.pop(name).content)

    def _open_jobs(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._open(*job)

    def _open(self, part: Part, opened: _Opened) -> None:
        try:
            opened.content = self._files.read_object(part.object_id, part.key).content
            opened.zero = not opened.content.lstrip(b"\0")
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever asks for the object
            opened.error = error
        finally:
            opened.done.set()
