"""The gibibyte: kept, kept again in a second version, given back; beside restic, borg and wandb.

Every tool does the same step before any tool does the next, in an order that turns from round to
round; what it is given lies in the page cache, and nobody else's writes are still under way.
"""

from __future__ import annotations

import filecmp
import os
import statistics
import sys
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from bench.core import OURS, Row, say
from bench.workers import dataset
from bench.workers.sizes import size_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.core import Bench, Spent

_GIVERS: Final = (OURS, "trackio")  # wandb's offline mode gives nothing back
_WORDS: Final = "the bench's, and nobody else's"


class Keeper(Protocol):
    """A tool that keeps folders; `bench` runs its commands."""

    def prepare(self) -> object:
        """What is done once on a machine."""

    def put(self, source: Path) -> Spent:
        """Keep the folder as it is now, as the newest version."""

    def get(self, into: Path) -> Spent | None:
        """Give the newest version back; None where that cannot be done offline."""

    def stored(self) -> Path:
        """The folder whose bytes count."""


class Script:
    """A tracker: `Artifact.add_dir`, `log_artifact` and `finish` in a script; another downloads."""

    def __init__(self, tool: str, bench: Bench, folder: Path) -> None:
        self._tool, self._bench, self._folder = tool, bench, folder

    def prepare(self) -> object:
        return self._bench.ask(self._tool, "empty", self._folder)

    def put(self, source: Path) -> Spent:
        words = self._bench.words(self._tool, "put", self._folder, source=str(source))
        return self._bench.spend(words)

    def get(self, into: Path) -> Spent | None:
        if self._tool not in _GIVERS:
            return None
        words = self._bench.words(self._tool, "get", self._folder, into=str(into))
        return self._bench.spend(words)

    def stored(self) -> Path:
        return self._folder


class Restic:
    """restic with what it does by itself: repository version 2, compression `auto`."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self._bench, self._folder = bench, folder

    def _run(self, *words: str, cwd: Path | None = None) -> Spent:
        more = {
            "RESTIC_REPOSITORY": str(self.stored()),
            "RESTIC_PASSWORD": _WORDS,
            "RESTIC_CACHE_DIR": str(self._folder / "cache"),
        }
        return self._bench.spend(["restic", "--quiet", *words], more=more, cwd=cwd or self._folder)

    def prepare(self) -> object:
        self._folder.mkdir()
        return self._run("init", "--repository-version", "2")

    def put(self, source: Path) -> Spent:
        return self._run("backup", ".", cwd=source)

    def get(self, into: Path) -> Spent | None:
        return self._run("restore", "latest", "--target", str(into))

    def stored(self) -> Path:
        return self._folder / "repository"


class Borg:
    """borg with what it does by itself: lz4; its key in the repository."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self._bench, self._folder = bench, folder
        self._versions = 0

    def _run(self, *words: str, cwd: Path | None = None) -> Spent:
        more = {
            "BORG_REPO": str(self.stored()),
            "BORG_PASSPHRASE": _WORDS,
            "BORG_BASE_DIR": str(self._folder / "base"),
        }
        return self._bench.spend(["borg", *words], more=more, cwd=cwd or self._folder)

    def prepare(self) -> object:
        self._folder.mkdir()
        return self._run("init", "--encryption", "repokey")

    def put(self, source: Path) -> Spent:
        self._versions += 1
        return self._run("create", f"::v{self._versions}", ".", cwd=source)

    def get(self, into: Path) -> Spent | None:
        into.mkdir()
        return self._run("extract", f"::v{self._versions}", cwd=into)

    def stored(self) -> Path:
        return self._folder / "repository"


KEEPERS: Final[dict[str, Callable[[Bench, Path], Keeper]]] = {
    OURS: partial(Script, OURS),
    "wandb": partial(Script, "wandb"),
    "trackio": partial(Script, "trackio"),
    "restic": Restic,
    "borg": Borg,
}


class Rounds:
    """Measurements of all rounds, by row and tool; a tool that fails once is out."""

    def __init__(self, bench: Bench, tools: list[str]) -> None:
        self.bench = bench
        self.found: dict[str, dict[str, list[float]]] = {}
        self.failed: set[str] = set()
        self._tools = tools
        self.turn = 0

    def order(self) -> list[str]:
        """The tools that are still in, in this round's order."""
        at = self.turn % len(self._tools)
        turned = self._tools[at:] + self._tools[:at]
        return [tool for tool in turned if tool not in self.failed]

    def note(self, what: str, tool: str, value: float) -> None:
        """One measurement."""
        self.found.setdefault(what, {}).setdefault(tool, []).append(value)

    def each(self, what: str, step: Callable[[str], None]) -> None:
        """Let every tool do one step."""
        for tool in self.order():
            os.sync()
            if not self.bench.attempt(tool, what, step):
                self.failed.add(tool)

    def row(self, what: str, unit: str, target: str) -> None:
        """Put medians into the table."""
        row = Row(what, unit, target)
        for tool, values in self.found.get(what, {}).items():
            row.values[tool] = statistics.median(values)
        self.bench.rows.append(row)


_FIRST: Final = "artifact of 1 GiB, first time"
_STORED: Final = "artifact of 1 GiB, bytes kept"
_DISK: Final = "artifact of 1 GiB, kept, in disk blocks"
_SECOND: Final = "artifact, version 2 (2 % changed)"
_ADDED: Final = "artifact, version 2, bytes added"
_AGAIN: Final = "artifact, nothing changed"
_PUT_PEAK: Final = "artifact kept, peak memory"
_GET: Final = "artifact given back"
_GET_PEAK: Final = "artifact given back, peak memory"
_SYNC: Final = "sync of both versions to a folder"
_SYNC_AGAIN: Final = "sync of both versions, nothing to do"
_ROWS: Final = (
    (_FIRST, "s", "restic / 1.6, wandb / 3"),
    (_STORED, "MB", "restic"),
    (_DISK, "MB", ""),
    (_SECOND, "s", "restic / 1.8"),
    (_ADDED, "MB", "20"),
    (_AGAIN, "s", "0.8"),
    (_PUT_PEAK, "MB", "300"),
    (_GET, "s", "restic / 1.3"),
    (_GET_PEAK, "MB", "300"),
    (_SYNC, "s", ""),
    (_SYNC_AGAIN, "s", ""),
)


def bench_artifacts(bench: Bench) -> None:
    """The gibibyte, at least three rounds of it."""
    parts = make(bench)
    present = set(bench.tools) | set(bench.programs)
    rounds = Rounds(bench, [tool for tool in KEEPERS if tool in present])
    for rounds.turn in range(bench.size.repeats):
        say(f"… an artifact of {bench.size.artifact:.1f} GiB: round {rounds.turn + 1}")
        _round(rounds, parts)
    for what, unit, target in _ROWS:
        rounds.row(what, unit, target)
    if bench.size.artifact != 1:
        bench.remarks.append(f"artifact of {bench.size.artifact:g} of the set only")


def make(bench: Bench) -> Path:
    """A folder with both versions, `1` and `2`; made once, by another process."""
    parts = bench.scratch / "set"
    if not parts.exists():
        say(f"… {bench.size.artifact:.1f} GiB of files made")
        words = [sys.executable, "-m", "bench.workers.dataset", str(parts)]
        bench.spend([*words, str(bench.size.artifact)])
    return parts


def _round(rounds: Rounds, parts: Path) -> None:
    """Both versions, with every tool, from nothing."""
    bench, source = rounds.bench, parts / "now"
    folders = {tool: bench.folder() for tool in rounds.order()}
    keepers = {tool: KEEPERS[tool](bench, folder) for tool, folder in folders.items()}
    rounds.each("set-up", lambda tool: _prepare(keepers[tool]))
    with _Standing(parts / "1", source):
        rounds.each(_FIRST, lambda tool: _first(rounds, tool, keepers[tool], source))
    with _Standing(parts / "2", source):
        rounds.each(_SECOND, lambda tool: _second(rounds, tool, keepers[tool], source))
        rounds.each(_AGAIN, lambda tool: _again(rounds, tool, keepers[tool], source))
        rounds.each(_GET, lambda tool: _get(rounds, tool, keepers[tool], source))
    rounds.each("sync", lambda tool: _sync(rounds, keepers[tool]) if tool == OURS else None)
    bench.done_with(*folders.values())


class _Standing:
    """A version of the set at the one path that all versions have; renamed, so no file changes."""

    def __init__(self, version: Path, path: Path) -> None:
        self._version, self._path = version, path

    def __enter__(self) -> None:
        self._version.rename(self._path)
        dataset.warm(self._path)

    def __exit__(self, *_: object) -> None:
        self._path.rename(self._version)


def _prepare(keeper: Keeper) -> None:
    keeper.prepare()


def _first(rounds: Rounds, tool: str, keeper: Keeper, source: Path) -> None:
    before, blocks = _bytes(keeper), _blocks(keeper)
    spent = keeper.put(source)
    rounds.note(_FIRST, tool, spent.wall_s)
    rounds.note(_PUT_PEAK, tool, spent.peak_mb)
    rounds.note(_STORED, tool, (_bytes(keeper) - before) / 1e6)
    rounds.note(_DISK, tool, (_blocks(keeper) - blocks) / 1e6)


def _second(rounds: Rounds, tool: str, keeper: Keeper, source: Path) -> None:
    before = _bytes(keeper)
    rounds.note(_SECOND, tool, keeper.put(source).wall_s)
    rounds.note(_ADDED, tool, (_bytes(keeper) - before) / 1e6)


def _again(rounds: Rounds, tool: str, keeper: Keeper, source: Path) -> None:
    rounds.note(_AGAIN, tool, keeper.put(source).wall_s)


def _get(rounds: Rounds, tool: str, keeper: Keeper, source: Path) -> None:
    into = rounds.bench.folder()
    spent = keeper.get(into)
    if spent is None:
        return
    different = differences(source, into)
    rounds.bench.done_with(into)
    if different:
        raise RuntimeError(f"gave back something else: {different[:3]}")
    rounds.note(_GET, tool, spent.wall_s)
    rounds.note(_GET_PEAK, tool, spent.peak_mb)


def _sync(rounds: Rounds, keeper: Keeper) -> None:
    """Both versions to a folder on the same disk; for information."""
    home, remote = keeper.stored(), rounds.bench.folder()
    rounds.bench.localstore(home, "remote", "add", "folder", str(remote))
    for what in (_SYNC, _SYNC_AGAIN):
        rounds.note(what, OURS, rounds.bench.localstore(home, "sync", "now").wall_s)
    rounds.bench.done_with(remote)


def _bytes(keeper: Keeper) -> int:
    return size_of(keeper.stored()) if keeper.stored().exists() else 0


def _blocks(keeper: Keeper) -> int:
    """What the files take on the disk, in whole blocks."""
    files = [path for path in keeper.stored().rglob("*") if path.is_file()]
    return sum(path.stat().st_blocks * 512 for path in files)


def differences(one: Path, other: Path) -> list[str]:
    """Names of files that are not the same bytes in both folders."""
    names = {
        path.relative_to(root).as_posix()
        for root in (one, other)
        for path in root.rglob("*")
        if path.is_file()
    }
    filecmp.clear_cache()
    return sorted(name for name in names if not _same(one / name, other / name))


def _same(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and filecmp.cmp(one, other, shallow=False)
