"""Folders that a version was downloaded to: compared with it, and emptied of all else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from localstore import settings
from localstore.artifacts.writing import hash_file
from localstore.errors import LocalStoreError, UsageError

if TYPE_CHECKING:
    from localstore.format.manifest import Entry
    from localstore.settings import Settings


def is_the_same(file: Path, entry: Entry) -> bool:
    """Whether a file on disk is this one of a version."""
    try:
        return hash_file(file) == (entry.size, entry.hash)
    except LocalStoreError:
        return False


def check_may_empty(folder: Path, options: Settings) -> None:
    """Refuse to remove other files from where much else is kept.

    Raises:
        UsageError: the folder holds a home folder, the working folder or the store, or is in it.
    """
    whole = folder.resolve()
    home = options.home_path.resolve()
    kept = [Path(whole.anchor), Path.home(), settings.working_folder(), home]
    if any(one.resolve().is_relative_to(whole) for one in kept) or whole.is_relative_to(home):
        raise UsageError(
            f"checkout() would remove everything else from {str(whole)!r}",
            hint="give a folder of its own",
        )


def remove_others(root: Path, kept: set[str]) -> None:
    """Remove files that are not `kept`, links themselves, and the folders that become empty."""
    folders, waiting = list[Path](), [root]
    while waiting:  # by hand: a version may have more folders within each other than calls
        here = waiting.pop()
        folders.append(here)
        with os.scandir(here) as found:
            entries = list(found)
        for one in entries:
            if one.is_dir(follow_symlinks=False):
                waiting.append(here / one.name)
            elif (here / one.name).relative_to(root).as_posix() not in kept:
                (here / one.name).unlink()
    for here in reversed(folders[1:]):
        if not any(here.iterdir()):
            here.rmdir()
