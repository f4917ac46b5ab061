"""One service for one home: a lock where locks can be trusted, and a lease where they cannot.

The lock is the system's, and falls with its process. On a network file system, or where there are
no locks, the place is also held by a lease: a file that exactly one process makes, and in which its
owner counts up. Nobody compares clocks: who wants the place of another host watches the count, and
a count that does not grow for a minute of the watcher's own time belongs to the dead. Should two
services run beside one another for a moment after all, that is wasteful, not harmful.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from localstore.durable import TEMPORARY_PREFIX, make_folder, write_all
from localstore.errors import AlreadyExists
from localstore.layout import FILE_MODE
from localstored.place import file_system_of, is_network, read_mounts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOCK_FILE: Final = "localstored.lock"
LEASE_FILE: Final = "service.lease"
BEAT_S: Final = 10.0
DEAD_AFTER_S: Final = 60.0  # six beats: more than a file server needs to come back, as a rule
_LOOK_S: Final = 1.0
_SETTLE_S: Final = 2.0
_COUNT_DIGITS: Final = 20
_MAX_LEASE_BYTES: Final = 4096
_NEW: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EMLINK})


@dataclass(frozen=True, slots=True)
class Owner:
    """A process, told apart from every other one that can see the same file.

    Attributes:
        host: for people. boot: the kernel's random id of this start, and the pid namespace.
        started: ticks since the boot at which the process began: pids come again.
    """

    host: str
    boot: str
    pid: int
    started: str
    nonce: str

    @classmethod
    def here(cls) -> Owner:
        """This process."""
        return cls(
            host=os.uname().nodename,
            boot=_boot(),
            pid=os.getpid(),
            started=_started(os.getpid()),
            nonce=secrets.token_hex(16),
        )

    def is_dead_here(self) -> bool:
        """Whether it ran in this very system and is gone; False when that cannot be told."""
        return bool(self.boot) and self.boot == _boot() and _started(self.pid) != self.started


def _boot() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process began; empty when there is none, or where nobody says."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


# ------------------------------------------------------------------ the lease
class Lease:
    """The file by which one of many hosts holds a home.

    Args:
        sleep: waits for seconds. monotonic: seconds on a clock that nobody sets.
    """

    def __init__(
        self,
        home: Path,
        *,
        owner: Owner | None = None,
        sleep: Callable[[float], object] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path, self._me = home / LEASE_FILE, owner or Owner.here()
        self._sleep, self._monotonic = sleep, monotonic
        self._handle: int | None = None
        self._count = 0

    def take(self) -> None:
        """Become the owner, at once where nobody is, after a minute where the owner is dead.

        Raises:
            AlreadyExists: another process holds the place and is alive.
            OSError: the disk refused.
        """
        while not self._create():
            self._wait_for_death()
        # Of two that took a dead one's place at once, one sees the other here.
        self._sleep(_SETTLE_S)
        if not self.holds():
            self.release()
            raise AlreadyExists(f"another localstored took {self._path.parent} at this moment")

    def holds(self) -> bool:
        """Whether the file under the lease's name is still ours."""
        if self._handle is None:
            return False
        try:
            there, ours = self._path.stat(follow_symlinks=False), os.fstat(self._handle)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

    def beat(self) -> bool:
        """Count up; False when the place was lost, after which there is no way back.

        A disk that refuses just now is no loss: others may take it for one after a minute.
        """
        if self._handle is None or not self.holds():
            return False
        self._count += 1
        # In place: should somebody have taken the file away, this does no harm to the new one.
        with contextlib.suppress(OSError):
            write_all(self._handle, _count(self._count), 0)
            os.fsync(self._handle)
        return True

    def release(self) -> None:
        """Give the place free."""
        with contextlib.suppress(OSError):
            if self.holds():
                self._path.unlink()
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    # -------------------------------------------------------------- steps
    def _create(self) -> bool:
        """Make the file, whole, if there is none; of many that try at once one succeeds."""
        temporary = self._path.with_name(f"{TEMPORARY_PREFIX}{self._me.nonce}")
        handle = os.open(temporary, _NEW, FILE_MODE)
        try:
            self._fill(handle)
            os.link(temporary, self._path)
        except OSError as error:
            os.close(handle)
            if error.errno in _NO_LINKS:
                return self._create_in_place()
            if error.errno == errno.EEXIST:
                return False
            raise
        finally:
            temporary.unlink(missing_ok=True)
        self._handle = handle
        return True

    def _create_in_place(self) -> bool:
        """The same without hard links: who looks at this very moment sees it unfinished."""
        try:
            handle = os.open(self._path, _NEW, FILE_MODE)
        except FileExistsError:
            return False
        self._handle = handle
        self._fill(handle)
        return True

    def _fill(self, handle: int) -> None:
        write_all(handle, _count(0) + json.dumps(asdict(self._me)).encode(), 0)
        os.fsync(handle)

    def _wait_for_death(self) -> None:
        """Return when the present owner is gone, by its own system's word or by its silence."""
        first = self._read()
        deadline = self._monotonic() + DEAD_AFTER_S
        while first is not None and not _is_dead(first):
            if self._monotonic() >= deadline:
                break
            self._sleep(_LOOK_S)
            now = self._read()
            if now != first:
                if now is not None:
                    raise AlreadyExists(
                        f"another localstored keeps {self._path.parent} in sync, on {_host(now)}"
                    )
                return
        if first is not None:
            self._bury(first)

    def _bury(self, dead: bytes) -> None:
        """Take a dead one's file away, and nobody else's."""
        grave = self._path.with_name(f"{LEASE_FILE}.{self._me.nonce}")
        try:
            self._path.rename(grave)
        except FileNotFoundError:
            return
        try:
            if grave.read_bytes()[:_MAX_LEASE_BYTES] != dead:
                # Somebody was faster, and this is the file of one who lives.
                with contextlib.suppress(OSError):
                    os.link(grave, self._path)
        finally:
            grave.unlink(missing_ok=True)

    def _read(self) -> bytes | None:
        try:
            with self._path.open("rb") as file:
                return file.read(_MAX_LEASE_BYTES)
        except FileNotFoundError:
            return None


def _count(number: int) -> bytes:
    return f"{number:0{_COUNT_DIGITS}}\n".encode()


def _owner(raw: bytes) -> Owner | None:
    try:
        return Owner(**json.loads(raw[_COUNT_DIGITS + 1 :]))
    except (ValueError, TypeError):
        return None


def _is_dead(raw: bytes) -> bool:
    owner = _owner(raw)
    return owner is not None and owner.is_dead_here()


def _host(raw: bytes) -> str:
    owner = _owner(raw)
    return owner.host if owner is not None else "another host"


# ------------------------------------------------------------------ lock and lease
@contextlib.contextmanager
def only_instance(home: Path, *, network: bool | None = None) -> Iterator[Lease | None]:
    """Hold the place of this home's one service.

    Args:
        network: whether other hosts may hold it, too; None: by the kind of its file system.

    Yields:
        The lease, for which `beat` wants to be called each BEAT_S seconds; None where the lock
        alone is enough.

    Raises:
        AlreadyExists: another service holds it.
    """
    make_folder(home)
    if network is None:
        network = is_network(file_system_of(home.resolve(), read_mounts()))
    handle = os.open(home / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, FILE_MODE)
    try:
        if _lock(handle, home) and not network:
            yield None
            return
        lease = Lease(home)
        lease.take()
        try:
            yield lease
        finally:
            lease.release()
    finally:
        os.close(handle)


def _lock(handle: int, home: Path) -> bool:
    """Whether the system gave the lock; False where it has none to give."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise AlreadyExists(f"another localstored keeps {home} in sync") from None
    except OSError:
        return False
    return True
