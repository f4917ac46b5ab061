"""What the service wrote down of itself, read without it: `state/` in the home. Needs no key."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

STATE_FOLDER: Final = "state"
LEASE_FILE: Final = "service.lease"
_MAX_LEASE_BYTES: Final = 4096
_LEASE_S: Final = 120.0  # a minute, and clocks that are not quite alike
_MAX_FILE_BYTES: Final = 1 << 20
_MAX_HISTORY_BYTES: Final = 1 << 22


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why the last attempt with a remote failed, what to do, and whether only a person can."""

    text: str
    hint: str = ""
    permanent: bool = False


def trouble_of_remotes(home: Path) -> dict[str, Trouble]:
    """The last error of each remote that has one, by its name."""
    from localstore.remotes import read_remotes

    found: dict[str, Trouble] = {}
    for name, entry in read_remotes(home).items():
        trouble = _trouble(_document(home / STATE_FOLDER / f"{entry.id}.json"))
        if trouble is not None:
            found[name] = trouble
    return found


def _trouble(raw: object) -> Trouble | None:
    match raw:
        case {"error": {"text": str(text), **rest}}:
            return Trouble(text, str(rest.get("hint", "")), rest.get("permanent") is True)
    return None


def read_history(home: Path, count: int) -> list[dict[str, Any]]:
    """The newest entries, the newest last; a line that a crash cut is passed over."""
    try:
        with (home / STATE_FOLDER / "history.jsonl").open("rb") as file:
            lines = file.read(_MAX_HISTORY_BYTES).splitlines()
    except OSError:
        return []
    return [entry for entry in map(_parsed, lines) if isinstance(entry, dict)][-count:]


def daemon_elsewhere(home: Path, now_s: float) -> str:
    """The machine whose daemon serves this home, on a shared file system; empty: none known.

    Its lease begins with a count and then says whose it is; a minute without a beat ends it.
    """
    try:
        with (home / LEASE_FILE).open("rb") as file:
            raw = file.read(_MAX_LEASE_BYTES)
            beat_s = os.fstat(file.fileno()).st_mtime
    except OSError:
        return ""
    match _parsed(raw.lstrip(b"0123456789")):
        case {"host": str(host)} if host != os.uname().nodename and now_s - beat_s < _LEASE_S:
            return host
    return ""


def _document(path: Path) -> object:
    try:
        with path.open("rb") as file:
            return _parsed(file.read(_MAX_FILE_BYTES))
    except OSError:
        return None


def _parsed(raw: bytes) -> object:
    try:
        found: object = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return found
