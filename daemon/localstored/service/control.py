"""The control socket: lines of JSON from the same user on the same machine, answered in turn.

It must never hold up the service: each client has a thread, of which there are few; lines are
bounded, and who is slow to send or to read is sent away. What the verbs mean is for the service;
here is only who may ask, and how it is said (see `localstore.control` for the other side).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from localstore.control import MAX_LINE_BYTES, VERSION
from localstore.errors import LocalStoreError, RemoteError, UsageError
from localstore.layout import DIRECTORY_MODE, FILE_MODE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from localstored.service.journal import Journal

    Emit = Callable[[dict[str, Any]], None]
    Handler = Callable[[dict[str, Any], Emit], dict[str, Any]]

MAX_CLIENTS: Final = 32
SLOW_S: Final = 10.0
IDLE_S: Final = 60.0
_CHUNK_BYTES: Final = 1 << 16
_CUTS: Final = (1000, 100, 10, 0)  # items that a list keeps in an answer that is too long


class BadVersion(UsageError):
    """The client speaks a version that we do not."""


class Gone(Exception):
    """The client went away, or is too slow."""


class ControlServer:
    """Listens until it is stopped.

    Args:
        verbs: what may be asked. A handler gets the arguments and a way to send events, and returns
            the result; it may raise any `LocalStoreError`.
        peer: the user at the other end of a connection, -1 where the system does not say.
    """

    def __init__(
        self,
        path: Path,
        verbs: Mapping[str, Handler],
        journal: Journal,
        *,
        peer: Callable[[socket.socket], int] | None = None,
    ) -> None:
        self._path, self._verbs, self._journal = path, verbs, journal
        self._peer = peer or peer_user
        self._slots = threading.BoundedSemaphore(MAX_CLIENTS)
        self._stopping = threading.Event()
        self._wire: socket.socket | None = None

    def start(self) -> None:
        """Listen, over what a killed service left there.

        Raises:
            OSError: the folder or the name cannot be used.
        """
        self._path.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        wire = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            wire.bind(str(self._path))
            self._path.chmod(FILE_MODE)
            wire.listen(MAX_CLIENTS)
        except OSError:
            wire.close()
            raise
        self._wire = wire
        self._thread = threading.Thread(
            target=self._accept, args=(wire,), name="control", daemon=True
        )
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether it can be reached: a cleaner of /tmp may have taken the socket away."""
        return self._wire is not None and self._thread.is_alive() and self._path.is_socket()

    def stop(self) -> None:
        """Take no more clients, and let those that are here see the end."""
        self._stopping.set()
        wire, self._wire = self._wire, None
        if wire is not None:
            with contextlib.suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)
            wire.close()
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)

    # -------------------------------------------------------------- clients
    def _accept(self, wire: socket.socket) -> None:
        while not self._stopping.is_set():
            try:
                client, _ = wire.accept()
            except OSError:
                if self._stopping.wait(0.2) or self._wire is not wire:
                    return
                continue  # out of handles, perhaps: for a moment
            if not self._slots.acquire(blocking=False):
                _turn_away(client)
                continue
            try:
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()
            except RuntimeError:
                self._slots.release()
                client.close()

    def _serve(self, client: socket.socket) -> None:
        try:
            with client, contextlib.suppress(Gone, OSError):
                if not self._is_ours(client):
                    return
                buffer = bytearray()
                while not self._stopping.is_set():
                    self._answer(client, _read_line(client, buffer))
        finally:
            self._slots.release()

    def _is_ours(self, client: socket.socket) -> bool:
        user = self._peer(client)
        if user in (os.geteuid(), 0, -1):
            return True
        self._journal.warning("control", refused="another user", user=user)
        return False

    def _answer(self, client: socket.socket, line: bytes) -> None:
        try:
            verb, args = self._parse(line)
            result = self._verbs[verb](args, lambda event: _send(client, {"event": event}))
        except LocalStoreError as problem:
            _send(client, {"error": error_to_json(problem)})
        except (Gone, OSError):
            raise
        except Exception as problem:  # noqa: BLE001  # a fault of ours must not end the service
            self._journal.error("control", fault=type(problem).__name__, where=where(problem))
            said = {"type": "LocalStoreError", "text": "a fault in the service; see its log"}
            _send(client, {"error": {**said, "hint": "localstore daemon logs", "exit_code": 1}})
        else:
            _send(client, {"result": result})

    def _parse(self, line: bytes) -> tuple[str, dict[str, Any]]:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            raise UsageError("a request is one line of JSON") from None
        match request:
            case {"v": version} if version != VERSION or isinstance(version, bool):
                raise BadVersion(
                    f"version {str(version)[:20]} of the control protocol; this service speaks"
                    f" {VERSION}",
                    hint="service and command are of different releases: restart the service",
                )
            case {"v": _, "do": str(verb), **rest} if verb in self._verbs:
                args = rest.get("args", {})
                if isinstance(args, dict):
                    return verb, args
        raise UsageError(f"want one of {', '.join(sorted(self._verbs))}, with arguments by name")


def error_to_json(problem: LocalStoreError) -> dict[str, Any]:
    """An error as the other side can raise it again."""
    said: dict[str, Any] = {
        "type": type(problem).__name__,
        "text": str(problem),
        "hint": problem.hint,
        "exit_code": problem.exit_code,
    }
    return said | ({"versions": [VERSION]} if isinstance(problem, BadVersion) else {})


def where(problem: BaseException) -> str:
    """The line of code that a fault came from; no values."""
    trace = problem.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "?"
    return f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"


def peer_user(client: socket.socket) -> int:
    """The user id at the other end; -1 where only the file's mode protects the socket."""
    if not hasattr(socket, "SO_PEERCRED"):
        return -1
    size = struct.calcsize("3i")
    raw = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    _, user, _ = struct.unpack("3i", raw)
    return int(user)


# ------------------------------------------------------------------ lines
def _turn_away(client: socket.socket) -> None:
    problem = RemoteError("the service has too many clients", hint="try again in a moment")
    with client, contextlib.suppress(Gone, OSError):
        client.settimeout(0.5)
        client.sendall(_line({"error": {**error_to_json(problem), "type": "Busy"}}))


def _read_line(client: socket.socket, buffer: bytearray) -> bytes:
    """The next line; what came after it stays in the buffer."""
    deadline = time.monotonic() + (SLOW_S if buffer else IDLE_S)
    while b"\n" not in buffer:
        if len(buffer) > MAX_LINE_BYTES:
            raise Gone
        client.settimeout(max(0.01, deadline - time.monotonic()))
        piece = client.recv(_CHUNK_BYTES)
        if not piece or time.monotonic() > deadline:
            raise Gone
        if not buffer:
            deadline = time.monotonic() + SLOW_S
        buffer += piece
    end = buffer.index(b"\n")
    line = bytes(buffer[:end])
    del buffer[: end + 1]
    if len(line) > MAX_LINE_BYTES:
        raise Gone
    return line


def _send(client: socket.socket, said: dict[str, Any]) -> None:
    try:
        client.settimeout(SLOW_S)
        client.sendall(_line(said))
    except OSError as error:
        raise Gone from error


def _line(said: dict[str, Any]) -> bytes:
    """One line; of one that would be too long its long lists are cut, which it says."""
    line = json.dumps({"v": VERSION, **said}).encode() + b"\n"
    for most in _CUTS:
        if len(line) <= MAX_LINE_BYTES:
            break
        line = json.dumps({"v": VERSION, "cut": True, **_cut(said, most)}).encode() + b"\n"
    return line


def _cut(value: Any, most: int) -> Any:
    match value:
        case dict():
            return {key: _cut(inner, most) for key, inner in value.items()}
        case list():
            return [_cut(inner, most) for inner in value[:most]]
    return value
