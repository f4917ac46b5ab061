"""Reads the files of a version from the pages of its manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from localstore.errors import Damaged
from localstore.format import spec
from localstore.format.manifest import MAX_LEVELS, Entry, decode_page
from localstore.layout import object_name
from localstore.store.objects import ObjectFiles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from localstore.project import Project


def load_entries(project: Project, root_id: bytes, key: bytes) -> list[Entry]:
    """All entries of a manifest, by path.

    Args:
        root_id, key: of the object of its first page.

    Raises:
        NotFound: a page is not here.
        Damaged, Forged: a page breaks docs/format.md, sections 9 and 9.1; names its file.
    """
    files = ObjectFiles(project.paths)
    entries: list[Entry] = []
    for object_id, found in _pages(files, root_id, key, None, MAX_LEVELS):
        # Each page must go on where the one before ended, so none can be listed twice.
        if entries and found[0].path <= entries[-1].path:
            raise Damaged("a manifest whose pages are out of order", file=object_name(object_id))
        entries += found
        if len(entries) > spec.MAX_VERSION_FILES:
            raise Damaged(f"a manifest of more than {spec.MAX_VERSION_FILES:,} files")
    return entries


def _pages(
    files: ObjectFiles, object_id: bytes, key: bytes, data_class: int | None, levels: int
) -> Iterator[tuple[bytes, list[Entry]]]:
    name = object_name(object_id)
    if not levels:
        raise Damaged(f"a manifest of more than {MAX_LEVELS} levels", file=name)
    opened = files.read_object(object_id, key)
    if data_class not in (None, opened.data_class):
        raise Damaged("a manifest with pages of several classes", file=name)
    try:
        entries, more = decode_page(opened.content)
    except Damaged as problem:
        raise problem.at(name) from None
    if data_class is not None and not (entries or more):
        raise Damaged("a manifest with an empty page", file=name)
    if entries:
        yield object_id, entries
    for page_id, page_key in more:
        yield from _pages(files, page_id, page_key, opened.data_class, levels - 1)
