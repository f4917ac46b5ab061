"""Keeps a remote open from one sync to the next: opening a bucket costs requests."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from localstore.errors import LocalStoreError
from localstored.remotes.base import Remote

if TYPE_CHECKING:
    from localstore.remotes import RemoteEntry
    from localstored.service.desk import Desk

LOCAL_SCHEME: Final = "file"
Opener = Callable[..., Remote]  # of an entry, with limits


class HeldOpen:
    """Opens a remote and keeps it open from sync to sync; what it gives out cannot be closed.

    A folder is opened each time: another stick may be mounted there by now.
    """

    def __init__(self, opener: Opener, desk: Desk) -> None:
        self._opener, self._desk = opener, desk
        self._remote: Remote | None = None
        self._with: object = None

    def __call__(self, entry: RemoteEntry) -> Remote:
        limits = self._desk.book().limits(entry.name)
        if self._remote is None or self._with != (entry, limits) or entry.scheme == LOCAL_SCHEME:
            self.close()
            self._remote, self._with = self._opener(entry, limits=limits), (entry, limits)
        return cast("Remote", _Lent(self._remote))  # every verb is the remote's own

    def close(self) -> None:
        """Close what is open."""
        remote, self._remote = self._remote, None
        if remote is not None:
            with contextlib.suppress(LocalStoreError, OSError):
                remote.close()


class _Lent:
    """A remote that its user cannot close."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def __getattr__(self, name: str) -> Any:
        return getattr(self._remote, name)

    def close(self) -> None:
        """Stays open: it belongs to the worker."""
