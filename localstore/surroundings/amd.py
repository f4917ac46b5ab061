"""AMD devices as the kernel's amdgpu driver shows them below /sys/class/drm.

Reads small files only; needs no library.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

_VENDOR: Final = "0x1002"
_MB: Final = 1 << 20
# file of the device: what it tells, and what its number is divided by
_OF_A_DEVICE: Final = {
    "gpu_busy_percent": ("utilization", 1),
    "mem_busy_percent": ("memory_utilization", 1),
    "mem_info_vram_used": ("memory_mb", _MB),
}
# files of its sensors; where two tell the same, the first that is there counts
_OF_A_SENSOR: Final = (
    ("temp1_input", "temperature_c", 1000),
    ("power1_average", "power_w", 1_000_000),
    ("power1_input", "power_w", 1_000_000),
    ("power1_cap", "power_limit_w", 1_000_000),
    ("freq1_input", "clock_mhz", 1_000_000),
    ("freq2_input", "memory_clock_mhz", 1_000_000),
)


class Amd:
    """The AMD devices of this machine."""

    def __init__(self, root: Path, *, first_index: int = 0) -> None:
        """
        Args:
            root: where the cards stand, /sys/class/drm.
            first_index: the index of the first device in the names of values.
        """
        self._root, self._first = root, first_index
        self._devices: list[tuple[Path, Path | None]] = []

    def open(self) -> bool:
        """Find the devices; returns whether there are any."""
        self._devices = [(device, _sensor(device)) for device in _devices(self._root)]
        return bool(self._devices)

    def sample(self) -> dict[str, float]:
        """What the devices do now, by `gpu.<index>.<what>`; what one does not tell is absent."""
        values: dict[str, float] = {}
        for index, (device, sensor) in enumerate(self._devices, self._first):
            for what, value in (_of_device(device) | _of_sensor(sensor)).items():
                values[f"gpu.{index}.{what}"] = value
        return values

    def facts(self) -> list[dict[str, Any]]:
        """What the devices are: name, memory_mb, driver version where the kernel tells it."""
        return [_facts(device) for device, _ in self._devices]


def _devices(root: Path) -> list[Path]:
    try:
        cards = [card for card in root.iterdir() if re.fullmatch(r"card\d+", card.name)]
    except OSError:
        return []
    cards.sort(key=lambda card: int(card.name[4:]))
    return [card / "device" for card in cards if _text(card / "device/vendor") == _VENDOR]


def _sensor(device: Path) -> Path | None:
    try:
        return min((device / "hwmon").iterdir(), default=None)
    except OSError:
        return None


def _of_device(device: Path) -> dict[str, float]:
    values = {}
    for file, (what, divisor) in _OF_A_DEVICE.items():
        number = _number(device / file)
        if number is not None:
            values[what] = number / divisor
    total = _number(device / "mem_info_vram_total")
    if total and "memory_mb" in values:
        values["memory_percent"] = 100 * values["memory_mb"] * _MB / total
    return values


def _of_sensor(sensor: Path | None) -> dict[str, float]:
    values: dict[str, float] = {}
    for file, what, divisor in _OF_A_SENSOR if sensor is not None else ():
        number = None if what in values or sensor is None else _number(sensor / file)
        if number is not None:
            values[what] = number / divisor
    return values


def _facts(device: Path) -> dict[str, Any]:
    memory = _number(device / "mem_info_vram_total")
    facts = {
        "vendor": "amd",
        "name": _text(device / "product_name") or f"AMD {_text(device / 'device') or 'device'}",
        "memory_mb": None if memory is None else int(memory) // _MB,
        "driver": _text(device / "driver/module/version"),
    }
    return {what: value for what, value in facts.items() if value is not None}


def _number(path: Path) -> float | None:
    text = _text(path)
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _text(path: Path) -> str | None:
    """A small file's text; None where the device has none, is asleep or has gone."""
    try:
        return path.read_text("utf-8", "replace").strip() or None
    except OSError:
        return None
