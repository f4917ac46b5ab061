"""How syncing with one remote goes: told to the journal, to the state files and to the history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from localstore.errors import LocalStoreError
from localstored.remotes.base import Unreachable
from localstored.service.journal import Level
from localstored.service.state import Trouble

if TYPE_CHECKING:
    from localstore.remotes import RemoteEntry
    from localstored.report import SyncReport
    from localstored.service.desk import Desk

TELL_S: Final = 60.0  # small syncs of a live run are one entry of the history, after the first
_MAX_NOTES_TOLD: Final = 20
_POLICY: Final = "policy"  # stands in a note in a file's place


@dataclass(slots=True)
class Tally:
    """What one or more syncs moved: files, and bytes."""

    pushed: int = 0
    pulled: int = 0
    erased: int = 0
    pushed_bytes: int = 0
    pulled_bytes: int = 0
    held: int = 0
    trouble: int = 0

    @classmethod
    def of(cls, report: SyncReport) -> Tally:
        """Count a report."""
        one = cls(trouble=report.refused.total + report.damaged.total)
        for project in report.projects:
            one.pushed += project.pushed
            one.pulled += project.pulled
            one.erased += project.erased
            one.pushed_bytes += project.pushed_bytes
            one.pulled_bytes += project.pulled_bytes
            one.held += project.held.total
            for notes in (project.refused, project.damaged, project.errors):
                one.trouble += notes.total
        return one

    def add(self, other: Tally) -> None:
        """Count in what came later."""
        self.pushed += other.pushed
        self.pulled += other.pulled
        self.erased += other.erased
        self.pushed_bytes += other.pushed_bytes
        self.pulled_bytes += other.pulled_bytes
        self.held, self.trouble = other.held, other.trouble

    @property
    def moved(self) -> int:
        """Files."""
        return self.pushed + self.pulled + self.erased


class Ledger:
    """What is told of one remote; called by its worker's thread alone."""

    def __init__(self, entry: RemoteEntry, desk: Desk) -> None:
        self._entry, self._desk = entry, desk
        self._tally, self._took_us = Tally(), 0
        self._told_s = desk.monotonic() - TELL_S

    def went_through(self, report: SyncReport, *, took_us: int, loud: bool, by: str) -> None:
        """A sync came to its end, if not with every file.

        Args:
            took_us: how long it took. loud: worth a line and an entry of its own.
        """
        desk, id_, one = self._desk, self._entry.id, Tally.of(report)
        if loud:
            self.write()  # what went before has an entry of its own
        self._count(one, took_us)
        now_us = desk.clock()
        desk.state.add(
            id_,
            last_try_us=now_us,
            last_success_us=now_us,
            next_try_us=None,
            error=_worst(report),
            pushed_bytes=one.pushed_bytes,
            pulled_bytes=one.pulled_bytes,
        )
        if desk.journal.forget(f"remote {id_}"):
            desk.journal.notice("sync", remote=id_, trouble="over")
        if one.moved:
            say = desk.journal.info if loud else desk.journal.debug
            say("sync", remote=id_, **_numbers(one), seconds=took_us / 1e6)
        for line in notes_of(report)[:_MAX_NOTES_TOLD]:
            desk.journal.on_change(f"note {id_} {line[:80]}", Level.WARNING, "sync", note=line)
        if loud or self.due_s == 0.0:
            self.write(by)

    def failed(
        self, problem: LocalStoreError | OSError, report: SyncReport | None, wait_s: float, by: str
    ) -> None:
        """The remote did not answer, or we could not ask it.

        Args:
            report: what was done before. wait_s: how long until the next attempt.
        """
        desk, id_ = self._desk, self._entry.id
        one = Tally.of(report) if report is not None else Tally()
        self._count(one, 0)
        permanent = isinstance(problem, Unreachable) and problem.permanent
        hint = problem.hint if isinstance(problem, LocalStoreError) else ""
        now_us = desk.clock()
        desk.state.add(
            id_,
            last_try_us=now_us,
            next_try_us=now_us + int(wait_s * 1e6),
            error=Trouble(str(problem), hint, permanent),
            pushed_bytes=one.pushed_bytes,
            pulled_bytes=one.pulled_bytes,
        )
        level = Level.ERROR if permanent else Level.WARNING
        facts = {"problem": problem, "hint": hint}
        if desk.journal.on_change(f"remote {id_}", level, "sync", remote=id_, **facts):
            self.write(by, str(problem))

    @property
    def due_s(self) -> float | None:
        """Seconds until what was moved in small pieces wants to be written down; None: never.

        The first of them at once, what follows within a minute together.
        """
        if not self._tally.moved:
            return None
        return max(0.0, self._told_s + TELL_S - self._desk.monotonic())

    def write(self, by: str = "service", error: str | None = None) -> None:
        """One entry of the history for all that was moved since the last one."""
        tally, self._tally = self._tally, Tally()
        took_us, self._took_us = self._took_us, 0
        if not tally.moved and error is None:
            return
        self._told_s = self._desk.monotonic()
        self._desk.state.remember(
            {
                "time_us": self._desk.clock(),
                "remote": self._entry.name,
                "remote_id": self._entry.id,
                "by": by,
                "seconds": round(took_us / 1e6, 3),
                **_numbers(tally),
                "held": tally.held,
                "trouble": tally.trouble,
                "error": error,
            }
        )

    def _count(self, one: Tally, took_us: int) -> None:
        self._tally.add(one)
        if one.moved:
            self._took_us += took_us


def _numbers(tally: Tally) -> dict[str, int]:
    return {
        "pushed": tally.pushed,
        "pulled": tally.pulled,
        "erased": tally.erased,
        "pushed_bytes": tally.pushed_bytes,
        "pulled_bytes": tally.pulled_bytes,
    }


def notes_of(report: SyncReport) -> list[str]:
    """What is wrong with single files, by their ids."""
    lines = [str(note) for note in (*report.refused, *report.damaged)]
    for project in report.projects:
        for what in ("refused", "damaged", "errors"):
            notes = getattr(project, what)
            # The same files are about all projects, and a person knows them by their names.
            lines += [note.reason for note in notes if note.name == _POLICY]
            head = f"{project.project[:16]} {what}"
            lines += [f"{head}: {note}" for note in notes if note.name != _POLICY]
        if project.lost:
            lines.append(f"{project.project[:16]} was set back: {len(project.lost)} links missing")
    return list(dict.fromkeys(lines))


def _worst(report: SyncReport) -> Trouble | None:
    """What a person should know of a sync that came to its end."""
    notes = notes_of(report)
    if not notes:
        return None
    more = f" and {len(notes) - 1} more" if len(notes) > 1 else ""
    broken = any(note.name == _POLICY for project in report.projects for note in project.errors)
    hint = "`localstore policy edit` mends it" if broken else "`localstore sync now` names all"
    return Trouble(f"{notes[0]}{more}", hint, permanent=False)
