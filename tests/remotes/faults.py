"""A server in front of a server, which goes wrong as a test wants: for one request, or for all.

It also stands in for a corporate proxy: it takes whole URLs, and CONNECT.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import selectors
import socket
import struct
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping

_HANG_S = 20.0  # a hole is no longer than a test may take


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked: method, and path with its query."""

    method: str
    path: str

    @property
    def lists(self) -> bool:
        return "list-type=2" in self.path


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong.

    Attributes:
        status: answered instead of the server; 0: the server is asked.
        code: S3's word for it. headers: more of them. body: instead of an error's XML.
        commits: the server is asked first, and its answer is thrown away.
        cut_after: bytes of the answer, headers included, then the connection is reset.
        hangs: no answer at all. drips: a byte of the answer at a time, this many seconds apart.
        says: the length that the answer claims to have.
    """

    status: int = 0
    code: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    commits: bool = False
    cut_after: int | None = None
    hangs: bool = False
    drips: float = 0.0
    says: int | None = None


SLOW_DOWN = Fault(status=503, code="SlowDown")


class Front:
    """A running server; `trouble` is asked what goes wrong with each request."""

    def __init__(self, target: str, tls: ssl.SSLContext | None = None) -> None:
        self.target = target.removeprefix("http://")
        self.trouble: Callable[[Request], Fault | None] = lambda _: None
        self.seen: list[Request] = []
        self.over = threading.Event()
        handler = type("Handler", (_Handler,), {"front": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        scheme = "https" if tls else "http"
        self.port = self._server.server_port
        self.endpoint = f"{scheme}://{'localhost' if tls else '127.0.0.1'}:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def fails(self, fault: Fault, times: int = 10**9) -> None:
        """Let the next requests go wrong."""
        left = iter(range(times))
        self.trouble = lambda _: fault if next(left, None) is not None else None

    def close(self) -> None:
        self.over.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextlib.contextmanager
def front(target: str, tls: ssl.SSLContext | None = None) -> Iterator[Front]:
    """A server in front of `target` (an http URL)."""
    made = Front(target, tls)
    try:
        yield made
    finally:
        made.close()


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    front: ClassVar[Front]

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError, TimeoutError, ValueError):
            super().handle()

    def _any(self) -> None:
        path = self.path.partition("://")[2]
        request = Request(self.command, f"/{path.partition('/')[2]}" if path else self.path)
        self.front.seen.append(request)
        fault = self.front.trouble(request) or Fault()
        data = self.rfile.read(int(self.headers.get("content-length") or 0))
        answer = None
        if fault.commits or not (fault.status or fault.hangs):
            answer = self._forward(request, data)
        if fault.hangs:
            self.front.over.wait(_HANG_S)
            self.close_connection = True
            return
        if fault.status:
            answer = self._made(fault)
        assert answer is not None
        self._send(answer, fault)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _any

    def _forward(self, request: Request, data: bytes) -> _Answer:
        upstream = http.client.HTTPConnection(self.front.target, timeout=_HANG_S)
        try:
            headers = {k: v for k, v in self.headers.items() if k.lower() != "proxy-connection"}
            upstream.request(request.method, request.path, data, headers)
            answer = upstream.getresponse()
            drop = _HOP - {"content-length"} if request.method == "HEAD" else _HOP
            kept = [(k, v) for k, v in answer.getheaders() if k.lower() not in drop]
            return _Answer(answer.status, kept, answer.read())
        finally:
            upstream.close()

    def _made(self, fault: Fault) -> _Answer:
        xml = f'<?xml version="1.0"?><Error><Code>{fault.code}</Code></Error>'.encode()
        return _Answer(fault.status, list(fault.headers.items()), fault.body or xml)

    def _send(self, answer: _Answer, fault: Fault) -> None:
        lines = [f"HTTP/1.1 {answer.status} Some"]
        known = {key.lower() for key, _ in answer.headers}
        lines += [f"{key}: {value}" for key, value in answer.headers]
        length = len(answer.body) if fault.says is None else fault.says
        if "content-length" not in known:
            lines.append(f"Content-Length: {length}")
        head = "\r\n".join(lines).encode() + b"\r\n\r\n"
        content = head + (b"" if self.command == "HEAD" else answer.body)
        if fault.cut_after is not None:
            self.wfile.write(content[: fault.cut_after])
            self._reset()
        elif fault.drips:
            self._drip(content, len(head), fault.drips)
        else:
            self.wfile.write(content)

    def _drip(self, content: bytes, head: int, seconds: float) -> None:
        self.wfile.write(content[:head])
        for at in range(head, len(content)):
            if self.front.over.wait(seconds):
                break
            self.wfile.write(content[at : at + 1])

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def do_CONNECT(self) -> None:
        self.front.seen.append(Request("CONNECT", self.path))
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port)), _HANG_S) as there:
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            self._tunnel(there)
        self.close_connection = True

    def _tunnel(self, there: socket.socket) -> None:
        with selectors.DefaultSelector() as ready:
            ready.register(self.connection, selectors.EVENT_READ, there)
            ready.register(there, selectors.EVENT_READ, self.connection)
            while not self.front.over.is_set():
                for key, _ in ready.select(0.1):
                    data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                    if not data:
                        return
                    key.data.sendall(data)


_HOP = frozenset({"content-length", "transfer-encoding", "connection", "date", "server"})
