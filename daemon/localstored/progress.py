"""Turns steps that are planned and done into events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from localstored.plan import weight
from localstored.report import Event

if TYPE_CHECKING:
    from collections.abc import Iterable

    from localstored.plan import Step
    from localstored.report import ProjectReport
    from localstored.session import Options


class Progress:
    """Of one phase of one project with one remote."""

    def __init__(self, phase: str, report: ProjectReport, options: Options) -> None:
        self._phase, self._report, self._options = phase, report, options
        self._items = self._bytes = self._done_items = self._done_bytes = 0

    def plan(self, steps: Iterable[Step]) -> None:
        """More is to be done."""
        for step in steps:
            self._items += 1
            self._bytes += weight(step)

    def done(self, step: Step) -> None:
        """One step ended, well or not."""
        self._done_items += 1
        self._done_bytes += weight(step)
        if self._options.on_event is not None:
            self._options.on_event(
                Event(
                    remote=self._report.remote,
                    project=self._report.project,
                    phase=self._phase,
                    done_items=self._done_items,
                    planned_items=self._items,
                    done_bytes=self._done_bytes,
                    planned_bytes=self._bytes,
                )
            )
