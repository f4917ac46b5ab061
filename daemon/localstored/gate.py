"""Policy as it is now: asked when steps are planned, and again while bytes move.

A file that is changed, or a network that is changed, counts within half a second also for what is
under way: `Gate.look` notices, and whoever moves bytes asks anew.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from localstored.policy import Conditions, Decider, Held, RemoteFacts
from localstored.policyfile import Book

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from localstore.layout import ProjectPaths
    from localstored.policy import Decision
    from localstored.session import Options

_AGAIN_US: Final = 500_000


class Withheld(Exception):
    """What was allowed to leave when it was planned is not any more."""

    def __init__(self, held: Held) -> None:
        super().__init__(held.reason)
        self.held = held


class Gate:
    """The rules for one remote. Safe for many threads.

    Attributes:
        version: changes with the rules and with the world.
    """

    def __init__(self, home: Path, remote: str, options: Options) -> None:
        self._options = options
        self._remote = RemoteFacts(remote, options.scheme, options.local)
        self.book = options.policy if options.policy is not None else Book.read(home)
        self._conditions, self.version = _now(options), 0
        self._looked_us = options.clock()
        self._deciders: dict[tuple[int, str], Decider] = {}
        self._lock = threading.Lock()

    def decider(self, paths: ProjectPaths) -> Decider:
        """What decides over the files of one project now."""
        with self._lock:
            key = (self.version, paths.id)
            if key not in self._deciders:
                self._deciders[key] = Decider(
                    self._remote,
                    self._conditions,
                    self.book.rules(paths),
                    manual=self._options.manual,
                )
            return self._deciders[key]

    def look(self) -> None:
        """Notice what changed, at most each half second; a sync that is to stop stops here.

        Raises:
            Stopped: the caller's `check` said so.
        """
        if self._options.check is not None:
            self._options.check()
        now_us = self._options.clock()
        if abs(now_us - self._looked_us) < _AGAIN_US:
            return
        with self._lock:
            if abs(now_us - self._looked_us) >= _AGAIN_US:
                self._looked_us = now_us
                self._renew()

    def _renew(self) -> None:
        conditions = _now(self._options)
        if not self.book.is_current():
            self.book = self.book.renewed()
        elif conditions == self._conditions:
            return
        self._conditions, self.version = conditions, self.version + 1


class Permit:
    """The leave of one file to go, for as long as it takes."""

    def __init__(
        self, gate: Gate, paths: ProjectPaths, decide: Callable[[Decider], Decision]
    ) -> None:
        self._gate, self._paths, self._decide = gate, paths, decide
        self._version = -1  # the plan may be older than the rules: the first check decides anew

    def check(self) -> None:
        """Before each step, and between pieces.

        Raises:
            Withheld: it stays, by now.
            Stopped: the sync is to stop.
        """
        self._gate.look()
        if self._gate.version != self._version:
            self._version = self._gate.version
            decision = self._decide(self._gate.decider(self._paths))
            if isinstance(decision, Held):
                raise Withheld(decision)


def _now(options: Options) -> Conditions:
    return (
        options.conditions if isinstance(options.conditions, Conditions) else options.conditions()
    )
