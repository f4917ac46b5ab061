"""What a person means by runs and artifacts, as the key-free parts that prune and pull take it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from localstore.artifacts.names import parse_place
from localstore.artifacts.reading import reader
from localstore.errors import NotFound, UsageError
from localstore.projects import Projects

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from localstore.artifacts.model import Version
    from localstore.project import Project
    from localstore.query.api import Api, StoredRun


@dataclass(slots=True, kw_only=True)
class Parts:
    """Ids in hex.

    Attributes:
        projects: ids. subjects: runs and artifacts.
        writers: (subject, writer id): what one process wrote of an artifact.
    """

    projects: set[str] = field(default_factory=set)
    subjects: set[str] = field(default_factory=set)
    writers: set[tuple[str, str]] = field(default_factory=set)

    def add_run(self, run: StoredRun, project: Project) -> None:
        """A run, and the versions that it logged."""
        self.projects.add(project.paths.id)
        self.subjects.add(run.subject)
        for name, version in _versions(project):
            if any(one.id == run.id and one.project in ("", run.project) for one in version.runs):
                self._add_version(project, name, version)

    def add_latest(self, project: Project, count: int) -> None:
        """The newest versions of each artifact of a project."""
        for state in reader(project).all():
            for version in sorted(state.versions, key=lambda one: one.created_us)[-count:]:
                self._add_version(project, state.name, version)

    def add_artifact(self, project: Project, name: str, word: str) -> None:
        """All of an artifact, or with a word one version.

        Raises:
            NotFound: there is none.
        """
        state = reader(project).read(name)
        if not state.versions:
            raise NotFound(f"no artifact {name!r} in project {project.name!r}")
        self.projects.add(project.paths.id)
        if word:
            self._add_version(project, name, state.find(word))
        else:
            self.subjects.add(project.artifact_subject(name).hex())

    def _add_version(self, project: Project, name: str, version: Version) -> None:
        subject = project.artifact_subject(name).hex()
        self.writers |= {(subject, writer.hex()) for writer in version.writers}


def _versions(project: Project) -> Iterator[tuple[str, Version]]:
    for state in reader(project).all():
        for version in state.versions:
            yield state.name, version


def of_runs(api: Api, names: Iterable[str]) -> Parts:
    """Some runs, with the versions of artifacts that they logged.

    Raises:
        NotFound, UsageError: as `Api.run`.
    """
    parts = Parts()
    for run in map(api.run, names):
        parts.add_run(run, _project_of(api, run))
    return parts


def newest(api: Api, count: int, project: str | None = None) -> Parts:
    """The newest runs of each project, what they logged, and the newest versions of artifacts.

    Args:
        project: name; None: all.
    """
    parts = Parts()
    by_project: dict[str, list[StoredRun]] = {}
    for run in api.runs(project):
        by_project.setdefault(f"{run.entity}/{run.project}", []).append(run)
    for runs in by_project.values():
        for run in runs[:count]:
            parts.add_run(run, _project_of(api, run))
    for one in _projects(api, project):
        parts.add_latest(one, count)
    return parts


def of_targets(api: Api, targets: Sequence[str]) -> Parts:
    """Runs, artifacts (`model`, `model:v3`) or whole projects, which have no other parts.

    Raises:
        NotFound: there is nothing of that name.
        UsageError: it names several, or projects and their parts are mixed.
    """
    parts, whole = Parts(), set[str]()
    for target in targets:
        if not (_add_run(parts, api, target) or _add_artifact(parts, api, target)):
            whole |= {one.paths.id for one in _named(api, target)}
    if not whole:
        return parts
    if parts.projects:
        raise UsageError("whole projects and single runs are two commands")
    return Parts(projects=whole)


def _add_run(parts: Parts, api: Api, target: str) -> bool:
    try:
        run = api.run(target)
    except NotFound:
        return False
    parts.add_run(run, _project_of(api, run))
    return True


def _add_artifact(parts: Parts, api: Api, target: str) -> bool:
    place = parse_place(target)
    path = "/".join(part for part in (place.entity, place.project) if part)
    found = False
    try:
        projects = _projects(api, path or None)
    except NotFound:
        return False
    for project in projects:
        if reader(project).read(place.name).versions:
            parts.add_artifact(project, place.name, place.word if ":" in target else "")
            found = True
    return found


def _named(api: Api, target: str) -> list[Project]:
    try:
        return _projects(api, target)
    except NotFound:
        hint = "`localstore ls` lists the runs of this store"
        raise NotFound(f"no run, artifact or project {target!r}", hint=hint) from None


def _projects(api: Api, path: str | None) -> list[Project]:
    wanted = None if path is None else path.split("/")
    found = [
        one
        for one in Projects(api.home, api.identity).all()
        if wanted is None or [one.entity, one.name][-len(wanted) :] == wanted
    ]
    if path is not None and not found:
        raise NotFound(f"no project {path!r} in {api.home.root}")
    return found


def _project_of(api: Api, run: StoredRun) -> Project:
    known = {one.paths.id: one for one in Projects(api.home, api.identity).all()}
    return known[run.project_id]
