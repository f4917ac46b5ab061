"""The FORMAT file of a project: its version, its id, what a reader must know (format.md 12)."""

from __future__ import annotations

from localstore.errors import Damaged
from localstore.format import spec


def format_file(project: bytes) -> bytes:
    """The content of a project's FORMAT file."""
    return f"localstore {spec.FORMAT_VERSION}\nproject {project.hex()}\nrequires\n".encode()


def check_format(content: bytes, project: str) -> None:
    """Refuse a project that a newer localstore made.

    Raises:
        Damaged: another version, project, or a required feature that is unknown here.
    """
    if content != format_file(bytes.fromhex(project)):
        raise Damaged(
            "FORMAT asks for another version or for features of a newer localstore",
            file="FORMAT",
            hint="install the newest localstore",
        )
