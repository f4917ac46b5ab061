"""A run that records nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from localstore import settings
from localstore.errors import UsageError
from localstore.sdk import lifecycle
from localstore.sdk.mappings import Config, Summary
from localstore.sdk.run import Run, say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localstore.sdk.artifact import Artifact


class DisabledRun(Run):
    """A run that records nothing: asked for by `mode="disabled"`, or forced by a broken store.

    In the second case what is not recorded is counted, and said at the end.
    """

    def __init__(self, *, run_id: str, info: Mapping[str, Any], reason: str = "") -> None:
        self.id, self.project, self.entity = run_id, str(info.get("project", "")), ""
        self._info, self._reason = dict(info), reason
        self.resumed, self.starting_step, self._step = False, 0, 0
        self._finished, self._missed = False, 0
        self._last: dict[str, Any] = {}
        self.config = Config(_ignore, {}, allow_val_change=True)
        self.summary = Summary(_ignore, lambda: self._last)
        if reason:
            lifecycle.watch(self)

    @property
    def disabled(self) -> bool:
        """Whether nothing is recorded."""
        return True

    def log(
        self, data: dict[str, Any], step: int | None = None, commit: bool | None = None
    ) -> None:
        """Count the call, and keep its values for `summary` alone."""
        if isinstance(data, dict):
            self._last.update(data)
        self._missed += 1
        at = step if isinstance(step, int) else self._step
        self._step = at + (0 if commit is False else 1)

    def define_metric(self, name: str, *_args: Any, **_more: Any) -> None:
        """Nothing."""

    def save(self, *_args: Any, **_more: Any) -> list[str]:
        """Nothing is kept."""
        return []

    def watch_dir(self, *_args: Any, **_more: Any) -> None:
        """Nothing is watched."""

    def log_code(self, *_args: Any, **_more: Any) -> None:
        """Nothing is kept."""

    def log_artifact(self, artifact_or_path: Any, *args: Any, **more: Any) -> Artifact:
        """The artifact as it was given, never logged.

        Raises:
            UsageError: a wrong name, or nothing at that path.
        """
        from localstore.artifacts.run import as_draft

        return as_draft(self.id, artifact_or_path, *args, **more)

    def use_artifact(self, artifact_or_name: Any, type: str | None = None) -> Artifact:
        """What the store has; this run records no input.

        Raises:
            NotFound, UsageError, NotPermitted: as of a run that records.
        """
        from localstore.query.api import Api
        from localstore.sdk.artifact import Artifact

        given = isinstance(artifact_or_name, Artifact)
        return artifact_or_name if given else Api().artifact(artifact_or_name, type)

    def restore(
        self,
        name: str,
        run_path: str | None = None,
        replace: bool = False,
        root: str | Path | None = None,
    ) -> Path:
        """A file of another run; this one keeps none.

        Raises:
            UsageError: no other run was named.
        """
        from localstore.query.api import Api

        if run_path is None:
            raise UsageError("a disabled run keeps no files", hint="name another by run_path=")
        contents = Api().run(run_path).contents
        target = settings.working_folder() if root is None else Path(root)
        return contents.write_file(contents.file(name), target, replace=replace)

    def after_fork(self) -> None:
        """Nothing."""

    def flush(self) -> None:
        """Nothing."""

    def finish(self, exit_code: int | None = None, quiet: bool | None = None) -> None:  # noqa: ARG002
        """Say what was not recorded."""
        if self._finished:
            return
        self._finished = True
        lifecycle.forget(self)
        if self._reason and self._missed:
            say(f"warning: {self._missed} log() calls were not recorded: {self._reason}")

    def delete(self, *, now: bool = False) -> None:  # noqa: ARG002
        """There is nothing to delete.

        Raises:
            UsageError: always.
        """
        raise UsageError("a disabled run has no data")


def _ignore(_changed: dict[str, Any], _deleted: list[str]) -> None:
    """A disabled run's changes are recorded nowhere."""
