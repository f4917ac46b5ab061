"""Where objects lie, and how they get there: durable before they have their name.

Nothing here knows what an object is for. A killed writer leaves temporary files and objects that
nobody refers to; both are for the collector.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from typing import TYPE_CHECKING, Final

from localstore import durable, pruned
from localstore.errors import Damaged, NotFound, StoreError
from localstore.format import spec
from localstore.format.objects import OpenedObject, open_object
from localstore.layout import DIRECTORY_MODE, FILE_MODE, ProjectPaths, object_name

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from localstore.crypto import Bytes

_FEW: Final = (
    8  # up to so many files are synced one by one: one call would wait for all of the disk
)
_YOUNG_S: Final = 60.0
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class ObjectFiles:
    """The objects of one project. Any number of threads may use it."""

    def __init__(self, paths: ProjectPaths) -> None:
        self.root = paths.root

    def path(self, object_id: bytes) -> Path:
        """Where an object lies, or would lie."""
        return self.root / object_name(object_id)

    def has(self, object_id: bytes) -> bool:
        """Whether an object is here."""
        return self.path(object_id).exists()

    def pin(self, object_id: bytes) -> os.stat_result | None:
        """Keep a collector away from an object for its time of grace.

        Returns:
            What it was before; None when it is gone.
        """
        path = self.path(object_id)
        try:
            before = path.stat()
            os.utime(path)
        except FileNotFoundError:
            return None
        return before

    def read(self, object_id: bytes) -> bytearray:
        """The bytes of an object, unchecked.

        Raises:
            NotFound: it is not here; Pruned: a remote has it.
            Damaged: it is longer than an object may be.
        """
        try:
            handle = self._open(object_id)
        except FileNotFoundError:
            raise self._absent(object_id) from None
        try:
            size = os.fstat(handle).st_size
            if size > spec.MAX_OBJECT_BYTES:
                raise Damaged("longer than an object may be", file=object_name(object_id))
            raw = bytearray(size)
            count = os.preadv(handle, [raw], 0)
        finally:
            os.close(handle)
        return raw if count == size else raw[:count]

    def _absent(self, object_id: bytes) -> NotFound:
        """Pruned, or not arrived."""
        what, paths = f"object {object_id.hex()}", ProjectPaths(self.root)
        stub = pruned.object_stub(paths, object_id.hex())
        if stub is not None:
            return pruned.error(paths, what, stub.remote, "TARGET")
        return NotFound(f"{what} is not here", hint="`localstore sync now` may bring it")

    def _open(self, object_id: bytes) -> int:
        path = self.path(object_id)
        try:
            return os.open(path, _READ)
        except FileNotFoundError:
            from localstore.store.gc import TAKEN_PREFIX

            # A collector that looks at it has it under another name for a moment.
            for taken in path.parent.glob(f"{TAKEN_PREFIX}{path.name}-*"):
                try:
                    return os.open(taken, _READ)
                except FileNotFoundError:
                    continue
            return os.open(path, _READ)

    def read_object(self, object_id: bytes, key: bytes) -> OpenedObject:
        """An object, opened and checked against its id and its key.

        Raises:
            NotFound: it is not here.
            Damaged, Forged: its bytes are not those of its name, or do not open; names the file.
        """
        raw = self.read(object_id)
        try:
            return open_object(raw, key, object_id)
        except Damaged as problem:
            raise problem.at(object_name(object_id)) from None


def vanishing() -> StoreError:
    """What is raised when somebody deletes objects as fast as they are stored."""
    return StoreError("objects vanish from the store while it is written")


class Group:
    """Objects that become durable together: temporary files, a sync, names, a sync.

    Any number of threads may `hold` and `put`; one commits, after them.
    """

    def __init__(self, files: ObjectFiles) -> None:
        self._files = files
        self._written: list[tuple[Path, Path]] = []
        self._folders: set[Path] = set()
        self._top = durable.make_folder(files.root / "objects")
        # Opened before anything is written, so that `sync_disk` tells of every error since.
        self._handle = os.open(self._top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def hold(self, object_id: bytes, size: int | None = None) -> bool:
        """Rely on an object that is here; False when it is gone, or has another size.

        An object of another size is one that a bad disk cut.
        """
        before = self._files.pin(object_id)
        if before is None or size not in (None, before.st_size):
            return False
        if time.time() - before.st_ctime < _YOUNG_S:
            # Another process may have given it its name and not yet synced the folder.
            self._folders.add(self._files.path(object_id).parent)
        return True

    def put(self, object_id: bytes, raw: Bytes) -> bool:
        """Write an object under a temporary name, unless it is here already: then hold that one.

        Returns:
            Whether it was written.
        """
        if self.hold(object_id, len(raw)):
            return False
        final = self._files.path(object_id)
        folder = final.parent
        temporary = folder / f"{durable.TEMPORARY_PREFIX}{secrets.token_hex(8)}"
        handle = _create(folder, temporary)
        self._written.append((temporary, final))
        self._folders.add(folder)
        try:
            durable.write_all(handle, raw, 0)
        finally:
            os.close(handle)
        return True

    def commit(self) -> None:
        """Give all objects their names; durable on return.

        Raises:
            OSError: the disk refused. What has its name by then is whole and durable as a file.
        """
        try:
            if not self._sync_all(len(self._written)):
                for temporary, _ in self._written:
                    durable.sync_file(temporary)
            while self._written:
                temporary, final = self._written[-1]
                temporary.rename(final)
                self._written.pop()
            if self._folders and not self._sync_all(len(self._folders)):
                # The top as well: it is another process, perhaps, that made a folder just now.
                for folder in (*self._folders, self._top):
                    durable.sync_folder(folder)
        finally:
            self.close()

    def _sync_all(self, count: int) -> bool:
        return count > _FEW and durable.sync_disk(self._handle)

    def close(self) -> None:
        """Remove what was written and has no name yet."""
        if self._handle < 0:
            return
        os.close(self._handle)
        self._handle = -1
        for temporary, _ in self._written:
            with contextlib.suppress(OSError):  # else it is the collector's
                temporary.unlink()


def _create(folder: Path, temporary: Path) -> int:
    try:
        return os.open(temporary, _CREATE, FILE_MODE)
    except FileNotFoundError:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(DIRECTORY_MODE)
        return os.open(temporary, _CREATE, FILE_MODE)


def store(files: ObjectFiles, objects: Iterable[tuple[bytes, Bytes]]) -> None:
    """Make some objects durable under their names: (id, bytes)."""
    group = Group(files)
    try:
        for object_id, raw in objects:
            group.put(object_id, raw)
        group.commit()
    finally:
        group.close()
