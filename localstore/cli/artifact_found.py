"""What the artifact commands share: versions by name, their facts, a bar for bytes that move."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from localstore import settings
from localstore.cli.ls import iso
from localstore.cli.rm import size_text
from localstore.cli.terminal import inert
from localstore.errors import NotFound, Pruned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from localstore.artifacts.model import ArtifactState, RunRef, Version
    from localstore.format.manifest import Entry
    from localstore.project import Project
    from localstore.query.api import Api
    from localstore.settings import Settings


class Advance(Protocol):
    """Moves a bar: bytes done since the last call, and bytes in all where that is news."""

    def __call__(self, done: int, total: int | None = None, /) -> None:
        """Move it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One version, its artifact, and the project that it stands in."""

    api: Api
    options: Settings
    project: Project
    state: ArtifactState
    version: Version

    @property
    def name(self) -> str:
        """`model:v3`."""
        return f"{self.state.name}:{self.version.label}"

    @property
    def path(self) -> str:
        """`entity/project/model:v3`."""
        return path_of(self.project, self.state.name, self.version)

    @property
    def entries(self) -> list[Entry]:
        """Its files and references, by path.

        Raises:
            NotFound: their list has not arrived here; Pruned: it was pruned.
            Damaged: it is not the list of this version.
        """
        from localstore.artifacts.entries import read_entries

        try:
            return read_entries(self.project, self.version)
        except Pruned as problem:
            raise self.pruned(problem) from None

    def pruned(self, problem: Pruned) -> Pruned:
        """The same trouble in the words of whoever asked for this version."""
        where = str(problem).rpartition("; ")[2]
        return Pruned(
            f"contents of {self.path} were pruned here; {where}",
            hint=f"`localstore pull {self.path}` brings them back",
        )

    def again(self) -> Found:
        """The same version as the store has it now."""
        return found_in(self.api, self.project, self.state.name, self.version.digest, self.options)


def find(text: str, api: Api | None = None) -> Found:
    """The version that `[[ENTITY/]PROJECT/]NAME[:ALIAS]` names; the latest without ALIAS.

    Raises:
        NotFound: there is none.
        UsageError: several projects have one, or that names no artifact.
        NotPermitted: a machine that may only write.
    """
    from localstore.projects import Projects
    from localstore.query.api import Api

    api = api or Api()
    artifact = api.artifact(text)
    digest, options = bytes.fromhex(artifact.digest), settings.load()
    # The Api has taken over newer keys by now.
    for project in Projects(api.home, api.identity).named(artifact.entity, artifact.project):
        try:
            return found_in(api, project, artifact.collection_name, digest, options)
        except NotFound:
            continue
    raise NotFound(f"artifact {artifact.qualified_name!r} was deleted just now")


def found_in(api: Api, project: Project, name: str, digest: bytes, options: Settings) -> Found:
    """A version by its digest.

    Raises:
        NotFound: the artifact has none of this content.
    """
    from localstore.artifacts.reading import reader

    state = reader(project, options.tail_dir).read(name)
    version = state.get(digest)
    if version is None:
        raise NotFound(f"artifact {name!r} has no version {digest.hex()[:12]}")
    return Found(api=api, options=options, project=project, state=state, version=version)


def problems_of(found: Found) -> list[str]:
    """Damage that was met in the logs of artifacts of its project."""
    from localstore.artifacts.reading import reader
    from localstore.query.listing import in_project

    met = reader(found.project, found.options.tail_dir).problems.values()
    return [str(in_project(found.project, problem)) for problem in met]


# ------------------------------------------------------------------ facts
def path_of(project: Project, name: str, version: Version | None = None) -> str:
    """`entity/project/model:v3`; without a version `entity/project/model`."""
    label = f":{version.label}" if version else ""
    return f"{project.entity}/{project.name}/{name}{label}"


def run_path(run: RunRef) -> str:
    """`entity/project/id`."""
    return f"{run.entity}/{run.project}/{run.id}"


def document(project: Project, name: str, version: Version) -> dict[str, Any]:
    """All that is known of a version without its files, as plain values."""
    expires_us = version.expires_us
    return {
        "name": f"{name}:{version.label}",
        "path": path_of(project, name, version),
        "entity": project.entity,
        "project": project.name,
        "artifact": name,
        "version": version.label,
        "digest": version.digest.hex(),
        "type": version.type,
        "aliases": list(version.aliases),
        "tags": list(version.tags),
        "size": version.size,
        "files": version.files,
        "created_at": iso(version.created_us / 1e6),
        "expires_at": None if expires_us is None else iso(expires_us / 1e6),
        "description": version.description,
        "metadata": version.metadata,
        "runs": [run_path(run) for run in version.runs],
        "flags": list(version.flags),
    }


def file_document(entry: Entry) -> dict[str, Any]:
    """One file or reference; size and hash are None where nobody knows them."""
    return {
        "path": entry.path,
        "size": entry.size,
        "hash": entry.hash.hex() or None,
        "reference": entry.uri or None,
    }


def file_row(entry: Entry) -> list[str]:
    """The same for people: size, path, and where a reference leads."""
    size = "?" if entry.size is None else size_text(entry.size)
    return [size, inert(entry.path) + (f" -> {inert(entry.uri)}" if entry.uri else "")]


def count(number: int, what: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number} {what}{'s' * (number != 1)}"


# ------------------------------------------------------------------ progress
@contextmanager
def bar(title: str, total: int | None = None, *, hidden: bool = False) -> Iterator[Advance]:
    """A bar on stderr while bytes move: how many, how fast, how long still.

    `total` may become known later. Nothing is shown where stderr is no terminal, with `--quiet`,
    or when `hidden`.
    """
    if hidden or sys.stderr is None or not sys.stderr.isatty() or settings.load().quiet:
        yield _nobody_watches
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(inert(title), total=total)

        def advance(done: int, total: int | None = None) -> None:
            progress.update(task, advance=done, total=total)

        yield advance


def _nobody_watches(_done: int, _total: int | None = None) -> None:
    """No terminal, no bar."""
