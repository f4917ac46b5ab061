"""Numbers of the machine: what is there is told, what is broken costs itself alone."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from localstore.surroundings.cgroup import Group
from localstore.surroundings.system import Processes, Rates, SystemSampler, gpu_facts

if TYPE_CHECKING:
    from pathlib import Path

LIMIT_S = 60.0


class Samples:
    """Gathers samples, and lets a test wait for them."""

    def __init__(self) -> None:
        self.values: list[dict[str, float]] = []
        self._changed = threading.Condition()

    def __call__(self, sample: dict[str, float]) -> None:
        with self._changed:
            self.values.append(sample)
            self._changed.notify_all()

    def wait_for(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.values) >= count, LIMIT_S)


def test_a_short_run_has_a_first_and_a_last_sample(tmp_path: Path) -> None:
    samples = Samples()
    sampler = SystemSampler(samples, interval_s=1000.0, disk_paths={"home": tmp_path})
    sampler.start()
    samples.wait_for(1)
    sampler.stop()
    sampler.stop()
    assert len(samples.values) == 2
    assert sampler.failures == 0
    assert all(sample["memory.percent"] > 0 for sample in samples.values)


def test_rates_over_no_time_are_not_told() -> None:
    sampler = SystemSampler(Samples())
    sampler.sample(0.0)
    assert "process.cpu" not in sampler.sample(0.01)
    assert "process.cpu" in sampler.sample(0.6)


def test_a_sample_tells_of_the_machine_and_of_the_process(tmp_path: Path) -> None:
    sampler = SystemSampler(Samples(), disk_paths={"home": tmp_path})
    sampler.sample(0.0)
    began = time.process_time()
    while time.process_time() < began + 0.1:
        pass
    values = sampler.sample(1.0)
    assert values.keys() >= {
        "cpu", "load.1m", "memory.percent", "memory.used_mb", "memory.available_mb",
        "process.cpu", "process.memory.rss_mb", "process.threads", "process.count",
        "disk.home.percent", "disk.home.free_gb",
        "network.sent_bytes_per_s", "network.received_bytes_per_s",
    }  # fmt: skip
    assert all(type(value) in (int, float) and value >= 0 for value in values.values()), values
    assert 0 <= values["cpu"] <= 100
    assert 0 < values["memory.percent"] < 100
    assert 5 < values["process.memory.rss_mb"] < 100_000
    assert values["process.threads"] >= 1


def test_samples_come_again_and_again() -> None:
    samples = Samples()
    sampler = SystemSampler(samples, interval_s=0.01)
    sampler.start()
    samples.wait_for(5)
    sampler.stop()
    count = len(samples.values)
    assert count >= 5
    assert not any(thread.name == "localstore-system" for thread in threading.enumerate())
    assert len(samples.values) == count


def test_a_callback_that_raises_is_asked_again() -> None:
    samples = Samples()

    def bad(sample: dict[str, float]) -> None:
        samples(sample)
        raise RuntimeError("full")

    sampler = SystemSampler(bad, interval_s=0.01)
    sampler.start()
    samples.wait_for(3)
    sampler.stop()
    assert sampler.failures == len(samples.values) >= 3


def test_a_file_system_that_has_gone_costs_only_its_own_values(tmp_path: Path) -> None:
    sampler = SystemSampler(Samples(), disk_paths={"home": tmp_path / "gone"})
    values = sampler.sample(0.0)
    assert sampler.failures == 1
    assert "disk.home.percent" not in values
    assert values["process.count"] >= 1


def test_a_forked_child_has_no_sampler_and_stops_none() -> None:
    samples = Samples()
    sampler = SystemSampler(samples, interval_s=1000.0)
    sampler.start()
    samples.wait_for(1)
    pid = os.fork()
    if not pid:
        sampler.after_fork()
        sampler.stop()
        os._exit(len(samples.values))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    sampler.stop()
    assert len(samples.values) == 2


# -------------------------------------------------------------- processes
def test_children_count_with_their_parent_until_they_end() -> None:
    processes = Processes(os.getpid())
    alone = processes.sample(0.0)
    code = "import subprocess, sys; b = b'x' * (60 << 20); sys.stdout.write('r'); " + (
        "sys.stdout.flush(); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.read(1) == b"r"
        both = processes.sample(1000.0)
        assert child.pid in processes.pids
        assert both["count"] == alone["count"] + 1
        assert both["memory.rss_mb"] > alone["memory.rss_mb"] + 50
        child.communicate(b"")
    after = processes.sample(2000.0)
    assert after["count"] == alone["count"]
    assert child.pid not in processes.pids


def test_work_is_seen_as_percent_of_one_core() -> None:
    processes = Processes(os.getpid())
    processes.sample(0.0)
    began = time.process_time()
    while time.process_time() < began + 0.5:
        pass
    # Half a second and a little, in what is said to have been two seconds.
    assert 20 <= processes.sample(2.0)["cpu"] < 60


def test_a_process_that_is_gone_has_no_numbers() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    processes = Processes(child.pid)
    assert processes.sample(0.0) == {"memory.rss_mb": 0, "threads": 0, "count": 0}
    assert processes.sample(100.0)["count"] == 0


def test_a_counter_that_begins_anew_has_no_rate() -> None:
    rates = Rates()
    counted = [(5, 0), (9, 2), (1, 3), (2, 4), (9, 4.1), (12, 5)]
    seen = [rates.per_s("c", value, now) for value, now in counted]
    assert seen == [None, 2.0, None, 1.0, None, 10.0]


# -------------------------------------------------------------- control groups
def group(root: Path, own: str, files: dict[str, str]) -> Group:
    for name, text in files.items():
        path = root / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    membership = root / "cgroup"
    membership.write_text(f"9:name=systemd:/\n0::{own}\n")
    return Group(root / "fs", membership)


MB = 1 << 20


def test_the_limits_of_a_container_are_told(tmp_path: Path) -> None:
    files = {
        "memory.max": f"{400 * MB}\n",
        "memory.current": f"{150 * MB}\n",
        "memory.stat": f"anon 5\ninactive_file {50 * MB}\n",
        "memory.events": "low 0\noom 3\noom_kill 2\n",
        "cpu.max": "150000 100000\n",
        "cpu.stat": "usage_usec 9\nthrottled_usec 2500000\n",
    }
    assert group(tmp_path, "/", files).sample() == {
        "memory.used_mb": 100,
        "memory.limit_mb": 400,
        "memory.percent": 25,
        "memory.oom_kills": 2,
        "cpu.limit_cores": 1.5,
        "cpu.throttled_s": 2.5,
    }


def test_the_tightest_limit_on_the_way_up_counts(tmp_path: Path) -> None:
    files = {
        "memory.max": "max\n",
        "job/memory.max": f"{100 * MB}\n",
        "job/memory.current": f"{90 * MB}\n",
        "job/step/memory.max": f"{500 * MB}\n",
        "job/step/memory.current": f"{10 * MB}\n",
        "job/step/task/memory.max": "max\n",
        "job/cpu.max": "max 100000\n",
    }
    assert group(tmp_path, "/job/step/task", files).sample() == {
        "memory.used_mb": 90,
        "memory.limit_mb": 100,
        "memory.percent": 90,
    }


@pytest.mark.parametrize("own", ["/", "/../../other", "/gone/away"])
@pytest.mark.parametrize("content", ["", "max\n", "nonsense", "1 2 3\n", "100 0\n", "\x00\xff"])
def test_files_that_say_nothing_cost_nothing_else(tmp_path: Path, own: str, content: str) -> None:
    names = ("memory.max", "memory.current", "memory.stat", "memory.events", "cpu.max", "cpu.stat")
    assert group(tmp_path, own, dict.fromkeys(names, content)).sample() == {}


def test_without_control_groups_there_is_nothing(tmp_path: Path) -> None:
    assert Group(tmp_path / "none", tmp_path / "no file").sample() == {}


def test_throttling_is_told_as_percent_of_time(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    (tmp_path / "cpu.stat").write_text("throttled_usec 1000000\n")
    sampler = SystemSampler(Samples(), cgroup_root=tmp_path)
    assert "cgroup.cpu.throttled_percent" not in sampler.sample(10.0)
    (tmp_path / "cpu.stat").write_text("throttled_usec 3500000\n")
    assert sampler.sample(20.0)["cgroup.cpu.throttled_percent"] == 25


def test_a_machine_without_gpus_has_none(tmp_path: Path) -> None:
    found: list[dict[str, Any]] = gpu_facts(drm_root=tmp_path)
    assert all(fact["vendor"] == "nvidia" for fact in found)
