"""What a sync tells: events while it runs, a report at its end."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from localstore.errors import LocalStoreError

MAX_NOTES: Final = 1000  # of one kind; all are counted


@dataclass(frozen=True, slots=True)
class Event:
    """Progress on one project and remote.

    Attributes:
        remote: its name. `project`: its id. `phase`: trust, runs or objects.
        done_items, planned_items: files of this phase; a large project is planned in parts, so the
            plan may grow.
        done_bytes, planned_bytes: theirs.
    """

    remote: str
    project: str
    phase: str
    done_items: int
    planned_items: int
    done_bytes: int
    planned_bytes: int


@dataclass(frozen=True, slots=True)
class Note:
    """Something about one file; `offset` in bytes where that is known."""

    name: str
    reason: str
    offset: int | None = None

    def __str__(self) -> str:
        """One line for a person."""
        where = f" at byte {self.offset}" if self.offset is not None else ""
        return f"{self.name}{where}: {self.reason}"


class Notes(list[Note]):
    """The first notes of one kind; `total` is how many there were."""

    total: int = 0

    def append(self, note: Note) -> None:
        """Count one more, and keep it while there is room."""
        self.total += 1
        if len(self) < MAX_NOTES:
            super().append(note)

    def to_json(self) -> list[dict[str, object]]:
        """Those that were kept."""
        return [asdict(note) for note in self]


@dataclass(slots=True)
class Tally:
    """So many files and their bytes."""

    items: int = 0
    bytes: int = 0

    def add(self, items: int, size: int) -> None:
        """Count more."""
        self.items += items
        self.bytes += size


@dataclass(slots=True)
class Stand:
    """How far one project is on one remote.

    Attributes:
        behind: what may leave and is not acknowledged. held: what policy keeps here, by reason.
    """

    behind: Tally = field(default_factory=Tally)
    held: dict[str, Tally] = field(default_factory=dict)

    def hold(self, reason: str, items: int, size: int) -> None:
        """Count what is held for one reason."""
        self.held.setdefault(reason, Tally()).add(items, size)

    def add(self, other: Stand) -> None:
        """Count another part of the project."""
        self.behind.add(other.behind.items, other.behind.bytes)
        for reason, tally in other.held.items():
            self.hold(reason, tally.items, tally.bytes)

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "behind_items": self.behind.items,
            "behind_bytes": self.behind.bytes,
            "held": {reason: asdict(tally) for reason, tally in sorted(self.held.items())},
        }


_KINDS: Final = ("held", "refused", "damaged", "errors", "forks")


@dataclass(slots=True)
class ProjectReport:
    """What happened between one project and one remote.

    Attributes:
        pushed, pulled, erased: files. pushed_bytes, pulled_bytes: bytes.
        held: what policy keeps here, of what was looked at: a part of the project that is as it
            was is not. refused: what the remote offered and we did not take.
        damaged: our own files that break the format. forks: logs of which two versions exist.
        lost: links that the remote had and now lacks: it was set back.
        standing: how far it is now, all of it.
        steps: what a dry run would do, as JSON objects.
    """

    remote: str
    project: str
    pushed: int = 0
    pushed_bytes: int = 0
    pulled: int = 0
    pulled_bytes: int = 0
    erased: int = 0
    held: Notes = field(default_factory=Notes)
    refused: Notes = field(default_factory=Notes)
    damaged: Notes = field(default_factory=Notes)
    errors: Notes = field(default_factory=Notes)
    forks: Notes = field(default_factory=Notes)
    lost: list[str] = field(default_factory=list)
    standing: Stand = field(default_factory=Stand)
    steps: list[dict[str, object]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Everything that should leave is acknowledged, nothing was refused or is damaged."""
        return not (self.refused or self.damaged or self.errors)

    def to_json(self) -> dict[str, object]:
        """The report as JSON values."""
        counts = ("remote", "project", "pushed", "pushed_bytes", "pulled", "pulled_bytes", "erased")
        values: dict[str, object] = {name: getattr(self, name) for name in counts}
        for kind in _KINDS:
            notes: Notes = getattr(self, kind)
            values |= {kind: notes.to_json(), f"{kind}_count": notes.total}
        values |= {"lost": self.lost, "standing": self.standing.to_json(), "steps": self.steps}
        return {**values, "ok": self.ok}


@dataclass(slots=True)
class SyncReport:
    """What a sync did.

    Attributes:
        projects: one report for each pair of a remote and a project.
        failed: remotes that did not answer, by name, with the reason. failures: their errors.
        refused: what a remote lists outside of projects that are ours.
        damaged: tails of silent writers that break the format.
    """

    dry_run: bool = False
    projects: list[ProjectReport] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    failures: dict[str, LocalStoreError | OSError] = field(default_factory=dict)
    refused: Notes = field(default_factory=Notes)
    damaged: Notes = field(default_factory=Notes)

    def fail(self, remote: str, problem: LocalStoreError | OSError) -> None:
        """Write down that a remote did not answer."""
        self.failed[remote], self.failures[remote] = str(problem), problem

    @property
    def ok(self) -> bool:
        """Whether a person may believe that everything that should leave has left."""
        bad = self.failed or self.refused or self.damaged
        return not bad and all(project.ok for project in self.projects)

    @property
    def moved(self) -> int:
        """Files that were pushed, pulled or erased."""
        return sum(p.pushed + p.pulled + p.erased for p in self.projects)

    def to_json(self) -> dict[str, object]:
        """The report as JSON values."""
        hints = {name: problem for name, problem in self.failures.items()}
        return {
            "ok": self.ok,
            "dry_run": self.dry_run,
            "failed": dict(self.failed),
            "failures": {name: _failure(problem) for name, problem in hints.items()},
            "refused": self.refused.to_json(),
            "damaged": self.damaged.to_json(),
            "projects": [project.to_json() for project in self.projects],
        }


def _failure(problem: LocalStoreError | OSError) -> dict[str, object]:
    return {
        "text": str(problem),
        "hint": getattr(problem, "hint", ""),
        "permanent": getattr(problem, "permanent", False),
        "retry_after_s": getattr(problem, "retry_after_s", None),
    }
