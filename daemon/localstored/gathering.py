"""Gathers what decides, part by part, and has it decided: trust, runs by subject, objects by id.

A part is small however large the project is. One in which nothing changed since nothing was left to
do is passed over without a look into a file or a question to the remote.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from localstore import pruned
from localstore.errors import Damaged, LocalStoreError
from localstore.layout import FORMAT_FILE, log_name, parse_name
from localstored import inventory as local
from localstored import plan
from localstored.catalog import ABSENT, UNKNOWN, FileFacts, PartFacts
from localstored.evidence import Witness
from localstored.held import rows_of, still_held
from localstored.inventory import Inventory, Item
from localstored.needs import Needs, PartNeeds
from localstored.plan import Hold, View
from localstored.remotes.base import Unreachable
from localstored.report import Note, Stand

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from localstore.layout import ProjectPaths
    from localstored.catalog import Catalog, There
    from localstored.gate import Gate
    from localstored.plan import Step
    from localstored.policy import Decider, Decision
    from localstored.remotes.base import Remote
    from localstored.report import ProjectReport
    from localstored.session import Options

_SUBJECT: Final = re.compile(r"[0-9a-f]{32}")
_OBJECT: Final = re.compile(r"[0-9a-f]{64}")
_HEX: Final = re.compile(r"[0-9a-f]{2}")
_UNKNOWN_TAG: Final = "ff" * 16  # of a log that was pruned, where nobody remembers it: held


@dataclass(slots=True)
class Part:
    """A part of a project, and what is to be done with it.

    Attributes:
        name: under which it is remembered; empty: not.
        print: of all that was looked at here.
        steps: what is to be done. items: what each step on a file of ours is about.
        referrers: of objects: the logs that need them, by name.
        clean: nothing is damaged, and nothing could not be compared.
        lacking: logs of living subjects that are longer on the remote than here.
        gone: names that the remote has erased: another home asked it to.
    """

    name: str
    print: str = ""
    steps: list[Step] = field(default_factory=list)
    items: Mapping[str, Item] = field(default_factory=dict)
    referrers: Mapping[str, list[Item]] | None = None
    clean: bool = True
    lacking: set[str] = field(default_factory=set)
    gone: list[str] = field(default_factory=list)

    def logs_of(self, item: Item) -> list[Item] | None:
        """The logs that refer to an object; None for what is none."""
        return None if self.referrers is None else self.referrers.get(item.file.hash, [])

    def decide(self, item: Item, decider: Decider) -> Decision:
        """Whether an item of this part may leave."""
        logs = self.logs_of(item)
        return decider.item(item) if logs is None else decider.object(item, logs)

    def facts(self) -> PartFacts:
        """What is remembered of it when nothing is left to do."""
        held = [self.items[step.name] for step in self.steps if isinstance(step, Hold)]
        rows = rows_of((item, self.logs_of(item)) for item in held)
        return PartFacts(self.print, not self.lacking, rows)


class Gatherer:
    """Gathers the parts of one project for one remote.

    Attributes:
        stand: of the parts that were passed over.
    """

    def __init__(
        self,
        paths: ProjectPaths,
        remote: Remote | None,
        catalog: Catalog,
        gate: Gate,
        report: ProjectReport,
        options: Options,
    ) -> None:
        """`remote`: None: nobody is asked, and what is not known stays so."""
        self._paths, self._remote, self._catalog = paths, remote, catalog
        self._gate, self._report, self._options = gate, report, options
        self._witness = Witness(paths, remote) if remote is not None else None
        self._pruned: dict[str, list[str]] | None = None
        self._lacking: set[str] = set()
        self._incomplete, self.stand = False, Stand()

    # -------------------------------------------------------------- the remote
    def there(self, *prefixes: str) -> dict[str, There]:
        """What the remote has below some prefixes; asks it where a failed step left doubt."""
        found: dict[str, There] = {}
        for prefix in prefixes:
            found |= self._catalog.there(prefix)
        doubtful = [name for name, facts in found.items() if facts.size == UNKNOWN]
        if doubtful and self._remote is not None:
            head = f"projects/{self._paths.id}/"
            sizes = self._remote.have([head + name for name in doubtful])
            for name in doubtful:
                size = sizes.get(head + name, ABSENT)
                self._catalog.set_size(name, size)
                found[name] = found[name]._replace(size=size)
        return found

    # -------------------------------------------------------------- three kinds of parts
    def trust(self) -> Part:
        """FORMAT, certificates and links."""
        seen = local.look_at_trust(self._paths)
        found = local.read_inventory(self._paths, seen, self._catalog)
        there = self.there(FORMAT_FILE, "certs/", "links/")
        return self._part(Part("", items=found.items), self._view(found, there), found)

    def runs(self, erased: frozenset[str]) -> Iterator[Part]:
        """Keyslots, logs, forks and tail copies, by the first byte of their subjects."""
        mine = _by_first(
            name
            for folder in (self._paths.runs, self._paths.keys)
            for name in local.names_in(folder)
            if _SUBJECT.fullmatch(name)
        )
        firsts = self._catalog.first_bytes("runs/") | self._catalog.first_bytes("keys/")
        settled = self._settled()
        for first in sorted(mine.keys() | self._pruned_logs().keys() | firsts):
            part = self._runs(f"runs/{first}", first, mine.get(first, ()), erased, settled)
            if part is not None:
                yield part

    def subjects(self, subjects: Iterable[str], erased: frozenset[str]) -> Part:
        """The files of some subjects alone; remembered as nothing."""
        part = self._runs("", "", sorted(set(subjects)), erased, {})
        return part if part is not None else Part("")

    def _runs(
        self,
        name: str,
        first: str,
        subjects: Collection[str],
        erased: frozenset[str],
        settled: Mapping[str, PartFacts],
    ) -> Part | None:
        below = [first] if name else [f"{one}/" for one in subjects]
        folders = [f"{top}/{one}" for one in subjects for top in ("keys", "runs")]
        seen = local.look(self._paths, folders)
        stubs = [one for prefix in below for one in self._pruned_logs().get(prefix[:2], ())]
        buried = sorted(one for one in erased if one.startswith(tuple(below)) or one in subjects)
        part = Part(name, local.print_of(seen, buried, stubs))
        if self._is_settled(part, settled):
            return None
        known: dict[str, FileFacts] = {}
        for prefix in below:
            known |= self._catalog.files(f"runs/{prefix}")
        found = local.read_inventory(self._paths, seen, self._catalog, known)
        self._note_absent(found, known, stubs)
        there = self.there(*(f"{top}/{prefix}" for prefix in below for top in ("keys", "runs")))
        view = replace(
            self._view(found, there),
            erased=erased,
            pruned=frozenset(() if self._options.restore else stubs),
            marks=frozenset().union(*(self._catalog.marks(f"runs/{one}") for one in below)),
        )
        part.items = found.items
        part.lacking = self._lacks(view, erased)
        part.gone = _gone(there, erased)
        self._lacking |= part.lacking
        self._incomplete = self._incomplete or bool(found.damaged)
        return self._part(part, view, found)

    def relook(self, part: Part) -> None:
        """Read once more what has arrived or gone, so that the catalog knows what it refers to."""
        subjects = {parse_name(step.name).subject for step in part.steps} - {""}
        seen = local.look(self._paths, [f"runs/{one}" for one in sorted(subjects)])
        known: dict[str, FileFacts] = {}
        for one in subjects:
            known |= self._catalog.files(f"runs/{one}/")
        found = local.read_inventory(self._paths, seen, self._catalog, known)
        stubs = [n for one in subjects for n in self._pruned_logs().get(one[:2], ()) if one in n]
        self._note_absent(found, known, stubs)
        arrived = {
            name
            for name in part.lacking & found.items.keys()
            if found.items[name].size >= self._catalog.there_of(name).size
        }
        part.lacking -= arrived
        self._lacking -= arrived

    @property
    def complete(self) -> bool:
        """Whether all logs of living subjects that the remote has are here, and can be read."""
        return not self._lacking and not self._incomplete

    def objects(self, needs: Needs, *, only: Collection[str] | None = None) -> Iterator[Part]:
        """Objects by the first byte of their ids; with `only` those of these ids, remembered as
        nothing."""
        may_free = needs.may_free and self.complete and only is None
        ground = f"{needs.print} {may_free}"
        chosen = _by_first(only) if only is not None else None
        if chosen is not None:
            firsts = set(chosen)
        else:
            mine = local.names_in(self._paths.objects)
            firsts = self._catalog.first_bytes("objects/") | set(filter(_HEX.fullmatch, mine))
        settled = self._settled()
        for first in sorted(firsts):
            ids = chosen[first] if chosen is not None else None
            part = self._objects(first, needs, ids, may_free, ground, settled)
            if part is not None:
                yield part

    def _objects(
        self,
        first: str,
        needs: Needs,
        only: Collection[str] | None,
        may_free: bool,
        ground: str,
        settled: Mapping[str, PartFacts],
    ) -> Part | None:
        folder = f"objects/{first}"
        names = local.names_in(self._paths.root / folder) if only is None else only
        mine = {
            f"{folder}/{name}"
            for name in names
            if _OBJECT.fullmatch(name) and name.startswith(first)
        }
        wanted = sorted(mine)
        if only is not None:
            mine = {name for name in wanted if self._paths.file(name).is_file()}
        stubs = {f"{folder}/{one}" for one in pruned.object_stubs(self._paths, first)}
        part = Part("" if only is not None else folder)
        part.print = local.print_of((), ground, sorted(mine), sorted(stubs))
        if self._is_settled(part, settled):
            return None
        there = self.there(*([f"{folder}/"] if only is None else wanted))
        # Objects never change: what was acknowledged whole and is listed so is in step.
        quiet = {
            name for name, facts in there.items() if 0 <= facts.size == facts.acked and name in mine
        }
        listed = {name for name, facts in there.items() if facts.size >= 0}
        nothing_to_ask = mine == quiet == listed and not may_free
        needed = PartNeeds() if nothing_to_ask else needs.of(first)
        condemned = {f"{folder}/{one}" for one in needed.gone} if may_free else set()
        quiet -= condemned
        found = self._read_objects(mine - quiet)
        view = self._view(found, {n: facts for n, facts in there.items() if n not in quiet})
        part.items, part.referrers = found.items, needed.living
        view = replace(
            view,
            decide=partial(part.decide, decider=self._gate.decider(self._paths)),
            wanted=frozenset(f"{folder}/{one}" for one in needed.living),
            pruned=frozenset(() if self._options.restore else stubs - mine),
            condemned=frozenset(condemned),
        )
        return self._part(part, view, found)

    def _read_objects(self, names: Collection[str]) -> Inventory:
        found = Inventory()
        for name in sorted(names):
            try:
                found.items[name] = local.read_object(self._paths, name)
            except Damaged as problem:
                found.damaged[name] = problem.at(name)
            except FileNotFoundError:
                continue
        return found

    # -------------------------------------------------------------- what all parts share
    def _settled(self) -> Mapping[str, PartFacts]:
        """A dry run says every step, so it passes over nothing; nor does who takes back."""
        whole = self._options.dry_run or self._options.restore
        return {} if whole else self._catalog.parts()

    def _is_settled(self, part: Part, settled: Mapping[str, PartFacts]) -> bool:
        facts = settled.get(part.name)
        if facts is None or facts.print != part.print:
            return False
        stand = still_held(facts.held, self._gate.decider(self._paths))
        if stand is None:
            return False
        self.stand.add(stand)
        self._incomplete = self._incomplete or not facts.complete
        return True

    def _view(self, found: Inventory, there: Mapping[str, There]) -> View:
        return View(
            local=found.items,
            remote={name: facts.size for name, facts in there.items() if facts.size >= 0},
            decide=self._gate.decider(self._paths).item,
            tails=found.tails,
            damaged=frozenset(found.damaged),
            cursors={name: facts.acked for name, facts in there.items() if facts.acked},
        )

    def _part(self, part: Part, view: View, found: Inventory) -> Part:
        part.clean = not found.damaged
        for name, problem in found.damaged.items():
            if not view.is_erased(parse_name(name)):
                self._report.damaged.append(Note(name, problem.problem, problem.offset))
        before = self._report.errors.total
        if self._witness is not None:
            questions = plan.questions(view)
            if questions:
                self._catalog.save()  # it may take long
            evidence = self._witness.compare(questions, view, self._report.errors)
            view = replace(view, evidence=evidence, marks=self._marked(view, self._witness))
        options = self._options
        part.steps = plan.one_way(plan.plan(view), push=options.push, pull=options.pull)
        part.clean = part.clean and self._report.errors.total == before
        self._catalog.save_some()
        return part

    def _marked(self, view: View, witness: Witness) -> frozenset[str]:
        """Forks that need no copy, with those that a look at both sides finds now."""
        there, here = plan.fork_questions(view)
        found = set(view.marks)
        for file in there:
            log = view.local[log_name(file.subject, file.segment)]
            size = view.remote[file.name]
            self._mark(file.name, partial(witness.inside_ours, file, size, log), found)
        for item in here:
            self._mark(item.name, partial(witness.inside_theirs, item), found)
        return frozenset(found)

    def _mark(self, fork: str, is_inside: Callable[[], bool], found: set[str]) -> None:
        try:
            if is_inside():
                self._catalog.remember_mark(fork)
                found.add(fork)
        except Unreachable:
            raise
        except (LocalStoreError, OSError) as problem:
            self._report.errors.append(Note(fork, f"cannot be compared: {problem}"))

    # -------------------------------------------------------------- logs that are not here
    def _pruned_logs(self) -> dict[str, list[str]]:
        """Names of logs that left this home on purpose, by the first byte of their subjects."""
        if self._pruned is None:
            self._pruned = {}
            for name in sorted(pruned.pruned_logs(self._paths)):
                self._pruned.setdefault(parse_name(name).subject[:2], []).append(name)
        return self._pruned

    def _note_absent(
        self, found: Inventory, known: Mapping[str, FileFacts], stubs: Iterable[str]
    ) -> None:
        """Of logs that are not here, those that were pruned still need what they name."""
        here = found.items.keys() | found.damaged.keys()
        for name in set(stubs) - here:
            self._note_pruned(name, known.get(name))
        for name in known.keys() - here - set(stubs):
            if known[name].here:
                self._catalog.set_here(name, here=False)

    def _note_pruned(self, name: str, facts: FileFacts | None) -> None:
        file = parse_name(name)
        try:
            stub = pruned.read_stub(self._paths, file.subject, file.segment)
        except Damaged as problem:
            self._report.damaged.append(Note(name, problem.problem))
            return
        if stub is None or (facts is not None and facts.here and facts.end >= stub.size):
            return
        tag = facts.policy_tag if facts is not None else _UNKNOWN_TAG
        new = FileFacts(stub.size, 0, stub.data_class, tag, stub.size)
        self._catalog.remember_file(name, new, stub.refs)
        if facts is not None:
            self._catalog.set_here(name, here=True)

    def _lacks(self, view: View, erased: frozenset[str]) -> set[str]:
        """Logs that live and are longer on the remote than here, or than they were when they were
        pruned."""
        out = set()
        for name, size in view.remote.items():
            if not name.endswith(".log") or parse_name(name).subject in erased:
                continue
            mine = view.local.get(name)
            have = mine.size if mine is not None else -1
            if mine is None and name in view.pruned:
                have = self._pruned_size(name)
            if have < size:
                out.add(name)
        return out

    def _pruned_size(self, name: str) -> int:
        file = parse_name(name)
        try:
            stub = pruned.read_stub(self._paths, file.subject, file.segment)
        except Damaged:
            return -1
        return stub.size if stub is not None else -1


def _gone(there: Mapping[str, There], erased: frozenset[str]) -> list[str]:
    return [
        name
        for name, facts in there.items()
        if facts.acked and facts.size == ABSENT and parse_name(name).subject in erased
    ]


def _by_first(names: Iterable[str]) -> dict[str, list[str]]:
    out: dict[str, set[str]] = {}
    for name in names:
        out.setdefault(name[:2], set()).add(name)
    return {first: sorted(some) for first, some in out.items()}
