"""Media as files of an artifact, and back: `table.table.json`, `photo.image-file.json`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from localstore.errors import NotFound
from localstore.media.names import checked_path
from localstore.media.overlays import unpack
from localstore.media.reading import KINDS, from_file
from localstore.media.table import Table, stand_in

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from localstore.media.base import Media, MediaFile

MAX_ROWS: Final = 200_000
_TABLE: Final = ".table.json"
_CHART: Final = ".chart.json"


def _ignore(_message: str, _dropped: int) -> None:
    """Nobody wants to know."""


def to_artifact_files(
    media: Media, name: str, *, warn: Callable[[str, int], None] = _ignore
) -> list[tuple[str, bytes | Path]]:
    """The files that an artifact gets for one media object, its entry first.

    Args:
        media: what is added.
        name: under which it is found again, a path with `/`.
        warn: told of rows beyond 200,000, which are left out, and how many they are.
    """
    checked_path(name)
    if media.kind in ("table-file", "custom-chart"):
        return _whole(media, name, warn)
    found: dict[str, MediaFile] = {}
    entry = json.dumps(stand_in(media, found), ensure_ascii=False, allow_nan=False)
    files: list[tuple[str, bytes | Path]] = [(path, file.content) for path, file in found.items()]
    return [(_with(name, f".{media.kind}.json"), entry.encode("utf-8", "replace")), *files]


def _whole(
    media: Any, name: str, warn: Callable[[str, int], None]
) -> list[tuple[str, bytes | Path]]:
    short = media.limited(MAX_ROWS)
    left_out = int(media.counts()["rows"] - short.counts()["rows"])
    if left_out:
        warn(f"{name} has {left_out:,} rows more than {MAX_ROWS:,}; left out", left_out)
    main, *rest = short.files()
    return [(_with(name, main.suffix), main.content), *((file.path, file.content) for file in rest)]


def from_artifact(name: str, read: Callable[[str], bytes]) -> Media | None:
    """The media object that was added under a name, or None.

    Args:
        name: as it was added, with or without the suffix of its entry.
        read: gives the content of a file of the artifact; raises NotFound where there is none.

    Raises:
        Damaged: there is an entry, and it cannot be opened.
    """
    for suffix in (_TABLE, _CHART, *(f".{kind}.json" for kind in KINDS)):
        try:
            raw = read(checked_path(_with(name, suffix)))
        except NotFound:
            continue
        return _open(suffix, raw, read)
    return None


def _open(suffix: str, raw: bytes, read: Callable[[str], bytes]) -> Media:
    if suffix == _TABLE:
        return Table.restored({}, raw, read)
    if suffix == _CHART:
        from localstore.media.chart import CustomChart

        return CustomChart.restored({}, raw, read)
    found = unpack(raw)
    return from_file(checked_path(found.get("path")), {**found, "kind": found.get("_type")}, read)


def _with(name: str, suffix: str) -> str:
    return name if name.endswith(suffix) else name + suffix
