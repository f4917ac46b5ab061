"""A flat store of keys in a dict: a bucket without a server, as good or as bad as a test wants."""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING

from localstored.remotes.bucketkeys import KeyTaken, Meta

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class FlatKeys:
    """`Keys` in a dict.

    Attributes:
        data: what lies there. asked: each request, as `verb key`.
    """

    def __init__(self, *, looks: bool = True, md5: bool = True) -> None:
        """`looks`: whether only_new is obeyed; `md5`: whether an ETag is the MD5."""
        self.data: dict[str, bytes] = {}
        self.asked: list[str] = []
        self._looks, self._md5 = looks, md5
        self._lock = threading.Lock()

    @property
    def ordered(self) -> bool:
        return True

    def _meta(self, key: str) -> Meta:
        data = self.data[key]
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest() if self._md5 else '0x8D"'
        return Meta(key, len(data), etag)

    def put(self, key: str, data: bytes, *, only_new: bool = False) -> None:
        with self._lock:
            self.asked.append(f"put {key}")
            if only_new and self._looks and key in self.data:
                raise KeyTaken(key)
            self.data[key] = bytes(data)

    def heads(self, keys: Sequence[str]) -> Sequence[Meta | None]:
        with self._lock:
            self.asked += [f"head {key}" for key in keys]
            return [self._meta(key) if key in self.data else None for key in keys]

    def get(self, key: str, start: int, end: int) -> bytes | None:
        with self._lock:
            self.asked.append(f"get {key}")
            data = self.data.get(key)
            return None if data is None else data[start:end]

    def delete(self, keys: Sequence[str]) -> None:
        with self._lock:
            self.asked += [f"delete {key}" for key in keys]
            for key in keys:
                self.data.pop(key, None)

    def list(self, folder: str, after: str = "") -> Iterator[Meta]:
        with self._lock:
            self.asked.append(f"list {folder}")
            found = sorted(key for key in self.data if key.startswith(f"{folder}/") and key > after)
            metas = [self._meta(key) for key in found]
        yield from metas

    def folders(self, folder: str) -> Sequence[str]:
        with self._lock:
            self.asked.append(f"folders {folder}")
            below = [
                key.removeprefix(f"{folder}/") for key in self.data if key.startswith(f"{folder}/")
            ]
        return sorted({key.partition("/")[0] for key in below if "/" in key})

    def close(self) -> None:
        """Nothing to end."""
