"""What was told already, so that nothing is told twice: `notify.state` in the home.

Opaque keys, times, and why a message did not go out; no name of a run. A cache: without it, what
happened lately is told once more.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from localstore import durable

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

_VERSION: Final = 1
_MOST: Final = 100_000  # events of one notifier, and runs
_HOUR_US: Final = 3_600_000_000
_MOST_BYTES: Final = 64 * 1024 * 1024


class Told:
    """The memory of the notifiers of one home. Not for two threads at once."""

    def __init__(self, path: Path) -> None:
        """Read what there is; what is no memory counts as none."""
        self._path = path
        found = _read(path)
        self._told = {name: _times(one) for name, one in _tables(found, "told").items()}
        self._sent = {name: _list(one) for name, one in _tables(found, "sent").items()}
        self._alive = _times(found.get("alive"))
        self._failing = _times(found.get("failing"))
        self._unsent = _texts(found.get("unsent"))
        self._changed = False

    # -------------------------------------------------------------- runs and remotes
    @property
    def alive(self) -> Collection[str]:
        """Keys of runs that were seen running."""
        return self._alive.keys()

    def saw_running(self, run: str, now_us: int) -> None:
        """A run was seen running."""
        self._changed |= run not in self._alive
        self._alive.pop(run, None)
        self._alive[run] = now_us

    def failing_since(self, remote: str, now_us: int) -> int:
        """When a remote's failure was seen first; now, if it was not failing before."""
        self._changed |= remote not in self._failing
        return self._failing.setdefault(remote, now_us)

    def only_failing(self, remotes: Collection[str]) -> None:
        """All other remotes are well again."""
        for name in [name for name in self._failing if name not in remotes]:
            del self._failing[name]
            self._changed = True

    # -------------------------------------------------------------- telling
    def is_told(self, notifier: str, event: str) -> bool:
        """Whether a notifier told of an event."""
        return event in self._told.get(notifier, {})

    def put(self, notifier: str, events: Collection[str], now_us: int) -> None:
        """A message with these events went out."""
        self._told.setdefault(notifier, {}).update(dict.fromkeys(events, now_us))
        self._sent.setdefault(notifier, []).append(now_us)
        self._changed = True

    def put_unsent(self, notifier: str, why: str, now_us: int) -> None:
        """Messages of a notifier do not go out; the first time counts until one does."""
        since = self._unsent.get(notifier, (now_us, ""))[0]
        self._changed |= self._unsent.get(notifier) != (since, why)
        self._unsent[notifier] = (since, why)

    def put_well(self, notifier: str) -> None:
        """A message of a notifier went out."""
        self._changed |= self._unsent.pop(notifier, None) is not None

    def unsent(self, notifier: str) -> tuple[int, str] | None:
        """Since when (Unix µs) and why messages of a notifier do not go out; None: they do."""
        return self._unsent.get(notifier)

    def sent_lately(self, notifier: str, now_us: int) -> int:
        """How many messages went out in the hour around `now_us`, whatever clocks did since."""
        lately = [at for at in self._sent.get(notifier, []) if abs(now_us - at) < _HOUR_US]
        self._sent[notifier] = lately
        return len(lately)

    def keep(self, notifiers: Collection[str]) -> None:
        """Forget notifiers that are gone, and of the rest what was told longest ago.

        By number, not by age: a clock may jump a year and back.
        """
        self._told = {name: one for name, one in self._told.items() if name in notifiers}
        self._sent = {name: one for name, one in self._sent.items() if name in notifiers}
        self._unsent = {name: one for name, one in self._unsent.items() if name in notifiers}
        for times in (*self._told.values(), self._alive):
            for key in list(times)[: max(0, len(times) - _MOST)]:
                del times[key]

    def save(self) -> None:
        """Write what changed; a disk that refuses is no error."""
        if not self._changed:
            return
        body = {
            "version": _VERSION,
            "told": self._told,
            "sent": self._sent,
            "alive": self._alive,
            "failing": self._failing,
            "unsent": self._unsent,
        }
        try:
            durable.replace_file(self._path, json.dumps(body).encode())
        except OSError:
            return
        self._changed = False


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and found.get("version") == _VERSION else {}


def _tables(found: dict[str, Any], name: str) -> dict[str, Any]:
    table = found.get(name)
    return table if isinstance(table, dict) else {}


def _times(table: object) -> dict[str, int]:
    items = table.items() if isinstance(table, dict) else ()
    return {key: at for key, at in items if type(at) is int}


def _texts(table: object) -> dict[str, tuple[int, str]]:
    found: dict[str, tuple[int, str]] = {}
    for key, one in table.items() if isinstance(table, dict) else ():
        match one:
            case [int(at), str(text)]:
                found[key] = at, text
    return found


def _list(items: object) -> list[int]:
    return [at for at in items if type(at) is int] if isinstance(items, list) else []
