"""What is recorded of a run beside what its script logs: console, machine, environment, code.

Each part has its switch in the settings. Whatever fails here is warned about once and left out:
training goes on.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

from localstore import settings
from localstore.errors import LocalStoreError
from localstore.format.spec import DataClass, RecordKind
from localstore.identity import now_us
from localstore.sdk.values import FOREIGN_ERRORS, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from localstore.policy.stamps import Stamps
    from localstore.settings import Settings
    from localstore.surroundings.code import CodeCapture
    from localstore.surroundings.console import Console
    from localstore.surroundings.notebook import MainCode
    from localstore.surroundings.system import SystemSampler

_OUTPUT_PER_SECOND_BYTES: Final = 1024 * 1024
_PATIENCE_S: Final = 30.0
_MB: Final = 1 << 20


class Recorder:
    """What this module may do to a run; all of it may be called from any thread.

    Attributes:
        append: takes class, record and policy tag.
        add_file: takes class, path, content and facts.
        drop: counts what was left out, by class, reason and number.
        warn: one line to the person.
        stamps: what the rules say of it.
    """

    def __init__(
        self,
        *,
        append: Callable[[DataClass, list[Any], bytes], None],
        add_file: Callable[[DataClass, str, bytes, Mapping[str, Any]], None],
        drop: Callable[[DataClass, str, int], None],
        warn: Callable[[str], None],
        stamps: Stamps,
    ) -> None:
        self.append, self.add_file, self.drop = append, add_file, drop
        self.warn, self.stamps = warn, stamps

    def facts(self, data_class: DataClass, what: str, body: Any, tag: bytes = b"") -> None:
        """One FACTS record."""
        self.append(data_class, [RecordKind.FACTS, now_us(), what, plain(body)], tag)

    def redacted(self, what: str, count: int) -> None:
        """Count what the rules left out."""
        if count:
            self.drop(DataClass.SYSTEM, f"redacted by policy: {what}", count)


class Surroundings:
    """The parts that run beside one run in this process."""

    def __init__(
        self,
        recorder: Recorder,
        options: Settings,
        *,
        config: Mapping[str, Any],
        on_start: Callable[[bytes], None],
    ) -> None:
        """Nothing begins yet.

        Args:
            config: as it was when the run began.
            on_start: gets the fingerprint of code and config, once it is known.
        """
        self._recorder, self._options = recorder, options
        self._config, self._on_start = dict(config), on_start
        self._rank = settings.job_rank()
        self._console: Console | None = None
        self._sampler: SystemSampler | None = None
        self._look: threading.Thread | None = None
        self._samples = 0
        self._main: MainCode | None = None
        self._git: dict[str, Any] = {}  # what was recorded of the code at the start

    # -------------------------------------------------------------- begin, end
    def start(self) -> None:
        """Begin with all that is switched on; never raises."""
        options = self._options
        one_of_node = self._rank.local_rank == 0 or options.every_rank
        if options.console and one_of_node:
            self._guarded("console", self._start_console)
        if options.system_metrics and one_of_node:
            self._guarded("system metrics", self._start_sampler)
        if self._saves_code:
            # Here, not in the thread: a script that has run to its end has no name any more.
            self._guarded("main script", self._find_main)
        if one_of_node:
            thread = threading.Thread(target=self._look_around, name="localstore-look", daemon=True)
            with contextlib.suppress(RuntimeError):  # no thread to be had
                thread.start()
                self._look = thread

    def stop(self) -> None:
        """End all parts, and wait for what is under way; never raises."""
        if self._console is not None:
            self._console.stop()
        if self._sampler is not None:
            self._sampler.stop()
        if self._look is not None:
            self._look.join(_PATIENCE_S)
        self._console = self._sampler = self._look = None
        if "main" in self._git:
            self._guarded("notebook", self._record_notebook)

    def after_fork(self) -> None:
        """In a forked child: these are the parent's."""
        for part in (self._console, self._sampler):
            if part is not None:
                part.after_fork()
        self._console = self._sampler = self._look = None

    def _guarded(self, what: str, act: Callable[[], None]) -> None:
        try:
            act()
        except (LocalStoreError, ImportError, *FOREIGN_ERRORS) as error:
            self._recorder.warn(f"{what} not recorded: {type(error).__name__}: {error}")

    # -------------------------------------------------------------- console
    def _start_console(self) -> None:
        from localstore.surroundings.console import Console

        recorder = self._recorder

        def take(stream: int, text: str) -> None:
            recorder.append(DataClass.CONSOLE, [RecordKind.OUTPUT, now_us(), stream, text], b"")

        self._console = Console(
            take,
            max_bytes_per_s=_OUTPUT_PER_SECOND_BYTES,
            max_total_bytes=int(self._options.console_max_mb * _MB),
            on_dropped=lambda count: recorder.drop(
                DataClass.CONSOLE, "bytes of output over the limits", count
            ),
        )
        self._console.start()

    # -------------------------------------------------------------- the machine
    def _start_sampler(self) -> None:
        from localstore.surroundings.system import SystemSampler

        self._sampler = SystemSampler(
            self._take_sample,
            interval_s=max(self._options.system_interval_s, 0.1),
            disk_paths={"home": self._options.home_path},
        )
        self._sampler.start()

    def _take_sample(self, values: dict[str, float]) -> None:
        point = [RecordKind.POINT, now_us(), self._samples, values]
        self._samples += 1
        self._recorder.append(DataClass.SYSTEM, point, b"")

    # -------------------------------------------------------------- once, in the background
    def _look_around(self) -> None:
        cwd = settings.working_folder()
        if self._options.environment:
            self._guarded("environment", lambda: self._record_environment(cwd))
        if self._options.host_names != "off":
            self._guarded("host and user name", self._record_host)
        if self._saves_code:
            self._guarded("code", lambda: self._record_code(cwd))

    def _record_environment(self, cwd: Path) -> None:
        from localstore.surroundings import environment
        from localstore.surroundings.system import gpu_facts

        facts = environment.environment_facts(
            settings.job_variables(),
            settings.environment_variables(self._options.environment_variables),
            folder=environment.folder_in_repository(cwd),
            gpus=gpu_facts,
        )
        if self._rank.world_size > 1:
            facts["job_rank"] = [self._rank.rank, self._rank.local_rank, self._rank.world_size]
        recorder = self._recorder
        facts, removed = recorder.stamps.environment(facts)
        recorder.facts(DataClass.SYSTEM, "environment", facts, recorder.stamps.around())
        recorder.redacted("environment", removed)
        listed = [recorder.stamps.text(line) for line in environment.requirements()]
        recorder.add_file(
            DataClass.SYSTEM, "requirements.txt", environment.requirements_text(listed), {}
        )

    def _record_host(self) -> None:
        from localstore.surroundings.environment import host_facts

        stamps = self._recorder.stamps
        tag = stamps.host(share=self._options.host_names == "share")
        facts, removed = stamps.host_facts(host_facts(settings.account_name()))
        self._recorder.facts(DataClass.SYSTEM, "host", facts, tag)
        self._recorder.redacted("host and user name", removed)

    @property
    def _saves_code(self) -> bool:
        return self._rank.rank == 0 and self._options.code_saving != "off"

    def _find_main(self) -> None:
        from localstore.surroundings.notebook import find_main

        self._main = find_main()

    def _record_code(self, cwd: Path) -> None:
        from localstore.surroundings.code import capture

        level, untracked = self._options.code_saving, self._options.code_untracked
        found = capture(level, cwd=cwd, untracked=untracked, main=self._main)
        self._git = found.facts
        self._keep_code(found)
        if self._main is not None:  # nothing tells what `python -c` or a bare prompt runs
            self._compare_code(cwd, self._main)

    def _compare_code(self, cwd: Path, main: MainCode) -> None:
        """What is compared with earlier runs is more than what may be kept, and only its hash."""
        from localstore.reproduce.fingerprint import start_fingerprint
        from localstore.surroundings.code import capture_to_compare

        whole = capture_to_compare(cwd, main)
        if whole.problems:  # some of it was not read: it may differ
            return
        arguments, _ = self._recorder.stamps.arguments(sys.argv[1:])
        fingerprint = start_fingerprint(whole.facts, whole.files, self._config, arguments=arguments)
        if fingerprint:
            self._on_start(fingerprint)

    def _record_notebook(self) -> None:
        """Most cells of a notebook are executed after the run's start."""
        from localstore.surroundings.code import notebook_at_end
        from localstore.surroundings.notebook import find_main

        self._keep_code(notebook_at_end(find_main(), self._git))

    def _keep_code(self, found: CodeCapture) -> None:
        if found.facts:
            self._recorder.facts(DataClass.CODE, "git", found.facts)
        for path, content in found.files:
            self._recorder.add_file(DataClass.CODE, path, content, {})
        for problem in found.problems:
            self._recorder.warn(problem)
        if found.masked:
            where = sorted({f"{one['file']}:{one['line']} ({one['kind']})" for one in found.masked})
            shown = ", ".join(where[:5]) + (f" and {len(where) - 5} more" if where[5:] else "")
            self._recorder.warn(f"masked in the saved code, as they look like secrets: {shown}")
