"""How far a sync is: one bar for each remote on a terminal, else a plain line now and then.

Takes events from the engine in this process and from the service alike; prints to stderr alone.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import click

from localstore.cli.rm import size_text
from localstore.cli.terminal import inert

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

LINE_EVERY_S: Final = 5.0  # a log file that is read later needs no more
_RATE_OVER_S: Final = 10.0  # long enough for a steady number, short enough to tell a stall
_SAMPLE_EVERY_S: Final = 0.1
_MOST_SAMPLES: Final = 128  # more than ten seconds hold


@dataclass(slots=True)
class Standing:
    """How far one remote is, over all its projects and phases that were announced so far.

    Attributes:
        doing: project and phase under way, for a person.
        parts: of each (project, phase) what is done and planned: items, bytes.
    """

    doing: str = ""
    parts: dict[tuple[str, str], tuple[int, int, int, int]] = field(default_factory=dict)
    _settled: tuple[int, ...] = (0, 0, 0, 0)
    _samples: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_MOST_SAMPLES))

    def take(
        self, project: str, phase: str, counts: tuple[int, int, int, int], now_s: float
    ) -> None:
        """Take in what one event says: items done, planned, bytes done, planned."""
        before = self.parts.get((project, phase))
        if before is not None and counts[0] < before[0]:  # a large phase is done in parts
            self._settled = tuple(map(sum, zip(self._settled, before, strict=True)))
        self.parts[project, phase] = counts
        if not self._samples or now_s - self._samples[-1][0] >= _SAMPLE_EVERY_S:
            self._samples.append((now_s, self.total[2]))

    @property
    def total(self) -> tuple[int, int, int, int]:
        """Items done and planned, bytes done and planned."""
        every = (self._settled, *self.parts.values())
        items, planned, done, size = (sum(column) for column in zip(*every, strict=True))
        return items, planned, done, size

    def rate(self, now_s: float) -> float:
        """Bytes per second over the last ten seconds."""
        recent = [one for one in self._samples if now_s - one[0] <= _RATE_OVER_S]
        if not recent or now_s - recent[0][0] < _SAMPLE_EVERY_S:
            return 0.0
        return (self.total[2] - recent[0][1]) / (now_s - recent[0][0])

    def left_s(self, now_s: float) -> float | None:
        """Seconds that the rest takes at this rate; None where nobody knows."""
        _, _, done, planned = self.total
        rate = self.rate(now_s)
        return (planned - done) / rate if rate > 0 else None

    def line(self, now_s: float) -> str:
        """Items, bytes, rate, time left."""
        done_items, items, done_bytes, planned = self.total
        words = [f"{done_items}/{items} files", f"{size_text(done_bytes)} of {size_text(planned)}"]
        rate, left = self.rate(now_s), self.left_s(now_s)
        if rate > 0:
            words.append(f"{size_text(int(rate))}/s")
        if left is not None and done_bytes < planned:
            words.append(f"{duration_text(left)} left")
        return ", ".join(words)


def duration_text(seconds: float) -> str:
    """`12 s`, `3 min`, `2 h 5 min`, `3 d 2 h`."""
    whole = round(seconds)
    if whole < 90:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


class Display:
    """Turns events into `Standing`s, and says which of them changed."""

    def __init__(self, names: Mapping[str, str], clock: Callable[[], float] = time.monotonic):
        self.remotes: dict[str, Standing] = {}
        self._names, self.clock = names, clock

    def take(self, event: object) -> str | None:
        """The remote that an event is about; None for events that count nothing."""
        said = _Fields(event)
        remote = said("remote")
        if not isinstance(remote, str):
            return None
        standing = self.remotes.setdefault(remote, Standing())
        if isinstance(said("text"), str) and said("text"):
            standing.doing = inert(said("text"))
        if not isinstance(said("planned_items"), int):
            return remote
        project, phase = str(said("project")), str(said("phase"))
        counts = [said(f"{done}_{what}") for what in ("items", "bytes") for done in _DONE]
        items, planned, done, size = (one if isinstance(one, int) else 0 for one in counts)
        standing.doing = f"{inert(self._names.get(project, project[:16]))} {inert(phase)}"
        standing.take(project, phase, (items, planned, done, size), self.clock())
        return remote

    def line(self, remote: str) -> str:
        """One line about one remote."""
        standing = self.remotes[remote]
        return f"{inert(remote)}: {standing.line(self.clock())} ({standing.doing})"


_DONE: Final = ("done", "planned")


class _Fields:
    """Reads an event of the engine, an object, and one from the service, a dict, alike."""

    def __init__(self, event: object) -> None:
        self._event = event

    def __call__(self, name: str) -> Any:
        if isinstance(self._event, dict):
            return self._event.get(name)
        return getattr(self._event, name, None)


# ------------------------------------------------------------------ on a terminal, and without
@contextmanager
def showing(
    names: Mapping[str, str], *, quiet: bool, verbose: bool
) -> Iterator[Callable[[object], None] | None]:
    """Show progress while the block runs; what it yields takes the events, from any thread.

    Args:
        quiet: show nothing. verbose: lines, also on a terminal, and every phase has one.
    """
    if quiet:
        yield None
    elif sys.stderr is not None and sys.stderr.isatty() and not verbose:
        with _bars(Display(names)) as take:
            yield take
    else:
        yield Lines(Display(names), verbose=verbose).take


class Lines:
    """A line for each remote every five seconds; with `verbose` also at the end of a phase."""

    def __init__(self, display: Display, *, verbose: bool) -> None:
        self._display, self._verbose = display, verbose
        self._next: dict[str, float] = {}

    def take(self, event: object) -> None:
        """Say it, if it is time."""
        remote = self._display.take(event)
        if remote is None or not self._display.remotes[remote].parts:
            return
        now = self._display.clock()
        due = self._next.setdefault(remote, now + LINE_EVERY_S)
        said = _Fields(event)
        ends = (
            self._verbose and said("planned_items") and said("done_items") == said("planned_items")
        )
        if now >= due or ends:
            self._next[remote] = now + LINE_EVERY_S
            click.echo(f"localstore: {self._display.line(remote)}", err=True)


@contextmanager
def _bars(display: Display) -> Iterator[Callable[[object], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[line]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, Any] = {}

        def take(event: object) -> None:
            remote = display.take(event)
            if remote is None:
                return
            standing = display.remotes[remote]
            if remote not in tasks:
                tasks[remote] = bars.add_task(inert(remote), total=None, line="")
            items_done, items, done, planned = standing.total
            # Bytes tell best; many small files, or none at all, are told by their number.
            at, whole = (done, planned) if planned else (items_done, items)
            line = standing.line(display.clock()) if standing.parts else ""
            bars.update(
                tasks[remote],
                completed=at,
                total=whole or None,
                description=f"{inert(remote)} {standing.doing}".rstrip(),
                line=line,
            )

        yield take
