"""The policy files of a home, read together, and noticed when one changes.

A file that cannot be understood is never taken for one that says nothing: while it is broken
nothing leaves, and every decision says why.
"""

from __future__ import annotations

import re
import time
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Final

from localstore.errors import BadSetting
from localstore.format.spec import ID_BYTES
from localstore.layout import HomePaths
from localstore.policy.places import project_file, tags_folder, user_file
from localstore.policy.rules import (
    PROJECT,
    USER,
    Limits,
    PolicyFile,
    Stamp,
    merged,
    parse_stamp,
    read_policy,
)
from localstored.place import file_system_of, is_network, read_mounts
from localstored.policy import RemoteFacts, Rules, broken_rules

if TYPE_CHECKING:
    from collections.abc import Iterable

    from localstore.layout import ProjectPaths
    from localstore.remotes import RemoteEntry

_TAG: Final = re.compile(rf"[0-9a-f]{{{2 * ID_BYTES}}}")
_MAX_STAMP_BYTES: Final = 64 * 1024
_MOMENT_S: Final = 0.25  # more than an editor needs between two files

_Read = PolicyFile | BadSetting


class Book:
    """All policy files of a home as they were when they were read."""

    def __init__(self, home: Path, user: _Read, projects: dict[str, _Read], mark: str) -> None:
        """Made by `read`."""
        self._home, self._user, self._projects = home, user, projects
        self._fingerprint = mark
        self._rules: dict[str, Rules] = {}
        own = (project_file(HomePaths(home).project(one)) for one in projects)
        self._speaking = [path for path in (user_file(home), *own) if not _says_nothing(path)]

    @classmethod
    def read(cls, home: Path) -> Book:
        """Read them all. One that is broken raises nothing here: see `problems`."""
        mark = _mark(home)  # before the reading: a change meanwhile makes the book an old one
        projects = {
            paths.id: _read(project_file(paths), PROJECT) for paths in _projects_with_file(home)
        }
        return cls(home, _read(user_file(home), USER), projects, mark)

    @property
    def fingerprint(self) -> str:
        """Differs when a file has changed, appeared or gone."""
        return self._fingerprint

    def is_current(self) -> bool:
        """Whether the files are still as they were read; costs a few looks at folders."""
        return _mark(self._home) == self._fingerprint

    def renewed(self) -> Book:
        """The files as they are now.

        An editor may be saving: one that had something to say and is empty or away gets a moment.
        """
        if any(_says_nothing(path) for path in self._speaking):
            time.sleep(_MOMENT_S)
        return Book.read(self._home)

    def problems(self, paths: ProjectPaths | None = None) -> list[BadSetting]:
        """What cannot be understood: of the user's file, and of one project's or of all."""
        given = self._projects
        asked = given.values() if paths is None else [given.get(paths.id)]
        return [one for one in (self._user, *asked) if isinstance(one, BadSetting)]

    def files(self, paths: ProjectPaths | None = None) -> list[PolicyFile]:
        """The files in force for a project that can be understood, the user's first."""
        own = self._projects.get(paths.id) if paths is not None else None
        return [one for one in (self._user, own) if isinstance(one, PolicyFile)]

    def rules(self, paths: ProjectPaths) -> Rules:
        """All that decides over one project."""
        found = self._rules.get(paths.id)
        if found is None:
            found = self._rules[paths.id] = self._merge(paths)
        return found

    def _merge(self, paths: ProjectPaths) -> Rules:
        broken = (
            (USER, user_file(self._home), self._user),
            (PROJECT, project_file(paths), self._projects.get(paths.id)),
        )
        for level, file, problem in broken:
            if isinstance(problem, BadSetting):
                return broken_rules(str(problem), level, str(file))
        return Rules(rules=merged(self.files(paths)), stamps=read_stamps(paths))

    def limits(self, remote: str) -> Limits:
        """The tightest limits that any file sets for a remote, or for all.

        What goes over the line is shared by all projects, so every project's file counts.
        """
        files = [self._user, *self._projects.values()]
        given = (
            file.limits[name]
            for file in files
            if isinstance(file, PolicyFile)
            for name in ("", remote)
            if name in file.limits
        )
        return reduce(Limits.tightened, given, Limits())


def _read(path: Path, level: str) -> _Read:
    try:
        return read_policy(path, level)
    except BadSetting as problem:
        return problem


def _says_nothing(path: Path) -> bool:
    try:
        return path.stat().st_size == 0
    except OSError:
        return not path.is_symlink()


def _projects_with_file(home: Path) -> Iterable[ProjectPaths]:
    return [paths for paths in HomePaths(home).all_projects() if _stat(project_file(paths))]


def remote_facts(entry: RemoteEntry) -> RemoteFacts:
    """A remote as rules see it: what goes to a disk of this machine crosses no network."""
    local = entry.scheme == "file" and not is_network(
        file_system_of(Path(entry.url).absolute(), read_mounts())
    )
    return RemoteFacts(entry.name, entry.scheme, local)


# ------------------------------------------------------------------ stamps
def read_stamps(paths: ProjectPaths) -> dict[str, Stamp]:
    """What this machine's writers said of their tags; a file of another form says nothing."""
    found = {}
    try:
        entries = sorted(tags_folder(paths).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    for path in entries:
        stamp = _stamp(path) if _TAG.fullmatch(path.name) else None
        if stamp is not None:
            found[path.name] = stamp
    return found


def _stamp(path: Path) -> Stamp | None:
    try:
        with path.open("rb") as file:
            return parse_stamp(file.read(_MAX_STAMP_BYTES).decode())
    except (OSError, UnicodeDecodeError):
        return None


# ------------------------------------------------------------------ whether something changed
def _mark(home: Path) -> str:
    paths = HomePaths(home)
    marks = [_stat(user_file(home))]
    for project in paths.all_projects():
        marks += [project.id, _stat(project_file(project)), _stat(tags_folder(project))]
    return " ".join(marks)


def _stat(path: Path) -> str:
    try:
        facts = path.stat()
    except FileNotFoundError:
        return "link" if path.is_symlink() else ""
    except OSError as error:
        return f"error {error.errno}"
    return f"{facts.st_ino}-{facts.st_size}-{facts.st_mtime_ns}-{facts.st_ctime_ns}"
