"""`--keep N`: older versions that a watch made are deleted, by the same way as any version.

Only its own ones, by what their metadata says, and none that anybody gave a name, a tag or a use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from localstore.artifacts.editing import delete_versions
from localstore.artifacts.session import state_of
from localstore.identity import now_us
from localstore.watching.taking import WATCHED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from localstore.artifacts.model import Version
    from localstore.project import Project
    from localstore.settings import Settings
    from localstore.watching.watches import Watch


def surplus(versions: Iterable[Version], watch_id: str, keep: int) -> list[Version]:
    """The versions of one watch beyond the newest `keep`, without those that people named. Pure."""
    mine = [one for one in versions if _made_by(one.metadata, watch_id)]
    mine.sort(key=lambda one: (one.created_us, one.number), reverse=True)
    return [one for one in mine[keep:] if not one.aliases and not one.tags]


def _made_by(metadata: dict[str, Any], watch_id: str) -> bool:
    said = metadata.get(WATCHED)
    return isinstance(said, dict) and said.get("by") == watch_id


def retire(
    project: Project, watch: Watch, options: Settings, warn: Callable[[str], None]
) -> list[Version]:
    """Delete what is beyond `watch.keep`; returns what was deleted.

    Raises:
        NotPermitted: a machine that may only write.
        StoreError: the disk refused.
    """
    if watch.keep is None:
        return []
    found = surplus(state_of(project, watch.name, options).versions, watch.id, watch.keep)
    used = _in_use(project, watch.name, options) if found else set()
    gone = [one for one in found if one.digest not in used]
    if gone:
        delete_versions(project, watch.name, [one.digest for one in gone], options, warn)
    return gone


def _in_use(project: Project, name: str, options: Settings) -> set[bytes]:
    """Digests of versions that a run reads which is not over."""
    from localstore.query.listing import list_infos

    return {
        link.digest
        for _, info in list_infos(project, options.tail_dir, [])
        if info.state(now_us())[0] == "running"
        for link in info.lineage
        if link.direction == "input" and link.name == name
    }
