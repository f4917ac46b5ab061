"""What the commands share: the home that is meant, and who may be addressed in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from localstore import settings
from localstore.identity import Vault
from localstore.layout import HomePaths

if TYPE_CHECKING:
    from pathlib import Path


def home() -> Path:
    """The home of this invocation: `--home` sets the variable that settings read."""
    return settings.load().home_path


def home_paths() -> HomePaths:
    """The same, with its layout."""
    return HomePaths(home())


def recipients() -> frozenset[str]:
    """Tags of the keys that keyslots for this home are sealed to; needs no key."""
    return Vault(home_paths()).recipients()
