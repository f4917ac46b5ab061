"""Power, interfaces and local time of this machine; each reading is cheap and may be repeated."""

from __future__ import annotations

import time
from typing import NamedTuple


class Power(NamedTuple):
    """Whether the machine runs on its battery, and the charge in percent; None: not known."""

    on_battery: bool | None
    percent: int | None


def read_power() -> Power:
    """The battery as the system tells of it; a machine without one is not on battery."""
    import psutil

    try:
        battery = psutil.sensors_battery()
    except (OSError, RuntimeError, ValueError, AttributeError):
        return Power(None, None)
    if battery is None:
        return Power(on_battery=False, percent=None)
    plugged: bool | None = battery.power_plugged
    return Power(None if plugged is None else not plugged, round(battery.percent))


def read_interfaces() -> frozenset[str]:
    """Names of the network interfaces that are up, without the loopback."""
    import psutil

    try:
        stats = psutil.net_if_stats()
    except OSError:
        return frozenset()
    return frozenset(name for name, facts in stats.items() if facts.isup and name != "lo")


def local_time(now_us: int) -> tuple[int, int]:
    """Minute of the day (0 to 1439) and day of the week (0 is Monday), in local time."""
    local = time.localtime(now_us / 1e6)
    return local.tm_hour * 60 + local.tm_min, local.tm_wday
