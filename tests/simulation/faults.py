"""What may go wrong at a point: drawn from a seed, so that it goes wrong again in a replay."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from localstored import place
from localstored.remotes.base import Busy, Unreachable
from tests.simulation.baton import check_alive, crash, inside, point

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

    from localstored.remotes.base import Capabilities, Entry, Remote
    from localstored.remotes.bucketkeys import Meta

T = TypeVar("T")
# Durable steps of the disk; a crash may come before or after each of them.
DISK_CALLS = ("fsync", "ftruncate", "link", "rename", "replace", "unlink", "mkdir")


@dataclass(slots=True)
class Weather:
    """How often things go wrong, in one of so many calls; 0: never.

    Attributes:
        crash: the client is killed, before or after the call took effect.
        drop: a request does not arrive. late: it took effect, and its answer is lost.
        twice: it arrives twice. lost: what was to be written is not, and nobody says so.
        disk: the local disk refuses a call.
    """

    random: random.Random
    crash: int = 0
    drop: int = 0
    late: int = 0
    twice: int = 0
    lost: int = 0
    disk: int = 0

    def strikes(self, chance: int) -> bool:
        """Whether it happens now."""
        return chance > 0 and self.random.randrange(chance) == 0

    def request(self, do: Callable[[], T], *, repeats: bool = True) -> T:
        """One request: arrives not at all, once, or twice; and is answered, or not."""
        check_alive()
        point()
        if self.strikes(self.crash):
            crash()
        if self.strikes(self.drop):
            raise self._lost("dropped on its way")
        answer = do()
        if repeats and self.strikes(self.twice):
            point()
            with contextlib.suppress(Exception):
                do()
        point()
        if self.strikes(self.crash):
            crash()
        if self.strikes(self.late):
            raise self._lost("answered too late")
        return answer

    def write(self, do: Callable[[], None]) -> None:
        """A request that writes; a server that loses what is in its memory has said yes before."""
        self.request((lambda: None) if self.strikes(self.lost) else do)

    def _lost(self, how: str) -> Busy | Unreachable:
        return Busy(how) if self.random.random() < 0.5 else Unreachable(how)


class Net:
    """A remote behind a network: each verb is a request."""

    def __init__(self, inner: Remote, weather: Weather) -> None:
        self._inner, self._weather = inner, weather

    @property
    def id(self) -> str:
        return self._inner.id

    @property
    def capabilities(self) -> Capabilities:
        return self._inner.capabilities

    def projects(self) -> Iterator[str]:
        yield from self._weather.request(lambda: list(self._inner.projects()))

    def list(self, prefix: str) -> Iterator[Entry]:
        yield from self._weather.request(lambda: [*self._inner.list(prefix)])

    def have(self, names: Collection[str]) -> Mapping[str, int]:
        return self._weather.request(lambda: self._inner.have(names))

    def read(self, name: str, offset: int, length: int) -> bytes:
        return self._weather.request(lambda: self._inner.read(name, offset, length))

    def digest(self, name: str, length: int) -> bytes:
        return self._weather.request(lambda: self._inner.digest(name, length))

    def create(self, name: str, data: bytes) -> None:
        self._weather.write(lambda: self._inner.create(name, data))

    def append(self, name: str, offset: int, data: bytes) -> None:
        self._weather.write(lambda: self._inner.append(name, offset, data))

    def delete(self, name: str) -> None:
        self._weather.request(lambda: self._inner.delete(name))

    def confirm(self, name: str, length: int, source: Path) -> bool:
        return self._weather.request(lambda: self._inner.confirm(name, length, source))

    def close(self) -> None:
        self._inner.close()


class Server:
    """A bucket's server: keys in a dict. It knows no conditional PUT, as many do not."""

    def __init__(self) -> None:
        self.keys: dict[str, bytes] = {}


class Wire:
    """`Keys` of one client over the network to a server: each call is a request."""

    ordered = True

    def __init__(self, server: Server, weather: Weather) -> None:
        self._server, self._weather = server, weather

    def _meta(self, key: str) -> Meta:
        import hashlib

        from localstored.remotes.bucketkeys import Meta

        data = self._server.keys[key]
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
        return Meta(key, len(data), etag)

    def put(self, key: str, data: bytes, *, only_new: bool = False) -> None:
        self._weather.write(lambda: self._server.keys.__setitem__(key, data))

    def heads(self, keys: Collection[str]) -> list[Meta | None]:
        return self._weather.request(
            lambda: [self._meta(key) if key in self._server.keys else None for key in keys]
        )

    def get(self, key: str, start: int, end: int) -> bytes | None:
        data = self._weather.request(lambda: self._server.keys.get(key))
        return None if data is None else data[start:end]

    def delete(self, keys: Collection[str]) -> None:
        def do() -> None:
            for key in keys:
                self._server.keys.pop(key, None)

        self._weather.request(do)

    def folders(self, folder: str) -> list[str]:
        prefix = f"{folder}/" if folder else ""
        return self._weather.request(
            lambda: sorted(
                {
                    key[len(prefix) :].split("/")[0]
                    for key in self._server.keys
                    if key.startswith(prefix) and "/" in key[len(prefix) :]
                }
            )
        )

    def list(self, folder: str, after: str = "") -> Iterator[Meta]:
        prefix = f"{folder}/" if folder else ""
        yield from self._weather.request(
            lambda: [
                self._meta(key)
                for key in sorted(self._server.keys)
                if key.startswith(prefix) and key > after
            ]
        )

    def close(self) -> None:
        pass


@contextlib.contextmanager
def faulty_disk(weather: Callable[[], Weather]) -> Iterator[None]:
    """Within, each durable call of a client is a point where it may crash, or be refused."""
    kept = {name: getattr(os, name) for name in DISK_CALLS}

    def shim(name: str) -> Callable[..., Any]:
        real = kept[name]

        def call(*words: Any, **named: Any) -> Any:
            if not inside():
                return real(*words, **named)
            check_alive()
            now = weather()
            if now.strikes(now.crash):
                crash()
            if now.strikes(now.disk):
                raise OSError(now.random.choice([errno.ENOSPC, errno.EIO]), "the disk refused")
            answer = real(*words, **named)
            if now.strikes(now.crash):
                crash()
            return answer

        return call

    for name in DISK_CALLS:
        setattr(os, name, shim(name))
    try:
        yield
    finally:
        for name, real in kept.items():
            setattr(os, name, real)


@contextlib.contextmanager
def drawn_world(seed: int) -> Iterator[None]:
    """What is random elsewhere is drawn from the seed here, so that it replays; mounts are none."""
    source = random.Random(f"names {seed}")
    kept = secrets.token_bytes, secrets.token_hex, os.urandom, place.read_mounts
    secrets.token_bytes = lambda nbytes=32: source.randbytes(nbytes or 32)
    secrets.token_hex = lambda nbytes=32: source.randbytes(nbytes or 32).hex()
    os.urandom = source.randbytes
    place.read_mounts = str
    try:
        yield
    finally:
        secrets.token_bytes, secrets.token_hex, os.urandom, place.read_mounts = kept
