"""How far each project is on each remote, from what is here alone: no remote is asked."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from localstore import trust
from localstore.errors import Damaged
from localstore.layout import HomePaths
from localstore.remotes import read_remotes
from localstored import plan
from localstored.catalog import Catalog
from localstored.catalogfile import CatalogError
from localstored.gate import Gate
from localstored.gathering import Gatherer
from localstored.needs import Needs
from localstored.place import catalog_of
from localstored.policy import UNKNOWN_CONDITIONS
from localstored.receipts import ReceiptFile
from localstored.report import ProjectReport, Stand
from localstored.session import Options, facts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from localstore.layout import ProjectPaths
    from localstore.remotes import RemoteEntry
    from localstored.gathering import Part
    from localstored.policy import Conditions
    from localstored.policyfile import Book

_PATIENCE_S: Final = 0.2  # a person waits for the answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far one project is on one remote.

    Attributes:
        remote: its name. remote_id: its own id. project: its id.
        stand: what is behind, and what is held and why.
        damaged: files of ours that break the format.
        last_receipt_us: when the remote last acknowledged something, Unix µs; None: never.
    """

    remote: str
    remote_id: str
    project: str
    stand: Stand
    damaged: int
    last_receipt_us: int | None

    @property
    def behind_items(self) -> int:
        """Files that may leave and are not acknowledged."""
        return self.stand.behind.items

    @property
    def behind_bytes(self) -> int:
        """Their bytes, as far as the remote lacks them."""
        return self.stand.behind.bytes

    @property
    def held(self) -> dict[str, dict[str, int]]:
        """What policy keeps here, by reason: items and bytes."""
        return {
            reason: {"items": tally.items, "bytes": tally.bytes}
            for reason, tally in self.stand.held.items()
        }

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "remote": self.remote,
            "remote_id": self.remote_id,
            "project": self.project,
            **self.stand.to_json(),
            "damaged": self.damaged,
            "last_receipt_us": self.last_receipt_us,
        }


def standing(
    home: Path,
    *,
    policy: Book | None = None,
    conditions: Conditions | None = None,
    clock: Callable[[], int] = lambda: time.time_ns() // 1000,
) -> list[Standing]:
    """How far every project is on every remote, as this home knows it.

    Args:
        policy: the policy files; None: those of the home.
        conditions: the world; unknown where it is not given.
        clock: Unix time in microseconds.

    Raises:
        BadSetting: `remotes.toml` breaks its form.
    """
    base = Options(clock=clock, manual=False, policy=policy)
    out = []
    for entry in read_remotes(home).values():
        options = facts_of(entry, base, conditions or UNKNOWN_CONDITIONS)
        gate = Gate(home, entry.name, options)
        out += [_one(paths, entry, gate, options) for paths in HomePaths(home).all_projects()]
    return out


def _one(paths: ProjectPaths, entry: RemoteEntry, gate: Gate, options: Options) -> Standing:
    try:
        return _look(paths, entry, gate, options, keeps=True)
    except CatalogError:  # a sync is at work with it, or the disk is full
        return _look(paths, entry, gate, options, keeps=False)


def _look(
    paths: ProjectPaths, entry: RemoteEntry, gate: Gate, options: Options, *, keeps: bool
) -> Standing:
    """`keeps`: what is found is kept in the catalog, for the next look and the next sync."""
    report = ProjectReport(remote=entry.name, project=paths.id)
    receipts, stand = ReceiptFile.of(paths, entry.id), Stand()
    place, remote = catalog_of(paths), entry.id
    with contextlib.closing(
        Catalog(place, remote, writes=keeps, patience_s=_PATIENCE_S)
    ) as catalog:
        catalog.catch_up(receipts)
        gatherer = Gatherer(paths, None, catalog, gate, report, options)
        for part in _parts(paths, gatherer, catalog, options):
            _count(part, stand)
        stand.add(gatherer.stand)
    return Standing(
        remote=entry.name,
        remote_id=entry.id,
        project=paths.id,
        stand=stand,
        damaged=report.damaged.total,
        last_receipt_us=receipts.last_us(),
    )


def _parts(
    paths: ProjectPaths, gatherer: Gatherer, catalog: Catalog, options: Options
) -> Iterator[Part]:
    yield gatherer.trust()
    try:
        state = trust.read_project(paths)
    except Damaged:
        return  # nothing of it leaves until its links are healed
    erased = state.erased(options.clock())
    yield from gatherer.runs(erased)
    yield from gatherer.objects(Needs(paths, catalog, state, erased, options.clock()))


def _count(part: Part, stand: Stand) -> None:
    for step in part.steps:
        if isinstance(step, plan.Hold):
            stand.hold(step.reason, 1, step.size)
        elif plan.pushes(step):
            stand.behind.add(1, plan.weight(step))
