"""Jobs that come again: rescans, looks, verification, collection. The only user of APScheduler.

Jobs live in memory, never overlap themselves, and are not lost when the machine slept through
their time. The scheduler goes by the wall clock, so whoever notices that it was set says `again`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from localstored.service.control import where
from localstored.service.journal import Level

if TYPE_CHECKING:
    from collections.abc import Callable

    from localstored.service.journal import Journal

_WORKERS: Final = 2
_JITTER: Final = 0.05  # of the interval: many machines of a lab need not all begin at once


class Schedule:
    """Jobs by name; each runs in a thread of a small pool."""

    def __init__(self, journal: Journal) -> None:
        """Starts nothing yet."""
        from apscheduler.executors.pool import ThreadPoolExecutor
        from apscheduler.schedulers.background import BackgroundScheduler

        self._journal = journal
        self._scheduler: Any = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(_WORKERS)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
            timezone=UTC,
            daemon=True,
        )
        self._jobs: dict[str, tuple[Callable[[], object], float]] = {}

    def add(self, name: str, every_s: float, job: Callable[[], object], *, first_s: float) -> None:
        """Run `job` in `first_s` seconds, and then every `every_s`; over a job of the same name."""
        self._jobs[name] = (job, every_s)
        self._scheduler.add_job(
            self._run,
            "interval",
            args=(name,),
            seconds=every_s,
            jitter=every_s * _JITTER if every_s > 60 else None,
            id=name,
            replace_existing=True,
            next_run_time=datetime.now(UTC) + timedelta(seconds=first_s),
        )

    def start(self) -> None:
        """Begin."""
        self._scheduler.start()

    def stop(self) -> None:
        """Begin no more jobs; waits for none."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def again(self) -> None:
        """The wall clock was set: count every interval from now on."""
        for name, (job, every_s) in self._jobs.items():
            self.add(name, every_s, job, first_s=min(every_s, 60.0))

    def soon(self, name: str) -> None:
        """Run a job now, out of its turn."""
        if name in self._jobs:
            self._scheduler.modify_job(name, next_run_time=datetime.now(UTC))

    @property
    def is_alive(self) -> bool:
        """Whether jobs are still begun."""
        return bool(self._scheduler.running)

    def next_us(self) -> dict[str, int | None]:
        """When each job runs next, Unix time in µs."""
        return {job.id: _us(job.next_run_time) for job in self._scheduler.get_jobs()}

    def _run(self, name: str) -> None:
        try:
            self._jobs[name][0]()
        except Exception as problem:  # noqa: BLE001  # one bad job must not end the others
            self._journal.on_change(
                f"job {name}",
                Level.WARNING,
                "job",
                name=name,
                problem=type(problem).__name__,
                text=problem,
                where=where(problem),
            )
        else:
            self._journal.forget(f"job {name}")


def _us(when: datetime | None) -> int | None:
    return None if when is None else int(when.timestamp() * 1_000_000)
