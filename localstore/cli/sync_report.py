"""What a sync, or a dry run, came to: data on stdout, trouble and what to do on stderr."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

import click

from localstore.cli import terminal
from localstore.cli.rm import size_text
from localstore.cli.terminal import inert
from localstore.errors import Damaged
from localstore.layout import FileKind, parse_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_SHOWN_NOTES: Final = 20
_KIND_WORDS: Final = {
    FileKind.FORMAT: "keys and links",
    FileKind.LINK: "keys and links",
    FileKind.CERT: "keys and links",
    FileKind.KEYSLOT: "keys and links",
    FileKind.LOG: "records",
    FileKind.TAIL_COPY: "records",
    FileKind.FORK: "records",
    FileKind.OBJECT: "contents",
}
_STEP_WORDS: Final = {
    "push create": "push",
    "push append": "push",
    "pull create": "pull",
    "pull append": "pull",
    "erase remote": "erase on the remote",
    "erase local": "erase here",
    "fork": "keep both versions",
    "heal": "replace damaged on the remote",
}
_SILENT_STEPS: Final = frozenset({"settle"})  # nothing moves


def called(project: str, names: Mapping[str, str]) -> str:
    """A project's name, inert; the first digits of its id where no key here tells its name."""
    return inert(names[project]) if project in names else project[:16]


# ------------------------------------------------------------------ a sync
def print_report(
    values: Mapping[str, Any],
    names: Mapping[str, str],
    hints: Mapping[str, str],
    *,
    verbose: bool = False,
) -> None:
    """Print a `SyncReport` that went through JSON.

    Args:
        names: of projects, by id. hints: what to do about a remote that failed, by its name.
        verbose: every step of a dry run, every note.
    """
    for name, reason in values["failed"].items():
        terminal.error(f"remote {name}: {reason}", hints.get(name, ""))
    for note in (*values["refused"], *values["damaged"]):
        terminal.error(note_line(note))
    for project in values["projects"]:
        head = f"{inert(project['remote'])} {called(project['project'], names)}"
        if values["dry_run"]:
            print_steps(head, project, verbose=verbose)
        else:
            click.echo(f"{head} {moved_line(project)}")
        print_trouble(head, project, verbose=verbose, dry_run=bool(values["dry_run"]))
    if not values["projects"] and not values["failed"]:
        click.echo(f"nothing to sync: {_why_nothing()}")


def moved_line(project: Mapping[str, Any]) -> str:
    """What moved between one project and one remote, and how much is held."""
    held = held_of(project)
    return (
        f"pushed {project['pushed']} ({size_text(project['pushed_bytes'])})"
        f" pulled {project['pulled']} ({size_text(project['pulled_bytes'])})"
        f" erased {project['erased']} held {sum(items for items, _ in held.values())}"
    )


def held_of(project: Mapping[str, Any]) -> dict[str, tuple[int, int | None]]:
    """Items and bytes of what policy keeps here, by reason; no bytes where nobody counted them."""
    standing = project.get("standing")
    if isinstance(standing, dict) and isinstance(standing.get("held"), dict):
        return {
            reason: (int(one["items"]), int(one["bytes"]))
            for reason, one in standing["held"].items()
        }
    counts: dict[str, tuple[int, int | None]] = {}
    for note in notes_of(project, "held"):
        counts[note["reason"]] = (counts.get(note["reason"], (0, None))[0] + 1, None)
    return counts


def notes_of(project: Mapping[str, Any], what: str) -> list[Mapping[str, Any]]:
    """One list of notes; the engine may cap long ones and put their number beside."""
    found = project.get(what)
    return [note for note in found if isinstance(note, dict)] if isinstance(found, list) else []


def has_broken_policy(project: Mapping[str, Any]) -> bool:
    """Whether a policy file could not be understood, so that nothing of a project left."""
    return any(note.get("name") == "policy" for note in notes_of(project, "errors"))


def print_trouble(
    head: str, project: Mapping[str, Any], *, verbose: bool = False, dry_run: bool = False
) -> None:
    """What is held and why, and everything that went wrong."""
    if project["lost"]:
        terminal.warning(
            f"{head} was set back: it lost {len(project['lost'])} links, which were pushed again"
        )
    if not dry_run:
        for reason, (items, size) in held_of(project).items():
            click.echo(f"{head} held {_counted(items, size)}: {inert(reason)}", err=True)
    for what in ("forks", "refused", "damaged", "errors"):
        notes = notes_of(project, what)
        shown = notes if verbose else notes[:_SHOWN_NOTES]
        # The engine caps long lists, too, and puts their whole number beside.
        _print_notes(head, what, shown, int(project.get(f"{what}_count", len(notes))))


def _counted(items: int, size: int | None) -> str:
    return f"{items}" if size is None else f"{items} ({size_text(size)})"


def _print_notes(head: str, what: str, notes: Sequence[Mapping[str, Any]], count: int) -> None:
    say = terminal.warning if what == "forks" else terminal.error
    for note in notes:
        say(f"{head} {what}: {note_line(note)}")
    if count > len(notes):
        say(f"{head} {what}: {count - len(notes)} more, see --verbose")
    if notes and what == "damaged":
        click.echo(f"localstore: hint: {Damaged.hint}", err=True)


def note_line(note: Mapping[str, Any]) -> str:
    """One note as a line."""
    where = "" if note.get("offset") is None else f" at byte {note['offset']}"
    return f"{note['name']}{where}: {note['reason']}"


def _why_nothing() -> str:
    from localstore.cli import context as store
    from localstore.remotes import read_remotes

    if not read_remotes(store.home()):
        return "no remote; add one with `localstore remote add`"
    if not store.recipients():
        return "no project, and no key here to find yours with: `localstore key recover`"
    return "no project, here or on the remotes"


# ------------------------------------------------------------------ a dry run
def print_steps(head: str, project: Mapping[str, Any], *, verbose: bool) -> None:
    """What a sync would do: summed up by step, class and reason, or file by file."""
    steps = notes_of(project, "steps")
    if verbose:
        for step in steps:
            click.echo(f"{head} {step_line(step)}")
        return
    rows = summed_up(steps)
    for (what, data_class, reason), (items, size) in rows.items():
        why = f": {inert(reason)}" if reason else ""
        click.echo(f"{head} {what} {data_class} {_counted(items, size or None)}{why}")
    if not rows:
        click.echo(f"{head} nothing to do")


Sums = dict[tuple[str, str, str], tuple[int, int]]


def summed_up(steps: Iterable[Mapping[str, Any]]) -> Sums:
    """Items and bytes by what is done, class and reason, in the order of the first of each."""
    sums: Sums = defaultdict(lambda: (0, 0))
    for step in steps:
        if step["step"] in _SILENT_STEPS:
            continue
        what = _STEP_WORDS.get(step["step"], step["step"])
        items, size = sums[what, _class_of(step), _reason_of(step)]
        more = int(step.get("size") or 0) - int(step.get("offset") or 0)
        sums[what, _class_of(step), _reason_of(step)] = items + 1, size + more
    return dict(sums)


def _class_of(step: Mapping[str, Any]) -> str:
    named = step.get("data_class")
    if isinstance(named, str) and named:
        return inert(named)
    try:
        return _KIND_WORDS.get(parse_name(str(step.get("name"))).kind, "files")
    except Damaged:
        return "files"


def _reason_of(step: Mapping[str, Any]) -> str:
    reason, rule = str(step.get("reason") or ""), str(step.get("rule") or "")
    # Most reasons name their rule; nobody needs it twice.
    return f"{reason}, by {rule}" if rule and rule not in reason else reason


def step_line(step: Mapping[str, Any]) -> str:
    """One step as a line."""
    rest = ", ".join(f"{k} {v}" for k, v in step.items() if k not in ("step", "name") and v != "")
    return inert(f"{step['step']} {step['name']}" + (f" ({rest})" if rest else ""))
