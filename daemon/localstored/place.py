"""Where the catalog of a project lies: on this machine's own disk, whatever the home lies on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from localstore.crypto import digest
from localstore.format import spec

if TYPE_CHECKING:
    from localstore.layout import ProjectPaths

CATALOG_FILE: Final = "catalog.db"
_NETWORK: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "9p", "gpfs", "beegfs", "ceph", "afs"}
)
_OCTAL: Final = re.compile(r"\\([0-7]{3})")


def catalog_of(paths: ProjectPaths) -> Path:
    """Where the catalog of a project lies on this machine."""
    return catalog_path(paths, read_mounts(), _node_folder())


def _node_folder() -> Path:
    import platformdirs

    return Path(platformdirs.user_cache_dir("localstore", appauthor=False))


def catalog_path(paths: ProjectPaths, mounts: str, node_folder: Path) -> Path:
    """Where the catalog of a project lies.

    Args:
        mounts: the text of /proc/self/mountinfo; empty where there is none.
        node_folder: a folder on this machine's own disk, for homes on a network file system.
    """
    if not is_network(file_system_of(paths.root.resolve(), mounts)):
        return paths.local / CATALOG_FILE
    place = digest(spec.LABEL_CACHE, str(paths.root.resolve()).encode(), size=16).hex()
    return node_folder / f"catalog-{place}.db"


def read_mounts() -> str:
    """The mounts that this process sees; empty on a system that does not say."""
    try:
        return Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
    except OSError:
        return ""


def file_system_of(path: Path, mounts: str) -> str:
    """The type of the file system that holds `path`: of all mounts above it, the deepest."""
    best, kind = -1, ""
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        if len(fields) < 5 or not right:
            continue
        point = _OCTAL.sub(lambda code: chr(int(code[1], 8)), fields[4])
        # Of two mounts on one point the later hides the earlier.
        if len(point) >= best and path.is_relative_to(point):
            best, kind = len(point), right.split(" ")[0]
    return kind


def is_network(kind: str) -> bool:
    """Whether a file system's type says that other machines may write to it, or its locks lie."""
    return kind in _NETWORK or kind.startswith("fuse.")
