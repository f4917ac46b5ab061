"""`localstore artifact put`: files as a version of an artifact, without a run."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from localstore.cli import exit_status, terminal
from localstore.cli.artifact_found import bar, count, document, path_of
from localstore.cli.context import home_paths
from localstore.cli.filters import json_or_text
from localstore.cli.rm import size_text
from localstore.cli.terminal import inert
from localstore.errors import UsageError

if TYPE_CHECKING:
    from localstore.artifacts.draft import Draft
    from localstore.artifacts.model import ArtifactState
    from localstore.artifacts.names import Place
    from localstore.artifacts.references import FileReference
    from localstore.artifacts.writing import Logged, Request
    from localstore.format.manifest import Entry
    from localstore.project import Project
    from localstore.settings import Settings

_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_LATEST: Final = "latest"
_MOST_METADATA_BYTES: Final = 64 * 1024 * 1024  # that are read; the store takes less


@click.command(epilog=exit_status(0, 2, 11, 66, 74, 77), short_help="Store files as a version.")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path())
@click.option("-n", "--name", required=True, metavar="[PROJECT/]NAME", help="The artifact's name.")
@click.option("-t", "--type", "kind", help="Such as dataset or model; default the type it has.")
@click.option("-a", "--alias", "aliases", multiple=True, help="Beside `latest`; several may be.")
@click.option("--tag", "tags", multiple=True, help="A tag of this version; several may be.")
@click.option("--description", help="Free text.")
@click.option(
    "-m",
    "--metadata",
    multiple=True,
    metavar="KEY=VALUE|@FILE",
    help="VALUE is JSON or a text; FILE holds a JSON object. Several may be.",
)
@click.option("-p", "--project", help="Default from the settings.")
@click.option("--rehash", is_flag=True, help="Read every file, also those that look unchanged.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def put(
    paths: tuple[str, ...],
    name: str,
    kind: str | None,
    aliases: tuple[str, ...],
    tags: tuple[str, ...],
    description: str | None,
    metadata: tuple[str, ...],
    project: str | None,
    rehash: bool,
    as_json: bool,
) -> None:
    """Store PATHs as a version of the artifact NAME; what the store has already takes no space.

    The files of a single folder stand at the top of the version; of several PATHs each keeps its
    own name. A URI (s3://, gs://, https://, file://) is a reference: it is named, and its content
    stays where it is.

    \b
      localstore artifact put data/ --name digits/mnist --type dataset --alias clean
      localstore artifact put model.pt --name model --metadata accuracy=0.98
    """
    from localstore.artifacts.finding import open_project

    # Everything that a typing error can break is looked at before a project is made.
    place, values = _place(name, project), read_metadata(metadata)
    request = _request(place, kind, aliases, tags, description, values)
    draft = collect(paths)
    had_key = _has_key()
    where, options = open_project(place.project or project, place.entity or None)
    if not had_key:
        terminal.note("made your key; back it up: localstore key recovery-code")
    before = _known(where, place.name, options)
    request = replace(request, type=_type(before, kind))
    logged = _log(where, request, draft, options, rehash=rehash, hidden=as_json)
    if not logged.fresh:
        logged = _described(where, place.name, logged, options, description, values)
    if as_json:
        terminal.say_json(_document(where, place.name, logged))
        return
    click.echo(_line(where, place.name, logged))
    _say_what_moved(before, logged)


def _log(
    project: Project,
    request: Request,
    draft: Draft,
    options: Settings,
    *,
    rehash: bool,
    hidden: bool,
) -> Logged:
    from localstore.artifacts.writing import Logging

    with bar(request.name, hidden=hidden) as advance:
        return Logging(
            project,
            request,
            draft,
            options,
            warn=terminal.warning,
            progress=advance,
            rehash=rehash,
        ).run()


# ------------------------------------------------------------------ what is to be put
def _place(name: str, project: str | None) -> Place:
    from localstore.artifacts.names import parse_place

    place = parse_place(name)
    if place.word:
        raise UsageError(
            "a new version gets its number from the store", hint=f"--alias {place.word}"
        )
    if project is not None and place.project not in ("", project):
        raise UsageError(f"--name says project {place.project!r}, --project says {project!r}")
    return place


def _request(
    place: Place,
    kind: str | None,
    aliases: tuple[str, ...],
    tags: tuple[str, ...],
    description: str | None,
    metadata: dict[str, Any],
) -> Request:
    from localstore.artifacts.run import UNSPECIFIED
    from localstore.artifacts.writing import Request
    from localstore.sdk.artifact import Artifact

    checked = Artifact(place.name, kind or UNSPECIFIED, description, metadata)
    return Request(
        name=place.name,
        type=checked.type,
        description=checked.description,
        metadata=checked.metadata,
        aliases=aliases,
        tags=tags,
    )


def read_metadata(given: tuple[str, ...]) -> dict[str, Any]:
    """What `--metadata` says, later words over earlier ones.

    Raises:
        UsageError: neither KEY=VALUE nor @FILE; a file that holds no JSON object.
        NotFound, NotPermitted: no such file, or it cannot be read.
    """
    values: dict[str, Any] = {}
    for text in given:
        if text.startswith("@"):
            values |= _from_file(Path(text[1:]))
            continue
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"metadata {text!r} is neither KEY=VALUE nor @FILE")
        values[key] = json_or_text(value)
    return values


def _from_file(file: Path) -> dict[str, Any]:
    from localstore.artifacts.draft import read_file

    try:
        found = json.loads(read_file(file, _MOST_METADATA_BYTES))
    except ValueError as error:
        raise UsageError(f"{str(file)!r} holds no JSON: {error}") from None
    if not isinstance(found, dict):
        raise UsageError(f"{str(file)!r} holds {type(found).__name__}, want a JSON object")
    return found


def collect(paths: tuple[str, ...]) -> Draft:
    """Files, folders and references under the names that they get in the version.

    Raises:
        UsageError, NotFound, NotPermitted: a path that is missing, unreadable, no regular file and
            no folder; two of one name.
    """
    from localstore.artifacts.draft import Draft

    draft, taken, alone = Draft(), set[str](), len(paths) == 1
    for given in paths:
        if _URI.match(given):
            name, reference = _reference(given)
            name = name or ("" if alone else _own_name(Path(given)))
            _take(taken, name)
            draft.add_reference(name, reference)
            continue
        file = Path(given)
        name = _own_name(file)
        _take(taken, name)
        if file.is_dir():
            draft.add_folder(file, "" if alone else name)
        else:
            draft.add_file(file, name, snapshot=False)
    return draft


def _reference(uri: str) -> tuple[str, Entry | FileReference]:
    """Name and what stands there; hints for scripts are no help on a command line."""
    from localstore.artifacts.references import read_reference

    try:
        return read_reference(uri, None, True, None, None)
    except UsageError as problem:
        raise UsageError(str(problem), hint="want for example s3://bucket/train.tar") from None


def _own_name(path: Path) -> str:
    """The last part of a path, also of `.` and `..`."""
    return path.name if path.name not in ("", "..") else path.resolve().name


def _take(taken: set[str], name: str) -> None:
    if name in taken:
        raise UsageError(
            f"two of the paths are called {name!r}", hint="put the folder that holds both"
        )
    taken.add(name)


# ------------------------------------------------------------------ the store before
def _has_key() -> bool:
    from localstore.vault import Vault

    return Vault(home_paths()).exists


def _known(project: Project, name: str, options: Settings) -> ArtifactState | None:
    """The artifact as it was; None where nobody may know, or there was none."""
    from localstore.artifacts.reading import reader

    if not project.can_read:
        return None
    state = reader(project, options.tail_dir).read(name)
    return state if state.versions else None


def _type(before: ArtifactState | None, kind: str | None) -> str:
    from localstore.artifacts.run import UNSPECIFIED

    latest = before.latest if before else None
    if before is None or latest is None:
        return kind or UNSPECIFIED
    if kind not in (None, latest.type):
        raise UsageError(
            f"artifact {before.name!r} is of type {latest.type!r}, not {kind!r}",
            hint="another name, or no --type",
        )
    return latest.type


def _described(
    project: Project,
    name: str,
    logged: Logged,
    options: Settings,
    description: str | None,
    metadata: dict[str, Any],
) -> Logged:
    """What was said of content that was there already."""
    from localstore.sdk.artifact import Artifact

    artifact = Artifact.of(project, name, logged.version, options)
    artifact.description = artifact.description if description is None else description
    artifact.metadata = {**artifact.metadata, **metadata}
    artifact.save()
    version = replace(logged.version, description=artifact.description, metadata=artifact.metadata)
    return replace(logged, version=version)


# ------------------------------------------------------------------ the result
def _line(project: Project, name: str, logged: Logged) -> str:
    version = logged.version
    # Which number it has is known where all of the artifact's versions can be read.
    path = path_of(project, name, version if project.can_read else None)
    size = f"{size_text(version.size)} in {count(version.files, 'file')}"
    new = f"{size_text(logged.new_bytes)} new" if logged.fresh else "the same as before"
    return f"{inert(path)} ({version.digest.hex()[:12]}) {size}, {new}"


def _say_what_moved(before: ArtifactState | None, logged: Logged) -> None:
    """An alias that another version had."""
    for alias in logged.version.aliases:
        old = before.get(before.aliases[alias]) if before and alias in before.aliases else None
        usual = alias == _LATEST and logged.fresh
        if old is not None and old.digest != logged.version.digest and not usual:
            terminal.note(f"{alias} names {logged.version.label} now; it was {old.label}")


def _document(project: Project, name: str, logged: Logged) -> dict[str, Any]:
    facts = document(project, name, logged.version)
    if not project.can_read:
        facts |= {"name": name, "path": path_of(project, name), "version": None}
    news = {"fresh": logged.fresh, "new_bytes": logged.new_bytes, "changed": list(logged.changed)}
    return {**facts, **news}
