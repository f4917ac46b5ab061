"""What there is to tell: from the states of runs and remotes to events. Pure: no disk, no clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from localstore import crypto
from localstore.format import spec

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from localstore.notify.notifiers import Notifier

FORGOTTEN_US: Final = 30 * 86_400 * 1_000_000  # what is older is told to nobody
_MINUTE_US: Final = 60_000_000
_OVER: Final = ("finished", "failed", "crashed")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What is known of a run: its place, its state, its times in Unix µs.

    Attributes:
        key: opaque; the same for the same run.
        writers: how many processes wrote it; one more makes its end another end.
        active_us: when it last recorded something, heartbeats and system metrics aside.
    """

    key: str
    path: str
    name: str
    state: str
    exit_code: int | None
    writers: int
    created_us: int
    updated_us: int
    active_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFacts:
    """What is known of a remote whose last try failed.

    Attributes:
        since_us: when the failure was seen first.
    """

    id: str
    name: str
    reason: str
    permanent: bool
    since_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something to tell.

    Attributes:
        key: opaque; the same for the same event, for ever.
        kind: one of `notifiers.EVENTS`. subject: path of the run, or name of the remote.
        facts: more, by the words of `notifiers.TOLD`.
    """

    key: str
    kind: str
    subject: str
    time_us: int
    facts: Mapping[str, Any] = field(default_factory=dict)

    def told(self, tell: Collection[str]) -> dict[str, Any]:
        """What a notifier passes on: always the path and the state, else what the person chose."""
        out: dict[str, Any] = {"path": self.subject, "state": self.kind}
        for word in tell:
            if word in self.facts:
                out |= self.facts[word] if word == "times" else {word: self.facts[word]}
        return out

    @property
    def line(self) -> str:
        """One line for people."""
        if self.kind == "sync":
            return f"remote {self.subject}: sync does not get through"
        return f"run {self.subject} {_SAID[self.kind]}"


_SAID: Final = {
    "finished": "finished",
    "failed": "failed",
    "crashed": "crashed",
    "silent": "is silent",
}


def key_of(*parts: str | int) -> str:
    """An opaque name for an event of something whose own key is opaque already."""
    raw = "\0".join(map(str, parts)).encode("utf-8", "surrogateescape")
    return crypto.digest(spec.LABEL_CACHE, b"notify", raw, size=16).hex()


def run_events(
    runs: Iterable[RunFacts], notifier: Notifier, alive: Collection[str], now_us: int
) -> list[Event]:
    """What a notifier tells of runs.

    Args:
        alive: keys of runs that were seen running since the notifier was added.
    """
    out = []
    for run in runs:
        kind = run.state if run.state in _OVER else _silence(run, notifier, now_us)
        if kind not in notifier.on:
            continue
        recent = run.updated_us >= notifier.added_us or run.key in alive
        if (kind == "silent" or recent) and run.updated_us > now_us - FORGOTTEN_US:
            out.append(_event_of(run, kind))
    return sorted(out, key=lambda event: (event.time_us, event.key))


def _silence(run: RunFacts, notifier: Notifier, now_us: int) -> str:
    last = max(run.active_us, run.created_us)
    silent = run.state == "running" and now_us - last >= notifier.silent_min * _MINUTE_US
    return "silent" if silent else ""


def _event_of(run: RunFacts, kind: str) -> Event:
    # A silence after new records is another one; an end after one more process is, too.
    episode = run.active_us if kind == "silent" else run.writers
    return Event(
        key=key_of(run.key, kind, episode),
        kind=kind,
        subject=run.path,
        time_us=run.active_us if kind == "silent" else run.updated_us,
        facts={
            "name": run.name,
            "exit_code": run.exit_code,
            "times": {"started_us": run.created_us, "last_us": run.updated_us},
        },
    )


def sync_events(remotes: Iterable[RemoteFacts], notifier: Notifier, now_us: int) -> list[Event]:
    """What a notifier tells of remotes: what a person must mend at once, the rest after a while."""
    if "sync" not in notifier.on:
        return []
    wait_us = notifier.sync_min * _MINUTE_US
    return [
        Event(
            key=key_of("remote", one.id, one.since_us),
            kind="sync",
            subject=one.name,
            time_us=one.since_us,
            facts={"reason": one.reason},
        )
        for one in remotes
        if one.permanent or now_us - one.since_us >= wait_us
    ]
