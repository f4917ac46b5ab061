"""What a remote says it holds. Every name is checked before anything is made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from localstore.errors import Refused, RemoteError
from localstored.remotes.base import split_name
from localstored.report import Note

if TYPE_CHECKING:
    from collections.abc import Iterator

    from localstored.remotes.base import Remote
    from localstored.report import Notes

MAX_NAMES: Final = 4_000_000  # of one project; ten thousand runs of a lab have 50,000
MAX_PROJECTS: Final = 100_000
_MAX_REFUSED: Final = 100
_SHOWN_CHARS: Final = 200


def listed(remote: Remote, project: str, below: str, refused: Notes) -> Iterator[tuple[str, int]]:
    """The names of the files of one project on a remote, which `layout` accepts, and their sizes in
    bytes, as they are listed; without stamps.

    Args:
        below: the beginning of their names; empty: all.
        refused: takes what cannot be a file of this project.

    Raises:
        Unreachable: it does not answer.
        RemoteError: it lists more than MAX_NAMES files.
    """
    prefix = f"projects/{project}/{below}"
    for count, entry in enumerate(remote.list(prefix)):
        if count >= MAX_NAMES:
            raise RemoteError(f"the remote lists more than {MAX_NAMES} files of one project")
        try:
            of, name = split_name(entry.name)
            if of != project or not entry.name.startswith(prefix):
                raise Refused(f"not below {prefix}")
            if entry.size < 0:
                raise Refused(f"a size of {entry.size} bytes")
        except Refused as problem:
            if refused.total < _MAX_REFUSED:
                refused.append(Note(entry.name[:_SHOWN_CHARS], str(problem)))
            continue
        if not name.startswith("stamps/"):
            yield name, entry.size


def listed_projects(remote: Remote) -> list[str]:
    """The ids of the projects on a remote, sorted.

    Raises:
        Unreachable: it does not answer.
        RemoteError: it lists more than MAX_PROJECTS.
    """
    found: set[str] = set()
    for project in remote.projects():
        if len(found) >= MAX_PROJECTS:
            raise RemoteError(f"the remote lists more than {MAX_PROJECTS} projects")
        found.add(project)
    return sorted(found)
