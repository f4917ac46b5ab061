"""What exports, imports and looks at bundles tell: plain values, and JSON of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from localstored.report import SyncReport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from localstored.report import Note


@dataclass(frozen=True, slots=True)
class PartFacts:
    """One file of a bundle: its path, and its size in bytes."""

    path: str
    bytes: int


@dataclass(slots=True)
class ExportReport:
    """What an export did.

    Attributes:
        path: the bundle, or the folder. bundle: its id. form: `file` or `folder`.
        sync: what went in, what was held, what is wrong.
        assumed: files that were left out, because a receipt says that the receiver has them.
        signed: how many devices vouch for it. finished: whether everything that may leave is in.
    """

    path: str
    bundle: str = ""
    form: str = "file"
    sync: SyncReport = field(default_factory=SyncReport)
    parts: list[PartFacts] = field(default_factory=list)
    assumed: int = 0
    signed: int = 0
    finished: bool = False

    @property
    def ok(self) -> bool:
        """Whether everything that may leave is in."""
        return self.finished and self.sync.ok

    def to_json(self) -> dict[str, object]:
        """The report as JSON values."""
        return {
            "ok": self.ok,
            "path": self.path,
            "bundle": self.bundle,
            "form": self.form,
            "finished": self.finished,
            "signed": self.signed,
            "assumed": self.assumed,
            "parts": [asdict(part) for part in self.parts],
            "sync": self.sync.to_json(),
        }


@dataclass(frozen=True, slots=True)
class SignedBy:
    """Who vouches for a bundle.

    Attributes:
        device, cert: public key and certificate's hash, in hex. time_us: as it claims.
        who: `member` of a project of this bundle that is here, `former` (flagged: revoked, expired,
            no member any more) or `unknown`. user: the user's id in hex, where it is known.
    """

    device: str
    cert: str
    time_us: int
    who: str
    user: str = ""


@dataclass(slots=True)
class ImportReport:
    """What an import did.

    Attributes:
        path, bundle, form: as in `ExportReport`.
        sync: what arrived, what was refused, what is wrong.
        signatures: those that fit. forged: how many do not. unchecked: nobody can tell.
        problems: what is damaged, missing or cut in the bundle itself.
        unmet: names of logs of which the bundle has the end alone, and whose beginning is not here.
        absent: how many files the sender took to be here, and are not.
        skipped: projects that are not for this home.
        projects: those that were taken from.
        ended: whether the export came to its end.
    """

    path: str
    bundle: str = ""
    form: str = "file"
    sync: SyncReport = field(default_factory=SyncReport)
    signatures: list[SignedBy] = field(default_factory=list)
    forged: int = 0
    unchecked: int = 0
    problems: list[str] = field(default_factory=list)
    unmet: list[str] = field(default_factory=list)
    absent: int = 0
    skipped: list[str] = field(default_factory=list)
    projects: list[str] = field(default_factory=list)
    ended: bool = True

    @property
    def intact(self) -> bool:
        """Whether the bundle is as its exporter left it, as far as that can be told."""
        return self.ended and not (self.problems or self.forged or self.unchecked)

    @property
    def ok(self) -> bool:
        """Whether everything that the bundle has for this home is here."""
        nothing = bool(self.skipped) and not self.projects
        return self.intact and self.sync.ok and not self.unmet and not nothing

    def to_json(self) -> dict[str, object]:
        """The report as JSON values."""
        return {
            "ok": self.ok,
            "path": self.path,
            "bundle": self.bundle,
            "form": self.form,
            "intact": self.intact,
            "ended": self.ended,
            "signatures": [asdict(one) for one in self.signatures],
            "forged": self.forged,
            "unchecked": self.unchecked,
            "problems": self.problems,
            "unmet": self.unmet,
            "absent": self.absent,
            "projects": self.projects,
            "skipped": self.skipped,
            "sync": self.sync.to_json(),
        }


@dataclass(slots=True)
class Count:
    """So many files, so many bytes."""

    items: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        """One more."""
        self.items += 1
        self.bytes += size


@dataclass(slots=True)
class ProjectContent:
    """What a bundle holds of one project.

    Attributes:
        classes: files by data class, `keys` for what opens and vouches, `unknown` for the rest.
        subjects: runs and artifacts. assumed: files that the receiver is taken to have.
        continued: logs of which the end alone is here.
    """

    project: str
    files: Count = field(default_factory=Count)
    classes: dict[str, Count] = field(default_factory=dict)
    subjects: int = 0
    assumed: int = 0
    continued: int = 0


@dataclass(slots=True)
class Inspection:
    """What is in a bundle, as it says itself; needs no key.

    Attributes:
        created_us: Unix time in microseconds, as its writer claims.
        damaged: names of files whose bytes are not those that were written; looked for on demand.
    """

    path: str
    bundle: str
    form: str = "file"
    created_us: int = 0
    parts: list[PartFacts] = field(default_factory=list)
    projects: list[ProjectContent] = field(default_factory=list)
    signatures: list[SignedBy] = field(default_factory=list)
    forged: int = 0
    unchecked: int = 0
    problems: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    ended: bool = True

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong with it."""
        wrong = self.problems or self.forged or self.unchecked or self.damaged
        return self.ended and not wrong

    def to_json(self) -> dict[str, object]:
        """The report as JSON values."""
        return {"ok": self.ok, **asdict(self)}


@dataclass(slots=True)
class FiledReport:
    """What became of a receipt that was carried back.

    Attributes:
        name, replica: what the destination is called here, and its id.
        filed: files that it acknowledged, and their bytes, by project.
        others: files of which it holds other bytes than we do. longer: logs of which it has more.
        refused: projects whose part was not believed, with the reason.
        gone: files that it held, and that a full receipt names no more.
    """

    name: str
    replica: str
    at_us: int = 0
    filed: dict[str, Count] = field(default_factory=dict)
    others: int = 0
    longer: int = 0
    gone: int = 0
    refused: list[Note] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether everything in it was believed."""
        return not self.refused and not self.others

    def to_json(self) -> dict[str, object]:
        """The report as JSON values."""
        return {"ok": self.ok, **asdict(self)}


@dataclass(slots=True)
class ReceiptMade:
    """A receipt that was written: where, for how many files, by how many devices signed."""

    path: str
    replica: str
    files: int = 0
    bytes: int = 0
    signed: int = 0
    projects: Sequence[str] = ()

    @property
    def ok(self) -> bool:
        """There is nothing else that could have gone wrong."""
        return True

    def to_json(self) -> dict[str, object]:
        """The report as JSON values."""
        return {"ok": self.ok, **asdict(self)}
