"""Healing from remotes: bytes that are damaged or missing here, and whole and believable there.

Key-free. Bad bytes go to `local/quarantine`, never away. What was pruned or erased on purpose is
not missing, and a log whose writer lives is left to its writer.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from localstore.durable import make_folder, replace_file, sync_folder
from localstore.errors import Damaged, LocalStoreError
from localstore.format.segment import decode_header, scan_frames
from localstore.layout import FileKind, FileName, HomePaths, ProjectPaths, parse_name
from localstore.pruned import object_stub
from localstore.remotes import read_remotes
from localstore.store.references import References
from localstore.trust import read_project
from localstored.incoming import Incoming
from localstored.listing import listed
from localstored.remotes import open_remote
from localstored.report import Notes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from localstored.remotes.base import Remote

_ALIVE_S: Final = 100.0


@dataclass(frozen=True, slots=True)
class Healed:
    """One file that was put right, or would be in a dry run."""

    project: str
    name: str
    remote: str
    size: int
    was_missing: bool


@dataclass(slots=True, kw_only=True)
class RepairReport:
    """What repair did; `failed` names what no remote could heal, with the reason."""

    dry_run: bool
    healed: list[Healed] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    remotes: dict[str, str] = field(default_factory=dict)  # those that did not answer, and why

    @property
    def ok(self) -> bool:
        """Whether nothing is left to heal."""
        return not self.failed

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "ok": self.ok,
            "dry_run": self.dry_run,
            "healed": [
                {
                    "project": one.project,
                    "file": one.name,
                    "remote": one.remote,
                    "bytes": one.size,
                    "was_missing": one.was_missing,
                }
                for one in self.healed
            ],
            "failed": [{"file": name, "reason": reason} for name, reason in self.failed],
            "unreachable": dict(self.remotes),
        }


def repair_home(
    home: Path,
    damaged: Iterable[tuple[str, str]],
    *,
    remotes: Sequence[str] | None = None,
    dry_run: bool = False,
) -> RepairReport:
    """Take good bytes from remotes.

    Args:
        damaged: (project id, file name) of what `localstore.check` found.
        remotes: names from `remotes.toml`; None: all of them.

    Raises:
        BadSetting: `remotes.toml` breaks its form.
    """
    report, paths = RepairReport(dry_run=dry_run), HomePaths(home)
    bad: dict[str, set[str]] = {}
    for project_id, file in damaged:
        bad.setdefault(project_id, set()).add(file)
    for name, entry in read_remotes(home).items():
        if remotes is not None and name not in remotes:
            continue
        try:
            remote = open_remote(entry)
            for project in paths.all_projects():
                files = dict(listed(remote, project.id, "", Notes()))
                wanted = bad.setdefault(project.id, set())
                _Repair(project, name, remote, files, report).run(wanted)
        except (LocalStoreError, OSError) as problem:
            report.remotes[name] = str(problem)
    for project_id, names in bad.items():
        report.failed += ((f"projects/{project_id}/{n}", _why_not(report)) for n in sorted(names))
    return report


def _why_not(report: RepairReport) -> str:
    if report.remotes:
        return f"no remote that answered has good bytes; {', '.join(report.remotes)} did not answer"
    return "no remote has good bytes"


class _Repair:
    """One project and one remote."""

    def __init__(
        self,
        paths: ProjectPaths,
        remote_name: str,
        remote: Remote,
        files: Mapping[str, int],
        report: RepairReport,
    ) -> None:
        self._paths, self._remote_name, self._files = paths, remote_name, files
        self._incoming, self._report = Incoming(paths, remote), report

    def run(self, bad: set[str]) -> None:
        """Heal what can be healed, and take it out of `bad`."""
        # Links and certificates first: whether a run is erased depends on them.
        for name in sorted(bad, key=lambda one: not one.startswith(("links/", "certs/", "FORMAT"))):
            if name in self._files and self._heal(name):
                bad.discard(name)
        for name in (*self._missing(), *self._missing_objects()):
            if self._heal(name):
                bad.discard(name)

    def _missing(self) -> list[str]:
        try:
            erased = read_project(self._paths).erased(time.time_ns() // 1000)
        except Damaged:
            return []  # not before the links are healed
        missing = []
        for name in sorted(self._files):
            file = parse_name(name)
            stub = self._paths.root / "stubs" / file.subject / file.segment
            if file.subject in erased or (file.segment and stub.exists()):
                continue
            if file.kind is FileKind.OBJECT:
                continue
            if file.kind.syncs and not self._paths.file(name).exists():
                missing.append(name)
        return missing

    def _missing_objects(self) -> list[str]:
        """Those that the logs need, which are whole by now: others were freed on purpose."""
        try:
            state = read_project(self._paths)
        except Damaged:
            return []
        erased = state.erased(time.time_ns() // 1000)
        references = References(self._paths)
        references.look(erased)
        names = (f"objects/{one[:2]}/{one}" for one in references.needed(state, erased))
        return sorted(
            name
            for name in names
            if name in self._files
            and not self._paths.file(name).exists()
            and object_stub(self._paths, name[-64:]) is None
        )

    def _heal(self, name: str) -> bool:
        file, path = parse_name(name), self._paths.file(name)
        was_missing = not path.exists()
        if file.kind is FileKind.LOG and self._is_alive(path):
            return False
        try:
            with self._incoming.fetched(file, self._files[name]) as landing:
                good = landing.read_bytes()
                if not was_missing:
                    joined = _join(file, good, path.read_bytes())
                    if joined is None:
                        return False
                    good = joined
                if not self._report.dry_run:
                    if not was_missing:
                        self._quarantine(path, name)
                    replace_file(path, good)
        except (LocalStoreError, OSError) as problem:
            self._report.remotes.setdefault(f"{self._remote_name}: {name}", str(problem))
            return False
        healed = Healed(self._paths.id, name, self._remote_name, len(good), was_missing)
        self._report.healed.append(healed)
        return True

    @staticmethod
    def _is_alive(path: Path) -> bool:
        tails = (path.with_suffix(".t0"), path.with_suffix(".t1"))
        return any(t.exists() and time.time() - t.stat().st_mtime < _ALIVE_S for t in tails)

    def _quarantine(self, path: Path, name: str) -> None:
        folder = make_folder(self._paths.quarantine)
        kept = folder / f"{name.replace('/', '-')}.{time.time_ns()}"
        replace_file(kept, path.read_bytes())
        sync_folder(folder)


def _join(file: FileName, good: bytes, ours: bytes) -> bytes | None:
    """The remote's bytes, and what our damaged log has beyond them; None when that loses any.

    A remote that is behind heals what it has: our later frames stay if they are whole.
    """
    if file.kind is not FileKind.LOG or len(ours) <= len(good):
        return good
    candidate = good + ours[len(good) :]
    start = decode_header(memoryview(candidate))[1]
    items = list(scan_frames(memoryview(candidate), start))
    damage = [item for item in items[:-1] if isinstance(item, Damaged)]
    return None if damage else candidate
