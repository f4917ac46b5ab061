"""Whether what lies on a remote is the project that it is called, and all of what it was."""

from __future__ import annotations

import contextlib
import json
from itertools import islice
from typing import TYPE_CHECKING, Final

from localstore import trust
from localstore.durable import replace_file
from localstore.errors import Damaged, NotFound, Refused
from localstore.format.version import check_format
from localstore.layout import FORMAT_FILE, FileKind, parse_name
from localstored.catalog import ABSENT
from localstored.incoming import read_exactly
from localstored.listing import listed
from localstored.report import Note, Notes
from localstored.verify import MAX_BYTES, MAX_FORMAT_BYTES

if TYPE_CHECKING:
    from localstore.layout import ProjectPaths
    from localstored.catalog import Catalog, There
    from localstored.remotes.base import Remote
    from localstored.report import ProjectReport

_MAX_LINKS_ASKED: Final = 10_000


def is_for(remote: Remote, project: str, recipients: frozenset[str]) -> bool:
    """Whether a remote holds a keyslot of a project for one of these recipients."""
    files = listed(remote, project, "keys/", Notes())
    return any(parse_name(name).recipient in recipients for name, _ in files)


def is_genuine(remote: Remote, project: str) -> bool:
    """Whether a remote holds the genesis link that a project's id is the hash of.

    Raises:
        RemoteError: the remote could not say in passing, or does not answer.
    """
    for name, size in islice(listed(remote, project, "links/", Notes()), _MAX_LINKS_ASKED):
        if size <= MAX_BYTES[FileKind.LINK]:
            with contextlib.suppress(Damaged, Refused, NotFound):
                raw = read_exactly(remote, f"projects/{project}/{name}", 0, size)
                if trust.project_id(raw).hex() == project:
                    return True
    return False


def formats_agree(paths: ProjectPaths, remote: Remote, there: There, report: ProjectReport) -> bool:
    """Whether both sides are of a format that we know; else nothing is touched.

    Args:
        there: what is known of the remote's FORMAT.
    """
    path, here = paths.root / FORMAT_FILE, False
    try:
        if path.exists():
            check_format(path.read_bytes(), paths.id)
            here = True
        elif there.size == ABSENT:
            raise Damaged("missing")
    except Damaged as problem:
        report.damaged.append(Note(FORMAT_FILE, problem.problem))
        return False
    if there.size < 0 or (here and there.acked == there.size):
        return True
    try:
        length = min(there.size, MAX_FORMAT_BYTES)
        name = f"projects/{paths.id}/{FORMAT_FILE}"
        check_format(read_exactly(remote, name, 0, length), paths.id)
    except (Damaged, Refused) as problem:
        reason = problem.problem if isinstance(problem, Damaged) else str(problem)
        report.refused.append(Note(FORMAT_FILE, reason))
        return False
    return True


class SeenLinks:
    """The links that a remote was seen to hold: truth, in `trust/<remote id>.json`."""

    def __init__(self, paths: ProjectPaths, remote_id: str, report: ProjectReport) -> None:
        self._paths, self._file = paths, paths.trust / f"{remote_id}.json"
        self._seen = self._read(report)

    def _read(self, report: ProjectReport) -> set[str]:
        try:
            raw = json.loads(self._file.read_text("utf-8"))
            return {link for link in raw["links"] if isinstance(link, str)}
        except FileNotFoundError:
            return set()
        except (ValueError, KeyError, TypeError) as error:
            report.damaged.append(Note(f"trust/{self._file.name}", str(error)))
            return set()

    def lost(self, catalog: Catalog) -> list[str]:
        """Those that the remote lacks now: it was set back."""
        there = catalog.there("links/")
        now = {name[6:] for name, facts in there.items() if facts.size != ABSENT}
        return sorted(self._seen - now)

    def remember(self, catalog: Catalog) -> None:
        """Keep those that it has acknowledged by now."""
        own = {path.name for path in self._paths.links.glob("[0-9a-f]*")}
        there = catalog.there("links/")
        acked = {name[6:] for name, facts in there.items() if facts.acked}
        now = own & (acked | self._seen)
        if now != self._seen and own:
            replace_file(self._file, json.dumps({"links": sorted(now)}).encode())
