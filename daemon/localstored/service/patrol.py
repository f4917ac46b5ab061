"""The daily round: reads a slice of what is here, and of what remotes hold, and names damage.

Where it stopped stands in `state/patrol.json`, so that a store of any size is read through in the
end. It mends nothing: `localstore repair` does, when a person asks.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from localstore.durable import replace_cache
from localstore.errors import Damaged, LocalStoreError, NotFound
from localstore.layout import FileKind, HomePaths, parse_name
from localstored.receipts import EMPTY_SHA256, ReceiptFile
from localstored.service.state import STATE_FOLDER
from localstored.verify import FrameCheck, check_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from localstore.layout import FileName, ProjectPaths
    from localstored.receipts import Line
    from localstored.remotes.base import Remote

CURSOR_FILE: Final = "patrol.json"
_FOLDERS: Final = ("FORMAT", "certs", "links", "keys", "runs", "objects")
_PASSED_OVER: Final = frozenset({FileKind.LIVE_TAIL})


@dataclass(frozen=True, slots=True)
class Finding:
    """One damaged file; `remote` is the id of the remote where it lies, empty for here."""

    project: str
    name: str
    reason: str
    remote: str = ""


@dataclass(slots=True)
class Round:
    """What one round read and found.

    Attributes:
        whole: whether it came to the end, and begins anew the next time.
    """

    files: int = 0
    bytes: int = 0
    whole: bool = False
    findings: list[Finding] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


class Patrol:
    """Rounds of one home.

    Args:
        check: is called between files; raises to end the round, which goes on there later.
    """

    def __init__(self, home: Path, check: Callable[[], None] = lambda: None) -> None:
        self._home, self._check = HomePaths(home), check
        self._path = home / STATE_FOLDER / CURSOR_FILE
        self._cursors = self._read()

    # -------------------------------------------------------------- here
    def here(self, budget_bytes: int) -> Round:
        """Read on where the last round stopped, for so many bytes."""
        done = Round()
        start = self._cursors.get("", ("", ""))
        for paths in self._home.all_projects():
            if paths.id < start[0]:
                continue
            after = start[1] if paths.id == start[0] else ""
            for name in _names_after(paths, after):
                if done.bytes >= budget_bytes:
                    return self._stop_at("", (paths.id, after), done)
                self._check()
                self._read_file(paths, name, done)
                after = name
        return self._end("", done)

    def _read_file(self, paths: ProjectPaths, name: str, done: Round) -> None:
        path = paths.file(name)
        try:
            file = parse_name(name)
            if file.kind in _PASSED_OVER:
                return
            size = path.stat().st_size
            _check(path, file, paths.id)
        except FileNotFoundError:
            return  # collected or erased meanwhile
        except Damaged as problem:
            done.findings.append(Finding(paths.id, name, problem.problem))
            return
        except OSError as error:
            done.findings.append(Finding(paths.id, name, error.strerror or str(error)))
            return
        done.files, done.bytes = done.files + 1, done.bytes + size

    # -------------------------------------------------------------- there
    def there(self, remote: Remote, budget_bytes: int) -> Round:
        """Compare what a remote holds with what it acknowledged, for so many bytes.

        Raises:
            RemoteError: it does not answer.
        """
        done = Round()
        start = self._cursors.get(remote.id, ("", ""))
        for paths in self._home.all_projects():
            if paths.id < start[0]:
                continue
            after = start[1] if paths.id == start[0] else ""
            for line in _acknowledged(paths, remote.id, after):
                if done.bytes >= budget_bytes:
                    return self._stop_at(remote.id, (paths.id, after), done)
                self._check()
                self._ask(remote, paths, line, done)
                after = line.name
        return self._end(remote.id, done)

    def _ask(self, remote: Remote, paths: ProjectPaths, line: Line, done: Round) -> None:
        name = f"projects/{paths.id}/{line.name}"
        try:
            found = remote.digest(name, line.size).hex()
        except NotFound:
            return  # the next listing sees it, and says or mends it
        except LocalStoreError as problem:
            if not _is_shorter(remote, name, line):
                raise
            finding = Finding(paths.id, line.name, str(problem), remote.id)
            done.findings.append(finding)
            return
        done.files, done.bytes = done.files + 1, done.bytes + line.size
        if found != line.sha256:
            reason = "the remote holds other bytes than it acknowledged"
            done.findings.append(Finding(paths.id, line.name, reason, remote.id))

    # -------------------------------------------------------------- where it stopped
    def _stop_at(self, whose: str, at: tuple[str, str], done: Round) -> Round:
        self._cursors[whose] = at
        self._write()
        return done

    def _end(self, whose: str, done: Round) -> Round:
        self._cursors.pop(whose, None)
        self._write()
        done.whole = True
        return done

    def _read(self) -> dict[str, tuple[str, str]]:
        try:
            raw = json.loads(self._path.read_bytes())
            return {
                whose: (project, name)
                for whose, (project, name) in raw.items()
                if isinstance(project, str) and isinstance(name, str)
            }
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def _write(self) -> None:
        with contextlib.suppress(OSError):
            replace_cache(self._path, json.dumps(self._cursors).encode())


def _check(path: Path, file: FileName, project: str) -> None:
    if file.kind is FileKind.LOG:
        FrameCheck(file, project, with_header=True).finish(path)
    else:
        check_file(path, file, project)


def _rank(name: str) -> tuple[int, str]:
    return _FOLDERS.index(name.partition("/")[0]), name


def _names_after(paths: ProjectPaths, after: str) -> Iterator[str]:
    """Names of the format after one of them, in the order in which folders are read."""
    start = _rank(after) if after else (-1, "")
    for name in paths.names():
        if _rank(name) > start and not name.rpartition("/")[2].startswith("."):
            with contextlib.suppress(Damaged):
                parse_name(name)
                yield name


def _acknowledged(paths: ProjectPaths, remote_id: str, after: str) -> list[Line]:
    """The last word of a remote on each file after a name, by name."""
    batches = ReceiptFile.of(paths, remote_id).batches()
    last = {line.name: line for lines, _ in batches for line in lines}
    return [
        last[name] for name in sorted(last) if name > after and last[name].sha256 != EMPTY_SHA256
    ]


def _is_shorter(remote: Remote, name: str, line: Line) -> bool:
    return remote.have([name]).get(name, 0) < line.size
