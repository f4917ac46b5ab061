"""The process between a program and its terminal: it passes output on and gives the program a copy.

Run as a script, `python -I -S console_tee.py COPIES BATCH_MS NAME STREAM:SOURCE:TARGET …`, by
`localstore.surroundings.console_redirect`; COPIES, SOURCE and TARGET are descriptors.

A process and not a thread: it goes on where a program holds the interpreter's lock while it prints,
dies of a signal, or leaves children behind that still print.

It knows no key, writes no file, imports nothing of ours and little of Python: it must start fast.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

TEXT, LOST, MARK = 1, 2, 3
# kind u8, stream u8, length u32; LOST carries its count as 8 bytes of payload
HEADER_BYTES = 6
READY = b"R"
_READ_BYTES = 1 << 16
# Copies that wait for a program that does not read them. Twice per second that is 8 MB/s.
_MAX_WAITING_BYTES = 4 << 20
_HELD_MS = 50
_FAREWELL_S = 2.0


def mark_of(name: str) -> bytes:
    """The bytes that mean in a source: all before has been passed on. Text never holds 0xFF."""
    return b"\xff\x00" + name.encode()


def frame(kind: int, stream: int, payload: bytes) -> bytes:
    """One message to the program."""
    return bytes((kind, stream)) + len(payload).to_bytes(4, "little") + payload


def write_through(target: int, data: bytes) -> None:
    """Write all of it, as slowly as the target takes it; a target that is gone takes nothing."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(target, rest) :]
        except BlockingIOError:
            is_ready(target, select.POLLOUT, None)
        except OSError:
            return


def is_ready(fd: int, events: int, timeout_ms: float | None) -> bool:
    """Whether a descriptor can be read or written, or has been hung up, within so long."""
    # No select(): it fails for numbers above 1,023.
    poll = select.poll()
    poll.register(fd, events)
    return bool(poll.poll(timeout_ms))


def carry(
    source: int,
    target: int,
    mark: bytes,
    on_text: Callable[[bytes], None],
    on_mark: Callable[[], None],
) -> None:
    """Pass on what comes from `source` until nobody can write to it any more.

    Args:
        mark: bytes that are not passed on and mean: all before has been passed on.
        on_text: gets a copy of what was passed on.
    """

    def passed(data: bytes) -> None:
        if data:
            write_through(target, data)
            on_text(data)

    held = b""
    while True:
        if held and not is_ready(source, select.POLLIN, _HELD_MS):
            passed(held)
            held = b""
        try:
            data = os.read(source, _READ_BYTES)
        except OSError:  # a pseudo-terminal whose last writer has gone
            data = b""
        pieces = (held + data).split(mark)
        held = _unfinished(pieces[-1], mark) if data else b""
        pieces[-1] = pieces[-1].removesuffix(held)
        passed(pieces[0])
        for piece in pieces[1:]:
            on_mark()
            passed(piece)
        if not data:
            return


def _unfinished(data: bytes, mark: bytes) -> bytes:
    """The end of `data` that may be the beginning of a mark; only a mark's first byte is 0xFF."""
    at = data.rfind(mark[:1], max(len(data) - len(mark) + 1, 0))
    return data[at:] if at >= 0 and mark.startswith(data[at:]) else b""


class _Copies:
    """Copies on their way to the program: bounded, and sent by a thread of their own."""

    def __init__(self, target: int, batch_s: float) -> None:
        self._target, self._batch_s = target, batch_s
        self._changed = threading.Condition()
        self._frames: list[bytes] = []
        self._waiting = 0
        self._lost = 0
        self._marks = 0
        self._sending = self._ended = False

    def add(self, stream: int, data: bytes) -> None:
        with self._changed:
            if self._waiting + len(data) > _MAX_WAITING_BYTES:
                self._lost += len(data)
                return
            self._frames.append(frame(TEXT, stream, data))
            self._waiting += len(data)
            self._changed.notify_all()

    def mark(self, stream: int) -> None:
        with self._changed:
            self._frames.append(frame(MARK, stream, b""))
            self._marks += 1
            self._changed.notify_all()

    def end(self) -> None:
        """No more comes: send the rest, but wait for nobody who does not read."""
        until = time.monotonic() + _FAREWELL_S
        with self._changed:
            self._ended = True
            self._changed.notify_all()
            while (self._frames or self._sending) and time.monotonic() < until:
                self._changed.wait(_FAREWELL_S)

    def send_for_ever(self) -> None:
        while True:
            batch = self._next_batch()
            try:
                rest = memoryview(batch)
                while rest:
                    rest = rest[os.write(self._target, rest) :]
            except OSError:
                pass  # the program is gone, or records no more; its output still passes
            with self._changed:
                self._sending = False
                self._changed.notify_all()

    def _next_batch(self) -> bytes:
        with self._changed:
            while not self._frames:
                self._changed.wait()
            # Few and large: each one wakes a thread of the program that trains.
            self._changed.wait_for(lambda: self._marks or self._ended, self._batch_s)
            batch, self._frames = self._frames, []
            if self._lost:
                batch.append(frame(LOST, 0, self._lost.to_bytes(8, "little")))
            self._waiting = self._lost = self._marks = 0
            self._sending = True
            return b"".join(batch)


def _channel(copies: _Copies, mark: bytes, words: str) -> threading.Thread:
    stream, source, target = map(int, words.split(":"))

    def work() -> None:
        carry(
            source,
            target,
            mark,
            lambda data: copies.add(stream, data),
            lambda: copies.mark(stream),
        )

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def main(words: list[str]) -> None:
    """Serve until nobody can write to any of the sources."""
    # Nobody's child: a program that waits for its children must not meet this one.
    if os.fork():
        os._exit(0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    target, batch_ms, name, *channels = words
    copies = _Copies(int(target), int(batch_ms) / 1000)
    threads = [_channel(copies, mark_of(name), channel) for channel in channels]
    threading.Thread(target=copies.send_for_ever, daemon=True).start()
    os.write(int(target), READY)
    for thread in threads:
        thread.join()
    copies.end()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
