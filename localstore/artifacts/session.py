"""The segments of one logging or edit of an artifact; durable when a call says so.

Each has a writer of its own, so that the references of a version can be cancelled together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self

from localstore import crypto
from localstore.appending import SegmentPlan
from localstore.artifacts.edits import Said
from localstore.artifacts.model import ArtifactState, fold
from localstore.artifacts.reading import reader
from localstore.errors import StoreError, UsageError
from localstore.format.spec import DataClass, RecordKind
from localstore.identity import now_us
from localstore.policy.stamps import Stamps
from localstore.tails import tail_folder
from localstore.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType

    from localstore.format.segment import Predecessor
    from localstore.project import Project
    from localstore.settings import Settings
    from localstore.writer import Lane

_MAX_TIPS: Final = 1024
_REFS_AT_ONCE: Final = 100_000
# What this process wrote of artifacts that it cannot read.
_own: dict[tuple[str, bytes], list[Said]] = {}


class Session:
    """The segments of one logging or edit, in the folder of one artifact."""

    def __init__(
        self,
        project: Project,
        name: str,
        kind: str,
        options: Settings,
        warn: Callable[[str], None],
        *,
        largest: int = 0,
    ) -> None:
        """Nothing is written before the first reference or record.

        Args:
            kind: the artifact's type; empty where it is not known.
            largest: bytes of the largest file of what is logged.

        Raises:
            UsageError: the artifact was deleted as a whole.
        """
        self.project, self.name, self._kind = project, name, kind or "unspecified"
        self.subject = project.artifact_subject(name)
        if self.subject.hex() in project.state.tombstones:
            raise UsageError(
                f"artifact {name!r} was deleted, and what is deleted never comes back",
                hint="take another name, or `localstore rm --undo` while it is in the trash",
            )
        self._tails = tail_folder(options.tail_dir, project.paths.id, self.subject)
        self._tag = Stamps(project, warn).artifact(name, kind or None, largest)
        self._writer = Writer(self._plan, warn=warn, on_points=_no_points)
        self._count = 0
        self._introduced = False

    def _plan(self, lane: Lane, writer: bytes, failed: tuple[Predecessor, ...]) -> SegmentPlan:
        return SegmentPlan(
            project=self.project,
            subject=self.subject,
            pair=self.project.pair(self.subject),
            writer=writer,
            data_class=lane[0],
            policy_tag=lane[1] or self._tag or bytes(16),
            predecessors=failed,
            tail_folder=self._tails,
        )

    def refer(self, data_class: DataClass, objects: Sequence[bytes]) -> None:
        """Name objects in REF frames, durable on return.

        Raises:
            StoreError: the disk refused.
        """
        for at in range(0, len(objects), _REFS_AT_ONCE):
            self._writer.refer(data_class, objects[at : at + _REFS_AT_ONCE])
        self.flush()

    def version(
        self, data_class: DataClass, number: int, digest: bytes, body: dict[str, Any]
    ) -> None:
        """A VERSION record."""
        self._append(data_class, [RecordKind.VERSION, now_us(), number, digest, body])

    def edit(self, operation: dict[str, Any], seen: Iterable[bytes]) -> None:
        """An EDIT record by somebody who saw the edits `seen`."""
        if not self._introduced:
            self._introduced = True
            facts = {"name": self.name, "type": self._kind}
            self._append(DataClass.META, [RecordKind.ARTIFACT, now_us(), facts])
        known = list(seen)[-_MAX_TIPS:]
        own = crypto.random_bytes(16)
        self._append(DataClass.META, [RecordKind.EDIT, now_us(), own, known, operation])

    def cancel(self, references: Sequence[tuple[bytes, int]]) -> None:
        """An UNREF frame: REF frames of this subject that no longer count."""
        for at in range(0, len(references), _REFS_AT_ONCE):
            self._writer.cancel(DataClass.META, references[at : at + _REFS_AT_ONCE])

    def _append(self, data_class: DataClass, record: list[Any]) -> None:
        self._writer.append(data_class, record)
        self._count += 1
        if not self.project.can_read:
            said = Said(
                record=record,
                place=(self._writer.id, self._count),
                writer=self._writer.id,
                data_class=data_class,
                deposit=True,
            )
            _own.setdefault((self.project.paths.id, self.subject), []).append(said)

    def flush(self) -> None:
        """Make everything durable.

        Raises:
            StoreError: the disk refused.
        """
        if not self._writer.flush():
            raise StoreError(f"the disk refused to store artifact {self.name!r}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        def farewell(segments: list[list[Any]]) -> list[Any]:
            return [RecordKind.STATE, now_us(), "finished", 0, segments]

        lost = self._writer.close(farewell)
        if lost and error is None:
            raise StoreError(f"the disk refused to store artifact {self.name!r}")


def _no_points(_points: list[Any]) -> None:
    """An artifact has none."""


def state_of(project: Project, name: str, options: Settings) -> ArtifactState:
    """An artifact as far as this machine can know it."""
    if project.can_read:
        return reader(project, options.tail_dir).read(name)
    state = fold(_own.get((project.paths.id, project.artifact_subject(name)), ()))
    return state if state.name else ArtifactState(name=name, type="")
