"""Masks what looks like a key, a token or a password before code or a command line is stored.

The count of lines never changes. A value that was found is never returned, only its place and
kind. Binary files are left as they are, but for blocks of private keys and tickets.
"""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING, Final, TypedDict

from localstore.surroundings.patterns import Secret, find_secrets, kind_of_name, private_keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MARK_PATTERN: Final = re.compile(r"\*\*\*MASKED:([a-z0-9-]{1,40}+)\*\*\*")
_BINARY_LOOK_BYTES: Final = 8192
_TICKET_MAGIC: Final = b"LSTK"
_WIDE: Final = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_BINARY_PATCH: Final = re.compile(r"^GIT binary patch$.*?(?=^diff --git |\Z)", re.M | re.S)


class Mark(TypedDict):
    """Where something was masked: path of the file, line from 1, kind of secret."""

    file: str
    line: int
    kind: str


def mark(kind: str) -> str:
    """What stands where a secret of this kind stood."""
    return f"***MASKED:{kind}***"


def mask(path: str, content: bytes) -> tuple[bytes, list[Mark]]:
    """The content of a file without secrets, and where they were.

    Args:
        path: its name, for the marks; the contents of binary files in a `.patch` stay as they are.
    """
    if content.startswith(_TICKET_MAGIC):
        return _ticket(path)
    for order, encoding in _WIDE.items():
        if content.startswith(order):
            return _mask_wide(path, content, encoding)
    if b"\0" in content[:_BINARY_LOOK_BYTES]:
        return _mask_binary(path, content)
    text = content.decode("latin-1")
    secrets = find_secrets(text)
    if secrets and path.endswith(".patch"):
        secrets = _outside_binary_patches(text, secrets)
    masked, marks = _replace(path, text, secrets)
    return (masked.encode("latin-1") if marks else content), marks


def _ticket(path: str) -> tuple[bytes, list[Mark]]:
    kind = "localstore-ticket"
    return mark(kind).encode(), [{"file": path, "line": 1, "kind": kind}]


def _mask_wide(path: str, content: bytes, encoding: str) -> tuple[bytes, list[Mark]]:
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        return _mask_binary(path, content)
    masked, marks = _replace(path, text, find_secrets(text))
    return (masked.encode(encoding) if marks else content), marks


def _mask_binary(path: str, content: bytes) -> tuple[bytes, list[Mark]]:
    text = content.decode("latin-1")
    marks: list[Mark] = []
    for start, end, kind in private_keys(text):
        marks.append({"file": path, "line": 1 + text.count("\n", 0, start), "kind": kind})
        # As long as before: offsets inside a binary file mean something.
        content = content[:start] + b"*" * (end - start) + content[end:]
    return content, marks


def _outside_binary_patches(text: str, secrets: Iterable[Secret]) -> list[Secret]:
    spans = [match.span() for match in _BINARY_PATCH.finditer(text)]
    return [
        secret for secret in secrets if not any(start <= secret.start < end for start, end in spans)
    ]


def _replace(path: str, text: str, secrets: Sequence[Secret]) -> tuple[str, list[Mark]]:
    pieces: list[str] = []
    marks: list[Mark] = []
    at, line = 0, 1
    for start, end, kind in secrets:
        pieces += (text[at:start], mark(kind))
        line += text.count("\n", at, start)
        marks.append({"file": path, "line": line, "kind": kind})
        at = end
    return "".join([*pieces, text[at:]]), marks


def mask_text(text: str) -> str:
    """A short text, such as a value of the environment, without secrets."""
    return _replace("", text, find_secrets(text))[0]


# ------------------------------------------------------------------ addresses
_ADDRESS: Final = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]{0,40}+)://(?P<who>[^/?#]{0,2000}@)?"
)
_QUERY_VALUE: Final = re.compile(
    r"(?P<name>[?&#;][^=&#;]{0,200}+)=(?P<value>[^&#;]{1,4000}+)", re.ASCII
)
_QUERY_SECRET: Final = re.compile(
    r"(?i)(?:key|token|secret|password|passwd|pwd|sig|signature|auth|code|credential)$"
)


def mask_url(url: str) -> str:
    """An address without its credentials: no user but that of SSH, no telling query values."""
    match = _ADDRESS.match(url)
    if match is None:
        return mask_text(url)  # `git@host:path`, or a folder
    user = ""
    if match["who"] and "ssh" in match["scheme"].lower():
        user = match["who"].removesuffix("@").partition(":")[0] + "@"
    rest = _QUERY_VALUE.sub(_query_value, url[match.end() :])
    return mask_text(f"{match['scheme']}://{user}{rest}")


def _query_value(match: re.Match[str]) -> str:
    if _QUERY_SECRET.search(match["name"]):
        return f"{match['name']}={mark('url-token')}"
    return match[0]


# ------------------------------------------------------------------ command lines and variables
_NAMED: Final = re.compile(
    r"(?P<name>[\-+~]{0,2}+[A-Za-z_][A-Za-z0-9_.\-]{0,200}+)=(?P<value>.+)", re.S
)
_TOKEN_OF_A_MODEL: Final = re.compile(
    r"(?i)(?:pad|eos|bos|unk|mask|sep|cls|special|image|max|min|num|n|stop|start|end|new|per|next)"
    r"[_\-]?+token$"
)


def _kind_of_option(name: str, value: str) -> str:
    """What kind of secret an option's value is; empty: none."""
    if not value or _TOKEN_OF_A_MODEL.search(name) or MARK_PATTERN.search(value):
        return ""
    if value.lower() in ("true", "false", "none", "null") or value.startswith(("$", "<")):
        return ""
    kind = kind_of_name(name)
    return "" if kind == "token" and value.replace(".", "").isdigit() else kind


def mask_value(name: str, value: str) -> str:
    """The value of a variable or an option, masked if its name or its look tells a secret."""
    kind = _kind_of_option(name, value)
    return mark(kind) if kind else mask_text(value)


def mask_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Variables of the environment, masked."""
    return {name: mask_value(name, value) for name, value in variables.items()}


def mask_arguments(arguments: Sequence[str]) -> list[str]:
    """The words of a command line, masked: `--password x`, `api.key=x`, addresses, keys."""
    masked: list[str] = []
    option = ""
    for word in arguments:
        named = _NAMED.fullmatch(word)
        if option and not word.startswith("--"):
            masked.append(mask_value(option, word))
        elif named is not None:
            value = mask_value(named["name"], named["value"])
            masked.append(f"{named['name']}={value}")
        else:
            masked.append(mask_text(word))
        option = word if word.startswith("-") and named is None else ""
    return masked
