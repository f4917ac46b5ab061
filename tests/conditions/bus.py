"""A private D-Bus, and a NetworkManager and a ConnMan on it that tests turn this way and that.

The bus is a real dbus-daemon; the services speak the published interfaces over it.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import threading
from typing import TYPE_CHECKING, Any

from dbus_fast import PropertyAccess, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.service import ServiceInterface, dbus_method, dbus_property

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path={socket}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*"/><allow receive_sender="*"/>
<allow own="*"/><allow send_type="method_call"/></policy></busconfig>"""
LIMIT_S = 10.0


@contextlib.contextmanager
def private_bus(folder: Path) -> Iterator[str]:
    """The address of a dbus-daemon of our own."""
    socket = folder / "bus"
    config = folder / "bus.conf"
    config.write_text(CONFIG.format(socket=socket))
    with subprocess.Popen(
        ["dbus-daemon", f"--config-file={config}", "--nofork", "--print-address"],
        stdout=subprocess.PIPE,
        text=True,
    ) as daemon:
        try:
            assert daemon.stdout is not None
            yield daemon.stdout.readline().strip()
        finally:
            daemon.terminate()
            daemon.wait(LIMIT_S)


class Manager(ServiceInterface):
    """org.freedesktop.NetworkManager, as much of it as is asked."""

    def __init__(self) -> None:
        super().__init__("org.freedesktop.NetworkManager")
        self.values: dict[str, Any] = {"Connectivity": 4, "Metered": 2, "State": 70, "Active": []}

    @dbus_property(PropertyAccess.READ)
    def Connectivity(self) -> "u":  # type: ignore[name-defined]  # noqa: F821, UP037
        return self.values["Connectivity"]

    @dbus_property(PropertyAccess.READ)
    def Metered(self) -> "u":  # type: ignore[name-defined]  # noqa: F821, UP037
        return self.values["Metered"]

    @dbus_property(PropertyAccess.READ)
    def State(self) -> "u":  # type: ignore[name-defined]  # noqa: F821, UP037
        return self.values["State"]

    @dbus_property(PropertyAccess.READ)
    def ActiveConnections(self) -> "ao":  # type: ignore[name-defined]  # noqa: F821, UP037
        return self.values["Active"]


class Active(ServiceInterface):
    """One active connection."""

    def __init__(self, name: str) -> None:
        super().__init__("org.freedesktop.NetworkManager.Connection.Active")
        self._name = name

    @dbus_property(PropertyAccess.READ)
    def Id(self) -> "s":  # type: ignore[name-defined]  # noqa: F821, UP037
        return self._name


class ConnMan(ServiceInterface):
    """net.connman.Manager."""

    def __init__(self) -> None:
        super().__init__("net.connman.Manager")
        self.state = "online"
        self.services = [("/net/connman/service/a", "Office", "online"), ("/b", "Old", "idle")]

    @dbus_method()
    def GetProperties(self) -> "a{sv}":  # type: ignore[valid-type]  # noqa: F722
        return {"State": Variant("s", self.state)}

    @dbus_method()
    def GetServices(self) -> "a(oa{sv})":  # type: ignore[valid-type]  # noqa: F722
        return [
            [path, {"Name": Variant("s", name), "State": Variant("s", state)}]
            for path, name, state in self.services
        ]


async def _connect(address: str) -> MessageBus:
    return await MessageBus(bus_address=address).connect()


class Desktop:
    """Runs services on a bus in a thread of its own."""

    def __init__(self, address: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._bus: MessageBus = self._do(_connect(address))
        self.manager, self.connman = Manager(), ConnMan()

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(LIMIT_S)

    def run_network_manager(self, *names: str) -> None:
        """Own the name and export the manager, with these active connections."""

        async def export() -> None:
            paths = []
            for number, name in enumerate(names):
                paths.append(f"/org/freedesktop/NetworkManager/ActiveConnection/{number}")
                self._bus.export(paths[-1], Active(name))
            self.manager.values["Active"] = paths
            self._bus.export("/org/freedesktop/NetworkManager", self.manager)
            await self._bus.request_name("org.freedesktop.NetworkManager")

        self._do(export())

    def run_connman(self) -> None:
        """Own the name and export the manager."""

        async def export() -> None:
            self._bus.export("/", self.connman)
            await self._bus.request_name("net.connman")

        self._do(export())

    def change(self, **values: Any) -> None:
        """Change properties, and tell it as the real one does."""

        async def tell() -> None:
            self.manager.values |= values
            shown = {name: value for name, value in values.items() if name != "Active"}
            self.manager.emit_properties_changed(shown)

        self._do(tell())

    def close(self) -> None:
        """Leave the bus."""

        async def leave() -> None:
            self._bus.disconnect()
            with contextlib.suppress(OSError, EOFError):
                await self._bus.wait_for_disconnect()  # type: ignore[no-untyped-call]

        self._do(leave())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(LIMIT_S)
        self._loop.close()


def eventually(is_so: Callable[[], bool], limit_s: float = LIMIT_S) -> bool:
    """Whether something becomes true before the limit."""
    pause, waited = threading.Event(), 0.0
    while not is_so():
        if waited > limit_s:
            return False
        pause.wait(0.02)
        waited += 0.02
    return True
