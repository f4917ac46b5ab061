"""Charts: a Vega-Lite specification and the table that it draws."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, Self

from localstore.errors import Damaged, UsageError
from localstore.media.base import Media, MediaFile, clean
from localstore.media.overlays import unpack
from localstore.media.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SCHEMA: Final = "https://vega.github.io/schema/vega-lite/v5.json"
_MAX_DEPTH: Final = 64
_PLACE: Final = re.compile(r"\$\{(field|string):[^}]*\}")
# What would make a viewer fetch something, or leave the page.
_REACHING: Final = frozenset({"url", "href", "$ref", "usermeta", "loader"})


class CustomChart(Media):
    """A chart.

    Args:
        spec: Vega-Lite, version 5; `${field:x}` and `${string:title}` in its texts are replaced.
            What it says of `data` is replaced by the table.
        table: what is drawn.
        fields: name in the spec → column of the table.
        title: text above the chart.
        strings: name in the spec → text.

    Raises:
        UsageError: a field is no column, or the spec is no JSON.
    """

    kind = "custom-chart"
    folder = "charts"

    def __init__(
        self,
        spec: Mapping[str, Any],
        table: Table,
        fields: Mapping[str, str],
        title: str = "",
        strings: Mapping[str, str] | None = None,
    ) -> None:
        self.table, self.title = table, clean(title or "")
        self.fields = {str(name): str(column) for name, column in fields.items()}
        self.strings = {str(k): str(v) for k, v in dict(strings or {}).items()}
        self.strings.setdefault("title", self.title)
        self.spec = _plain_spec(spec)
        missing = [column for column in self.fields.values() if column not in table.columns]
        if missing:
            known = ", ".join(table.columns[:20])
            raise UsageError(f"no column {missing[0]!r} in the table", hint=f"it has {known}")

    def to_vega_lite(self) -> dict[str, Any]:
        """A whole specification with its data inside.

        It names no address but that of its schema: whatever would make a viewer fetch something
        or follow a link is left out.
        """
        texts = {f"${{field:{name}}}": _escaped(column) for name, column in self.fields.items()}
        texts |= {f"${{string:{name}}}": text for name, text in self.strings.items()}
        spec = _filled(self.spec, texts, 0)
        rows = [dict(zip(self.table.columns, row, strict=True)) for row in self.table.data]
        values = [{name: _drawn(cell) for name, cell in row.items()} for row in rows]
        return {**spec, "$schema": SCHEMA, "data": {"values": values}}

    def counts(self) -> dict[str, int | float]:
        """How many rows are drawn."""
        return {"rows": len(self.table.data)}

    def facts(self) -> dict[str, Any]:
        """Plain facts, the title among them."""
        found: dict[str, Any] = {"kind": self.kind, "format": "chart.json", **self.counts()}
        return found | ({"title": self.title} if self.title else {})

    def limited(self, rows: int) -> CustomChart:
        """The chart itself, or one of the first rows of its table when it has more."""
        short = self.table.limited(rows)
        if short is self.table:
            return self
        return CustomChart(self.spec, short, self.fields, self.title, self.strings)

    def files(self) -> list[MediaFile]:
        """One JSON with spec and table, and the files of media in the table's cells."""
        table, found = self.table.packed()
        head = {
            "spec": self.spec,
            "fields": self.fields,
            "strings": self.strings,
            "title": self.title,
        }
        text = json.dumps(head, ensure_ascii=False, separators=(",", ":"))
        content = text.encode("utf-8", "replace")[:-1] + b',"table":' + table + b"}"
        return [MediaFile(".chart.json", content), *found.values()]

    @classmethod
    def restored(
        cls,
        facts: Mapping[str, Any],  # noqa: ARG003
        content: bytes,
        read: Callable[[str], bytes],
    ) -> Self:
        """What the JSON of a chart describes.

        Raises:
            Damaged: it describes no chart.
        """
        from localstore.media.reading import from_stand_in

        found = unpack(content)
        parts = [found.get(name) for name in ("spec", "fields", "strings", "table")]
        if not all(isinstance(part, dict) for part in parts):
            raise Damaged("a chart without spec, fields, strings and table")
        spec, fields, strings, table = parts
        made = Table.from_json(table or {}, lambda raw: from_stand_in(raw, read))
        try:
            return cls(spec or {}, made, fields or {}, str(found.get("title", "")), strings)
        except UsageError as error:
            raise Damaged(f"a chart: {error}") from error


def _plain_spec(spec: Any) -> dict[str, Any]:
    """A copy of a spec; proves that it is JSON."""
    try:
        found = json.loads(json.dumps(spec))
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"a chart's spec that is no JSON: {error!s:.100}") from error
    if not isinstance(found, dict):
        raise UsageError(f"a chart's spec is a {type(spec).__name__}, want a dict")
    return found


def _filled(part: Any, texts: Mapping[str, str], depth: int) -> Any:
    """A spec with its placeholders replaced, and without what would reach out of the page."""
    if depth > _MAX_DEPTH:
        raise Damaged("a chart's spec that is nested too deep")
    if isinstance(part, dict):
        return {
            name: _filled(inner, texts, depth + 1)
            for name, inner in part.items()
            if name not in _REACHING
        }
    if isinstance(part, list):
        return [_filled(inner, texts, depth + 1) for inner in part]
    if isinstance(part, str) and "${" in part:
        return _PLACE.sub(lambda found: texts.get(found[0], ""), part)
    return part


def _escaped(column: str) -> str:
    """A column's name as a field of Vega-Lite, which takes dots and brackets for paths."""
    return re.sub(r"([\\.\[\]'\"])", r"\\\1", column)


def _drawn(cell: Any) -> Any:
    """A cell as what a chart can draw; media and the like are no data."""
    if isinstance(cell, float):
        return cell if cell - cell == 0 else None
    return cell if cell is None or isinstance(cell, (bool, int, str)) else str(cell)[:1000]
