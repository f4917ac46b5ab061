"""What a sync tells: events while it runs, a report at its end."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, slots=True)
class Event:
    """Progress on one project and remote.

    Attributes:
        remote: its name. `project`: its id. `phase`: trust, runs or objects.
        done_items, planned_items: files of this phase. done_bytes, planned_bytes: theirs.
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


@dataclass(slots=True)
class ProjectReport:
    """What happened between one project and one remote.

    Attributes:
        pushed, pulled, erased: files. pushed_bytes, pulled_bytes: bytes.
        held: what policy keeps here. refused: what the remote offered and we did not take.
        damaged: our own files that break the format. forks: logs of which two versions exist.
        lost: links that the remote had and now lacks: it was set back.
        steps: what a dry run would do, as JSON objects.
    """

    remote: str
    project: str
    pushed: int = 0
    pushed_bytes: int = 0
    pulled: int = 0
    pulled_bytes: int = 0
    erased: int = 0
    held: list[Note] = field(default_factory=list)
    refused: list[Note] = field(default_factory=list)
    damaged: list[Note] = field(default_factory=list)
    errors: list[Note] = field(default_factory=list)
    forks: list[Note] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    steps: list[dict[str, object]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Everything that should leave is acknowledged, nothing was refused or is damaged."""
        return not (self.refused or self.damaged or self.errors)


@dataclass(slots=True)
class SyncReport:
    """What a sync did.

    Attributes:
        projects: one report for each pair of a remote and a project.
        failed: remotes that did not answer, by name, with the reason.
        refused: what a remote lists outside of projects that are ours.
        damaged: tails of silent writers that break the format.
    """

    dry_run: bool = False
    projects: list[ProjectReport] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    refused: list[Note] = field(default_factory=list)
    damaged: list[Note] = field(default_factory=list)

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
        projects = []
        for project in self.projects:
            values = asdict(project)
            del values["lines"]
            projects.append({**values, "ok": project.ok})
        return {
            "ok": self.ok,
            "dry_run": self.dry_run,
            "failed": dict(self.failed),
            "refused": [asdict(note) for note in self.refused],
            "damaged": [asdict(note) for note in self.damaged],
            "projects": projects,
        }
