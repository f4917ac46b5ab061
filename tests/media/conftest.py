"""What tests of media share: a shelf that holds stored files, as a run does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from localstore.errors import NotFound
from localstore.media.logging import collect
from localstore.media.reading import from_record

if TYPE_CHECKING:
    from localstore.media.logging import StoredFile


class Shelf:
    """Files by path, stored from what is logged, and read back."""

    def __init__(self) -> None:
        self.files: dict[str, StoredFile] = {}

    def log(self, value: Any, key: str = "key", step: int = 0, **more: Any) -> Any:
        """Store the files of a value; returns what stands in the point."""
        record, files = collect(key, step, value, **more)
        for file in files:
            known = self.files.setdefault(file.path, file)
            assert known.hash == file.hash, "one name, two contents"
        return record

    def read(self, path: str) -> bytes:
        """The content of a stored file."""
        if path not in self.files:
            raise NotFound(path)
        content = self.files[path].content
        return content if isinstance(content, bytes) else content.read_bytes()

    def facts(self, path: str) -> dict[str, Any]:
        """The facts of a stored file."""
        return self.files[path].facts

    def open(self, record: Any) -> Any:
        """The media of a record."""
        return from_record(record, self.facts, self.read)

    def again(self, value: Any, **more: Any) -> Any:
        """A value logged and opened again."""
        return self.open(self.log(value, **more))


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()
