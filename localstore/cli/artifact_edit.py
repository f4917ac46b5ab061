"""`localstore artifact alias`, `rm-alias` and `rm`: what of a stored version may change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from localstore.cli import exit_status, terminal
from localstore.cli.artifact_found import count, document, find
from localstore.cli.ls import local_minute
from localstore.cli.rm import size_text
from localstore.cli.terminal import inert
from localstore.errors import NotFound, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from localstore.cli.artifact_found import Found
    from localstore.project import Project
    from localstore.store.gc import Report

_LATEST: Final = "latest"
_ROWS: Final = 20  # versions that a question names


# ------------------------------------------------------------------ aliases
@click.command(epilog=exit_status(0, 2, 11, 66, 74, 77), short_help="Give a version aliases.")
@click.argument("name", metavar="NAME:VERSION")
@click.argument("aliases", nargs=-1, required=True, metavar="ALIAS...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def alias(name: str, aliases: tuple[str, ...], as_json: bool) -> None:
    """Let each ALIAS name this version; one that names another version moves."""
    from localstore.artifacts.names import check_alias

    for one in aliases:
        check_alias(one)
    found = find(name)
    old = {one: found.state.aliases.get(one) for one in aliases}
    moved = [one for one, digest in old.items() if digest != found.version.digest]
    if moved:
        _edit_aliases(found, dict.fromkeys(moved, found.version.digest))
    _say_aliases(found.again(), as_json)
    for one in moved:
        before = found.state.get(old[one] or b"")
        if before is not None:
            terminal.note(f"{one} named {before.label} before")


@click.command("rm-alias", epilog=exit_status(0, 2, 11, 66, 74, 77), short_help="Remove aliases.")
@click.argument("name")
@click.argument("aliases", nargs=-1, required=True, metavar="ALIAS...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def rm_alias(name: str, aliases: tuple[str, ...], as_json: bool) -> None:
    """Let each ALIAS of the artifact NAME name no version any more; the versions stay."""
    from localstore.artifacts.names import parse_place

    if parse_place(name).word:
        raise UsageError(
            f"{name!r} is one version", hint="an alias belongs to the artifact: NAME ALIAS..."
        )
    if _LATEST in aliases:
        raise UsageError(
            "every artifact has a latest version",
            hint=f"`localstore artifact alias {name}:VERSION latest` says which",
        )
    found = find(name)
    for one in aliases:
        if one not in found.state.aliases:
            there = ", ".join(found.state.aliases)
            raise NotFound(f"artifact {name!r} has no alias {one!r}", hint=f"it has {there}")
    targets = {one: found.state.aliases[one] for one in aliases}
    _edit_aliases(found, dict.fromkeys(aliases))
    if as_json:
        labels = {one: _label(found, digest) for one, digest in targets.items()}
        terminal.say_json({"path": found.path.rpartition(":")[0], "removed": labels})
        return
    for one, digest in targets.items():
        click.echo(f"{inert(one)}  removed from {_label(found, digest)}")


def _label(found: Found, digest: bytes) -> str:
    version = found.state.get(digest)
    return version.label if version else digest.hex()[:12]


def _edit_aliases(found: Found, aliases: dict[str, bytes | None] | dict[str, bytes]) -> None:
    from localstore.artifacts import editing

    operation = {"aliases": aliases}
    editing.edit(found.project, found.state.name, operation, found.options, terminal.warning)


def _say_aliases(found: Found, as_json: bool) -> None:
    if as_json:
        terminal.say_json(document(found.project, found.state.name, found.version))
    else:
        click.echo(f"{inert(found.path)}  {inert(', '.join(found.version.aliases))}")


# ------------------------------------------------------------------ rm
@click.command(epilog=exit_status(0, 2, 11, 20, 66, 74, 77), short_help="Delete versions.")
@click.argument("names", nargs=-1, required=True, metavar="NAME[:VERSION]...")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def rm(names: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Delete a version, or all versions of an artifact where NAME alone is given.

    A deleted version is gone on every machine that syncs; its number is not given again. Content
    that other versions have stays. `localstore gc` then frees the space.
    """
    chosen = _chosen(names)
    if not (yes or _agreed(chosen)):
        raise UsageError("nothing was deleted")
    for versions in _by_artifact(chosen):
        _delete(versions)
    projects = {one.project.paths.id: one.project for one in chosen}
    reports = [_unused(project) for project in projects.values()]
    if as_json:
        _say_json(chosen, reports)
        return
    for one in chosen:
        click.echo(f"{inert(one.path)}  deleted")
    for project, report in zip(projects.values(), reports, strict=True):
        _say_what_gc_frees(project, report)


def _chosen(names: Sequence[str]) -> list[Found]:
    """All are found before one is touched: a typing error in the last name deletes nothing."""
    from dataclasses import replace

    from localstore.artifacts.names import parse_place
    from localstore.query.api import Api

    api = Api()
    chosen: dict[tuple[str, bytes], Found] = {}
    for name in names:
        found = find(name, api)
        whole = not parse_place(name).word
        for version in found.state.versions if whole else (found.version,):
            one = replace(found, version=version)
            chosen[one.path, version.digest] = one
    return list(chosen.values())


def _by_artifact(chosen: Iterable[Found]) -> list[list[Found]]:
    groups: dict[tuple[str, str], list[Found]] = {}
    for one in chosen:
        groups.setdefault((one.project.paths.id, one.state.name), []).append(one)
    return list(groups.values())


def _delete(versions: list[Found]) -> None:
    from localstore.artifacts import editing

    first = versions[0]
    digests = [one.version.digest for one in versions]
    editing.delete_versions(
        first.project, first.state.name, digests, first.options, terminal.warning
    )


# ------------------------------------------------------------------ asking
def _agreed(chosen: list[Found]) -> bool:
    used = _uses(chosen)
    rows = [
        [
            inert(one.path),
            inert(", ".join(one.version.aliases)),
            size_text(one.version.size),
            count(one.version.files, "file"),
            local_minute(one.version.created_us / 1e6),
            f"used by {count(used[one.path], 'run')}" if used.get(one.path) else "",
        ]
        for one in chosen[:_ROWS]
    ]
    click.echo(terminal.columns(rows, indent="  "), err=True)
    if len(chosen) > _ROWS:
        click.echo(f"  and {len(chosen) - _ROWS:,} more", err=True)
    size = size_text(sum(one.version.size for one in chosen))
    return terminal.confirm(
        f"Delete {count(len(chosen), 'version')} ({size}) for ever, here and on every remote?"
    )


def _uses(chosen: list[Found]) -> dict[str, int]:
    """How many runs used each, by path."""
    paths = {
        (one.state.name, one.version.digest.hex(), one.project.name, one.project.entity): one.path
        for one in chosen
    }
    used: dict[str, int] = {}
    for run in chosen[0].api.runs():
        links = {link[1:3] + link[4:] for link in run.lineage if link[0] == "input"}
        for link in links & paths.keys():
            used[paths[link]] = used.get(paths[link], 0) + 1
    return used


# ------------------------------------------------------------------ the space
def _unused(project: Project) -> Report:
    from localstore.store.gc import collect

    return collect(project.paths, project.state, dry_run=True)


def _say_what_gc_frees(project: Project, report: Report) -> None:
    size = sum(one.size for one in report.unneeded)
    if report.held:
        why = next(iter(report.held.values()))
        terminal.note(f"`localstore gc` frees nothing of {project.name} as long as: {why}")
    elif size or not report.young:
        terminal.note(f"`localstore gc` frees {size_text(size)} of this disk")
    if report.young and not report.held:
        terminal.note(f"`localstore gc` frees {size_text(report.young_bytes)} in an hour")


def _say_json(chosen: list[Found], reports: list[Report]) -> None:
    deleted: list[dict[str, Any]] = [
        {"path": one.path, "digest": one.version.digest.hex(), "size": one.version.size}
        for one in chosen
    ]
    free = sum(one.size for report in reports for one in report.unneeded)
    later = sum(report.young_bytes for report in reports)
    terminal.say_json({"deleted": deleted, "gc_bytes": free, "gc_bytes_later": later})
