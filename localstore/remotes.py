"""Remotes that a person added: `remotes.toml` in the home, and the marker in a remote's folder.

Key-free; the engine reads the same file. A marker carries a random id, so that another stick in the
same socket is not taken for the first, and an empty mount point not for a stick.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from localstore.crypto import random_bytes
from localstore.durable import create_file, make_folder, replace_file
from localstore.errors import AlreadyExists, BadSetting, NotFound, RemoteError
from localstore.layout import HomePaths, check_label

if TYPE_CHECKING:
    from collections.abc import Mapping

MARKER_FILE: Final = "LOCALSTORE-REMOTE"
MARKER_VERSION: Final = 1
_ID_BYTES: Final = 8
_MARKER: Final = re.compile(r"localstore-remote (\d{1,4})\nid ([0-9a-f]{16})\n")
_MAX_MARKER_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class RemoteEntry:
    """One remote of `remotes.toml`: its name here, where it lies, its own id (16 hex digits)."""

    name: str
    url: str
    id: str


def read_marker(folder: Path) -> str:
    """The id of the remote that lies in `folder`.

    Raises:
        NotFound: no marker: not a remote, or not mounted.
        RemoteError: a marker of another form or a newer version.
    """
    path = folder / MARKER_FILE
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_MARKER_BYTES).decode("ascii", "replace")
    except FileNotFoundError:
        hint = "is the disk mounted? `localstore remote add` makes a remote of a folder"
        raise NotFound(f"no localstore remote in {folder}", hint=hint) from None
    except OSError as error:
        raise RemoteError(f"{path} cannot be read: {error.strerror}") from error
    found = _MARKER.fullmatch(text)
    if not found or int(found[1]) != MARKER_VERSION:
        raise RemoteError(f"{path} is no marker of version {MARKER_VERSION}")
    return found[2]


def claim_folder(folder: Path) -> str:
    """Make a remote of a folder, which may exist, and return its id; the same id when it was one.

    Raises:
        RemoteError: the folder cannot be written, or would lie in one that is not there, or holds a
            marker of a newer version.
    """
    marker = f"localstore-remote {MARKER_VERSION}\nid {random_bytes(_ID_BYTES).hex()}\n"
    try:
        if not folder.parent.is_dir():
            # Made on the way, it would lie on this machine's own disk and pass for a backup.
            hint = "mount the disk, or make the folder first"
            raise RemoteError(f"no folder {folder.parent}", hint=hint)
        make_folder(folder)
        create_file(folder / MARKER_FILE, marker.encode())
    except OSError as error:
        raise RemoteError(f"{folder} cannot be written: {error.strerror}") from error
    return read_marker(folder)


# ------------------------------------------------------------------ remotes.toml
def read_remotes(home: Path) -> dict[str, RemoteEntry]:
    """The remotes of a home by name, in the order in which they were added.

    Raises:
        BadSetting: `remotes.toml` is not TOML, or not of its form.
    """
    path = HomePaths(home).remotes_file
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSetting(f"{path}: {error}") from error
    tables = raw.pop("remotes", {})
    if raw or not isinstance(tables, dict):
        raise BadSetting(f"{path}: want nothing but tables [remotes.NAME]")
    return {name: _entry(path, name, table) for name, table in tables.items()}


def _entry(path: Path, name: str, table: object) -> RemoteEntry:
    match table:
        case {"url": str(url), "id": str(id_), **rest} if not rest:
            if re.fullmatch(r"[0-9a-f]{16}", id_) and url:
                return RemoteEntry(check_label("a remote", name), url, id_)
    raise BadSetting(f"{path}: remote {name!r} wants a url, an id of 16 hex digits, and no more")


def add_remote(home: Path, name: str, url: str) -> RemoteEntry:
    """Make a remote of the folder `url`, if it is none yet, and write it down.

    Raises:
        AlreadyExists: a remote of this name, or this very remote under another name.
        BadName: the name breaks the rules for names.
        BadSetting: `url` is no path, or lies in the home, or the home in it.
        RemoteError: the folder cannot be written.
    """
    known = read_remotes(home)
    check_label("a remote", name)
    if name in known:
        raise AlreadyExists(f"a remote {name!r} is there already: {known[name].url}")
    folder = _folder(home, url)
    entry = RemoteEntry(name, str(folder), claim_folder(folder))
    for other in known.values():
        if other.id == entry.id:
            raise AlreadyExists(f"this remote is there already, as {other.name!r}")
    _write(home, {**known, name: entry})
    return entry


def remove_remote(home: Path, name: str) -> RemoteEntry:
    """Forget a remote; what lies there stays there.

    Raises:
        NotFound: no remote of this name.
    """
    known = read_remotes(home)
    if name not in known:
        raise NotFound(f"no remote {name!r}; there are: {', '.join(known) or 'none'}")
    _write(home, {other: entry for other, entry in known.items() if other != name})
    return known[name]


def _folder(home: Path, url: str) -> Path:
    if "://" in url or not url:
        raise BadSetting(f"remote {url!r} is no path of a folder")
    try:
        url.encode()
    except UnicodeEncodeError:
        raise BadSetting(f"remote {url!r} is not valid Unicode") from None
    folder, own = Path(url).expanduser().absolute(), home.absolute()
    if folder.resolve().is_relative_to(own.resolve()) or own.resolve().is_relative_to(
        folder.resolve()
    ):
        raise BadSetting(f"remote {folder} and home {own} lie in one another")
    return folder


def _write(home: Path, remotes: Mapping[str, RemoteEntry]) -> None:
    tables = (
        f"[remotes.{_quoted(entry.name)}]\nurl = {_quoted(entry.url)}\nid = {_quoted(entry.id)}\n"
        for entry in remotes.values()
    )
    replace_file(HomePaths(home).remotes_file, "\n".join(tables).encode())


def _quoted(text: str) -> str:
    """A TOML basic string. JSON's escapes are TOML's, but for DEL, which TOML wants escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
