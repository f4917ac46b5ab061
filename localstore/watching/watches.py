"""The watched folders of a home: `watch.toml`, whose entries are sealed with the home's own key.

Folders, patterns and names of artifacts are a person's data, so they do not stand there in clear.
Whether anything is watched can be seen without a key: the file is there or not.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from localstore import crypto
from localstore.artifacts.names import check_alias, check_name, check_type
from localstore.durable import replace_file
from localstore.errors import BadSetting, Damaged, Forged, NotFound, UsageError
from localstore.format import spec
from localstore.layout import check_label
from localstore.tables import read_tables
from localstore.watching.patterns import Pattern, marker_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from localstore.layout import HomePaths

FILE: Final = "watch.toml"
LEAST_SETTLE_S: Final = 0.1
_MOST_SETTLE_S: Final = 86_400.0
_ID: Final = re.compile(r"[0-9a-f]{16}")
_HEAD: Final = (
    "# Watched folders, sealed with the key of this home: `localstore watch ls` shows them.\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """One watched folder.

    Attributes:
        id: 16 hex digits; versions carry it, so that `keep` deletes none of others.
        folder: absolute, without links on the way.
        run: id of the run that the versions are said to come from, or empty.
        keep: how many versions of this watch stay; None for all.
        settle_s: how long a file must stay as it is.
        aliases: names that each new version gets beside `latest`.
        complete_when: name of the file that says that something is complete, or empty.
    """

    id: str
    folder: str
    name: str
    type: str = "unspecified"
    pattern: str = "*"
    project: str = ""
    entity: str = ""
    run: str = ""
    keep: int | None = None
    settle_s: float = 2.0
    aliases: tuple[str, ...] = ()
    complete_when: str = ""

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            UsageError: one breaks the rules, with its name.
        """
        check_name(self.name)
        check_type(self.type)
        for alias in self.aliases:
            check_alias(alias)
        Pattern.read(self.pattern)
        for what in ("project", "entity", "run"):
            if getattr(self, what):
                check_label(f"the {what}", getattr(self, what))
        if self.complete_when:
            marker_of(self.complete_when, "checkpoint")
        if self.keep is not None and (type(self.keep) is not int or self.keep < 1):
            raise UsageError(
                f"keep is {self.keep!r}, want 1 or more", hint="without it all are kept"
            )
        if not isinstance(self.settle_s, int | float):
            raise UsageError(f"settle is {self.settle_s!r}, want seconds")
        if not LEAST_SETTLE_S <= self.settle_s <= _MOST_SETTLE_S:
            raise UsageError(f"settle is {self.settle_s:g} s, want 0.1 s to a day")

    def label(self) -> str:
        """What people call it: the folder and the pattern."""
        return f"{os.fsencode(self.folder).decode('utf-8', 'replace')}/{self.pattern}"


def new_id() -> str:
    """An id for a new watch."""
    return crypto.random_bytes(8).hex()


def folder_to_watch(path: str | os.PathLike[str], home: Path) -> str:
    """The folder that a path means, links resolved.

    Raises:
        UsageError: not there, no folder, or it holds the home or lies in it.
    """
    folder = Path(path).expanduser()
    try:
        found = folder.resolve(strict=True)
    except OSError as error:
        raise UsageError(f"{str(folder)!r} cannot be watched: {error.strerror}") from None
    if not found.is_dir():
        raise UsageError(f"{str(folder)!r} is no folder")
    own = home.resolve()
    if found.is_relative_to(own) or own.is_relative_to(found):
        raise UsageError(f"{str(found)!r} and the store {str(own)!r} lie in one another")
    return str(found)


# ------------------------------------------------------------------ watch.toml
def path_of(home: HomePaths) -> Path:
    """Where the watches of a home stand."""
    return home.root / FILE


def read_sealed(home: HomePaths) -> dict[str, str]:
    """The sealed entries by id; needs no key.

    Raises:
        BadSetting: not of its form.
    """
    path = path_of(home)
    tables = read_tables(path, "watches", shown="ID")
    return {name: _sealed(path, name, table) for name, table in tables.items()}


def _sealed(path: Path, name: str, table: object) -> str:
    match table:
        case {"sealed": str(sealed), **rest} if not rest and _ID.fullmatch(name):
            return sealed
    raise BadSetting(f"{path}: watch {name!r} wants the key `sealed`, and no more")


def read_watches(
    home: HomePaths, home_key: bytes, problems: list[BadSetting] | None = None
) -> list[Watch]:
    """All watches, in the order in which they were added.

    Args:
        problems: gets the entries that do not open with this home's key, so that one bad entry
            stops no other.

    Raises:
        BadSetting: the file is not of its form; or, without `problems`, an entry does not open.
    """
    found = []
    for name, text in read_sealed(home).items():
        try:
            found.append(_open(home, home_key, name, text))
        except BadSetting as problem:
            if problems is None:
                raise
            problems.append(problem)
    return found


def _context(name: str) -> bytes:
    return spec.LABEL_CACHE + b"watch" + name.encode()


def _key(home_key: bytes) -> bytes:
    return crypto.derive(home_key, spec.LABEL_CACHE)


def _open(home: HomePaths, home_key: bytes, name: str, text: str) -> Watch:
    try:
        sealed = base64.b64decode(text, validate=True)
        raw = json.loads(crypto.decrypt_with_nonce(_key(home_key), sealed, _context(name)))
        return Watch(id=name, **_values(raw))
    except (ValueError, TypeError, Damaged, Forged, UsageError) as error:
        raise BadSetting(
            f"{path_of(home)}: watch {name} does not open with the key of this home",
            hint=f"`localstore watch rm {name}` forgets it",
        ) from error


def _values(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {**raw, "aliases": tuple(raw.get("aliases", ()))}


def add_watch(home: HomePaths, home_key: bytes, watch: Watch) -> None:
    """Write a watch down; one of the same id is replaced."""
    values = dataclasses.asdict(watch)
    plain = json.dumps({name: value for name, value in values.items() if name != "id"})
    sealed = crypto.encrypt_with_nonce(_key(home_key), plain.encode(), _context(watch.id))
    _write(home, {**read_sealed(home), watch.id: base64.b64encode(sealed).decode()})


def remove_watches(home: HomePaths, ids: Iterable[str]) -> None:
    """Forget watches; what they took stays.

    Raises:
        NotFound: no watch of this id.
    """
    known = read_sealed(home)
    for name in ids:
        if name not in known:
            raise NotFound(f"no watch {name!r}", hint="`localstore watch ls` lists them")
        del known[name]
    _write(home, known)


def _write(home: HomePaths, sealed: Mapping[str, str]) -> None:
    if not sealed:
        path_of(home).unlink(missing_ok=True)
        return
    tables = (f'\n[watches.{name}]\nsealed = "{text}"\n' for name, text in sealed.items())
    replace_file(path_of(home), (_HEAD + "".join(tables)).encode())
