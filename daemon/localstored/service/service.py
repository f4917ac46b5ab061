"""The service: one home, a worker for each of its remotes, and what wakes them.

Hints from writers, changes of the network and of the policy, the clock, and a person on the control
socket say that something is to be done; the workers do it. The main thread only looks after all of
them, once a second.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Final

from localstore.errors import LocalStoreError
from localstore.layout import HomePaths
from localstore.remotes import read_remotes
from localstored.conditions import World
from localstored.service.control import ControlServer
from localstored.service.desk import Desk
from localstored.service.instance import BEAT_S
from localstored.service.journal import Level
from localstored.service.quiet import QuietWriters
from localstored.service.schedule import Schedule
from localstored.service.verbs import Verbs
from localstored.service.watcher import Watcher
from localstored.service.worker import RemoteWorker

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from localstore.remotes import RemoteEntry
    from localstored.service.children import Child
    from localstored.service.instance import Lease
    from localstored.service.journal import Journal
    from localstored.service.notify_systemd import Systemd
    from localstored.service.upkeep import Upkeep

TICK_S: Final = 1.0
STOP_S: Final = 4.0
RESCAN_S: Final = 600.0
RESCAN_SHARE: Final = 0.004  # of a core, for all rescans together
LOOK_S: Final = 60.0
QUIET_LOOK_S: Final = 3.0
ALIVE_S: Final = 10.0
JUMP_S: Final = 10.0  # more than any tick takes: a suspend, or a clock that was set
_TAKEN_EXIT: Final = 73


class Service:
    """Keeps a home in step with its remotes until it is stopped.

    Args:
        interval_s: seconds between looks for what others changed. rescan_s: between syncs that
            compare everything, whatever events said.
        socket: where to listen for `localstore`. lease: to be kept fresh, where there is one.
        children: processes to look after.
    """

    def __init__(
        self,
        home: Path,
        journal: Journal,
        *,
        interval_s: float = LOOK_S,
        rescan_s: float = RESCAN_S,
        socket: Path | None = None,
        systemd: Systemd,
        lease: Lease | None = None,
        children: Sequence[Child] = (),
        upkeep: Upkeep | None = None,
        network: bool | None = None,
    ) -> None:
        self._home, self._journal, self._systemd = home, journal, systemd
        self._world = World(self._on_world)
        self._desk = Desk(home, journal, world=self._world)
        self._interval_s, self._rescan_s = interval_s, rescan_s
        self._lease, self._children, self._upkeep = lease, list(children), upkeep
        self._workers: dict[str, RemoteWorker] = {}
        self._remotes_mark: object = None
        self._policy_mark = self._desk.book().fingerprint
        self._watcher = Watcher(
            home,
            journal,
            on_hints=self._on_hints,
            on_home=self._stir,
            on_projects=self._on_projects,
            network=network,
        )
        self._quiet = QuietWriters(home, journal, self._on_tails, time.monotonic)
        self._schedule = Schedule(journal)
        verbs = Verbs(
            self._desk, self._workers, self._watcher, self._schedule, self._children, self.stop
        )
        self._control = ControlServer(socket, verbs.table(), journal) if socket else None
        self._stop, self._stirred = threading.Event(), threading.Event()
        self._reload = False
        self._exit_code = 0
        self._clocks = (time.monotonic(), self._desk.clock())
        self._alive_at = -ALIVE_S

    # -------------------------------------------------------------- from outside
    def stop(self) -> None:
        """Ask to stop; fit for a signal handler."""
        self._stop.set()
        self._stirred.set()

    def reload(self) -> None:
        """Read remotes and policy again; fit for a signal handler."""
        self._reload = True
        self._stirred.set()

    def run(self) -> int:
        """Work until stopped; the exit code."""
        self._start()
        self._systemd.ready()
        self._journal.notice("started", remotes=len(self._workers), watching=self._watcher.how)
        try:
            while not self._stop.is_set():
                self._tick()
                self._stirred.wait(TICK_S)
                self._stirred.clear()
        finally:
            self._end()
        return self._exit_code

    @property
    def is_clean(self) -> bool:
        """Whether nothing of it hangs: else the process must be ended hard."""
        return all(not worker.is_alive for worker in self._workers.values())

    # -------------------------------------------------------------- begin and end
    def _start(self) -> None:
        self._world.start()
        self._watcher.start()
        self._watcher.rescan()
        self._read_remotes()
        self._schedule.add("rescan", self._rescan_s, self._rescan, first_s=self._rescan_s)
        self._schedule.add("look", self._interval_s, self._look, first_s=self._interval_s)
        self._schedule.add("quiet", QUIET_LOOK_S, self._quiet.look, first_s=QUIET_LOOK_S)
        if self._lease is not None:
            self._schedule.add("lease", BEAT_S, self._beat, first_s=0.0)
        if self._upkeep is not None:
            self._upkeep.schedule(self._schedule, self._desk)
        self._schedule.start()
        self._listen()

    def _listen(self) -> None:
        if self._control is None or self._control.is_alive:
            return
        try:
            self._control.start()
            self._journal.forget("control")
        except OSError as error:
            self._journal.on_change(
                "control", Level.WARNING, "control", problem=error.strerror or str(error)
            )

    def _end(self) -> None:
        """Stop everything at once, and wait for all of it together."""
        self._systemd.stopping()
        deadline = time.monotonic() + STOP_S
        if self._control is not None:
            self._control.stop()
        for worker in self._workers.values():
            worker.stop()
        for child in self._children:
            child.stop()
        self._watcher.stop()
        self._schedule.stop()
        if self._upkeep is not None:
            self._upkeep.stop()
        hanging = [
            worker.entry.id
            for worker in self._workers.values()
            if not worker.join(max(0.0, deadline - time.monotonic()))
        ]
        for child in self._children:
            child.join(max(0.1, deadline - time.monotonic()))
        self._world.stop()
        self._watcher.join(max(0.1, deadline - time.monotonic()))
        self._journal.notice("stopped", hanging=len(hanging))

    # -------------------------------------------------------------- once a second
    def _tick(self) -> None:
        self._note_jump()
        if self._reload:
            self._reload = False
            self._systemd.reloading()
            self._remotes_mark = None
            self._desk.read_pause()
            self._watcher.rescan()
            for worker in self._workers.values():
                worker.want_full(at_once=True)
            self._systemd.ready()
        self._read_remotes()
        self._note_policy()
        for child in self._children:
            child.tick()
        self._report_alive()

    def _note_jump(self) -> None:
        """After a suspend, or when the clock was set, nothing that was planned by it counts."""
        (mono, wall), now = self._clocks, (time.monotonic(), self._desk.clock())
        self._clocks = now
        jump_s = (now[1] - wall) / 1e6 - (now[0] - mono)
        if abs(jump_s) >= JUMP_S:
            self._journal.notice("clock", jumped_s=round(jump_s))
            self._schedule.again()
            self._watcher.rescan()
            for worker in self._workers.values():
                worker.want_full(at_once=True)

    def _read_remotes(self) -> None:
        """Start and stop workers as remotes.toml says, if it changed."""
        path = HomePaths(self._home).remotes_file
        mark = _mark(path)
        if mark == self._remotes_mark:
            return
        try:
            entries = read_remotes(self._home)
        except (LocalStoreError, OSError) as problem:
            self._journal.on_change("remotes", Level.ERROR, "remotes", problem=problem)
            return  # those that are known go on
        self._remotes_mark = mark
        self._journal.forget("remotes")
        for name, worker in list(self._workers.items()):
            if entries.get(name) != worker.entry:
                worker.stop()
                del self._workers[name]
        for name, entry in entries.items():
            if name not in self._workers:
                self._workers[name] = self._new_worker(entry)

    def _new_worker(self, entry: RemoteEntry) -> RemoteWorker:
        worker = RemoteWorker(entry, self._desk, on_pulled=self._on_pulled)
        worker.start()
        self._journal.info("remote", id=entry.id, scheme=entry.scheme)
        return worker

    def _note_policy(self) -> None:
        mark = self._desk.book().fingerprint
        if mark != self._policy_mark:
            self._policy_mark = mark
            self._journal.info("policy", changed=True)
            for worker in self._workers.values():
                worker.want_full()

    def _report_alive(self) -> None:
        now = time.monotonic()
        self._systemd.status(self._one_line())
        every_s = min(ALIVE_S, self._systemd.ping_s)
        if every_s and now - self._alive_at >= every_s and self._all_alive():
            self._alive_at = now
            self._systemd.alive()
        self._listen()

    def _all_alive(self) -> bool:
        """Whether every thread is there; one that hangs in a remote is none of our faults."""
        workers = all(worker.is_alive for worker in self._workers.values())
        return workers and self._watcher.is_alive and self._schedule.is_alive

    def _one_line(self) -> str:
        doing = [f"{name}: {worker.doing}" for name, worker in sorted(self._workers.items())]
        return ", ".join(doing) or "no remote"

    # -------------------------------------------------------------- what wakes workers
    def _stir(self) -> None:
        self._stirred.set()

    def _on_hints(self, hints: Mapping[str, set[str]]) -> None:
        self._quiet.add(hints)
        for worker in list(self._workers.values()):
            worker.add(hints)

    def _on_tails(self, subjects: Mapping[str, set[str]]) -> None:
        for worker in list(self._workers.values()):
            worker.add(subjects)

    def _on_projects(self, changed: frozenset[str]) -> None:
        self._journal.info("projects", changed=len(changed))
        for worker in list(self._workers.values()):
            worker.want_full()

    def _on_pulled(self) -> None:
        """One remote brought something: the others may want it."""
        if len(self._workers) > 1:
            for worker in list(self._workers.values()):
                worker.want_look()

    def _on_world(self) -> None:
        for worker in list(self._workers.values()):
            if worker.entry.scheme != "file":
                worker.want_full(at_once=True)
        self._stirred.set()

    def _rescan(self) -> None:
        """What needs no event; of a large store rarer, so that an idle service stays idle."""
        self._watcher.rescan()
        workers = list(self._workers.values())
        for worker in workers:
            if self._rescan_s < RESCAN_S:
                worker.want_full()  # somebody wants it so often, whatever it costs
            else:
                worker.want_rescan(RESCAN_SHARE / len(workers))

    def _look(self) -> None:
        for worker in list(self._workers.values()):
            worker.want_look()

    def _beat(self) -> None:
        if self._lease is not None and not self._lease.beat():
            self._journal.error("lease", problem="another host took this home over")
            self._exit_code = _TAKEN_EXIT
            self.stop()


def _mark(path: Path) -> tuple[int, int, int] | None:
    with contextlib.suppress(OSError):
        status = path.stat()
        return status.st_mtime_ns, status.st_size, status.st_ino
    return None
