"""Stdout and stderr led through a helper process, at the level of file descriptors.

So what C code, `os.write` and child processes print is seen too. It must lose no byte on its way to
the terminal, and leave no process with an output that nobody reads: the helper
(`localstore.surroundings.console_tee`) outlives this process and goes on until the last writer has
gone; should it die, a thread here takes its place.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import select
import signal
import stat
import subprocess
import sys
import termios
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from localstore.surroundings import console_tee

# Above what a shell or a training script would ask for by number.
_LOWEST_FD: Final = 10
_START_TIMEOUT_S: Final = 5.0
_READ_BYTES: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class Copy:
    """One message of the helper: text of a stream, bytes that were lost, or a mark that passed."""

    kind: int
    stream: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class _Channel:
    """One way out: a pipe or pseudo-terminal in the place of one or two of the descriptors 1, 2."""

    streams: tuple[int, ...]
    original: int  # where the output went, and still goes
    inlet: int  # the end that programs write to
    outlet: int  # the end that is read; held here too, so that no writer ever gets EPIPE
    terminal: bool

    def close(self) -> None:
        for fd in (self.original, self.inlet, self.outlet):
            with contextlib.suppress(OSError):
                os.close(fd)


def _high(fd: int) -> int:
    """The same file under a number that nobody else counts on; closed in programs that we start."""
    copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _LOWEST_FD)
    os.close(fd)
    return copy


def _copy(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _LOWEST_FD)


def _same_file(one: int, other: int) -> bool:
    a, b = os.fstat(one), os.fstat(other)
    return (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)


def _one_place() -> bool:
    """Whether stdout and stderr are shown together, so that their order matters."""
    if stat.S_ISCHR(os.fstat(1).st_mode) and not os.isatty(1):
        return False
    return _same_file(1, 2)


def _open_terminal(like: int) -> tuple[int, int]:
    """A pseudo-terminal of the size of a real one, that changes no byte: the real one does."""
    modes = termios.tcgetattr(like)
    size = termios.tcgetwinsize(like)
    master, slave = os.openpty()
    modes[1] &= ~termios.OPOST
    modes[3] &= ~(termios.ECHO | termios.ICANON | termios.ISIG)
    termios.tcsetattr(slave, termios.TCSANOW, modes)
    termios.tcsetwinsize(slave, size)
    return _high(master), _high(slave)


def _open_channel(streams: tuple[int, ...]) -> _Channel:
    terminal = os.isatty(streams[0])
    original = _copy(streams[0])
    try:
        if terminal:
            outlet, inlet = _open_terminal(original)
        else:
            outlet, inlet = map(_high, os.pipe())
    except (OSError, termios.error):
        os.close(original)
        raise
    return _Channel(streams, original, inlet, outlet, terminal)


def _interpreter() -> str:
    """The Python to run the helper with.

    Raises:
        OSError: there is none; a frozen program would start itself anew.
    """
    path = sys.executable or ""
    if getattr(sys, "frozen", False) or not Path(path).name.startswith(("python", "pypy")):
        raise OSError("no Python to run the helper with")
    return path


class Redirect:
    """Descriptors 1 and 2, or one of them, led through a helper.

    Attributes:
        streams: the descriptors that are led through it.
        helper_lost: whether the helper died, so that the descriptors are what they were before.
    """

    def __init__(self, streams: list[int], *, batch_s: float) -> None:
        """
        Args:
            streams: the descriptors to lead through a helper: 1, 2, or both.
            batch_s: how long the helper may collect copies before it sends them, seconds.
        """
        self.streams = tuple(streams)
        self._batch_ms = int(batch_s * 1000)
        self._channels: list[_Channel] = []
        self._name = secrets.token_hex(16)
        self._mark = console_tee.mark_of(self._name)
        self._marks_left = 0
        self._copies: int | None = None
        self._rest = bytearray()
        self._inside: deque[Copy] = deque()
        self.helper_lost = False

    @property
    def ended(self) -> bool:
        """Whether all that was written before `restore` has been passed on."""
        return self._marks_left <= 0

    # -------------------------------------------------------------- beginning
    def start(self) -> None:
        """Start the helper, then put its pipes in place.

        Raises:
            OSError, termios.error: nothing has been changed.
        """
        try:
            self._open_channels()
            self._start_helper()
        except BaseException:
            self.close()
            raise
        self._marks_left = len(self._channels)
        for channel in self._channels:
            for stream in channel.streams:
                os.dup2(channel.inlet, stream)

    def _open_channels(self) -> None:
        groups = (
            [(1, 2)] if self.streams == (1, 2) and _one_place() else [(s,) for s in self.streams]
        )
        for group in groups:
            self._channels.append(_open_channel(group))

    def _start_helper(self) -> None:
        ours, theirs = map(_high, os.pipe())
        self._copies = ours
        try:
            self._spawn(theirs)
        finally:
            os.close(theirs)
        heard = console_tee.is_ready(ours, select.POLLIN, 1000 * _START_TIMEOUT_S)
        if not heard or os.read(ours, 1) != console_tee.READY:
            raise OSError("the helper did not start")

    def _spawn(self, copies: int) -> None:
        words = [f"{one.streams[0]}:{one.outlet}:{one.original}" for one in self._channels]
        passed = [fd for one in self._channels for fd in (one.outlet, one.original)]
        # It leaves a grandchild behind and ends at once: nobody's `os.wait` meets it later.
        launcher = subprocess.Popen(
            [
                *(_interpreter(), "-I", "-S", console_tee.__file__),
                *(str(copies), str(self._batch_ms), self._name, *words),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(copies, *passed),
            start_new_session=True,
            cwd="/",
        )
        try:
            launcher.wait(_START_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            launcher.kill()
            launcher.wait()
            raise OSError("the helper did not start") from None

    # -------------------------------------------------------------- while it runs
    def read(self, timeout_s: float) -> list[Copy]:
        """What the helper has sent; waits for it at most so long."""
        found: list[Copy] = []
        if self._copies is None:
            time.sleep(timeout_s)
        elif console_tee.is_ready(self._copies, select.POLLIN, 1000 * timeout_s):
            found = self._receive(self._copies)
        while self._inside:
            found.append(self._inside.popleft())
        self._marks_left -= sum(copy.kind == console_tee.MARK for copy in found)
        return found

    def _receive(self, copies: int) -> list[Copy]:
        data = os.read(copies, _READ_BYTES)
        if not data:
            os.close(copies)
            self._take_over()
            return []
        self._rest += data
        return list(self._frames())

    def _frames(self) -> list[Copy]:
        found, at, head = [], 0, console_tee.HEADER_BYTES
        while len(self._rest) - at >= head:
            length = int.from_bytes(self._rest[at + 2 : at + head], "little")
            end = at + head + length
            if end > len(self._rest):
                break
            kind, stream = self._rest[at], self._rest[at + 1]
            found.append(Copy(kind, stream, bytes(self._rest[at + head : end])))
            at = end
        del self._rest[:at]
        return found

    def follow_size(self) -> None:
        """Give the pseudo-terminal the size that the real one has now."""
        for channel in self._channels:
            if channel.terminal:
                with contextlib.suppress(OSError, termios.error):
                    self._follow(channel)

    def _follow(self, channel: _Channel) -> None:
        size = termios.tcgetwinsize(channel.original)
        if size != termios.tcgetwinsize(channel.inlet):
            termios.tcsetwinsize(channel.inlet, size)
            # The kernel told this process before the size could be followed.
            os.kill(os.getpid(), signal.SIGWINCH)

    def _take_over(self) -> None:
        """The helper has died: do its work in threads, and let new output go straight out."""
        self._copies = None
        self.helper_lost = True
        self._put_back()
        for channel in self._channels:
            threading.Thread(target=self._carry, args=(channel,), daemon=True).start()

    def _carry(self, channel: _Channel) -> None:
        stream = channel.streams[0]
        inside = self._inside
        source, target = _copy(channel.outlet), _copy(channel.original)
        try:
            console_tee.carry(
                source,
                target,
                self._mark,
                lambda data: inside.append(Copy(console_tee.TEXT, stream, data)),
                lambda: inside.append(Copy(console_tee.MARK, stream, b"")),
            )
        finally:
            os.close(source)
            os.close(target)

    # -------------------------------------------------------------- the end
    def restore(self) -> None:
        """Put the descriptors back, and mark the end of what came before."""
        self._put_back()
        for channel in self._channels:
            # In a thread: where the terminal stands still, a pipe may take nothing now.
            arguments = (_copy(channel.inlet), self._mark)
            threading.Thread(target=_write, args=arguments, daemon=True).start()

    def _put_back(self) -> None:
        for channel in self._channels:
            for stream in channel.streams:
                # Another tee may stand over this one: then it is that one's to put back.
                with contextlib.suppress(OSError):
                    if _same_file(stream, channel.inlet):
                        os.dup2(channel.original, stream)

    def close(self) -> None:
        """Let go of the helper; it ends with the last process that can still write to it."""
        if self._copies is not None:
            os.close(self._copies)
            self._copies = None
        for channel in self._channels:
            channel.close()
        self._channels = []


def _write(fd: int, data: bytes) -> None:
    console_tee.write_through(fd, data)
    os.close(fd)
