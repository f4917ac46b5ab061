"""One remote's thread: does what its agenda says, one sync after the other, for ever.

Each remote has its own, so that one that hangs holds up nobody else. A worker needs no key, decides
nothing about what may leave, and survives whatever one sync throws at it.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from localstore.durable import give_memory_back
from localstore.errors import LocalStoreError
from localstore.layout import HomePaths
from localstore.wake import LINKS
from localstored import engine
from localstored.remotes import open_remote
from localstored.remotes.base import Stopped, Unreachable
from localstored.replica import replica_id
from localstored.service.agenda import Agenda
from localstored.service.control import where
from localstored.service.heldopen import LOCAL_SCHEME, HeldOpen
from localstored.service.ledger import Ledger
from localstored.service.reach import looked_into
from localstored.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from localstore.remotes import RemoteEntry
    from localstored.report import Event, SyncReport
    from localstored.service.agenda import Work
    from localstored.service.desk import Desk
    from localstored.service.heldopen import Opener

CHECK_S: Final = 0.2
QUIET_S: Final = 30.0  # without a change of ours, after which others are told that we are done
PAUSE_LOOK_S: Final = 1.0
_FAULT: Final = "a fault in the service; see its log"


@dataclass(slots=True)
class Request:
    """A sync that a person asked for.

    Attributes:
        projects: ids; None: all. on_event: is told of progress, from the worker's thread.
        done: set at the end, when `report` or `problem` is there.
    """

    projects: Sequence[str] | None
    on_event: Callable[[Event], None]
    done: threading.Event = field(default_factory=threading.Event)
    report: SyncReport | None = None
    problem: LocalStoreError | None = None


class RemoteWorker:
    """Keeps one remote in step.

    Args:
        opener: makes a Remote of an entry. uniform: a random number between two.
        on_pulled: called after a sync that brought files here.

    Attributes:
        doing: "idle", "syncing", "waiting", "paused", "offline" or "stopped".
        progress: the last event of the sync under way.
    """

    def __init__(
        self,
        entry: RemoteEntry,
        desk: Desk,
        *,
        opener: Opener = open_remote,
        uniform: Callable[[float, float], float] = random.uniform,
        on_pulled: Callable[[], None] = lambda: None,
    ) -> None:
        self.entry, self._desk, self._opener = entry, desk, opener
        self._on_pulled = on_pulled
        self._agenda, self._ledger = Agenda(uniform), Ledger(entry, desk)
        self._session = Session()
        self._turn = threading.Condition()
        self._requests: list[Request] = []
        self._stop = threading.Event()
        self._held_open = HeldOpen(opener, desk)
        self._stamps: Mapping[str, frozenset[str]] = {}
        self._changed_at: float | None = None  # when we last changed something there
        self._full_at, self._full_cost_s = desk.monotonic(), 0.0
        self.doing = "idle"
        self.progress: Event | None = None
        self._thread = threading.Thread(target=self._run, name=f"sync {entry.name}", daemon=True)

    # -------------------------------------------------------------- from outside
    def start(self) -> None:
        """Begin with everything."""
        self._agenda.want_full()
        self._thread.start()

    def stop(self) -> None:
        """Begin the end; a transfer under way ends after its piece."""
        self._stop.set()
        self.recheck()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end, so long at most; whether it came."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def is_alive(self) -> bool:
        """Whether it still does its work; a remote that hangs does not count against it."""
        return self._thread.is_alive()

    def add(self, hints: Mapping[str, Iterable[str]]) -> None:
        """Subjects that have something new."""
        with self._turn:
            self._agenda.add(hints)
            self._turn.notify_all()

    def want_full(self, *, at_once: bool = False) -> None:
        """Compare everything; `at_once`: also when it was to wait."""
        with self._turn:
            self._agenda.want_full()
            if at_once:
                self._agenda.unblock()
            self._turn.notify_all()

    def want_rescan(self, share: float) -> None:
        """Compare everything, if that is not more than this share of a core's time."""
        since = self._desk.monotonic() - self._full_at
        if since * share >= self._full_cost_s:
            self.want_full()

    def want_look(self) -> None:
        """See whether others changed something."""
        with self._turn:
            self._agenda.want_look()
            self._turn.notify_all()

    def request(self, request: Request) -> None:
        """Sync now, whatever was to wait."""
        with self._turn:
            self._requests.append(request)
            self._turn.notify_all()
        if self._stop.is_set():
            self._turn_away()

    def recheck(self) -> None:
        """The pause, the policy or the network changed: look at them again."""
        with self._turn:
            self._turn.notify_all()

    def facts(self) -> dict[str, Any]:
        """How it is, as JSON values."""
        return {
            "id": self.entry.id,
            "url_scheme": self.entry.scheme,
            "doing": self.doing,
            "failures": self._agenda.failures,
            "queued_subjects": self._agenda.queued,
            "progress": asdict(self.progress) if self.progress is not None else None,
            **asdict(self._desk.state.remote(self.entry.id)),
        }

    # -------------------------------------------------------------- the thread
    def _run(self) -> None:
        while not self._stop.is_set():
            request, work = self._next()
            if request is not None:
                self._serve(request)
            elif work is not None:
                self._carry_out(work)
            else:
                self._tidy_up()
        self._settle()
        self.doing = "stopped"
        self._ledger.write()
        self._held_open.close()
        self._turn_away()

    def _next(self) -> tuple[Request | None, Work | None]:
        """Wait for something to do; (None, None) when there is time to tidy up, or at the end."""
        with self._turn:
            while not self._stop.is_set():
                now = self._desk.monotonic()
                self.doing = self._standing()
                self._agenda.held = self.doing in ("paused", "offline")
                if self._requests:
                    return self._requests.pop(0), None
                work = self._agenda.take(now)
                if work is not None:
                    return None, work
                tidy_s = self._tidy_s(now)
                if tidy_s is not None and tidy_s <= 0:
                    break
                # The end of a pause comes by itself: look for it.
                pause_s = PAUSE_LOOK_S if self.doing == "paused" else None
                waits = (self._agenda.wait_s(now), tidy_s, pause_s)
                self._turn.wait(min((one for one in waits if one is not None), default=None))
        return None, None

    def _standing(self) -> str:
        if self._desk.paused() is not None:
            return "paused"
        if self.entry.scheme != LOCAL_SCHEME and self._desk.conditions().online is False:
            return "offline"
        return "waiting" if self._agenda.failures else "idle"

    def _turn_away(self) -> None:
        while self._requests:
            request = self._requests.pop()
            request.problem = LocalStoreError("the service stops", hint="ask again in a moment")
            request.done.set()

    # -------------------------------------------------------------- one sync
    def _serve(self, request: Request) -> None:
        """What a person asked for: always tried."""
        self._agenda.unblock()
        try:
            request.report = self._sync(
                manual=True,
                full=request.projects is None,
                by="person",
                projects=request.projects,
                on_event=request.on_event,
            )
        except Stopped:
            request.problem = LocalStoreError("the service stops", hint="ask again in a moment")
        except LocalStoreError as problem:
            request.problem = problem
        except Exception as fault:  # noqa: BLE001  # a fault of ours must not end the worker
            self._note_fault(fault)
            request.problem = LocalStoreError(_FAULT)
        finally:
            self.progress = None
            request.done.set()

    def _carry_out(self, work: Work) -> None:
        """Work of the agenda; what fails is tried again later."""
        try:
            if work.look and not self._others_changed():
                self._agenda.succeeded()
            elif work.full or work.look:
                self._sync_all()
            else:
                self._sync_hints(self._still_here(work.hints))
        except Stopped:
            # The policy changed, a pause, a person who wants something else first, or the end.
            self._agenda.want_full()
        except (LocalStoreError, OSError) as problem:
            self._fail(problem)
        except Exception as fault:  # noqa: BLE001  # a fault of ours must not end the worker
            self._note_fault(fault)
            self._fail(LocalStoreError(_FAULT))
        finally:
            self.progress = None

    def _sync_all(self) -> None:
        began_s = time.process_time()
        self._stamps = self._list_stamps()
        self._sync(full=True)
        give_memory_back()
        self._full_at, self._full_cost_s = self._desk.monotonic(), time.process_time() - began_s

    def _sync_hints(self, hints: Mapping[str, frozenset[str]]) -> None:
        """The named subjects; of a project with new links everything, as links decide over all."""
        whole = sorted(id_ for id_, subjects in hints.items() if LINKS in subjects)
        parts = {id_: subjects for id_, subjects in hints.items() if LINKS not in subjects}
        if parts:
            self._sync(scope=parts)
        if whole:
            self._sync(projects=whole)

    def _still_here(self, hints: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
        home = HomePaths(self._desk.home)
        return {id_: hints[id_] for id_ in hints if home.project(id_).root.is_dir()}

    def _sync(
        self,
        *,
        manual: bool = False,
        full: bool = False,
        by: str = "service",
        projects: Sequence[str] | None = None,
        on_event: Callable[[Event], None] | None = None,
        scope: Mapping[str, frozenset[str]] | None = None,
    ) -> SyncReport:
        """One sync, and what is to be told of it."""
        desk, began_us = self._desk, self._desk.clock()
        self.doing = "syncing"

        def follow(event: Event) -> None:
            self.progress = event
            if on_event is not None:
                on_event(event)

        report = engine.sync_home(
            desk.home,
            remotes=[self.entry.name],
            projects=projects,
            on_event=follow,
            recipients=desk.recipients(),
            clock=desk.clock,
            sleep=self._stop.wait,
            manual=manual,
            policy=desk.book(),
            conditions=desk.conditions,
            check=self._checker(manual=manual),
            scope=scope,
            urgent=self._urgent,
            opener=self._held_open,
            session=self._session,
        )
        failure = report.failures.get(self.entry.name)
        if failure is not None:
            self._fail(failure, report, by=by)
        else:
            took_us = max(0, desk.clock() - began_us)
            self._note(report, full=full)
            loud = full or by == "person"
            self._ledger.went_through(report, took_us=took_us, loud=loud, by=by)
        return report

    def _urgent(self) -> Mapping[str, frozenset[str]]:
        with self._turn:
            return self._agenda.urgent()

    def _checker(self, *, manual: bool) -> Callable[[], None]:
        """What a transfer asks between two pieces: it ends when it may no longer go on."""
        desk, mark = self._desk, self._desk.book().fingerprint
        next_at = desk.monotonic() + CHECK_S

        def check() -> None:
            nonlocal next_at
            if self._stop.is_set():
                raise Stopped
            if manual or desk.monotonic() < next_at:
                return
            next_at = desk.monotonic() + CHECK_S
            if self._requests or desk.paused() is not None or desk.book().fingerprint != mark:
                raise Stopped

        return check

    # -------------------------------------------------------------- how it went
    def _note(self, report: SyncReport, *, full: bool) -> None:
        self._agenda.succeeded()
        if any(project.errors for project in report.projects):
            self._agenda.went_partly(self._desk.monotonic())
        elif full:
            self._agenda.went_wholly()
        if report.moved:
            self._changed_at = self._desk.monotonic()
        if any(project.pulled for project in report.projects):
            self._on_pulled()

    def _fail(
        self,
        problem: LocalStoreError | OSError,
        report: SyncReport | None = None,
        *,
        by: str = "service",
    ) -> None:
        self._held_open.close()
        problem = looked_into(problem, self.entry)
        wait_s = self._agenda.failed(
            self._desk.monotonic(),
            retry_after_s=getattr(problem, "retry_after_s", None),
            permanent=isinstance(problem, Unreachable) and problem.permanent,
        )
        self._ledger.failed(problem, report, wait_s, by)

    def _note_fault(self, fault: Exception) -> None:
        self._desk.journal.error(
            "fault", remote=self.entry.id, kind=type(fault).__name__, where=where(fault)
        )

    # -------------------------------------------------------------- what others do
    def _others_changed(self) -> bool:
        """Whether somebody else left a stamp, or a project, since the last sync with everything."""
        return self._list_stamps() != self._stamps

    def _list_stamps(self) -> dict[str, frozenset[str]]:
        """Others' stamps by project: one request for each."""
        remote, own = self._held_open(self.entry), replica_id(self._desk.home)
        found = {}
        for project in remote.projects():
            names = (entry.name for entry in remote.list(f"projects/{project}/stamps/"))
            others = frozenset(name for name in names if not _is_stamp_of(name, own))
            if others:
                found[project] = others
        return found

    # -------------------------------------------------------------- in quiet moments
    def _tidy_s(self, now: float) -> float | None:
        """Seconds until there is something to tidy up; None when there is nothing."""
        settle_s = self._changed_at + QUIET_S - now if self._changed_at is not None else None
        waits = (self._ledger.due_s, settle_s)
        return min((one for one in waits if one is not None), default=None)

    def _tidy_up(self) -> None:
        now = self._desk.monotonic()
        if self._ledger.due_s == 0.0:
            self._ledger.write()
        if self._changed_at is not None and now >= self._changed_at + QUIET_S:
            self._settle()
            give_memory_back()

    def _settle(self) -> None:
        """Tell others that we are done with what we changed."""
        if self._changed_at is None:
            return
        self._changed_at = None
        with contextlib.suppress(LocalStoreError, OSError):
            engine.settle(
                self._desk.home,
                self._session,
                remotes=[self.entry.name],
                opener=self._held_open,
                clock=self._desk.clock,
            )


def _is_stamp_of(name: str, replica: str) -> bool:
    return name.rpartition("/")[2].startswith(f"{replica}-")
