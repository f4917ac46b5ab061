"""`localstore.Artifact`: files under a name, in versions that never change."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from localstore import settings
from localstore.artifacts import editing
from localstore.artifacts.building import Building
from localstore.artifacts.draft import Draft
from localstore.artifacts.entries import ArtifactEntry, Manifest, read_entries
from localstore.artifacts.folders import check_may_empty, is_the_same, remove_others
from localstore.artifacts.model import RunRef
from localstore.artifacts.names import (
    LATEST,
    check_alias,
    check_name,
    check_tag,
    check_text_list,
    check_type,
)
from localstore.artifacts.session import state_of
from localstore.artifacts.writing import Logging, Request, hash_file, hashed, naming
from localstore.errors import Damaged, NotFound, StoreError, UsageError
from localstore.format.manifest import version_digest
from localstore.sdk.values import encode_any, plain
from localstore.store.restore import restore
from localstore.store.sources import walk

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    from localstore.artifacts.background import Job
    from localstore.artifacts.model import Version
    from localstore.project import Project
    from localstore.query.api import Api, StoredRun
    from localstore.settings import Settings

_MAX_METADATA_BYTES: Final = 4 * 1024 * 1024
Progress = Callable[[int, int], None]  # bytes done since the last call, bytes in all


class Artifact(Building):
    """Files under a name: a dataset, a model. Each different content is a version.

    It is a draft until `Run.log_artifact` or `save` stores it; then its content is fixed, and
    `version`, aliases and the rest are known. What `Api` and `use_artifact` give is stored.

    Args:
        name: letters, digits, `-`, `_`, `.`; neither slash nor colon.
        type: such as `dataset` or `model`.
        description: free text.
        metadata: what to know of this version; a dict.

    Raises:
        UsageError: a name breaks the rules, or metadata is no dict.
    """

    def __init__(
        self,
        name: str,
        type: str,
        description: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._name, self._type = check_name(name), check_type(type)
        self._draft = Draft()
        self._job: Job | None = None
        self._project: Project | None = None
        self._options: Settings | None = None
        self._version: Version | None = None
        self._deleted = False
        self._aliases: list[str] = []
        self._tags: list[str] = []
        self._ttl: timedelta | None = None
        self.description = description or ""
        self.metadata = metadata or {}

    @classmethod
    def of(cls, project: Project, name: str, version: Version, options: Settings) -> Self:
        """A version that is stored."""
        artifact = cls(name, version.type or "unspecified")
        artifact._commit(project, version, options)
        return artifact

    def _commit(self, project: Project, version: Version, options: Settings) -> None:
        self._draft.frozen = True
        self._project, self._options = project, options
        self._show(version)

    def _show(self, version: Version) -> None:
        self._aliases, self._tags = list(version.aliases), list(version.tags)
        self._ttl = _as_delta(version.ttl_us)
        self._description, self._metadata = version.description, dict(plain(version.metadata))
        self._version = version

    # -------------------------------------------------------------- names
    @property
    def name(self) -> str:
        """`model:v3` when it is stored, `model` before."""
        return f"{self._name}:{self._version.label}" if self._version else self._name

    @property
    def collection_name(self) -> str:
        """The name without a version."""
        return self._name

    @property
    def type(self) -> str:
        """Its type."""
        return self._version.type or self._type if self._version else self._type

    @property
    def version(self) -> str:
        """`v3`, or `v3.1f2e` where a machine that was offline gave the number to other content.

        Raises:
            UsageError: it was never logged.
        """
        return self._stored()[1].label

    @property
    def project(self) -> str:
        """Name of its project; empty before it is stored."""
        return self._project.name if self._project else ""

    @property
    def entity(self) -> str:
        """Person or team of its project; empty before it is stored."""
        return self._project.entity if self._project else ""

    @property
    def qualified_name(self) -> str:
        """`entity/project/model:v3`."""
        return f"{self.entity}/{self.project}/{self.name}" if self._project else self.name

    @property
    def source(self) -> str:
        """`entity/project/id` of the run that logged it first; empty when no run did."""
        runs = self._stored()[1].runs
        return f"{runs[0].entity}/{runs[0].project}/{runs[0].id}" if runs else ""

    @property
    def state(self) -> str:
        """`PENDING` until it is stored, then `COMMITTED`; `DELETED` after `delete`."""
        if self._deleted:
            return "DELETED"
        return "COMMITTED" if self._version else "PENDING"

    def __repr__(self) -> str:
        return f"<Artifact {self.qualified_name} {self.state}>"

    # -------------------------------------------------------------- facts that may change
    @property
    def description(self) -> str:
        """Free text. A change of a stored version is kept by `save`."""
        return self._description

    @description.setter
    def description(self, text: str | None) -> None:
        if text is not None and not isinstance(text, str):
            raise UsageError(f"a description is a text, not {text!r:.80}")
        self._description = str(plain(text or ""))

    @property
    def metadata(self) -> dict[str, Any]:
        """What to know of this version. A change of a stored version is kept by `save`."""
        return self._metadata

    @metadata.setter
    def metadata(self, values: dict[str, Any] | None) -> None:
        self._metadata = _checked_metadata({} if values is None else values)

    @property
    def aliases(self) -> list[str]:
        """Names that point to this version. A change of a stored version is kept by `save`."""
        return self._aliases

    @aliases.setter
    def aliases(self, names: Iterable[str]) -> None:
        self._aliases = check_text_list("aliases", _listed(names))

    @property
    def tags(self) -> list[str]:
        """Tags of this version. A change of a stored version is kept by `save`."""
        return self._tags

    @tags.setter
    def tags(self, names: Iterable[str]) -> None:
        self._tags = check_text_list("tags", _listed(names))

    @property
    def ttl(self) -> timedelta | None:
        """How long it shall be kept from when it was logged; None for ever."""
        return self._ttl

    @ttl.setter
    def ttl(self, period: Any) -> None:
        if period is not None and (not isinstance(period, timedelta) or period <= timedelta(0)):
            raise UsageError(f"ttl is {period!r:.80}, want a timedelta above zero, or None")
        self._ttl = period

    # -------------------------------------------------------------- facts of the content
    @property
    def digest(self) -> str:
        """32 bytes in hex over paths and contents: equal content, equal digest.

        Of a draft all files are read.
        """
        if self._job is None and self._version is None:
            return version_digest(hashed(self._draft.gather(hash_file))).hex()
        return self._stored()[1].digest.hex()

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        if self._job is None and self._version is None:
            gathered = self._draft.gather(hash_file)
            return gathered.total_bytes + sum(entry.size or 0 for entry in gathered.ready)
        return self._stored()[1].size

    @property
    def file_count(self) -> int:
        """How many files and references."""
        if self._job is None and self._version is None:
            return self._draft.gather(hash_file).count
        return self._stored()[1].files

    @property
    def created_at(self) -> str:
        """When it was logged first, as ISO text in UTC."""
        created_us = self._stored()[1].created_us
        try:
            return datetime.fromtimestamp(created_us / 1e6, UTC).isoformat()
        except (ValueError, OverflowError):
            return str(created_us)  # a claim that no calendar has

    @property
    def flags(self) -> list[str]:
        """Why its writers deserve a second look, such as a revoked device."""
        return list(self._stored()[1].flags)

    # -------------------------------------------------------------- storing
    def begin_logging(
        self,
        project: Project,
        options: Settings,
        warn: Callable[[str], None],
        run_id: str = "",
        aliases: Sequence[str] = (),
        tags: Sequence[str] = (),
    ) -> Callable[[Progress], None]:
        """Fix the content; returns what stores it, to be called once, in any thread.

        Of an artifact that is stored, or about to be, it moves aliases and adds tags.

        Raises:
            UsageError: an alias or tag breaks the rules.
        """
        run = RunRef(id=run_id, project=project.name, entity=project.entity) if run_id else None
        request = Request(
            name=self._name,
            type=self._type,
            description=self._description,
            metadata=_checked_metadata(self._metadata),
            ttl_us=_as_us(self._ttl),
            aliases=tuple(dict.fromkeys([*(() if self._version else self._aliases), *aliases])),
            tags=tuple(dict.fromkeys([*(() if self._version else self._tags), *tags])),
            run=run,
        )
        again = self._draft.frozen
        self._draft.frozen = True

        def store(progress: Progress) -> None:
            if again:
                self._name_again(request, warn)
                return
            logging = Logging(project, request, self._draft, options, warn=warn, progress=progress)
            try:
                self._commit(project, logging.run().version, options)
            finally:
                self._draft.frozen = self._version is not None  # else it may be tried again

        return store

    def _name_again(self, request: Request, warn: Callable[[str], None]) -> None:
        project, options = self._project, self._options
        if project is None or options is None or self._version is None:
            raise StoreError(f"artifact {self._name!r} was not stored before")
        state = state_of(project, self._name, options)
        operation = naming(state, self._version.digest, request.aliases, request.tags)
        if operation:
            editing.edit(project, self._name, operation, options, warn)
        self._refresh()

    def follow(self, job: Job) -> None:
        """This job stores it."""
        self._job = job

    def wait(self, timeout: float | None = None) -> Self:
        """Wait until it is stored.

        Args:
            timeout: in seconds; None for as long as it takes.

        Raises:
            UsageError: it was never logged.
            StoreError: it is not stored in time, or the disk refused.
            Whatever kept it from being stored, such as a file that was removed.
        """
        job = self._job
        if job is not None and not job.wait(timeout):
            raise StoreError(f"artifact {self._name!r} is not stored after {timeout} s")
        if job is not None and job.error is not None and self._version is None:
            raise job.error
        if self._version is None:
            raise UsageError(
                f"artifact {self._name!r} was never logged",
                hint="run.log_artifact(artifact), or artifact.save()",
            )
        return self

    def _stored(self) -> tuple[Project, Version, Settings]:
        """Where it is stored; waits for what is under way."""
        if self._deleted:
            raise UsageError(f"artifact {self.name!r} was deleted")
        if self._version is None:
            self.wait()
        if self._project is None or self._version is None or self._options is None:
            raise UsageError(f"artifact {self._name!r} was never logged")
        return self._project, self._version, self._options

    def save(self, project: str | None = None, entity: str | None = None) -> Self:
        """Store it, or keep the changes of aliases, tags, description, metadata and ttl.

        Args:
            project, entity: where to; default the current run's project, else the settings'.

        Raises:
            UsageError: a name breaks the rules.
            StoreError: the disk refused.
            NotFound, NotPermitted: a file is missing, or cannot be read.
        """
        if self._job is not None or self._version is not None:
            self._save_changes()
            return self
        from localstore.artifacts.finding import open_project
        from localstore.sdk.start import current

        run = current()
        if run is not None and project is None and not run.disabled:
            run.log_artifact(self)
            return self.wait()
        place, options = open_project(project, entity)
        self.begin_logging(place, options, _warn)(_no_progress)
        return self

    def _save_changes(self) -> None:
        project, before, options = self._stored()
        operation = self._changes(before)
        if operation:
            editing.edit(project, self._name, operation, options, _warn)
            self._refresh()

    def _changes(self, before: Version) -> dict[str, Any]:
        """The EDIT that makes the stored version what this object says."""
        digest = before.digest
        aliases: dict[str, bytes | None] = {
            check_alias(one): digest for one in self._aliases if one not in before.aliases
        }
        aliases |= {one: None for one in before.aliases if one not in self._aliases}
        changed: dict[str, Any] = {}
        if self._description != before.description:
            changed["description"] = self._description
        metadata = _checked_metadata(self._metadata)
        if metadata != before.metadata:
            changed["metadata"] = metadata
        if _as_us(self._ttl) != before.ttl_us:
            changed["ttl_us"] = _as_us(self._ttl)
        added = [check_tag(one) for one in self._tags if one not in before.tags]
        removed = [one for one in before.tags if one not in self._tags]
        operation: dict[str, Any] = {"aliases": aliases} if aliases else {}
        if changed or added or removed:
            operation |= {"version": digest, "set": changed}
            operation |= {"tags_add": added, "tags_remove": removed}
        return operation

    def _refresh(self) -> None:
        """Show the version as the store has it now."""
        project, version, options = self._stored()
        found = state_of(project, self._name, options).get(version.digest)
        if found is not None:
            self._show(found)

    def new_draft(self) -> Artifact:
        """A draft with the same content, to which can be added.

        Raises:
            UsageError: it was never logged.
            NotFound: its list of files has not arrived here.
        """
        project, version, _ = self._stored()
        draft = Artifact(self._name, self.type, self._description, dict(self._metadata))
        draft._draft.keep(read_entries(project, version))
        return draft

    def delete(self, delete_aliases: bool = False) -> None:
        """Delete this version, on every machine that learns of it.

        Args:
            delete_aliases: delete it also when other aliases than `latest` point to it.

        Raises:
            UsageError: aliases point to it.
            NotPermitted: a machine that may only write.
        """
        project, version, options = self._stored()
        own = [alias for alias in version.aliases if alias != LATEST]
        if own and not delete_aliases:
            raise UsageError(
                f"aliases point to {self.name!r}: {', '.join(own)}",
                hint="delete(delete_aliases=True) takes them away",
            )
        editing.delete_version(project, self._name, version.digest, options, _warn)
        self._deleted = True

    # -------------------------------------------------------------- content
    @property
    def manifest(self) -> Manifest:
        """Its files by path.

        Raises:
            UsageError: it was never logged.
            NotFound: the list of files has not arrived here.
        """
        project, version, _ = self._stored()
        folder = self._default_root()
        entries = {
            entry.path: ArtifactEntry(project, entry, folder)
            for entry in read_entries(project, version)
        }
        return Manifest(entries, version.digest.hex())

    def _default_root(self) -> str:
        return str(settings.working_folder() / "artifacts" / self.name)

    def files(self, names: list[str] | None = None) -> list[ArtifactEntry]:
        """Its files and references, by path; with `names` those only.

        Raises:
            UsageError, NotFound: see `manifest`.
        """
        entries = self.manifest.entries.values()
        return [entry for entry in entries if names is None or entry.path in names]

    def get_entry(self, name: str) -> ArtifactEntry:
        """One file or reference.

        Raises:
            NotFound: there is none of this path.
        """
        found = self.manifest.entries.get(name)
        if found is None:
            raise NotFound(f"artifact {self.name!r} has no file {name!r}")
        return found

    def get_path(self, name: str) -> ArtifactEntry:
        """The same as `get_entry`."""
        return self.get_entry(name)

    def get(self, name: str) -> Any:
        """The image, table or other media object that was added under a name; None if none was.

        Raises:
            Damaged: it cannot be opened.
        """
        from localstore.media.packing import from_artifact

        entries = self.manifest.entries

        def read(path: str) -> bytes:
            if path not in entries or entries[path].ref is not None:
                raise NotFound(f"artifact {self.name!r} has no file {path!r}")
            return entries[path].read()

        return from_artifact(name, read)

    def __getitem__(self, name: str) -> Any:
        """`artifact["table"]` is `artifact.get("table")`."""
        return self.get(name)

    def file(self, root: str | os.PathLike[str] | None = None) -> str:
        """Download the only file of an artifact; returns its path.

        Raises:
            UsageError: it has several files, or none.
        """
        entries = [entry for entry in self.files() if entry.ref is None]
        if len(entries) != 1:
            raise UsageError(f"artifact {self.name!r} has {len(entries)} files; use download()")
        return entries[0].download(root if root is None else Path(root))

    def download(
        self,
        root: str | os.PathLike[str] | None = None,
        path_prefix: str | None = None,
        **unused: Any,
    ) -> str:
        """Write its files to a folder, each checked; returns the folder.

        Files that are there and the same are left alone. References are not fetched.

        Args:
            root: default `./artifacts/<name>:<version>`.
            path_prefix: only files whose path begins with it.

        Raises:
            NotFound: content that has not arrived here.
            Damaged: content that is not what was logged.
            UsageError: something is in the way, such as a symbolic link.
        """
        for name in unused:
            if name not in ("skip_cache", "allow_missing_references", "multipart"):
                raise UsageError(f"download() has no argument {name!r}")
        project, version, _ = self._stored()
        folder = Path(root if root is not None else self._default_root())
        restore(project, read_entries(project, version), folder, path_prefix=path_prefix or "")
        return str(folder)

    def checkout(self, root: str | os.PathLike[str] | None = None) -> str:
        """`download`, and remove what else is in the folder; returns the folder.

        Raises:
            NotFound, Damaged: as `download`.
            UsageError: a folder that nobody wants emptied, such as a home folder.
        """
        project, version, options = self._stored()
        folder = Path(root if root is not None else self._default_root())
        check_may_empty(folder, options)
        entries = [entry for entry in read_entries(project, version) if not entry.uri]
        restore(project, entries, folder)
        remove_others(folder, {entry.path for entry in entries})
        return str(folder)

    def verify(self, root: str | os.PathLike[str] | None = None) -> None:
        """Compare a folder with its files: nothing missing, changed or added. References are not.

        Args:
            root: default `./artifacts/<name>:<version>`.

        Raises:
            Damaged: names what differs.
        """
        project, version, _ = self._stored()
        folder = Path(root if root is not None else self._default_root())
        entries = [entry for entry in read_entries(project, version) if not entry.uri]
        wrong = [entry.path for entry in entries if not is_the_same(folder / entry.path, entry)]
        here = {path for path, _ in walk(folder)} if folder.is_dir() else set()
        wrong += sorted(here - {entry.path for entry in entries})
        if wrong:
            names = ", ".join(wrong[:8]) + (" …" if wrong[8:] else "")
            what = f"{len(wrong)} files in {str(folder)!r} are not those of {self.name!r}: {names}"
            raise Damaged(what, hint="download() writes them anew")

    # -------------------------------------------------------------- lineage
    def _api(self) -> Api:
        from localstore.query.api import Api

        return Api(self._stored()[2].home_path)

    def logged_by(self) -> StoredRun | None:
        """The run that logged it first; None when no run did, or it is not here."""
        source = self.source
        try:
            return self._api().run(source) if source else None
        except NotFound:
            return None

    def used_by(self) -> list[StoredRun]:
        """The runs that used it, of all projects of this store."""
        project, version, _ = self._stored()
        wanted = ("input", self._name, version.digest.hex(), project.name, project.entity)
        return [
            run
            for run in self._api().runs(order="created_at")
            if any(link[:3] + link[4:] == wanted for link in run.lineage)
        ]


def _warn(text: str) -> None:
    from localstore.sdk.run import say

    say(f"warning: {text}")


def _no_progress(_done: int, _total: int) -> None:
    """Nobody watches."""


def _listed(names: Iterable[str]) -> object:
    return names if isinstance(names, str) else list(names)


def _as_us(period: timedelta | None) -> int | None:
    return None if period is None else period // timedelta(microseconds=1)


def _as_delta(period_us: int | None) -> timedelta | None:
    try:
        return None if period_us is None else timedelta(microseconds=period_us)
    except OverflowError:
        return timedelta.max


def _checked_metadata(values: Any) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise UsageError(f"metadata is a dict, not {values!r:.80}")
    found = plain(values)
    size = len(encode_any(found))
    if size > _MAX_METADATA_BYTES:
        limit = _MAX_METADATA_BYTES >> 20
        raise UsageError(
            f"metadata of {size:,} bytes, the most is {limit} MiB", hint="add it as a file"
        )
    return dict(found)
