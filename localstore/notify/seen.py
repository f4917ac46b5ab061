"""Reads what there is to tell from a home: states of runs with a key, states of remotes without."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from localstore import crypto, settings
from localstore.errors import BadSetting, Damaged, LocalStoreError
from localstore.format import spec
from localstore.format.segment import decode_header
from localstore.format.spec import DataClass
from localstore.identity import now_us
from localstore.notify.events import RemoteFacts, RunFacts
from localstore.remotes import read_remotes
from localstore.tails import tail_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from localstore.identity import Identity
    from localstore.layout import HomePaths
    from localstore.project import Project
    from localstore.query.info import RunInfo

_HEADER_BYTES: Final = 64 * 1024
_MAX_STATE_BYTES: Final = 1 << 20
_ALWAYS_GROWING: Final = (DataClass.META, DataClass.SYSTEM)


# ------------------------------------------------------------------ runs
def read_runs(home: HomePaths, identity: Identity, *, silence: bool) -> Iterator[RunFacts]:
    """Every run that this machine can read; what is damaged is passed over.

    Args:
        silence: whether it is looked up when running ones recorded something.
    """
    from localstore.projects import Projects
    from localstore.query.listing import list_infos

    if not identity.is_member:
        return
    tails = settings.load({"home": str(home.root)}).tail_dir
    for project in Projects(home, identity).all():
        try:
            infos = list_infos(project, tails, [])
        except (LocalStoreError, OSError):
            continue
        trashed = project.state.trashed(now_us())
        for subject, info in infos:
            if subject.hex() not in trashed:
                yield _facts(project, subject, info, tails, silence=silence)


def _facts(
    project: Project, subject: bytes, info: RunInfo, tails: str, *, silence: bool
) -> RunFacts:
    state, exit_code = info.state(now_us())
    seen = [writer.last_seen_us for writer in info.writers.values()]
    active = info.updated_us
    if silence and state == "running":
        active = max([active, *_changes(project, subject, tails)])
    key = crypto.keyed_digest(
        project.identity.home_key, spec.LABEL_CACHE, b"notify", project.id, subject, size=16
    )
    return RunFacts(
        key=key.hex(),
        path=f"{project.entity}/{project.name}/{info.id or subject.hex()}",
        name=str(info.info.get("name", "")),
        state=state,
        exit_code=exit_code,
        writers=len(info.writers),
        created_us=info.created_us,
        updated_us=max([info.updated_us, *seen]),
        active_us=active,
    )


def _changes(project: Project, subject: bytes, tails: str) -> Iterator[int]:
    """When the files of a run changed that grow with its records alone, Unix µs."""
    folder = project.paths.runs / subject.hex()
    growing = {path.stem for path in folder.glob("*.log") if _grows_with_records(path)}
    elsewhere = tail_folder(tails, project.paths.id, subject)
    for place in (folder, elsewhere):
        for path in place.iterdir() if place is not None and place.is_dir() else ():
            if path.stem in growing:
                try:
                    yield path.stat().st_mtime_ns // 1000
                except OSError:
                    continue  # an emptied tail


def _grows_with_records(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            header, _ = decode_header(file.read(_HEADER_BYTES))
    except (OSError, Damaged):
        return False
    return header.data_class not in _ALWAYS_GROWING


# ------------------------------------------------------------------ remotes
def read_troubles(home: HomePaths, since: Callable[[str], int]) -> Iterator[RemoteFacts]:
    """Remotes whose last try failed, as the service wrote it down; needs no key.

    Args:
        since: tells of a remote's id when its failure was seen first, Unix µs.
    """
    try:
        remotes = read_remotes(home.root)
    except (BadSetting, OSError):
        return
    for name, entry in remotes.items():
        found = _read_state(home.root / "state" / f"{entry.id}.json")
        match found.get("error"):
            case {"text": str(text), **more}:
                yield RemoteFacts(
                    id=entry.id,
                    name=name,
                    reason=f"{text}; {more['hint']}" if more.get("hint") else text,
                    permanent=more.get("permanent") is True,
                    since_us=since(entry.id),
                )


def _read_state(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_MAX_STATE_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
