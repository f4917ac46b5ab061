"""`localstore.Api`: the runs of this store, as the tracker API that people know gives them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from localstore import pruned, settings
from localstore.errors import (
    Damaged,
    NotFound,
    NotPermitted,
    Pruned,
    StoreError,
    UsageError,
)
from localstore.format.columns import flatten
from localstore.format.spec import DataClass
from localstore.identity import now_us
from localstore.layout import HomePaths
from localstore.projects import Projects
from localstore.query.contents import RunContents
from localstore.query.filters import accepts, sort_key
from localstore.query.history import Table, cut_off, fold_points, merge
from localstore.query.listing import in_project, list_infos
from localstore.reading import read_run
from localstore.tails import tail_folder
from localstore.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from localstore.project import Project
    from localstore.query.contents import OutputLine, RunFile
    from localstore.query.info import RunInfo
    from localstore.sdk.artifact import Artifact


class StoredRun:
    """One run of the store, read when asked.

    Attributes:
        id, name, group, job_type, notes, entity, project: text. tags: list of text.
        rerun_of: path of the run that `localstore checkout --run` repeated, or empty.
        config: dict as it was given. summary: flat dict.
        state: running, finished, failed or crashed. exit_code: int, or None.
        created_at: Unix time in seconds.
        problems: damage that was met, as text; empty when all is well.
    """

    def __init__(self, project: Project, subject: bytes, info: RunInfo, options: Any) -> None:
        self._project, self._subject, self._info = project, subject, info
        self._options = options
        self._table: Table | None = None
        self._damage: list[Damaged] = []
        self._contents: RunContents | None = None
        self.entity, self.project = project.entity, project.name
        self.id = info.id or subject.hex()
        self.name = str(info.info.get("name", "")) or self.id
        self.group = str(info.info.get("group", ""))
        self.job_type = str(info.info.get("job_type", ""))
        self.notes = str(info.info.get("notes", ""))
        self.rerun_of = str(info.info.get("rerun_of", ""))
        self.tags = [str(tag) for tag in info.info.get("tags", [])]
        self.config: dict[str, Any] = info.config

    @property
    def subject(self) -> str:
        """Name of its folder, 32 hex digits: all that is left to name it by once it is erased."""
        return self._subject.hex()

    @property
    def project_id(self) -> str:
        """Id of its project, 64 hex digits."""
        return self._project.paths.id

    @property
    def path(self) -> str:
        """`entity/project/id`."""
        return f"{self.entity}/{self.project}/{self.id}"

    @property
    def state(self) -> str:
        """running, finished, failed or crashed."""
        return self._info.state(now_us())[0]

    @property
    def exit_code(self) -> int | None:
        """What the process left with; None while it runs or when it vanished."""
        return self._info.state(now_us())[1]

    @property
    def created_at(self) -> float:
        """When the run began, Unix time in seconds."""
        return self._info.created_us / 1e6

    @property
    def updated_at(self) -> float:
        """When its newest record was made, Unix time in seconds."""
        seen = [writer.last_seen_us for writer in self._info.writers.values()]
        return max([self._info.updated_us, *seen]) / 1e6

    @property
    def gaps(self) -> dict[str, int]:
        """How many records were dropped while it ran, by reason."""
        return dict(self._info.gaps)

    @property
    def flags(self) -> list[str]:
        """Why its writers deserve a second look, such as a revoked device."""
        return list(self._info.flags)

    @property
    def problems(self) -> list[str]:
        """Damage that was met while reading, each with file and offset."""
        return [*self._info.problems, *(str(problem) for problem in self._damage)]

    @property
    def trashed_until(self) -> float | None:
        """When it will be erased, Unix time in seconds; None when it is not in the trash."""
        when = self._project.state.trashed(now_us()).get(self._subject.hex())
        return None if when is None else when / 1e6

    @property
    def summary(self) -> dict[str, Any]:
        """Last values, or what `define_metric` asked for; folded from the points of a run that
        had no time to say it."""
        said = flatten(self._info.summary)
        if self._info.complete:
            return said
        try:
            fold = fold_points(self._info.definitions, self.table())
        except Pruned:
            return said
        return {**flatten(fold.values()), **said}

    def table(self) -> Table:
        """All points of the run, merged over its writers.

        Raises:
            Pruned: they are not here any more.
        """
        if self._table is None:
            self._check_here()
            folder = tail_folder(self._options.tail_dir, self._project.paths.id, self._subject)
            contents = read_run(
                self._project, self._subject, (DataClass.METRICS,), self._damage, folder
            )
            self._damage += cut_off(contents, self._info)
            self._damage = [in_project(self._project, problem) for problem in self._damage]
            self._table = merge(contents)
        return self._table

    def _check_here(self) -> None:
        stub = self.contents.pruned(DataClass.METRICS)
        if stub is not None:
            what = f"the history of {self.path!r}"
            raise pruned.error(self._project.paths, what, stub.remote, self.id)

    @property
    def pruned(self) -> dict[str, str]:
        """The classes whose records were pruned here, and where they are."""
        return {
            DataClass(stub.data_class).name.lower(): pruned.remote_name(
                self._project.paths, stub.remote
            )
            for stub in pruned.absent_logs(self._project.paths, self._subject.hex())
            if stub.data_class in DataClass._value2member_map_
        }

    def history(
        self,
        keys: Sequence[str] | None = None,
        samples: int | None = None,
        pandas: bool = True,
    ) -> Any:
        """All points as a table.

        Args:
            keys: which keys; rows without any of them are left out.
            samples: at most so many rows, evenly spread; None for all.
            pandas: a pandas frame where pandas is installed, else a dict of lists.

        Returns:
            A DataFrame, or a dict of lists of one length with None where there is no value, of
            `_step`, `_timestamp` (s), `_runtime` (s) and the keys.

        Raises:
            Pruned: the history was pruned here.
        """
        table = self.table()
        if samples is not None and 0 < samples < len(table):
            table = _thin(table, samples)
        return self._as_frame(table, keys, pandas=pandas)

    def _as_frame(self, table: Table, keys: Sequence[str] | None, *, pandas: bool) -> Any:
        if pandas:
            try:
                from localstore.query.frames import to_pandas

                return to_pandas(table, keys, self._info.created_us)
            except ImportError:
                pass
        return self._columns(table, keys)

    def _columns(self, table: Table, keys: Sequence[str] | None) -> dict[str, list[Any]]:
        rows = list(table.rows(keys))
        names = dict.fromkeys(name for row in rows for name in row)
        columns = {name: [row.get(name) for row in rows] for name in names}
        start = self._info.created_us / 1e6
        columns["_runtime"] = [row["_timestamp"] - start for row in rows]
        return columns

    def scan_history(
        self,
        keys: Sequence[str] | None = None,
        min_step: int = 0,
        max_step: int | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Points one by one, as dicts of what was logged, with `_step`, `_timestamp`, `_runtime`.

        Args:
            keys: which keys; rows without any of them are left out.
            min_step, max_step: from and below which step.
        """
        start = self._info.created_us / 1e6
        for row in self.table().rows(keys):
            if row["_step"] >= min_step and (max_step is None or row["_step"] < max_step):
                row["_runtime"] = row["_timestamp"] - start
                yield row

    # -------------------------------------------------------------- the other classes
    @property
    def contents(self) -> RunContents:
        """Files, facts, console and measurements of the machine, read when asked."""
        if self._contents is None:
            self._contents = RunContents(self._project, self._subject, self._options.tail_dir)
        return self._contents

    def files(self) -> list[RunFile]:
        """The files that belong to the run, sorted by path."""
        return self.contents.files()

    def read_file(self, path: str) -> bytes:
        """The content of one file.

        Raises:
            NotFound: there is no such file, or its bytes have not arrived here.
            Damaged: its bytes are not what was recorded.
        """
        return self.contents.read_file(path)

    def facts(self, what: str) -> dict[str, Any]:
        """Facts of a kind: `git`, `environment` or `host`; empty when none were recorded."""
        return self.contents.facts(what)

    def console(self) -> list[OutputLine]:
        """What the program printed, in order."""
        return self.contents.console()

    def system_metrics(self, pandas: bool = True) -> Any:
        """Measurements of the machine as a table; as `history`, its `_step` counts samples."""
        return self._as_frame(self.contents.system(), None, pandas=pandas)

    def media(self, record: Any) -> Any:
        """The media that a value of the history stands for.

        Args:
            record: a value such as `{"_type": "image-file", …}`.

        Returns:
            `localstore.Image`, `Table` …, or a list of them.

        Raises:
            NotFound, Damaged: as `read_file`.
        """
        from localstore.media.reading import from_record

        contents = self.contents
        return from_record(record, lambda path: contents.file(path).facts, contents.read_file)

    # -------------------------------------------------------------- lineage
    @property
    def lineage(self) -> list[tuple[str, str, str, str, str, str]]:
        """What it logged and used: `output` or `input`, artifact, digest in hex, type, project,
        entity."""
        return [
            (one.direction, one.name, one.digest.hex(), one.type, one.project, one.entity)
            for one in self._info.lineage
        ]

    def logged_artifacts(self) -> list[Artifact]:
        """The versions that it logged, as far as they are here and not deleted."""
        return self._artifacts("output")

    def used_artifacts(self) -> list[Artifact]:
        """The versions that it used, as far as they are here and not deleted."""
        return self._artifacts("input")

    def _artifacts(self, direction: str) -> list[Artifact]:
        from localstore.artifacts.finding import find_linked

        links = [link for link in self._info.lineage if link.direction == direction]
        return find_linked(self._project, links, self._options)

    def delete(self, *, now: bool = False) -> None:
        """Put the run into the trash, or erase it here at once.

        Raises:
            NotPermitted: a deposit-only machine.
        """
        from localstore.erase import delete_run

        delete_run(self._project, self._subject, now=now, days=self._options.trash_days)

    def undelete(self) -> None:
        """Take the run out of the trash.

        Raises:
            NotFound: it is not in the trash.
        """
        from localstore.erase import undelete_run

        undelete_run(self._project, self._subject)

    def extent(self) -> tuple[int, int]:
        """How many files it has on this disk, keyslots included, and their bytes."""
        from localstore.erase import extent

        return extent(self._project.paths, self._subject.hex())

    def to_dict(self) -> dict[str, Any]:
        """All but the history, as plain values."""
        return {
            "id": self.id,
            "name": self.name,
            "entity": self.entity,
            "project": self.project,
            "path": self.path,
            "state": self.state,
            "exit_code": self.exit_code,
            "created_at": _iso(self.created_at),
            "updated_at": _iso(self.updated_at),
            "group": self.group,
            "job_type": self.job_type,
            "tags": self.tags,
            "notes": self.notes,
            "rerun_of": self.rerun_of,
            "config": self.config,
            "summary": self.summary,
            "gaps": self.gaps,
            "flags": self.flags,
            "problems": self.problems,
            "pruned": self.pruned,
        }

    def __repr__(self) -> str:
        return f"<StoredRun {self.path} {self.state}>"


def _project_of(name: str) -> str | None:
    """`project` or `entity/project` of an artifact's name."""
    from localstore.artifacts.names import parse_place

    place = parse_place(name)
    return "/".join(part for part in (place.entity, place.project) if part) or None


def _iso(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (ValueError, OverflowError):
        return str(seconds)  # a claim that no calendar has


def _thin(table: Table, samples: int) -> Table:
    order = table.order if table.order is not None else list(range(len(table.steps)))
    picked = [order[at * len(order) // samples] for at in range(samples)]
    return Table(table.steps, table.times_us, table.pieces, picked)


class Api:
    """Reads the runs of a store.

    Args:
        home: the store's folder; default as for `localstore.init`.

    Attributes:
        problems: damage met so far, each with file and offset.

    Raises:
        KeyUnavailable: there is no key, or it does not open.
        NotPermitted: a deposit-only machine, which may write and not read.
    """

    def __init__(self, home: str | Path | None = None) -> None:
        self._options = settings.load({"home": None if home is None else str(home)})
        self.home = HomePaths(self._options.home_path)
        self._vault = Vault(self.home)
        self.identity = self._vault.load()
        if not self.identity.is_member:
            raise NotPermitted(
                "this machine has deposit tickets: it may write runs and read none",
                hint="read them on a machine of the person who made the ticket",
            )
        self._projects = Projects(self.home, self.identity)
        self.problems: list[StoreError] = []

    def projects(self) -> list[str]:
        """`entity/project` of all projects that can be read here, sorted."""
        found = {f"{p.entity}/{p.name}" for p in self._projects.all(self.problems)}
        return sorted(found)

    def runs(
        self,
        path: str | None = None,
        filters: Mapping[str, Any] | None = None,
        order: str = "-created_at",
        *,
        trashed: bool = False,
    ) -> list[StoredRun]:
        """Runs of a project, or of all.

        Args:
            path: `project` or `entity/project`; None for every project.
            filters: MongoDB-like, for example `{"config.lr": {"$lt": 0.1}, "state": "failed"}`.
            order: `created_at`, `summary.loss`, `config.lr` …, with `-` from the greatest down.
            trashed: those in the trash instead.

        Raises:
            NotFound: no such project.
            UsageError: a malformed path, filter or order.
        """
        found = [run for project in self._find(path) for run in self._of(project)]
        found = [run for run in found if (run.trashed_until is not None) == trashed]
        if filters:
            found = [run for run in found if accepts(filters, run)]
        key, down = sort_key(order)
        return sorted(found, key=key, reverse=down)

    def run(self, path: str) -> StoredRun:
        """One run by `id`, `project/id` or `entity/project/id`; a name that is unique will do.

        Raises:
            NotFound: no such run.
            UsageError: the name fits several runs.
        """
        place, _, wanted = path.rpartition("/")
        found = [
            run
            for project in self._find(place or None)
            for run in self._of(project)
            if wanted in (run.id, run.name)
        ]
        by_id = [run for run in found if run.id == wanted]
        chosen = by_id or found
        if not chosen:
            raise NotFound(f"no run {path!r}", hint="`localstore ls` lists the runs of this store")
        if len(chosen) > 1:
            paths = ", ".join(sorted(run.path for run in chosen))
            raise UsageError(f"{path!r} fits several runs: {paths}")
        return chosen[0]

    # -------------------------------------------------------------- artifacts
    def artifact(self, name: str, type: str | None = None) -> Artifact:
        """One version of an artifact.

        Args:
            name: `model`, `model:best`, `project/model:v3` or `entity/project/model:v3`; `latest`
                where no alias or version is given.
            type: what type it must have.

        Raises:
            NotFound: there is no such version.
            UsageError: it has another type, or several projects have one of this name.
        """
        from localstore.artifacts.finding import find

        return find(self._find(_project_of(name)), name, type, self._options)

    def artifact_exists(self, name: str, type: str | None = None) -> bool:
        """Whether `artifact` would find it."""
        try:
            self.artifact(name, type)
        except (NotFound, UsageError):
            return False
        return True

    def artifacts(
        self, type_name: str | None = None, name: str | None = None, path: str | None = None
    ) -> list[Artifact]:
        """The latest version of each artifact, or all versions of one, newest first.

        Args:
            type_name: of this type only.
            name: `model`, `project/model` or `entity/project/model`.
            path: without a name: `project` or `entity/project`; None for every project.

        Raises:
            NotFound: no such project.
            UsageError: a malformed name or path.
        """
        from localstore.artifacts.finding import list_versions
        from localstore.artifacts.names import parse_place

        place = None if name is None else parse_place(name)
        projects = self._find(path if name is None else _project_of(name))
        return list_versions(
            projects,
            self._options,
            self.problems,
            type=type_name,
            name=place.name if place else None,
        )

    def artifact_versions(self, type_name: str | None, name: str) -> list[Artifact]:
        """All versions of one artifact, newest first."""
        return self.artifacts(type_name, name)

    def _find(self, path: str | None) -> list[Project]:
        projects = list(self._projects.all(self.problems))
        if any(self._has_newer_keys(project) for project in projects):
            projects = self._adopt(projects)
        if path is None:
            return projects
        parts = path.split("/")
        if len(parts) > 2 or not all(parts):
            raise UsageError(f"{path!r} is no path, want PROJECT or ENTITY/PROJECT")
        found = [p for p in projects if [p.entity, p.name][-len(parts) :] == parts]
        if not found:
            raise NotFound(
                f"no project {path!r} in {self.home.root}",
                hint="`localstore ls` lists the projects and their runs",
            )
        return found

    def _has_newer_keys(self, project: Project) -> bool:
        user = project.state.users.get(self.identity.user)
        return user is not None and user.generation > self.identity.generation

    def _adopt(self, projects: list[Project]) -> list[Project]:
        """Another device of this person revoked one: take over the keys that it made."""
        from localstore.rotation import adopt_rotations

        adopted = adopt_rotations(self.home, self._vault)
        if adopted is None:
            return projects
        self.identity = adopted
        self._projects = Projects(self.home, adopted)
        return list(self._projects.all(self.problems))

    def _of(self, project: Project) -> list[StoredRun]:
        """The runs of one project."""
        found = list_infos(project, self._options.tail_dir, self.problems)
        return [StoredRun(project, subject, info, self._options) for subject, info in found]
