"""Syncs in a process of their own that counts the bytes that Python's hashes are fed.

python -m bench.workers.hashing HOME
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any, Final

from localstore.ending import run_program

_COUNTED: Final = ("sha256", "md5", "blake2b")
_SYNCS: Final = 10  # a file that is cut four times in a row waits for the next one


class _State:
    """A hash that tells how much it was fed."""

    def __init__(self, name: str, fed: Counter[str], lock: threading.Lock, inner: Any) -> None:
        self._name, self._fed, self._lock, self._inner = name, fed, lock, inner

    def update(self, data: Any) -> None:
        self._count(data)
        self._inner.update(data)

    def _count(self, data: Any) -> None:
        with self._lock:
            self._fed[self._name] += memoryview(data).nbytes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def count_hashes() -> Counter[str]:
    """Put counting hashes in the place of hashlib's; bytes by algorithm."""
    fed, lock = Counter[str](), threading.Lock()

    def counting(name: str, make: Any) -> Any:
        def made(data: Any = b"", **options: Any) -> _State:
            state = _State(name, fed, lock, make(data, **options))
            state._count(data)
            return state

        return made

    for name in _COUNTED:
        setattr(hashlib, name, counting(name, getattr(hashlib, name)))
    return fed


def main(home: Path) -> dict[str, object]:
    """Sync until everything has left, some times at most.

    Returns:
        What moved, how many syncs it took, and what was hashed for all of them.
    """
    fed = count_hashes()
    from localstored.engine import sync_home

    ok, syncs, pushed, pushed_bytes = False, 0, 0, 0
    while not ok and syncs < _SYNCS:
        report = sync_home(home)
        ok, syncs = report.ok, syncs + 1
        pushed += sum(one.pushed for one in report.projects)
        pushed_bytes += sum(one.pushed_bytes for one in report.projects)
    return {
        "ok": ok,
        "syncs": syncs,
        "pushed": pushed,
        "pushed_bytes": pushed_bytes,
        "hashed": dict(fed),
    }


if __name__ == "__main__":
    run_program(lambda: print(json.dumps(main(Path(sys.argv[1])))))
