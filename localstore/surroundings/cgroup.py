"""What the control group of this process allows, and what it has used: cgroup v2.

In a container and under a batch system the machine's memory is not what a run may take.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

_MB: Final = 1 << 20


class Group:
    """The control groups that bound one process, from its own up to the root."""

    def __init__(self, root: Path, membership: Path = Path("/proc/self/cgroup")) -> None:
        """
        Args:
            root: where cgroup v2 is mounted, /sys/fs/cgroup.
            membership: the file that says in which group the process is.
        """
        own = root / _own(membership)
        self._folders = [one for one in (own, *own.parents) if one.is_relative_to(root)]

    def sample(self) -> dict[str, float]:
        """`memory.used_mb|limit_mb|percent|oom_kills`, `cpu.limit_cores|throttled_s`, as known.

        `throttled_s` is seconds since the group began. Limits are the tightest on the way up.
        """
        return self._memory() | self._cpu() | self._kills()

    def _memory(self) -> dict[str, float]:
        limits = [(limit, one) for one in self._folders if (limit := _number(one / "memory.max"))]
        if not limits:
            return {}
        limit, folder = min(limits, key=lambda found: found[0])
        current = _number(folder / "memory.current")
        if current is None:
            return {}
        # Pages of files that can be dropped at once are nobody's need.
        used = max(current - _fields(folder / "memory.stat").get("inactive_file", 0), 0)
        return {
            "memory.used_mb": used / _MB,
            "memory.limit_mb": limit / _MB,
            "memory.percent": 100 * used / limit,
        }

    def _cpu(self) -> dict[str, float]:
        limits = [(cores, one) for one in self._folders if (cores := _cores(one / "cpu.max"))]
        if not limits:
            return {}
        cores, folder = min(limits, key=lambda found: found[0])
        throttled = _fields(folder / "cpu.stat").get("throttled_usec", 0)
        return {"cpu.limit_cores": cores, "cpu.throttled_s": throttled / 1e6}

    def _kills(self) -> dict[str, float]:
        kills = [_fields(one / "memory.events").get("oom_kill") for one in self._folders]
        known = [count for count in kills if count is not None]
        return {"memory.oom_kills": known[0]} if known else {}


def _own(membership: Path) -> str:
    """The group's path below the root; empty for the root, or where there is no cgroup v2."""
    for line in _text(membership).splitlines():
        if line.startswith("0::/"):
            path = line[4:]
            # Outside the namespace that this process sees: the root is all there is.
            return "" if ".." in path.split("/") else path
    return ""


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _number(path: Path) -> float | None:
    """A limit or a count; None for `max`, and where there is no such file."""
    text = _text(path).strip()
    return float(text) if text.isdecimal() else None


def _cores(path: Path) -> float | None:
    words = _text(path).split()
    if len(words) != 2 or not all(word.isdecimal() for word in words) or words[1] == "0":
        return None
    return int(words[0]) / int(words[1])


def _fields(path: Path) -> dict[str, float]:
    """A file of lines `name number`."""
    pairs = (line.split() for line in _text(path).splitlines())
    return {pair[0]: float(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}
