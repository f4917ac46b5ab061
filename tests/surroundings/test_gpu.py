"""GPUs: real ones where there are some, made ones for what real ones cannot be made to do.

The tests of real devices need `pynvml`, and a driver; with `--noconftest -c /dev/null` this file
runs on a bare machine.
"""

from __future__ import annotations

import ctypes
import os
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from localstore.surroundings.amd import Amd
from localstore.surroundings.nvidia import Nvidia
from localstore.surroundings.system import SystemSampler, gpu_facts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MB = 1 << 20
LIMIT_S = 60.0


# -------------------------------------------------------------- real devices
@pytest.fixture
def real() -> Iterator[Nvidia]:
    devices = Nvidia()
    if not devices.open() or not devices.count:
        pytest.skip("no NVIDIA device, or no driver")
    yield devices
    devices.close()


class DeviceMemory:
    """Memory on the first device, taken by the driver's own calls."""

    def __init__(self) -> None:
        self._cuda = ctypes.CDLL("libcuda.so.1")
        self._device = ctypes.c_int()
        self._context = ctypes.c_void_p()
        self._at = ctypes.c_uint64()

    def _call(self, name: str, *arguments: object) -> None:
        assert getattr(self._cuda, name)(*arguments) == 0, name

    def take(self, size: int) -> None:
        self._call("cuInit", 0)
        self._call("cuDeviceGet", ctypes.byref(self._device), 0)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._device)
        self._call("cuCtxSetCurrent", self._context)
        self._call("cuMemAlloc_v2", ctypes.byref(self._at), ctypes.c_size_t(size))

    def release(self) -> None:
        self._call("cuMemFree_v2", self._at)
        self._call("cuDevicePrimaryCtxRelease_v2", self._device)


def test_a_real_device_tells_what_it_does(real: Nvidia) -> None:
    values = real.sample([os.getpid()])
    assert values.keys() >= {
        "gpu.0.utilization", "gpu.0.memory_mb", "gpu.0.memory_percent",
        "gpu.0.temperature_c", "gpu.0.power_w", "gpu.0.clock_mhz",
    }, values  # fmt: skip
    for index in range(real.count):
        assert 0 <= values[f"gpu.{index}.utilization"] <= 100
        assert 0 <= values[f"gpu.{index}.memory_percent"] <= 100
        assert 5 < values[f"gpu.{index}.temperature_c"] < 120
        assert 1 < values[f"gpu.{index}.power_w"] < 3000
        assert 1 < values[f"gpu.{index}.clock_mhz"] < 10_000
    assert all(type(value) is float for value in values.values())
    assert real.failures == 0


def test_memory_that_is_taken_on_a_real_device_is_seen(real: Nvidia) -> None:
    memory = DeviceMemory()
    before = real.sample()["gpu.0.memory_mb"]
    memory.take(512 * MB)
    try:
        values = real.sample([os.getpid()])
        assert values["gpu.0.memory_mb"] > before + 500
        # In a container the driver may know this process by another number: then there is no value.
        assert values.get("gpu.0.process.memory_mb", 512) >= 500
    finally:
        memory.release()


def test_a_real_device_tells_what_it_is(real: Nvidia) -> None:
    found = [fact for fact in gpu_facts() if fact["vendor"] == "nvidia"]
    assert len(found) == real.count
    for fact in found:
        assert fact["name"]
        assert fact["memory_mb"] > 100
        assert int(fact["driver"].split(".")[0]) > 100
        assert float(fact["cuda"]) > 9
        assert float(fact["capability"]) > 1
        assert fact["uuid"].startswith("GPU-")


def test_a_sampler_on_a_real_device_has_its_numbers(real: Nvidia) -> None:
    seen: list[dict[str, float]] = []
    first = threading.Event()

    def on_sample(sample: dict[str, float]) -> None:
        seen.append(sample)
        first.set()

    sampler = SystemSampler(on_sample, interval_s=1000.0)
    sampler.start()
    assert first.wait(LIMIT_S)
    sampler.stop()
    assert len(seen) == 2
    assert all("gpu.0.utilization" in sample for sample in seen)
    assert sampler.failures == 0


# -------------------------------------------------------------- a library that behaves badly
class DriverError(Exception):
    """What pynvml calls NVMLError."""


class NotSupportedError(DriverError):
    pass


class Library:
    """Speaks as pynvml does, for devices that are made up; `broken` calls raise."""

    NVMLError_NotSupported = NotSupportedError
    NVML_TEMPERATURE_GPU = NVML_CLOCK_SM = 0
    NVML_CLOCK_MEM = NVML_MEMORY_ERROR_TYPE_UNCORRECTED = NVML_VOLATILE_ECC = 1

    def __init__(self, **broken: type[Exception]) -> None:
        self.broken = broken
        self.calls: list[str] = []
        self.parts = 0

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvml"):
            raise AttributeError(name)
        short = name.removeprefix("nvml").removeprefix("Device")

        def call(*arguments: Any) -> Any:
            self.calls.append(short)
            if short in self.broken:
                raise self.broken[short](short)
            return self.answer(short, *arguments)

        return call

    def answer(self, short: str, *arguments: Any) -> Any:
        answers: dict[str, Any] = {
            "GetCount": 2,
            "GetHandleByIndex": arguments,
            "GetMigMode": (int(self.parts > 0), 0),
            "GetMaxMigDeviceCount": 7,
            "GetMigDeviceHandleByIndex": arguments,
            "GetUtilizationRates": SimpleNamespace(gpu=50, memory=20),
            "GetMemoryInfo": SimpleNamespace(used=300 * MB, total=1200 * MB),
            "GetTemperature": 61,
            "GetPowerUsage": 70_500,
            "GetEnforcedPowerLimit": 300_000,
            "GetClockInfo": 1980,
            "GetFanSpeed": 30,
            "GetTotalEccErrors": 0,
            "GetComputeRunningProcesses": [
                SimpleNamespace(pid=7, usedGpuMemory=100 * MB),
                SimpleNamespace(pid=8, usedGpuMemory=None),
                SimpleNamespace(pid=9, usedGpuMemory=50 * MB),
            ],
            "GetName": b"Old Name",
            "GetUUID": "GPU-1",
            "GetCudaComputeCapability": (9, 0),
            "SystemGetDriverVersion": b"580.1",
            "SystemGetCudaDriverVersion": 12_080,
        }
        if short == "GetMigDeviceHandleByIndex" and arguments[1] >= self.parts:
            raise NotSupportedError
        return answers.get(short)


def opened(library: Library) -> Nvidia:
    devices = Nvidia(library)
    assert devices.open()
    return devices


WHOLE = {
    "utilization": 50.0, "memory_utilization": 20.0, "memory_mb": 300.0, "memory_percent": 25.0,
    "temperature_c": 61.0, "power_w": 70.5, "power_limit_w": 300.0, "clock_mhz": 1980.0,
    "memory_clock_mhz": 1980.0, "fan_percent": 30.0, "ecc_uncorrected": 0.0,
}  # fmt: skip


def test_each_device_tells_all_that_it_knows() -> None:
    values = opened(Library()).sample()
    assert values == {f"gpu.{i}.{what}": value for i in (0, 1) for what, value in WHOLE.items()}


def test_memory_of_the_runs_own_processes_is_told_apart() -> None:
    devices = opened(Library())
    assert devices.sample([7, 8, 100])["gpu.1.process.memory_mb"] == 100
    assert "gpu.0.process.memory_mb" not in devices.sample([100])


QUESTIONS = {
    "GetUtilizationRates": {"utilization", "memory_utilization"},
    "GetMemoryInfo": {"memory_mb", "memory_percent"},
    "GetTemperature": {"temperature_c"},
    "GetPowerUsage": {"power_w"},
    "GetEnforcedPowerLimit": {"power_limit_w"},
    "GetClockInfo": {"clock_mhz", "memory_clock_mhz"},
    "GetFanSpeed": {"fan_percent"},
    "GetTotalEccErrors": {"ecc_uncorrected"},
}


@pytest.mark.parametrize("error", [DriverError, NotSupportedError, OSError, ValueError])
@pytest.mark.parametrize("question", QUESTIONS)
def test_one_question_that_fails_costs_its_own_values(
    question: str, error: type[Exception]
) -> None:
    library = Library(**{question: error})
    devices = opened(library)
    for _ in range(2):
        kept = {name.partition("gpu.0.")[2] for name in devices.sample() if "gpu.0." in name}
        assert kept == WHOLE.keys() - QUESTIONS[question]
    known = error is NotSupportedError
    assert (devices.failures == 0) == known
    asked = 2 * len(QUESTIONS[question] if question == "GetClockInfo" else {question})
    assert library.calls.count(question) == asked * (1 if known else 2)


def test_a_device_that_fell_off_the_bus_does_not_take_the_others_along() -> None:
    library = Library(GetMigMode=NotSupportedError, GetComputeRunningProcesses=DriverError)
    real_answer = library.answer

    def answer(short: str, *arguments: Any) -> Any:
        if short == "GetHandleByIndex" and arguments == (0,):
            raise DriverError("lost")
        return real_answer(short, *arguments)

    library.answer = answer  # type: ignore[method-assign]
    values = opened(library).sample([7])
    assert {name.split(".")[1] for name in values} == {"1"}


@pytest.mark.parametrize("call", ["Init", "GetCount"])
@pytest.mark.parametrize("error", [DriverError, OSError, AttributeError])
def test_without_a_driver_there_are_no_devices(call: str, error: type[Exception]) -> None:
    devices = Nvidia(Library(**{call: error}))
    assert not devices.open()
    assert (devices.sample([1]), devices.facts()) == ({}, [])
    devices.close()


def test_parts_of_a_device_are_told_beside_it() -> None:
    library = Library(GetUtilizationRates=NotSupportedError)
    library.parts = 2
    values = opened(library).sample([7])
    assert values["gpu.0.mig.0.memory_mb"] == values["gpu.1.mig.1.memory_mb"] == 300
    assert values["gpu.0.mig.1.process.memory_mb"] == 100
    assert not any("mig.2" in name for name in values)
    assert len(opened(library).facts()) == 2


def test_facts_say_what_a_device_is() -> None:
    facts = opened(Library()).facts()
    assert facts == [
        {
            "vendor": "nvidia", "driver": "580.1", "cuda": "12.8", "name": "Old Name",
            "memory_mb": 1200, "uuid": "GPU-1", "capability": "9.0",
        }
    ] * 2  # fmt: skip
    broken = {name: DriverError for name in ("GetName", "GetMemoryInfo", "SystemGetDriverVersion")}
    assert opened(Library(**broken)).facts()[0] == {
        "vendor": "nvidia", "cuda": "12.8", "uuid": "GPU-1", "capability": "9.0",
    }  # fmt: skip


# -------------------------------------------------------------- AMD
def card(root: Path, name: str, files: dict[str, str]) -> None:
    for path, text in files.items():
        file = root / name / "device" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")


AMD_CARD = {
    "vendor": "0x1002", "device": "0x74a1", "gpu_busy_percent": "42", "mem_busy_percent": "17",
    "mem_info_vram_used": f"{500 * MB}", "mem_info_vram_total": f"{2000 * MB}",
    "hwmon/hwmon3/temp1_input": "55000", "hwmon/hwmon3/power1_average": "250500000",
    "hwmon/hwmon3/freq1_input": "2100000000", "product_name": "Instinct",
}  # fmt: skip


def amd(root: Path) -> Amd:
    devices = Amd(root, first_index=1)
    devices.open()
    return devices


def test_an_amd_device_tells_what_its_files_hold(tmp_path: Path) -> None:
    card(tmp_path, "card1", AMD_CARD)
    card(tmp_path, "card0", {"vendor": "0x10de", "gpu_busy_percent": "99"})
    card(tmp_path, "card1-DP-1", AMD_CARD)
    assert amd(tmp_path).sample() == {
        "gpu.1.utilization": 42, "gpu.1.memory_utilization": 17, "gpu.1.memory_mb": 500,
        "gpu.1.memory_percent": 25, "gpu.1.temperature_c": 55, "gpu.1.power_w": 250.5,
        "gpu.1.clock_mhz": 2100,
    }  # fmt: skip
    facts = {"vendor": "amd", "name": "Instinct", "memory_mb": 2000}
    assert amd(tmp_path).facts() == [facts]
    assert facts in gpu_facts(drm_root=tmp_path)


def test_newer_kernels_tell_the_power_elsewhere(tmp_path: Path) -> None:
    card(tmp_path, "card0", {"vendor": "0x1002", "hwmon/hwmon0/power1_input": "90000000"})
    assert amd(tmp_path).sample() == {"gpu.1.power_w": 90}
    assert amd(tmp_path).facts() == [{"vendor": "amd", "name": "AMD device"}]


@pytest.mark.parametrize("missing", AMD_CARD)
@pytest.mark.parametrize("content", [None, "", "nonsense"])
def test_a_file_that_is_missing_or_broken_costs_its_own_value(
    tmp_path: Path, missing: str, content: str | None
) -> None:
    files = {name: text for name, text in AMD_CARD.items() if name != missing}
    card(tmp_path, "card0", files if content is None else files | {missing: content})
    values = amd(tmp_path).sample()
    expected = {"vendor": 0, "device": 7, "product_name": 7, "mem_info_vram_used": 5}
    assert len(values) == expected.get(missing, 6)


def test_a_device_that_goes_away_is_silent(tmp_path: Path) -> None:
    card(tmp_path, "card0", AMD_CARD)
    devices = amd(tmp_path)
    (tmp_path / "card0").rename(tmp_path / "gone")
    assert devices.sample() == {}
    assert amd(tmp_path / "nowhere").sample() == {}


def test_a_sampler_tells_of_amd_devices_too(tmp_path: Path) -> None:
    card(tmp_path, "card0", AMD_CARD)
    seen: list[dict[str, float]] = []
    first = threading.Event()

    def on_sample(sample: dict[str, float]) -> None:
        seen.append(sample)
        first.set()

    sampler = SystemSampler(on_sample, interval_s=1000.0, drm_root=tmp_path)
    sampler.start()
    assert first.wait(LIMIT_S)
    sampler.stop()
    assert all(any(name.endswith(".utilization") for name in sample) for sample in seen)
