"""Tells systemd how the service is, over the socket that `Type=notify` names.

A few lines of its own protocol; without systemd every call does nothing. Never raises: a service
manager that does not listen is no reason to stop.
"""

from __future__ import annotations

import socket
import time
from typing import Final

MICROSECONDS: Final = 1_000_000


class Systemd:
    """The service manager, if there is one.

    Attributes:
        ping_s: seconds between two `alive`; 0 when nobody waits for them.
    """

    def __init__(self, address: str = "", watchdog_us: int = 0) -> None:
        """Opens nothing yet.

        Args:
            address: of NOTIFY_SOCKET: a path, or '@' and an abstract name; empty: nobody listens.
            watchdog_us: how long systemd waits for a sign of life, in µs; 0: for ever.
        """
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.ping_s = watchdog_us / MICROSECONDS / 2 if address else 0.0
        self._status = ""

    def ready(self) -> None:
        """All is set up; also the end of a reload."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`; said again only when it changed."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={' '.join(text.split())}")

    def alive(self) -> None:
        """A sign of life."""
        if self.ping_s:
            self._send("WATCHDOG=1")

    def reloading(self) -> None:
        """Settings are read again; `ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The end has begun."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as wire:
                wire.settimeout(1.0)
                wire.sendto(message.encode(), self._address)
        except OSError:
            self._status = ""
