"""Remotes around a remote: one counts, one dies after so many bytes, one lies."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from localstored.remotes.base import Capabilities, Entry, Remote, Unreachable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

WRITES = ("create", "append", "delete")


class Around:
    """Passes everything on."""

    def __init__(self, inner: Remote) -> None:
        self.inner = inner

    @property
    def id(self) -> str:
        return self.inner.id

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    def projects(self) -> Iterator[str]:
        yield from self.inner.projects()

    def list(self, prefix: str) -> Iterator[Entry]:
        yield from self.inner.list(prefix)

    def have(self, names: Collection[str]) -> Mapping[str, int]:
        return self.inner.have(names)

    def read(self, name: str, offset: int, length: int) -> bytes:
        return self.inner.read(name, offset, length)

    def digest(self, name: str, length: int) -> bytes:
        return self.inner.digest(name, length)

    def create(self, name: str, data: bytes) -> None:
        self.inner.create(name, data)

    def append(self, name: str, offset: int, data: bytes) -> None:
        self.inner.append(name, offset, data)

    def delete(self, name: str) -> None:
        self.inner.delete(name)

    def confirm(self, name: str, length: int, source: Path) -> bool:
        return self.inner.confirm(name, length, source)

    def close(self) -> None:
        self.inner.close()


class Counting(Around):
    """Counts calls by the name of the method, and keeps the order of what was written.

    What is about stamps is counted by itself, and so are listings.
    """

    def __init__(self, inner: Remote) -> None:
        super().__init__(inner)
        self.calls: Counter[str] = Counter()
        self.stamps: Counter[str] = Counter()
        self.listed: list[str] = []
        self.written: list[str] = []

    def list(self, prefix: str) -> Iterator[Entry]:
        self.listed.append(prefix)
        yield from super().list(prefix)

    def have(self, names: Collection[str]) -> Mapping[str, int]:
        self.calls["have"] += 1
        return super().have(names)

    @property
    def writes(self) -> int:
        return sum(self.calls[name] for name in WRITES)

    def read(self, name: str, offset: int, length: int) -> bytes:
        self.calls["read"] += 1
        return super().read(name, offset, length)

    def digest(self, name: str, length: int) -> bytes:
        self.calls["digest"] += 1
        return super().digest(name, length)

    def create(self, name: str, data: bytes) -> None:
        if "/stamps/" in name:
            self.stamps["create"] += 1
        else:
            self.calls["create"] += 1
            self.written.append(name)
        super().create(name, data)

    def append(self, name: str, offset: int, data: bytes) -> None:
        self.calls["append"] += 1
        self.written.append(name)
        super().append(name, offset, data)

    def delete(self, name: str) -> None:
        (self.stamps if "/stamps/" in name else self.calls)["delete"] += 1
        super().delete(name)

    def confirm(self, name: str, length: int, source: Path) -> bool:
        self.calls["confirm"] += 1
        return super().confirm(name, length, source)


class Dying(Around):
    """Is gone after so many written bytes, in the middle of an append where that is."""

    def __init__(self, inner: Remote, left: int) -> None:
        super().__init__(inner)
        self.left = left

    def create(self, name: str, data: bytes) -> None:
        if len(data) > self.left:
            raise Unreachable("the plug was pulled")
        self.left -= len(data)
        super().create(name, data)

    def append(self, name: str, offset: int, data: bytes) -> None:
        done = data[: self.left]
        self.left -= len(done)
        super().append(name, offset, done)
        if len(done) < len(data):
            raise Unreachable("the plug was pulled")
