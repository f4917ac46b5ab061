"""The process that holds the write keys for the service: watched folders, and notifiers.

Speaks to stderr in lines for a journal, by ids and kinds of error; never a name, never a value.
"""

from __future__ import annotations

import os
import select
import signal
import stat as stat_module
import sys
import threading
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from localstore import settings
from localstore.errors import AlreadyExists, BadSetting, KeyUnavailable, LocalStoreError
from localstore.layout import FILE_MODE, HomePaths
from localstore.vault import Vault
from localstore.watching import watches
from localstore.watching.loop import IDLE_S, Stopped, Watching

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from localstore.identity import Identity
    from localstore.settings import Settings

DONE: Final = 0
_WARNING: Final = 4  # a level of sd-daemon
_STOP_WAIT_S: Final = 2.0


def journal(message: str) -> None:
    """One line to stderr: with a level where journald reads it, elsewhere with the time."""
    if sys.stderr is None:
        return
    if _to_journal():
        line = f"<{_WARNING}>watching: {message}"
    else:
        line = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} warning watching: {message}"
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _to_journal() -> bool:
    """Whether stderr is a socket, as journald's is; a log is a file, a terminal a device."""
    try:
        return stat_module.S_ISSOCK(os.fstat(2).st_mode)
    except OSError:
        return False


@contextmanager
def only_one(path: Path, what: str) -> Iterator[None]:
    """Keep others from doing the same for this home; the lock ends with the process.

    Raises:
        AlreadyExists: another process does it.
    """
    import fcntl

    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyExists(
                f"another process {what} for this store", hint="the service does, when it runs"
            ) from None
        yield
    finally:
        os.close(handle)


def options_of(home: HomePaths) -> Callable[[str, str], Settings]:
    """Settings of a home for an entity and a project."""

    def load(entity: str, project: str) -> Settings:
        given = {"home": str(home.root), "entity": entity or None, "project": project or None}
        return settings.load(given)

    return load


class Stop:
    """Whether to leave, and a bell that ends a wait early.

    The bell is a pipe: a signal handler may not touch a lock that its own thread may hold.
    """

    def __init__(self) -> None:
        self._hears, self._rings = os.pipe()
        os.set_blocking(self._hears, False)
        os.set_blocking(self._rings, False)
        self._over = threading.Event()
        self.asked = False
        self.reload = True

    def leave(self, *_signal: object) -> None:
        """Leave soon; fit for a signal handler."""
        self.asked = True
        self.ring()

    def look(self, *_signal: object) -> None:
        """Read the files of settings again; fit for a signal handler."""
        self.reload = True
        self.ring()

    def ring(self) -> None:
        """End a wait; fit for a signal handler and for other threads."""
        with suppress(OSError):  # full: it will be heard
            os.write(self._rings, b"!")

    def wait(self, seconds: float) -> None:
        """Wait, at most so long; in one thread. Not at all when it is time to leave."""
        if self.asked:
            return
        select.select([self._hears], [], [], seconds)
        with suppress(BlockingIOError):
            os.read(self._hears, 4096)

    def end(self) -> None:
        """Let other threads go."""
        self.asked = True
        self._over.set()

    def sleep(self, seconds: float) -> None:
        """Wait in another thread, until the end at most."""
        self._over.wait(seconds)

    def on_signals(self) -> None:
        """Leave on SIGTERM and SIGINT, look again on SIGHUP."""
        signal.signal(signal.SIGTERM, self.leave)
        signal.signal(signal.SIGINT, self.leave)
        signal.signal(signal.SIGHUP, self.look)

    def with_parent(self) -> None:
        """Leave when the other end of stdin is gone, where stdin is a pipe."""
        try:
            mode = os.fstat(0).st_mode
        except OSError:
            return
        if stat_module.S_ISFIFO(mode) or stat_module.S_ISSOCK(mode):
            threading.Thread(target=self._read, name="localstore-parent", daemon=True).start()

    def _read(self) -> None:
        try:
            while os.read(0, 4096):
                pass
        finally:
            self.leave()


def watch_until(
    watching: Watching,
    stop: Stop,
    *,
    say: Callable[[LocalStoreError], object],
    home: HomePaths,
    valid: Callable[[], bool] = lambda: True,
) -> None:
    """Rounds until somebody stops them, or nothing is watched any more.

    Args:
        say: gets what is wrong with `watch.toml`; the watches from before go on.
        valid: whether to go on; asked about every two seconds.
    """
    try:
        while not stop.asked and watches.path_of(home).exists() and valid():
            try:
                watching.reload(force=stop.reload)
            except LocalStoreError as error:
                say(error)
            stop.reload = False
            stop.wait(max(0.02, watching.round()))
    except Stopped:
        pass
    finally:
        watching.close()


# ------------------------------------------------------------------ the process of the service
class Worker:
    """Watched folders in this thread, notifiers in another."""

    def __init__(self, home: HomePaths, stop: Stop) -> None:
        """Nothing is read yet."""
        self._home, self._stop = home, stop
        self._told: set[str] = set()
        self._key_stamp: tuple[tuple[str, int, int], ...] = ()

    def run(self) -> int:
        """Work until told to stop, or until there is nothing to do.

        Returns:
            0: told to stop, or nothing to do.

        Raises:
            KeyUnavailable, NotPermitted: no key opens, and there is nothing to do without one.
            BadSetting: a file of settings breaks the rules.
            AlreadyExists: another process does this.
        """
        if not self._wanted():
            return DONE
        with only_one(self._home.root / "watch.lock", "watches folders"):
            identity = self._identity()
            thread = threading.Thread(
                target=self._notify, args=(identity,), name="localstore-notify", daemon=True
            )
            thread.start()
            try:
                while not self._stop.asked and self._wanted() and self._same_key(identity):
                    self._watch(identity)
                    self._stop.wait(IDLE_S)
            finally:
                self._stop.end()
                thread.join(_STOP_WAIT_S)
        return DONE

    def _same_key(self, identity: Identity | None) -> bool:
        """Whether the key is the one that this process began with; the service starts another."""
        stamp = self._stamp()
        if identity is None and stamp != self._key_stamp:
            self._key_stamp = stamp
            with suppress(LocalStoreError):
                Vault(self._home).load()
                return False
        return identity is None or stamp == self._key_stamp

    def _stamp(self) -> tuple[tuple[str, int, int], ...]:
        try:
            with os.scandir(self._home.identity) as found:
                facts = [(one.name, one.stat()) for one in found]
        except OSError:
            return ()
        return tuple(sorted((name, one.st_mtime_ns, one.st_size) for name, one in facts))

    def _notify(self, identity: Identity | None) -> None:
        """The notifiers, as long as nobody else speaks for this home."""
        from localstore.notify.loop import IDLE_S as EVERY_S
        from localstore.notify.loop import Notifying

        while not self._stop.asked:
            try:
                with only_one(self._home.root / "notify.lock", "tells of runs"):
                    notifying = Notifying(self._home, identity, say=self._say)
                    notifying.run(self._stop_asked, self._stop.sleep)
            except (AlreadyExists, OSError) as error:
                self._say(f"notify: {type(error).__name__}")
                self._stop.sleep(EVERY_S)

    def _stop_asked(self) -> bool:
        return self._stop.asked

    def _wanted(self) -> bool:
        from localstore.notify.notifiers import path_of

        return watches.path_of(self._home).exists() or path_of(self._home).exists()

    def _identity(self) -> Identity | None:
        from localstore.notify.notifiers import path_of

        self._key_stamp = self._stamp()
        try:
            return Vault(self._home).load()
        except LocalStoreError as error:
            if not path_of(self._home).exists():
                raise
            self._say(f"no key ({type(error).__name__}): sync trouble is told of, nothing else")
            return None

    def _watch(self, identity: Identity | None) -> None:
        if identity is None or not watches.path_of(self._home).exists():
            return
        watching = Watching(
            self._home,
            identity,
            options_of(self._home),
            tell=self._tell,
            wake=self._stop.ring,
            stopping=self._stop_asked,
        )
        self._stop.reload = True
        watch_until(
            watching,
            self._stop,
            say=lambda error: self._bad_setting(error, fatal=not watching.active),
            home=self._home,
            valid=lambda: self._same_key(identity),
        )

    def _tell(self, watch: str, plain: str, _full: str) -> None:
        journal(f"watch {watch}: {plain}")

    def _bad_setting(self, error: LocalStoreError, *, fatal: bool) -> None:
        if fatal:
            raise error
        self._say(f"the list of watches: {type(error).__name__}")

    def _say(self, message: str) -> None:
        if message not in self._told:
            if len(self._told) > 1_000:
                self._told.clear()
            self._told.add(message)
            journal(message)


def main(home: Path, *, worker: bool) -> int:
    """The process that the service starts; its exit code.

    Args:
        worker: whether to leave when the other end of stdin, a pipe, is gone.
    """
    stop = Stop()
    stop.on_signals()
    if worker:
        stop.with_parent()
    try:
        return Worker(HomePaths(home), stop).run()
    except LocalStoreError as error:
        known = isinstance(error, KeyUnavailable | BadSetting | AlreadyExists)
        journal(type(error).__name__ if not known else f"{type(error).__name__}: stopped")
        return error.exit_code
