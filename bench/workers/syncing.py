"""One sync in a process of its own, measured from inside: seconds, peak memory, requests.

python -m bench.workers.syncing HOME
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localstore.ending import run_program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from localstore.remotes import RemoteEntry
    from localstored.remotes.base import Entry, Remote

_VERBS = ("projects", "list", "have", "read", "digest", "create", "append", "delete", "confirm")


class Counted:
    """A remote around a remote that counts requests; a listing counts one for 1,000 names."""

    def __init__(self, inner: Remote, calls: Counter[str]) -> None:
        self._inner, self._calls = inner, calls

    def __getattr__(self, name: str) -> Any:
        if name in _VERBS:
            self._calls[name] += 1
        return getattr(self._inner, name)

    def list(self, prefix: str) -> Iterator[Entry]:
        self._calls["list"] += 1
        for count, entry in enumerate(self._inner.list(prefix), 1):
            self._calls["list"] += count % 1000 == 0
            yield entry


def main(home: Path) -> dict[str, object]:
    """Sync once.

    Returns:
        What it took and what it did.
    """
    start, used = time.perf_counter(), time.process_time()
    from localstored.engine import sync_home
    from localstored.remotes import open_remote

    calls: Counter[str] = Counter()

    def opener(entry: RemoteEntry) -> Any:
        return Counted(open_remote(entry), calls)

    report = sync_home(home, opener=opener)
    return {
        "s": time.perf_counter() - start,
        "cpu_s": time.process_time() - used,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "ok": report.ok,
        "moved": report.moved,
        "requests": calls.total(),
        "calls": dict(calls),
    }


if __name__ == "__main__":
    run_program(lambda: print(json.dumps(main(Path(sys.argv[1])))))
