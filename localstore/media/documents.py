"""Text and HTML. Both are kept as they are; HTML is never drawn or changed here."""

from __future__ import annotations

import os
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, ClassVar

from localstore.media.base import FileMedia
from localstore.media.sources import take

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Text(FileMedia):
    """A text.

    Args:
        data_or_path: the text itself, or a `pathlib.Path` or an open file that holds it.
        caption: text for people.

    Raises:
        UsageError: the file cannot be read.
    """

    kind = "text-file"
    folder = "text"
    formats: ClassVar = frozenset({"txt", "md"})

    def __init__(self, data_or_path: Any, caption: str | None = None) -> None:
        name = "txt"
        if isinstance(data_or_path, str):
            content: bytes | Path = data_or_path.encode("utf-8", "replace")
        else:
            content = take(data_or_path, "a text")
        if isinstance(data_or_path, PurePath) and data_or_path.suffix.lower() == ".md":
            name = "md"
        super().__init__(content, name, caption)

    @property
    def text(self) -> str:
        """The text; bytes that are no UTF-8 are replaced."""
        return self.content.decode("utf-8", "replace")

    def counts(self) -> dict[str, int | float]:
        """Nothing: a text has a size, which stands in its record."""
        return {}


class Html(FileMedia):
    """A page of HTML, kept and given back as text.

    Args:
        data: HTML, or the path of a file that ends in `.html`, or an open file.
        inject: taken for wandb's sake and ignored: a page is stored as it is.
        data_is_not_path: text is HTML even when a file has its name.
        caption: text for people.

    Raises:
        UsageError: the file cannot be read.
    """

    kind = "html-file"
    folder = "html"
    formats: ClassVar = frozenset({"html"})

    def __init__(
        self,
        data: Any,
        inject: bool = True,  # noqa: ARG002
        data_is_not_path: bool = False,
        caption: str | None = None,
    ) -> None:
        content: bytes | Path
        if isinstance(data, str) and (data_is_not_path or not _names_page(data)):
            content = data.encode("utf-8", "replace")
        else:
            content = take(data, "HTML")
        super().__init__(content, "html", caption)

    @property
    def html(self) -> str:
        """The page as text. Whoever shows it must do so where it can reach nothing."""
        return self.content.decode("utf-8", "replace")

    def _recall(self, facts: Mapping[str, Any], read: Callable[[str], bytes]) -> None:
        """A page is its content."""


def _names_page(text: str) -> bool:
    return len(text) < 4096 and text.lower().endswith((".html", ".htm")) and os.path.isfile(text)  # noqa: PTH113
