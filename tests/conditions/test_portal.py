"""A captive portal is told from a remote, and from a remote that is away."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

from localstored.conditions.portal import Reach, probe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Answer = tuple[int, dict[str, str], bytes]
Serve = "Callable[[Answer], str]"
PAGE: Answer = (200, {"Content-Type": "text/html; charset=utf-8"}, b"<h1>Welcome to the hotel</h1>")
ANSWERS: dict[str, tuple[Answer, Reach]] = {
    "a page in the place of XML": (PAGE, Reach.PORTAL),
    "network authentication required": ((511, {}, b""), Reach.PORTAL),
    "a redirect to a host of its own": (
        (302, {"Location": "http://login.hotel.example/"}, b""),
        Reach.PORTAL,
    ),
    "a bucket that wants a signature": (
        (403, {"Content-Type": "application/xml"}, b"<Error/>"),
        Reach.OPEN,
    ),
    "a bucket of another region": (
        (301, {"Location": "http://s3.example/", "x-amz-bucket-region": "eu"}, b""),
        Reach.OPEN,
    ),
    "a redirect on the same host": ((301, {"Location": "/there"}, b""), Reach.OPEN),
    "a broken server's page": ((500, {"Content-Type": "text/html"}, b"oops"), Reach.OPEN),
}


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], str]]:
    """Starts a server that gives one answer to everything; returns its address."""
    servers = []

    def start(answer: Answer) -> str:
        status, headers, body = answer

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/bucket"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("what", ANSWERS)
def test_who_answers_is_recognised(serve: Callable[[Answer], str], what: str) -> None:
    answer, want = ANSWERS[what]
    assert probe(serve(answer)) is want


def test_nobody_there_is_no_portal() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        assert probe(f"http://127.0.0.1:{taken.getsockname()[1]}/") is Reach.DOWN
