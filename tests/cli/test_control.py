"""The client of the control socket: what it believes, and what it does with a hostile service."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from localstore import control, errors, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

PONG = {"v": 1, "result": {"pid": 7, "version": "0.1.0"}}


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime folder with a short name: paths of sockets have an end after 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="ls"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@contextmanager
def service(home: Path, *answers: bytes) -> Iterator[list[dict[str, Any]]]:
    """Answers each line that it gets with the next of these; remembers what it was asked."""
    settings.runtime_folder()
    asked: list[dict[str, Any]] = []
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    door.bind(str(control.socket_path(home)))
    door.listen()
    door.settimeout(10)

    def serve() -> None:
        wire, _ = door.accept()
        with wire:
            lines = wire.makefile("rb")
            for answer in answers:
                asked.append(json.loads(lines.readline()))
                try:
                    wire.sendall(answer)
                except OSError:
                    return
            lines.readline()  # until the client leaves

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield asked
    finally:
        thread.join(10)
        door.close()


def line(**values: Any) -> bytes:
    return json.dumps({"v": 1, **values}).encode() + b"\n"


pytestmark = pytest.mark.usefixtures("runtime")


# ------------------------------------------------------------------ where it lies
def test_every_way_to_write_a_home_leads_to_one_socket(home: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(home)
    ways = [home, tmp_path / "link", home / ".." / "home"]
    assert len({control.socket_path(way) for way in ways}) == 1
    assert control.socket_path(home) != control.socket_path(tmp_path)


def test_the_folder_is_made_for_us_alone(runtime: Path) -> None:
    folder = settings.runtime_folder()
    assert folder == runtime / "localstore"
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("attack", ["open to all", "a link", "a file"])
def test_a_folder_that_somebody_else_could_enter_is_refused(runtime: Path, attack: str) -> None:
    folder, elsewhere = runtime / "localstore", runtime / "elsewhere"
    elsewhere.mkdir()
    if attack == "open to all":
        folder.mkdir()
        folder.chmod(0o777)
    elif attack == "a link":
        folder.symlink_to(elsewhere)
    else:
        folder.touch()
    with pytest.raises(errors.StoreError):
        settings.runtime_folder()


def test_systemd_says_where_before_everything_else(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", f"{runtime}/given:{runtime}/other")
    assert settings.runtime_folder() == runtime / "given"
    monkeypatch.delenv("RUNTIME_DIRECTORY")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    shared = Path(tempfile.gettempdir()) / f"localstore-{os.getuid()}"
    assert shared in settings.runtime_places()


# ------------------------------------------------------------------ whether somebody is there
def test_where_no_daemon_runs_there_is_no_client(home: Path) -> None:
    assert control.connect(home) is None


def test_the_socket_of_a_killed_daemon_is_none(home: Path) -> None:
    settings.runtime_folder()
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    door.bind(str(control.socket_path(home)))
    door.close()
    assert control.connect(home) is None


def test_a_file_in_its_place_is_none(home: Path) -> None:
    settings.runtime_folder()
    control.socket_path(home).write_bytes(b"")
    assert control.connect(home) is None


def test_a_daemon_that_hangs_is_none_and_costs_no_more_than_the_time_limit(home: Path) -> None:
    with service(home, b""):
        began = time.monotonic()
        assert control.connect(home, timeout_s=0.2) is None
        assert time.monotonic() - began < 5


def test_a_daemon_of_another_version_is_named_with_what_to_do(home: Path) -> None:
    with service(home, b'{"v": 2, "result": {}}\n'), pytest.raises(control.NotAnswering) as met:
        control.connect(home)
    assert "version 2" in str(met.value)
    assert "restart" in met.value.hint


@pytest.mark.real("root")
def test_nobody_else_can_pass_for_the_daemon(home: Path, runtime: Path) -> None:
    runtime.chmod(0o755)
    (runtime / "localstore").mkdir()
    (runtime / "localstore").chmod(0o777)
    path = control.socket_path(home)
    script = (
        "import os, socket, sys\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "door = socket.socket(socket.AF_UNIX); door.bind(sys.argv[1]); door.listen()\n"
        "print(flush=True); door.settimeout(20); door.accept(); sys.stdin.read()\n"
    )
    impostor = subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert impostor.stdout is not None
        impostor.stdout.readline()
        with pytest.raises(errors.NotPermitted, match="65534"):
            control.connect(home)
    finally:
        impostor.kill()
        impostor.communicate()


# ------------------------------------------------------------------ what it answers
def test_events_come_before_the_result(home: Path) -> None:
    answer = line(event={"n": 1}) + line(event={"n": 2}) + line(result={"report": 3})
    seen: list[control.Event] = []
    with service(home, line(**PONG), answer) as asked:
        client = control.connect(home)
        assert client is not None
        with client:
            assert client.facts["pid"] == 7
            result = client.call("sync", {"remotes": None}, on_event=seen.append)
    assert (seen, result) == ([{"n": 1}, {"n": 2}], {"report": 3})
    assert asked[1] == {"v": 1, "do": "sync", "args": {"remotes": None}}


@pytest.mark.parametrize(
    ("said", "kind", "code"),
    [
        ({"type": "NotFound", "text": "no remote", "exit_code": 66}, errors.NotFound, 66),
        ({"type": "Refused", "text": "no", "hint": "ask"}, errors.Refused, 69),
        ({"type": "Busy", "text": "32 clients", "exit_code": 69}, errors.LocalStoreError, 69),
        ({"type": "Exception", "text": "a bug"}, errors.LocalStoreError, 1),
        ({"type": "BadVersion", "text": "speaks 3"}, control.NotAnswering, 69),
        ({}, errors.LocalStoreError, 1),
    ],
)
def test_an_error_keeps_its_kind_its_hint_and_its_exit_code(
    home: Path, said: dict[str, Any], kind: type[errors.LocalStoreError], code: int
) -> None:
    with service(home, line(**PONG), line(error=said)):
        client = control.connect(home)
        assert client is not None
        with client, pytest.raises(kind) as met:
            client.call("sync")
    assert met.value.exit_code == code
    assert str(met.value) == said.get("text", "the daemon gave no reason")
    if "hint" in said:
        assert met.value.hint == said["hint"]


@pytest.mark.parametrize(
    "attack",
    [
        b"no json\n",
        b"[1]\n",
        b'{"v": 1}\n',
        b'{"v": 1, "result": 5}\n',
        b"\xff\xfe\n",
        b"x" * (control.MAX_LINE_BYTES + control.MAX_LINE_BYTES // 4),
        b'{"v": 1, "resu',
    ],
    ids=["text", "list", "nothing", "number", "bytes", "endless", "cut"],
)
def test_what_is_not_of_the_protocol_is_a_clear_error(home: Path, attack: bytes) -> None:
    with service(home, line(**PONG), attack):
        client = control.connect(home)
        assert client is not None
        with client, pytest.raises(control.NotAnswering):
            client.call("status", timeout_s=0.5)
