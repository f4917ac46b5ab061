"""The control socket: who may ask, and that nobody who asks badly holds up anything."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from localstore.control import MAX_LINE_BYTES
from localstore.errors import NotFound
from localstored.service import control as module
from localstored.service.control import MAX_CLIENTS, ControlServer
from tests.daemon.conftest import Said, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Emit = Callable[[dict[str, Any]], None]


class Verbs:
    """Some verbs to be asked for."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.emitted = 0

    def table(self) -> dict[str, Any]:
        return {
            "ping": lambda args, emit: {"pid": os.getpid()},
            "echo": lambda args, emit: args,
            "missing": self.missing,
            "fault": lambda args, emit: {"x": 1 // 0},
            "slow": self.slow,
            "talk": self.talk,
            "huge": lambda args, emit: {"notes": [{"n": n, "x": "y" * 90} for n in range(50_000)]},
        }

    def missing(self, _args: dict[str, Any], _emit: Emit) -> dict[str, Any]:
        raise NotFound("no remote 'x'", hint="look again")

    def slow(self, _args: dict[str, Any], _emit: Emit) -> dict[str, Any]:
        self.release.wait(10)
        return {}

    def talk(self, _args: dict[str, Any], emit: Emit) -> dict[str, Any]:
        for number in range(3):
            emit({"n": number})
        return {"said": 3}


@pytest.fixture
def verbs() -> Verbs:
    return Verbs()


@pytest.fixture
def server(tmp_path: Path, verbs: Verbs, said: Said) -> Iterator[Path]:
    path = tmp_path / "run" / "s.sock"
    made = ControlServer(path, verbs.table(), said.journal)
    made.start()
    yield path
    verbs.release.set()
    made.stop()
    assert not path.exists()


class Wire:
    """A client that can be rude."""

    def __init__(self, path: Path) -> None:
        self.wire = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.wire.settimeout(10)
        self.wire.connect(str(path))
        self.file = self.wire.makefile("rb")

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.wire.close()

    def ask(self, do: str, **args: object) -> dict[str, Any]:
        self.raw(json.dumps({"v": 1, "do": do, "args": args}).encode() + b"\n")
        return self.answer()

    def raw(self, data: bytes) -> None:
        self.wire.sendall(data)

    def answer(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.file.readline())
        return found

    def is_closed(self) -> bool:
        try:
            return self.file.readline() == b""
        except ConnectionResetError:
            return True


def test_many_requests_on_one_connection_are_answered_in_turn(server: Path) -> None:
    with Wire(server) as wire:
        for number in range(100):
            assert wire.ask("echo", n=number) == {"v": 1, "result": {"n": number}}
        wire.raw(b'{"v":1,"do":"echo","args":{"a":1}}\n{"v":1,"do":"echo","args":{"a":2}}\n')
        assert [wire.answer()["result"]["a"] for _ in range(2)] == [1, 2]


def test_events_come_before_the_result(server: Path) -> None:
    with Wire(server) as wire:
        wire.raw(b'{"v":1,"do":"talk"}\n')
        assert [wire.answer() for _ in range(4)] == [
            *({"v": 1, "event": {"n": n}} for n in range(3)),
            {"v": 1, "result": {"said": 3}},
        ]


def test_an_error_keeps_its_kind_its_hint_and_its_exit_code(server: Path) -> None:
    with Wire(server) as wire:
        assert wire.ask("missing")["error"] == {
            "type": "NotFound",
            "text": "no remote 'x'",
            "hint": "look again",
            "exit_code": 66,
        }


def test_a_fault_of_ours_is_told_by_place_and_ends_nothing(server: Path, said: Said) -> None:
    with Wire(server) as wire:
        assert wire.ask("fault")["error"]["exit_code"] == 1
        assert "ZeroDivisionError" in said.text
        assert "test_control.py:" in said.text
        assert "result" in wire.ask("ping")


def test_another_version_is_told_which_ones_are_spoken(server: Path) -> None:
    with Wire(server) as wire:
        for version in (2, "1", True, None, {"x": 1}):
            wire.raw(json.dumps({"v": version, "do": "ping"}).encode() + b"\n")
            problem = wire.answer()["error"]
            assert problem["type"] == "BadVersion"
            assert problem["versions"] == [1]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"do": "ping"}',
        b'{"v": 1}',
        b'{"v": 1, "do": "erase everything"}',
        b'{"v": 1, "do": ["ping"]}',
        b'{"v": 1, "do": "ping", "args": [1]}',
        b"[" * 100_000,
        b'{"v": 1, "do": "__class__"}',
    ],
)
def test_nonsense_is_an_error_of_usage_and_the_next_line_is_heard(
    server: Path, line: bytes
) -> None:
    with Wire(server) as wire:
        wire.raw(line + b"\n")
        assert wire.answer()["error"]["exit_code"] == 2
        assert "result" in wire.ask("ping")


def test_a_line_without_end_is_cut_off_and_takes_no_memory(server: Path) -> None:
    with Wire(server) as wire, pytest.raises((BrokenPipeError, ConnectionResetError)):
        for _ in range(64):
            wire.raw(b"x" * 65_536)
        for _ in range(64):
            wire.raw(b"x" * 65_536)
    with Wire(server) as wire:
        assert "result" in wire.ask("ping")


def test_half_a_line_and_then_silence_is_sent_away(
    server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SLOW_S", 0.2)
    with Wire(server) as wire:
        wire.raw(b'{"v": 1,')
        assert wire.is_closed()


def test_a_byte_now_and_then_is_no_way_to_stay(
    server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SLOW_S", 0.3)
    began = time.monotonic()
    with Wire(server) as wire, pytest.raises((BrokenPipeError, ConnectionResetError)):
        while time.monotonic() - began < 5:
            wire.raw(b"x")
            time.sleep(0.05)
    assert time.monotonic() - began < 3


def test_who_does_not_read_its_answers_is_sent_away_and_holds_up_nobody(
    server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SLOW_S", 0.3)
    with Wire(server) as deaf:
        deaf.wire.settimeout(0.2)
        with pytest.raises(OSError, match=r"timed out|reset|[Bb]roken"):
            while True:
                deaf.raw(b'{"v":1,"do":"huge"}\n' * 10)
        with Wire(server) as wire:
            assert "result" in wire.ask("ping")


def test_one_that_waits_does_not_hold_up_another(server: Path, verbs: Verbs) -> None:
    with Wire(server) as waiting, Wire(server) as wire:
        waiting.raw(b'{"v":1,"do":"slow"}\n')
        began = time.monotonic()
        assert "result" in wire.ask("ping")
        assert time.monotonic() - began < 1
        verbs.release.set()
        assert waiting.answer() == {"v": 1, "result": {}}


def test_too_many_clients_are_told_so_and_places_come_free(server: Path) -> None:
    crowd = [Wire(server) for _ in range(MAX_CLIENTS)]
    try:
        for wire in crowd:
            assert "result" in wire.ask("ping")
        with Wire(server) as late:
            assert late.answer()["error"]["type"] == "Busy"
            assert late.is_closed()
    finally:
        for wire in crowd:
            wire.__exit__()

    def is_taken() -> bool:
        with Wire(server) as wire:
            return "result" in wire.ask("ping")

    wait_until(lambda: _try(is_taken))


def _try(call: Callable[[], bool]) -> bool:
    try:
        return call()
    except (OSError, KeyError, json.JSONDecodeError):
        return False


def test_an_answer_of_any_size_is_one_line_that_the_other_side_takes(server: Path) -> None:
    with Wire(server) as wire:
        wire.raw(b'{"v":1,"do":"huge"}\n')
        line = wire.file.readline()
        assert len(line) <= MAX_LINE_BYTES
        said = json.loads(line)
        assert said["cut"] is True
        assert len(said["result"]["notes"]) == 1000


def test_another_user_gets_no_answer(tmp_path: Path, verbs: Verbs, said: Said) -> None:
    path = tmp_path / "run" / "s.sock"
    made = ControlServer(path, verbs.table(), said.journal, peer=lambda _: os.geteuid() + 1)
    made.start()
    try:
        with Wire(path) as wire:
            assert wire.is_closed()
    finally:
        made.stop()
    assert "another user" in said.text


ASK = """
import socket, sys
wire = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
wire.settimeout(5)
wire.connect(sys.argv[1])
try:
    wire.sendall(b'{"v":1,"do":"ping"}\\n')
    print(wire.recv(100))
except (ConnectionResetError, BrokenPipeError):
    print(b"")
"""


@pytest.mark.real("root")
def test_a_real_process_of_another_user_gets_no_answer(verbs: Verbs, said: Said) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        made = ControlServer(Path(folder) / "s.sock", verbs.table(), said.journal)
        made.start()
        try:
            (Path(folder) / "s.sock").chmod(0o666)
            done = subprocess.run(
                ["/usr/bin/env", "python3", "-c", ASK, f"{folder}/s.sock"],
                user=65534,
                env={"PATH": "/usr/bin:/bin:/usr/local/bin"},
                capture_output=True,
                timeout=20,
            )
        finally:
            made.stop()
    assert done.stdout == b"b''\n", done.stderr


def test_the_socket_is_for_its_owner_alone(server: Path) -> None:
    assert server.stat().st_mode & 0o777 == 0o600
    assert server.parent.stat().st_mode & 0o777 == 0o700


def test_what_a_killed_service_left_there_is_no_obstacle(
    tmp_path: Path, verbs: Verbs, said: Said
) -> None:
    path = tmp_path / "s.sock"
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    dead.bind(str(path))
    dead.close()
    made = ControlServer(path, verbs.table(), said.journal)
    made.start()
    try:
        with Wire(path) as wire:
            assert "result" in wire.ask("ping")
        assert made.is_alive
        path.unlink()  # as a cleaner of /tmp does
        assert not made.is_alive
    finally:
        made.stop()
