"""The conditions that policy asks for, kept fresh by one thread."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import TYPE_CHECKING, Final

from localstored.conditions.links import drain, open_links
from localstored.conditions.machine import local_time, read_interfaces, read_power
from localstored.conditions.networks import (
    NO_MANAGER,
    SERVICES,
    Networks,
    NoAnswer,
    read_networks,
)
from localstored.policy import Conditions

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from dbus_fast import Message
    from dbus_fast.aio import MessageBus

ASK_S: Final = 1.5  # a bus that does not answer in this time is as good as none
_AGAIN_S: Final = 60.0  # to look for a bus, or at a battery, once more
_CALM_S: Final = 0.3  # managers send a dozen signals for one change
_RULES: Final = tuple(f"type='signal',sender='{service}'" for service in SERVICES) + tuple(
    f"type='signal',member='NameOwnerChanged',arg0='{service}'" for service in SERVICES
)


def now_us() -> int:
    """Unix time in microseconds."""
    return time.time_ns() // 1000


def read_once(*, bus_address: str | None = None, clock: Callable[[], int] = now_us) -> Conditions:
    """The conditions now, in at most some two seconds; what does not answer is unnetworks.

    Args:
        bus_address: of the system bus, where it is not the usual one.
        clock: Unix time in microseconds.
    """

    async def ask() -> Networks:
        bus = await _connect(bus_address)
        try:
            return await _ask(bus)
        finally:
            await _let_go(bus)

    return _conditions(asyncio.run(ask()), clock())


class World:
    """Knows the conditions, and calls when they changed.

    Asks D-Bus once, then listens to it and to the kernel; at power it looks each minute.
    """

    def __init__(
        self,
        on_change: Callable[[], None],
        *,
        bus_address: str | None = None,
        clock: Callable[[], int] = now_us,
        again_s: float = _AGAIN_S,
    ) -> None:
        """Nothing is asked before `start`.

        Args:
            on_change: called from another thread; it must return at once and not raise.
            again_s: seconds between looks at what sends no signal.
        """
        self._on_change, self._address, self._clock = on_change, bus_address, clock
        self._again_s = again_s
        self._lock = threading.Lock()
        self._networks = Networks()
        self._machine = (read_power(), read_interfaces())
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stirred = False  # the network changed in a way that nobody names
        self._stopping = threading.Event()
        self._wake: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="conditions", daemon=True)

    def start(self) -> None:
        """Ask, and listen from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening; returns within two seconds."""
        self._stopping.set()
        loop, wake = self._loop, self._wake
        if loop is not None and wake is not None:
            with contextlib.suppress(RuntimeError):  # the loop has just ended
                loop.call_soon_threadsafe(wake.set)
        if self._thread.is_alive():
            self._thread.join(ASK_S + 0.5)

    def now(self) -> Conditions:
        """The conditions, as fresh as they are networks."""
        with self._lock:
            networks, (power, interfaces) = self._networks, self._machine
        return _conditions(networks, self._clock(), power=power, interfaces=interfaces)

    # -------------------------------------------------------------- the thread
    def _run(self) -> None:
        asyncio.run(self._listen())

    async def _listen(self) -> None:
        self._wake, self._loop = asyncio.Event(), asyncio.get_running_loop()
        bus: MessageBus | None = None
        links = open_links()
        if links is not None:
            self._loop.add_reader(links, self._heard_links, links)
        while not self._stopping.is_set():
            if bus is None or not bus.connected:
                await _let_go(bus)
                bus = await self._subscribe()
            await self._look(bus)
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._again_s)
                if not self._stopping.is_set():
                    await asyncio.sleep(_CALM_S)
        if links is not None:
            self._loop.remove_reader(links)
            links.close()
        await _let_go(bus)

    def _heard_links(self, links: socket.socket) -> None:
        """An interface, an address or a route: a remote may be in reach, whatever has a name."""
        drain(links)
        self._stirred = True
        if self._wake is not None:
            self._wake.set()

    async def _subscribe(self) -> MessageBus | None:
        bus = await _connect(self._address)
        if bus is None:
            return None
        bus.add_message_handler(self._heard)
        try:
            for rule in _RULES:
                await asyncio.wait_for(_add_match(bus, rule), ASK_S)
        except (NoAnswer, OSError, EOFError, TimeoutError):
            await _let_go(bus)
            return None
        return bus

    def _heard(self, message: Message) -> None:
        from dbus_fast import MessageType

        if message.message_type is MessageType.SIGNAL and self._wake is not None:
            self._wake.set()

    async def _look(self, bus: MessageBus | None) -> None:
        networks = await _ask(bus)
        machine = (read_power(), read_interfaces())
        stirred, self._stirred = self._stirred, False
        with self._lock:
            changed = stirred or (networks, machine) != (self._networks, self._machine)
            self._networks, self._machine = networks, machine
        if changed and not self._stopping.is_set():
            self._on_change()


async def _ask(bus: MessageBus | None) -> Networks:
    """What a manager says; unknown when it does not answer."""
    if bus is None:
        return NO_MANAGER
    try:
        return await asyncio.wait_for(read_networks(bus), ASK_S)
    except (NoAnswer, OSError, EOFError, TimeoutError):
        return Networks()


async def _connect(address: str | None) -> MessageBus | None:
    """The system bus; None where there is none, or no library for it."""
    try:
        from dbus_fast import BusType
        from dbus_fast.aio import MessageBus
        from dbus_fast.errors import DBusError
    except ImportError:
        return None
    try:
        bus = MessageBus(bus_address=address, bus_type=BusType.SYSTEM, auth_timeout=ASK_S)
        return await asyncio.wait_for(bus.connect(), ASK_S)
    except (OSError, EOFError, TimeoutError, DBusError, ValueError):
        return None


async def _add_match(bus: MessageBus, rule: str) -> None:
    from dbus_fast import Message, MessageType

    reply = await bus.call(
        Message(
            destination="org.freedesktop.DBus",
            path="/org/freedesktop/DBus",
            interface="org.freedesktop.DBus",
            member="AddMatch",
            signature="s",
            body=[rule],
        )
    )
    if reply.message_type is MessageType.ERROR:
        raise NoAnswer(rule)


async def _let_go(bus: MessageBus | None) -> None:
    if bus is not None:
        bus.disconnect()
        with contextlib.suppress(OSError, EOFError, TimeoutError):
            await asyncio.wait_for(bus.wait_for_disconnect(), ASK_S)  # type: ignore[no-untyped-call]


def _conditions(
    networks: Networks,
    now: int,
    *,
    power: tuple[bool | None, int | None] | None = None,
    interfaces: frozenset[str] | None = None,
) -> Conditions:
    on_battery, percent = read_power() if power is None else power
    minute, weekday = local_time(now)
    return Conditions(
        online=networks.online,
        metered=networks.metered,
        captive=networks.captive,
        networks=networks.names,
        interfaces=read_interfaces() if interfaces is None else interfaces,
        on_battery=on_battery,
        battery_percent=percent,
        minute=minute,
        weekday=weekday,
    )
