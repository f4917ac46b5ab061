"""Bytes from a remote on their way in: hostile until checked, invisible until whole.

They land in `local/incoming` under a random name. Only what deserves its name gets it, by one
rename or link. Memory stays at one piece and one frame, whatever the remote sends.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from typing import TYPE_CHECKING, Final

from localstore.durable import make_folder, sync_folder, write_all
from localstore.errors import Refused, StoreError
from localstore.layout import FILE_MODE, FileKind, FileName
from localstored.remotes.base import MAX_PIECE_BYTES
from localstored.verify import FrameCheck, check_file, is_closed, sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from localstore.layout import ProjectPaths
    from localstored.remotes.base import Remote

_STALE_S: Final = 86_400.0
_KEPT_BYTES: Final = 512 * 1024 * 1024  # and no more than this share of a small disk
_KEPT_SHARE: Final = 50
_FRAMED: Final = frozenset({FileKind.LOG, FileKind.FORK, FileKind.TAIL_COPY})


def _go_on() -> None:
    """Nobody asks to stop."""


def read_exactly(remote: Remote, name: str, offset: int, length: int) -> bytes:
    """`length` bytes of a remote's file, whatever pieces it answers in.

    Raises:
        Refused: it ends early, or answers more than was asked.
    """
    pieces = []
    while length > 0:
        piece = remote.read(name, offset, length)
        if not piece or len(piece) > length:
            raise Refused(f"the remote sent {len(piece)} bytes of {length} that it claims to have")
        pieces.append(piece)
        offset, length = offset + len(piece), length - len(piece)
    return b"".join(pieces)


class Incoming:
    """Fetches files of one project from one remote."""

    def __init__(self, paths: ProjectPaths, remote: Remote) -> None:
        self._paths, self._remote = paths, remote
        self._folder = paths.local / "incoming"

    def remote_name(self, name: str) -> str:
        """The name on the remote of a file of this project."""
        return f"projects/{self._paths.id}/{name}"

    # -------------------------------------------------------------- whole files
    def create(
        self, source: str, file: FileName, size: int, check: Callable[[], None] = _go_on
    ) -> int:
        """Fetch `source` whole and let it appear as `file`, unless something stands there.

        Args:
            check: is called between pieces; what it raises ends the fetch.

        Returns:
            How many bytes there are now; of a log only whole frames.

        Raises:
            Damaged, Refused: it is not what its name says.
        """
        with self.fetched(file, size, source, check) as landing:
            _place(landing, self._paths.file(file.name))
            return landing.stat().st_size

    @contextlib.contextmanager
    def fetched(
        self, file: FileName, size: int, source: str = "", check: Callable[[], None] = _go_on
    ) -> Iterator[Path]:
        """A remote's file that deserves the name of `file`, where nobody sees it yet.

        Args:
            size: bytes that the remote claims to have; of a log only whole frames are kept.
            source: its name there, when that is another.

        Raises:
            Damaged, Refused: it is not what its name says.
        """
        with self._landing() as landing:
            self._fetch(landing, source or file.name, file, 0, size, check)
            if file.kind is not FileKind.LOG:
                check_file(landing, file, self._paths.id)
            yield landing

    def _fetch(
        self,
        landing: Path,
        source: str,
        file: FileName,
        start: int,
        size: int,
        asked: Callable[[], None],
    ) -> int:
        """Bytes `start` to `size` of `source` into a file, checked as they come."""
        with_header = file.kind in (FileKind.LOG, FileKind.FORK) and start == 0
        check = FrameCheck(file, self._paths.id, with_header=with_header)
        name = self.remote_name(source)
        with landing.open("r+b", buffering=0) as out:
            for offset in range(start, size, MAX_PIECE_BYTES):
                asked()
                self._check_room(size - offset)  # others fetch at the same time
                length = min(MAX_PIECE_BYTES, size - offset)
                piece = read_exactly(self._remote, name, offset, length)
                write_all(out.fileno(), piece, offset - start)
                if file.kind in _FRAMED:
                    check.advance(landing)
            whole = check.finish(landing) if file.kind is FileKind.LOG else size - start
            out.truncate(whole)
            os.fsync(out.fileno())
        return whole

    def _check_room(self, wanted: int) -> None:
        """Not even the attempt to fill the disk: a run may be writing to it.

        A remote can name objects of its own in the end of a log that nobody has signed yet.

        Raises:
            StoreError: the disk has no room for it, besides what is kept for runs.
        """
        facts = os.statvfs(self._folder)
        free = facts.f_bavail * facts.f_frsize
        kept = min(_KEPT_BYTES, facts.f_blocks * facts.f_frsize // _KEPT_SHARE)
        if wanted > free - kept:
            raise StoreError(
                f"{wanted} bytes wanted, the disk has {free} left, of which {kept} are for runs"
            )

    # -------------------------------------------------------------- logs that grow
    def append(
        self, file: FileName, offset: int, size: int, check: Callable[[], None] = _go_on
    ) -> int:
        """Let our copy of a log grow from `offset` to what the remote has.

        Returns:
            How many bytes there are now: the same as `offset` when no whole frame came, or when
            somebody here was faster.

        Raises:
            Damaged, Refused: what came is not what continues this log.
        """
        path = self._paths.file(file.name)
        if path.with_suffix(".t0").exists() or path.with_suffix(".t1").exists():
            return offset  # a writer has it now
        if is_closed(path):
            raise Refused("the remote added bytes behind the writer's final head")
        if path.stat().st_size != offset:
            return self._rewrite(path, file, offset, size, check)
        with self._landing() as landing:
            grown = self._fetch(landing, file.name, file, offset, size, check)
            if grown:
                _append(path, landing, offset)
        return offset + grown

    def _rewrite(
        self, path: Path, file: FileName, offset: int, size: int, check: Callable[[], None]
    ) -> int:
        """Our copy ends inside a frame: put a longer whole one in its place."""
        with self._landing() as landing:
            whole = self._fetch(landing, file.name, file, 0, size, check)
            if whole <= offset:
                return offset
            if sha256_of(landing, offset) != sha256_of(path, offset):
                raise Refused("the remote changed the beginning of a log")
            landing.replace(path)
            sync_folder(path.parent)
        return whole

    # -------------------------------------------------------------- the folder
    @contextlib.contextmanager
    def _landing(self) -> Iterator[Path]:
        make_folder(self._folder)
        landing = self._folder / secrets.token_hex(8)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        os.close(os.open(landing, flags, FILE_MODE))
        try:
            yield landing
        finally:
            landing.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what syncs that were killed left behind."""
        if not self._folder.is_dir():
            return
        for path in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _STALE_S:
                    path.unlink()


def _place(landing: Path, path: Path) -> None:
    """Give a whole file its name; what stands there already stays."""
    make_folder(path.parent)
    try:
        os.link(landing, path)
    except FileExistsError:
        return
    except OSError:
        # No hard links on this file system. Names here stand for one content, or for a log
        # whose writer is elsewhere: nothing that we could take away.
        if not path.exists():
            landing.replace(path)
    sync_folder(path.parent)


def _append(path: Path, landing: Path, offset: int) -> None:
    """Append a file's bytes at `offset`; two that do it at once write the same bytes."""
    handle = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
    try:
        with landing.open("rb") as source:
            while piece := source.read(MAX_PIECE_BYTES):
                write_all(handle, piece, offset)
                offset += len(piece)
        os.fsync(handle)
    finally:
        os.close(handle)
