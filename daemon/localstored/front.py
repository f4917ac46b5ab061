"""What a person asks of syncing, with or without a service: sync now, status, pause, resume.

`localstore` finds these functions by the entry points of the group `localstore.engine`. They keep
to the same policy, limits and conditions as the service, and leave the same traces in `state/`.
"""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from localstore.layout import HomePaths
from localstore.remotes import read_remotes
from localstored import engine
from localstored.policyfile import Book
from localstored.remotes import open_remote
from localstored.report import SyncReport
from localstored.service.desk import Desk, now_us, read_recipients
from localstored.service.journal import Journal, Level
from localstored.service.ledger import Ledger
from localstored.service.state import State
from localstored.service.watcher import take_hints

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from localstore.remotes import RemoteEntry
    from localstored.policy import Conditions
    from localstored.remotes.base import Remote
    from localstored.report import Event


def sync_now(
    home: Path,
    *,
    remotes: Sequence[str] | None = None,
    projects: Sequence[str] | None = None,
    dry_run: bool = False,
    relist: bool = False,
    on_event: Callable[[Event], None] | None = None,
    recipients: frozenset[str] | None = None,
    check: Callable[[], None] | None = None,
    manual: bool = True,
    clock: Callable[[], int] = now_us,
    sleep: Callable[[float], object] = time.sleep,
) -> SyncReport:
    """Sync a home once, in this process, because a person asked for it.

    Args:
        remotes: names; None: all. projects: ids; None: all.
        relist: list remotes in full, whatever their stamps say.
        recipients: tags (32 hex digits) of the keys here; None: what the home says.
        check: is called between pieces; raises `Stopped` to end it.
        manual: False: as the service would, without what waits for a person.
        clock: Unix time in µs. sleep: waits for seconds.

    Raises:
        NotFound: a remote or project that is not there.
        BadSetting: `remotes.toml` breaks its form.
    """
    book, began_us = Book.read(home), clock()
    if remotes is None and projects is None and not dry_run:
        _forget_hints(home)

    def open_limited(entry: RemoteEntry) -> Remote:
        return open_remote(entry, limits=book.limits(entry.name), check=check)

    report = engine.sync_home(
        home,
        remotes=remotes,
        projects=projects,
        dry_run=dry_run,
        relist=relist,
        on_event=on_event,
        recipients=read_recipients(home) if recipients is None else recipients,
        clock=clock,
        sleep=sleep,
        manual=manual,
        policy=book,
        conditions=_conditions(book),
        check=check,
        opener=open_limited,
    )
    if not dry_run:
        _remember(home, report, began_us, clock, by="person" if manual else "service")
    return report


def _forget_hints(home: Path) -> None:
    """Whatever they hint at is in this sync; without a service nobody else would read them."""
    for paths in HomePaths(home).all_projects():
        take_hints(paths)


def _conditions(book: Book) -> Conditions:
    """The world, asked once, and only where the policy wants to know."""
    from localstored.conditions import read_once
    from localstored.policy import Conditions

    return read_once() if book.files() else Conditions()


def _remember(
    home: Path, report: SyncReport, began_us: int, clock: Callable[[], int], *, by: str
) -> None:
    """Leave the traces that the service would leave; the caller tells the person itself."""
    desk = Desk(home, Journal(least=Level.SILENT), clock=clock)
    known = read_remotes(home)
    for name, entry in known.items():
        own = _of(report, name)
        failure = report.failures.get(name)
        if failure is None and not own.projects:
            continue
        ledger = Ledger(entry, desk)
        if failure is not None:
            ledger.failed(failure, own, 0.0, by)
        else:
            took_us = max(0, clock() - began_us)
            ledger.went_through(own, took_us=took_us, loud=True, by=by)


def _of(report: SyncReport, remote: str) -> SyncReport:
    """What a report says of one remote."""
    own = [project for project in report.projects if project.remote == remote]
    return SyncReport(projects=own, refused=report.refused, damaged=report.damaged)


# ------------------------------------------------------------------ status, pause
def status(home: Path, *, clock: Callable[[], int] = now_us) -> dict[str, Any]:
    """What is known without a service; the service's own answer has the same form.

    Raises:
        BadSetting: `remotes.toml` breaks its form.
    """
    state, book = State(home), Book.read(home)
    pause = state.pause()
    held = pause is not None and pause.holds(clock())
    return {
        "pid": None,
        "home": str(home),
        "paused": asdict(pause) if pause is not None and held else None,
        "policy": policy_facts(book),
        "remotes": {
            name: {
                "id": entry.id,
                "url_scheme": entry.scheme,
                "doing": "stopped",
                **asdict(state.remote(entry.id)),
            }
            for name, entry in read_remotes(home).items()
        },
        "standing": [one.to_json() for one in engine.standing(home, policy=book, clock=clock)],
        "damage": state.damage(),
    }


def policy_facts(book: Book) -> dict[str, object]:
    """Whether the policy's files can be understood."""
    problems = [str(problem) for problem in book.problems()]
    return {"ok": not problems, "problem": "; ".join(problems)}


def pause(home: Path, until_us: int | None = None) -> None:
    """Let the service sync nothing by itself, also one that starts later.

    Args:
        until_us: Unix time; None: until `resume`.

    Raises:
        StoreError: the disk refused.
    """
    State(home).set_pause(until_us)


def resume(home: Path) -> None:
    """Take a pause back.

    Raises:
        StoreError: the disk refused.
    """
    State(home).clear_pause()


def version() -> str:
    """The release that is installed."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("localstore")
    except PackageNotFoundError:
        return f"? (Python {sys.version_info.major}.{sys.version_info.minor})"
