"""`localstore.init`: from a few arguments to an open run, with no ceremony and no network."""

from __future__ import annotations

import inspect
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from localstore.erase import sweep
from localstore.errors import AlreadyExists, Damaged, NotFound, StoreError, UsageError
from localstore.format.segment import NOTHING_SUPERSEDED, Predecessor
from localstore.identity import now_us
from localstore.layout import HomePaths, check_label
from localstore.projects import Projects
from localstore.sdk import names
from localstore.sdk.disabled import DisabledRun
from localstore.sdk.run import Run, say
from localstore.sdk.values import config_mapping
from localstore.settings import SETTINGS, Settings, job_rank, load
from localstore.tails import bring_home, tail_folder
from localstore.vault import Vault, open_or_create

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from localstore.project import Project
    from localstore.sdk.artifact import Artifact
    from localstore.sdk.summary import SummaryFold

_RESUME_WORDS: Final = {True: "allow", False: "never", "auto": "allow"}
_current: list[Run] = []


def current() -> Run | None:
    """The run that the module-level functions speak of."""
    while _current and _current[-1].finished:
        _current.pop()
    return _current[-1] if _current else None


def init(
    project: str | None = None,
    entity: str | None = None,
    name: str | None = None,
    id: str | None = None,
    group: str | None = None,
    job_type: str | None = None,
    tags: Sequence[str] | str | None = None,
    notes: str | None = None,
    config: Any = None,
    dir: str | Path | None = None,
    mode: str | None = None,
    resume: bool | str | None = None,
    resume_from: str | None = None,
    reinit: bool | str | None = None,
    allow_val_change: bool = False,
    settings: Mapping[str, Any] | None = None,
    **more: Any,
) -> Run:
    """Start a run, or go on with one. Touches the local disk alone.

    The first call on a machine makes its keys; the first call for a project makes the project.

    Args:
        project: where the run stands; default from the settings, else `uncategorized`.
        entity: person or team; default yourself.
        name: for people; two words and a number by default.
        id: for machines; eight letters and digits by default. Processes that give the same id
            (or `LOCALSTORE_RUN_ID`) write one run together.
        group, job_type, notes: as in the table of runs.
        tags: texts, or one text with commas between.
        config: a dict, an argparse namespace, a dataclass or absl flags.
        dir: folder of the store; default `LOCALSTORE_HOME`, else the platform's data folder.
        mode: `offline`, which records, or `disabled`, which does nothing.
        resume: `allow` goes on with a run of this id if there is one, `must` insists that there
            is, `never` that there is not. True is `allow`.
        resume_from: `ID?_step=N`: go on with a run and replace what it has from step N on.
        reinit: True finishes a run that is open in this process; otherwise it is returned, with a
            warning where another was asked for.
        allow_val_change: whether `config` may change what is set.
        settings: other settings by name, such as `{"console": False}`. `code_saving` can be
            lowered here, not raised above what the person's settings allow.

    Returns:
        The open run. When the store's disk refuses, a run that records nothing, says so, and
        counts what it misses: training goes on.

    Raises:
        UsageError: an argument is wrong or unknown.
        NotFound: `resume="must"` or `resume_from` and no such run, or a deposit-only machine
            without a ticket.
        AlreadyExists: `resume="never"` and there is such a run.
        KeyUnavailable, NotPermitted: this machine's key does not open, or has a wrong mode.
    """
    if more:
        known = ", ".join(inspect.signature(init).parameters)
        raise UsageError(
            f"init() has no argument {sorted(more)[0]!r}", hint=f"it has: {known[: -len(', more')]}"
        )
    open_run = current()
    if open_run is not None:
        if not reinit:
            _say_what_goes_on(open_run, project, name, id, config)
            return open_run
        open_run.finish()
    run_id, supersedes = _resume_from(resume_from)
    options = _options(
        {
            **(settings or {}),
            "home": None if dir is None else str(dir),
            "project": project,
            "entity": entity,
            "mode": mode,
            "run_id": run_id or id,
            "run_name": name,
            "run_group": group,
            "job_type": job_type,
            "notes": notes,
            "tags": tags if tags is None or isinstance(tags, str) else tuple(tags),
            "resume": "must" if resume_from else _RESUME_WORDS.get(resume, resume),
        }
    )
    request = _Request(options, config_mapping(config), supersedes, allow_val_change)
    run = request.open()
    _current.append(run)
    return run


def _options(given: dict[str, Any]) -> Settings:
    """All settings; what a script says of its code can only lower what a person allows."""
    unknown = [name for name in given if name not in SETTINGS]
    if unknown:
        raise UsageError(
            f"there is no setting {unknown[0]!r}", hint=f"they are: {', '.join(SETTINGS)}"
        )
    script = given.pop("code_saving", None)
    options = load(given)
    if script is None:
        return options
    script = SETTINGS["code_saving"].parse(script, "the argument settings['code_saving']")
    from localstore.surroundings.code import effective_level

    level, warning = effective_level(options.code_saving, script)
    if warning:
        say(f"warning: {warning}")
    return load({**given, "code_saving": level})


def _say_what_goes_on(
    run: Run, project: str | None, name: str | None, run_id: str | None, config: Any
) -> None:
    """Warn who asked for another run than the one that is open."""
    own = ((project, run.project), (name, run.name), (run_id, run.id))
    asks = config is not None or any(asked not in (None, has) for asked, has in own)
    if asks and not run.disabled:
        say(
            f"warning: run {run.name} ({run.id}) is still open in project {run.project}, and this"
            " init() returns it as it is; finish() it first, or init(reinit=True)"
        )


def _resume_from(text: str | None) -> tuple[str, int]:
    """Run id and step of `ID?_step=N`."""
    if text is None:
        return "", NOTHING_SUPERSEDED
    run_id, mark, step = text.partition("?_step=")
    if not mark or not run_id or not step.isdigit():
        raise UsageError(f"resume_from is {text!r}, want ID?_step=N")
    return run_id, int(step)


@dataclass(frozen=True, slots=True)
class _Earlier:
    """What an earlier part of the same run left, as far as this machine can know it."""

    predecessors: Mapping[int, tuple[Predecessor, ...]]
    config: Mapping[str, Any]
    name: str = ""
    next_step: int = 0
    summary: SummaryFold | None = None
    beside: bool = False  # there are parts of the run, and this one is not their continuation


class _Request:
    """One call of `init`, on its way to a run."""

    def __init__(
        self,
        options: Settings,
        config: Mapping[str, Any],
        supersedes: int,
        allow_val_change: bool,
    ) -> None:
        self.options, self.config = options, config
        self.supersedes, self.allow_val_change = supersedes, allow_val_change
        check_label("project", options.project)
        if options.entity:
            check_label("entity", options.entity)
        self.run_id = check_label("run id", options.run_id) if options.run_id else names.run_id()
        self.home = HomePaths(options.home_path)

    def open(self) -> Run:
        if self.options.mode == "disabled":
            return DisabledRun(run_id=self.run_id, info=self._info())
        try:
            return self._open()
        except (OSError, StoreError) as error:
            if isinstance(error, Damaged):
                raise
            reason = f"{self.home.root}: {_of_the_disk(error)}"
            say(f"warning: nothing will be recorded: {reason}")
            return DisabledRun(run_id=self.run_id, info=self._info(), reason=reason)

    def _info(self, earlier: _Earlier | None = None) -> dict[str, Any]:
        options = self.options
        name = options.run_name or (earlier.name if earlier else "") or names.run_name()
        info = {
            "name": name,
            "project": options.project,
            "group": options.run_group,
            "job_type": options.job_type,
            "tags": list(options.tags),
            "notes": options.notes,
            "rerun_of": options.rerun_of,
        }
        rank = job_rank()
        if rank.world_size > 1:
            info["rank"] = [rank.rank, rank.world_size]
        return {key: value for key, value in info.items() if value}

    def _open(self) -> Run:
        identity, fresh = open_or_create(self.home, self.options)
        if fresh and not self.options.quiet:
            place = Vault(self.home).place()
            say(f"made your key in {place}; back it up: {self._command()} key recovery-code")
        bring_home(self.options.tail_dir, self.home)
        projects = Projects(self.home, identity)
        project, _ = projects.open_or_create(self.options.entity, self.options.project)
        project.ensure_cert()
        sweep(project.paths, project.state.erased(now_us()))
        subject = project.subject(self.run_id)
        earlier = self._earlier(project, subject)
        run = Run(
            project=project,
            pair=project.pair(subject),
            run_id=self.run_id,
            info=self._info(earlier),
            config=self.config,
            options=self.options,
            starting_step=earlier.next_step,
            supersedes=self.supersedes,
            predecessors=earlier.predecessors,
            known_config=earlier.config,
            known_summary=earlier.summary,
            allow_val_change=self.allow_val_change,
        )
        if not self.options.quiet:
            verb = "goes on" if run.resumed else "records"
            where = " beside what this id has already" if earlier.beside else ""
            say(f"run {run.name} ({run.id}) {verb} in project {project.name}{where}")
        return run

    def _command(self) -> str:
        """The command line as it finds this home."""
        elsewhere = self.options.origins["home"] == "argument"
        return (
            f"localstore --home {shlex.quote(str(self.home.root))}" if elsewhere else "localstore"
        )

    def _earlier(self, project: Project, subject: bytes) -> _Earlier:
        """Obey `resume`, and find where to go on."""
        from localstore.query.resume import look_back

        resume = self.options.resume
        folder = project.paths.runs / subject.hex()
        exists = folder.is_dir() and any(folder.iterdir())
        where = f"run {self.run_id!r} in project {project.name!r}"
        if subject.hex() in project.state.tombstones:
            raise UsageError(
                f"{where} was deleted, and what is deleted never comes back",
                hint="take another id, or `localstore rm --undo` while it is in the trash",
            )
        if resume == "must" and not exists:
            raise NotFound(f"no {where}", hint="`localstore ls` lists the runs of this store")
        if resume == "never" and exists:
            raise AlreadyExists(f"{where} exists", hint="take another id, or resume='allow'")
        if not exists or resume not in ("allow", "must"):
            return _Earlier({}, {}, beside=exists)
        tails = tail_folder(self.options.tail_dir, project.paths.id, subject)
        found = look_back(project, subject, tails)
        next_step = found.next_step if self.supersedes == NOTHING_SUPERSEDED else self.supersedes
        return _Earlier(found.predecessors, found.config, found.name, next_step, found.summary)


def _of_the_disk(error: Exception) -> str:
    """What the disk said, without its number."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def log(data: dict[str, Any], step: int | None = None, commit: bool | None = None) -> None:
    """`Run.log` of the current run.

    Raises:
        UsageError: there is no run; call `init` first.
    """
    require().log(data, step, commit)


def define_metric(name: str, *args: Any, **more: Any) -> None:
    """`Run.define_metric` of the current run.

    Raises:
        UsageError: there is no run; call `init` first.
    """
    require().define_metric(name, *args, **more)


def save(glob_str: str | Path, *args: Any, **more: Any) -> list[str]:
    """`Run.save` of the current run.

    Raises:
        UsageError: there is no run; call `init` first.
    """
    return require().save(glob_str, *args, **more)


def log_artifact(artifact_or_path: Artifact | str | Path, *args: Any, **more: Any) -> Artifact:
    """`Run.log_artifact` of the current run.

    Raises:
        UsageError: there is no run, or see there.
    """
    return require().log_artifact(artifact_or_path, *args, **more)


def use_artifact(artifact_or_name: Artifact | str, *args: Any, **more: Any) -> Artifact:
    """`Run.use_artifact` of the current run.

    Raises:
        UsageError: there is no run, or see there.
    """
    return require().use_artifact(artifact_or_name, *args, **more)


def log_code(*args: Any, **more: Any) -> Artifact | None:
    """`Run.log_code` of the current run.

    Raises:
        UsageError: there is no run; call `init` first.
    """
    return require().log_code(*args, **more)


def finish(exit_code: int | None = None, quiet: bool | None = None) -> None:
    """End the current run, if there is one."""
    run = current()
    if run is not None:
        run.finish(exit_code, quiet)


def require() -> Run:
    """The current run.

    Raises:
        UsageError: there is none.
    """
    run = current()
    if run is None:
        raise UsageError("there is no run", hint="call localstore.init(project=...) first")
    return run
