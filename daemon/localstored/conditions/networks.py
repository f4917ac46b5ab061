"""What NetworkManager or ConnMan say of the network, over D-Bus.

Both are asked for state only: nothing here changes a connection. Property names and numbers are
those of the NetworkManager D-Bus API (NMConnectivityState, NMMetered, NMState) and of ConnMan's
doc/manager-api.txt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from dbus_fast import Variant
    from dbus_fast.aio import MessageBus

NM: Final = "org.freedesktop.NetworkManager"
NM_PATH: Final = "/org/freedesktop/NetworkManager"
NM_ACTIVE: Final = "org.freedesktop.NetworkManager.Connection.Active"
CONNMAN: Final = "net.connman"
SERVICES: Final = (NM, CONNMAN)
_BUS: Final = "org.freedesktop.DBus"
_BUS_PATH: Final = "/org/freedesktop/DBus"
_PROPERTIES: Final = "org.freedesktop.DBus.Properties"
_MAX_CONNECTIONS: Final = 32
_MAX_NAME_CHARS: Final = 256
_METERED: Final = {1: True, 3: True, 2: False, 4: False}  # yes, guessed yes, no, guessed no
_NM_CONNECTED_LOCAL: Final = 50
_PORTAL, _LIMITED, _FULL = 2, 3, 4


@dataclass(frozen=True, slots=True)
class Networks:
    """The network as a manager sees it.

    Attributes:
        online: whether the world can be reached; None: not known.
        metered: whether bytes cost money; None: not known.
        captive: whether a portal wants a person to sign in first.
        names: active connections, by the names that people see.
    """

    online: bool | None = None
    metered: bool | None = None
    captive: bool = False
    names: frozenset[str] = frozenset()


class NoAnswer(Exception):
    """A service on the bus gave an error or none of the expected values."""


# Without a manager nobody knows of metered lines: so it is on servers, whose lines are not.
NO_MANAGER: Final = Networks(metered=False)


async def read_networks(bus: MessageBus) -> Networks:
    """Ask NetworkManager, else ConnMan; NO_MANAGER where neither runs.

    Raises:
        NoAnswer: one is there and gives no sense.
    """
    for service, read in ((NM, _read_network_manager), (CONNMAN, _read_connman)):
        if await _call(bus, _BUS, _BUS_PATH, _BUS, "NameHasOwner", "s", [service]):
            return await read(bus)
    return NO_MANAGER


async def _read_network_manager(bus: MessageBus) -> Networks:
    values = _plain(await _call(bus, NM, NM_PATH, _PROPERTIES, "GetAll", "s", [NM]))
    connectivity = _number(values.get("Connectivity"))
    state = _number(values.get("State"))
    online = None
    if connectivity in (1, _PORTAL):
        online = False
    elif connectivity in (_LIMITED, _FULL):  # limited: no check server, or no way out: worth a try
        online = True if connectivity == _FULL else None
    elif state and state < _NM_CONNECTED_LOCAL:
        online = False
    paths = values.get("ActiveConnections")
    names = [
        await _connection_name(bus, path)
        for path in (paths if isinstance(paths, list) else [])[:_MAX_CONNECTIONS]
        if isinstance(path, str)
    ]
    return Networks(
        online=online,
        metered=_METERED.get(_number(values.get("Metered"))),
        captive=connectivity == _PORTAL,
        names=frozenset(name for name in names if name),
    )


async def _connection_name(bus: MessageBus, path: str) -> str:
    try:
        values = _plain(await _call(bus, NM, path, _PROPERTIES, "GetAll", "s", [NM_ACTIVE]))
    except NoAnswer:
        return ""  # it went away meanwhile
    return _name(values.get("Id"))


async def _read_connman(bus: MessageBus) -> Networks:
    manager = f"{CONNMAN}.Manager"
    values = _plain(await _call(bus, CONNMAN, "/", manager, "GetProperties", "", []))
    services = await _call(bus, CONNMAN, "/", manager, "GetServices", "", [])
    state = values.get("State")
    names = set()
    for entry in (services if isinstance(services, list) else [])[:_MAX_CONNECTIONS]:
        facts = _plain(entry[1]) if isinstance(entry, list | tuple) and len(entry) == 2 else {}
        if facts.get("State") in ("ready", "online"):
            names.add(_name(facts.get("Name")))
    # "ready" has an address and did not reach the check server: a portal, or a private network.
    online = {"online": True, "offline": False, "idle": False}.get(str(state))
    return Networks(online=online, names=frozenset(names - {""}))


async def _call(
    bus: MessageBus,
    service: str,
    path: str,
    interface: str,
    member: str,
    form: str,
    body: list[Any],
) -> Any:
    """The first value of the answer.

    Raises:
        NoAnswer: an error, or no value.
    """
    from dbus_fast import Message, MessageType

    reply = await bus.call(
        Message(
            destination=service,
            path=path,
            interface=interface,
            member=member,
            signature=form,
            body=body,
        )
    )
    if reply.message_type is not MessageType.METHOD_RETURN or not reply.body:
        raise NoAnswer(f"{interface}.{member}: {reply.error_name}")
    return reply.body[0]


def _plain(values: object) -> dict[str, Any]:
    """D-Bus variants as plain values; what is no table of variants is empty."""
    if not isinstance(values, dict):
        return {}
    return {str(name): _value(value) for name, value in values.items()}


def _value(value: Variant | object) -> Any:
    return getattr(value, "value", value)


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _name(value: object) -> str:
    return value[:_MAX_NAME_CHARS] if isinstance(value, str) else ""
