"""Whether a start is the repetition of an earlier one: the same code, config and inputs.

Only a machine that may read can say so. Nothing depends on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from localstore.errors import LocalStoreError
from localstore.sdk.values import encode_any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from localstore.project import Project
    from localstore.query.info import RunInfo
    from localstore.settings import Settings


class Repeats:
    """Compares one run with the finished runs of its project; an answer is given once."""

    def __init__(
        self,
        project: Project,
        run_id: str,
        options: Settings,
        config: Callable[[], Mapping[str, Any]],
    ) -> None:
        """
        Args:
            config: gives this run's configuration as it is now: scripts set some after the start.
        """
        self._project, self._id, self._options = project, run_id, options
        self._config = config
        self._inputs: set[bytes] = set()
        self._earlier: list[RunInfo] = []
        self._said = False

    def started(self, fingerprint: bytes) -> str:
        """Code and config are known now.

        Returns:
            Name and id of an earlier run that had the same, or an empty text.
        """
        if self._project.can_read:
            self._earlier = [one for one in self._runs() if one.fingerprint == fingerprint]
        return self._find()

    def used(self, digest: bytes) -> str:
        """One more input is known."""
        self._inputs.add(digest)
        return self._find()

    def _runs(self) -> list[RunInfo]:
        from localstore.query.listing import list_infos

        try:
            found = list_infos(self._project, self._options.tail_dir, [])
        except (LocalStoreError, OSError):
            return []
        return [info for _, info in found if info.id != self._id]

    def _find(self) -> str:
        for info in self._earlier:
            inputs = {one.digest for one in info.lineage if one.direction == "input"}
            if inputs == self._inputs and not self._said and _same(info.config, self._config()):
                self._said = True
                return f"{info.info.get('name', '')} ({info.id})"
        return ""


def _same(left: Mapping[str, Any], right: Mapping[str, Any]) -> bool:
    return left.keys() == right.keys() and all(
        encode_any(value) == encode_any(right[key]) for key, value in left.items()
    )
