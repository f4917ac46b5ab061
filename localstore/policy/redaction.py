"""What is taken out of values before they are sealed, or put apart: pure functions of names.

Names are looked at whole (`optimizer.password`) and by their last part (`password`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from localstore.policy.values import fits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

REDACTED: Final = "(redacted)"
_MAX_REMEMBERED: Final = 10_000
# An opening word that is no option: `password=…`, as Hydra takes it.
_OPTION: Final = re.compile(r"(-{0,2})([^=\s]+)=(.*)", re.S)


class Names:
    """Which patterns names fit; each name is looked at once."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = tuple(dict.fromkeys(patterns))
        self._known: dict[str, bool] = {}

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def __contains__(self, name: str) -> bool:
        found = self._known.get(name)
        if found is None:
            last = name.rpartition(".")[2]
            found = fits(name, self._patterns) or fits(last, self._patterns)
            if len(self._known) < _MAX_REMEMBERED:
                self._known[name] = found
        return found


@dataclass(slots=True)
class Split:
    """A mapping in parts.

    Attributes:
        public: what goes where everything goes. apart: whole values with their rules' names; those
            that are private in a part only stand in `public` as well, without that part.
        removed: how many values were replaced by a marker.
    """

    public: dict[str, Any] = field(default_factory=dict)
    apart: dict[str, tuple[Any, frozenset[str]]] = field(default_factory=dict)
    removed: int = 0


class Splitter:
    """Takes mappings apart by the names of their keys."""

    def __init__(
        self,
        removed: Iterable[str],
        private: Mapping[str, Sequence[str]],
        scrub: Callable[[str], str] | None = None,
    ) -> None:
        """
        Args:
            removed: patterns of keys whose values are never recorded.
            private: patterns of keys that are put apart, by the name of the rule.
            scrub: is given every other text.
        """
        self._removed = Names(removed)
        self._private = {rule: Names(patterns) for rule, patterns in private.items()}
        self._scrub = scrub
        self.idle = not self._removed and not self._private and scrub is None

    def rules(self, name: str) -> frozenset[str]:
        """The rules that put a key apart."""
        return frozenset(rule for rule, names in self._private.items() if name in names)

    def split(self, values: Mapping[str, Any]) -> Split:
        """The parts of a mapping of plain values."""
        out = Split()
        if self.idle:
            out.public.update(values)
            return out
        for key, value in values.items():
            if key in self._removed:
                out.public[key] = REDACTED
                out.removed += 1
                continue
            clean = self._clean(value, key, out)
            rules = self.rules(key)
            if rules:
                out.apart[key] = clean, rules
                continue
            inside: set[str] = set()
            out.public[key] = self._without(clean, key, inside)
            if inside:
                out.apart[key] = clean, frozenset(inside)
        return out

    def _clean(self, value: Any, above: str, out: Split) -> Any:
        """The value with markers in the place of what is never recorded."""
        match value:
            case str():
                return value if self._scrub is None else self._scrub(value)
            case dict():
                clean = {}
                for key, one in value.items():
                    name = f"{above}.{key}"
                    if name in self._removed:
                        clean[key] = REDACTED
                        out.removed += 1
                    else:
                        clean[key] = self._clean(one, name, out)
                return clean
            case list() | tuple():
                return [self._clean(one, above, out) for one in value]
            case _:
                return value

    def _without(self, value: Any, above: str, met: set[str]) -> Any:
        """The value without what is put apart; the rules that were met go to `met`."""
        if not self._private:
            return value
        match value:
            case dict():
                kept = {}
                for key, one in value.items():
                    rules = self.rules(f"{above}.{key}")
                    met |= rules
                    if not rules:
                        kept[key] = self._without(one, f"{above}.{key}", met)
                return kept
            case list() | tuple():
                return [self._without(one, above, met) for one in value]
            case _:
                return value


# ------------------------------------------------------------------ command lines
def redact_arguments(
    words: Sequence[str], options: Sequence[str], whole: Sequence[str]
) -> tuple[list[str], int]:
    """A command line without the values of some options.

    Args:
        options: patterns of options' names, with or without dashes: `*password*` takes the value of
            `--db-password VALUE`, `--db-password=VALUE` and `db.password=VALUE`.
        whole: patterns of options, and of words that are removed whole.

    Returns:
        The words, and how many were changed.
    """
    names = Names(pattern.lstrip("-") for pattern in (*options, *whole))
    out: list[str] = []
    changed, value_follows = 0, False
    for word in words:
        new = REDACTED if value_follows else _redact_word(word, names, whole)
        value_follows = not value_follows and _takes_next(word, names)
        changed += new != word
        out.append(new)
    return out, changed


def _is_name(text: str, names: Names) -> bool:
    return text in names or text.replace("-", "_") in names


def _redact_word(word: str, names: Names, whole: Sequence[str]) -> str:
    found = _OPTION.fullmatch(word)
    if found and _is_name(found[2], names):
        return f"{found[1]}{found[2]}={REDACTED}"
    return REDACTED if not word.startswith("-") and fits(word, whole) else word


def _takes_next(word: str, names: Names) -> bool:
    return word.startswith("-") and "=" not in word and _is_name(word.lstrip("-"), names)


# ------------------------------------------------------------------ names of people and machines
def scrubber(names: Iterable[str]) -> Callable[[str], str] | None:
    """Replaces names where they stand as words; None where there are none."""
    known = sorted({name for name in names if name}, key=len, reverse=True)
    if not known:
        return None
    words = "|".join(map(re.escape, known))
    pattern = re.compile(rf"(?<![^\W_])(?:{words})(?![^\W_])", re.I)
    return lambda text: pattern.sub(REDACTED, text)


def scrub_all(value: Any, scrub: Callable[[str], str]) -> Any:
    """The same for every text inside plain values, keys of mappings aside."""
    match value:
        case str():
            return scrub(value)
        case dict():
            return {key: scrub_all(one, scrub) for key, one in value.items()}
        case list() | tuple():
            return [scrub_all(one, scrub) for one in value]
        case _:
            return value
