"""What a word on the command line stands for, as the engine knows it: opaque ids, by the key.

`explain` asks about a run, an artifact, a class of data, a project or one file; the engine knows
subjects, objects, class names and file names. Without keys only ids and classes can be named.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from localstore.cli import context as store
from localstore.errors import Damaged, KeyUnavailable, NotFound, NotPermitted, UsageError
from localstore.format.spec import DataClass
from localstore.layout import object_name, parse_name
from localstore.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from localstore.query.api import Api

KINDS: Final = ("file", "class", "run", "artifact", "project")
CLASS_WORDS: Final = tuple(one.name.lower() for one in DataClass)
_HEX: Final = re.compile(r"[0-9a-f]{32}|[0-9a-f]{64}")
_PLACED: Final = re.compile(r"projects/([0-9a-f]{64})/(.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What to explain of one project.

    Attributes:
        called: what a person said, made whole: `run ada/digits/7f3a`.
        project: its id.
        items: as the engine names them: files, subjects (32 hex digits) with their contents,
            `class:media`; none of them: the whole project.
    """

    called: str
    project: str
    items: tuple[str, ...] = ()


def resolve(item: str, projects: list[str]) -> list[Asked]:
    """What an item stands for; `kind:item` says of which kind it is.

    Args:
        item: `7f3a`, `digits/7f3a`, `model:v3`, `digits`, `media`, `runs/…/….log`, `run:7f3a` ….
        projects: ids to look in; empty: all that are here.

    Raises:
        NotFound: it stands for nothing here.
        UsageError: it stands for several things.
    """
    kind, _, rest = item.partition(":")
    kinds = (kind,) if kind in KINDS and rest else KINDS
    wanted = rest if kind in KINDS and rest else item
    here = [paths.id for paths in store.home_paths().all_projects()]
    chosen = [one for one in here if not projects or one in projects]
    met = {one: found for one in kinds if (found := list(_FINDERS[one](wanted, chosen)))}
    # A class has a word of its own; who means a run of that name says `run:media`.
    for certain in ("file", "class"):
        if certain in met:
            return met[certain]
    if not met:
        raise NotFound(
            f"{item!r} stands for no run, artifact, project, class or file here",
            hint=f"classes: {', '.join(CLASS_WORDS)}; `localstore ls` lists the runs,"
            " `localstore artifact ls` the artifacts",
        )
    if len(met) > 1:
        words = " or ".join(f"{one}:{wanted}" for one in met)
        raise UsageError(f"{item!r} stands for several things", hint=f"say {words}")
    return next(iter(met.values()))


# ------------------------------------------------------------------ one finder for each kind
def _file(word: str, projects: list[str]) -> Iterator[Asked]:
    placed = _PLACED.fullmatch(word)
    name = placed[2] if placed else word
    if _HEX.fullmatch(name):
        yield from _opaque(name, projects)
        return
    try:
        parse_name(name)
    except Damaged:
        return
    home = store.home_paths()
    for project in [placed[1]] if placed else projects:
        if placed is None and not home.project(project).file(name).exists():
            continue
        yield Asked(called=f"file {name}", project=project, items=(name,))


def _opaque(word: str, projects: list[str]) -> Iterator[Asked]:
    """Digits alone: a run's folder, a segment, an object, or a project."""
    home = store.home_paths()
    for project in projects:
        paths = home.project(project)
        if project == word:
            yield Asked(called=f"project {project[:16]}", project=project)
        elif (paths.runs / word).is_dir():
            yield Asked(called=f"run {word}", project=project, items=(word,))
        elif len(word) == 64 and (paths.objects / word[:2] / word).exists():
            yield _object(word, project)
        elif len(word) == 32:
            for log in paths.runs.glob(f"*/{word}.log"):
                name = f"runs/{log.parent.name}/{log.name}"
                yield Asked(called=f"file {name}", project=project, items=(name,))


def _object(word: str, project: str) -> Asked:
    name = object_name(bytes.fromhex(word))
    return Asked(called=f"object {word[:16]}", project=project, items=(name,))


def _class(word: str, projects: list[str]) -> Iterator[Asked]:
    if word in CLASS_WORDS:
        for project in projects:
            yield Asked(called=f"class {word}", project=project, items=(f"class:{word}",))


def _run(word: str, projects: list[str]) -> Iterator[Asked]:
    from localstore.projects import Projects

    api = _api()
    if api is None or word.count("/") > 2 or not all(word.split("/")):
        return
    try:
        run = api.run(word)
    except NotFound:
        return
    entity, name, _ = run.path.split("/", 2)
    for project in Projects(api.home, api.identity).named(entity, name):
        paths = project.paths
        if paths.id in projects and (paths.runs / run.subject).is_dir():
            yield Asked(called=f"run {run.path}", project=paths.id, items=(run.subject,))


def _artifact(word: str, projects: list[str]) -> Iterator[Asked]:
    from localstore.artifacts.names import parse_place
    from localstore.cli.artifact_found import find

    if _api() is None:
        return
    try:
        versioned = bool(parse_place(word).word)
        found = find(word)
    except (NotFound, UsageError, NotPermitted):
        return
    paths = found.project.paths
    project = paths.id
    if project not in projects:
        return
    subject = found.project.artifact_subject(found.state.name).hex()
    if not versioned:
        called = f"artifact {found.path.rpartition(':')[0]}"
        yield Asked(called=called, project=project, items=(subject,))
        return
    objects = {object_id for object_id, _ in found.version.manifests}
    with contextlib.suppress(NotFound):  # its list was pruned, or is on its way
        objects |= {part.object_id for entry in found.entries for part in entry.parts}
    own = {name for name in paths.names() if f"/{subject}/" in name and parse_name(name).kind.syncs}
    items = (*sorted(own), *sorted(map(object_name, objects)))
    yield Asked(called=f"artifact {found.path}", project=project, items=items)


def _project(word: str, projects: list[str]) -> Iterator[Asked]:
    try:
        ids = store.project_ids(word)
    except (NotFound, KeyUnavailable, NotPermitted):
        return
    names = store.project_names()
    for project in ids:
        if project in projects:
            yield Asked(called=f"project {names.get(project, project[:16])}", project=project)


def _api() -> Api | None:
    """None where nothing can be read without asking for a passphrase, or at all."""
    from localstore.query.api import Api

    vault = Vault(store.home_paths())
    if not vault.exists or vault.protected():
        return None
    try:
        api = Api()
    except (KeyUnavailable, NotPermitted, NotFound):
        return None
    return api if api.identity.is_member else None


_FINDERS: Final[dict[str, Callable[[str, list[str]], Iterator[Asked]]]] = {
    "file": _file,
    "class": _class,
    "run": _run,
    "artifact": _artifact,
    "project": _project,
}
