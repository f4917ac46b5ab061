"""Logs one version: its content, the record, the aliases that move; durable on return."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from localstore import crypto
from localstore.artifacts import numbers
from localstore.artifacts.names import LATEST, check_alias, check_name, check_tag, check_type
from localstore.artifacts.session import Session, state_of
from localstore.errors import StoreError
from localstore.format.manifest import Entry, in_order, version_digest
from localstore.format.spec import DataClass
from localstore.store.filecache import FileCache
from localstore.store.ingest import Ingest
from localstore.store.objects import ObjectFiles
from localstore.store.sources import open_file

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from localstore.artifacts.draft import Draft, Gathered
    from localstore.artifacts.model import ArtifactState, RunRef, Version
    from localstore.project import Project
    from localstore.settings import Settings

# Files of so many bytes together are hashed first where a version of this size is known: what is
# there already is then neither cut nor referred to again.
_HASH_FIRST_BYTES: Final = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is to be logged, without its content."""

    name: str
    type: str
    description: str = ""
    metadata: dict[str, Any] | None = None
    ttl_us: int | None = None
    aliases: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    run: RunRef | None = None

    def __post_init__(self) -> None:
        """Check the names.

        Raises:
            BadName: one breaks the rules.
        """
        check_name(self.name)
        check_type(self.type)
        for alias in self.aliases:
            check_alias(alias)
        for tag in self.tags:
            check_tag(tag)

    @property
    def data_class(self) -> DataClass:
        """Source code has a class of its own, with its own privacy rule."""
        return DataClass.CODE if self.type == "code" else DataClass.ARTIFACTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """A version that is in the store.

    Attributes:
        fresh: whether this call made it; False when the same content was there.
        entries: its files; None when they were not needed.
        changed: paths of files that changed after they were named.
        new_bytes: of contents in pieces that the store had not.
    """

    version: Version
    fresh: bool
    entries: list[Entry] | None
    changed: tuple[str, ...] = ()
    new_bytes: int = 0


# ------------------------------------------------------------------ logging
def hash_file(file: str | Path) -> tuple[int, bytes]:
    """Size and BLAKE3 of a regular file.

    Raises:
        UsageError, NotFound, NotPermitted, StoreError: see `store.sources.open_file`.
    """
    handle, _ = open_file(file)
    with os.fdopen(handle, "rb", buffering=0) as opened:
        found = crypto.stream_hash(opened)
        return opened.tell(), found


def hashed(gathered: Gathered, known: Mapping[str, bytes] | None = None) -> list[Entry]:
    """All entries with their hashes, without storing anything: enough for a digest.

    Args:
        known: hashes of sources that need not be read, by their paths.
    """
    entries = list(gathered.ready)
    for source in gathered.sources:
        content = source.file
        if isinstance(content, bytes):
            size, found = len(content), crypto.content_hash(content)
        elif known and source.path in known:
            size, found = gathered.facts[source.path].size, known[source.path]
        else:
            size, found = hash_file(content)
        entries.append(Entry(source.path, size, found, ()))
    return in_order(entries)


def naming(
    state: ArtifactState, digest: bytes, aliases: Iterable[str], tags: Iterable[str]
) -> dict[str, Any]:
    """The EDIT that points `latest` and `aliases` to a version and tags it; empty if all is so."""
    wanted = dict.fromkeys((LATEST, *aliases), digest)
    moved = {alias: to for alias, to in wanted.items() if state.aliases.get(alias) != to}
    version = state.get(digest)
    added = [tag for tag in tags if version is None or tag not in version.tags]
    operation: dict[str, Any] = {"aliases": moved} if moved else {}
    return operation | ({"version": digest, "tags_add": added} if added else {})


class Logging:
    """One version on its way into the store."""

    def __init__(
        self,
        project: Project,
        request: Request,
        draft: Draft,
        options: Settings,
        *,
        warn: Callable[[str], None],
        progress: Callable[[int, int], None] = lambda _done, _total: None,
        rehash: bool = False,
        confirm: Callable[[Sequence[str]], object] = tuple,
    ) -> None:
        """Nothing is read yet.

        Args:
            progress: told bytes done since the last call, and bytes in all.
            rehash: read every file, also those that look as they were.
            confirm: called with paths of files that changed, when all is stored and before it
                becomes a version; what it raises keeps it from becoming one.
        """
        self._project, self._request, self._draft = project, request, draft
        self._options, self._warn, self._progress = options, warn, progress
        self._class = request.data_class
        self._total, self._rehash, self._confirm = 0, rehash, confirm
        self._largest = 0

    def run(self) -> Logged:
        """Store the content unless it is there, and move the aliases.

        Raises:
            UsageError, NotFound, NotPermitted: a file is wrong; names it.
            StoreError: the disk refused.
        """
        self._project.ensure_cert()
        gathered = self._draft.gather(hash_file)
        self._total, self._largest = gathered.total_bytes, _largest(gathered)
        self._progress(0, self._total)
        known = self._known(gathered)
        logged = None if known is None else self._name_again(known)
        if logged is None:
            logged = self._store(gathered)
        else:
            self._progress(self._total, self._total)
        self._draft.release()
        return logged

    def _known(self, gathered: Gathered) -> bytes | None:
        """The digest, if the same content is a version already and that is cheap to find out."""
        state = self._state()
        # References of unknown size count as nothing in a version's size.
        size = gathered.total_bytes + sum(entry.size or 0 for entry in gathered.ready)
        if not any((v.size, v.files) == (size, gathered.count) for v in state.versions):
            return None
        known, unread_bytes = self._remembered(gathered)
        if unread_bytes > _HASH_FIRST_BYTES:
            return None
        digest = version_digest(hashed(gathered, known))
        return digest if state.get(digest) is not None else None

    def _remembered(self, gathered: Gathered) -> tuple[dict[str, bytes], int]:
        """Hashes of files that are as they were when they were stored, and bytes of the others."""
        cache = FileCache(self._project, self._class)
        known: dict[str, bytes] = {}
        unread_bytes = 0
        for source in gathered.sources:
            if isinstance(source.file, bytes):
                continue
            facts = gathered.facts[source.path]
            found = None if self._rehash else cache.hash_of(str(source.file), facts)
            if found is None:
                unread_bytes += facts.size
            else:
                known[source.path] = found
        return known, unread_bytes

    def _state(self) -> ArtifactState:
        return state_of(self._project, self._request.name, self._options)

    def _session(self) -> Session:
        request = self._request
        return Session(
            self._project,
            request.name,
            request.type,
            self._options,
            self._warn,
            largest=self._largest,
        )

    def _name_again(self, digest: bytes) -> Logged | None:
        """Move aliases to content that is there; nothing is written when they stand right.

        None when somebody deleted it meanwhile.
        """
        with self._turn():
            state = self._state()
            if state.get(digest) is None:
                return None
            operation = naming(state, digest, self._request.aliases, self._request.tags)
            if operation:
                with self._session() as session:
                    session.edit(operation, state.tips)
        return self._logged(digest, None, fresh=False)

    def _turn(self) -> contextlib.AbstractContextManager[None]:
        return numbers.turn(self._project, self._project.artifact_subject(self._request.name))

    def _store(self, gathered: Gathered) -> Logged:
        with self._session() as session:
            entries, manifest, ingest = self._ingest(session, gathered)
            self._confirm(ingest.changed)
            digest = version_digest(entries)
            with self._turn():
                state = self._state()
                fresh = state.get(digest) is None
                if fresh:
                    self._record(session, state, digest, entries, manifest)
                operation = naming(state, digest, self._request.aliases, self._request.tags)
                if operation:
                    session.edit(operation, state.tips)
                session.flush()
        for path in ingest.changed:
            self._warn(f"{path} of artifact {self._request.name} changed after it was added")
        return self._logged(digest, entries, fresh=fresh, ingest=ingest)

    def _ingest(
        self, session: Session, gathered: Gathered
    ) -> tuple[list[Entry], tuple[bytes, bytes], Ingest]:
        def refer(objects: Sequence[bytes]) -> None:
            session.refer(self._class, objects)

        kept = [entry for entry in gathered.ready if entry.parts]
        _rely(self._project, kept, refer)
        ingest = Ingest(
            self._project,
            self._class,
            refer=refer,
            rehash=self._rehash,
            progress=lambda count: self._progress(count, self._total),
            chunking=self._options.chunking,
        )
        entries = in_order([*ingest.run(gathered.sources, gathered.facts), *gathered.ready])
        manifest = ingest.store_manifest(entries)
        return entries, manifest, ingest

    def _record(
        self,
        session: Session,
        state: ArtifactState,
        digest: bytes,
        entries: list[Entry],
        manifest: tuple[bytes, bytes],
    ) -> None:
        request = self._request
        body: dict[str, Any] = {
            "manifest": list(manifest),
            "size": sum(entry.size or 0 for entry in entries),
            "files": len(entries),
            "description": request.description,
            "metadata": request.metadata or {},
            "type": request.type,
        }
        if request.run is not None:
            run = request.run
            body["run"] = {"id": run.id, "project": run.project, "entity": run.entity}
        if request.ttl_us is not None:
            body["ttl_us"] = request.ttl_us
        if digest in state.deleted:  # what is logged again after its deletion lives
            body["after"] = sorted(state.deleted[digest])
        number = numbers.claim(self._project, session.subject, state.highest)
        session.version(self._class, number, digest, body)
        session.flush()  # before an alias names it

    def _logged(
        self,
        digest: bytes,
        entries: list[Entry] | None,
        *,
        fresh: bool,
        ingest: Ingest | None = None,
    ) -> Logged:
        version = self._state().get(digest)
        if version is None:
            raise StoreError(f"artifact {self._request.name!r} was deleted while it was logged")
        return Logged(
            version=version,
            fresh=fresh,
            entries=entries,
            changed=tuple(ingest.changed) if ingest else (),
            new_bytes=ingest.new_bytes if ingest else 0,
        )


def _largest(gathered: Gathered) -> int:
    """Bytes of the largest file that is to be kept."""
    contents = (
        len(source.file) if isinstance(source.file, bytes) else gathered.facts[source.path].size
        for source in gathered.sources
    )
    kept = (entry.size or 0 for entry in gathered.ready if entry.parts)
    return max(max(contents, default=0), max(kept, default=0))


def _rely(project: Project, entries: list[Entry], refer: Callable[[Sequence[bytes]], None]) -> None:
    """Use objects of an earlier version: pinned, referred to, and then looked for once more.

    Raises:
        StoreError: one is gone, with the name of its file.
    """
    objects = ObjectFiles(project.paths)
    owners = {part.object_id: entry.path for entry in entries for part in entry.parts}
    _all_there(owners, objects.pin)
    if owners:
        refer(list(owners))
    _all_there(owners, objects.has)


def _all_there(owners: Mapping[bytes, str], there: Callable[[bytes], object]) -> None:
    for object_id, path in owners.items():
        if not there(object_id):
            raise StoreError(
                f"the content of {path!r} is not here", hint="`localstore sync now` may bring it"
            )
