"""Runs git in one folder so that nothing which the repository names is run.

A repository may come from anybody, and its configuration can name programs: hooks, fsmonitor,
filters, external diffs, transports. None of them is run from here; filters that the *person's own*
configuration defines (Git LFS) are. Nothing is fetched, nobody is asked, nothing waits for ever.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TIMEOUT_S: Final = 10.0
_ANSWER_LIMIT_BYTES: Final = 4 << 20
NOT_FOUND: Final = 127  # what env(1) leaves with when there is no such program
# Left by hooks and wrappers: they would point git at another repository, or at a program.
_UNSET: Final = (
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX"),
    *("GIT_NAMESPACE", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES"),
    *("GIT_EXTERNAL_DIFF", "GIT_DIFF_OPTS", "GIT_TRACE", "GIT_LITERAL_PATHSPECS"),
)
# env(1) sets these, so that only `localstore.settings` has to know the environment.
_SET: Final = (
    "LC_ALL=C",
    "GIT_OPTIONAL_LOCKS=0",
    "GIT_TERMINAL_PROMPT=0",
    "GIT_ALLOW_PROTOCOL=",  # no transport at all: a partial clone would fetch what a diff lacks
    "GIT_NO_LAZY_FETCH=1",
    "GIT_LFS_SKIP_SMUDGE=1",
)
_NO_PROGRAMS: Final = (
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.untrackedCache=false",
    "diff.autoRefreshIndex=false",
    "submodule.recurse=false",
    "gc.auto=0",
    "maintenance.auto=false",
)
_FILTER_PARTS: Final = ("clean", "smudge", "process", "required")


@dataclass(frozen=True, slots=True)
class Answer:
    """What one git command left.

    Attributes:
        code: exit status; negative when it was stopped.
        out: stdout, at most as long as was allowed.
        cut: whether there was more.
    """

    code: int
    out: bytes
    err: str = ""
    cut: bool = False

    @property
    def good(self) -> bool:
        """Whether it succeeded and said all."""
        return self.code == 0 and not self.cut

    @property
    def text(self) -> str:
        """stdout as text that any encoder takes."""
        return self.out.decode("utf-8", "replace").strip()


class Git:
    """Runs git in one folder, quickly or not at all.

    After one command that took longer than `timeout_s` all others fail at once: a slow disk
    delays a start by one timeout, not by ten.
    """

    def __init__(self, folder: Path, timeout_s: float = TIMEOUT_S) -> None:
        self.folder, self.timeout_s = folder, timeout_s
        self.late = False
        self._overrides: list[str] = []

    def ask(
        self, *words: str, stdin: bytes = b"", limit_bytes: int = _ANSWER_LIMIT_BYTES
    ) -> Answer:
        """Run one command; never raises."""
        if self.late:
            return Answer(-signal.SIGKILL, b"", "git took too long")
        options = [word for one in (*_NO_PROGRAMS, *self._overrides) for word in ("-c", one)]
        unset = [word for name in _UNSET for word in ("-u", name)]
        command = ["env", *unset, *_SET, "git", "--no-pager", *options, *words]
        try:
            answer = _run(command, self.folder, stdin, limit_bytes, self.timeout_s)
        except OSError as error:
            return Answer(NOT_FOUND, b"", str(error))
        self.late = answer.code == -signal.SIGKILL and not answer.cut
        return answer

    def configuration(self) -> list[tuple[str, str, str]]:
        """Scope, key and value of every setting, in the order in which they count."""
        parts = self.ask("config", "--list", "--show-scope", "-z").out.split(b"\0")
        found = []
        for scope, setting in zip(parts[::2], parts[1::2], strict=False):
            key, _, value = os.fsdecode(setting).partition("\n")
            found.append((scope.decode("ascii", "replace"), key, value))
        return found

    def silence_filters(self, configuration: Sequence[tuple[str, str, str]]) -> bool:
        """Make git forget the filters that the repository itself defines.

        Those of the person's own configuration stay: without them every file in Git LFS would
        look changed.

        Returns:
            False when one has a name that git cannot be told: then leave the working tree alone.
        """
        own: dict[str, str] = {}
        foreign: set[str] = set()
        for scope, key, value in configuration:
            if key.startswith("filter.") and key.rpartition(".")[2] in _FILTER_PARTS:
                if scope in ("local", "worktree"):
                    foreign.add(key)
                else:
                    own[key] = value
        if not configuration or any("=" in key for key in foreign):
            return False
        for key in sorted(foreign):
            empty = "false" if key.endswith(".required") else ""
            self._overrides.append(f"{key}={own.get(key, empty)}")
        return True


def _run(
    command: list[str], folder: Path, stdin: bytes, limit_bytes: int, timeout_s: float
) -> Answer:
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    pipes = _Pipes(process, stdin, limit_bytes)
    finished = pipes.pump(time.monotonic() + timeout_s)
    if not finished:
        _kill(process)
    pipes.close()
    code = process.wait() if finished else -signal.SIGKILL
    process.wait()
    err = os.fsdecode(bytes(pipes.err)).strip()
    return Answer(code, bytes(pipes.out[:limit_bytes]), err, len(pipes.out) > limit_bytes)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End git and what it started: a filter that lives on would keep the pipes open."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()


class _Pipes:
    """The three pipes of a child, moved without a thread and with an end."""

    def __init__(self, process: subprocess.Popen[bytes], stdin: bytes, limit_bytes: int) -> None:
        self.out, self.err = bytearray(), bytearray()
        self._process, self._limit_bytes = process, limit_bytes
        self._left = memoryview(stdin)
        self._selector = selectors.DefaultSelector()
        for pipe, sink in ((process.stdout, self.out), (process.stderr, self.err)):
            if pipe is not None:
                self._selector.register(pipe, selectors.EVENT_READ, sink)
        if process.stdin is not None:
            os.set_blocking(process.stdin.fileno(), False)
            self._selector.register(process.stdin, selectors.EVENT_WRITE)

    def pump(self, deadline: float) -> bool:
        """Whether the child closed its pipes and ended in time and within the limit."""
        while self._selector.get_map():
            left_s = deadline - time.monotonic()
            if left_s <= 0 or len(self.out) > self._limit_bytes:
                return False
            for key, _ in self._selector.select(left_s):
                self._move(key.fileobj, key.data)  # type: ignore[arg-type]  # registered above
        try:
            self._process.wait(max(deadline - time.monotonic(), 0.01))
        except subprocess.TimeoutExpired:
            return False
        return True

    def _move(self, pipe: IO[bytes], sink: bytearray | None) -> None:
        if sink is None:
            try:
                self._left = self._left[os.write(pipe.fileno(), self._left[:65536]) :]
            except BrokenPipeError:
                self._left = self._left[:0]
            if not self._left:
                self._selector.unregister(pipe)
                pipe.close()
            return
        piece = os.read(pipe.fileno(), 65536)
        if piece and len(self.err) < _ANSWER_LIMIT_BYTES:
            sink += piece
        else:
            self._selector.unregister(pipe)

    def close(self) -> None:
        self._selector.close()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None and not pipe.closed:
                pipe.close()
