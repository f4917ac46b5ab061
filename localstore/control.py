"""The control socket of the service: where it lies, what its lines are, and a client for it.

Newline-delimited JSON over a Unix socket in the runtime folder: one request, any number of events,
one result or error. Knows no key, no engine and nothing of the store but the home's path; it must
stay so, because the service imports it too.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import stat
import struct
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from localstore import errors, settings
from localstore.errors import LocalStoreError, RemoteError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import TracebackType

VERSION: Final = 1
MAX_LINE_BYTES: Final = 1 << 20
CONNECT_TIMEOUT_S: Final = 1.0  # a live daemon answers a ping at once, whatever it does
ANSWER_TIMEOUT_S: Final = 30.0
_NAME_BYTES: Final = 8
_RECEIVE_BYTES: Final = 1 << 16

Event = dict[str, Any]


class NotAnswering(RemoteError):
    """Something holds the control socket and does not speak our protocol, or fell silent."""

    hint = "`localstore daemon restart`; `localstore daemon logs` says what it does"


# ------------------------------------------------------------------ where it lies
def socket_name(home: Path) -> str:
    """The file name of a home's socket: the same for every way to write the home's path."""
    path = os.fsencode(home.resolve())
    return f"{hashlib.blake2b(path, digest_size=_NAME_BYTES).hexdigest()}.sock"


def socket_path(home: Path) -> Path:
    """Where the service of this home puts its socket; makes nothing."""
    return settings.runtime_places()[0] / socket_name(home)


def socket_paths(home: Path) -> list[Path]:
    """Everywhere that the service of this home may have put it, for who wants to reach it."""
    return [place / socket_name(home) for place in settings.runtime_places()]


# ------------------------------------------------------------------ a connection
class Client:
    """One connection to the service, which has answered a ping; fit for a `with` statement."""

    def __init__(self, wire: socket.socket) -> None:
        self._wire, self._buffer = wire, bytearray()
        self.facts: dict[str, Any] = {}

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, at: TracebackType
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave; what the service began goes on."""
        self._wire.close()

    def call(
        self,
        do: str,
        args: Mapping[str, Any] | None = None,
        *,
        on_event: Callable[[Event], None] | None = None,
        timeout_s: float | None = ANSWER_TIMEOUT_S,
    ) -> dict[str, Any]:
        """Ask for something, and wait until it is done.

        Args:
            do: the verb. args: its arguments, JSON values.
            on_event: is told what happens meanwhile.
            timeout_s: the longest silence, in seconds; None: for ever.

        Raises:
            LocalStoreError: what the service says went wrong, of its kind and with its hint.
            NotAnswering: silence, a cut, or lines that are not of this protocol.
        """
        request = json.dumps({"v": VERSION, "do": do, "args": dict(args or {})})
        try:
            self._wire.settimeout(timeout_s)
            self._wire.sendall(request.encode() + b"\n")
        except OSError as problem:
            raise NotAnswering(f"the daemon went away: {problem.strerror or problem}") from problem
        while True:
            answer = self._answer(timeout_s)
            match answer:
                case {"event": dict(event)}:
                    if on_event is not None:
                        on_event(event)
                case {"result": dict(result)}:
                    return result
                case {"error": dict(said)}:
                    raise error_of(said)
                case _:
                    raise NotAnswering(f"the daemon answers {do} with neither result nor error")

    def _answer(self, timeout_s: float | None) -> dict[str, Any]:
        try:
            answer = json.loads(self._line(timeout_s))
        except (UnicodeDecodeError, json.JSONDecodeError) as problem:
            raise NotAnswering("the daemon answers with something that is no JSON") from problem
        if not isinstance(answer, dict):
            raise NotAnswering("the daemon answers with something that is no JSON object")
        if answer.get("v") != VERSION:
            raise NotAnswering(
                f"the daemon speaks version {answer.get('v')} of the control protocol, this"
                f" command {VERSION}",
                hint="`localstore daemon restart` starts the version that is installed now",
            )
        return answer

    def _line(self, timeout_s: float | None) -> bytes:
        """The next line, without its end."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        searched = 0
        while True:
            at = self._buffer.find(b"\n", searched)
            if at >= 0:
                line = bytes(self._buffer[:at])
                del self._buffer[: at + 1]
                return line
            searched = len(self._buffer)
            if searched > MAX_LINE_BYTES:
                raise NotAnswering(f"the daemon's line is over {MAX_LINE_BYTES} bytes")
            self._buffer += self._received(deadline)

    def _received(self, deadline: float | None) -> bytes:
        left = None if deadline is None else deadline - time.monotonic()
        try:
            if left is not None and left <= 0:
                raise TimeoutError
            self._wire.settimeout(left)
            data = self._wire.recv(_RECEIVE_BYTES)
        except TimeoutError:
            raise NotAnswering("the daemon does not answer") from None
        except OSError as problem:
            raise NotAnswering(f"the daemon went away: {problem.strerror}") from problem
        if not data:
            raise NotAnswering("the daemon went away before it answered")
        return data


def connect(home: Path, timeout_s: float = CONNECT_TIMEOUT_S) -> Client | None:
    """The service of this home; None where none answers within `timeout_s` seconds.

    A socket that a killed service left is the same as none. A service of another version, and one
    that belongs to another account, raise.

    Raises:
        NotAnswering: it answers in a version that this one does not speak.
        NotPermitted: it runs as somebody else.
    """
    for path in socket_paths(home):
        wire = _wire(path, timeout_s)
        if wire is None:
            continue
        client = Client(wire)
        try:
            _check_peer(wire, path)
            client.facts = client.call("ping", timeout_s=timeout_s)
        except NotAnswering as problem:
            client.close()
            if "version" in str(problem):
                raise
            continue
        except LocalStoreError:
            client.close()
            raise
        return client
    return None


def _wire(path: Path, timeout_s: float) -> socket.socket | None:
    try:
        # What others put into `/tmp` before us is no service, and must not stand in the way of one.
        folder = path.parent.lstat()
        if not stat.S_ISDIR(folder.st_mode) or folder.st_uid not in (0, os.getuid()):
            return None
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return None
        wire = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError:
        return None
    wire.settimeout(timeout_s)
    try:
        wire.connect(os.fspath(path))
    except OSError:
        wire.close()
        return None
    return wire


def _check_peer(wire: socket.socket, path: Path) -> None:
    """`/tmp` is open to all: nobody else may pass for the service and learn names of projects."""
    if sys.platform == "linux":
        form = "3i"
        raw = wire.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize(form))
        owner = struct.unpack(form, raw)[1]
    else:
        owner = path.lstat().st_uid
    if owner not in (0, os.getuid()):
        raise errors.NotPermitted(f"the daemon at {path} runs as user {owner}, not as you")


# ------------------------------------------------------------------ errors
def error_of(said: Mapping[str, Any]) -> LocalStoreError:
    """The error that the service names, as one of ours: same text, hint and exit code."""
    text, hint = str(said.get("text", "the daemon gave no reason")), str(said.get("hint", ""))
    kind = getattr(errors, str(said.get("type", "")), None)
    if isinstance(kind, type) and issubclass(kind, LocalStoreError):
        return kind(text, hint=hint)
    made = NotAnswering if said.get("type") == "BadVersion" else LocalStoreError
    problem = made(text, hint=hint)
    code = said.get("exit_code")
    if isinstance(code, int) and 0 < code < 256:
        problem.exit_code = code  # type: ignore[misc]
    return problem
