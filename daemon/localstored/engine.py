"""The sync engine: for each remote and project gather, decide, act. Needs no key.

Trust comes first, because a tombstone that has just arrived decides over runs; runs come before
objects, because what they refer to decides over objects. The same engine runs in the daemon and in
`localstore sync now`, which finds `sync_home` by the entry point `localstore.engine`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from localstore.errors import LocalStoreError, NotFound
from localstore.layout import HomePaths
from localstore.remotes import read_remotes
from localstored.listing import Listing, read_listing
from localstored.project import Options, ProjectSync, is_genuine
from localstored.remotes import open_remote
from localstored.remotes.base import Unreachable
from localstored.report import Note, ProjectReport, SyncReport
from localstored.tails import copy_tails, silent_tails

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from localstore.layout import ProjectPaths
    from localstore.remotes import RemoteEntry
    from localstored.remotes.base import Remote
    from localstored.report import Event


def now_us() -> int:
    """Unix time in microseconds."""
    return time.time_ns() // 1000


def sync_home(
    home: Path,
    *,
    remotes: Sequence[str] | None = None,
    projects: Sequence[str] | None = None,
    dry_run: bool = False,
    on_event: Callable[[Event], None] | None = None,
    recipients: frozenset[str] = frozenset(),
    clock: Callable[[], int] = now_us,
    sleep: Callable[[float], object] = time.sleep,
) -> SyncReport:
    """Bring a home and its remotes to hold the same, both ways, as far as policy allows.

    Safe beside running writers and beside another sync of the same home. A dry run writes
    nothing anywhere: it plans from what is here now, so tails of writers that just died and
    tombstones that only the remote has are not in it.

    Args:
        remotes: names from `remotes.toml`; None: all of them.
        projects: project ids; None: all that are here, and those of the remotes that hold a keyslot
            for one of `recipients`.
        recipients: tags (32 hex digits) of the box keys that this home can open.
        clock: Unix time in microseconds. sleep: waits for seconds, at most once for 3 s.

    Raises:
        NotFound: a remote that is not in `remotes.toml`, or a project that is nowhere.
        BadSetting: `remotes.toml` breaks its form.
    """
    options = Options(
        projects=frozenset(projects) if projects is not None else None,
        dry_run=dry_run,
        on_event=on_event,
        recipients=recipients,
        clock=clock,
    )
    entries = _chosen(read_remotes(home), remotes)
    paths, report = HomePaths(home), SyncReport(dry_run=dry_run)
    if not dry_run and entries:
        _settle_tails(_local_projects(paths, options), report, clock, sleep)
    for entry in entries:
        try:
            sync_remote(paths, entry.name, open_remote(entry), options, report)
        except (LocalStoreError, OSError) as problem:
            report.failed[entry.name] = str(problem)
    _check_found(options, report)
    return report


def _chosen(known: dict[str, RemoteEntry], names: Sequence[str] | None) -> list[RemoteEntry]:
    if names is None:
        return list(known.values())
    for name in names:
        if name not in known:
            raise NotFound(f"no remote {name!r}; there are: {', '.join(known) or 'none'}")
    return [known[name] for name in dict.fromkeys(names)]


def _check_found(options: Options, report: SyncReport) -> None:
    found = {project.project for project in report.projects}
    missing = sorted((options.projects or frozenset()) - found)
    if missing and not report.failed:
        raise NotFound(f"no project {missing[0]} here or on a remote")


def _settle_tails(
    projects: list[ProjectPaths],
    report: SyncReport,
    clock: Callable[[], int],
    sleep: Callable[[float], object],
) -> None:
    tails = silent_tails(projects, clock() / 1e6, sleep)
    report.damaged += [Note(p.file, p.problem, p.offset) for p in copy_tails(tails)]


def _local_projects(home: HomePaths, options: Options) -> list[ProjectPaths]:
    wanted = options.projects
    return [paths for paths in home.all_projects() if wanted is None or paths.id in wanted]


# ------------------------------------------------------------------ one remote
def sync_remote(
    home: HomePaths, name: str, remote: Remote, options: Options, report: SyncReport
) -> None:
    """Sync every chosen project with one remote; a bad project does not stop the others.

    Raises:
        Unreachable: the remote does not answer any more.
        RemoteError: it lists more than anybody has.
    """
    listing = read_listing(remote)
    report.refused += [Note(f"{name}: {note.name}", note.reason) for note in listing.refused]
    for paths in _projects(home, remote, listing, options, report):
        found = ProjectReport(remote=name, project=paths.id)
        report.projects.append(found)
        sync = ProjectSync(paths, remote, listing.projects.get(paths.id, {}), found, options)
        try:
            sync.run()
        except Unreachable:
            raise
        except (LocalStoreError, OSError) as problem:
            found.errors.append(Note(f"project {paths.id}", str(problem)))


def _projects(
    home: HomePaths, remote: Remote, listing: Listing, options: Options, report: SyncReport
) -> Iterator[ProjectPaths]:
    local = _local_projects(home, options)
    yield from local
    known = {paths.id for paths in local}
    for project, files in sorted(listing.projects.items()):
        chosen = options.projects is None or project in options.projects
        ours = options.recipients & listing.recipients(project)
        if project in known or not chosen or not ours:
            continue
        if is_genuine(remote, project, files):
            yield home.project(project)
        else:
            report.refused.append(Note(f"project {project}", "no genesis link has this id"))
