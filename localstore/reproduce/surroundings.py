"""Writes what else is needed to run again: config, requirements, command line, facts.

Files go into a folder beside the code, so that they hide nothing of it.
"""

from __future__ import annotations

import json
import math
import shlex
from typing import TYPE_CHECKING, Any

from localstore.reproduce.folder import write_new

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def write_config(config: Mapping[str, Any], folder: Path) -> list[str]:
    """Write a config as `config.yaml` and `config.json`; returns their names."""
    import yaml

    plain = as_plain(config)
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    write_new(folder, "config.yaml", text.encode("utf-8", "backslashreplace"))
    write_new(folder, "config.json", (json.dumps(plain, indent=2) + "\n").encode())
    return ["config.yaml", "config.json"]


def as_plain(value: Any) -> Any:
    """The same value of the types that YAML and JSON share; bytes as hex, others as text."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case dict():
            return {str(key): as_plain(one) for key, one in value.items()}
        case list() | tuple():
            return [as_plain(one) for one in value]
        case bytes():
            return value.hex()
        case _:
            return str(value)


def command_text(facts: Mapping[str, Any]) -> str:
    """The command line as a shell takes it; empty when it was not recorded.

    Args:
        facts: those of the environment.
    """
    words = facts.get("command")
    if not isinstance(words, list) or not words:
        return ""
    return " ".join(_quoted(str(word)) for word in words)


def _quoted(word: str) -> str:
    """A word for a shell; `~` stands for the home of whoever starts it."""
    before, tilde, after = word.partition("~/")
    if tilde and (not before or before.endswith("=")):
        return f'{shlex.quote(before) if before else ""}"$HOME"/{shlex.quote(after)}'
    return shlex.quote(word)


def write_command(facts: Mapping[str, Any], folder: Path) -> list[str]:
    """Write the command line as `command.sh`, from the repository's root; returns its name.

    What was masked is not filled in again; the file says so.
    """
    command = command_text(facts)
    if not command:
        return []
    lines = ["#!/bin/sh", "# How the run was started."]
    if "***MASKED:" in command:
        lines.append("# A secret was masked: put it in before you start this.")
    below = str(facts.get("folder", "") or ".")
    if below != ".":
        lines.append(f"cd -- {shlex.quote(below)}")
    write_new(folder, "command.sh", ("\n".join([*lines, command]) + "\n").encode())
    return ["command.sh"]


def write_facts(name: str, facts: Mapping[str, Any], folder: Path) -> list[str]:
    """Write facts as JSON; returns the file's name, none when there are no facts."""
    if not facts:
        return []
    write_new(folder, name, (json.dumps(as_plain(facts), indent=2) + "\n").encode())
    return [name]


def other_python(facts: Mapping[str, Any], version: Sequence[int]) -> str:
    """What to say when the run had another minor version of Python; empty otherwise."""
    python = facts.get("python")
    told = str(python.get("version", "")) if isinstance(python, dict) else ""
    here = ".".join(map(str, version[:2]))
    if told and ".".join(told.split(".")[:2]) != here:
        return f"the run had Python {told}, and this is {here}"
    return ""
