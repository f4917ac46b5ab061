"""What another account of the machine, and a server without shame, can do to the service."""

from __future__ import annotations

import http.server
import os
import socket
import threading
from typing import TYPE_CHECKING, Final

import pytest

from localstore import control, settings
from localstore.remotes import RemoteEntry
from localstored.remotes import bucketstore
from localstored.remotes.base import Busy
from localstored.remotes.bucketopen import open_bucket

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOBODY: Final = 65_534
MOST_BYTES: Final = 64 * 1024 * 1024


# ------------------------------------------------------------------ other accounts
@pytest.mark.real("root")
@pytest.mark.parametrize("form", ["folder", "link"])
def test_a_socket_that_another_account_put_there_first_is_no_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    home, squat = tmp_path / "home", tmp_path / "localstore-0"
    monkeypatch.setattr(settings, "runtime_places", lambda: [squat])
    folder = squat if form == "folder" else tmp_path / "elsewhere"
    folder.mkdir()
    door = socket.socket(socket.AF_UNIX)
    with door:
        door.bind(str(folder / control.socket_name(home)))
        door.listen()
        os.chown(folder, NOBODY, NOBODY)
        if form == "link":
            squat.symlink_to(folder)
        assert control.connect(home) is None


# ------------------------------------------------------------------ a server that never ends
class _Endless(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    status = 200

    def do_GET(self) -> None:
        """Answers without end."""
        self.send_response(self.status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        piece = b"<ListBucketResult>".ljust(1 << 20)
        try:
            for _ in range(1000):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        except OSError:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Not to the terminal."""


@pytest.fixture(params=[200, 403])
def endless(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a server whose listings, or errors, have no end."""
    handler = type("Handler", (_Endless,), {"status": request.param})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def test_an_answer_without_end_does_not_fill_the_memory(
    endless: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bucketstore, "MAX_GROWTH_BYTES", MOST_BYTES)
    keys = tmp_path / "keys"
    keys.write_text('access_key_id = "a"\nsecret_access_key = "b"\n')
    keys.chmod(0o600)
    entry = RemoteEntry(
        "evil", "s3://bucket", "0" * 16, endpoint=endless, region="x", credentials=f"file:{keys}"
    )
    store = open_bucket(entry)
    try:
        with pytest.raises(Busy):
            list(store.list("projects"))
    finally:
        store.close()
