"""How artifacts, aliases and tags may be called, and how `[[entity/]project/]name:word` is read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from localstore.errors import BadName, UsageError
from localstore.layout import check_label

LATEST: Final = "latest"
MAX_TAG_CHARS: Final = 256
_LABEL: Final = re.compile(r"v(0|[1-9][0-9]{0,9})(?:\.([0-9a-f]{4,64}))?")
_RESERVED: Final = re.compile(r"v[0-9]+(\.[0-9a-f]*)?")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


def check_name(name: object) -> str:
    """A name that an artifact may have.

    Raises:
        BadName: see `layout.check_label`.
    """
    if not isinstance(name, str):
        raise BadName(f"an artifact's name is a text, not {type(name).__name__}")
    return check_label("artifact name", name)


def check_type(kind: object) -> str:
    """A type of artifact, such as `model` or `dataset`.

    Raises:
        BadName: see `layout.check_label`.
    """
    if not isinstance(kind, str):
        raise BadName(f"an artifact's type is a text, not {type(kind).__name__}")
    return check_label("artifact type", kind)


def check_alias(alias: object) -> str:
    """A name that a version may get beside its number.

    Raises:
        BadName: as for names, or what looks like a version's own number.
    """
    if not isinstance(alias, str):
        raise BadName(f"an alias is a text, not {type(alias).__name__}")
    if _RESERVED.fullmatch(alias):
        raise BadName(f"alias {alias!r} looks like a version's number; numbers are given by us")
    return check_label("alias", alias)


def check_tag(tag: object) -> str:
    """A tag of a version.

    Raises:
        BadName: empty, over 256 characters, or with control characters.
    """
    if not isinstance(tag, str):
        raise BadName(f"a tag is a text, not {type(tag).__name__}")
    if not tag.strip() or len(tag) > MAX_TAG_CHARS or _CONTROL.search(tag):
        raise BadName(f"tag {tag[:80]!r}: want 1 to {MAX_TAG_CHARS} characters, no control ones")
    try:
        tag.encode()
    except UnicodeEncodeError:
        raise BadName(f"tag {tag[:80]!r} is not valid Unicode") from None
    return tag


def check_text_list(what: str, given: object) -> list[str]:
    """A list of texts; one text stands for a list of one.

    Raises:
        UsageError: anything else.
    """
    if given is None:
        return []
    if isinstance(given, str):
        return [given]
    if isinstance(given, (list, tuple, set, frozenset)) and all(isinstance(o, str) for o in given):
        return list(dict.fromkeys(given))
    raise UsageError(f"{what} are a list of texts, not {given!r:.80}")


def parse_label(word: str) -> tuple[int, str] | None:
    """Number and digest digits of `v3` or `v3.1f2e`; None for every other word."""
    found = _LABEL.fullmatch(word)
    return (int(found[1]), found[2] or "") if found else None


@dataclass(frozen=True, slots=True)
class Place:
    """What `[[entity/]project/]name[:word]` says; empty where it says nothing."""

    entity: str
    project: str
    name: str
    word: str


def parse_place(text: object) -> Place:
    """Read `model:latest`, `project/model:v3`, `entity/project/model:best`, `model`.

    Raises:
        UsageError: not of that form.
        BadName: a part breaks the rules for names.
    """
    if not isinstance(text, str):
        raise UsageError(f"an artifact is named by a text, not {type(text).__name__}")
    front, colon, word = text.partition(":")
    parts = front.split("/")
    if len(parts) > 3 or not all(parts) or (colon and not word):
        raise UsageError(
            f"{text[:200]!r} names no artifact", hint="want NAME:ALIAS, or [ENTITY/]PROJECT/NAME:v3"
        )
    for what, part in zip(("entity", "project")[3 - len(parts) :], parts[:-1], strict=True):
        check_label(what, part)
    if word:
        check_label("alias", word)
    entity, project, name = [""] * (3 - len(parts)) + parts
    return Place(entity, project, check_name(name), word)
