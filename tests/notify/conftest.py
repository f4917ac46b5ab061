"""A home with runs, and places that messages arrive at."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

import localstore
from localstore import settings
from localstore.layout import HomePaths
from localstore.notify.loop import Notifying
from localstore.vault import Vault, open_or_create

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@dataclass(slots=True)
class Clock:
    """Unix µs and seconds, as a test sets them."""

    us: int = 0
    s: float = 0.0

    def pass_s(self, seconds: float) -> None:
        self.us += int(seconds * 1e6)
        self.s += seconds


@dataclass(slots=True)
class Posted:
    """What a webhook got."""

    path: str
    headers: dict[str, str]
    body: Any


@dataclass(slots=True)
class Sink:
    """A real HTTP server that keeps what is posted.

    Attributes:
        answers: status codes to give, one after another; 204 afterwards.
    """

    url: str = ""
    got: list[Posted] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)


@pytest.fixture
def sink() -> Iterator[Sink]:
    """A webhook of this machine."""
    found = Sink()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            body = json.loads(self.rfile.read(length))
            found.got.append(Posted(self.path, dict(self.headers), body))
            status, headers = found.answers.pop(0) if found.answers else (204, {})
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_words: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}/hook"
    yield found
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture
def home(tmp_path: Path) -> HomePaths:
    """A home with a key."""
    found = HomePaths(tmp_path / "home")
    open_or_create(found, settings.load({"home": str(found.root)}))
    return found


@pytest.fixture
def said() -> list[str]:
    """What notifiers complained about."""
    return []


@pytest.fixture
def clock() -> Clock:
    """Now, and then what a test makes of it."""
    from localstore.identity import now_us

    return Clock(now_us(), 1_000.0)


@pytest.fixture
def notifying(home: HomePaths, said: list[str], clock: Clock) -> Callable[..., Notifying]:
    """The notifiers of the home, as a new process would begin with them."""

    def begin(**more: Any) -> Notifying:
        given = {"clock": lambda: clock.us, "monotonic": lambda: clock.s, "random": lambda: 1.0}
        identity = more.pop("identity", Vault(home).load() if Vault(home).exists else None)
        return Notifying(home, identity, say=said.append, **{**given, **more})

    return begin


@pytest.fixture
def make_run(home: HomePaths) -> Callable[..., str]:
    """Make a finished run; returns its path."""

    def make(run_id: str, exit_code: int = 0, **about: Any) -> str:
        run = localstore.init(project="digits", id=run_id, dir=home.root, **about)
        run.log({"loss": 1.0})
        run.finish(exit_code=exit_code)
        return run.path

    return make
