"""The notifiers of a home at work: look, find what was not told, send, remember; again."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from localstore.artifacts.background import FAILURES
from localstore.errors import LocalStoreError
from localstore.identity import now_us
from localstore.notify.events import run_events, sync_events
from localstore.notify.notifiers import path_of, read_notifiers
from localstore.notify.seen import read_runs, read_troubles
from localstore.notify.senders import NotSent, message_of, send
from localstore.notify.told import Told

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from localstore.identity import Identity
    from localstore.layout import HomePaths
    from localstore.notify.events import Event, RemoteFacts, RunFacts
    from localstore.notify.notifiers import Notifier
    from localstore.notify.senders import Message

STATE_FILE: Final = "notify.state"
IDLE_S: Final = 2.0
_RUNS_EVERY_S: Final = 10.0
_SHARE: Final = 50  # reading runs may take one part in so many of the time
_DIGEST_FROM: Final = 4  # so many events at once make one message
_FIRST_RETRY_S: Final = 10.0
_LAST_RETRY_S: Final = 3_600.0
_MOST_DOUBLINGS: Final = 16


@dataclass(slots=True)
class _Retry:
    failures: int = 0
    until_s: float = 0.0


def _random() -> float:
    return secrets.randbelow(1 << 53) / (1 << 53)


class Notifying:
    """The notifiers of one home.

    Attributes:
        notifiers: by name, as they stood at the last round.
    """

    def __init__(
        self,
        home: HomePaths,
        identity: Identity | None,
        *,
        say: Callable[[str], object],
        deliver: Callable[[Notifier, Message], None] = send,
        clock: Callable[[], int] = now_us,
        monotonic: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = _random,
    ) -> None:
        """Nothing is read yet.

        Args:
            identity: who may read runs; None: remotes alone are looked at.
            say: gets what went wrong, one line, without names of runs.
            clock: Unix µs. monotonic: seconds. random: from 0 to 1.
        """
        self._home, self._identity, self._say = home, identity, say
        self._deliver, self._clock = deliver, clock
        self._monotonic, self._random = monotonic, random
        self.notifiers: dict[str, Notifier] = {}
        self._stamp: tuple[int, int] | None = None
        self._told = Told(home.root / STATE_FILE)
        self._retries: dict[str, _Retry] = {}
        self._runs: list[RunFacts] = []
        self._runs_due_s = 0.0

    # -------------------------------------------------------------- the loop
    def run(self, stopping: Callable[[], bool], wait: Callable[[float], object]) -> None:
        """Rounds until `stopping`; what goes wrong is said, and never ends them.

        Args:
            wait: waits so many seconds, less when it is time to stop.
        """
        while not stopping():
            try:
                self.round()
            except FAILURES as error:
                self._say(f"notify: {type(error).__name__}")
            wait(IDLE_S)

    def round(self) -> int:
        """Look once, and tell what is new; returns how many messages went out.

        Raises:
            BadSetting: `notify.toml` breaks the rules; the notifiers from before stay.
        """
        self._read_notifiers()
        if not self.notifiers:
            return 0
        now = self._clock()
        self._read_runs(now)
        troubles = self._troubles(now)
        sent = 0
        for notifier in self.notifiers.values():
            events = run_events(self._runs, notifier, self._told.alive, now)
            events += sync_events(troubles, notifier, now)
            new = [event for event in events if not self._told.is_told(notifier.id, event.key)]
            sent += self._tell(notifier, new, now)
        self._told.keep({notifier.id for notifier in self.notifiers.values()})
        self._told.save()
        return sent

    # -------------------------------------------------------------- looking
    def _read_notifiers(self) -> None:
        try:
            found = path_of(self._home).stat()
            stamp = found.st_ino, found.st_mtime_ns
        except OSError:
            stamp = 0, 0
        if stamp == self._stamp:
            return
        self._stamp = stamp
        self.notifiers = read_notifiers(self._home)
        self._runs_due_s = 0.0

    def _read_runs(self, now: int) -> None:
        wanted = [one for one in self.notifiers.values() if one.wants_runs]
        before = self._monotonic()
        if self._identity is None or not wanted or before < self._runs_due_s:
            return
        silence = any("silent" in one.on for one in wanted)
        try:
            self._runs = list(read_runs(self._home, self._identity, silence=silence))
        except LocalStoreError as error:
            self._say(f"notify: runs cannot be read: {type(error).__name__}")
        for run in self._runs:
            if run.state == "running":
                self._told.saw_running(run.key, now)
        after = self._monotonic()
        self._runs_due_s = after + max(_RUNS_EVERY_S, (after - before) * _SHARE)

    def _troubles(self, now: int) -> list[RemoteFacts]:
        found = list(
            read_troubles(self._home, lambda remote: self._told.failing_since(remote, now))
        )
        self._told.only_failing({one.id for one in found})
        return found

    # -------------------------------------------------------------- telling
    def _tell(self, notifier: Notifier, events: list[Event], now: int) -> int:
        """Send what is new, as far as the hour's share and failures allow; how many messages."""
        retry = self._retries.setdefault(notifier.id, _Retry())
        if not events or self._monotonic() < retry.until_s:
            return 0
        whole = len(events) >= _DIGEST_FROM
        parts: Sequence[list[Event]] = [events] if whole else [[event] for event in events]
        sent = 0
        for part in parts:
            if self._told.sent_lately(notifier.id, now) >= notifier.at_most:
                break
            problem = self._send(notifier, part, retry)
            if problem:
                self._told.put_unsent(notifier.id, problem, now)
                break
            self._told.put_well(notifier.id)
            self._told.put(notifier.id, [event.key for event in part], now)
            self._told.save()
            sent += 1
        return sent

    def _send(self, notifier: Notifier, events: list[Event], retry: _Retry) -> str:
        """Send one message; why it did not go out, empty when it did."""
        try:
            self._deliver(notifier, message_of(events, notifier))
        except NotSent as problem:
            ceiling = min(
                _LAST_RETRY_S, _FIRST_RETRY_S * 2.0 ** min(retry.failures, _MOST_DOUBLINGS)
            )
            # Full jitter, but never sooner than the other side asked for.
            wait_s = max(self._random() * ceiling, min(problem.retry_after_s or 0.0, _LAST_RETRY_S))
            retry.failures += 1
            retry.until_s = self._monotonic() + wait_s
            if retry.failures == 1:
                self._say(f"notifier {notifier.name}: {problem}")
            return str(problem)
        if retry.failures:
            self._say(f"notifier {notifier.name}: works again")
        retry.failures = 0
        return ""


def trial_of(notifier: Notifier) -> Message:
    """What `localstore notify test` sends."""
    from localstore.notify.events import Event

    event = Event(key="", kind="finished", subject="you/test/test", time_us=0)
    made = message_of([event], notifier)
    line = f"this is a test of the notifier {notifier.name}"
    return replace(made, title=f"localstore: {line}", lines=(line,))
