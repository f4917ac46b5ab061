"""From a value that a script logs to plain values for the point and files to store.

`contains_media` is asked for every value of every call, so it looks at types and remembers them.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from localstore.media.base import Media, clean
from localstore.media.convert import as_media, is_foreign, is_pyplot
from localstore.media.names import main_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from localstore.media.base import MediaFile

_NOTHING, _MEDIA, _MAPPING, _ITEMS, _MODULE = range(5)
_MAX_TYPES: Final = 4096
_MAX_DEPTH: Final = 8
_sorts: dict[type, int] = {kind: _NOTHING for kind in (int, float, str, bool, bytes, type(None))}


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one value of one call may store.

    Attributes:
        max_items: of a list; the first ones are kept.
        max_bytes: of one file; a larger one is left out.
        max_rows: of a table; the first ones are kept.
    """

    max_items: int = 108
    max_bytes: int = 256 * 1024 * 1024
    max_rows: int = 200_000


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file to store with a run.

    Attributes:
        path: its name inside the run.
        content: the bytes, or where they lie when there are more than 32 MiB.
        hash: BLAKE3 of the content, 32 bytes. size: bytes.
        facts: plain facts, never with the names `size`, `hash`, `data`, `parts`.
    """

    path: str
    content: bytes | Path
    hash: bytes
    size: int
    facts: dict[str, Any]


def contains_media(value: Any) -> bool:
    """Whether a value of `log` is media, or a dict or list with some. Imports nothing.

    Of a list only the first item is looked at.
    """
    return _sorts.get(type(value)) != _NOTHING and _contains(value, 0)


def _contains(value: Any, depth: int) -> bool:
    kind = type(value)
    sort = _sorts.get(kind)
    if sort is None:
        sort = _learn(kind)
    if sort == _MAPPING:
        return depth < _MAX_DEPTH and any(_contains(item, depth + 1) for item in value.values())
    if sort == _ITEMS:
        return bool(value) and depth < _MAX_DEPTH and _contains(value[0], depth + 1)
    return sort == _MEDIA or (sort == _MODULE and is_pyplot(value))


def _learn(kind: type) -> int:
    sort = _NOTHING
    if issubclass(kind, Media) or is_foreign(kind):
        sort = _MEDIA
    elif issubclass(kind, dict):
        sort = _MAPPING
    elif issubclass(kind, (list, tuple)):
        sort = _ITEMS
    elif issubclass(kind, ModuleType):
        sort = _MODULE
    if len(_sorts) < _MAX_TYPES:
        _sorts[kind] = sort
    return sort


def _ignore(_message: str, _dropped: int) -> None:
    """Nobody wants to know."""


def collect(
    key: str,
    step: int,
    value: Any,
    *,
    limits: Limits = Limits(),
    warn: Callable[[str, int], None] = _ignore,
) -> tuple[Any, list[StoredFile]]:
    """What stands in the point for a value with media, and the files to store before it.

    Args:
        key: the name under which it is logged.
        step: of the point.
        value: media, a list of media, or a dict that holds some; plain parts stay as they are.
        limits: beyond them the first items and rows are kept, and files left out.
        warn: told what was left out, and how many things that were.

    Raises:
        UsageError: a part cannot be stored.
    """
    collector = _Collector(key, step, limits, warn)
    return collector.value(key, value, 0), list(collector.files.values())


class _Collector:
    """Gathers the files of one value."""

    def __init__(
        self, key: str, step: int, limits: Limits, warn: Callable[[str, int], None]
    ) -> None:
        self.key, self.step, self.limits, self.warn = key, step, limits, warn
        self.files: dict[str, StoredFile] = {}

    def value(self, key: str, value: Any, depth: int) -> Any:
        """What stands in the point for one value."""
        media = value if isinstance(value, Media) else as_media(value)
        if media is not None:
            return self.media(key, None, media)
        if depth < _MAX_DEPTH and isinstance(value, dict):
            return {
                name: self.value(f"{key}.{name}", item, depth + 1) for name, item in value.items()
            }
        if depth < _MAX_DEPTH and isinstance(value, (list, tuple)) and contains_media(value):
            return self.items(key, value, depth)
        return value

    def items(self, key: str, items: Any, depth: int) -> Any:
        """What stands in the point for a list."""
        most = self.limits.max_items
        if len(items) > most:
            self.warn(f"{key} has {len(items)} media, the first {most} are kept", len(items) - most)
        kept = [_opened(item) for item in items[:most]]
        records = [
            self.media(key, at, item)
            if isinstance(item, Media)
            else self.value(f"{key}.{at}", item, depth + 1)
            for at, item in enumerate(kept)
        ]
        kinds = {item.kind for item in kept if isinstance(item, Media)}
        alike = len(kinds) == 1 and all(isinstance(item, Media) for item in kept)
        return _separated(kept[0].folder, records) if alike else records

    def media(self, key: str, index: int | None, media: Media) -> dict[str, Any]:
        """Keep the files of one media object; returns its record."""
        media = self.limited(key, media)
        files = media.files()
        large = [file for file in files if file.size > self.limits.max_bytes]
        if large:
            most = self.limits.max_bytes >> 20
            self.warn(f"{key} has a file of {large[0].size >> 20} MiB, at most {most} are kept", 1)
            return {"_type": media.kind, "dropped": "too large", "size": large[0].size}
        paths = [file.path or self.path(media, key, index, file) for file in files]
        about = {"key": clean(key), "step": self.step}
        for path, file in zip(paths, files, strict=True):
            facts = _facts_of(file) if file.role else media.facts() | about
            self.files.setdefault(path, StoredFile(path, file.content, file.hash, file.size, facts))
        return media.to_record(paths, [file.hash for file in files], [file.size for file in files])

    def path(self, media: Media, key: str, index: int | None, file: MediaFile) -> str:
        """What a main file is called."""
        return main_path(media.folder, key, self.step, index, file.hash, file.suffix)

    def limited(self, key: str, media: Media) -> Media:
        """Tables and charts with at most so many rows."""
        limit = getattr(media, "limited", None)
        if limit is None:
            return media
        short: Media = limit(self.limits.max_rows)
        left_out = int(media.counts()["rows"] - short.counts()["rows"])
        if left_out:
            most = self.limits.max_rows
            self.warn(f"{key} has {left_out:,} rows more than {most:,}; left out", left_out)
        return short


def _opened(item: Any) -> Any:
    """An item of a list, as media where it is a figure or the like."""
    made = None if isinstance(item, Media) else as_media(item)
    return item if made is None else made


def _facts_of(file: MediaFile) -> dict[str, Any]:
    """Facts of a file that belongs to another one, whose facts say the rest."""
    return {"kind": "part", "role": file.role, "format": file.suffix.lstrip(".")}


def _separated(folder: str, records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The record of a list of media of one kind."""
    kept = [record for record in records if "path" in record]
    return {
        "_type": f"{folder}/separated",
        "count": len(kept),
        "paths": [record["path"] for record in kept],
        "hashes": [record["hash"] for record in kept],
        "sizes": [record["size"] for record in kept],
    }
