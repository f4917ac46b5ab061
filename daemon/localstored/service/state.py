"""What the service remembers of itself: `state/` in the home. May be deleted at any time.

`pause.json`: nothing is synced by itself until then. `<remote id>.json`: how the last attempts
went. `history.jsonl`: one line for each sync that moved something or failed. Ids, numbers, the
texts of errors; no name that a person chose but that of a remote. A disk that refuses costs the
memory, and nothing else: nothing here raises because of it, unless a person waits for the answer.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final

from localstore.durable import make_folder, replace_cache, replace_file
from localstore.errors import StoreError
from localstore.layout import FILE_MODE

if TYPE_CHECKING:
    from pathlib import Path

STATE_FOLDER: Final = "state"
MAX_HISTORY_BYTES: Final = 1_000_000
MAX_DAMAGE: Final = 100
_MAX_FILE_BYTES: Final = 1 << 20
_ID: Final = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing is synced by itself before `until_us` (Unix time); None: until a person says so."""

    until_us: int | None = None

    def holds(self, now_us: int) -> bool:
        """Whether it is still in force."""
        return self.until_us is None or now_us < self.until_us


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why the last attempt failed, what to do, and whether it is of use to try again."""

    text: str
    hint: str = ""
    permanent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteState:
    """How syncing with one remote went; times in Unix µs, bytes since the file was made."""

    last_try_us: int | None = None
    last_success_us: int | None = None
    next_try_us: int | None = None
    error: Trouble | None = None
    pushed_bytes: int = 0
    pulled_bytes: int = 0

    @classmethod
    def from_json(cls, raw: object) -> RemoteState:
        """What a file says, as far as it is of this form."""
        if not isinstance(raw, dict):
            return cls()
        numbers = {
            field.name: raw[field.name]
            for field in fields(cls)
            if field.name != "error" and type(raw.get(field.name)) is int
        }
        match raw.get("error"):
            case {"text": str(text), "hint": str(hint), "permanent": bool(permanent)}:
                return cls(error=Trouble(text, hint, permanent), **numbers)
        return cls(**numbers)


class State:
    """The files of one home; safe from several threads."""

    def __init__(self, home: Path) -> None:
        self._folder, self._lock = home / STATE_FOLDER, threading.Lock()

    # -------------------------------------------------------------- pause
    def pause(self) -> Pause | None:
        """The pause that was asked for, whether or not it is over."""
        match self._read("pause.json"):
            case {"until_us": int() | None as until_us}:
                return Pause(until_us)
        return None

    def set_pause(self, until_us: int | None) -> None:
        """Sync nothing by itself until then.

        Raises:
            StoreError: the disk refused; nobody would keep the promise after a restart.
        """
        content = json.dumps({"until_us": until_us}).encode()
        try:
            replace_file(self._folder / "pause.json", content)
        except OSError as error:
            raise StoreError(f"the pause cannot be written down: {error.strerror}") from error

    def clear_pause(self) -> None:
        """Go on.

        Raises:
            StoreError: the disk refused.
        """
        try:
            (self._folder / "pause.json").unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"the pause cannot be taken back: {error.strerror}") from error

    # -------------------------------------------------------------- remotes
    def remote(self, remote_id: str) -> RemoteState:
        """How syncing with a remote went; an empty state when nobody knows."""
        return RemoteState.from_json(self._read(f"{remote_id}.json"))

    def record(self, remote_id: str, state: RemoteState) -> None:
        """Remember how it went."""
        if not _ID.fullmatch(remote_id):
            return
        with contextlib.suppress(OSError):
            content = json.dumps(asdict(state), indent=1).encode()
            replace_cache(self._folder / f"{remote_id}.json", content)

    def add(self, remote_id: str, **changes: Any) -> RemoteState:
        """Change some fields; `pushed_bytes` and `pulled_bytes` are added to what is there."""
        with self._lock:
            state = self.remote(remote_id)
            for name in ("pushed_bytes", "pulled_bytes"):
                changes[name] = getattr(state, name) + changes.get(name, 0)
            state = replace(state, **changes)
            self.record(remote_id, state)
            return state

    # -------------------------------------------------------------- damage
    def damage(self) -> list[dict[str, Any]]:
        """Files that the daily check found damaged."""
        found = self._read("damage.json")
        return found if isinstance(found, list) else []

    def record_damage(self, damage: list[dict[str, Any]]) -> None:
        """Remember what is damaged, over what was remembered."""
        with contextlib.suppress(OSError):
            content = json.dumps(damage[:MAX_DAMAGE], indent=1).encode()
            replace_cache(self._folder / "damage.json", content)

    # -------------------------------------------------------------- history
    def history(self, count: int) -> list[dict[str, Any]]:
        """The newest entries, the newest last."""
        try:
            lines = (self._folder / "history.jsonl").read_bytes().splitlines()
        except OSError:
            return []
        entries = [_entry(line) for line in lines[-count:]]
        return [entry for entry in entries if entry is not None]

    def remember(self, entry: dict[str, object]) -> None:
        """Add an entry; the older half goes when there are too many."""
        path = self._folder / "history.jsonl"
        line = json.dumps(entry).encode() + b"\n"
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        with self._lock, contextlib.suppress(OSError):
            make_folder(self._folder)
            handle = os.open(path, flags, FILE_MODE)
            try:
                if os.fstat(handle).st_size > MAX_HISTORY_BYTES:
                    self._cut(path)
                    os.close(handle)
                    handle = os.open(path, flags, FILE_MODE)
                os.write(handle, line)
            finally:
                os.close(handle)

    def _cut(self, path: Path) -> None:
        content = path.read_bytes()[-MAX_HISTORY_BYTES // 2 :]
        replace_cache(path, content[content.index(b"\n") + 1 :])

    def _read(self, name: str) -> object:
        try:
            with (self._folder / name).open("rb") as file:
                found: object = json.loads(file.read(_MAX_FILE_BYTES))
                return found
        except (OSError, ValueError, RecursionError):
            return None


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None  # cut by a crash
    return found if isinstance(found, dict) else None
