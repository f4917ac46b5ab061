"""When the store is looked after, and what is told of it: verification, collection, expiry, cap.

Each is a process of its own for as long as it takes: what it needs in memory goes with it, and what
hangs can be ended. Deleting what has expired needs keys, so a process of `localstore` does that,
if there is a key that opens without a question.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

from localstore.remotes import read_remotes
from localstore.store.gc import GRACE_S
from localstored.service.journal import Level

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from localstored.service.desk import Desk
    from localstored.service.journal import Journal
    from localstored.service.schedule import Schedule

DAY_S: Final = 86_400.0
HOUR_S: Final = 3600.0
VERIFY_S: Final = 4 * HOUR_S
# In a day 1.5 GiB of what is here, and of each remote a tenth of that over the line.
HERE_BYTES: Final = 256 << 20
THERE_BYTES: Final = 24 << 20
LONGEST_S: Final = 2 * HOUR_S
_CHORES: Final = (sys.executable, "-m", "localstored.service.chores")
_EXPIRE: Final = (sys.executable, "-c", "from localstore.cli import main; main()", "gc", "--json")
_KEYLESS_EXIT: Final = 11


class Upkeep:
    """The chores of one home.

    Args:
        environment: of the processes; without secrets.
        cap_bytes: the most that the store may take; None: as much as it likes.
    """

    def __init__(
        self, journal: Journal, environment: Mapping[str, str], *, cap_bytes: int | None = None
    ) -> None:
        self._journal, self._environment = journal, dict(environment)
        self._cap_bytes = cap_bytes
        self._lock, self._stopped = threading.Lock(), False
        self._running: set[subprocess.Popen[bytes]] = set()

    def schedule(self, schedule: Schedule, desk: Desk) -> None:
        """Make the jobs; the first ones some time after the start, when much else happens."""
        schedule.add("verify", VERIFY_S, lambda: self.verify(desk), first_s=HOUR_S / 4)
        schedule.add("collect", DAY_S, lambda: self.collect(desk), first_s=HOUR_S / 2)
        schedule.add("expire", DAY_S, lambda: self.expire(desk), first_s=HOUR_S)
        if self._cap_bytes is not None:
            schedule.add("cap", HOUR_S, lambda: self.cap(desk), first_s=60.0)

    def stop(self) -> None:
        """End what runs; waits for nothing."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                with contextlib.suppress(OSError):
                    process.terminate()

    # -------------------------------------------------------------- the chores
    def verify(self, desk: Desk) -> None:
        """Read a slice of the store, and remember what is damaged."""
        words = ["verify", str(desk.home), "--here", str(HERE_BYTES), "--there", str(THERE_BYTES)]
        for name in _remotes_to_read(desk):
            words += ["--remote", name]
        found = self._chore("verify", (*_CHORES, *words))
        if found is None:
            return
        _remember_damage(desk, found)
        for finding in found["findings"]:
            self._journal.error("damage", **finding, hint="localstore repair")
        self._journal.debug("verify", files=found["files"], bytes=found["bytes"])

    def collect(self, desk: Desk) -> None:
        """Free what nothing needs."""
        words = ("collect", str(desk.home), "--grace", str(GRACE_S))
        found = self._chore("collect", (*_CHORES, *words))
        if found and found["freed"]:
            self._journal.info("collect", freed=found["freed"], bytes=found["freed_bytes"])
        for name, why in (found or {}).get("held", {}).items():
            self._journal.on_change(f"held {name}", Level.WARNING, "collect", held=name, why=why)

    def expire(self, desk: Desk) -> None:
        """Delete versions whose time is over, where a key is at hand."""
        del desk
        self._chore("expire", _EXPIRE, fine=(_KEYLESS_EXIT,))

    def cap(self, desk: Desk) -> None:
        """Warn of a store that grows too large, and prune what remotes have."""
        found = self._chore("cap", (*_CHORES, "cap", str(desk.home), str(self._cap_bytes)))
        if found and found.get("text"):
            self._journal.on_change("cap", Level.WARNING, "cap", text=found["text"])
        elif found:
            self._journal.forget("cap")

    # -------------------------------------------------------------- a process
    def _chore(
        self, name: str, words: Sequence[str], fine: Sequence[int] = ()
    ) -> dict[str, Any] | None:
        """Run one to its end; None when it came to none."""
        with self._lock:
            if self._stopped:
                return None
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._environment,
            )
            self._running.add(process)
        try:
            out, problem = process.communicate(timeout=LONGEST_S)
        except subprocess.TimeoutExpired:
            process.kill()
            out, problem = process.communicate()
        finally:
            with self._lock:
                self._running.discard(process)
        return self._result(name, process.returncode, out, problem, fine)

    def _result(
        self, name: str, code: int, out: bytes, problem: bytes, fine: Sequence[int]
    ) -> dict[str, Any] | None:
        with contextlib.suppress(ValueError):
            found = json.loads(out)
            if isinstance(found, dict):
                self._journal.forget(f"chore {name}")
                return found
        if not self._stopped and code not in (0, *fine):
            last = problem.decode("utf-8", "replace").strip().rpartition("\n")[2]
            self._journal.on_change(
                f"chore {name}", Level.WARNING, "chore", name=name, ended=code, text=last
            )
        return None


def _remotes_to_read(desk: Desk) -> list[str]:
    """Those that may be read from just now: bytes over a metered line cost somebody money."""
    now, names = desk.conditions(), []
    for entry in read_remotes(desk.home).values():
        away = entry.scheme != "file"
        if desk.paused() is None and not (away and (now.metered or now.online is False)):
            names.append(entry.name)
    return names


def _remember_damage(desk: Desk, found: dict[str, Any]) -> None:
    """New findings beside the old; what was read through anew counts as it is now."""
    whole = set(found["whole"])
    kept = [one for one in desk.state.damage() if one.get("remote") not in whole]
    fresh = [one for one in found["findings"] if one not in kept]
    if kept + fresh != desk.state.damage():
        desk.state.record_damage(kept + fresh)
