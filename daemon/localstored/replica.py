"""The replica's id: which home has made a stamp on a remote. Not secret, and never derived."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from localstore.crypto import random_bytes
from localstore.durable import create_file, make_folder
from localstore.errors import Damaged

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

REPLICA_FILE: Final = "replica"
_ID_BYTES: Final = 8
_FORM: Final = re.compile(r"([0-9a-f]{16})\n")


def replica_id(home: Path, random: Callable[[int], bytes] = random_bytes) -> str:
    """The id of a home, 16 hex digits; made when it has none yet.

    Raises:
        Damaged: the file is of another form. Deleted, it is made anew.
    """
    path = home / REPLICA_FILE
    if not path.exists():
        make_folder(home)
        create_file(path, f"{random(_ID_BYTES).hex()}\n".encode())
    found = _FORM.fullmatch(path.read_text("ascii", "replace"))
    if found is None:
        hint = f"delete {path}: it is made anew, and remotes are listed once more"
        raise Damaged("want 16 hex digits and a line feed", file=str(path), hint=hint)
    return found[1]
