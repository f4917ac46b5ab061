"""The files of a logged version, as people handle them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from localstore import crypto
from localstore.errors import Damaged, NotFound, UsageError
from localstore.format.manifest import version_digest
from localstore.store.blobs import read_parts
from localstore.store.manifests import load_entries
from localstore.store.restore import restore

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localstore.artifacts.model import Version
    from localstore.format.manifest import Entry
    from localstore.project import Project


def read_entries(project: Project, version: Version) -> list[Entry]:
    """The files of a version, by path.

    Raises:
        NotFound: its manifest has not arrived here.
        Damaged: no manifest holds what the version's digest says.
    """
    problem: Damaged | NotFound | None = None
    for object_id, key in version.manifests:
        try:
            entries = load_entries(project, object_id, key)
        except (Damaged, NotFound) as error:
            problem = problem or error
            continue
        if crypto.same(version_digest(entries), version.digest):
            return entries
        problem = Damaged(f"the files of {version.label} are not those that its digest names")
    raise problem or Damaged(f"{version.label} was recorded without its files")


class ArtifactEntry:
    """One file of a logged artifact, or a reference.

    Attributes:
        path: inside the artifact, with `/`. size: in bytes; None when nobody knows.
        digest: BLAKE3 of the content in hex; empty when nobody knows.
        ref: URI of what is referred to; None for a file.
    """

    def __init__(self, project: Project, entry: Entry, folder: str) -> None:
        """`folder` is where `download` puts it without being told."""
        self._project, self._entry, self._folder = project, entry, folder
        self.path, self.size = entry.path, entry.size
        self.digest, self.ref = entry.hash.hex(), entry.uri or None

    @property
    def name(self) -> str:
        """The same as `path`."""
        return self.path

    def ref_target(self) -> str:
        """The URI that it refers to.

        Raises:
            UsageError: it is a file.
        """
        if self.ref is None:
            raise UsageError(f"{self.path!r} is a file, no reference")
        return self.ref

    def read(self) -> bytes:
        """The whole content, checked.

        Raises:
            UsageError: a reference, whose content is elsewhere.
            NotFound: an object has not arrived here.
            Damaged: the bytes are not those of the hash.
        """
        if self.ref is not None:
            raise UsageError(f"{self.path!r} refers to {self.ref!r}; its content is not kept here")
        entry = self._entry
        return read_parts(self._project, entry.parts, entry.size or 0, entry.hash)

    def download(self, root: str | Path | None = None) -> str:
        """Write it below `root`, checked; returns its path.

        Raises:
            UsageError: a reference, or something is in the way.
            NotFound, Damaged: as `read`.
        """
        if self.ref is not None:
            raise UsageError(f"{self.path!r} refers to {self.ref!r}; its content is not kept here")
        folder = Path(self._folder if root is None else root)
        restore(self._project, [self._entry], folder)
        return str(folder / self.path)

    def __repr__(self) -> str:
        return f"<ArtifactEntry {self.path!r} {self.ref or self.size}>"


class Manifest:
    """The files of a version.

    Attributes:
        entries: `ArtifactEntry` by path, in order.
    """

    def __init__(self, entries: Mapping[str, ArtifactEntry], digest: str) -> None:
        self.entries, self._digest = dict(entries), digest

    def digest(self) -> str:
        """Digest of the version in hex."""
        return self._digest

    def get_entry_by_path(self, path: str) -> ArtifactEntry | None:
        """One file, None when there is none of this path."""
        return self.entries.get(path)

    def __len__(self) -> int:
        return len(self.entries)

    def __repr__(self) -> str:
        return f"<Manifest of {len(self)} files>"
