"""Where policy files and the meanings of tags lie, and the rules that have a name of their own.

Loads nothing: a writer asks here whether there is any rule at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

    from localstore.layout import ProjectPaths

POLICY_FILE: Final = "policy.toml"
# Built-in rules on what writers stamp: names of machine and account, values that a person keeps
# local, and all that was recorded while a policy file could not be understood.
HOST_NAMES: Final = "host-names"
KEEP_LOCAL: Final = "keep-local"
UNREADABLE: Final = "policy-unreadable"


def user_file(home: Path) -> Path:
    """The policy of everything in a home."""
    return home / POLICY_FILE


def project_file(paths: ProjectPaths) -> Path:
    """The policy of one project, on this machine; it never syncs."""
    return paths.local / POLICY_FILE


def tags_folder(paths: ProjectPaths) -> Path:
    """What this machine's writers say of their tags: one small file each, never synced."""
    return paths.local / "tags"
