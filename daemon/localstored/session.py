"""What the caller of a sync wants, and what a process remembers from one sync to the next."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from localstore.crypto import random_bytes
from localstored.crew import Threads, Width
from localstored.policy import UNKNOWN_CONDITIONS
from localstored.policyfile import remote_facts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from localstore.remotes import RemoteEntry
    from localstored.crew import Crew
    from localstored.policy import Conditions
    from localstored.policyfile import Book
    from localstored.report import Event

LINKS: Final = "links"  # stands among subjects for the files of the trust phase
_STRANGER_US: Final = 3600 * 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the caller of a sync wants.

    Attributes:
        projects: their ids; None: all that are here, and those of the remotes that are for us.
        dry_run: write nothing anywhere; say every step.
        on_event: is told of progress, in the caller's thread.
        recipients: tags (32 hex digits) of the box keys that this home can open.
        accept: ids of projects that are taken although no keyslot is for us.
        clock: Unix time in microseconds. random: so many random bytes, for the names of stamps.
        manual: a person asked for this very sync.
        policy: the policy files; None: those of the home, read anew when one changes.
        conditions: the world; a function is asked again under way.
        scheme, local: what rules may ask of the remote; see `policy.RemoteFacts`.
        check: is called between steps and pieces, in any thread; raises Stopped to stop.
        scope: sync these subjects (hex, or "links") of these projects and nothing else, without
            asking the remote what it has.
        urgent: subjects that have new blocks since it was asked before; they go in between.
        push, pull: one way alone.
        restore: pull what was pruned here, too.
        stamps: False: a remote that no other replica uses at the same time: no stamps, and it is
            listed in full each time.
        relist: list in full this time, whatever the stamps say.
        crew: makes a crew that runs so many steps at once.
    """

    clock: Callable[[], int]
    projects: frozenset[str] | None = None
    dry_run: bool = False
    on_event: Callable[[Event], None] | None = None
    recipients: frozenset[str] = frozenset()
    accept: frozenset[str] = frozenset()
    random: Callable[[int], bytes] = random_bytes
    manual: bool = True
    policy: Book | None = None
    conditions: Conditions | Callable[[], Conditions] = UNKNOWN_CONDITIONS
    scheme: str = ""
    local: bool = False
    check: Callable[[], None] | None = None
    scope: Mapping[str, frozenset[str]] | None = None
    urgent: Callable[[], Mapping[str, frozenset[str]]] | None = None
    push: bool = True
    pull: bool = True
    restore: bool = False
    stamps: bool = True
    relist: bool = False
    crew: Callable[[int], Crew] = Threads


def facts_of(
    entry: RemoteEntry, options: Options, conditions: Conditions | Callable[[], Conditions]
) -> Options:
    """Options with what rules may ask of one remote, and of the world."""
    facts = remote_facts(entry)
    return replace(options, scheme=facts.scheme, local=facts.local, conditions=conditions)


@dataclass(slots=True)
class Session:
    """What a process remembers of its remotes; lost without harm.

    Attributes:
        open: our open stamps, and when they were made (Unix µs), by project id and remote id.
        widths: how many steps at once each remote bears, by its id.
    """

    open: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)
    widths: dict[str, Width] = field(default_factory=dict)
    _strangers: dict[tuple[str, str], tuple[frozenset[str], int]] = field(default_factory=dict)

    def width(self, remote_id: str, most: int) -> Width:
        """How many steps at once a remote bears, at most `most`."""
        width = self.widths.setdefault(remote_id, Width(most))
        width.most = max(1, most)
        return width

    def is_stranger(self, remote_id: str, project: str, options: Options) -> bool:
        """Whether a project of a remote was found not to be for us within the last hour."""
        keys, seen_us = self._strangers.get((remote_id, project), (None, 0))
        return keys == options.recipients and 0 <= options.clock() - seen_us < _STRANGER_US

    def remember_stranger(self, remote_id: str, project: str, options: Options) -> None:
        """Keep that a project of a remote is not for us."""
        self._strangers[remote_id, project] = (options.recipients, options.clock())
