"""What every remote is: the same files under the same names, `projects/<project id>/…`.

`Remote` is the contract; `tests/sync/contract.py` is the suite that every implementation passes.
More behaviour (retry, limits, statistics) is a Remote around a Remote.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from localstore.errors import Conflict, Damaged, NotFound, Refused, RemoteError
from localstore.layout import FileName, is_name, parse_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path
    from typing import BinaryIO

MAX_PIECE_BYTES: Final = 4 * 1024 * 1024  # one create, append or read
_MAX_NAME_CHARS: Final = 256  # the longest name of the format has 148
_PROJECT_FOLDER: Final = re.compile(r"projects/[0-9a-f]{64}/")
_PROJECT: Final = slice(9, 73)
_BELOW: Final = 74
_TAILS: Final = (".t0", ".t1")
_REMOTE_NAME: Final = re.compile(r"projects/(?P<project>[0-9a-f]{64})/(?P<name>[ -~]+)")


class Stopped(Exception):
    """Whoever asked for the work asked to stop it: an error of nobody."""


class Unreachable(RemoteError):
    """The remote as a whole does not answer: nothing more is asked of it in this sync.

    Attributes:
        retry_after_s: when it said itself to come back, in seconds from now.
        permanent: it will not get better by itself (credentials refused, no such bucket, another
            remote in its place): a person must act, and the hint says how.
    """

    def __init__(
        self,
        problem: str,
        *,
        hint: str = "",
        retry_after_s: float | None = None,
        permanent: bool = False,
    ) -> None:
        super().__init__(problem, hint=hint)
        self.retry_after_s, self.permanent = retry_after_s, permanent


class Busy(RemoteError):
    """This one request failed in passing (a timeout, an error of the server, "slow down")."""

    def __init__(self, problem: str, *, hint: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(problem, hint=hint)
        self.retry_after_s = retry_after_s


class Full(RemoteError):
    """The remote takes no more bytes: no space is left, or a quota is reached."""


class WrongOffset(Conflict):
    """An append that does not fit; `size` is what the remote really holds, in bytes."""

    def __init__(self, problem: str, *, size: int) -> None:
        super().__init__(f"{problem}; the remote holds {size} bytes")
        self.size = size


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a remote and its size in bytes."""

    name: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a remote lets its user do; a deposit may append and nothing else.

    Attributes:
        atomic_create: of many that create one name with other bytes at the very same moment exactly
            one wins. Where False nobody promises who wins; nothing is lost, nobody sees a part.
        max_parallel: how many verbs it can take at once.
    """

    can_list: bool = True
    can_read: bool = True
    can_delete: bool = True
    atomic_create: bool = True
    max_parallel: int = 16


class Remote(Protocol):
    """A place that keeps files for replicas.

    Every method may be called from several threads at once. It may raise `Unreachable`, `Busy`,
    and `Refused` for a name that is not `projects/<64 hex>/<a name that layout.parse_name accepts
    and remotes take>`. A caller must believe nothing that comes back: sizes, names and bytes may
    all be lies.
    """

    @property
    def id(self) -> str:
        """16 hex digits, random, the same for everybody who uses this remote."""

    @property
    def capabilities(self) -> Capabilities:
        """What is allowed here; the rest raises `Refused`."""

    def projects(self) -> Iterator[str]:
        """The ids of the projects that have files here, in any order, each once.

        Some may have none any more.
        """

    def list(self, prefix: str) -> Iterator[Entry]:
        """Every file whose name begins with `prefix`, in any order, each once.

        Files that are not of the format are passed over.
        """

    def have(self, names: Collection[str]) -> Mapping[str, int]:
        """The sizes of those of `names` that are there."""

    def read(self, name: str, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset`; fewer only at the end of the file.

        Raises:
            NotFound: no such file.
        """

    def digest(self, name: str, length: int) -> bytes:
        """SHA-256 of the first `length` bytes, computed where the bytes are.

        Raises:
            NotFound: no such file.
            Refused: the file is shorter.
        """

    def create(self, name: str, data: bytes) -> None:
        """Put a file there, whole or not at all; it is durable on return.

        Idempotent: the same bytes under the same name again are a success.

        Args:
            data: at most MAX_PIECE_BYTES; what is longer is appended.

        Raises:
            Conflict: other bytes stand under this name. They are never replaced.
            Full: no room.
        """

    def append(self, name: str, offset: int, data: bytes) -> None:
        """Let a file grow at `offset`, which is its size; durable on return.

        Idempotent: bytes of `data` that stand there already, from this call cut short or made
        before, are compared and passed over. A cut may leave a part of `data` written.

        Args:
            data: at most MAX_PIECE_BYTES.

        Raises:
            NotFound: no such file.
            WrongOffset: a gap, or other bytes from `offset` on; carries the real size.
            Full: no room.
        """

    def delete(self, name: str) -> None:
        """Remove a file; a success also when it is not there."""

    def confirm(self, name: str, length: int, source: Path) -> bool:
        """Whether the first `length` bytes under `name` are those of the local file `source`.

        Judged from the bytes as they lie there, never from memory: a folder reads them, a bucket
        compares what the server itself computed of them. False where either is shorter.

        Raises:
            NotFound: no such file.
        """

    def close(self) -> None:
        """Let connections and handles go; nothing may be asked afterwards."""


def check_name(name: str) -> tuple[str, FileName]:
    """The project id and the checked name of a remote's file.

    Raises:
        Refused: any name that no file of a remote has.
    """
    found = _REMOTE_NAME.fullmatch(name) if len(name) <= _MAX_NAME_CHARS else None
    if found is None:
        raise Refused(f"no name of a remote: {name[:_MAX_NAME_CHARS]!r}")
    try:
        file = parse_name(found["name"])
    except Damaged as problem:
        raise Refused(problem.problem) from None
    if not file.kind.on_remotes:
        raise Refused(f"a {file.kind.value} never leaves its machine")
    return found["project"], file


def split_name(name: str) -> tuple[str, str]:
    """The project id and the name of a remote's file, checked as `check_name` does, and faster.

    Raises:
        Refused: any name that no file of a remote has.
    """
    project, below = name[_PROJECT], name[_BELOW:]
    if is_name(below) and not below.endswith(_TAILS):
        found = _PROJECT_FOLDER.fullmatch(name[:_BELOW])
        if found is not None:
            return project, below
    of, file = check_name(name)
    return of, file.name


def check_piece(data: bytes) -> None:
    """Hold the limit of one create or append.

    Raises:
        Refused: more than MAX_PIECE_BYTES.
    """
    if len(data) > MAX_PIECE_BYTES:
        raise Refused(f"a piece of {len(data)} bytes, the most is {MAX_PIECE_BYTES}")


def missing(name: str) -> NotFound:
    """The error for a file that is not there."""
    return NotFound(f"the remote has no {name}")


def left_to_append(name: str, offset: int, data: bytes, size: int, present: bytes) -> bytes:
    """What of an append is still to be written, given what stands from `offset` on.

    Args:
        size: bytes that the remote holds under `name`.
        present: at most `len(data)` bytes that stand at `offset` now.

    Raises:
        WrongOffset: a gap, or bytes that differ.
    """
    if offset > size:
        raise WrongOffset(f"append to {name} at {offset}", size=size)
    if data[: len(present)] != present:
        raise WrongOffset(f"other bytes in {name} from {offset}", size=size)
    return data[len(present) :]


def same_bytes(there: BinaryIO, here: BinaryIO, length: int) -> bool:
    """Whether two files begin with the same `length` bytes; False where one is shorter."""
    while length > 0:
        piece = here.read(min(MAX_PIECE_BYTES, length))
        if not piece or there.read(len(piece)) != piece:
            return False
        length -= len(piece)
    return True
