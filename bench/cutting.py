"""A line to a server that is cut at chosen bytes, and counts what was sent over it."""

from __future__ import annotations

import contextlib
import random
import select
import socket
import struct
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE_BYTES: Final = 1 << 16
_BUFFER_BYTES: Final = 1 << 18  # what a client may have sent that nobody has counted yet
_LOOK_S: Final = 0.2
_HARD: Final = struct.pack("ii", 1, 0)


class Line:
    """Carries connections to a server; some bytes towards it are the last of a connection.

    Attributes:
        endpoint: the URL to use instead of the server's.
        sent: bytes that clients sent. cuts: how often it was cut.
    """

    def __init__(self, server: str, at: list[int], *, everything: bool) -> None:
        """`at`: after so many bytes, in order; `everything`: all connections break at once."""
        host, _, port = server.removeprefix("http://").rpartition(":")
        self._server, self._everything = (host, int(port)), everything
        self._left = sorted(at, reverse=True)
        self.sent = self.cuts = 0
        self._lock, self._over = threading.Lock(), threading.Event()
        self._open: dict[int, tuple[socket.socket, socket.socket]] = {}
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        self.endpoint = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Break everything, and take nothing more."""
        self._over.set()
        self._thread.join()
        self._listening.close()
        with self._lock:
            for pair in self._open.values():
                _break(pair)

    def _accept(self) -> None:
        while not self._over.is_set():
            if select.select([self._listening], [], [], _LOOK_S)[0]:
                client, _ = self._listening.accept()
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, socket.create_connection(self._server) as there:
            pair = (client, there)
            with self._lock:
                self._open[client.fileno()] = pair
                number = client.fileno()
            back = threading.Thread(target=_copy, args=(there, client), daemon=True)
            back.start()
            try:
                while data := client.recv(_PIECE_BYTES):
                    kept, cut = self._count(len(data))
                    there.sendall(data[:kept])
                    if cut:
                        self._cut(pair)
                        return
                there.shutdown(socket.SHUT_WR)
                back.join()
            finally:
                with self._lock:
                    self._open.pop(number, None)

    def _count(self, length: int) -> tuple[int, bool]:
        """Count bytes; how many of them arrive, and whether the line is cut after those."""
        with self._lock:
            before, self.sent = self.sent, self.sent + length
            if not self._left or self._left[-1] > self.sent:
                return length, False
            kept = max(0, self._left[-1] - before)
            while self._left and self._left[-1] <= self.sent:
                self._left.pop()
                self.cuts += 1
            return kept, True

    def _cut(self, pair: tuple[socket.socket, socket.socket]) -> None:
        with self._lock:
            for one in list(self._open.values()) if self._everything else [pair]:
                _break(one)


def _copy(source: socket.socket, into: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_PIECE_BYTES):
            into.sendall(data)
        into.shutdown(socket.SHUT_WR)


def _break(pair: tuple[socket.socket, socket.socket]) -> None:
    """Reset both ends: what was under way is lost."""
    for one in pair:
        with contextlib.suppress(OSError):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _HARD)
            one.shutdown(socket.SHUT_RDWR)
            one.close()


@contextlib.contextmanager
def cut_line(server: str, size: int, cuts: int, *, everything: bool) -> Iterator[Line]:
    """A line that is cut so often within `size` bytes, at random bytes from a fixed seed."""
    rng = random.Random(cuts)
    line = Line(server, [rng.randrange(size) for _ in range(cuts)], everything=everything)
    try:
        yield line
    finally:
        line.close()
