"""REF frames of an artifact that no version needs: of deleted ones, of loggings that gave up.

What may still be on its way is never named: another machine's logging counts as given up only when
its log ends with a final head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from localstore import crypto
from localstore.errors import Damaged
from localstore.format.segment import decode_unref
from localstore.format.spec import DataClass, FrameType
from localstore.identity import now_us
from localstore.reading import FrameWalk

if TYPE_CHECKING:
    from localstore.artifacts.model import ArtifactState
    from localstore.project import Project

_GIVEN_UP_US: Final = 7 * 86_400 * 1_000_000
_CLASSES: Final = (DataClass.ARTIFACTS, DataClass.CODE)


def unreferenced(project: Project, state: ArtifactState) -> list[tuple[bytes, int]]:
    """(segment id, frame index) of REF frames that are to be cancelled and are not yet."""
    folder = project.paths.runs / project.artifact_subject(state.name).hex()
    living = {writer for version in state.versions for writer in version.writers}
    found: list[tuple[bytes, int]] = []
    cancelled: set[tuple[bytes, int]] = set()
    for path in sorted(folder.glob("*.log")) if folder.is_dir() else ():
        try:
            walk = FrameWalk(path.name, path.read_bytes())
            for frame in walk.frames:
                if frame.kind == FrameType.UNREF:
                    cancelled.update(decode_unref(frame))
        except (Damaged, OSError):
            continue  # who cannot read a log cancels nothing of it
        if walk.header.writer not in living and _is_over(project, state, walk):
            frames = [frame for frame in walk.frames if frame.kind == FrameType.REF]
            found += ((walk.header.segment, frame.index) for frame in frames)
    return [one for one in found if one not in cancelled]


def _is_over(project: Project, state: ArtifactState, walk: FrameWalk) -> bool:
    """Whether no version will come of this log."""
    header = walk.header
    if header.data_class not in _CLASSES or walk.problems:
        return False
    if header.writer in state.writers_of_deleted:
        return True
    if walk.head is not None and walk.head.final:
        return True
    own = header.device == crypto.sign_public(project.device_seed)
    return own and header.started_us < now_us() - _GIVEN_UP_US
