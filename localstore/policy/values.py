"""The small values of a policy file: sizes, rates, percents, hours, networks, words, patterns.

Strict: a value that could be read in two ways is an error that says what was wanted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from localstore.errors import BadSetting

if TYPE_CHECKING:
    from collections.abc import Sequence

_UNITS: Final = {
    **{"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12},
    **{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40},
}
_SIZE: Final = re.compile(r"(\d{1,15}(?:\.\d{1,6})?) ?([kKMGT]?i?B)")
_PERCENT: Final = re.compile(r"(\d{1,3}) ?%")
_CLOCK: Final = r"(\d{2}):(\d{2})"
_HOURS: Final = re.compile(rf"(?:([a-z,-]+) +)?{_CLOCK}-{_CLOCK}")
_QUOTED_TWICE: Final = re.compile(r"\s*(?:\[\s*)?[\"']")
_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_MINUTES: Final = 24 * 60
_EVERY_DAY: Final = frozenset(range(7))
_MOST_PARALLEL: Final = 64
SIZE_WANTED: Final = 'a size such as "2 GiB" or "500 MB"'
RATE_WANTED: Final = 'a rate such as "2 MiB/s"'
PERCENT_WANTED: Final = "a percent from 0 to 100"
HOURS_WANTED: Final = 'hours such as "22:00-06:00" or "sat-sun 00:00-24:00", or a list of them'
NETWORK_WANTED: Final = '"any", "unmetered", "vpn:INTERFACE", or a list of names of networks'


def wrong(where: str, raw: object, wanted: str) -> BadSetting:
    """The error for a value of a wrong form."""
    return BadSetting(f"{where} is {raw!r}, want {wanted}")


# ------------------------------------------------------------------ numbers
def size(raw: object, where: str) -> int:
    """Bytes of a text such as `2 GiB`.

    Raises:
        BadSetting: another form, or nothing.
    """
    found = _SIZE.fullmatch(raw.strip()) if isinstance(raw, str) else None
    if found is None or found[2] not in _UNITS:
        raise wrong(where, raw, SIZE_WANTED)
    count = int(float(found[1]) * _UNITS[found[2]])
    if count < 1:
        raise wrong(where, raw, f"{SIZE_WANTED}, more than nothing")
    return count


def rate(raw: object, where: str) -> int:
    """Bytes per second of a text such as `2 MiB/s`.

    Raises:
        BadSetting: another form, or nothing.
    """
    if not isinstance(raw, str) or not raw.strip().endswith("/s"):
        raise wrong(where, raw, RATE_WANTED)
    try:
        return size(raw.strip()[:-2].rstrip(), where)
    except BadSetting:
        raise wrong(where, raw, f"{RATE_WANTED}, more than nothing") from None


def percent(raw: object, where: str) -> int:
    """A whole number from 0 to 100, or a text such as `30%`.

    Raises:
        BadSetting: anything else.
    """
    found = _PERCENT.fullmatch(raw.strip()) if isinstance(raw, str) else None
    number = int(found[1]) if found else raw
    if type(number) is not int or not 0 <= number <= 100:
        raise wrong(where, raw, PERCENT_WANTED)
    return number


def parallel(raw: object, where: str) -> int:
    """How many transfers at once.

    Raises:
        BadSetting: no whole number from 1 to 64.
    """
    if type(raw) is not int or not 1 <= raw <= _MOST_PARALLEL:
        raise wrong(where, raw, f"a whole number from 1 to {_MOST_PARALLEL}")
    return raw


def yes_or_no(raw: object, where: str) -> bool:
    """A truth value.

    Raises:
        BadSetting: anything else.
    """
    if type(raw) is not bool:
        raise wrong(where, raw, "true or false")
    return raw


# ------------------------------------------------------------------ texts
def texts(raw: object, where: str) -> tuple[str, ...]:
    """A text or a list of texts, none of them empty.

    Raises:
        BadSetting: anything else.
    """
    found = [raw] if isinstance(raw, str) else raw
    if (
        not isinstance(found, list)
        or not found
        or not all(isinstance(one, str) and one.strip() for one in found)
    ):
        raise wrong(where, raw, "a text or a list of texts, none of them empty")
    for one in found:
        if _QUOTED_TWICE.match(one):  # as a pattern it would fit nothing that anybody means
            raise wrong(where, one, 'a text or a list as ["a", "b"], with no more quotes around it')
    return tuple(found)


def fits(text: str, patterns: Sequence[str]) -> bool:
    """Whether a text fits one of the patterns, in which `*` stands for any text.

    Case makes no difference: `*password*` is meant for `DB_PASSWORD`, too.
    """
    lowered = text.lower()
    return any(fnmatchcase(lowered, pattern.lower()) for pattern in patterns)


# ------------------------------------------------------------------ hours
@dataclass(frozen=True, slots=True)
class Window:
    """A time of day, on some days; past midnight where it ends before it begins.

    Attributes:
        days: on which it begins, 0 is Monday. start, end: minutes since midnight.
    """

    days: frozenset[int]
    start: int
    end: int

    def holds(self, minute: int, weekday: int) -> bool:
        """Whether a local time is inside."""
        if self.start < self.end:
            return weekday in self.days and self.start <= minute < self.end
        begun_today = weekday in self.days and minute >= self.start
        return begun_today or ((weekday - 1) % 7 in self.days and minute < self.end)


def hours(raw: object, where: str) -> tuple[Window, ...]:
    """One window or a list of them.

    Raises:
        BadSetting: another form, or an empty window.
    """
    return tuple(_window(one, where) for one in texts(raw, where))


def _window(text: str, where: str) -> Window:
    found = _HOURS.fullmatch(text.strip().lower())
    if found is None:
        raise wrong(where, text, HOURS_WANTED)
    days, *clock = found.groups()
    start, end = _minute(*clock[:2]), _minute(*clock[2:])
    if start is None or end is None or start in (end, _DAY_MINUTES):
        raise wrong(where, text, HOURS_WANTED)
    return Window(_day_set(days, text, where) if days else _EVERY_DAY, start, end)


def _minute(hour: str, minute: str) -> int | None:
    number = int(hour) * 60 + int(minute)
    return number if int(minute) < 60 and number <= _DAY_MINUTES else None


def _day_set(text: str, raw: str, where: str) -> frozenset[int]:
    out: set[int] = set()
    for part in text.split(","):
        first, mark, last = part.partition("-")
        if first not in _DAYS or (mark and last not in _DAYS):
            raise wrong(where, raw, HOURS_WANTED)
        begin = _DAYS.index(first)
        length = (_DAYS.index(last) - begin) % 7 if mark else 0
        out.update((begin + step) % 7 for step in range(length + 1))
    return frozenset(out)


# ------------------------------------------------------------------ networks
@dataclass(frozen=True, slots=True)
class Network:
    """What kind of network is wanted: one that costs nothing, or one of these.

    Attributes:
        unmetered: it must be known to cost nothing.
        names: of connections, such as the name of a Wi-Fi. interfaces: of VPNs.
    """

    unmetered: bool = False
    names: frozenset[str] = frozenset()
    interfaces: frozenset[str] = frozenset()

    def __str__(self) -> str:
        """For a person."""
        if self.unmetered:
            return "an unmetered network"
        wanted = [f"network {name!r}" for name in sorted(self.names)]
        wanted += [f"VPN interface {name!r}" for name in sorted(self.interfaces)]
        return " or ".join(wanted)


def network(raw: object, where: str) -> Network | None:
    """What is wanted; None for `any`.

    Raises:
        BadSetting: another form.
    """
    if raw == "any":
        return None
    if raw == "unmetered":
        return Network(unmetered=True)
    listed = texts(raw, where) if isinstance(raw, list) else ()
    if isinstance(raw, str) and raw.startswith("vpn:"):
        listed = (raw,)
    vpns = frozenset(one[4:].strip() for one in listed if one.startswith("vpn:"))
    names = frozenset(one for one in listed if not one.startswith("vpn:"))
    if not listed or "" in vpns or names & {"any", "unmetered"}:
        raise wrong(where, raw, NETWORK_WANTED)
    return Network(names=names, interfaces=vpns)
