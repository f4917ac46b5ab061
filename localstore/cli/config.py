"""`localstore config`: show and change settings; one line of a TOML file at a time."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from localstore import settings
from localstore.cli import exit_status, terminal
from localstore.cli.context import home_paths
from localstore.cli.terminal import inert
from localstore.errors import BadSetting

if TYPE_CHECKING:
    from collections.abc import Mapping

_SECRET: Final = frozenset({"passphrase"})


@click.group()
def config() -> None:
    """The settings: flag, LOCALSTORE_*, ./localstore.toml, the home's config.toml, default."""


@config.command(epilog=exit_status(0, 78))
@click.option("--origin", is_flag=True, help="Say where each value comes from.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def show(origin: bool, as_json: bool) -> None:
    """Show every setting as it is in force here."""
    found = settings.load()
    values = _shown(found)
    if as_json:
        terminal.say_json(
            {name: {"value": values[name], "origin": found.origins[name]} for name in values}
            if origin
            else values
        )
        return
    rows = [
        [name, inert(toml_value(value)), *([inert(found.origins[name])] if origin else [])]
        for name, value in values.items()
    ]
    click.echo(terminal.columns(rows))


def _shown(found: settings.Settings) -> dict[str, Any]:
    """Values as they may be shown: the home as it is used, secrets only as being set."""
    shown: dict[str, Any] = {**found.values, "home": str(found.home_path)}
    return {name: "(set)" if name in _SECRET and value else value for name, value in shown.items()}


@config.command("set", epilog=exit_status(0, 2, 74, 78), short_help="Set NAME to VALUE in a file.")
@click.argument("name")
@click.argument("value")
@click.option("--user", "where", flag_value="user", default="user", help="The home's config.toml.")
@click.option("--project", "where", flag_value="project", help="./localstore.toml.")
def set_(name: str, value: str, where: str) -> None:
    """Set NAME to VALUE, for this home or for the working folder and what is below it.

    Comments and other lines of the file stay as they are. A list is written with commas.
    """
    setting = settings.SETTINGS.get(name)
    if setting is None or not setting.in_files:
        known = ", ".join(n for n, one in settings.SETTINGS.items() if one.in_files)
        near = settings.nearest(name)
        raise BadSetting(f"{name!r} cannot be set in a file, want one of {known}", hint=near)
    parsed = setting.parse(value, name)
    if name == "store_cap" and parsed:
        settings.byte_size(parsed)
    path = home_paths().config_file if where == "user" else Path.cwd() / settings.PROJECT_FILE
    _write(path, name, parsed)
    overruled = settings.load()
    if overruled.values[name] != parsed:
        terminal.warning(f"{name} is {overruled.values[name]!r} here: {overruled.origins[name]}")
    terminal.note(f"{name} = {toml_value(parsed)} in {path}")


def _write(path: Path, name: str, value: object) -> None:
    from localstore.durable import replace_file

    text, mode = "", None
    if path.exists():
        known: Mapping[str, Any] = settings.read_file(path)
        text, mode = path.read_text("utf-8"), path.stat().st_mode & 0o777
    else:
        known = {}
    made = edited(text, name, value)
    if settings.SETTINGS[name].parse(tomllib.loads(made)[name], name) != value or not (
        tomllib.loads(made).keys() == {*known, name}
    ):  # pragma: no cover - a form of TOML that `edited` does not know
        raise BadSetting(f"{path} has a form that cannot be edited; change {name} by hand")
    replace_file(path, made.encode())
    if mode is not None:
        path.chmod(mode)  # a project's file is shared as people want it


# ------------------------------------------------------------------ a little TOML
def toml_value(value: object) -> str:
    """A setting as TOML."""
    match value:
        case bool():
            return "true" if value else "false"
        case tuple():
            return f"[{', '.join(map(toml_value, value))}]"
        case str():
            # JSON's escapes are TOML's, but for DEL, which TOML wants escaped.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case _:
            return str(value)


def edited(text: str, name: str, value: object) -> str:
    """The TOML text with one top-level value set; every other line stays.

    Settings files hold no tables, so a key may be added at the end.
    """
    line = f"{name} = {toml_value(value)}\n"
    lines = text.splitlines(keepends=True)
    begins = re.compile(rf"\s*([\"']?){re.escape(name)}\1\s*=")
    at = next((n for n, one in enumerate(lines) if begins.match(one)), None)
    if at is None:
        gap = "\n" if lines and not lines[-1].endswith("\n") else ""
        return f"{text}{gap}{line}"
    return "".join([*lines[:at], line, *lines[_end(lines, at) :]])


def _end(lines: list[str], start: int) -> int:
    """Where the value ends that begins at line `start`: lists may go over many lines."""
    for end in range(start + 1, len(lines) + 1):
        try:
            tomllib.loads("".join(lines[start:end]))
        except tomllib.TOMLDecodeError:
            continue
        return end
    return start + 1
