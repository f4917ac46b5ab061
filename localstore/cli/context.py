"""What the commands share: the home that is meant, and who may be addressed in it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from localstore import settings
from localstore.errors import BadSetting, Damaged, KeyUnavailable, NotFound, NotPermitted
from localstore.identity import now_us
from localstore.layout import HomePaths
from localstore.vault import Vault

if TYPE_CHECKING:
    from pathlib import Path


def home() -> Path:
    """The home of this invocation: `--home` sets the variable that settings read.

    Raises:
        BadSetting: it is a file.
    """
    found = settings.load().home_path
    if found.exists() and not found.is_dir():
        raise BadSetting(f"home is {str(found)!r}, want a folder")
    return found


def home_paths() -> HomePaths:
    """The same, with its layout."""
    return HomePaths(home())


def adopt_keys() -> str:
    """After a sync: take over newer keys that another of the person's devices made.

    Returns:
        What to tell the person, empty when there is nothing to tell. A sync asks nobody for a
        passphrase: a protected key is brought up to date when something is read.
    """
    from localstore.rotation import adopt_rotations, complete_rotation

    vault = Vault(home_paths())
    if vault.protected():
        return ""
    try:
        identity = vault.load() if vault.exists else None
        if identity is None or not identity.is_member:
            return ""
        adopted = adopt_rotations(home_paths(), vault)
        done = complete_rotation(home_paths(), adopted or identity)
    except (KeyUnavailable, NotPermitted):
        return ""
    if adopted is None and not done:
        return ""
    return (
        f"a device was revoked: your keys are of generation {(adopted or identity).generation} "
        "now; write down the new code: localstore key recovery-code"
    )


def sweep_erased() -> None:
    """After a sync: what a tombstone that just arrived leaves to remove, caches included."""
    from localstore.erase import sweep
    from localstore.trust import read_project

    for paths in home_paths().all_projects():
        try:
            sweep(paths, read_project(paths).erased(now_us()))
        except Damaged:
            continue  # `verify` names it


def bring_tails_home() -> None:
    """Before a sync: what killed writers left in this node's `tail_dir`."""
    from localstore.tails import bring_home

    bring_home(settings.load().tail_dir, home_paths())


def project_ids(name: str) -> list[str]:
    """The projects that a name or an id stands for; an id needs no key.

    Raises:
        NotFound: no project of this name can be read here.
    """
    from localstore.projects import Projects

    if re.fullmatch(r"[0-9a-f]{64}", name):
        return [name]
    entity, _, own = name.rpartition("/")
    found = Projects(home_paths(), Vault(home_paths()).load()).named(entity, own)
    if not found:
        raise NotFound(
            f"no project {name!r} in {home()}",
            hint="`localstore ls` lists the projects and their runs",
        )
    return [project.paths.id for project in found]


def project_names() -> dict[str, str]:
    """Names of the projects here, by id, as far as they open without asking for a passphrase."""
    from localstore.projects import Projects

    vault = Vault(home_paths())
    try:
        identity = None if vault.protected() or not vault.exists else vault.load()
    except (KeyUnavailable, NotPermitted):
        return {}
    found = Projects(home_paths(), identity).all() if identity else ()
    return {one.paths.id: f"{one.entity}/{one.name}" for one in found}


def recipients() -> frozenset[str]:
    """Tags of the keys that keyslots for this home are sealed to; needs no key."""
    return Vault(home_paths()).recipients()
