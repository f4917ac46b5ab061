"""Figures of plotly, kept as their JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar

from localstore.errors import UsageError
from localstore.media.base import FileMedia
from localstore.media.overlays import unpack
from localstore.media.sources import is_path, take

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


class Plotly(FileMedia):
    """A figure of plotly.

    Args:
        val: a plotly figure, its JSON as a dict, or the path of a JSON file.
        caption: text for people.

    Raises:
        UsageError: no figure can be made of it.
    """

    kind = "plotly-file"
    folder = "plotly"
    formats: ClassVar = frozenset({"plotly.json"})

    def __init__(self, val: Any, caption: str | None = None) -> None:
        content: bytes | Path
        if is_path(val):
            content = take(val, "a plotly figure")
            _check_head(content, val)
        else:
            content = _json_of(val)
        super().__init__(content, "plotly.json", caption)

    @property
    def figure(self) -> dict[str, Any]:
        """The figure's JSON: `data`, `layout`; `plotly.graph_objects.Figure(...)` takes it.

        Raises:
            Damaged: the content is no JSON object.
        """
        return unpack(self.content)

    def _recall(self, facts: Mapping[str, Any], read: Callable[[str], bytes]) -> None:
        """A figure is its content."""


def is_plotly(value: Any) -> bool:
    """Whether a value is a figure of plotly; imports nothing."""
    here = any(base.__module__.startswith("plotly.") for base in type(value).__mro__)
    return here and callable(getattr(value, "to_plotly_json", None))


def _json_of(value: Any) -> bytes:
    to_json = getattr(value, "to_json", None)
    if is_plotly(value) and callable(to_json):
        return str(to_json()).encode("utf-8", "replace")
    if isinstance(value, dict) and isinstance(value.get("data"), list):
        try:
            return json.dumps(value).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise UsageError(f"a plotly figure that is no JSON: {error!s:.100}") from error
    raise UsageError(
        f"a plotly figure of {type(value).__name__}, want a figure, its JSON or a path"
    )


def _check_head(content: bytes | Path, source: Any) -> None:
    if isinstance(content, bytes) and not content.lstrip().startswith(b"{"):
        raise UsageError(f"a plotly figure from {source}, want a JSON object")
