"""What a remote says it holds. Every name is checked before anything is made of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from localstore.errors import Refused, RemoteError
from localstore.layout import parse_name
from localstored.remotes.base import check_name
from localstored.report import Note

if TYPE_CHECKING:
    from localstored.remotes.base import Remote

MAX_NAMES: Final = 4_000_000  # about 1 GiB of memory here; a lab's ten thousand runs have 50,000
_MAX_NOTES: Final = 100
_SHOWN_CHARS: Final = 200


@dataclass(slots=True)
class Listing:
    """Sizes in bytes by name, by project id; `refused` is what cannot be a file of ours."""

    projects: dict[str, dict[str, int]] = field(default_factory=dict)
    refused: list[Note] = field(default_factory=list)

    def recipients(self, project: str) -> frozenset[str]:
        """Tags of those for whom a project has keyslots."""
        files = (parse_name(name) for name in self.projects[project] if name.startswith("keys/"))
        return frozenset(file.recipient for file in files)


def read_listing(remote: Remote) -> Listing:
    """List a whole remote.

    Raises:
        Unreachable: it does not answer.
        RemoteError: it lists more than MAX_NAMES files.
    """
    found = Listing()
    for count, entry in enumerate(remote.list("projects/")):
        if count >= MAX_NAMES:
            raise RemoteError(f"the remote lists more than {MAX_NAMES} files")
        try:
            project, file = check_name(entry.name)
            if entry.size < 0:
                raise Refused(f"a size of {entry.size} bytes")
        except Refused as problem:
            if len(found.refused) < _MAX_NOTES:
                found.refused.append(Note(entry.name[:_SHOWN_CHARS], str(problem)))
            continue
        found.projects.setdefault(project, {})[file.name] = entry.size
    return found
