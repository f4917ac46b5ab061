"""Remotes: one small protocol, an implementation for each kind of place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from localstored.remotes.folder import FolderRemote

if TYPE_CHECKING:
    from localstore.remotes import RemoteEntry
    from localstored.remotes.base import Remote


def open_remote(entry: RemoteEntry) -> Remote:
    """The remote that an entry of `remotes.toml` names.

    Raises:
        Unreachable: nothing answers there, or another remote does.
    """
    return FolderRemote(Path(entry.url), want_id=entry.id)
