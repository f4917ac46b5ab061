"""Media out of stored files. Whoever wrote them is not trusted: see each class's `restored`."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from localstore.errors import Damaged
from localstore.media.names import checked_path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from localstore.media.base import Media

_HOMES: Final = {
    "image-file": ("localstore.media.image", "Image"),
    "video-file": ("localstore.media.video", "Video"),
    "audio-file": ("localstore.media.audio", "Audio"),
    "text-file": ("localstore.media.documents", "Text"),
    "html-file": ("localstore.media.documents", "Html"),
    "plotly-file": ("localstore.media.figures", "Plotly"),
    "object3D-file": ("localstore.media.object3d", "Object3D"),
    "table-file": ("localstore.media.table", "Table"),
    "custom-chart": ("localstore.media.chart", "CustomChart"),
}
KINDS: Final = tuple(_HOMES)
_IN_CELLS: Final = frozenset(KINDS) - {"table-file", "custom-chart"}
_MAX_ITEMS: Final = 100_000


def class_of(kind: object) -> type[Media]:
    """The class of a kind.

    Raises:
        Damaged: there is no such kind.
    """
    if not isinstance(kind, str) or kind not in _HOMES:
        raise Damaged(f"media of kind {kind!r:.40}, which this version does not know")
    home, name = _HOMES[kind]
    found: type[Media] = getattr(import_module(home), name)
    return found


def from_file(path: str, facts: Mapping[str, Any], read: Callable[[str], bytes]) -> Media:
    """Open one stored media object.

    Args:
        path: of its main file.
        facts: what was stored with that file; `kind` among them.
        read: gives the content of a file of the same run by its path; it bounds sizes.

    Raises:
        Damaged: content and facts do not fit each other or any kind.
    """
    try:
        return class_of(facts.get("kind")).restored(facts, read(checked_path(path)), read)
    except Damaged as error:
        raise error if error.file else error.at(path) from error


def from_record(
    record: Any,
    facts_of: Callable[[str], Mapping[str, Any]],
    read: Callable[[str], bytes],
) -> Media | list[Media]:
    """Open what stands in a point.

    Args:
        record: as `collect` gave it: of one media object, or of a list of one kind.
        facts_of: gives the facts of a main file by its path.
        read: as for `from_file`.

    Raises:
        Damaged: no such record, or what it names is damaged.
    """
    if not isinstance(record, dict) or not isinstance(record.get("_type"), str):
        raise Damaged(f"a {type(record).__name__} that describes no media")
    if not record["_type"].endswith("/separated"):
        path = checked_path(record.get("path"))
        return from_file(path, facts_of(path), read)
    paths = record.get("paths")
    if not isinstance(paths, list) or len(paths) > _MAX_ITEMS:
        raise Damaged("a list of media without paths")
    return [from_file(path, facts_of(path), read) for path in map(checked_path, paths)]


def from_stand_in(raw: Mapping[str, Any], read: Callable[[str], bytes]) -> Any:
    """Open what stands in a cell; an object of an unknown type stays as it is.

    A table may hold more pictures than memory does: each is read when it is looked at.

    Raises:
        Damaged: media that cannot be opened.
    """
    kind = raw.get("_type")
    if kind not in _IN_CELLS:
        return dict(raw)
    path = checked_path(raw.get("path"))
    made: Any = class_of(kind).restored({**raw, "kind": kind}, b"", read)
    made.read_later(partial(read, path))
    return made
