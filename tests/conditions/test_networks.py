"""What NetworkManager and ConnMan say is understood, and a change is told at once."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from localstored.conditions import World, read_once
from tests.conditions.bus import Desktop, eventually, private_bus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.real("dbus-daemon")


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    with private_bus(tmp_path) as address:
        yield address


@pytest.fixture
def desktop(address: str) -> Iterator[Desktop]:
    desktop = Desktop(address)
    yield desktop
    desktop.close()


@pytest.mark.parametrize(
    ("number", "online", "captive"),
    [(0, None, False), (1, False, False), (2, False, True), (3, None, False), (4, True, False)],
)
def test_connectivity_is_understood(
    desktop: Desktop, address: str, number: int, online: bool | None, captive: bool
) -> None:
    desktop.manager.values["Connectivity"] = number
    desktop.run_network_manager("Home")
    found = read_once(bus_address=address)
    assert (found.online, found.captive, found.networks) == (online, captive, frozenset({"Home"}))


@pytest.mark.parametrize(
    ("number", "metered"), [(0, None), (1, True), (2, False), (3, True), (4, False), (99, None)]
)
def test_a_metered_network_is_recognised(
    desktop: Desktop, address: str, number: int, metered: bool | None
) -> None:
    desktop.manager.values["Metered"] = number
    desktop.run_network_manager()
    assert read_once(bus_address=address).metered is metered


def test_a_sleeping_manager_is_offline(desktop: Desktop, address: str) -> None:
    desktop.manager.values |= {"Connectivity": 0, "State": 10}
    desktop.run_network_manager()
    assert read_once(bus_address=address).online is False


@pytest.mark.parametrize(
    ("state", "online"), [("online", True), ("ready", None), ("idle", False), ("offline", False)]
)
def test_connman_is_understood(
    desktop: Desktop, address: str, state: str, online: bool | None
) -> None:
    desktop.connman.state = state
    desktop.run_connman()
    found = read_once(bus_address=address)
    assert (found.online, found.networks) == (online, frozenset({"Office"}))


def test_without_a_manager_no_line_is_metered(address: str) -> None:
    found = read_once(bus_address=address)
    assert (found.online, found.metered, found.captive) == (None, False, False)


def test_without_a_bus_no_line_is_metered(tmp_path: Path) -> None:
    found = read_once(bus_address=f"unix:path={tmp_path}/none")
    assert (found.online, found.metered, found.captive) == (None, False, False)


def test_a_change_is_told(desktop: Desktop, address: str) -> None:
    desktop.run_network_manager("Phone")
    told = threading.Event()
    world = World(told.set, bus_address=address)
    world.start()
    try:
        assert eventually(lambda: world.now().metered is False)
        told.clear()
        desktop.change(Metered=1)
        assert told.wait(5)
        assert world.now().metered is True
    finally:
        world.stop()


def test_a_manager_that_starts_later_is_noticed(desktop: Desktop, address: str) -> None:
    told = threading.Event()
    world = World(told.set, bus_address=address)
    world.start()
    try:
        desktop.run_network_manager("Home")
        assert eventually(lambda: world.now().networks == {"Home"})
    finally:
        world.stop()


LOOPBACK_UP = """
import fcntl, socket, struct, sys, threading
from localstored.conditions import World
told = threading.Event()
world = World(told.set, bus_address="unix:path=/nowhere")
world.start()
told.wait(5)
told.clear()
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
    fcntl.ioctl(handle, 0x8914, struct.pack("16sh14x", b"lo", 1))
heard = told.wait(10)
world.stop()
sys.exit(0 if heard else 1)
"""


@pytest.mark.real("root", "unshare")
def test_without_a_manager_the_kernel_tells_that_a_network_is_there() -> None:
    words = ["unshare", "-n", sys.executable, "-c", LOOPBACK_UP]
    assert subprocess.run(words, timeout=60).returncode == 0


def test_a_world_without_a_bus_starts_and_stops(tmp_path: Path) -> None:
    world = World(lambda: None, bus_address=f"unix:path={tmp_path}/none", again_s=0.05)
    world.start()
    assert eventually(lambda: world.now().metered is False)
    world.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "conditions"]


@pytest.mark.parametrize(
    "values", [{"Active": ["/x"] * 1000}, {"Connectivity": 77}, {"State": 4_000_000_000}]
)
def test_an_odd_manager_does_no_harm(
    desktop: Desktop, address: str, values: dict[str, object]
) -> None:
    desktop.run_network_manager()
    desktop.manager.values |= values
    found = read_once(bus_address=address)
    assert found.networks == frozenset()
