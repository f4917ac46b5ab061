"""Remotes: one small protocol, an implementation for each kind of place.

What `open_remote` answers is wrapped, from the outside: `Counted` (what was asked and got, each
byte once), `Retrying` (waits and tries again what failed in passing), `Limited` (each try pays for
its bytes), and the remote itself. A new kind of place is one more row of `OPENERS`.
"""

from __future__ import annotations

import random as random_module
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from localstore.errors import BadSetting
from localstore.remotes import RemoteEntry, claim_folder
from localstored.remotes.counted import Counted
from localstored.remotes.folder import FolderRemote
from localstored.remotes.limited import Allowance, Limited
from localstored.remotes.retrying import Retrying, try_again
from localstored.remotes.waiting import never

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from localstored.remotes.base import Remote


class Rates(Protocol):
    """What a policy says of one remote: bytes per second, None for no limit."""

    @property
    def upload(self) -> int | None:
        """Of what create and append send."""

    @property
    def download(self) -> int | None:
        """Of what read gets."""


@dataclass(frozen=True, slots=True)
class Unlimited:
    """No limits."""

    upload: int | None = None
    download: int | None = None


def _open_folder(entry: RemoteEntry, _check: Callable[[], None]) -> Remote:
    return FolderRemote(Path(entry.url), want_id=entry.id)


def _open_bucket(entry: RemoteEntry, check: Callable[[], None]) -> Remote:
    from localstored.remotes.bucket import BucketRemote
    from localstored.remotes.bucketopen import open_bucket

    keys = open_bucket(entry, check)
    try:
        return BucketRemote(keys, where=entry.url, want_id=entry.id)
    except BaseException:
        keys.close()
        raise


OPENERS: Final[Mapping[str, Callable[[RemoteEntry, Callable[[], None]], Remote]]] = {
    "file": _open_folder,
    "s3": _open_bucket,
    "gs": _open_bucket,
    "az": _open_bucket,
}


def now_us() -> int:
    """Microseconds of a clock that only runs forward."""
    return time.monotonic_ns() // 1000


def open_remote(
    entry: RemoteEntry,
    *,
    limits: Rates | None = None,
    check: Callable[[], None] | None = None,
    clock: Callable[[], int] = now_us,
    sleep: Callable[[float], object] = time.sleep,
    random: Callable[[], float] = random_module.random,
) -> Counted:
    """The remote that an entry of `remotes.toml` names, wrapped.

    Args:
        limits: bytes per second for each direction.
        check: is asked while anything waits, and raises `Stopped` to end it.
        clock: in µs; `sleep` in seconds; `random` gives numbers from 0 to 1.

    Raises:
        Unreachable: nothing answers there, or another remote does.
        Busy: it failed in passing.
    """
    opener = OPENERS.get(entry.scheme)
    if opener is None:
        raise BadSetting(f"remote {entry.name!r}: nothing here speaks to {entry.url}")
    asked = check or never
    inner = try_again(lambda: opener(entry, asked), sleep=sleep, random=random, check=asked)
    rates = limits or Unlimited()
    limited = Limited(
        inner,
        upload=Allowance(rates.upload, clock=clock, sleep=sleep, check=asked),
        download=Allowance(rates.download, clock=clock, sleep=sleep, check=asked),
    )
    return Counted(Retrying(limited, sleep=sleep, random=random, check=asked), clock=clock)


def claim(url: str, **options: str) -> str:
    """Make a remote of a place, if it is none yet, and return its id (16 hex digits).

    Args:
        url: a folder's path or a bucket's url.
        options: `endpoint`, `region`, `credentials`, `ca_file`, `proxy` of a bucket.

    Raises:
        RemoteError: it cannot be reached or written.
    """
    entry = RemoteEntry("", url, "", **options)
    if entry.scheme == "file":
        return claim_folder(Path(url))
    from localstored.remotes.bucket import claim_bucket
    from localstored.remotes.bucketopen import open_bucket

    keys = open_bucket(entry)
    try:
        return claim_bucket(keys, entry.url)
    finally:
        keys.close()
