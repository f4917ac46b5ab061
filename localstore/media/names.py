"""What stored files are called inside a run: generated, never taken from a script or a file."""

from __future__ import annotations

import re
from typing import Final

from localstore.errors import Damaged

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_.-]")
_MAX_KEY_CHARS: Final = 120
_MAX_PATH_CHARS: Final = 1024


def safe_key(key: str) -> str:
    """A key as part of a path; one that had to be changed gets a hash, so no two are the same."""
    parts = [_UNSAFE.sub("_", part) for part in key.split("/")]
    clean = "/".join("_" if part in ("", ".", "..") else part for part in parts)
    if clean == key and len(key) <= _MAX_KEY_CHARS:
        return key
    from localstore.crypto import content_hash

    mark = content_hash(key.encode("utf-8", "replace"))[:4].hex()
    return f"{clean[:_MAX_KEY_CHARS].rstrip('/')}-{mark}"


def main_path(
    folder: str, key: str, step: int, index: int | None, hashed: bytes, suffix: str
) -> str:
    """`media/images/loss_map_12_<20 hex of the hash>.png`; items of a list have their index."""
    place = f"{step}" if index is None else f"{step}_{index}"
    return f"media/{folder}/{safe_key(key)}_{place}_{hashed.hex()[:20]}{suffix}"


def content_path(folder: str, hashed: bytes, suffix: str) -> str:
    """`media/images/<40 hex of the hash>.png`: the same content has the same name."""
    return f"media/{folder}/{hashed.hex()[:40]}{suffix}"


def checked_path(path: object) -> str:
    """A path out of a stored file.

    Raises:
        Damaged: absolute, with `..`, or no path at all.
    """
    if not isinstance(path, str) or not 0 < len(path) <= _MAX_PATH_CHARS or "\0" in path:
        raise Damaged(f"a path {path!r:.80}, want text")
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise Damaged(f"a path {path!r:.80} that leaves its folder")
    return path
