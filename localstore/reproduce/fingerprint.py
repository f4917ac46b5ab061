"""Whether a start is the same work as an earlier one: code, config and inputs as one hash.

The answer must never be a wrong yes. Where the code is not wholly known there is no fingerprint.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from localstore import crypto

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_VERSION: Final = b"localstore start 1"
_PATCH: Final = "diff.patch"
# The same code, told from another commit.
_REDUNDANT: Final = "upstream.patch"


def start_fingerprint(
    facts: Mapping[str, Any],
    files: Iterable[tuple[str, bytes]],
    config: Mapping[str, Any],
    inputs: Iterable[tuple[str, bytes]] = (),
    arguments: Sequence[str] = (),
) -> bytes:
    """The hash of all that decides what a run will do, as far as it is known at its start.

    Args:
        facts: those of git, from a capture of level `diff` or more.
        files: paths and contents of that capture.
        config: as it is when the run starts.
        inputs: names and digests of the artifacts that the run declares to use.
        arguments: the words after the program's name.

    Returns:
        32 bytes; empty when the code is not wholly known: neither a commit nor a file, a patch
        that was left out, changes inside a submodule.
    """
    code = sorted((path, content) for path, content in files if path != _REDUNDANT)
    paths = {path for path, _ in code}
    lacks_patch = bool(facts.get("dirty")) and _PATCH not in paths
    lacks_patch |= _PATCH in facts.get("limits", ()) or bool(facts.get("changed_submodules"))
    if lacks_patch or not (facts.get("commit") or code):
        return b""
    parts = [_VERSION, str(facts.get("commit", "")).encode()]
    parts += [_text(facts.get("submodules", {})), _text(config), _text(list(arguments))]
    for path, content in code:
        parts += (path.encode("utf-8", "surrogateescape"), crypto.content_hash(content))
    parts.append(b"")
    for name, digest in sorted(set(inputs)):
        parts += (name.encode("utf-8", "surrogateescape"), digest)
    return crypto.content_hash(b"".join(len(part).to_bytes(8, "little") + part for part in parts))


def _text(value: Any) -> bytes:
    return json.dumps(_canonical(value), ensure_ascii=True, separators=(",", ":")).encode()


def _canonical(value: Any) -> Any:
    """The same value in an order of its own; what JSON does not know as its text."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case dict():
            rows = ((str(key), _canonical(one)) for key, one in value.items())
            return dict(sorted(rows, key=lambda row: row[0]))
        case list() | tuple():
            return [_canonical(one) for one in value]
        case bytes():
            return {"bytes": value.hex()}
        case _:
            return {type(value).__name__: str(value)}
