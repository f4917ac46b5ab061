"""`localstore watch`: folders whose files become versions when they have come to rest."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Final

import click

from localstore.cli import exit_status, terminal
from localstore.cli.context import home_paths
from localstore.cli.terminal import inert
from localstore.errors import LocalStoreError, NotFound, UsageError

if TYPE_CHECKING:
    from localstore.artifacts.model import Version
    from localstore.errors import BadSetting
    from localstore.identity import Identity
    from localstore.watching.loop import Watching
    from localstore.watching.watches import Watch
    from localstore.watching.worker import Stop

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)?")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}
_ONCE_WAIT_S: Final = 0.1


def seconds(text: str) -> float:
    """`2s`, `500ms`, `10m`, `1h`, or a plain number of seconds.

    Raises:
        UsageError: anything else.
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"{text!r} is no time, want for example 2s, 500ms or 10m")
    return float(found[1]) * _UNITS[found[2]]


@click.group()
def watch() -> None:
    """Folders whose files become versions of an artifact, without a line in any script.

    A file is taken when it has come to rest: nobody has it open for writing and it has not changed
    for the settle time, or it was renamed into place. The service takes them; `watch run` does it
    without the service.
    """


@watch.command(epilog=exit_status(0, 2, 11), short_help="Watch a folder.")
@click.argument("folder", metavar="DIR", type=click.Path())
@click.option("-n", "--artifact", "name", required=True, help="The artifact's name.")
@click.option("-t", "--type", "kind", default="model", show_default=True, help="Its type.")
@click.option(
    "--pattern",
    default="*",
    show_default=True,
    help="Which files: `*.ckpt`, `**/*.pt`; `checkpoint-*/` means folders, one version each.",
)
@click.option("-p", "--project", help="Default from the settings.")
@click.option("--run", "run_id", help="Id of the run that the versions come from.")
@click.option("--keep", type=int, help="How many versions of this watch to keep; default all.")
@click.option("--settle", default="2s", show_default=True, help="How long a file must not change.")
@click.option("-a", "--alias", "aliases", multiple=True, help="Of each new version, with `latest`.")
@click.option(
    "--complete-when",
    default="",
    metavar="NAME",
    help="A file that says it is complete: DONE in a folder, {name}.done beside a file.",
)
def add(folder: str, name: str, kind: str, pattern: str, settle: str, **more: Any) -> None:
    """Watch DIR: files that have come to rest in it become versions of an artifact.

    \b
      localstore watch add out/ --artifact net --pattern "*.ckpt" --keep 3
      localstore watch add out/ --artifact net --pattern "checkpoint-*/" --complete-when DONE
    """
    from localstore.watching import watches

    entity, project, run_id = _place(more["project"], more["run_id"])
    made = watches.Watch(
        id=watches.new_id(),
        folder=watches.folder_to_watch(folder, home_paths().root),
        name=name,
        type=kind,
        pattern=pattern,
        project=project,
        entity=entity,
        run=run_id,
        keep=more["keep"],
        settle_s=seconds(settle),
        aliases=tuple(dict.fromkeys(more["aliases"])),
        complete_when=more["complete_when"],
    )
    watches.add_watch(home_paths(), _identity(make=True).home_key, made)
    _warn_of_no_run(made)
    terminal.note(f"{made.label()} becomes versions of {_target(made)}, by this watch:")
    click.echo(made.id)
    terminal.note("the service takes what comes; without it: localstore watch run")


def _warn_of_no_run(one: Watch) -> None:
    """A run may come later, or be on another machine; it may be a slip of the pen, too."""
    from localstore.query.api import Api

    if not one.run:
        return
    place = "/".join(filter(None, (one.entity, one.project)))
    try:
        Api().run(f"{place}/{one.run}")
    except NotFound:
        terminal.warning(f"there is no run {one.run!r} in {place} yet")
    except LocalStoreError:
        return  # a machine that only writes does not know


def _place(project: str | None, run: str | None) -> tuple[str, str, str]:
    """Entity, project and run id, from the options and the settings of where we are."""
    from localstore import settings

    parts = (run or "").split("/")
    if len(parts) > 3 or (run and not all(parts)):
        raise UsageError(f"--run says {run!r}, want ID or [ENTITY/]PROJECT/ID")
    entity, named, run_id = ["", "", *parts][-3:]
    if named and project not in (None, named):
        raise UsageError(f"--run says project {named!r}, --project says {project!r}")
    options = settings.load({"project": named or project, "entity": entity or None})
    return options.entity, options.project, run_id


@watch.command(short_help="List the watched folders.", epilog=exit_status(0, 11, 78))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def ls(*, as_json: bool) -> None:
    """List the watched folders, what was taken of each, and which of them are not there."""
    problems: list[BadSetting] = []
    found = _watches(problems)
    if as_json:
        terminal.say_json([{**_document(one), **_state(one)} for one in found])
    else:
        _print(found)
    for problem in problems:
        terminal.error(problem, problem.hint)
    if problems:
        raise click.exceptions.Exit(problems[0].exit_code)


def _print(found: list[Watch]) -> None:
    rows = [
        [inert(one.label()), inert(_target(one)), *_taken(_state(one)), inert(_rules(one)), one.id]
        for one in found
    ]
    if rows:
        titles = ["WATCHED", "ARTIFACT", "VERSIONS", "LATEST", "RULES", "ID"]
        click.echo(terminal.columns([titles, *rows]))
    for one in found:
        if not os.path.isdir(one.folder):  # noqa: PTH112 - a name of any bytes
            terminal.warning(f"{one.folder} is not there: nothing is taken of it")


def _taken(state: dict[str, Any]) -> list[str]:
    return (
        ["?", "?"]
        if state["versions"] is None
        else [str(state["versions"]), state["latest"] or "-"]
    )


def _state(one: Watch) -> dict[str, Any]:
    """How many versions this watch made that are still there, and the newest of them."""
    from localstore import settings
    from localstore.artifacts.reading import reader
    from localstore.projects import Projects

    there = os.path.isdir(one.folder)  # noqa: PTH112
    made: list[Version] = []
    try:
        projects = Projects(home_paths(), _identity(make=False)).named(one.entity, one.project)
        for project in projects:
            state = reader(project, settings.load().tail_dir).read(one.name)
            made += [v for v in state.versions if _by(v) == one.id]
    except LocalStoreError:
        return {"there": there, "versions": None, "latest": None}  # a machine that only writes
    latest = max(made, key=lambda version: version.created_us, default=None)
    return {"there": there, "versions": len(made), "latest": latest.label if latest else None}


def _by(version: Version) -> str:
    """The id of the watch that made a version; empty where a person or a script did."""
    watched = version.metadata.get("watched")
    return str(watched.get("by", "")) if isinstance(watched, dict) else ""


def _target(one: Watch) -> str:
    return "/".join(filter(None, (one.entity, one.project, one.name)))


def _rules(one: Watch) -> str:
    said = [f"settle {one.settle_s:g}s"]
    said += [f"keep {one.keep}"] if one.keep is not None else []
    said += [f"run {one.run}"] if one.run else []
    said += [f"alias {alias}" for alias in one.aliases]
    said += [f"complete when {one.complete_when}"] if one.complete_when else []
    return ", ".join(said)


def _document(one: Watch) -> dict[str, Any]:
    return {
        "id": one.id,
        "folder": inert(one.folder),
        "pattern": one.pattern,
        "artifact": one.name,
        "type": one.type,
        "project": one.project,
        "entity": one.entity,
        "run": one.run or None,
        "keep": one.keep,
        "settle_s": one.settle_s,
        "aliases": list(one.aliases),
        "complete_when": one.complete_when or None,
    }


@watch.command(short_help="Forget a watched folder.", epilog=exit_status(0, 11, 66))
@click.argument("which", metavar="ID|DIR", nargs=-1, required=True)
def rm(which: tuple[str, ...]) -> None:
    """Forget watches, by id or by folder. What they took stays."""
    from localstore.watching import watches

    gone: list[str] = []
    for word in which:
        gone += [word] if word in watches.read_sealed(home_paths()) else _ids_of(word)
    watches.remove_watches(home_paths(), dict.fromkeys(gone))
    terminal.note(f"forgot {len(set(gone))}; what was taken stays")


def _ids_of(folder: str) -> list[str]:
    from pathlib import Path

    place = str(Path(folder).expanduser().resolve())
    found = [one.id for one in _watches() if one.folder == place]
    if not found:
        raise NotFound(f"no watch {folder!r}", hint="`localstore watch ls` lists them")
    return found


@watch.command(
    short_help="Take what comes, until interrupted.", epilog=exit_status(0, 1, 11, 66, 73)
)
@click.option("--once", is_flag=True, help="Take what has come to rest, and leave.")
def run(*, once: bool) -> None:
    """Take what comes to rest in the watched folders, in this terminal, without the service."""
    from localstore.watching import watches
    from localstore.watching.worker import Stop, only_one, watch_until

    if not watches.read_sealed(home_paths()):
        raise NotFound("no folder is watched", hint="localstore watch add DIR --artifact NAME")
    stop = Stop()
    with only_one(home_paths().root / "watch.lock", "watches folders"):
        watching = _watching(stop)
        if once:
            raise click.exceptions.Exit(_take_once(watching))
        stop.on_signals()
        watch_until(watching, stop, say=_say_problem, home=home_paths())


def _say_problem(problem: LocalStoreError) -> None:
    terminal.error(problem, problem.hint)


def _watching(stop: Stop) -> Watching:
    from localstore.watching.loop import Watching
    from localstore.watching.worker import options_of

    return Watching(
        home_paths(),
        _identity(make=False),
        options_of(home_paths()),
        tell=lambda _watch, _plain, full: terminal.warning(full),
        made=_say_made,
        wake=stop.ring,
        stopping=lambda: stop.asked,
    )


def _say_made(one: Watch, version: Version) -> None:
    path = version.metadata.get("watched", {}).get("path", "")
    click.echo(inert(f"{_target(one)}:{version.label} {path}"))


def _take_once(watching: Watching) -> int:
    """Rounds until nothing may come to rest any more; the exit code."""
    import time

    watching.reload()
    watching.round()
    while any(one.folder.settling for one in watching.active.values()):
        time.sleep(_ONCE_WAIT_S)
        watching.round()
    watching.close()
    left = sum(len(one.folder.waiting) for one in watching.active.values())
    if left:
        terminal.note(f"{left} not at rest, or to be tried again: not taken")
    return int(any(one.folder.in_trouble for one in watching.active.values()))


# ------------------------------------------------------------------ keys
def _identity(*, make: bool) -> Identity:
    from localstore import settings
    from localstore.vault import Vault, open_or_create

    if not make:
        return Vault(home_paths()).load()
    identity, fresh = open_or_create(home_paths(), settings.load())
    if fresh:
        terminal.note("made your key; back it up: localstore key recovery-code")
    return identity


def _watches(problems: list[BadSetting] | None = None) -> list[Watch]:
    from localstore.watching import watches

    if not watches.path_of(home_paths()).exists():
        return []
    return watches.read_watches(home_paths(), _identity(make=False).home_key, problems)
