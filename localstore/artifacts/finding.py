"""Finds artifacts by `[[entity/]project/]name:word`, in one project or in all of a home."""

from __future__ import annotations

from typing import TYPE_CHECKING

from localstore import settings
from localstore.artifacts.names import Place, parse_place
from localstore.artifacts.reading import reader
from localstore.errors import Damaged, LocalStoreError, NotFound, UsageError
from localstore.layout import HomePaths
from localstore.projects import Projects
from localstore.sdk.artifact import Artifact
from localstore.vault import open_or_create

if TYPE_CHECKING:
    from collections.abc import Iterable

    from localstore.artifacts.model import ArtifactState, Version
    from localstore.errors import StoreError
    from localstore.project import Project
    from localstore.query.info import Lineage
    from localstore.settings import Settings


def stored(project: Project, state: ArtifactState, version: Version, options: Settings) -> Artifact:
    """A version as people handle it."""
    return Artifact.of(project, state.name, version, options)


def find_from(project: Project, place: Place, options: Settings) -> Artifact:
    """What a run in `project` means by a name: its own project's, where it names no other.

    Raises:
        NotFound: no such project, artifact or version.
        NotPermitted: a machine that may only write.
    """
    own = place.project in ("", project.name) and place.entity in ("", project.entity)
    home = Projects(HomePaths(options.home_path), project.identity)
    projects = [project] if own else home.named(place.entity, place.project)
    try:
        return find_in(projects, place, options)
    except NotFound as problem:
        if place.project or _has(project, place.name, options):
            raise
        other = next((one for one in list(home.all()) if _has(one, place.name, options)), None)
        if other is None:
            raise
        raise NotFound(
            f"no artifact {place.name!r} in project {project.name!r}",
            hint=f"project {other.name!r} has one: {other.name}/{place.name}",
        ) from problem


def _has(project: Project, name: str, options: Settings) -> bool:
    try:
        return bool(reader(project, options.tail_dir).read(name).versions)
    except LocalStoreError:
        return False


def find_in(projects: Iterable[Project], place: Place, options: Settings) -> Artifact:
    """The version that a place names in one of some projects.

    Raises:
        NotFound: none of them has it.
        UsageError: several have it.
        NotPermitted: a machine that may only write.
    """
    found = []
    missing: NotFound | None = None
    for project in projects:
        state = reader(project, options.tail_dir).read(place.name)
        if not state.versions:
            continue
        try:
            found.append(stored(project, state, state.find(place.word), options))
        except NotFound as problem:
            missing = missing or problem
    if len({one.qualified_name for one in found}) > 1:
        names = ", ".join(sorted(one.qualified_name for one in found))
        raise UsageError(f"{place.name!r} fits several artifacts: {names}")
    if not found:
        where = f" in project {place.project!r}" if place.project else ""
        raise missing or NotFound(
            f"no artifact {place.name!r}{where}",
            hint="`localstore artifact ls` lists the artifacts of this store",
        )
    return found[0]


def find(projects: Iterable[Project], text: str, type: str | None, options: Settings) -> Artifact:
    """`find_in` of a text, with its type checked.

    Raises:
        NotFound, UsageError, NotPermitted: see `find_in`; also another type.
    """
    found = find_in(projects, parse_place(text), options)
    if type is not None and found.type != type:
        raise UsageError(f"artifact {found.name!r} is of type {found.type!r}, not {type!r}")
    return found


def list_versions(
    projects: Iterable[Project],
    options: Settings,
    problems: list[StoreError],
    *,
    type: str | None = None,
    name: str | None = None,
) -> list[Artifact]:
    """All versions of one name, newest first; without a name the latest version of each."""
    out: list[Artifact] = []
    for project in projects:
        read = reader(project, options.tail_dir)
        states = read.all() if name is None else [read.read(name)]
        for state in states:
            versions = [state.latest] if name is None else list(reversed(state.versions))
            out += (
                stored(project, state, version, options)
                for version in versions
                if version is not None and type in (None, version.type)
            )
        problems += (_in_project(project, problem) for problem in read.problems.values())
    return out


def find_linked(project: Project, links: Iterable[Lineage], options: Settings) -> list[Artifact]:
    """The versions that a run of `project` named, where they are here."""
    home = HomePaths(options.home_path)
    known: dict[tuple[str, str], list[Project]] = {(project.entity, project.name): [project]}
    out = []
    for link in links:
        where = (link.entity, link.project)
        if where not in known:
            known[where] = Projects(home, project.identity).named(*where)
        for place in known[where]:
            state = reader(place, options.tail_dir).read(link.name)
            version = state.get(link.digest)
            if version is not None:
                out.append(stored(place, state, version, options))
                break
    return out


def open_project(project: str | None, entity: str | None) -> tuple[Project, Settings]:
    """The project to which a script without a run saves; made if there is none.

    Raises:
        UsageError: a name breaks the rules.
        NotFound: a deposit-only machine without a ticket for it.
    """
    options = settings.load({"project": project, "entity": entity})
    home = HomePaths(options.home_path)
    identity, _ = open_or_create(home, options)
    found, _ = Projects(home, identity).open_or_create(options.entity, options.project)
    return found, options


def _in_project(project: Project, problem: Damaged) -> Damaged:
    folder = f"projects/{project.paths.id}/"
    return problem if problem.file.startswith(folder) else problem.at(folder + problem.file)
