"""One project and one remote: the three phases of a sync."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from localstore import trust
from localstore.durable import replace_file
from localstore.errors import Damaged, LocalStoreError
from localstore.format.references import RefFrame
from localstore.format.version import check_format
from localstore.layout import FORMAT_FILE, FileKind, ProjectPaths, log_name, parse_name
from localstore.store.gc import GRACE_S, collect
from localstored import plan
from localstored.catalog import Catalog, catalog_path, file_system_of, is_network, read_mounts
from localstored.evidence import Witness
from localstored.incoming import Incoming, read_exactly
from localstored.inventory import (
    OBJECT_FOLDERS,
    RUN_FOLDERS,
    TRUST_FOLDERS,
    Inventory,
    cancelled_refs,
    living_refs,
    read_inventory,
)
from localstored.plan import View
from localstored.policy import DEFAULT_RULES, Decision, Rules, decide, decide_object
from localstored.receipts import ReceiptFile
from localstored.remotes.base import Unreachable
from localstored.report import Event, Note
from localstored.transfer import Carrier
from localstored.verify import MAX_BYTES, MAX_FORMAT_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from localstore.layout import FileName
    from localstored.inventory import Item
    from localstored.plan import Step
    from localstored.remotes.base import Remote
    from localstored.report import ProjectReport

_MAX_LINKS_ASKED: Final = 10_000
_SETTLED_US: Final = 24 * 3600 * 1_000_000  # longer than any sync


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the caller of a sync wants; see `engine.sync_home`."""

    projects: frozenset[str] | None = None
    dry_run: bool = False
    on_event: Callable[[Event], None] | None = None
    recipients: frozenset[str] = frozenset()
    clock: Callable[[], int]
    rules: Rules = field(default_factory=lambda: DEFAULT_RULES)


class ProjectSync:
    """Brings one project here and on one remote to hold the same.

    Args:
        theirs: what the remote lists of this project: sizes in bytes by name.
    """

    def __init__(
        self,
        paths: ProjectPaths,
        remote: Remote,
        theirs: Mapping[str, int],
        report: ProjectReport,
        options: Options,
    ) -> None:
        self._paths, self._remote, self._theirs = paths, remote, theirs
        self._report, self._options = report, options
        self._receipts = ReceiptFile.of(paths, remote.id)
        self._catalog = Catalog(catalog_path(paths, read_mounts(), _node_folder()), remote.id)
        self._catalog.catch_up(self._receipts)
        self._witness = Witness(paths, remote)
        self._carrier = Carrier(
            paths, remote, self._catalog, self._receipts, report, options.clock, self._free
        )
        self._state: trust.ProjectState | None = None

    def run(self) -> None:
        """Trust, then runs, then objects; failures stand in the report.

        Raises:
            Unreachable: the remote is gone.
        """
        if not self._options.dry_run:
            Incoming(self._paths, self._remote).sweep()
        if not self._formats_agree():
            return
        self._sync_trust()
        erased = self._erased()
        if erased is not None:
            runs = self._sync_runs(erased)
            self._sync_objects(runs, erased)
        if not self._options.dry_run:
            self._catalog.save()

    # -------------------------------------------------------------- the three phases
    def _sync_trust(self) -> None:
        seen = self._seen_links()
        self._report.lost = sorted(seen - self._their_links())
        self._phase("trust", self._read(TRUST_FOLDERS), {})
        if not self._options.dry_run:
            self._remember_links(seen)

    def _sync_runs(self, erased: frozenset[str]) -> Inventory:
        runs = self._read(RUN_FOLDERS)
        before = self._report.pulled + self._report.erased
        self._phase("runs", runs, {"erased": erased, "pruned": self._pruned()})
        if not self._options.dry_run:
            self._carrier.note_gone(
                name
                for name, cursor in list(self._catalog.cursors.items())
                if cursor.size and name not in self._theirs and parse_name(name).subject in erased
            )
        changed = self._report.pulled + self._report.erased != before
        return self._read(RUN_FOLDERS) if changed else runs

    def _sync_objects(self, runs: Inventory, erased: frozenset[str]) -> None:
        objects = self._read(OBJECT_FOLDERS)
        if not objects.items and not any(name.startswith("objects/") for name in self._theirs):
            return
        state = self._state
        cancelled = cancelled_refs(self._paths, runs, self._catalog, state) if state else {}
        living = living_refs(runs, self._catalog, erased, cancelled)
        name, rules = self._report.remote, self._options.rules

        def decide_here(item: Item) -> Decision:
            return decide_object(item, living.get(item.file.hash, ()), name, rules)

        self._phase(
            "objects",
            objects,
            {
                "decide": decide_here,
                "wanted": frozenset(living),
                "condemned": self._condemned(runs, living, erased, cancelled),
            },
        )

    def _phase(self, phase: str, found: Inventory, more: Mapping[str, object]) -> None:
        view = self._view(phase, found, more)
        for name, problem in found.damaged.items():
            if not view.is_erased(parse_name(name)):
                self._report.damaged.append(Note(name, problem.problem, problem.offset))
        evidence = self._witness.compare(plan.questions(view), view, self._report.errors)
        view = replace(view, evidence=evidence, marks=self._marks(view))
        steps = plan.plan(view)
        if self._options.dry_run:
            self._report.steps += [plan.step_to_json(step) for step in steps]
            self._report.lines += [str(step) for step in steps]
        else:
            self._carrier.carry_out(steps, _Progress(phase, steps, self._report, self._options))

    def _view(self, phase: str, found: Inventory, more: Mapping[str, object]) -> View:
        name, rules = self._report.remote, self._options.rules
        folders = {
            "trust": (FORMAT_FILE, "certs/", "links/"),
            "runs": ("keys/", "runs/"),
            "objects": ("objects/",),
        }[phase]
        view = View(
            local=found.items,
            remote={n: size for n, size in self._theirs.items() if n.startswith(folders)},
            decide=lambda item: decide(item, name, rules),
            tails=found.tails,
            damaged=frozenset(found.damaged),
            cursors=self._catalog.cursors,
        )
        return replace(view, **more)  # type: ignore[arg-type] # fields of View, by name

    def _marks(self, view: View) -> frozenset[str]:
        """Forks that need no copy, with those that a look at both sides finds now."""
        view = replace(view, marks=frozenset(self._catalog.marks))
        there, here = plan.fork_questions(view)
        for file in there:
            log = view.local[log_name(file.subject, file.segment)]
            size = view.remote[file.name]
            self._mark(file.name, partial(self._witness.inside_ours, file, size, log))
        for item in here:
            self._mark(item.name, partial(self._witness.inside_theirs, item))
        return frozenset(self._catalog.marks)

    def _mark(self, fork: str, is_inside: Callable[[], bool]) -> None:
        try:
            if is_inside():
                self._catalog.remember_mark(fork)
        except Unreachable:
            raise
        except (LocalStoreError, OSError) as problem:
            self._report.errors.append(Note(fork, f"cannot be compared: {problem}"))

    def _read(self, folders: tuple[str, ...]) -> Inventory:
        return read_inventory(self._paths, folders, self._catalog)

    # -------------------------------------------------------------- what decides
    def _formats_agree(self) -> bool:
        """Whether both sides are of a format that we know; else nothing is touched."""
        path, size = self._paths.root / FORMAT_FILE, self._theirs.get(FORMAT_FILE)
        try:
            if path.exists():
                check_format(path.read_bytes(), self._paths.id)
            elif size is None:
                raise Damaged("missing")
        except Damaged as problem:
            self._report.damaged.append(Note(FORMAT_FILE, problem.problem))
            return False
        cursor = self._catalog.cursors.get(FORMAT_FILE)
        if size is None or (cursor is not None and cursor.size == size):
            return True
        try:
            name = f"projects/{self._paths.id}/{FORMAT_FILE}"
            length = min(size, MAX_FORMAT_BYTES)
            check_format(read_exactly(self._remote, name, 0, length), self._paths.id)
        except Damaged as problem:
            self._report.refused.append(Note(FORMAT_FILE, problem.problem))
            return False
        return True

    def _erased(self) -> frozenset[str] | None:
        """Subjects whose tombstone is in force; None when nobody can tell."""
        if self._options.dry_run and not (self._paths.root / FORMAT_FILE).exists():
            return frozenset()
        try:
            self._state = trust.read_project(self._paths)
            return self._state.erased(self._options.clock())
        except Damaged as problem:
            # Without the links nobody knows what was erased: moving runs could bring it back.
            self._report.damaged.append(Note("links", problem.problem))
            return None

    def _pruned(self) -> frozenset[str]:
        """Logs that left this home on purpose; their stubs say where they are."""
        stubs = self._paths.root / "stubs"
        if not stubs.is_dir():
            return frozenset()
        return frozenset(log_name(path.parent.name, path.name) for path in stubs.glob("*/*"))

    def _condemned(
        self,
        runs: Inventory,
        living: Mapping[str, object],
        erased: frozenset[str],
        cancelled: Mapping[RefFrame, int],
    ) -> frozenset[str]:
        """Objects that only erased segments refer to, or references that were cancelled some time
        ago; none when a living log may be unknown."""
        logs = [
            name
            for name in self._theirs
            if name.endswith(".log") and parse_name(name).subject not in erased
        ]
        complete = all(
            name in runs.items and runs.items[name].size >= self._theirs[name] for name in logs
        )
        if not complete or runs.damaged:
            return frozenset()
        # A home that is at it now may count on what its listing says that the remote holds.
        settled_us = self._options.clock() - _SETTLED_US
        old = {frame for frame, at_us in cancelled.items() if at_us <= settled_us}
        ids = {
            object_id
            for name, refs in self._catalog.refs.items()
            for frame, objects in refs.items()
            if _is_gone(parse_name(name), frame, erased, old)
            for object_id in objects
        }
        return frozenset(f"objects/{id_[:2]}/{id_}" for id_ in ids if id_ not in living)

    def _free(self, objects: frozenset[str]) -> int:
        """Free objects here beside running writers; returns how many went."""
        if self._state is None:
            return 0
        # On a network file system another machine's references may be seen late.
        network = is_network(file_system_of(self._paths.root.resolve(), read_mounts()))
        now_us, grace_s = self._options.clock(), GRACE_S if network else 0.0
        return collect(self._paths, self._state, grace_s=grace_s, only=objects, now_us=now_us).freed

    # -------------------------------------------------------------- rollback
    def _their_links(self) -> set[str]:
        return {name[6:] for name in self._theirs if name.startswith("links/")}

    def _seen_file(self) -> Path:
        return self._paths.trust / f"{self._remote.id}.json"

    def _seen_links(self) -> set[str]:
        """Links that this remote was seen to hold."""
        try:
            raw = json.loads(self._seen_file().read_text("utf-8"))
            return {link for link in raw["links"] if isinstance(link, str)}
        except FileNotFoundError:
            return set()
        except (ValueError, KeyError, TypeError) as error:
            self._report.damaged.append(Note(f"trust/{self._seen_file().name}", str(error)))
            return set()

    def _remember_links(self, seen: set[str]) -> None:
        own = {path.name for path in self._paths.links.glob("[0-9a-f]*")}
        now = {link for link in own if f"links/{link}" in self._catalog.cursors} | (seen & own)
        if now != seen and own:
            replace_file(self._seen_file(), json.dumps({"links": sorted(now)}).encode())


def _is_gone(file: FileName, frame: int, erased: frozenset[str], old: set[RefFrame]) -> bool:
    return file.subject in erased or RefFrame(file.subject, file.segment, frame) in old


class _Progress:
    """Turns steps that are done into events."""

    def __init__(
        self, phase: str, steps: list[Step], report: ProjectReport, options: Options
    ) -> None:
        self._phase, self._report, self._options = phase, report, options
        self._items, self._bytes = len(steps), sum(map(_weight, steps))
        self._done_items = self._done_bytes = 0

    def __call__(self, step: Step) -> None:
        self._done_items += 1
        self._done_bytes += _weight(step)
        if self._options.on_event is not None:
            self._options.on_event(
                Event(
                    remote=self._report.remote,
                    project=self._report.project,
                    phase=self._phase,
                    done_items=self._done_items,
                    planned_items=self._items,
                    done_bytes=self._done_bytes,
                    planned_bytes=self._bytes,
                )
            )


def _weight(step: Step) -> int:
    """Bytes that a step moves."""
    match step:
        case plan.PushCreate(_, size) | plan.PullCreate(_, size) | plan.Heal(_, size):
            return size
        case plan.PushAppend(_, offset, size) | plan.PullAppend(_, offset, size):
            return size - offset
        case plan.Fork(_, _, push_size, _, pull_size):
            return push_size + pull_size
        case _:
            return 0


def is_genuine(remote: Remote, project: str, files: Mapping[str, int]) -> bool:
    """Whether a remote holds the genesis link that a project's id is the hash of."""
    links = [name for name in files if name.startswith("links/")]
    for name in links[:_MAX_LINKS_ASKED]:
        size = files[name]
        if size <= MAX_BYTES[FileKind.LINK]:
            with contextlib.suppress(LocalStoreError):
                raw = read_exactly(remote, f"projects/{project}/{name}", 0, size)
                if trust.project_id(raw).hex() == project:
                    return True
    return False


def _node_folder() -> Path:
    import platformdirs

    return Path(platformdirs.user_cache_dir("localstore", appauthor=False))
