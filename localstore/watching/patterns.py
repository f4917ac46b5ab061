"""Which names in a watched folder are meant: patterns, and names that say "not yet". Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, Self

from localstore.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_PARTS: Final = 32
_ANY_DEPTH: Final = "**"
# What writers call a file until it is whole. A shard such as `model-part-1.bin` is none of these.
_UNFINISHED: Final = re.compile(
    r"(\.(tmp|temp|part|partial|incomplete|crdownload|swp|lock)|\.tmp[._-]?\w*|~)\Z|\A(tmp[-_.]|#)",
    re.IGNORECASE,
)


def is_unfinished(name: str) -> bool:
    """Whether a file's or folder's own name says that somebody still writes it, or hides it."""
    return name.startswith(".") or _UNFINISHED.search(name) is not None


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern of paths below a watched folder.

    Attributes:
        parts: one glob for each part of a path; `**` stands for any number of folders.
        folders: whether folders are meant, each of which becomes one version.
        outspoken: whether the pattern itself asks for hidden or unfinished names.
    """

    parts: tuple[str, ...]
    folders: bool
    outspoken: bool

    @classmethod
    def read(cls, text: str) -> Self:
        """Read `*.ckpt`, `models/**/*.pt`, or with a slash at the end `checkpoint-*/`.

        Raises:
            UsageError: empty, absolute, too deep, or with `.` or `..`.
        """
        parts = tuple(text.removesuffix("/").split("/"))
        if not all(parts) or {".", ".."} & set(parts) or "\0" in text:
            raise UsageError(
                f"pattern {text!r} is none of names below the folder",
                hint="want for example '*.ckpt', 'models/**/*.pt' or 'checkpoint-*/'",
            )
        if len(parts) > MAX_PARTS or parts[-1] == _ANY_DEPTH:
            raise UsageError(f"pattern {text!r} has no name at its end, or too many parts")
        return cls(parts, text.endswith("/"), is_unfinished(parts[-1]))

    def fits(self, path: Sequence[str]) -> bool:
        """Whether the pattern means the path of these parts."""
        return _fits(self.parts, path)

    def leads_to(self, folder: Sequence[str]) -> bool:
        """Whether what the pattern means may lie below this folder."""
        return any(
            _fits(self.parts[:count], folder) for count in range(1, len(self.parts))
        ) or _reaches(self.parts, folder)

    def refuses(self, name: str) -> bool:
        """Whether a name that fits is passed over, because it is hidden or says "not yet"."""
        return not self.outspoken and is_unfinished(name)


def _fits(parts: Sequence[str], path: Sequence[str]) -> bool:
    if not parts:
        return not path
    if parts[0] == _ANY_DEPTH:
        return any(_fits(parts[1:], path[skip:]) for skip in range(len(path) + 1))
    return bool(path) and fnmatchcase(path[0], parts[0]) and _fits(parts[1:], path[1:])


def _reaches(parts: Sequence[str], folder: Sequence[str]) -> bool:
    """Whether a `**` takes the folder in."""
    for at, part in enumerate(parts):
        if part == _ANY_DEPTH:
            return any(_fits(parts[:at], folder[:length]) for length in range(len(folder) + 1))
    return False


def marker_of(template: str, name: str) -> str:
    """The name of the file that says that `name` is complete: `{name}.done`, `{stem}.ok`, `DONE`.

    Raises:
        UsageError: a path, or an unknown word in braces.
    """
    stem = name.rpartition(".")[0] or name
    made = template.replace("{name}", name).replace("{stem}", stem)
    if not template or "/" in template or re.search(r"[{}]", template_without_words(template)):
        raise UsageError(
            f"{template!r} names no marker file", hint="want for example 'DONE' or '{name}.done'"
        )
    return made


def template_without_words(template: str) -> str:
    """A marker's template without the words that are filled in."""
    return template.replace("{name}", "").replace("{stem}", "")
