"""The policy files that a command is about, and words of a command line as keys and values."""

from __future__ import annotations

import contextlib
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from localstore.cli import context as store
from localstore.cli.terminal import did_you_mean
from localstore.errors import BadSetting, NotFound
from localstore.policy.places import project_file, user_file
from localstore.policy.rules import (
    CLASS_WORDS,
    PROJECT,
    TABLES,
    USER,
    PolicyFile,
    parse,
    read_tables,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

Row = tuple[str, Any, str, str]  # key, value, level, file
TEMPLATE: Final = """\
# What may leave this machine; the most restrictive rule wins. `localstore policy set --help`
# has an example of each kind, docs/privacy.md explains them.

"""
_FOR_REMOTES: Final = ("classes", "conditions", "limits")


@dataclass(frozen=True, slots=True)
class Place:
    """One file: its level and path."""

    level: str
    path: Path


# ------------------------------------------------------------------ files
def places(project: str | None) -> list[Place]:
    """The user's file, and that of a project."""
    own = [] if project is None else [place(project)]
    return [Place(USER, user_file(store.home())), *own]


def place(project: str | None) -> Place:
    """The file that is changed.

    Raises:
        NotFound: no such project, or several.
    """
    if project is None:
        return Place(USER, user_file(store.home()))
    ids = store.project_ids(project)
    if len(ids) > 1:
        raise NotFound(
            f"{project!r} stands for {len(ids)} projects", hint=f"say {' or '.join(ids)}"
        )
    paths = store.home_paths().project(ids[0])
    if not paths.root.is_dir():
        raise NotFound(f"no project {project!r} in {store.home()}")
    return Place(PROJECT, project_file(paths))


def others(one: Place) -> list[Place]:
    """What else is in force where this file is; of projects' files the user's alone is sure."""
    return [] if one.level == USER else [Place(USER, user_file(store.home()))]


def read(one: Place) -> PolicyFile:
    """What a file says.

    Raises:
        BadSetting: it cannot be understood.
    """
    try:
        return parse(read_tables(one.path), level=one.level, path=str(one.path))
    except BadSetting as problem:
        hint = problem.hint or "nothing leaves until it is mended; `localstore policy edit`"
        raise BadSetting(str(problem), hint=hint) from None


def text_of(one: Place) -> str:
    """The text of a file; empty where there is none."""
    try:
        return one.path.read_text("utf-8")
    except FileNotFoundError:
        if one.path.is_symlink():
            # What stands behind it may come back, and must not be lost to a file in its place.
            hint = "bring the file back, or remove the link"
            problem = f"{one.path} is a link to a file that is not there"
            raise BadSetting(problem, hint=hint) from None
        return ""
    except UnicodeDecodeError as error:
        raise BadSetting(f"{one.path}: {error}") from error


def parsed(text: str, one: Place) -> PolicyFile:
    """What a text would say in a file's place.

    Raises:
        BadSetting: it cannot be understood.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadSetting(f"{one.path}: {error}") from error
    return parse(tables, level=one.level, path=str(one.path))


def rows(one: Place) -> Iterator[Row]:
    """Every value of a file, by its whole key."""

    def below(table: dict[str, Any], above: tuple[str, ...]) -> Iterator[Row]:
        for key, value in table.items():
            if isinstance(value, dict):
                yield from below(value, (*above, key))
            else:
                yield ".".join((*above, key)), value, one.level, str(one.path)

    return below(read_tables(one.path), ())


# ------------------------------------------------------------------ keys and values
def keys_of(key: str, remote: str | None, *, whole: bool = False) -> tuple[str, ...]:
    """A key of the command line as its tables: `media` is `classes.media`.

    Args:
        remote: stands in that remote's table. whole: a table may be named, too.

    Raises:
        BadSetting: there is no such key.
        NotFound: there is no such remote.
    """
    keys = ("classes", key) if key in CLASS_WORDS else tuple(key.split("."))
    if remote is not None:
        from localstore.remotes import read_remotes

        known = read_remotes(store.home())
        if remote not in known and not whole:
            raise NotFound(f"no remote {remote!r}; there are: {', '.join(known) or 'none'}")
        if keys[0] not in _FOR_REMOTES:
            raise BadSetting(
                f"{key!r} is not for one remote; want one of {', '.join(_FOR_REMOTES)}",
                hint="a rule has remotes of its own: rules.NAME.remotes",
            )
        keys = ("remotes", remote, *keys)
    if not any(_is_key(keys, table, whole) for table in TABLES):
        if len(keys) > 1:
            _say_why(keys)
        raise BadSetting(
            f"there is no key {key!r}{did_you_mean(key, _all_keys())}",
            hint="`localstore policy set --help` has an example of each kind",
        )
    return keys


def _say_why(keys: Sequence[str]) -> None:
    """The error that a file with this key would give.

    Raises:
        BadSetting: that one.
    """
    table: Any = ""
    for key in reversed(keys):
        table = {key: table}
    parse(table, level=USER, path="policy")


def _is_key(keys: Sequence[str], table: Sequence[str], whole: bool) -> bool:
    inside = all(one in ("*", key) for key, one in zip(keys, table, strict=False))
    if len(keys) == len(table) + 1:
        return inside and keys[-1] in TABLES[tuple(table)]
    return whole and inside and len(keys) <= len(table)


def _all_keys() -> list[str]:
    return [*CLASS_WORDS] + [
        ".".join((*(one.replace("*", "NAME") for one in table), key))
        for table, known in TABLES.items()
        for key in known
    ]


def value_of(keys: Sequence[str], raw: str) -> Any:
    """A value of the command line as it stands in the file.

    Raises:
        BadSetting: it is none for this key.
    """
    parser = next(
        TABLES[table][keys[-1]]
        for table in TABLES
        if len(keys) == len(table) + 1 and _is_key(keys, table, whole=False)
    )
    where = ".".join(keys)
    for value in _readings(raw.strip(), keys[-1]):
        with contextlib.suppress(BadSetting):
            parser(value, where)
            return value
    return parser(raw, where)


def _readings(raw: str, key: str) -> Iterator[Any]:
    """What a text may mean, the most likely first and the plain text last."""
    if raw.lstrip()[:1] in ("[", '"', "'"):  # as it would stand in the file, and is shown
        for text in (raw, f"[{raw}]"):
            with contextlib.suppress(tomllib.TOMLDecodeError):
                found = tomllib.loads(f"value = {text}")["value"]
                yield from _readings(found, key) if isinstance(found, str) else (found,)
                return
    words = [word.strip() for word in raw.split(",")]
    if raw in ("true", "false"):
        yield raw == "true"
    if raw.isascii() and raw.isdigit():
        yield int(raw)
    if "," in raw and key != "hours":
        yield words
    yield raw
    if key == "network":
        yield words
