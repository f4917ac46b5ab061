"""`run.watch_dir`: a thread of the run's process that takes files which have come to rest.

It only looks; reading and sealing are jobs of the run's background. What goes wrong becomes a
warning and a counted gap; nothing of it reaches training.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final

from localstore import crypto
from localstore.artifacts.background import FAILURES
from localstore.errors import StoreError
from localstore.format import spec
from localstore.format.spec import RecordKind
from localstore.identity import now_us
from localstore.sdk.artifact import Artifact
from localstore.watching.folder import BACK, WatchedFolder
from localstore.watching.watches import Watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from localstore.artifacts.background import Background, Job
    from localstore.artifacts.model import Version
    from localstore.artifacts.run import RunContext
    from localstore.watching.folder import Work
    from localstore.watching.looking import Candidate
    from localstore.watching.taking import Result

_MOST_SETTLE_AT_END_S: Final = 2.0
_LAST_LOOKS_S: Final = 0.1
_JOIN_S: Final = 0.05


def watch_of(context: RunContext, **values: Any) -> Watch:
    """The watch of a call; its id is the same when the run is resumed.

    Raises:
        UsageError: a value breaks the rules.
    """
    project = context.project
    parts = (context.run_id, values["folder"], values["pattern"], values["name"])
    raw = "\0".join(parts).encode("utf-8", "surrogateescape")
    found = crypto.keyed_digest(project.identity.home_key, spec.LABEL_NAME, raw, size=8)
    return Watch(
        id=found.hex(),
        project=project.name,
        entity=project.entity,
        run=context.run_id,
        **values,
    )


class RunFolder:
    """A folder that a run watches, from the call to the end of the run."""

    def __init__(self, context: RunContext, watch: Watch, warn: Callable[[str], None]) -> None:
        """Start looking.

        Raises:
            RuntimeError: no thread can be started.
        """
        self._context, self._warn = context, warn
        self._folder = WatchedFolder(
            watch,
            lambda: (context.project, context.options),
            tell=self._tell,
            carry_out=self._carry_out,
            made=self._made,
        )
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="localstore-watch", daemon=True)
        self._thread.start()

    # -------------------------------------------------------------- in the thread
    def _run(self) -> None:
        while not self._ending.is_set():
            self._round()
            self._ending.wait(self._folder.due_in_s(hints=False))
        self._last_rounds()

    def _round(self) -> None:
        try:
            self._folder.round()
        except FAILURES as error:
            self._tell("a round failed", repr(error))

    def _last_rounds(self) -> None:
        """The last checkpoint was written a moment ago: give it the time to come to rest."""
        self._folder.hurry(_MOST_SETTLE_AT_END_S)
        deadline = time.monotonic() + _MOST_SETTLE_AT_END_S + 1.0
        self._round()
        while self._folder.settling and time.monotonic() < deadline:
            time.sleep(_LAST_LOOKS_S)
            self._round()
        if self._folder.waiting:
            names = ", ".join(sorted(self._folder.waiting)[:3])
            self._tell(
                "files were not at rest at the end",
                f"{len(self._folder.waiting)} not at rest at the end, not taken: {names}",
            )

    def _carry_out(self, candidate: Candidate, work: Work) -> Result:
        """Have the run's background do it, and wait for it."""
        found: list[Result] = []
        failed: list[BaseException] = []

        def do(job: Job) -> None:
            def progress(done: int, total: int) -> None:
                job.total_bytes = total
                job(done)

            try:
                found.append(work(progress))
            except FAILURES as error:
                failed.append(error)

        label = self._folder.watch.name
        self._context.background.submit(label, do, candidate.size).wait()
        if failed:
            raise failed[0]
        if not found:
            raise StoreError("the work was given up")
        return found[0]

    def _made(self, version: Version) -> None:
        context, name = self._context, self._folder.watch.name
        artifact = Artifact.of(context.project, name, version, context.options)
        context.lineage("output", artifact)

    def _tell(self, plain: str, full: str) -> None:
        self._warn(f"watch_dir(): {full}")
        if plain == BACK:
            return
        gap = [RecordKind.GAP, now_us(), 1, f"watched folder: {plain}"[:200]]
        self._context.record(gap, b"")  # names nothing that a rule could be about

    # -------------------------------------------------------------- in the caller's thread
    def stop(self, wait_for: Callable[[Background], object]) -> None:
        """Take what is at rest, and end.

        Args:
            wait_for: waits for the background, and shows how far it is.
        """
        self._ending.set()
        while self._thread.is_alive():
            wait_for(self._context.background)
            self._thread.join(_JOIN_S)
