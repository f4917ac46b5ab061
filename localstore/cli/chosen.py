"""The projects that a command is about, each as far as the keys of this machine open it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from localstore.cli.context import home_paths, project_ids
from localstore.errors import Damaged, KeyUnavailable, LocalStoreError, NotFound, NotPermitted
from localstore.vault import Vault

if TYPE_CHECKING:
    from localstore.identity import Identity
    from localstore.layout import ProjectPaths
    from localstore.project import Project
    from localstore.trust import ProjectState


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """One project.

    Attributes:
        state: who may be believed in it; None when that cannot be read, see `problem`.
        project: open for reading; None without its keys.
        problem: why it cannot be read.
    """

    paths: ProjectPaths
    state: ProjectState | None = None
    project: Project | None = None
    problem: str = ""

    @property
    def name(self) -> str:
        """Entity and name; empty without keys."""
        return f"{self.project.entity}/{self.project.name}" if self.project else ""

    @property
    def label(self) -> str:
        """What to call it."""
        return self.name or self.paths.id[:16]


def chosen_projects(word: str | None) -> list[Chosen]:
    """All projects of this home, or the one that a name or an id stands for.

    No passphrase is asked for: with a protected key projects are known by their ids.

    Raises:
        NotFound: no such project here.
    """
    home = home_paths()
    wanted = None if word is None else set(project_ids(word))
    found = [paths for paths in home.all_projects() if wanted is None or paths.id in wanted]
    if wanted is not None and not found:
        raise NotFound(f"no project {word!r} in {home.root}")
    identity = _identity()
    return [_open(paths, identity) for paths in found]


def _identity() -> Identity | None:
    vault = Vault(home_paths())
    try:
        return None if vault.protected() or not vault.exists else vault.load()
    except (KeyUnavailable, NotPermitted):
        return None


def _open(paths: ProjectPaths, identity: Identity | None) -> Chosen:
    from localstore.project import Project
    from localstore.trust import read_project

    try:
        project = Project(paths, identity) if identity is not None else None
    except LocalStoreError:
        project = None  # somebody else's; if it is damaged the next lines say so
    if project is not None:
        return Chosen(
            paths=paths, state=project.state, project=project if project.can_read else None
        )
    try:
        return Chosen(paths=paths, state=read_project(paths))
    except Damaged as problem:
        return Chosen(paths=paths, problem=str(problem))
