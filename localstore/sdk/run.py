"""A run in the process that makes it."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import time
from typing import TYPE_CHECKING, Any, Final, Self

from localstore.appending import SegmentPlan
from localstore.format.records import decode_record
from localstore.format.segment import NOTHING_SUPERSEDED
from localstore.format.spec import BLOCK_RECORDS, MAX_KEY_CHARS, DataClass, RecordKind
from localstore.identity import now_us
from localstore.policy.stamps import Stamps
from localstore.sdk import lifecycle, liveness
from localstore.sdk.files import add_file, move_contents
from localstore.sdk.keeping import Keeping, start_facts
from localstore.sdk.mappings import Config, Summary
from localstore.sdk.repeats import Repeats
from localstore.sdk.summary import SummaryFold, check_definition
from localstore.sdk.surroundings import Recorder, Surroundings
from localstore.sdk.values import (
    FOREIGN_ERRORS,
    MediaInside,
    encode,
    encode_any,
    plain,
    text_key,
)
from localstore.stream import MAX_RECORD_BYTES
from localstore.tails import tail_folder
from localstore.writer import MAX_BACKLOG_RECORDS, PLENTY_BYTES, Writer

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from types import TracebackType

    from localstore.format.segment import Predecessor
    from localstore.project import Pair, Project
    from localstore.settings import Settings
    from localstore.writer import Lane

_POINT: Final = int(RecordKind.POINT)
_MAX_STEP: Final = 1 << 62


def say(message: str) -> None:
    """One line to the person who runs the script, if there is anywhere to say it."""
    if sys.stderr is None:
        return
    # Names and values of anybody are in it: nothing of them moves a cursor, or hides.
    inert = "".join(one if one.isprintable() or one == "\n" else "?" for one in message)
    # The log that stderr goes to may lie on the very disk that is full.
    with contextlib.suppress(OSError, ValueError):
        print(f"localstore: {inert}", file=sys.stderr, flush=True)  # noqa: T201


class Run(Keeping):
    """One run, open for writing. Made by `localstore.init`.

    `log` may be called from many threads. A forked child may go on with the same object: it
    writes segments of its own.

    Attributes:
        id, name, group, job_type, notes: text. tags: tuple of text.
        project, entity: names of where the run stands.
        config, summary: mappings that record each change at once.
        resumed: whether an earlier process made this run.
        starting_step: the step at which this process begins.
    """

    def __init__(
        self,
        *,
        project: Project,
        pair: Pair,
        run_id: str,
        info: Mapping[str, Any],
        config: Mapping[str, Any],
        options: Settings,
        starting_step: int = 0,
        supersedes: int = NOTHING_SUPERSEDED,
        predecessors: Mapping[int, tuple[Predecessor, ...]] | None = None,
        known_config: Mapping[str, Any] | None = None,
        known_summary: SummaryFold | None = None,
        allow_val_change: bool = False,
    ) -> None:
        self._project, self._pair, self._options = project, pair, options
        self.id, self.project, self.entity = run_id, project.name, project.entity
        self._info = dict(info)
        self.resumed = bool(predecessors)
        self.starting_step = starting_step
        self._subject = project.subject(run_id)
        self._predecessors = dict(predecessors or {})
        self._supersedes = supersedes
        self._step = starting_step
        self._known_keys: set[tuple[str, ...]] = set()
        self._warned: set[str] = set()
        self._fold = known_summary or SummaryFold()
        self._owner_pid = os.getpid()
        self._finished = False
        self._final_summary: dict[str, Any] = {}
        self._writer = Writer(
            self._plan,
            warn=self._warn,
            on_points=self._fold.add_points,
            heartbeat_s=options.heartbeat_s,
            keep=functools.partial(move_contents, project),
        )
        self._at_end = {}
        self._stamps = Stamps(project, self._warn)
        start = {**self._info, "id": run_id, "process": liveness.process_facts()}
        self._writer.append(DataClass.META, [RecordKind.START, now_us(), plain(start)])
        self.config = Config(
            self._record_config, dict(known_config or {}), allow_val_change=allow_val_change
        )
        self.config.update(config, allow_val_change=allow_val_change or self.resumed)
        self._repeats = Repeats(project, run_id, options, self._config_as_recorded)
        self.summary = Summary(self._record_summary, self._folded_summary)
        self._surroundings = Surroundings(
            Recorder(
                append=self._writer.append,
                add_file=functools.partial(add_file, project, self._writer),
                drop=self._drop_from,
                warn=self._warn,
                stamps=self._stamps,
            ),
            options,
            config=self._config_as_recorded(),
            on_start=self._compare_start,
        )
        lifecycle.watch(self)
        self._surroundings.start()

    # -------------------------------------------------------------- facts
    @property
    def name(self) -> str:
        """The run's name, for people."""
        return str(self._info.get("name", ""))

    @property
    def group(self) -> str:
        """The group that the run belongs to, or empty."""
        return str(self._info.get("group", ""))

    @property
    def job_type(self) -> str:
        """What kind of job this is, such as train or eval, or empty."""
        return str(self._info.get("job_type", ""))

    @property
    def notes(self) -> str:
        """Free text."""
        return str(self._info.get("notes", ""))

    @property
    def tags(self) -> tuple[str, ...]:
        """The run's tags."""
        return tuple(self._info.get("tags", ()))

    @property
    def path(self) -> str:
        """`entity/project/id`."""
        return f"{self.entity}/{self.project}/{self.id}"

    @property
    def step(self) -> int:
        """The step that the next `log` without a step gets."""
        return self._step

    @property
    def disabled(self) -> bool:
        """Whether nothing is recorded."""
        return False

    @property
    def finished(self) -> bool:
        """Whether the run has ended."""
        return self._finished

    def __repr__(self) -> str:
        return f"<Run {self.path}>"

    # -------------------------------------------------------------- recording
    def log(  # noqa: C901 - in one piece: a call costs 0.1 µs here
        self, data: dict[str, Any], step: int | None = None, commit: bool | None = None
    ) -> None:
        """Record values of one step. When this returns, a SIGKILL does not lose them.

        Args:
            data: values by name: numbers, bool, text, None, numpy, torch and jax scalars,
                `Histogram`, lists and nested dicts (which read back as `outer.inner`).
            step: at least the step of the call before; later calls for one step add to it. A step
                that goes backwards is dropped with a warning and counted.
            commit: whether the step is complete, so that the next call gets the next one. True by
                default without `step`, False with it.

        Never raises for what `data` holds: it is warned about once, counted, and training goes on.
        """
        writer = self._writer
        if writer.pid != os.getpid():
            self.after_fork()
        try:
            known = tuple(data) in self._known_keys
        except TypeError:
            known = False
        if not known and not self._learn_keys(data):
            return
        media, full, waiting = False, False, 0
        with writer.lock:
            at = before = self._step
            if step is None:
                self._step += commit is None or commit
            else:
                at = step if type(step) is int else -1
                if not self._step <= at < _MAX_STEP:
                    at = self._check_step(step)
                    if at < 0:
                        return
                self._step = at + 1 if commit else at
            stream = writer.points or self._metrics(at)
            try:
                body = encode((_POINT, time.time_ns() // 1000, at, data))
            except MediaInside:
                self._step, media, body = before, True, b""
            except FOREIGN_ERRORS:
                body = encode_any((_POINT, now_us(), at, plain(data)))
            if not media:
                if stream is None or len(body) > MAX_RECORD_BYTES:
                    self._refuse(stream)
                    return
                waiting = stream.append(body)
                full = waiting % BLOCK_RECORDS == 0 or stream.pending_bytes > PLENTY_BYTES
                if full:
                    writer.relieve(stream)
        if media:
            # Once more, with the files in their place: outside the lock, as they may be large.
            self.log(self._store_media(data, at), step, commit)
        elif full or waiting > MAX_BACKLOG_RECORDS:
            writer.wait_for_room(stream)

    def _refuse(self, stream: Any) -> None:
        """Say once why a point is not taken; the lock is held."""
        if stream is None:
            self._warn_once("finished", "log() after finish() is not recorded")
            return
        stream.drop("too large")
        limit = MAX_RECORD_BYTES >> 20
        self._warn_once("too large", f"log() takes {limit} MiB at once; dropped and counted")

    def _metrics(self, first_step: int) -> Any:
        """The stream of points; its header says from which step it replaces what it resumes.

        None when the run is finished.
        """
        if self._finished:
            return None
        goes_back = first_step < self.starting_step or not self._project.can_read
        if self.resumed and self._supersedes == NOTHING_SUPERSEDED and goes_back:
            self._supersedes = first_step
        return self._writer.stream(DataClass.METRICS)

    def _learn_keys(self, data: Any) -> bool:
        """Check a set of keys when it is seen first; False when the call is dropped."""
        if not isinstance(data, dict):
            self._drop(f"log() takes a dict, not {type(data).__name__}")
            return False
        bad = [key for key in data if type(key) is not str or len(key) > MAX_KEY_CHARS]
        if bad:
            self._drop(f"log() takes text of at most 1,024 characters as keys, not {bad[0]!r:.80}")
            return False
        if self._finished:
            self._warn_once("finished", "log() after finish() is not recorded")
            return False
        try:
            "".join(data).encode()
        except UnicodeEncodeError:
            return True  # not remembered: such keys always take the patient way
        if len(self._known_keys) < 10_000:
            self._known_keys.add(tuple(data))
        return True

    def _check_step(self, step: Any) -> int:
        """A step that is no plain int, or goes backwards: -1, and counted; the lock is held."""
        if self._finished:
            return -1
        try:
            number = int(step)
        except (TypeError, ValueError, OverflowError):
            number = -1
        if self._least_step() <= number < _MAX_STEP:
            return number
        if 0 <= number < self._step:
            what, why = "backwards step", f"step {number} is behind step {self._step}"
        else:
            what, why = "not a step", f"step {step!r:.40} is no number from 0 up"
        self._writer.stream(DataClass.META).drop(what)
        self._warn_once(what, f"{why}; such values are dropped and counted")
        return -1

    def _least_step(self) -> int:
        """A resumed run may begin again at a checkpoint: its first point may go back anywhere."""
        first = self._writer.points is None
        return 0 if first and self.resumed and self._step == self.starting_step else self._step

    def _drop(self, reason: str) -> None:
        self._warn_once(reason, f"{reason}; dropped and counted")
        if not self._finished:
            with self._writer.lock:
                self._writer.stream(DataClass.META).drop("not loggable")

    def define_metric(
        self,
        name: str,
        step_metric: str | None = None,
        step_sync: bool | None = None,
        hidden: bool | None = None,
        summary: str | None = None,
        goal: str | None = None,
        overwrite: bool | None = None,
    ) -> None:
        """Say how a metric is summed up and drawn.

        Args:
            name: a key or a glob such as `val/*`.
            step_metric: the key that is its x axis.
            summary: `min`, `max`, `mean`, `first`, `last`, `best`, `none`, several with commas.
            goal: `minimize` or `maximize`, for `best`.
            step_sync, hidden: kept for readers.
            overwrite: forget what earlier calls said of this name.

        Raises:
            UsageError: an unknown summary or goal.
        """
        body = check_definition(name, summary, goal, step_metric)
        extra = {"step_sync": step_sync, "hidden": hidden, "overwrite": overwrite}
        body |= {key: value for key, value in extra.items() if value is not None}
        self._append_meta([RecordKind.DEFINE, now_us(), text_key(name), body])
        with self._writer.lock:
            self._fold.define(name, body, overwrite=bool(overwrite))

    # -------------------------------------------------------------- recording, inside
    def _plan(self, lane: Lane, writer: bytes, failed: tuple[Predecessor, ...]) -> SegmentPlan:
        folder, (data_class, tag) = self._options.tail_dir, lane
        return SegmentPlan(
            project=self._project,
            subject=self._subject,
            pair=self._pair,
            writer=writer,
            data_class=data_class,
            policy_tag=tag or bytes(16),
            supersedes=self._supersedes if data_class == DataClass.METRICS else NOTHING_SUPERSEDED,
            predecessors=failed or (() if tag else self._predecessors.get(data_class, ())),
            tail_folder=tail_folder(folder, self._project.paths.id, self._subject),
        )

    def _may_record(self, what: str) -> bool:
        """Whether the run is open, here; a forked child gets a writer of its own first."""
        if self._finished:
            self._warn_once("finished", f"the run is finished; {what} is not recorded")
            return False
        if self._writer.pid != os.getpid():
            self.after_fork()
        return True

    def _append_meta(self, record: list[Any], tag: bytes = b"") -> None:
        if self._may_record("a later change"):
            self._writer.append(DataClass.META, record, tag)

    def _drop_from(self, data_class: DataClass, reason: str, count: int) -> None:
        with self._writer.lock:
            self._writer.stream(data_class).drop(reason, count)

    def _compare_start(self, fingerprint: bytes) -> None:
        """Record what this start is, and say whether there was such a one before."""
        self._append_meta(start_facts(fingerprint))
        self._say_repeat(self._repeats.started(fingerprint))

    def _on_input(self, digest: bytes) -> None:
        self._say_repeat(self._repeats.used(digest))

    def _say_repeat(self, earlier: str) -> None:
        if earlier and not self._options.quiet:
            say(f"run {earlier} had the same code, config and inputs")

    def _record_config(self, changed: dict[str, Any], deleted: list[str]) -> None:
        parts, removed = self._stamps.config(changed, deleted)
        # Each a little later than the one before: a value that is whole wins over its public part.
        for at, part in enumerate(parts, now_us()):
            self._append_meta([RecordKind.CONFIG, at, part.changed, part.deleted], part.tag)
        self._count_redacted("config", removed)

    def _config_as_recorded(self) -> dict[str, Any]:
        return self._stamps.recorded(self.config.as_dict())

    def _record_summary(
        self, changed: dict[str, Any], deleted: list[str], measured: Collection[str] = ()
    ) -> None:
        parts, removed = self._stamps.summary(changed, measured)
        for part in parts:
            self._append_meta([RecordKind.SUMMARY, now_us(), part.changed, []], part.tag)
        if deleted:
            self._append_meta([RecordKind.SUMMARY, now_us(), {}, deleted])
        self._count_redacted("summary", removed)

    def _count_redacted(self, what: str, count: int) -> None:
        if count and not self._finished:
            self._drop_from(DataClass.META, f"redacted by policy: {what}", count)

    def _folded_summary(self) -> dict[str, Any]:
        if self._finished:
            return self._final_summary
        with self._writer.lock:
            fold = self._fold.copy()
            stream = self._writer.points
            bodies = stream.not_yet_carried() if stream else []
        points = [decode_record(body) for body in bodies]
        fold.add_points(point for point in points if point[0] == RecordKind.POINT)
        return fold.values()

    def _warn(self, message: str) -> None:
        say(f"warning: {message}")

    def _warn_once(self, key: str, message: str) -> None:
        if key not in self._warned:
            self._warned.add(key)
            self._warn(message)

    def after_fork(self) -> None:
        """In a forked child: go on with segments of its own."""
        self._writer.after_fork()
        if "_artifacts" in vars(self):
            self._artifacts.after_fork()
        self._surroundings.after_fork()
        self._fold = SummaryFold()
        self._writer.on_points = self._fold.add_points

    # -------------------------------------------------------------- the end
    def flush(self) -> None:
        """Make everything that was logged durable now, power cut included."""
        if not self._finished:
            self._writer.flush()

    def finish(self, exit_code: int | None = None, quiet: bool | None = None) -> None:
        """End the run. Never waits for a network and never raises.

        Args:
            exit_code: 0 or None for a success, anything else for a failure.
            quiet: print nothing.
        """
        if self._finished:
            return
        lifecycle.forget(self)
        forked = self._owner_pid != os.getpid()
        if not forked:
            self._save_at_end()
            self._wait_for_files(quiet=bool(quiet or self._options.quiet))
        self._surroundings.stop()
        if not forked:
            # A forked worker's end is not the run's end.
            self._final_summary = self._folded_summary()
            if self.summary:
                whole = self.summary.as_dict()
                self._record_summary(whole, [], whole.keys() - self.summary.explicit().keys())
        with self._writer.lock:
            self._finished = True
            self._known_keys.clear()
        state = "failed" if exit_code else "finished"

        def farewell(segments: list[list[Any]]) -> list[Any]:
            return [RecordKind.STATE, now_us(), state, exit_code or 0, segments]

        lost = self._writer.close(None if forked else farewell)
        if lost:
            self._warn(f"{lost} records of run {self.name or self.id} could not be written")
        if not (quiet or self._options.quiet or forked):
            self._say_end(exit_code or 0)

    def _say_end(self, exit_code: int) -> None:
        ending = f"failed with exit code {exit_code}" if exit_code else "finished"
        say(f"run {self.name} ({self.id}) {ending}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            code = 0
        elif isinstance(error, SystemExit):
            code = lifecycle.exit_code_of(error.code)
        else:
            code = 130 if isinstance(error, KeyboardInterrupt) else 1
        self.finish(exit_code=code)

    def delete(self, *, now: bool = False) -> None:
        """Put the run into the trash, or with `now` erase it here at once.

        Raises:
            NotPermitted: a deposit-only machine.
        """
        from localstore.erase import delete_run

        self.finish(quiet=True)
        delete_run(self._project, self._subject, now=now, days=self._options.trash_days)
