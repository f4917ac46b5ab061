"""What the machine does while a run goes on: numbers by name, every few seconds, by a thread.

Reads counters of the system and of the run's processes; asks drivers, and expects them to fail.
Never raises into training, and knows nothing of where the numbers go.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from localstore.surroundings.amd import Amd
from localstore.surroundings.cgroup import Group
from localstore.surroundings.nvidia import Nvidia

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import psutil

    Sample = dict[str, float]

_MB: Final = 1 << 20
_GB: Final = 1 << 30
DRM_ROOT: Final = Path("/sys/class/drm")
CGROUP_ROOT: Final = Path("/sys/fs/cgroup")
# Over less time than this, counters that move in steps of 10 ms tell nothing.
LEAST_WINDOW_S: Final = 0.5
# A driver that hangs must not hold back the end of a script.
_STOP_TIMEOUT_S: Final = 3.0
# Finding children reads a file of every process of the machine; where that is slow, seldom.
_SLOW_SEARCH_S: Final = 0.005
_SLOW_SEARCH_EVERY_S: Final = 60.0


class Rates:
    """Differences of counters over time."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[float, float]] = {}

    def per_s(self, name: str, value: float, now: float) -> float | None:
        """How fast a counter grows since the last rate.

        None at first, when it fell, and when too little time has passed to tell.
        """
        before = self._before.get(name)
        if before is not None and now - before[1] < LEAST_WINDOW_S:
            return None
        self._before[name] = (value, now)
        if before is None or value < before[0]:
            return None
        return (value - before[0]) / (now - before[1])


class Processes:
    """A process and all its descendants, as one."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._known: dict[int, psutil.Process] = {}
        self._cpu_s: dict[int, float] = {}
        self._search_at = float("-inf")
        self._spent_s = 0.0
        self._since: float | None = None

    @property
    def pids(self) -> frozenset[int]:
        """The processes that the last sample was about."""
        return frozenset(self._known)

    def sample(self, now: float) -> Sample:
        """`cpu` (100 is one core), `memory.rss_mb`, `threads`, `count`.

        Memory that processes share counts for each of them.
        """
        import psutil

        if now >= self._search_at:
            self._search(now)
        rss = threads = 0
        for pid, process in list(self._known.items()):
            try:
                with process.oneshot():
                    rss += process.memory_info().rss
                    threads += process.num_threads()
                    self._spent_s += self._spent(pid, process)
            except psutil.Error:
                del self._known[pid]
        values = {"memory.rss_mb": rss / _MB, "threads": threads, "count": len(self._known)}
        return values | self._cpu(now)

    def _cpu(self, now: float) -> Sample:
        if self._since is not None and now - self._since < LEAST_WINDOW_S:
            return {}
        spent, since = self._spent_s, self._since
        self._spent_s, self._since = 0.0, now
        return {} if since is None else {"cpu": 100 * spent / (now - since)}

    def _spent(self, pid: int, process: psutil.Process) -> float:
        """Seconds of CPU since the last sample; all that a process had that is new since then."""
        times = process.cpu_times()
        total = times.user + times.system
        before = self._cpu_s.get(pid, 0.0)
        self._cpu_s[pid] = total
        return max(total - before, 0.0)

    def _search(self, now: float) -> None:
        import psutil

        began = time.perf_counter()
        try:
            own = self._known.get(self._pid) or psutil.Process(self._pid)
            found = {child.pid: child for child in own.children(recursive=True)}
        except psutil.Error:
            self._known = {}
            return
        took = time.perf_counter() - began
        self._search_at = now + (_SLOW_SEARCH_EVERY_S if took > _SLOW_SEARCH_S else 0.0)
        self._known = {self._pid: own} | {
            pid: self._known[pid] if self._known.get(pid) == child else child
            for pid, child in found.items()
        }
        self._cpu_s = {pid: spent for pid, spent in self._cpu_s.items() if pid in self._known}


class SystemSampler:
    """Samples the machine, the run's processes and the GPUs, from `start` to `stop`.

    A name is made of words with dots between them; the last tells the unit. `mb` is 2^20 bytes,
    `gb` 2^30. What the machine does not tell is absent.

    Attributes:
        failures: how often something raised; the rest of the sample was still taken.
    """

    def __init__(
        self,
        on_sample: Callable[[dict[str, float]], None],
        *,
        interval_s: float = 10.0,
        pid: int | None = None,
        disk_paths: Mapping[str, Path] | None = None,
        drm_root: Path = DRM_ROOT,
        cgroup_root: Path = CGROUP_ROOT,
    ) -> None:
        """
        Args:
            on_sample: gets each sample, by a thread of this object; the last before `stop` returns.
            pid: the process that is told apart, with its descendants; this one by default.
            disk_paths: a path on each file system of interest, by the name of its values.
        """
        self._on_sample, self._interval_s = on_sample, interval_s
        self._disk_paths = dict(disk_paths or {})
        self._processes = Processes(os.getpid() if pid is None else pid)
        self._rates = Rates()
        self._drm_root = drm_root
        self._group = Group(cgroup_root)
        self._nvidia, self._amd = Nvidia(), Amd(drm_root)
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._pid = os.getpid()
        self.failures = 0

    def start(self) -> None:
        """Begin: the first sample is taken at once, by the thread."""
        if self._thread is None and not self._stopping.is_set():
            self._thread = threading.Thread(
                target=self._work, name="localstore-system", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """Take one more sample and end. Never raises; waits for a driver that hangs 3 s at most."""
        thread, self._thread = self._thread, None
        if thread is None or self._pid != os.getpid():
            return
        self._stopping.set()
        thread.join(_STOP_TIMEOUT_S)

    def after_fork(self) -> None:
        """In a forked child: the sampler is the parent's."""
        self._thread = None

    # -------------------------------------------------------------- the thread
    def _work(self) -> None:
        self._nvidia.open()
        self._amd = Amd(self._drm_root, first_index=self._nvidia.count)
        self._amd.open()
        while not self._stopping.is_set():
            self._hand_over()
            self._stopping.wait(self._interval_s)
        self._hand_over()
        self._nvidia.close()

    def _hand_over(self) -> None:
        values = self.sample(time.monotonic())
        try:
            self._on_sample(values)
        except Exception:  # noqa: BLE001 - whatever it is, the next sample may pass
            self.failures += 1

    def sample(self, now: float) -> dict[str, float]:
        """Take one sample. Rates are missing from the first.

        Args:
            now: seconds of a clock that never goes back.
        """
        values: dict[str, float] = {}
        for read in (
            self._machine,
            self._memory,
            self._disks,
            self._traffic,
            self._process,
            self._control_group,
            lambda _now: self._nvidia.sample(self._processes.pids),
            lambda _now: self._amd.sample(),
        ):
            try:
                values |= read(now)
            except Exception:  # noqa: BLE001 - one source that fails must not stop the others
                self.failures += 1
        return values

    def _machine(self, now: float) -> Sample:
        import psutil

        times = psutil.cpu_times()
        # Guests' time is in user's already.
        idle = times.idle + getattr(times, "iowait", 0.0)
        guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
        all_rate = self._rates.per_s("cpu", sum(times) - guests, now)
        idle_rate = self._rates.per_s("idle", idle, now)
        values = {"load.1m": psutil.getloadavg()[0]}
        if all_rate and idle_rate is not None:
            values["cpu"] = min(max(100 * (1 - idle_rate / all_rate), 0.0), 100.0)
        return values

    def _memory(self, _now: float) -> Sample:
        import psutil

        memory, swap = psutil.virtual_memory(), psutil.swap_memory()
        values = {
            "memory.percent": memory.percent,
            "memory.used_mb": memory.used / _MB,
            "memory.available_mb": memory.available / _MB,
        }
        if swap.total:
            values |= {"swap.percent": swap.percent, "swap.used_mb": swap.used / _MB}
        return values

    def _disks(self, _now: float) -> Sample:
        import psutil

        values = {}
        for name, path in self._disk_paths.items():
            usage = psutil.disk_usage(str(path))
            values[f"disk.{name}.percent"] = usage.percent
            values[f"disk.{name}.free_gb"] = usage.free / _GB
        return values

    def _traffic(self, now: float) -> Sample:
        import psutil

        counted: dict[str, float] = {}
        disks = psutil.disk_io_counters(nowrap=False)
        if disks is not None:
            counted["disk.read"] = disks.read_bytes
            counted["disk.write"] = disks.write_bytes
        cards = psutil.net_io_counters(pernic=True, nowrap=False)
        outside = [card for name, card in cards.items() if not name.startswith("lo")]
        counted["network.sent"] = sum(card.bytes_sent for card in outside)
        counted["network.received"] = sum(card.bytes_recv for card in outside)
        rates = {name: self._rates.per_s(name, count, now) for name, count in counted.items()}
        return {f"{name}_bytes_per_s": rate for name, rate in rates.items() if rate is not None}

    def _process(self, now: float) -> Sample:
        values = self._processes.sample(now)
        return {f"process.{name}": value for name, value in values.items()}

    def _control_group(self, now: float) -> Sample:
        values = self._group.sample()
        throttled = values.pop("cpu.throttled_s", None)
        if throttled is not None:
            rate = self._rates.per_s("throttled", throttled, now)
            if rate is not None:
                values["cpu.throttled_percent"] = 100 * rate
        return {f"cgroup.{name}": value for name, value in values.items()}


def gpu_facts(*, drm_root: Path = DRM_ROOT) -> list[dict[str, Any]]:
    """What GPUs this machine has; empty where there are none, or no driver.

    Returns:
        For each: `vendor`, `name`, `memory_mb`, and as far as known `driver`, `cuda` (the newest
        version that the driver runs), `capability`, `uuid`. May take a second where there are some.
    """
    nvidia, amd = Nvidia(), Amd(drm_root)
    found: list[dict[str, Any]] = []
    if nvidia.open():
        found += nvidia.facts()
        nvidia.close()
    if amd.open():
        found += amd.facts()
    return found
