"""NVIDIA devices by NVML: what they are, and what they do now.

Needs the module `pynvml` of nvidia-ml-py and nothing of ours. A driver that is missing or broken,
or a question that a device does not know, costs the values in question and no more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    # The module pynvml, and a device's handle in it. Neither has types.
    Library = Any
    Handle = Any
    Question = Callable[[Library, Handle], dict[str, float]]

_MB: Final = 1 << 20


def _utilization(nvml: Library, device: Handle) -> dict[str, float]:
    rates = nvml.nvmlDeviceGetUtilizationRates(device)
    return {"utilization": rates.gpu, "memory_utilization": rates.memory}


def _memory(nvml: Library, device: Handle) -> dict[str, float]:
    memory = nvml.nvmlDeviceGetMemoryInfo(device)
    values = {"memory_mb": memory.used / _MB}
    if memory.total:
        values["memory_percent"] = 100 * memory.used / memory.total
    return values


def _temperature(nvml: Library, device: Handle) -> dict[str, float]:
    return {"temperature_c": nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU)}


def _power(nvml: Library, device: Handle) -> dict[str, float]:
    return {"power_w": nvml.nvmlDeviceGetPowerUsage(device) / 1000}


def _power_limit(nvml: Library, device: Handle) -> dict[str, float]:
    return {"power_limit_w": nvml.nvmlDeviceGetEnforcedPowerLimit(device) / 1000}


def _clock(nvml: Library, device: Handle) -> dict[str, float]:
    return {"clock_mhz": nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_SM)}


def _memory_clock(nvml: Library, device: Handle) -> dict[str, float]:
    return {"memory_clock_mhz": nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_MEM)}


def _fan(nvml: Library, device: Handle) -> dict[str, float]:
    return {"fan_percent": nvml.nvmlDeviceGetFanSpeed(device)}


def _ecc(nvml: Library, device: Handle) -> dict[str, float]:
    kind, since = nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
    return {"ecc_uncorrected": nvml.nvmlDeviceGetTotalEccErrors(device, kind, since)}


_OF_A_DEVICE: Final = (
    _utilization,
    _memory,
    _temperature,
    _power,
    _power_limit,
    _clock,
    _memory_clock,
    _fan,
    _ecc,
)
_OF_A_PART: Final = (_memory,)


@dataclass(slots=True)
class _Device:
    """One device, or one MIG part of it, under the name that its values begin with."""

    name: str
    handle: Handle = field(repr=False)
    questions: list[Question] = field(repr=False)


class Nvidia:
    """The NVIDIA devices of this machine. `open` before anything else.

    Attributes:
        count: how many devices there are, MIG parts not counted.
        failures: how many calls the driver has refused, "not supported" aside.
    """

    def __init__(self, library: Library = None) -> None:
        """
        Args:
            library: what speaks NVML; the module `pynvml` by default.
        """
        self._nvml: Library = library
        self._devices: list[_Device] = []
        self.count = 0
        self.failures = 0

    def open(self) -> bool:
        """Find the devices; returns whether there is a driver. May take a second."""
        try:
            if self._nvml is None:
                import pynvml  # type: ignore[import-untyped]

                self._nvml = pynvml
            self._nvml.nvmlInit()
            self.count = int(self._nvml.nvmlDeviceGetCount())
        except Exception:  # noqa: BLE001 - a broken driver may raise anything
            self._nvml = None
            return False
        for index in range(self.count):
            self._find(index)
        return True

    def close(self) -> None:
        """Let go of the driver."""
        if self._nvml is not None:
            self._ask(self._nvml.nvmlShutdown)
        self._nvml, self._devices = None, []

    def sample(self, pids: Iterable[int] = ()) -> dict[str, float]:
        """What the devices do now.

        Args:
            pids: the processes whose memory on a device is told apart.

        Returns:
            Values by `gpu.<index>.<what>`: percent, MiB, °C, W, MHz as the name says. What a device
            does not tell is absent.
        """
        values: dict[str, float] = {}
        wanted = frozenset(pids)
        for device in self._devices:
            for question in tuple(device.questions):
                for what, value in self._answer(device, question).items():
                    values[f"{device.name}.{what}"] = float(value)
            used = self._used_by(device, wanted) if wanted else None
            if used is not None:
                values[f"{device.name}.process.memory_mb"] = used / _MB
        return values

    def facts(self) -> list[dict[str, Any]]:
        """What the devices are: name, memory_mb, uuid, capability; driver and cuda versions."""
        nvml = self._nvml
        if nvml is None:
            return []
        driver = _text(self._ask(nvml.nvmlSystemGetDriverVersion))
        version = self._ask(nvml.nvmlSystemGetCudaDriverVersion)
        cuda = f"{version // 1000}.{version % 1000 // 10}" if version else None
        found = []
        for device in self._devices:
            if "mig" not in device.name:
                shared = {"vendor": "nvidia", "driver": driver, "cuda": cuda}
                facts = shared | self._facts_of(device.handle)
                found.append({what: value for what, value in facts.items() if value is not None})
        return found

    def _facts_of(self, handle: Handle) -> dict[str, Any]:
        nvml = self._nvml
        memory = self._ask(lambda: nvml.nvmlDeviceGetMemoryInfo(handle).total)
        capability = self._ask(lambda: nvml.nvmlDeviceGetCudaComputeCapability(handle))
        return {
            "name": _text(self._ask(lambda: nvml.nvmlDeviceGetName(handle))),
            "memory_mb": None if memory is None else memory // _MB,
            "uuid": _text(self._ask(lambda: nvml.nvmlDeviceGetUUID(handle))),
            "capability": capability and ".".join(map(str, capability)),
        }

    # -------------------------------------------------------------- asking the driver
    def _find(self, index: int) -> None:
        handle = self._ask(lambda: self._nvml.nvmlDeviceGetHandleByIndex(index))
        if handle is None:
            return
        name = f"gpu.{index}"
        self._devices.append(_Device(name, handle, list(_OF_A_DEVICE)))
        mode = self._ask(lambda: self._nvml.nvmlDeviceGetMigMode(handle))
        if not mode or not mode[0]:
            return
        parts = self._ask(lambda: self._nvml.nvmlDeviceGetMaxMigDeviceCount(handle)) or 0
        for number in range(parts):
            part = self._part(handle, number)
            if part is not None:
                self._devices.append(_Device(f"{name}.mig.{number}", part, list(_OF_A_PART)))

    def _part(self, handle: Handle, number: int) -> Handle:
        return self._ask(lambda: self._nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number))

    def _answer(self, device: _Device, question: Question) -> dict[str, float]:
        try:
            return question(self._nvml, device.handle)
        except Exception as error:  # noqa: BLE001 - a broken driver may raise anything
            if self._is_unknown(error):
                device.questions.remove(question)
            else:
                self.failures += 1
            return {}

    def _used_by(self, device: _Device, wanted: frozenset[int]) -> int | None:
        """Bytes on a device that these processes use; None when they are not on it.

        In a container the driver may tell the pids of the host: then nothing is found.
        """
        nvml = self._nvml
        users = self._ask(lambda: nvml.nvmlDeviceGetComputeRunningProcesses(device.handle)) or ()
        used = [one.usedGpuMemory or 0 for one in users if one.pid in wanted]
        return sum(used) if used else None

    def _ask(self, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except Exception as error:  # noqa: BLE001 - a broken driver may raise anything
            self.failures += not self._is_unknown(error)
            return None

    def _is_unknown(self, error: Exception) -> bool:
        """Whether the device will never have an answer to this."""
        nvml = self._nvml
        names = ("NotSupported", "FunctionNotFound", "NotFound", "NoPermission")
        kinds = tuple(getattr(nvml, f"NVMLError_{name}", ()) for name in names)
        return isinstance(error, (AttributeError, *(kind for kind in kinds if kind)))


def _text(value: Any) -> str | None:
    """Older versions of pynvml give bytes."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return None if value is None else str(value)
