"""The part of a run that keeps files: media, saved files, code, artifacts.

A mixin of `Run`, apart from it because none of this is on the way of a number that is logged.
"""

from __future__ import annotations

import glob as globbing
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from localstore import settings
from localstore.errors import LocalStoreError, UsageError
from localstore.format.spec import MAX_PATH_BYTES, DataClass, RecordKind
from localstore.identity import now_us
from localstore.sdk.files import LARGE_BYTES, add_file, add_path
from localstore.sdk.values import FOREIGN_ERRORS, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from localstore.artifacts.run import RunContext
    from localstore.policy.stamps import Stamps
    from localstore.project import Project
    from localstore.sdk.artifact import Artifact
    from localstore.sdk.watching import RunFolder
    from localstore.settings import Settings
    from localstore.writer import Writer

POLICIES: Final = ("live", "now", "end")
_FAILURES: Final = (LocalStoreError, *FOREIGN_ERRORS)


class Keeping:
    """What a run keeps beside numbers; `Run` has the attributes that are used here."""

    id: str
    _project: Project
    _writer: Writer
    _options: Settings
    _stamps: Stamps
    _subject: bytes
    _owner_pid: int
    _at_end: dict[str, tuple[Path, tuple[int, int]]]
    _on_input: Callable[[bytes], None]

    if TYPE_CHECKING:

        def _warn(self, message: str) -> None: ...
        def _warn_once(self, key: str, message: str) -> None: ...
        def _may_record(self, what: str) -> bool: ...

    @cached_property
    def _artifacts(self) -> RunContext:
        """What works in the background; made at first use."""
        from localstore.artifacts.run import RunContext

        return RunContext(
            self._project, self.id, self._record_lineage, self._warn, self._options, self._stamps
        )

    def _wait_for_files(self, *, quiet: bool) -> None:
        """Before the end: everything that was handed over becomes durable."""
        if "_artifacts" in vars(self):
            from localstore.sdk.run import say
            from localstore.sdk.waiting import wait_for

            speak = None if quiet else say
            for folder in vars(self).pop("_folders", ()):
                folder.stop(lambda background: wait_for(background, speak))
            background = self._artifacts.background
            wait_for(background, speak)
            background.close()

    # -------------------------------------------------------------- media
    def _store_media(self, data: dict[str, Any], step: int) -> dict[str, Any]:
        """The same values with media in their files, and in their place what stands in a point."""
        from localstore.media.logging import Limits, collect, contains_media

        options = self._options
        limits = Limits(
            max_items=options.media_max_items, max_bytes=int(options.media_max_mb * (1 << 20))
        )
        out = {}
        for key, value in data.items():
            if not contains_media(value):
                out[key] = value
                continue
            try:
                record, files = collect(key, step, value, limits=limits, warn=self._left_out)
                for file in files:
                    self._keep(DataClass.MEDIA, file.path, file.content, file.facts)
                out[key] = plain(record)
            except _FAILURES as error:
                self._left_out(f"{key!r} is not recorded: {error}", 1)
        return out

    def _left_out(self, message: str, count: int) -> None:
        self._warn_once(message, message)
        with self._writer.lock:
            self._writer.stream(DataClass.MEDIA).drop("media not taken", count)

    def _keep(
        self, data_class: DataClass, path: str, content: bytes | Path, facts: dict[str, Any]
    ) -> None:
        if isinstance(content, Path):
            add_path(self._project, self._writer, data_class, path, content, facts)
        else:
            add_file(self._project, self._writer, data_class, path, content, facts)

    # -------------------------------------------------------------- files
    def save(
        self, glob_str: str | Path, base_path: str | Path | None = None, policy: str = "live"
    ) -> list[str]:
        """Keep files with the run.

        Args:
            glob_str: a path or a pattern such as `checkpoints/*.pt`.
            base_path: paths are kept relative to it; default the working folder, or the file's
                own folder when it lies elsewhere.
            policy: `now`, `end` (when the run finishes), or `live`: now, and again at the end if
                the file has changed.

        Returns:
            The paths under which they are kept, for `restore`. Large files are read in the
            background; `finish` waits for them.

        Raises:
            UsageError: an unknown policy.
        """
        if policy not in POLICIES:
            raise UsageError(f"policy is {policy!r}, want one of {', '.join(POLICIES)}")
        if not self._may_record("save()"):
            return []
        found = globbing.glob(str(glob_str), recursive=True)  # noqa: PTH207 - may be absolute
        files = [path for path in map(Path, sorted(found)) if path.is_file()]
        if not files and policy != "end":
            self._warn(f"save(): no file fits {str(glob_str)!r}")
        kept = []
        for path in files:
            name = _kept_name(path, base_path)
            if len(name.encode("utf-8", "replace")) > MAX_PATH_BYTES:
                self._warn(f"save(): {name[:80]!r} … is too long a path; not kept")
                continue
            kept.append(name)
            if policy != "now":
                self._at_end[name] = (path, (-1, -1) if policy == "end" else _stamp(path))
            if policy != "end":
                self._save_one(name, path)
        return kept

    def _save_one(self, name: str, path: Path) -> None:
        try:
            size = path.stat().st_size
            if size <= LARGE_BYTES:
                self._keep(DataClass.ARTIFACTS, name, path.read_bytes(), {})
                return
        except _FAILURES as error:
            self._warn(f"save(): {path}: {_why(error)}")
            self._count_missed(name)
            return
        project, writer = self._project, self._writer

        def work(done: Callable[[int], None]) -> None:
            add_path(project, writer, DataClass.ARTIFACTS, name, path)
            done(size)

        self._artifacts.background.submit(name, work, size)

    def _count_missed(self, name: str) -> None:
        with self._writer.lock:
            self._writer.stream(DataClass.META).drop(f"file not saved: {name}"[:200])

    def _save_at_end(self) -> None:
        """The files that were to be kept when the run ends, as they are now."""
        for name, (path, before) in self._at_end.items():
            if path.is_file() and _stamp(path) != before:
                self._save_one(name, path)
        self._at_end.clear()

    def restore(
        self,
        name: str,
        run_path: str | None = None,
        replace: bool = False,
        root: str | Path | None = None,
    ) -> Path:
        """Write a file that a run keeps to disk.

        Args:
            name: its path, as `save` returned it.
            run_path: `id`, `project/id` or `entity/project/id` of another run; default this one.
            replace: write over a file that is there.
            root: where; default the working folder.

        Returns:
            Path of the file.

        Raises:
            NotFound: the run keeps no such file.
            UsageError: the path leads out of `root`.
            NotPermitted: a deposit-only machine.
        """
        from localstore.query.api import Api
        from localstore.query.contents import RunContents

        if run_path is None:
            self._artifacts.background.wait()
            self._writer.flush()
            contents = RunContents(self._project, self._subject, self._options.tail_dir)
        else:
            contents = Api(self._options.home_path).run(run_path).contents
        target = settings.working_folder() if root is None else Path(root)
        return contents.write_file(contents.file(name), target, replace=replace)

    # -------------------------------------------------------------- watched folders
    @cached_property
    def _folders(self) -> list[RunFolder]:
        """The folders that this process watches for the run."""
        return []

    def watch_dir(
        self,
        path: str | Path,
        name: str | None = None,
        type: str | None = None,
        pattern: str = "*",
        keep: int | None = None,
        *,
        aliases: Sequence[str] | str | None = None,
        settle: float = 2.0,
        complete_when: str = "",
    ) -> None:
        """From now on, make versions of files that have come to rest in a folder.

        A file is taken when nobody has it open for writing and it has not changed for a while. The
        same content makes no second version. `finish` takes what is at rest by then.

        Args:
            path: the folder; it may be made later.
            name: the artifact; default from the run's id and the folder's name.
            type: its type; `model` by default.
            pattern: which files: `*.ckpt`, `**/*.pt`; `checkpoint-*/` means folders, one version
                for each.
            keep: how many versions of this call stay; older ones that nobody named are deleted.
            aliases: names of the newest version, beside `latest`.
            settle: for how long a file must stay as it is, in seconds.
            complete_when: name of a file that says that something is complete: `DONE` in a folder,
                `{name}.done` beside a file.

        Raises:
            UsageError: a wrong name, pattern or number. Whatever goes wrong later is a warning.
        """
        from localstore.artifacts.names import check_text_list
        from localstore.artifacts.run import default_name
        from localstore.sdk.watching import RunFolder, watch_of

        self._require_open("watch_dir()")
        if self._owner_pid != os.getpid():
            self._warn("watch_dir() is for the process that began the run; nothing is watched")
            return
        folder = Path(path).absolute()
        watch = watch_of(
            self._artifacts,
            folder=str(folder.resolve()),
            name=name or default_name(self.id, folder),
            type=type or "model",
            pattern=pattern,
            keep=keep,
            aliases=tuple(check_text_list("aliases", aliases)),
            settle_s=settle,
            complete_when=complete_when,
        )
        try:
            self._folders.append(RunFolder(self._artifacts, watch, self._warn))
        except RuntimeError as error:
            self._warn(f"watch_dir(): {error}; nothing is taken from {str(folder)!r}")

    # -------------------------------------------------------------- artifacts
    def log_artifact(
        self,
        artifact_or_path: Artifact | str | Path,
        name: str | None = None,
        type: str | None = None,
        aliases: Sequence[str] | str | None = None,
        tags: Sequence[str] | None = None,
    ) -> Artifact:
        """Record a version of an artifact, as made by this run. Returns at once.

        Reading, cutting and sealing happen in the background; `Artifact.wait` waits for them, and
        so does `finish`. What is the same as an earlier version becomes no new one.

        Args:
            artifact_or_path: an `Artifact`, or a file or folder.
            name: for a path; default from the run's id and the file's name.
            type: for a path; `unspecified` by default.
            aliases: names that point to this version from now on; `latest` always does.
            tags: tags of the version.

        Raises:
            UsageError: a wrong name, or nothing at that path.
        """
        from localstore.artifacts.run import log_artifact

        self._require_open("log_artifact()")
        return log_artifact(self._artifacts, artifact_or_path, name, type, aliases, tags)

    def use_artifact(self, artifact_or_name: Artifact | str, type: str | None = None) -> Artifact:
        """A version of an artifact, recorded as an input of this run.

        Args:
            artifact_or_name: `name:alias`, `name:v3`, `project/name:alias`, or an `Artifact`.
            type: what type it must have.

        Raises:
            NotFound: there is no such version.
            UsageError: it has another type.
            NotPermitted: a deposit-only machine.
        """
        from localstore.artifacts.run import use_artifact

        self._require_open("use_artifact()")
        found = use_artifact(self._artifacts, artifact_or_name, type)
        self._on_input(bytes.fromhex(found.digest))
        return found

    def log_code(
        self,
        root: str | Path = ".",
        include: Any = None,
        exclude: Any = None,
        name: str | None = None,
    ) -> Artifact | None:
        """Keep the source files below a folder, as an artifact of type `code`.

        Args:
            root: the folder.
            include, exclude: functions of a path (and the root), or lists of patterns; by default
                Python files, requirements.txt and the like.
            name: of the artifact; default from the project.

        Returns:
            The artifact; None when nothing was found, or when the settings do not allow it: it
            takes `code_saving = "all"`, which a script cannot set for itself.
        """
        from localstore.sdk.artifact import Artifact
        from localstore.surroundings.code import collect_code, mask_files

        self._require_open("log_code()")
        allowed = self._options.code_saving
        if allowed != "all":
            self._warn_once(
                "log_code",
                f'log_code() keeps nothing, as code_saving is "{allowed}"; allow it with '
                "`localstore config set code_saving all`",
            )
            return None
        problems: list[str] = []
        found = collect_code(Path(root), include, exclude, problems)
        for problem in problems:
            self._warn(problem)
        if not found:
            self._warn(f"log_code(): no source file below {str(root)!r}")
            return None
        files, masked = mask_files(found)
        artifact = Artifact(
            name or f"source-{self._project.name}", "code", metadata={"masked": plain(masked)}
        )
        for path, content in files:
            with artifact.new_file(path, "wb") as file:
                file.write(content)
        return self.log_artifact(artifact)

    def _require_open(self, what: str) -> None:
        if not self._may_record(what):
            raise UsageError(f"{what}: the run is finished", hint="call it before finish()")

    def _record_lineage(self, record: list[Any], tag: bytes) -> None:
        self._writer.append(DataClass.META, record, tag)


def start_facts(fingerprint: bytes) -> list[Any]:
    """The record by which a later start is known to be the same."""
    return [RecordKind.FACTS, now_us(), "start", {"fingerprint": fingerprint}]


def _kept_name(path: Path, base_path: str | Path | None) -> str:
    whole = path.absolute()
    for base in (base_path, settings.working_folder()):
        if base is not None and whole.is_relative_to(Path(base).absolute()):
            return whole.relative_to(Path(base).absolute()).as_posix()
    return path.name


def _stamp(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_size, facts.st_mtime_ns


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
