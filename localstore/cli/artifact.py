"""`localstore artifact`: files under a name, in versions; its lists, and all facts of a version."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

import click

from localstore.cli import exit_status, terminal
from localstore.cli.artifact_edit import alias, rm, rm_alias
from localstore.cli.artifact_files import diff, get, verify
from localstore.cli.artifact_found import (
    count,
    document,
    file_document,
    file_row,
    find,
    path_of,
    problems_of,
    run_path,
)
from localstore.cli.artifact_put import put
from localstore.cli.context import home_paths
from localstore.cli.ls import age, flat, local_minute
from localstore.cli.rm import size_text
from localstore.cli.terminal import inert, short
from localstore.errors import Damaged, NotFound, UsageError

if TYPE_CHECKING:
    from localstore.artifacts.model import ArtifactState, Version
    from localstore.cli.artifact_found import Found
    from localstore.format.manifest import Entry
    from localstore.project import Project
    from localstore.query.api import Api, StoredRun

    Listed = tuple[Project, ArtifactState]

_DAMAGED: Final = 20
_FILES_SHOWN: Final = 10  # without --files
_FIRST: Final = "localstore artifact put PATH --name NAME"


@click.group()
def artifact() -> None:
    """Keep datasets, models and other files, in versions that never change.

    NAME is an artifact's name, PROJECT/NAME or ENTITY/PROJECT/NAME. NAME:v3 is one version, so is
    NAME:ALIAS; the latest one is meant where neither is given.
    """


for _command in (put, get, verify, diff, alias, rm_alias, rm):
    artifact.add_command(_command)


# ------------------------------------------------------------------ ls
@artifact.command(epilog=exit_status(0, 2, 11, 20, 66, 77), short_help="List artifacts.")
@click.argument("name", required=False)
@click.option("-p", "--project", help="Only of this project.")
@click.option("-t", "--type", "kind", help="Only of this type.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def ls(
    ctx: click.Context, name: str | None, project: str | None, kind: str | None, as_json: bool
) -> None:
    """List all artifacts, or the versions of NAME, newest first.

    Without NAME, SIZE is that of the latest version.
    """
    from localstore.query.api import Api
    from localstore.vault import Vault

    home = home_paths()
    # A store that is not there yet has no artifacts; asked for one of them, it has no key.
    there = Vault(home).exists or home.all_projects() or name is not None or project is not None
    api = Api() if there else None
    found = [] if api is None else _listed(api, name, project, kind)
    if as_json:
        terminal.say_json(_list_document(found, versions=name is not None))
    elif found:
        _print_list(found, versions=name is not None)
    else:
        terminal.note(f"no artifacts in {project or home.root}; to make one: {_FIRST}")
    if api is not None and terminal.warn_of_damage(api.problems):
        ctx.exit(_DAMAGED)


def _listed(api: Api, name: str | None, project: str | None, kind: str | None) -> list[Listed]:
    """The artifacts that are meant, in their projects, in order."""
    from localstore import settings
    from localstore.artifacts.reading import reader
    from localstore.projects import Projects

    own, where = _named(name, project)
    shown = api.artifacts(kind, path=where)  # checks the project's name, takes over newer keys
    wanted = {
        (one.entity, one.project, one.collection_name)
        for one in shown
        if own in (None, one.collection_name)
    }
    if own is not None and not wanted:
        raise NotFound(
            f"no artifact {name!r}" + (f" of type {kind!r}" if kind else ""),
            hint="`localstore artifact ls` lists the artifacts of this store",
        )
    found = [
        (place, state)
        for place in Projects(api.home, api.identity).all()
        for state in reader(place, settings.load().tail_dir).all()
        if (place.entity, place.name, state.name) in wanted
    ]
    return sorted(found, key=lambda one: path_of(one[0], one[1].name))


def _named(name: str | None, project: str | None) -> tuple[str | None, str | None]:
    """The artifact's own name, and `[entity/]project`; None for any."""
    from localstore.artifacts.names import parse_place

    if name is None:
        return None, project
    place = parse_place(name)
    if place.word:
        raise UsageError(
            f"{name!r} is one version", hint=f"`localstore artifact show {name}` shows it"
        )
    if project is not None and place.project:
        raise UsageError(f"{name!r} names a project, and so does --project")
    return place.name, "/".join(filter(None, (place.entity, place.project))) or project


def _list_document(found: list[Listed], *, versions: bool) -> dict[str, Any]:
    if versions:
        all_of_them = [
            document(project, state.name, version)
            for project, state in found
            for version in reversed(state.versions)
        ]
        return {"versions": all_of_them}
    return {
        "artifacts": [
            {
                "path": path_of(project, state.name),
                "entity": project.entity,
                "project": project.name,
                "name": state.name,
                "type": _latest(state).type,
                "versions": len(state.versions),
                "size": _latest(state).size,
                "latest": _latest(state).label,
                "updated_at": document(project, state.name, _latest(state))["created_at"],
            }
            for project, state in found
        ]
    }


def _latest(state: ArtifactState) -> Version:
    return state.latest or state.versions[-1]


def _print_list(found: list[Listed], *, versions: bool) -> None:
    """One table for each project, or for each artifact whose versions are asked for."""
    groups = [
        (name, list(group)) for name, group in itertools.groupby(found, lambda one: _title(*one))
    ]
    if versions:
        groups = [(path_of(project, state.name), [(project, state)]) for project, state in found]
    for at, (title, group) in enumerate(groups):
        if len(groups) > 1:
            click.echo(("\n" if at else "") + inert(title))
        rows = _version_rows(group[0][1]) if versions else _artifact_rows(group)
        click.echo(terminal.columns(rows))


def _title(project: Project, _state: ArtifactState) -> str:
    return f"{project.entity}/{project.name}"


def _when(version: Version) -> str:
    show_time = age if terminal.on_terminal() else local_minute
    return show_time(version.created_us / 1e6)


def _artifact_rows(found: list[Listed]) -> list[list[str]]:
    rows = [["NAME", "TYPE", "VERSIONS", "LATEST", "SIZE", "LOGGED"]]
    for _, state in found:
        latest = _latest(state)
        facts = [str(len(state.versions)), latest.label, size_text(latest.size), _when(latest)]
        rows.append([short(state.name, 60), short(latest.type), *facts])
    return rows


def _version_rows(state: ArtifactState) -> list[list[str]]:
    titles = ["VERSION", "ALIASES", "TAGS", "SIZE", "FILES", "DIGEST", "LOGGED", "RUN"]
    rows = [
        [
            version.label,
            short(", ".join(version.aliases) or "-", 40),
            short(", ".join(version.tags) or "-", 40),
            size_text(version.size),
            str(version.files),
            version.digest.hex()[:12],
            _when(version),
            short(version.runs[0].id if version.runs else "-", 40),
        ]
        for version in reversed(state.versions)
    ]
    return [titles, *rows]


# ------------------------------------------------------------------ show
@artifact.command(epilog=exit_status(0, 2, 11, 20, 66, 77), short_help="Show one version.")
@click.argument("name", metavar="NAME[:ALIAS]")
@click.option(
    "--files", "all_files", is_flag=True, help=f"All files, not the first {_FILES_SHOWN}."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def show(ctx: click.Context, name: str, all_files: bool, as_json: bool) -> None:
    """Show a version: its facts, the run that logged it, the runs that used it, its files.

    With --json, the files are part of the document where --files asks for them.
    """
    found = find(name)
    used_by = _artifact(found).used_by()
    problems = problems_of(found)
    entries: list[Entry] = []
    if all_files or not as_json:
        try:
            entries = found.entries
        except (NotFound, Damaged) as problem:
            problems.append(f"the list of its files: {problem}")
    if as_json:
        terminal.say_json(_show_document(found, used_by, entries if all_files else None))
    else:
        _print_facts(found, used_by)
        _print_files(entries, all_files=all_files)
    if terminal.warn_of_damage(problems):
        ctx.exit(_DAMAGED)


def _artifact(found: Found) -> Any:
    from localstore.sdk.artifact import Artifact

    return Artifact.of(found.project, found.state.name, found.version, found.options)


def _show_document(
    found: Found, used_by: list[StoredRun], entries: list[Entry] | None
) -> dict[str, Any]:
    facts = document(found.project, found.state.name, found.version)
    facts["used_by"] = [run.path for run in used_by]
    if entries is not None:
        facts["entries"] = [file_document(entry) for entry in entries]
    return facts


def _print_facts(found: Found, used_by: list[StoredRun]) -> None:
    version = found.version
    expires = version.expires_us
    rows = {
        "artifact": inert(found.path),
        "type": inert(version.type),
        "digest": version.digest.hex(),
        "also": ", ".join(version.labels[1:]),
        "aliases": inert(", ".join(version.aliases)),
        "tags": inert(", ".join(version.tags)),
        "size": f"{size_text(version.size)} in {count(version.files, 'file')}",
        "logged": local_minute(version.created_us / 1e6),
        "expires": "" if expires is None else local_minute(expires / 1e6),
        "description": inert(version.description),
        "logged by": inert(", ".join(map(run_path, version.runs))) or "no run",
        "used by": inert(", ".join(run.path for run in used_by)) or "no run",
        "flags": inert(", ".join(version.flags)),
    }
    click.echo(terminal.columns([[title, value] for title, value in rows.items() if value]))
    if version.metadata:
        values = [
            [inert(key), short(one, 60)] for key, one in sorted(flat(version.metadata).items())
        ]
        click.echo(f"\nmetadata\n{terminal.columns(values, indent='  ')}")


def _print_files(entries: list[Entry], *, all_files: bool) -> None:
    shown = entries if all_files else entries[:_FILES_SHOWN]
    if shown:
        rows = [file_row(entry) for entry in shown]
        click.echo(f"\nfiles\n{terminal.columns(rows, indent='  ')}")
    if len(shown) < len(entries):
        click.echo(f"  and {len(entries) - len(shown):,} more: --files")
