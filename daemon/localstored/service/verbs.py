"""What can be asked of the service over its control socket."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from localstore.control import VERSION
from localstore.errors import NotFound, UsageError
from localstored import engine
from localstored.front import policy_facts, version
from localstored.report import SyncReport
from localstored.service.worker import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from localstored.report import Event
    from localstored.service.children import Child
    from localstored.service.control import Emit, Handler
    from localstored.service.desk import Desk
    from localstored.service.schedule import Schedule
    from localstored.service.watcher import Watcher
    from localstored.service.worker import RemoteWorker

_EVENTS_PER_S: Final = 10.0
_MAX_LOG: Final = 10_000


class Verbs:
    """The answers, from the parts of a running service."""

    def __init__(
        self,
        desk: Desk,
        workers: Mapping[str, RemoteWorker],
        watcher: Watcher,
        schedule: Schedule,
        children: Sequence[Child],
        stop: Callable[[], None],
    ) -> None:
        """Looks at them when it is asked."""
        self._desk, self._workers, self._watcher = desk, workers, watcher
        self._schedule, self._children, self._stop = schedule, children, stop
        self._started_us = desk.clock()

    def table(self) -> dict[str, Handler]:
        """Each verb and who answers it."""
        return {
            "ping": self.ping,
            "sync": self.sync,
            "status": self.status,
            "pause": self.pause,
            "resume": self.resume,
            "explain": self.explain,
            "log": self.log,
            "stop": self.stop,
        }

    def ping(self, _args: dict[str, Any], _emit: Emit) -> dict[str, Any]:
        """Who is there."""
        return {
            "pid": os.getpid(),
            "version": version(),
            "started_us": self._started_us,
            "home": str(self._desk.home),
            "versions": [VERSION],
        }

    def sync(self, args: dict[str, Any], emit: Emit) -> dict[str, Any]:
        """Sync with some remotes now; answered when all of them are done."""
        names, projects = _texts(args, "remotes"), _texts(args, "projects")
        told = _Told(emit)
        requests = {}
        for name in dict.fromkeys(list(self._workers) if names is None else names):
            if name not in self._workers:
                known = ", ".join(self._workers) or "none"
                raise NotFound(f"no remote {name!r}; there are: {known}")
            requests[name] = Request(projects, told.progress)
        for name, request in requests.items():
            told.remote(name, "syncing")
            self._workers[name].request(request)
        report = SyncReport()
        for name, request in requests.items():
            request.done.wait()
            told.remote(name, "done", str(request.problem or ""))
            if request.problem is not None:
                raise request.problem
            if request.report is not None:
                _join(report, request.report)
        return {"report": report.to_json()}

    def status(self, _args: dict[str, Any], _emit: Emit) -> dict[str, Any]:
        """Everything that is known."""
        desk, pause = self._desk, self._desk.paused()
        conditions = asdict(desk.conditions())
        standing = engine.standing(
            self._desk.home, policy=desk.book(), conditions=desk.conditions(), clock=desk.clock
        )
        return {
            **self.ping({}, _emit),
            "paused": asdict(pause) if pause is not None else None,
            "watching": {
                "how": self._watcher.how,
                "folders": self._watcher.folders,
                "problem": self._watcher.problem,
            },
            "conditions": {
                key: sorted(value) if isinstance(value, frozenset) else value
                for key, value in conditions.items()
            },
            "policy": policy_facts(desk.book()),
            "remotes": {name: worker.facts() for name, worker in list(self._workers.items())},
            "standing": [one.to_json() for one in standing],
            "children": [asdict(child.facts) for child in self._children],
            "jobs": {name: {"next_us": at} for name, at in self._schedule.next_us().items()},
            "damage": desk.state.damage(),
        }

    def pause(self, args: dict[str, Any], _emit: Emit) -> dict[str, Any]:
        """Sync nothing by itself for a while."""
        until_us = args.get("until_us")
        if until_us is not None and (type(until_us) is not int or until_us < 0):
            raise UsageError("until_us is Unix time in µs, or null")
        self._desk.set_pause(until_us)
        self._desk.journal.notice("pause", until_us=until_us)
        for worker in self._workers.values():
            worker.recheck()
        return {"paused": {"until_us": until_us}}

    def resume(self, _args: dict[str, Any], _emit: Emit) -> dict[str, Any]:
        """Go on."""
        self._desk.clear_pause()
        self._desk.journal.notice("resume")
        for worker in self._workers.values():
            worker.want_full()
        return {"paused": None}

    def explain(self, args: dict[str, Any], _emit: Emit) -> dict[str, Any]:
        """Whether items leave, and by which rule."""
        from localstored.explain import explain

        project, items = args.get("project"), _texts(args, "items") or []
        if not isinstance(project, str):
            raise UsageError("project is an id of 64 hex digits")
        found = explain(self._desk.home, project, items, conditions=self._desk.conditions())
        return {"items": found}

    def log(self, args: dict[str, Any], _emit: Emit) -> dict[str, Any]:
        """The newest entries of the history."""
        count = args.get("count", 100)
        if type(count) is not int or not 1 <= count <= _MAX_LOG:
            raise UsageError("count is a number from 1 to 10000")
        return {"entries": self._desk.state.history(count)}

    def stop(self, _args: dict[str, Any], _emit: Emit) -> dict[str, Any]:
        """End the service."""
        # The answer first: the socket closes with the service.
        threading.Timer(0.1, self._stop).start()
        return {"stopping": True}


class _Told:
    """Events for a client, not more than it can read."""

    def __init__(self, emit: Emit) -> None:
        self._emit, self._gone = emit, False
        self._next: dict[tuple[str, str, str], float] = {}
        self._lock = threading.Lock()

    def progress(self, event: Event) -> None:
        """Where a sync is."""
        key = (event.remote, event.project, event.phase)
        now, last = time.monotonic(), event.done_items >= event.planned_items
        if last or now >= self._next.get(key, 0.0):
            self._next[key] = now + 1 / _EVENTS_PER_S
            self._say({"kind": "progress", **asdict(event)})

    def remote(self, name: str, doing: str, text: str = "") -> None:
        """What a remote's worker does."""
        self._say({"kind": "remote", "remote": name, "doing": doing, "text": text})

    def _say(self, event: dict[str, Any]) -> None:
        """A client that went away does not stop what it began."""
        if not self._gone:
            with self._lock:
                try:
                    self._emit(event)
                except Exception:  # noqa: BLE001  # whatever is wrong with it, the sync goes on
                    self._gone = True


def _join(report: SyncReport, other: SyncReport) -> None:
    report.projects += other.projects
    for note in other.refused:
        report.refused.append(note)
    for note in other.damaged:
        report.damaged.append(note)
    report.failed.update(other.failed)
    report.failures.update(other.failures)


def _texts(args: Mapping[str, Any], name: str) -> list[str] | None:
    value = args.get(name)
    if value is None or (isinstance(value, list) and all(isinstance(one, str) for one in value)):
        return value
    raise UsageError(f"{name} is a list of texts, or null")
