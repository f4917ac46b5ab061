"""One project and one remote: gather, decide, act, in the three phases of a sync."""

from __future__ import annotations

from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Final

from localstore import trust
from localstore.errors import Damaged, LocalStoreError, RemoteError
from localstore.format.spec import DataClass
from localstore.layout import FORMAT_FILE
from localstore.store.gc import GRACE_S, collect
from localstored import plan
from localstored.crew import LOOK_S, carry_out
from localstored.gate import Permit
from localstored.gathering import Gatherer, Part
from localstored.genuine import SeenLinks, formats_agree
from localstored.incoming import Incoming
from localstored.listing import listed
from localstored.needs import Needs
from localstored.place import file_system_of, is_network, read_mounts
from localstored.progress import Progress
from localstored.receipts import BATCH_LINES, EMPTY_SHA256, Line, ReceiptFile
from localstored.report import Note, Stand
from localstored.session import LINKS
from localstored.stamps import DAY_US, Stamps
from localstored.transfer import Carrier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from localstore.layout import ProjectPaths
    from localstored.catalog import Catalog
    from localstored.gate import Gate
    from localstored.plan import Step
    from localstored.remotes.base import Remote
    from localstored.report import Notes, ProjectReport
    from localstored.session import Options, Session
    from localstored.transfer import Outcome

_BATCH_STEPS: Final = 2000  # so many are ordered, small ones first, and carried out at once
_BATCH_BYTES: Final = 16 << 20  # a kill costs the receipts of so much, or of BATCH_LINES files
_TRIES: Final = 3
_REST_US: Final = 3600 * 1_000_000  # what failed so often is left alone for so long
_URGENT_US: Final = int(LOOK_S * 1e6)


class ProjectSync:
    """Brings one project here and on one remote to hold the same.

    Args:
        replica: the id of this home.
        elsewhere: syncs subjects of other projects that have become urgent.
    """

    def __init__(
        self,
        paths: ProjectPaths,
        remote: Remote,
        catalog: Catalog,
        gate: Gate,
        report: ProjectReport,
        options: Options,
        session: Session,
        replica: str,
        elsewhere: Callable[[Mapping[str, frozenset[str]]], None] = lambda _: None,
    ) -> None:
        self._paths, self._remote, self._gate = paths, remote, gate
        self._report, self._options, self._session = report, options, session
        self._elsewhere = elsewhere
        self._receipts = ReceiptFile.of(paths, remote.id)
        self._catalog = catalog
        self._stamps = Stamps(paths.id, replica, remote, self._catalog, session, options)
        self._gatherer = Gatherer(paths, remote, self._catalog, gate, report, options)
        self._carrier = Carrier(paths, remote, options.clock)
        most = min(filter(None, (remote.capabilities.max_parallel, self._most_parallel())))
        self._width = session.width(remote.id, most)
        self._lines: list[Line] = []
        self._unwritten_bytes = 0
        self._failed: set[str] = set()
        self._unneeded: set[str] = set()
        self._urged: set[str] = set()
        self._full = False
        self._failures = self._catalog.failures()
        self._asked_us = self._saved_us = options.clock()
        self._erased: frozenset[str] | None = frozenset()
        self._state: trust.ProjectState | None = None

    def _most_parallel(self) -> int | None:
        return self._gate.book.limits(self._report.remote).max_parallel

    def close(self) -> None:
        """Let the catalog go."""
        self._catalog.close()

    # -------------------------------------------------------------- a whole project
    def run(self, strange: Notes) -> None:
        """Trust, then runs, then objects; failures stand in the report.

        Args:
            strange: takes what the remote lists that cannot be a file.

        Raises:
            Unreachable: the remote is gone. Stopped: the caller asked.
        """
        if not self._options.dry_run:
            Incoming(self._paths, self._remote).sweep()
        self._catalog.catch_up(self._receipts)
        self._know_remote(strange)
        if not self._formats_agree():
            return
        self._sync_everything()
        self._catch_up_with_urgent()
        self._report.standing.add(self._gatherer.stand)

    def _sync_everything(self) -> None:
        self._report.standing, self._gatherer.stand = Stand(), Stand()
        self._sync_trust()
        if self._erased is not None:
            self._phase("runs", self._gatherer.runs(self._erased))
            self._phase("objects", self._gatherer.objects(self._needs()))

    def _catch_up_with_urgent(self) -> None:
        """Of what has become urgent meanwhile only the frames have gone."""
        while self._urged:
            urged, self._urged = frozenset(self._urged), set()
            if LINKS in urged:
                self._sync_everything()
            else:
                self._sync_objects_of(urged)

    def _sync_objects_of(self, subjects: frozenset[str]) -> None:
        ids = set().union(*(self._catalog.objects_of(subject) for subject in subjects))
        if ids:
            self._phase("objects", self._gatherer.objects(self._needs(), only=ids))

    def _know_remote(self, strange: Notes) -> None:
        """By its stamps where they say that nothing changed, else by a full listing."""
        stamps = self._stamps.listed() if self._options.stamps else frozenset()
        if self._options.stamps and self._stamps.agree(stamps):
            return
        now_us = self._options.clock()
        files = listed(self._remote, self._paths.id, "", strange)
        self._catalog.replace_listing(files, now_us)
        self._stamps.remember(stamps)

    def _formats_agree(self) -> bool:
        there = self._gatherer.there(FORMAT_FILE)
        facts = there.get(FORMAT_FILE, self._catalog.there_of(FORMAT_FILE))
        return formats_agree(self._paths, self._remote, facts, self._report)

    def _sync_trust(self) -> None:
        seen = SeenLinks(self._paths, self._remote.id, self._report)
        self._report.lost = seen.lost(self._catalog)
        self._phase("trust", [self._gatherer.trust()])
        if not self._options.dry_run:
            seen.remember(self._catalog)
        self._erased = self._read_erased()

    def _read_erased(self) -> frozenset[str] | None:
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

    def _needs(self) -> Needs:
        erased = self._erased or frozenset()
        return Needs(self._paths, self._catalog, self._state, erased, self._options.clock())

    # -------------------------------------------------------------- some subjects
    def run_scope(self, subjects: frozenset[str], strange: Notes) -> None:
        """Sync some subjects, as the remote is remembered, and what they refer to.

        Raises:
            Unreachable: the remote is gone. Stopped: the caller asked.
        """
        if not self._is_remembered() or not self._options.stamps:
            self.run(strange)
            return
        self._catalog.catch_up(self._receipts)
        if LINKS in subjects:
            self._sync_trust()
        else:
            self._erased = self._read_erased()
        if self._erased is None:
            return
        chosen = subjects - {LINKS}
        self._phase("runs", [self._gatherer.subjects(chosen, self._erased)])
        self._sync_objects_of(chosen)
        self._catch_up_with_urgent()

    def _is_remembered(self) -> bool:
        age_us = self._options.clock() - self._catalog.listed_us
        return self._catalog.there_of(FORMAT_FILE).acked > 0 and 0 <= age_us < DAY_US

    def _push_urgent(self, subjects: frozenset[str]) -> None:
        """Let the new frames of some subjects leave now, one after the other, in this thread."""
        if self._erased is None:
            return
        part = self._gatherer.subjects(subjects - {LINKS}, self._erased)
        steps = [step for step in part.steps if plan.pushes(step)]
        progress = Progress("runs", self._report, self._options)
        progress.plan(steps)
        if steps:
            self._stamps.open()
        for task in self._tasks(steps, {step.name: part for step in steps}):
            self._done(task(), progress)
        self.flush()

    # -------------------------------------------------------------- one phase
    def _phase(self, phase: str, parts: Iterable[Part]) -> None:
        batch, planned = list[Part](), 0
        progress = Progress(phase, self._report, self._options)
        for part in parts:
            batch.append(part)
            planned += len(part.steps)
            self._gate.look()
            if planned >= _BATCH_STEPS:
                self._act(batch, progress)
                batch, planned = [], 0
        self._act(batch, progress)

    def _act(self, batch: list[Part], progress: Progress) -> None:
        steps = plan.in_order(step for part in batch for step in part.steps)
        if self._options.dry_run:
            self._tell(steps, batch)
            return
        owners = {step.name: part for part in batch for step in part.steps}
        progress.plan(steps)
        self._catalog.save()  # what follows may take long
        try:
            if any(map(plan.changes_remote, steps)):
                self._stamps.open()
            for _, stage in groupby(steps, plan.stage):
                self._carry_out(list(stage), owners, progress)
            self._free_objects()
        except Exception:
            self.flush()  # what was acknowledged is so whatever comes
            raise
        for part in batch:
            self._finish(part)
        self.flush()

    def _carry_out(self, steps: list[Step], owners: Mapping[str, Part], progress: Progress) -> None:
        crew = self._options.crew(self._width.most)
        try:
            carry_out(
                self._tasks(steps, owners),
                crew,
                self._width,
                partial(self._done, progress=progress),
                self._between,
            )
        finally:
            crew.close()

    def _tasks(
        self, steps: Iterable[Step], owners: Mapping[str, Part]
    ) -> Iterator[Callable[[], Outcome]]:
        for step in steps:
            reason = self._reason_to_wait(step)
            if reason:
                self._failed.add(step.name)
                self._report.errors.append(Note(step.name, reason))
            else:
                check = self._permit(step, owners[step.name])
                yield partial(self._carrier.carry_out, step, check)

    def _reason_to_wait(self, step: Step) -> str:
        if self._full and plan.pushes(step):
            return "the remote takes no more"
        count, last_us = self._failures.get(step.name, (0, 0))
        rests = 0 <= self._options.clock() - last_us < _REST_US
        if count >= _TRIES and rests and not self._options.manual:
            return f"failed {count} times in a row; left alone for an hour"
        return ""

    def _permit(self, step: Step, part: Part) -> Callable[[], None]:
        item = part.items.get(step.name)
        if item is None or not plan.pushes(step):
            return self._gate.look
        return Permit(self._gate, self._paths, partial(part.decide, item)).check

    def _between(self) -> None:
        """What is urgent goes before what is large."""
        self._gate.look()
        now_us = self._options.clock()
        if abs(now_us - self._saved_us) >= _URGENT_US:
            self._saved_us = now_us
            self._catalog.save()  # who else wants it does not wait for as long as transfers take
        if self._options.urgent is None or abs(now_us - self._asked_us) < _URGENT_US:
            return
        self._asked_us = now_us
        urgent = dict(self._options.urgent())
        own = urgent.pop(self._paths.id, frozenset())
        if own:
            self._urged |= own
            self._push_urgent(own)
        if urgent:
            self._elsewhere(urgent)

    # -------------------------------------------------------------- what was done
    def _done(self, out: Outcome, progress: Progress) -> None:
        """Write down what a step did.

        Raises:
            Unreachable, Stopped: as the step says.
        """
        report, name = self._report, out.step.name
        for count in ("pushed", "pushed_bytes", "pulled", "pulled_bytes", "erased"):
            setattr(report, count, getattr(report, count) + getattr(out, count))
        for where, note in out.notes:
            getattr(report, where).append(note)
        for changed, size in out.sizes.items():
            self._catalog.set_size(changed, size)
        if out.unneeded:
            self._unneeded.add(out.unneeded)
        self._full = self._full or out.full
        self._judge(out)
        self._note_receipts(out.lines, out.pushed_bytes + out.pulled_bytes)
        progress.done(out.step)
        if out.ended is not None:
            raise out.ended
        if not out.failed and name in self._failures:
            del self._failures[name]
            self._catalog.forget_failure(name)

    def _judge(self, out: Outcome) -> None:
        if out.failed:
            self._failed.add(out.step.name)
        if out.busy or isinstance(out.ended, RemoteError):
            self._width.complained()
        elif plan.weight(out.step):
            self._width.went_well()
        held = any(where == "held" for where, _ in out.notes)
        if out.failed and out.ended is None and not out.full and not held:
            count, _ = self._failures.get(out.step.name, (0, 0))
            self._failures[out.step.name] = (count + 1, self._options.clock())
            self._catalog.remember_failure(out.step.name, self._options.clock())

    def _finish(self, part: Part) -> None:
        """Remember a part with which nothing is left to do; read once more what has changed."""
        for name in part.gone:
            self._note_receipts([Line(name, 0, EMPTY_SHA256, self._options.clock())], 0)
        stand = self._report.standing
        moved = False
        for step in part.steps:
            if isinstance(step, plan.Hold):
                stand.hold(step.reason, 1, step.size)
            elif step.name in self._failed and plan.pushes(step):
                stand.behind.add(1, plan.weight(step))
            moved = moved or isinstance(step, _CHANGES_HERE)
        if moved and part.referrers is None:
            self._gatherer.relook(part)
        failed = any(step.name in self._failed for step in part.steps)
        if not part.name:
            return
        if part.clean and not failed and not moved:
            self._catalog.settle(part.name, part.facts())
        else:
            self._catalog.unsettle(part.name)

    def _free_objects(self) -> None:
        """Free objects here beside running writers."""
        if self._unneeded and self._state is not None:
            gone, self._unneeded = frozenset(self._unneeded), set()
            # On a network file system another machine's references may be seen late.
            network = is_network(file_system_of(self._paths.root.resolve(), read_mounts()))
            grace_s, now_us = GRACE_S if network else 0.0, self._options.clock()
            try:
                found = collect(self._paths, self._state, grace_s=grace_s, only=gone, now_us=now_us)
                self._report.erased += found.freed
            except (LocalStoreError, OSError) as problem:
                self._report.errors.append(Note("objects", str(problem)))

    # -------------------------------------------------------------- receipts
    def _note_receipts(self, lines: Iterable[Line], moved_bytes: int) -> None:
        self._lines += lines
        self._unwritten_bytes += moved_bytes
        if len(self._lines) >= BATCH_LINES or self._unwritten_bytes >= _BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Make the receipts durable, then the cursors that follow from them."""
        if self._lines:
            self._receipts.append(self._lines)
            self._lines, self._unwritten_bytes = [], 0
            self._catalog.catch_up(self._receipts)
        self._catalog.save()

    def settle(self) -> None:
        """Tell the other replicas what there is now.

        Raises:
            Unreachable, RemoteError: the remote did not take it; the open stamp stays.
        """
        if self._options.dry_run or not self._options.stamps:
            return
        if not self._catalog.stamps() and self._catalog.there_of(FORMAT_FILE).size > 0:
            self._stamps.open()  # nobody has one yet: without, it is listed each time
        self._stamps.settle()

    def forget_stamp(self) -> None:
        """Leave the open stamp behind as a dead process does."""
        self._stamps.forget()

    # -------------------------------------------------------------- dry runs
    def _tell(self, steps: Iterable[Step], batch: Iterable[Part]) -> None:
        items = {name: item for part in batch for name, item in part.items.items()}
        for step in steps:
            item = items.get(step.name)
            number = item.data_class if item is not None else 0
            known = number in DataClass._value2member_map_
            word = DataClass(number).name.lower() if known else ""
            self._report.steps.append(plan.step_to_json(step, word))
            self._report.lines.append(str(step))


_CHANGES_HERE: Final = (plan.PullCreate, plan.PullAppend, plan.Fork, plan.EraseLocal)
