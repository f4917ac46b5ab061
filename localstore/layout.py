"""Where every file of a home stands and what its name must look like (docs/format.md, section 3).

Key-free. Names are generated here and checked here, also when a remote lists them: no name from
outside ever becomes a path unless `parse_name` accepts it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from localstore.errors import BadName, Damaged

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DIRECTORY_MODE: Final = 0o700
FILE_MODE: Final = 0o600
FORMAT_FILE: Final = "FORMAT"
_MAX_NAME_CHARS: Final = 128
_FORBIDDEN: Final = re.compile(r"[\x00-\x1f\x7f/\\:]")


class FileKind(Enum):
    """What a file of a project is, by its name alone."""

    FORMAT = "format"
    LINK = "link"
    CERT = "cert"
    KEYSLOT = "keyslot"
    LOG = "log"
    TAIL_COPY = "tail copy"
    FORK = "fork"
    OBJECT = "object"
    LIVE_TAIL = "live tail"
    STAMP = "stamp"

    @property
    def syncs(self) -> bool:
        """Whether replicas exchange files of this kind."""
        return self not in (FileKind.LIVE_TAIL, FileKind.STAMP)

    @property
    def on_remotes(self) -> bool:
        """Whether a remote takes files of this kind; stamps lie there and nowhere else."""
        return self is not FileKind.LIVE_TAIL


_PATTERNS: Final = {
    FileKind.FORMAT: re.compile(r"FORMAT"),
    FileKind.LINK: re.compile(r"links/(?P<hash>[0-9a-f]{64})"),
    FileKind.CERT: re.compile(r"certs/(?P<hash>[0-9a-f]{64})"),
    FileKind.KEYSLOT: re.compile(
        r"keys/(?P<subject>[0-9a-f]{32})/(?P<recipient>[0-9a-f]{32})-(?P<hash>[0-9a-f]{32})"
    ),
    FileKind.LOG: re.compile(r"runs/(?P<subject>[0-9a-f]{32})/(?P<segment>[0-9a-f]{32})\.log"),
    FileKind.TAIL_COPY: re.compile(
        r"runs/(?P<subject>[0-9a-f]{32})/(?P<segment>[0-9a-f]{32})-(?P<hash>[0-9a-f]{32})\.tail"
    ),
    FileKind.FORK: re.compile(
        r"runs/(?P<subject>[0-9a-f]{32})/(?P<segment>[0-9a-f]{32})-(?P<hash>[0-9a-f]{32})\.fork"
    ),
    FileKind.OBJECT: re.compile(r"objects/[0-9a-f]{2}/(?P<hash>[0-9a-f]{64})"),
    FileKind.LIVE_TAIL: re.compile(
        r"runs/(?P<subject>[0-9a-f]{32})/(?P<segment>[0-9a-f]{32})\.t[01]"
    ),
    FileKind.STAMP: re.compile(r"stamps/(?P<writer>[0-9a-f]{16})-(?P<hash>[0-9a-f]{16})(\.open)?"),
}


_FOLDERS: Final = {
    FileKind.FORMAT: FORMAT_FILE,
    FileKind.LINK: "links",
    FileKind.CERT: "certs",
    FileKind.KEYSLOT: "keys",
    FileKind.LOG: "runs",
    FileKind.TAIL_COPY: "runs",
    FileKind.FORK: "runs",
    FileKind.OBJECT: "objects",
    FileKind.LIVE_TAIL: "runs",
    FileKind.STAMP: "stamps",
}
_BY_FOLDER: Final = {
    folder: [(kind, _PATTERNS[kind]) for kind, own in _FOLDERS.items() if own == folder]
    for folder in set(_FOLDERS.values())
}


_ANY: Final = re.compile(
    "|".join(re.sub(r"\?P<\w+>", "?:", pattern.pattern) for pattern in _PATTERNS.values())
)


@dataclass(frozen=True, slots=True)
class FileName:
    """A checked name, relative to its project; ids in hex, empty where there is none."""

    name: str
    kind: FileKind
    subject: str = ""
    segment: str = ""
    recipient: str = ""
    hash: str = ""
    writer: str = ""


def parse_name(name: str) -> FileName:
    """Accept a name that this format has, whoever it comes from.

    Raises:
        Damaged: any other name.
    """
    for kind, pattern in _BY_FOLDER.get(name.partition("/")[0], ()):
        found = pattern.fullmatch(name)
        if found:
            if kind is FileKind.OBJECT and name[8:10] != found["hash"][:2]:
                break
            return FileName(name, kind, **found.groupdict())
    raise Damaged(f"no name of this format: {name[:200]!r}")


def is_name(name: str) -> bool:
    """Whether `parse_name` accepts a name; for who asks about hundreds of thousands."""
    if _ANY.fullmatch(name) is None:
        return False
    return not name.startswith("objects/") or name[8:10] == name[11:13]


def log_name(subject: str, segment: str) -> str:
    """Name of a segment's log."""
    return f"runs/{subject}/{segment}.log"


def object_name(object_id: bytes) -> str:
    """Name of an object."""
    name = object_id.hex()
    return f"objects/{name[:2]}/{name}"


def check_label(what: str, label: str) -> str:
    """A name that people give: a project, an entity, a run's id, a remote, a group.

    Raises:
        BadName: empty, over 128 characters, with slash, backslash, colon or control characters, or
            nothing but dots.
    """
    if not label.strip() or len(label) > _MAX_NAME_CHARS:
        raise BadName(f"{what} is {label!r}, want 1 to {_MAX_NAME_CHARS} characters")
    bad = _FORBIDDEN.search(label)
    if bad or not label.strip("."):
        found = repr(bad.group()) if bad else "nothing but dots"
        raise BadName(f"{what} {label!r} holds {found}; use letters, digits, '-', '_', '.', space")
    try:
        label.encode()
    except UnicodeEncodeError:
        raise BadName(f"{what} {label!r} is not valid Unicode") from None
    return label


@dataclass(frozen=True, slots=True)
class ProjectPaths:
    """The folder of one project."""

    root: Path

    @property
    def id(self) -> str:
        """The project's id, 64 hex digits."""
        return self.root.name

    def file(self, name: str) -> Path:
        """Path of a file whose name this module made or accepted."""
        return self.root / name

    @property
    def links(self) -> Path:
        """Signed links, named by their hash."""
        return self.root / "links"

    @property
    def certs(self) -> Path:
        """Certificates, named by their hash."""
        return self.root / "certs"

    @property
    def keys(self) -> Path:
        """Keyslots, in a folder for each subject."""
        return self.root / "keys"

    @property
    def runs(self) -> Path:
        """Segments, in a folder for each run."""
        return self.root / "runs"

    @property
    def objects(self) -> Path:
        """Objects, in a folder for each first byte of their ids."""
        return self.root / "objects"

    @property
    def receipts(self) -> Path:
        """What remotes acknowledged: truth, one growing file for each remote."""
        return self.root / "receipts"

    @property
    def trust(self) -> Path:
        """What was seen, so that a rollback is noticed."""
        return self.root / "trust"

    @property
    def local(self) -> Path:
        """Never synced, always rebuildable."""
        return self.root / "local"

    @property
    def quarantine(self) -> Path:
        """Bytes that `repair` took out of the way."""
        return self.local / "quarantine"

    def names(self) -> Iterator[str]:
        """Every file of the format below this project, local tails included, sorted by folder."""
        if (self.root / FORMAT_FILE).exists():
            yield FORMAT_FILE
        for folder in ("certs", "links", "keys", "runs", "objects"):
            yield from self._below(folder)

    def _below(self, folder: str) -> Iterator[str]:
        top = self.root / folder
        if not top.is_dir():
            return
        for path in sorted(top.iterdir()):
            if path.is_dir():
                yield from (f"{folder}/{path.name}/{leaf.name}" for leaf in sorted(path.iterdir()))
            else:
                yield f"{folder}/{path.name}"


@dataclass(frozen=True, slots=True)
class HomePaths:
    """The folder that holds everything of one person on one machine."""

    root: Path

    @property
    def identity(self) -> Path:
        """This machine's keys."""
        return self.root / "identity"

    @property
    def names(self) -> Path:
        """Which project a name stands for here; one atomic link each."""
        return self.root / "names"

    @property
    def projects(self) -> Path:
        """One folder for each project, named by its id."""
        return self.root / "projects"

    @property
    def remotes_file(self) -> Path:
        """Remotes that a person added."""
        return self.root / "remotes.toml"

    @property
    def config_file(self) -> Path:
        """The user's settings."""
        return self.root / "config.toml"

    def project(self, project_id: str) -> ProjectPaths:
        """Paths of one project.

        Raises:
            BadName: not 64 lower-case hex digits.
        """
        if not re.fullmatch(r"[0-9a-f]{64}", project_id):
            raise BadName(f"{project_id!r} is no project id, want 64 hex digits")
        return ProjectPaths(self.projects / project_id)

    def all_projects(self) -> list[ProjectPaths]:
        """Every project of this home, sorted by id."""
        if not self.projects.is_dir():
            return []
        return [
            ProjectPaths(path)
            for path in sorted(self.projects.iterdir())
            if re.fullmatch(r"[0-9a-f]{64}", path.name) and (path / FORMAT_FILE).exists()
        ]
