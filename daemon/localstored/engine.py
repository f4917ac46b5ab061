"""The sync engine: for each remote and project gather, decide, act. Needs no key.

Trust comes first, because a tombstone that has just arrived decides over runs; runs come before
objects, because what they refer to decides over objects. The same engine runs in the daemon and in
`localstore sync now`, which finds `sync_home` by the entry point `localstore.engine`.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from localstore.crypto import random_bytes
from localstore.errors import BadName, LocalStoreError, NotFound, RemoteError
from localstore.layout import HomePaths
from localstore.remotes import read_remotes
from localstored.catalog import Catalog
from localstored.catalogfile import CatalogError, discard, is_damage
from localstored.crew import Threads
from localstored.gate import Gate
from localstored.genuine import is_for, is_genuine
from localstored.listing import listed_projects
from localstored.place import catalog_of
from localstored.policy import UNKNOWN_CONDITIONS
from localstored.project import ProjectSync
from localstored.receipts import ReceiptFile
from localstored.remotes import open_remote
from localstored.remotes.base import Stopped, Unreachable
from localstored.replica import replica_id
from localstored.report import Note, ProjectReport, SyncReport
from localstored.session import Options, Session, facts_of
from localstored.standing import standing
from localstored.tails import copy_tails, silent_tails

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from localstore.layout import ProjectPaths
    from localstore.remotes import RemoteEntry
    from localstored.crew import Crew
    from localstored.policy import Conditions
    from localstored.policyfile import Book
    from localstored.remotes.base import Remote
    from localstored.report import Event

__all__ = [
    "forget_listing",
    "forget_remote",
    "settle",
    "settle_tails",
    "standing",
    "sync_home",
    "sync_remote",
]


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
    manual: bool = True,
    policy: Book | None = None,
    conditions: Conditions | Callable[[], Conditions] | None = None,
    check: Callable[[], None] | None = None,
    scope: Mapping[str, frozenset[str]] | None = None,
    urgent: Callable[[], Mapping[str, frozenset[str]]] | None = None,
    relist: bool = False,
    opener: Callable[[RemoteEntry], Remote] = open_remote,
    session: Session | None = None,
    crew: Callable[[int], Crew] = Threads,
    random: Callable[[int], bytes] = random_bytes,
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
        opener: opens a remote; of another than the default, closing it is the caller's.
        session: what this process remembers; with one, open stamps stay until `settle`.
        manual, policy, conditions, check, scope, urgent, relist, crew, random: see
            `session.Options`.

    Raises:
        NotFound: a remote that is not in `remotes.toml`, or a project that is nowhere.
        BadSetting: `remotes.toml` breaks its form.
        Stopped: `check` said so; what was acknowledged until then is written down.
    """
    options = Options(
        projects=frozenset(projects) if projects is not None else None,
        dry_run=dry_run,
        on_event=on_event,
        recipients=recipients,
        clock=clock,
        random=random,
        manual=manual,
        policy=policy,
        conditions=conditions if conditions is not None else UNKNOWN_CONDITIONS,
        check=check,
        scope=scope,
        urgent=urgent,
        relist=relist,
        crew=crew,
    )
    entries = _chosen(read_remotes(home), remotes)
    paths, report = HomePaths(home), SyncReport(dry_run=dry_run)
    if not dry_run and entries and scope is None:
        settle_tails(_local_projects(paths, options), report, clock, sleep)
    for entry in entries:
        try:
            with _closing(opener(entry), opener) as remote:
                wanted = facts_of(entry, options, options.conditions)
                sync_remote(paths, entry.name, remote, wanted, report, session)
        except (LocalStoreError, OSError) as problem:
            report.fail(entry.name, problem)
    if scope is None:
        _check_found(options, report)
    return report


def _chosen(known: dict[str, RemoteEntry], names: Sequence[str] | None) -> list[RemoteEntry]:
    if names is None:
        return list(known.values())
    for name in names:
        if name not in known:
            raise NotFound(f"no remote {name!r}; there are: {', '.join(known) or 'none'}")
    return [known[name] for name in dict.fromkeys(names)]


@contextlib.contextmanager
def _closing(remote: Remote, opener: Callable[[RemoteEntry], Remote]) -> Iterator[Remote]:
    try:
        yield remote
    finally:
        if opener is open_remote:
            remote.close()


def _check_found(options: Options, report: SyncReport) -> None:
    found = {project.project for project in report.projects}
    missing = sorted((options.projects or frozenset()) - found)
    if missing and not report.failed:
        raise NotFound(f"no project {missing[0]} here or on a remote")


def settle_tails(
    projects: list[ProjectPaths],
    report: SyncReport,
    clock: Callable[[], int],
    sleep: Callable[[float], object],
) -> None:
    """Copy the tails of writers that have gone silent, so that they can leave."""
    tails = silent_tails(projects, clock() / 1e6, sleep)
    for problem in copy_tails(tails):
        report.damaged.append(Note(problem.file, problem.problem, problem.offset))


def _local_projects(home: HomePaths, options: Options) -> list[ProjectPaths]:
    wanted = options.projects if options.scope is None else options.scope.keys()
    return [paths for paths in home.all_projects() if wanted is None or paths.id in wanted]


# ------------------------------------------------------------------ one remote
def sync_remote(
    home: HomePaths,
    name: str,
    remote: Remote,
    options: Options,
    report: SyncReport,
    session: Session | None = None,
) -> None:
    """Sync every chosen project with one remote; a bad project does not stop the others.

    Raises:
        Unreachable: the remote does not answer any more.
        RemoteError: it lists more than anybody has.
        Stopped: the caller asked.
    """
    replica = "" if options.dry_run else replica_id(home.root, options.random)
    visit = _Visit(home, name, remote, options, report, session, replica)
    for paths in _local_projects(home, options):
        visit.sync(paths)
    if options.scope is None:
        for paths in visit.newcomers():
            visit.sync(paths)


class _Visit:
    """All that is done with one remote in one sync."""

    def __init__(
        self,
        home: HomePaths,
        name: str,
        remote: Remote,
        options: Options,
        report: SyncReport,
        session: Session | None,
        replica: str,
    ) -> None:
        self._home, self._name, self._remote = home, name, remote
        self._options, self._report, self._replica = options, report, replica
        self._keeps, self._session = session is not None, session or Session()
        self._gate = Gate(home.root, name, options)
        self._reports: dict[str, ProjectReport] = {}

    def sync(self, paths: ProjectPaths) -> None:
        """One project; what goes wrong with it alone stands in its report."""
        found = self._report_of(paths)
        try:
            try:
                self._sync(paths, found, keeps=not self._options.dry_run)
            except CatalogError as problem:
                if self._options.dry_run:
                    raise
                if is_damage(problem):
                    discard(catalog_of(paths))  # everything in it can be found again
                # A full disk keeps nobody from sending what is on it.
                self._sync(paths, found, keeps=is_damage(problem))
        except Unreachable:
            raise
        except (LocalStoreError, OSError, CatalogError) as problem:
            found.errors.append(Note(f"project {paths.id}", str(problem)))

    def _sync(self, paths: ProjectPaths, found: ProjectReport, *, keeps: bool) -> None:
        with contextlib.closing(self._project(paths, found, keeps=keeps)) as project:
            try:
                if self._options.scope is not None:
                    project.run_scope(self._options.scope[paths.id], self._report.refused)
                else:
                    project.run(self._report.refused)
            except (Unreachable, Stopped):
                self._leave(project)
                raise
            except BaseException:
                project.forget_stamp()  # what of it was done, nobody knows: it is listed anew
                raise
            self._leave(project)

    def _leave(self, project: ProjectSync) -> None:
        if not self._keeps:
            with contextlib.suppress(LocalStoreError, OSError):
                project.settle()

    def _project(self, paths: ProjectPaths, found: ProjectReport, *, keeps: bool) -> ProjectSync:
        """`keeps`: whether the catalog is kept on disk."""
        return ProjectSync(
            paths,
            self._remote,
            Catalog(catalog_of(paths), self._remote.id, writes=keeps),
            self._gate,
            found,
            self._options,
            self._session,
            self._replica,
            self._urgent,
        )

    def settle(self, paths: ProjectPaths) -> None:
        """Settle the open stamp of one project."""
        found = ProjectReport(self._name, paths.id)
        with contextlib.closing(self._project(paths, found, keeps=True)) as one:
            one.settle()

    def _report_of(self, paths: ProjectPaths) -> ProjectReport:
        if paths.id not in self._reports:
            found = ProjectReport(remote=self._name, project=paths.id)
            for problem in self._gate.book.problems(paths):
                found.errors.append(Note("policy", str(problem)))
            self._reports[paths.id] = found
            self._report.projects.append(found)
        return self._reports[paths.id]

    def _urgent(self, urgent: Mapping[str, frozenset[str]]) -> None:
        """Subjects of other projects, while one is under way."""
        options = replace(self._options, scope=urgent, urgent=None)
        visit = _Visit(
            self._home,
            self._name,
            self._remote,
            options,
            self._report,
            self._session,
            self._replica,
        )
        visit._reports = self._reports
        for paths in _local_projects(self._home, options):
            visit.sync(paths)

    def newcomers(self) -> Iterator[ProjectPaths]:
        """Projects of the remote that are not here yet, and are for us and genuine."""
        options, known = self._options, {paths.id for paths in self._home.all_projects()}
        for project in listed_projects(self._remote):
            chosen = options.projects is None or project in options.projects
            if project in known or not chosen:
                continue
            try:
                paths = self._home.project(project)
            except BadName as problem:
                self._report.refused.append(Note(f"{self._name}: {project[:200]}", str(problem)))
                continue
            if self._is_for_us(project):
                doubt = self._doubt(project)
                if not doubt:
                    yield paths
                else:
                    self._report.refused.append(Note(f"project {project}", doubt))

    def _doubt(self, project: str) -> str:
        """Why a project that is not here yet is not taken; empty: it is."""
        try:
            return "" if is_genuine(self._remote, project) else "no genesis link has this id"
        except Unreachable:
            raise
        except RemoteError as problem:
            return f"cannot be looked at now: {problem}"

    def _is_for_us(self, project: str) -> bool:
        options, remote = self._options, self._remote
        if project in options.accept:
            return True
        if not options.recipients or self._session.is_stranger(remote.id, project, options):
            return False
        if is_for(remote, project, options.recipients):
            return True
        self._session.remember_stranger(remote.id, project, options)
        return False


# ------------------------------------------------------------------ stamps and memory
def settle(
    home: Path,
    session: Session,
    *,
    remotes: Sequence[str] | None = None,
    opener: Callable[[RemoteEntry], Remote] = open_remote,
    clock: Callable[[], int] = now_us,
    random: Callable[[int], bytes] = random_bytes,
) -> None:
    """Tell the other replicas what the syncs of a session have left on the remotes.

    Best effort: where a remote does not answer, the others list it in full for a day.
    """
    options, paths = Options(clock=clock, random=random), HomePaths(home)
    for entry in _chosen(read_remotes(home), remotes):
        open_here = [project for project, remote_id in session.open if remote_id == entry.id]
        if not open_here:
            continue
        with (
            contextlib.suppress(LocalStoreError, OSError, CatalogError),
            _closing(opener(entry), opener) as remote,
        ):
            visit = _Visit(
                paths, entry.name, remote, options, SyncReport(), session, replica_id(home)
            )
            for project in open_here:
                visit.settle(paths.project(project))


def forget_listing(paths: ProjectPaths, remote_id: str) -> None:
    """What is remembered of a remote's files counts no more: it is listed at the next sync."""
    _forget(paths, remote_id, Catalog.forget_listing)


def forget_remote(paths: ProjectPaths, remote_id: str) -> None:
    """Nothing is known of a remote any more, not even what it acknowledged."""
    _forget(paths, remote_id, Catalog.forget_remote)
    ReceiptFile.of(paths, remote_id).path.unlink(missing_ok=True)
    (paths.trust / f"{remote_id}.json").unlink(missing_ok=True)


def _forget(paths: ProjectPaths, remote_id: str, forget: Callable[[Catalog], None]) -> None:
    path = catalog_of(paths)
    try:
        with contextlib.closing(Catalog(path, remote_id)) as catalog:
            forget(catalog)
    except CatalogError:
        discard(path)  # a full disk, say: to forget all of it is right, too
