"""`localstore policy`: what may leave, by which rule; rules shown, changed and tried."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from localstore.cli import exit_status, terminal
from localstore.cli import policy_files as files
from localstore.cli.completion import complete_project, complete_remote
from localstore.cli.policy_test import class_word, test
from localstore.cli.terminal import inert
from localstore.errors import BadSetting, NotFound
from localstore.policy import editing
from localstore.policy.rules import BUILT_IN, CLASS_WORDS, Leave, merged

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from localstore.cli.policy_files import Place
    from localstore.policy.rules import PolicyFile, Rule

_WORDS: Final = {
    Leave.AUTO: "leaves by itself, encrypted",
    Leave.MANUAL: "leaves with `localstore sync now` alone, encrypted",
    Leave.NEVER: "never leaves this machine",
}
_PROJECT: Final = click.option(
    "--project",
    metavar="NAME",
    help="The rules of this project on this machine.",
    shell_complete=complete_project,
)
_REMOTE: Final = click.option(
    "--remote", metavar="NAME", help="For this remote alone.", shell_complete=complete_remote
)


@click.group()
def policy() -> None:
    """What may leave this machine, where to, and under which conditions.

    Rules stand in the home's policy.toml and in a file for each project; the most restrictive wins.
    A change takes effect within seconds, also for what is under way.
    """


policy.add_command(test)


# ------------------------------------------------------------------ show
@policy.command(epilog=exit_status(0, 66, 78))
@_PROJECT
@click.option("--origin", is_flag=True, help="Say by which rule of which file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def show(project: str | None, origin: bool, as_json: bool) -> None:
    """Show what leaves, and every rule that is in force."""
    places = files.places(project)
    read = [files.read(place) for place in places]
    rules = merged(read)
    rows = [row for place in places for row in files.rows(place)]
    if as_json:
        terminal.say_json(_document(rules, rows))
        return
    table = []
    for word in CLASS_WORDS:
        rule = basic(rules, word)
        table.append([word, _WORDS[rule.leave], *([inert(rule.ref)] if origin else [])])
    click.echo(terminal.columns(table))
    if rows:
        click.echo("")
        click.echo(
            terminal.columns(
                [
                    [
                        inert(key),
                        inert(editing.toml_text(value)),
                        *([inert(file)] if origin else []),
                    ]
                    for key, value, _, file in rows
                ]
            )
        )
    _warn_of_strangers(read)


def basic(rules: Sequence[Rule], word: str) -> Rule:
    """The basic statement on a class that counts: the most restrictive, of equals the first."""
    said = [rule for rule in rules if rule.states == CLASS_WORDS[word]]
    return max(said, key=lambda rule: rule.leave)


def _document(rules: Sequence[Rule], rows: Sequence[files.Row]) -> dict[str, Any]:
    classes = {}
    for word in CLASS_WORDS:
        rule = basic(rules, word)
        where = {"level": rule.ref.level, "file": rule.ref.file, "rule": rule.ref.rule}
        classes[word] = {"leave": rule.leave.name.lower(), "rule": where}
    return {
        "classes": classes,
        "settings": [
            {"key": key, "value": value, "level": level, "file": file}
            for key, value, level, file in rows
        ],
        "built_in": sorted(rule.name for rule in rules if rule.ref.level == BUILT_IN and rule.name),
    }


def _warn_of_strangers(read: Sequence[PolicyFile]) -> None:
    """A rule on a remote that is not there holds nothing back from one of another name."""
    from localstore.cli.context import home
    from localstore.remotes import read_remotes

    known = read_remotes(home())
    named = {
        name
        for file in read
        for rule in file.rules
        for name in (rule.remotes or frozenset()) | rule.except_remotes
    }
    for name in sorted(named - set(known)):
        terminal.warning(f"a rule speaks of remote {name!r}, and there is none of this name")


# ------------------------------------------------------------------ set, unset, edit
@policy.command("set", epilog=exit_status(0, 2, 66, 74, 78), short_help="Set KEY to VALUE.")
@click.argument("key")
@click.argument("value")
@_REMOTE
@_PROJECT
def set_(key: str, value: str, remote: str | None, project: str | None) -> None:
    """Set KEY to VALUE, for this home, or for one project on this machine.

    Comments and other lines of the file stay. Lists are written with commas, or as in the file.

    \b
    media never                          a class: never, manual or auto
    media never --remote cloud           for one remote alone
    conditions.network unmetered         any, unmetered, vpn:wg0, or names
    conditions.battery_above 30          percent, while on battery
    conditions.hours 22:00-06:00
    conditions.max_file "2 GiB"
    limits.upload "2 MiB/s"              also download, max_parallel
    rules.secret-data.artifact_name 'secret-*'
    rules.secret-data.leave never        also manual, auto, and conditions
    redact.config '*password*'           never recorded; also summary,
                                         environment, arguments
    keep_local.config data_path          recorded, and never leaves
    """
    place, keys = files.place(project), files.keys_of(key, remote)
    parsed = files.value_of(keys, value)

    def change(text: str) -> str:
        return editing.with_value(text, keys, parsed)

    _change(place, change)
    terminal.note(f"{'.'.join(keys)} = {editing.toml_text(parsed)} in {place.path}")


@policy.command(epilog=exit_status(0, 66, 74, 78), short_help="Take KEY out of the file.")
@click.argument("key")
@_REMOTE
@_PROJECT
def unset(key: str, remote: str | None, project: str | None) -> None:
    """Take KEY out of the file: a value, or all of a rule, as rules.secret-data."""
    place, keys = files.place(project), files.keys_of(key, remote, whole=True)
    _change(place, lambda text: editing.without(text, keys))
    terminal.note(f"{'.'.join(keys)} is not set any more in {place.path}")


@policy.command(epilog=exit_status(0, 2, 66, 74, 78))
@_PROJECT
def edit(project: str | None) -> None:
    """Open the file in your editor; it is kept only if it can be understood."""
    place = files.place(project)

    def change(text: str) -> str:
        edited = click.edit(text or files.TEMPLATE, extension=".toml")
        return text if edited is None else edited

    if not _change(place, change, anew=True):
        terminal.note("nothing changed")


def _change(place: Place, change: Callable[[str], str], *, anew: bool = False) -> bool:
    """Write a file again, if it can be understood then; say what that lets go or holds.

    Args:
        anew: the file may be one that cannot be understood now.
    """
    from localstore.durable import replace_file

    text = files.text_of(place)
    try:
        before = files.parsed(text, place)
    except BadSetting:
        if not anew:
            raise
        before = files.parsed("", place)
    made = change(text)
    if made == text:
        return False
    after = files.parsed(made, place)
    replace_file(place.path.resolve(), made.encode())  # a link stays one
    others = [files.read(other) for other in files.others(place)]
    _say_change(merged([*others, before]), merged([*others, after]))
    return True


def _say_change(before: Sequence[Rule], after: Sequence[Rule]) -> None:
    for word in CLASS_WORDS:
        old, new = basic(before, word), basic(after, word)
        if old.leave == new.leave:
            continue
        terminal.always(f"{word} {_WORDS[new.leave]} (it was {old.leave.name.lower()})")
        if new.leave < old.leave:
            _say_what_goes(word)


def _say_what_goes(word: str) -> None:
    """How much of a class goes with the next sync, now that a person let it go."""
    from localstore.cli import context as store
    from localstore.cli.engine import load_engine
    from localstore.cli.rm import size_text

    try:
        explain = load_engine("explain")
    except NotFound:
        return
    sums: dict[str, list[int]] = {}
    for paths in store.home_paths().all_projects():
        for one in explain(store.home(), paths.id, [class_word(word)], manual=True):
            if one["leaves"] and not one["there"]:
                counts = sums.setdefault(str(one["remote"]), [0, 0])
                counts[0] += 1
                counts[1] += int(one["size"])
    for remote, (items, size) in sums.items():
        terminal.always(f"{items} files of it ({size_text(size)}) leave for {remote} now")
