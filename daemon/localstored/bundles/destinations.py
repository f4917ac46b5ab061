"""Homes elsewhere that sent receipts by hand: `destinations.toml`, what people call them.

A destination is known by its replica id, under which its receipts are filed in each project as
those of a remote are. Nothing is ever sent to one: bundles are carried.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from localstore.durable import replace_file
from localstore.errors import AlreadyExists, BadSetting, NotFound
from localstore.layout import check_label
from localstore.remotes import read_remotes
from localstore.tables import read_tables
from localstored.receipts import ReceiptFile

if TYPE_CHECKING:
    from pathlib import Path

    from localstore.layout import ProjectPaths
    from localstored.receipts import Line

DESTINATIONS_FILE: Final = "destinations.toml"
_ID: Final = re.compile(r"[0-9a-f]{16}")


def read_destinations(home: Path) -> dict[str, str]:
    """Replica ids (16 hex digits) by what people call them here.

    Raises:
        BadSetting: the file is not TOML, or not of its form.
    """
    path = home / DESTINATIONS_FILE
    tables = read_tables(path, "destinations")
    return {check_label("a destination", name): _id(path, name, tables[name]) for name in tables}


def _id(path: Path, name: str, table: object) -> str:
    match table:
        case {"id": str(found), **rest} if not rest and _ID.fullmatch(found):
            return found
    raise BadSetting(f"{path}: destination {name!r} wants an id of 16 hex digits, and no more")


def find_destination(home: Path, name: str = "") -> tuple[str, str]:
    """The name and the replica id of a destination; without a name the only one.

    Raises:
        NotFound: no such destination, or none, or several and no name.
    """
    known = read_destinations(home)
    hint = "`localstore bundle receipt FILE --as NAME` files what a destination sent back"
    if not name and len(known) == 1:
        return next(iter(known.items()))
    if name in known:
        return name, known[name]
    said = ", ".join(known) or "none"
    problem = f"no destination {name!r}" if name else "no destination is named"
    raise NotFound(f"{problem}; there are: {said}", hint=hint)


def acknowledged(paths: ProjectPaths, replica: str) -> dict[str, Line]:
    """What a replica is known to hold of a project: the latest line of each name."""
    batches = ReceiptFile.of(paths, replica).batches()
    return {line.name: line for lines, _ in batches for line in lines}


def name_destination(home: Path, replica: str, name: str = "") -> str:
    """Write down what a destination is called; returns the name.

    Args:
        replica: its id, 16 hex digits. name: empty: the one that it has, or one made of its id.

    Raises:
        AlreadyExists: the name is that of another destination, or of a remote.
        BadName: it breaks the rules for names.
    """
    known = read_destinations(home)
    called = {id_: label for label, id_ in known.items()}
    wanted = check_label("a destination", name or called.get(replica, f"replica-{replica[:8]}"))
    if known.get(wanted, replica) != replica:
        raise AlreadyExists(f"another destination is called {wanted!r}: {known[wanted]}")
    if wanted in read_remotes(home):
        raise AlreadyExists(f"a remote is called {wanted!r}")
    left = {label: id_ for label, id_ in known.items() if id_ != replica}
    if known.get(wanted) != replica or len(left) + 1 != len(known):
        _write(home, {**left, wanted: replica})
    return wanted


def _write(home: Path, known: dict[str, str]) -> None:
    tables = (f"[destinations.{_quoted(name)}]\nid = {_quoted(known[name])}\n" for name in known)
    replace_file(home / DESTINATIONS_FILE, "\n".join(tables).encode())


def _quoted(text: str) -> str:
    """A TOML basic string. JSON's escapes are TOML's, but for DEL, which TOML wants escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
