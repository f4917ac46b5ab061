"""What a run does with artifacts: logs them in the background, and says which ones it used."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from localstore.artifacts.background import Background
from localstore.artifacts.names import check_alias, check_tag, check_text_list, parse_place
from localstore.errors import UsageError
from localstore.format.spec import RecordKind
from localstore.identity import now_us
from localstore.sdk.artifact import Artifact

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from localstore.artifacts.background import Job
    from localstore.policy.stamps import Stamps
    from localstore.project import Project
    from localstore.settings import Settings

UNSPECIFIED: Final = "unspecified"


class RunContext:
    """What logging and using artifacts needs to know of a run.

    Attributes:
        background: works off what is logged.
    """

    def __init__(
        self,
        project: Project,
        run_id: str,
        record: Callable[[list[Any], bytes], None],
        warn: Callable[[str], None],
        options: Settings,
        stamps: Stamps,
    ) -> None:
        """No thread starts here.

        Args:
            record: takes one record of the run's META and a policy tag; called in any thread.
            warn: tells the person one line; the same.
            stamps: says which artifacts are not to be named elsewhere.
        """
        self._stamps = stamps
        self.project, self.run_id, self.options = project, run_id, options
        self.record, self.warn = record, warn
        self.background = Background(self._failed)
        self._said: set[tuple[str, str, bytes, str, str]] = set()

    def after_fork(self) -> None:
        """In a forked child: leave the parent's work to the parent."""
        self.background.after_fork()

    def _failed(self, label: str, error: BaseException) -> None:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error) or repr(error)
        self.warn(f"{label} is not stored: {why}")
        tag = self._stamps.artifact(label, None)
        self.record([RecordKind.GAP, now_us(), 1, f"not stored: {label}"[:200]], tag)

    def lineage(self, direction: str, artifact: Artifact) -> None:
        """Say once that the run used (`input`) or logged (`output`) a version."""
        digest = bytes.fromhex(artifact.digest)
        facts = {"type": artifact.type, "project": artifact.project, "entity": artifact.entity}
        key = (direction, artifact.collection_name, digest, artifact.project, artifact.entity)
        if key not in self._said:
            self._said.add(key)
            name = artifact.collection_name
            tag = self._stamps.artifact(name, artifact.type)
            self.record([RecordKind.LINEAGE, now_us(), direction, name, digest, facts], tag)


def as_draft(
    run_id: str,
    artifact_or_path: Artifact | str | os.PathLike[str],
    name: str | None = None,
    type: str | None = None,
    aliases: Sequence[str] | str | None = None,
    tags: Sequence[str] | str | None = None,
) -> Artifact:
    """An artifact as it was given, or one of a file or folder.

    Raises:
        UsageError: a wrong name, type, alias or tag, or neither artifact nor path.
        NotFound, NotPermitted: nothing at that path, or nothing that can be read.
    """
    for alias in check_text_list("aliases", aliases):
        check_alias(alias)
    for tag in check_text_list("tags", tags):
        check_tag(tag)
    if isinstance(artifact_or_path, Artifact):
        given = artifact_or_path
        if name not in (None, given.collection_name) or type not in (None, given.type):
            raise UsageError(
                f"this artifact is {given.collection_name!r} of type {given.type!r}",
                hint="name= and type= are for a path",
            )
        return given
    if not isinstance(artifact_or_path, str | os.PathLike):
        raise UsageError(f"want an Artifact or a path, not {artifact_or_path!r:.80}")
    path = Path(artifact_or_path)
    artifact = Artifact(name or default_name(run_id, path), type or UNSPECIFIED)
    if path.is_dir():
        artifact.add_dir(path)
    else:
        artifact.add_file(path)
    return artifact


def default_name(run_id: str, path: Path) -> str:
    """What an artifact is called that nobody named: by its run and its file or folder."""
    own = path.name or path.absolute().name
    plain = "".join(one if one.isprintable() and one not in "/\\:" else "_" for one in own)
    return f"run-{run_id}-{plain}"[:128]


def log_artifact(
    context: RunContext,
    artifact_or_path: Artifact | str | os.PathLike[str],
    name: str | None = None,
    type: str | None = None,
    aliases: Sequence[str] | str | None = None,
    tags: Sequence[str] | str | None = None,
) -> Artifact:
    """Log a version in the background; returns at once.

    Raises:
        UsageError, NotFound, NotPermitted: see `as_draft`.
    """
    artifact = as_draft(context.run_id, artifact_or_path, name, type, aliases, tags)
    moved, added = check_text_list("aliases", aliases), check_text_list("tags", tags)
    store = artifact.begin_logging(
        context.project, context.options, context.warn, context.run_id, moved, added
    )

    def work(job: Job) -> None:
        def progress(done: int, total: int) -> None:
            job.total_bytes = total
            job(done)

        store(progress)
        context.lineage("output", artifact)

    artifact.follow(context.background.submit(artifact.collection_name, work))
    return artifact


def use_artifact(
    context: RunContext, artifact_or_name: Artifact | str, type: str | None = None
) -> Artifact:
    """A logged version, recorded as an input of the run.

    Raises:
        NotFound: there is no such version.
        UsageError: it has another type, or an artifact that was never logged.
        NotPermitted: a name, on a machine that may only write.
    """
    if isinstance(artifact_or_name, Artifact):
        found = artifact_or_name
        found.wait()
    else:
        from localstore.artifacts.finding import find_from

        place = parse_place(artifact_or_name)
        context.background.wait(label=place.name)
        found = find_from(context.project, place, context.options)
    if type is not None and found.type != type:
        raise UsageError(f"artifact {found.name!r} is of type {found.type!r}, not {type!r}")
    context.lineage("input", found)
    return found
