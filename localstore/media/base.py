"""What all media are: files with a content that is fixed, facts about them, a line in a point.

User text (captions, labels) stands in the files and the facts, which have a class of their own;
the line that stands among the metrics has counts and names of files only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from localstore.errors import Damaged

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

MAX_CAPTION_CHARS: Final = 100_000
# What a browser may be told. Documents that could run scripts are text, whatever they say.
CONTENT_TYPES: Final = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
    "bmp": "image/bmp",
    "tiff": "image/tiff",
    "mp4": "video/mp4",
    "webm": "video/webm",
    "ogv": "video/ogg",
    "mov": "video/quicktime",
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "opus": "audio/ogg",
    "m4a": "audio/mp4",
    "aac": "audio/aac",
    "glb": "model/gltf-binary",
    "stl": "model/stl",
    "json": "application/json",
    "pts.json": "application/json",
    "plotly.json": "application/json",
    "table.json": "application/json",
    "chart.json": "application/json",
    "gltf": "application/json",
    "babylon": "application/json",
    "pts.npy": "application/octet-stream",
}


def clean(text: object) -> str:
    """A text of the user that can be stored: UTF-8, at most 100,000 characters."""
    return str(text)[:MAX_CAPTION_CHARS].encode("utf-8", "replace").decode()


def content_type_of(kind: str) -> str:
    """What a file of a format may be served as; `text/plain` for all that is not known as inert."""
    return CONTENT_TYPES.get(kind, "text/plain; charset=utf-8")


@dataclass(frozen=True)
class MediaFile:
    """One file of a media object.

    Attributes:
        suffix: with its dot, such as `.png`.
        content: the bytes, or where they lie when there are more than 32 MiB.
        role: empty for the main file, else `mask/<name>`, `boxes`, `classes`, `cell`.
        path: fixed by the content; empty for a main file, which is named after its key and step.
    """

    suffix: str
    content: bytes | Path
    role: str = ""
    path: str = ""

    @cached_property
    def hash(self) -> bytes:
        """BLAKE3 of the content, 32 bytes."""
        from localstore.crypto import content_hash, stream_hash

        if isinstance(self.content, bytes):
            return content_hash(self.content)
        with self.content.open("rb") as stream:
            return stream_hash(stream)

    @property
    def size(self) -> int:
        """Bytes of the content."""
        if isinstance(self.content, bytes):
            return len(self.content)
        return self.content.stat().st_size


class Media(ABC):
    """What `run.log` takes beside numbers. Its content does not change when its source does.

    Attributes:
        caption: text for people, or empty.
    """

    kind: ClassVar[str]
    folder: ClassVar[str]
    caption: str = ""

    @abstractmethod
    def files(self) -> list[MediaFile]:
        """Its files, the main one first."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Plain facts about the main file, text of the user included."""

    @classmethod
    @abstractmethod
    def restored(
        cls, facts: Mapping[str, Any], content: bytes, read: Callable[[str], bytes]
    ) -> Self:
        """What `facts` and the main file's content describe; `read` gives its other files.

        Raises:
            Damaged: they do not describe such a thing.
        """

    def counts(self) -> dict[str, int | float]:
        """Numbers that may stand among the metrics: width, rows, seconds …"""
        return {}

    def to_record(
        self, paths: Sequence[str], hashes: Sequence[bytes], sizes: Sequence[int]
    ) -> dict[str, Any]:
        """What stands in the point. Arguments are those of `files()`, in its order."""
        return {
            "_type": self.kind,
            "path": paths[0],
            "hash": hashes[0].hex(),
            "size": sizes[0],
            **self.counts(),
        }

    def __repr__(self) -> str:
        numbers = ", ".join(f"{name}={number}" for name, number in self.counts().items())
        return f"<{type(self).__name__} {numbers}>"


class FileMedia(Media):
    """Media with one main file whose content is known from the beginning.

    Attributes:
        format: what the file is, such as `png`.
    """

    formats: ClassVar[frozenset[str]]

    def __init__(self, content: bytes | Path, kind: str, caption: str | None) -> None:
        self._content, self.format = content, kind
        self._later: Callable[[], bytes] | None = None
        self.caption = "" if caption is None else clean(caption)

    @property
    def kept(self) -> bytes | Path:
        """The main file's bytes, or where they lie when there are more than 32 MiB."""
        if self._later is not None:
            self._content, self._later = self._later(), None
        return self._content

    @property
    def content(self) -> bytes:
        """The main file's bytes."""
        kept = self.kept
        return kept if isinstance(kept, bytes) else kept.read_bytes()

    def read_later(self, read: Callable[[], bytes]) -> None:
        """Take the main file's bytes from `read` when they are first looked at."""
        self._later = read

    @property
    def content_type(self) -> str:
        """What the main file may be served as; HTML and SVG say `text/plain`."""
        return content_type_of(self.format)

    def files(self) -> list[MediaFile]:
        """Its files, the main one first."""
        return [MediaFile(f".{self.format}", self.kept)]

    def facts(self) -> dict[str, Any]:
        """Plain facts about the main file, text of the user included."""
        found: dict[str, Any] = {"kind": self.kind, "format": self.format, **self.counts()}
        if self.caption:
            found["caption"] = self.caption
        return found

    @classmethod
    def restored(
        cls, facts: Mapping[str, Any], content: bytes, read: Callable[[str], bytes]
    ) -> Self:
        """What `facts` and the main file's content describe.

        Raises:
            Damaged: they do not describe such a thing.
        """
        kind: Any = facts.get("format")
        caption = facts.get("caption", "")
        texts = isinstance(kind, str) and isinstance(caption, str)
        if not texts or kind not in cls.formats:
            raise Damaged(f"facts of format {kind!r:.40}, want {cls.kind}")
        made = cls.__new__(cls)
        FileMedia.__init__(made, content, kind, caption)
        made._recall(facts, read)
        return made

    def _recall(self, facts: Mapping[str, Any], read: Callable[[str], bytes]) -> None:
        """Take what else stands in the facts of a stored file."""


def count_of(facts: Mapping[str, Any], name: str) -> int:
    """A number from 0 up out of stored facts; 0 where it is missing.

    Raises:
        Damaged: it is something else.
    """
    number = facts.get(name, 0)
    if type(number) is not int or not 0 <= number < 1 << 62:
        raise Damaged(f"{name} is {number!r:.40}, want a number from 0 up")
    return number
