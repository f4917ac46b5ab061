"""Hears of interfaces, addresses and routes that come and go: rtnetlink(7), Linux only.

What is heard is a hint that the network may be another; what it says is not looked at.
"""

from __future__ import annotations

import errno
import socket
import sys
from typing import Final

_LINK, _IPV4_ADDRESS, _IPV4_ROUTE, _IPV6_ADDRESS, _IPV6_ROUTE = 0x1, 0x10, 0x40, 0x100, 0x400
_GROUPS: Final = _LINK | _IPV4_ADDRESS | _IPV4_ROUTE | _IPV6_ADDRESS | _IPV6_ROUTE
_BYTES: Final = 65536


def open_links() -> socket.socket | None:
    """A socket that becomes readable when something changes; None where there is none."""
    if sys.platform != "linux":
        return None
    try:
        links = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    except OSError:
        return None
    try:
        links.bind((0, _GROUPS))
        links.setblocking(False)
    except OSError:
        links.close()
        return None
    return links


def drain(links: socket.socket) -> None:
    """Take off everything that was said; a queue that ran over has said enough, too."""
    while True:
        try:
            links.recv(_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                return
