"""A captive portal is told from a remote that is away, and tried again soon."""

from __future__ import annotations

import http.server
import threading
from typing import TYPE_CHECKING

import pytest

from localstore.errors import NotFound
from localstore.remotes import RemoteEntry
from localstored.remotes.base import Unreachable
from localstored.service.reach import looked_into

if TYPE_CHECKING:
    from collections.abc import Iterator


class Portal(http.server.BaseHTTPRequestHandler):
    """Answers every question with its own page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<h1>Welcome to the hotel</h1>")

    def log_message(self, *_: object) -> None:
        """Says nothing."""


class Store(Portal):
    """Answers as a bucket does that wants credentials."""

    def do_GET(self) -> None:
        self.send_response(403)
        self.send_header("x-amz-request-id", "1")
        self.end_headers()


@pytest.fixture(params=[Portal, Store])
def entry(request: pytest.FixtureRequest) -> Iterator[tuple[RemoteEntry, bool]]:
    """A remote behind a server, and whether that is a portal."""
    server = http.server.HTTPServer(("127.0.0.1", 0), request.param)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    yield RemoteEntry("cloud", "s3://bucket", "ab" * 8, endpoint=url), request.param is Portal
    server.shutdown()
    thread.join(5)
    server.server_close()


def test_a_portal_is_named_and_is_nothing_permanent(entry: tuple[RemoteEntry, bool]) -> None:
    remote, is_portal = entry
    problem = Unreachable("credentials refused", permanent=True)
    found = looked_into(problem, remote)
    if not is_portal:
        assert found is problem
        return
    assert isinstance(found, Unreachable)
    assert "captive portal" in str(found)
    assert not found.permanent
    assert "browser" in found.hint


def test_other_problems_and_other_places_are_not_asked_about() -> None:
    stick = RemoteEntry("stick", "/media/stick", "ab" * 8)
    for problem in (Unreachable("away"), NotFound("no such thing"), OSError(5, "io")):
        assert looked_into(problem, stick) is problem
    proxied = RemoteEntry("c", "s3://b", "ab" * 8, endpoint="http://127.0.0.1:9", proxy="http://p")
    away = Unreachable("away")
    assert looked_into(away, proxied) is away


def test_nobody_at_all_is_no_portal() -> None:
    remote = RemoteEntry("cloud", "s3://bucket", "ab" * 8, endpoint="http://127.0.0.1:9")
    problem = Unreachable("no answer")
    assert looked_into(problem, remote) is problem
