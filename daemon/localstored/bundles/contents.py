"""What is in a bundle or a folder, by project and data class: for people, without a key.

Headers say of which class something is. Nobody checked them here: an import does.
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Final

from localstore.errors import LocalStoreError, Refused
from localstore.format import spec
from localstore.format.spec import DataClass
from localstore.layout import FileKind
from localstored.bundles.reports import Count, ProjectContent
from localstored.remotes.base import check_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from localstore.layout import FileName
    from localstored.remotes.base import Remote
    from localstored.remotes.bundlefile import BundleFile

_HEAD_BYTES: Final = 16
_CLASS_OF_SEGMENT: Final = 10  # where in a header it stands
_CLASS_OF_OBJECT: Final = 6
_KEYS: Final = frozenset({FileKind.FORMAT, FileKind.LINK, FileKind.CERT, FileKind.KEYSLOT})


def contents_of_bundle(bundle: BundleFile) -> list[ProjectContent]:
    """What a bundle holds, project by project, sorted by id."""
    found = _Contents()
    for name, held in bundle.files.items():
        project, file = check_name(name)
        content = found.of(project)
        if not held.extents:
            content.assumed += 1
            continue
        content.continued += bool(held.base)
        word = _class_word(file, partial(bundle.peek, name, _HEAD_BYTES))
        found.add(project, file, held.size - held.base, word)
    return found.sorted()


def contents_of_folder(remote: Remote) -> list[ProjectContent]:
    """What a folder holds, project by project, sorted by id."""
    found = _Contents()
    for entry in remote.list("projects/"):
        with contextlib.suppress(Refused):
            project, file = check_name(entry.name)
            if file.kind.syncs:
                word = _class_word(file, partial(remote.read, entry.name, 0, _HEAD_BYTES))
                found.add(project, file, entry.size, word)
    return found.sorted()


def damaged_files(bundle: BundleFile) -> list[str]:
    """Read every byte; what is not as it was written, with the place."""
    return [problem for name in bundle.files if (problem := bundle.damage(name))]


class _Contents:
    """Counts files by project."""

    def __init__(self) -> None:
        self._projects: dict[str, ProjectContent] = {}
        self._subjects: dict[str, set[str]] = {}

    def of(self, project: str) -> ProjectContent:
        """The counts of one project."""
        self._subjects.setdefault(project, set())
        return self._projects.setdefault(project, ProjectContent(project))

    def add(self, project: str, file: FileName, size: int, word: str) -> None:
        """Count one file."""
        content = self.of(project)
        content.files.add(size)
        content.classes.setdefault(word, Count()).add(size)
        if file.kind in (FileKind.LOG, FileKind.FORK, FileKind.TAIL_COPY):
            self._subjects[project].add(file.subject)

    def sorted(self) -> list[ProjectContent]:
        """All of them by id, classes by name."""
        for project, content in self._projects.items():
            content.subjects = len(self._subjects[project])
            content.classes = dict(sorted(content.classes.items()))
        return [self._projects[project] for project in sorted(self._projects)]


def _class_word(file: FileName, head: Callable[[], bytes]) -> str:
    if file.kind in _KEYS:
        return "keys"
    if file.kind is FileKind.TAIL_COPY:
        return "tails"
    number = 0
    with contextlib.suppress(LocalStoreError, IndexError):
        raw = head()
        if file.kind is FileKind.OBJECT and raw[:4] == spec.OBJECT_MAGIC:
            number = raw[_CLASS_OF_OBJECT]
        elif raw[:8] == spec.SEGMENT_MAGIC:
            number = raw[_CLASS_OF_SEGMENT]
    known = number in DataClass._value2member_map_
    return DataClass(number).name.lower() if known else "unknown"
