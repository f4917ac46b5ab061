"""How two runs differ: config, summary, environment, packages, code. Pure."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Finding the shortest difference takes time with the product of both lengths.
MAX_COMPARED_LINES: Final = 8_000  # of both, without what is equal before and behind
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}+")


@dataclass(frozen=True, slots=True)
class Difference:
    """A key that two runs do not share.

    Attributes:
        key: nested ones with dots between.
        left, right: the values; None where `change` says that there is none.
        change: `changed`, `added` (right alone has it) or `removed` (left alone).
    """

    key: str
    left: Any
    right: Any
    change: str

    def to_dict(self) -> dict[str, Any]:
        """As plain values; the side that has none is left out."""
        out: dict[str, Any] = {"key": self.key, "change": self.change}
        if self.change != "added":
            out["left"] = self.left
        if self.change != "removed":
            out["right"] = self.right
        return out


def diff_mappings(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[Difference]:
    """The keys whose values differ, nested ones with dots between, sorted.

    `1` and `1.0` are the same number, and NaN is NaN; `1` and `True` differ.
    """
    before, after = dict(_flat(left)), dict(_flat(right))
    found = []
    for key in sorted({*before, *after}):
        if key not in before:
            found.append(Difference(key, None, after[key], "added"))
        elif key not in after:
            found.append(Difference(key, before[key], None, "removed"))
        elif not _same(before[key], after[key]):
            found.append(Difference(key, before[key], after[key], "changed"))
    return found


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value and "_type" not in value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, bool) != isinstance(right, bool):
        return False
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(_same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    return bool(left == right or (left != left and right != right))  # NaN


def diff_requirements(left: str, right: str) -> list[Difference]:
    """How two requirements.txt differ, package by package; names as pip compares them."""
    return diff_mappings(dict(_packages(left)), dict(_packages(right)))


def _packages(text: str) -> Iterable[tuple[str, str]]:
    for line in text.splitlines():
        match = _NAME.match(line.strip())
        if match is not None:
            name = re.sub(r"[-_.]+", "-", match[0]).lower()
            yield name, line.strip()[match.end() :].strip().removeprefix("==")


def comparable_code(
    left: Mapping[str, bytes], right: Mapping[str, bytes]
) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Of the saved files of two runs, those that can be compared with each other.

    Where both saved their code folder, its files; otherwise main scripts, untracked files and
    patches, which tell the same code only where the commit is the same.
    """
    both = all(any(path.startswith("code/") for path in side) for side in (left, right))

    def chosen(side: Mapping[str, bytes]) -> dict[str, bytes]:
        return {
            path: content
            for path, content in side.items()
            if path != "upstream.patch" and path.startswith("code/") == both
        }

    return chosen(left), chosen(right)


def diff_code(left: Mapping[str, bytes], right: Mapping[str, bytes]) -> dict[str, str]:
    """Unified differences of the files that differ, by path, sorted.

    A file that one side lacks counts as empty there. Of binary files, and of those of more than
    `MAX_COMPARED_LINES` that may differ, is only said that they differ.
    """
    return {
        path: _difference(path, left.get(path), right.get(path))
        for path in sorted({*left, *right})
        if left.get(path) != right.get(path)
    }


def _difference(path: str, left: bytes | None, right: bytes | None) -> str:
    before = f"a/{path}" if left is not None else "/dev/null"
    after = f"b/{path}" if right is not None else "/dev/null"
    old, new = _lines(left or b""), _lines(right or b"")
    if old is None or new is None:
        return f"Binary files {before} and {after} differ\n"
    if _unequal_lines(old, new) > MAX_COMPARED_LINES:
        return f"Files {before} and {after} differ, in {len(old)} and {len(new)} lines\n"
    # An empty file that appears or goes has no lines to show, and is a difference.
    rows = list(difflib.unified_diff(old, new, before, after))
    rows = rows or [f"--- {before}\n", f"+++ {after}\n"]
    return "".join(
        row if row.endswith("\n") else f"{row}\n\\ No newline at end of file\n" for row in rows
    )


def _unequal_lines(old: list[str], new: list[str]) -> int:
    """How many lines of both stand between an equal beginning and an equal end."""
    shorter = min(len(old), len(new))
    head = next((at for at in range(shorter) if old[at] != new[at]), shorter)
    left = shorter - head
    tail = next((at for at in range(left) if old[-1 - at] != new[-1 - at]), left)
    return len(old) + len(new) - 2 * (head + tail)


def _lines(content: bytes) -> list[str] | None:
    """Lines with their ends; None for what is no text."""
    if b"\0" in content:
        return None
    text = content.decode("utf-8", "backslashreplace")
    return [f"{line}\n" for line in text.split("\n")[:-1]] + [
        line for line in text.split("\n")[-1:] if line
    ]
