"""`localstore checkout`: the code, config and requirements of a run, in a new folder."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from localstore.cli import exit_status, terminal
from localstore.cli.terminal import inert
from localstore.errors import Damaged, LocalStoreError, NotFound, UsageError
from localstore.format.spec import DataClass

if TYPE_CHECKING:
    from collections.abc import Iterable

    from localstore.query.api import StoredRun
    from localstore.reproduce.restore import Report
    from localstore.sdk.artifact import Artifact

_DAMAGED: Final = 20
_NOT_STARTED: Final = 1
_MOST_CODE_BYTES: Final = 256 << 20  # of all saved code together; far more than is ever saved
BESIDE: Final = "localstore-run"  # folder for all that is no code; hides no file of the code
MASK: Final = "***MASKED"
_REQUIREMENTS: Final = "requirements.txt"


@click.command(epilog=exit_status(0, 2, 11, 20, 66, 73, 74, 77))
@click.argument("run")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--repo",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A clone of the code's repository; default the working folder.",
)
@click.option("--no-inputs", is_flag=True, help="Leave out the artifacts that it used.")
@click.option(
    "--run", "start_it", is_flag=True, help="Then start it, as a new run that names this one."
)
@click.option("--yes", is_flag=True, help="With --run: do not ask, whoever wrote it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def checkout(
    ctx: click.Context,
    run: str,
    folder: Path,
    repo: Path | None,
    no_inputs: bool,
    start_it: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Bring back the code of RUN in FOLDER, which must be empty or not exist yet.

    Where a repository at hand has the run's commit, FOLDER becomes a worktree of it, and the saved
    patch is applied; else the saved files are written. Config, requirements, command line and the
    artifacts that the run used go to FOLDER/localstore-run. What was not saved is named, and so is
    each line in which a secret was masked. Nothing is fetched or installed.

    With --run the recorded command line is shown and started in FOLDER by the Python that runs this
    command; the exit status is its own. The new run names the first as `rerun_of`. That is code of
    whoever wrote the run, with all that you may do: it asks first where parts of the run are of a
    machine that only writes, of a revoked one, or of somebody else.
    """
    from localstore.query.api import Api
    from localstore.reproduce.restore import restore_code

    found = Api().run(run)
    problems: list[str] = []
    files = code_files(found, problems)
    report = restore_code(found.facts("git"), files.items(), folder, [repo or Path.cwd()])
    report.done += [f"{BESIDE}/{name}" for name in _beside(found, folder / BESIDE, problems)]
    used = found.used_artifacts()
    if not no_inputs:
        report.done += _download(used, f"{BESIDE}/inputs", folder, problems)
    code = [one for one in found.logged_artifacts() if one.type == "code"]
    report.done += _download(code, f"{BESIDE}/code", folder, problems)
    environment = found.facts("environment")
    names = [one.qualified_name for one in used]
    _say(found, folder, report, names, _advice(environment), as_json=as_json)
    damaged = terminal.warn_of_damage([*problems, *found.problems])
    if start_it:
        ctx.exit(_start(found, folder, environment, yes=yes))
    if environment.get("command"):
        terminal.note(f"to start it: sh {folder / BESIDE / 'command.sh'}, or next time --run")
    if damaged:
        ctx.exit(_DAMAGED)


def _start(run: StoredRun, folder: Path, environment: dict[str, Any], *, yes: bool) -> int:
    """Start the recorded command line in the folder; returns its exit code.

    Raises:
        UsageError: there is none, it has masked words, or nobody is there to be asked.
    """
    words = _command(run, folder, environment)
    where = _place(folder, environment.get("folder"))
    terminal.always(f"in {where}: {shlex.join(words)}")
    doubts = run.contents.doubts()
    for doubt in doubts:
        terminal.warning(f"{run.path}: {doubt}")
    if doubts and not yes and not terminal.confirm("It can do all that you can. Start it?"):
        return _NOT_STARTED
    variables = {**os.environ, "LOCALSTORE_RERUN_OF": run.path, "LOCALSTORE_PROJECT": run.project}
    command = [sys.executable, *map(_at_home, words[1:])]
    return subprocess.run(command, cwd=where, env=variables, check=False).returncode


def _at_home(word: str) -> str:
    """A recorded word with the home of whoever starts it."""
    before, tilde, after = word.partition("~/")
    ours = tilde and (not before or before.endswith("="))
    return f"{before}{Path.home()}/{after}" if ours else word


def _command(run: StoredRun, folder: Path, environment: dict[str, Any]) -> list[str]:
    """The recorded words.

    Raises:
        UsageError: there are none, or some that no program can be given.
    """
    recorded = environment.get("command")
    words = [str(word) for word in recorded] if isinstance(recorded, list) else []
    if len(words) < 2 or any("\0" in word for word in words):
        raise UsageError(
            f"run {run.path!r} has no command line that could be started",
            hint=f"start it by hand in {folder}",
        )
    if any(MASK in word for word in words):
        raise UsageError(
            "its command line has masked secrets", hint=f"start it by hand: {shlex.join(words)}"
        )
    return words


def _place(folder: Path, below: object) -> Path:
    """Below the folder, as it was below the repository; the folder itself where that is nowhere."""
    if not isinstance(below, str):
        return folder
    try:
        where = (folder / below).resolve()
        return where if where.is_relative_to(folder.resolve()) and where.is_dir() else folder
    except (OSError, ValueError, RuntimeError):  # no name of a folder; links in a circle
        return folder


def code_files(run: StoredRun, problems: list[str]) -> dict[str, bytes]:
    """The saved code of a run by path; what cannot be read is named in `problems`."""
    found: dict[str, bytes] = {}
    left = _MOST_CODE_BYTES
    for file in run.contents.files((DataClass.CODE,)):
        if file.size > left:
            problems.append(f"{file.path}: {file.size} bytes are too many for saved code")
            continue
        left -= file.size
        try:
            found[file.path] = run.contents.read_file(file)
        except (Damaged, NotFound) as problem:
            problems.append(f"{file.path}: {problem}")
    return found


def requirements_of(run: StoredRun, problems: list[str]) -> bytes:
    """The packages that were installed, as requirements.txt; empty when nobody recorded them."""
    for file in run.contents.files((DataClass.SYSTEM,)):
        if file.path == _REQUIREMENTS and file.size <= _MOST_CODE_BYTES:
            try:
                return run.contents.read_file(file)
            except (Damaged, NotFound) as problem:
                problems.append(f"{file.path}: {problem}")
    return b""


def _beside(run: StoredRun, folder: Path, problems: list[str]) -> list[str]:
    """Write what else is known of how the run was made; returns the names."""
    from localstore.reproduce import surroundings
    from localstore.reproduce.folder import write_new

    environment = run.facts("environment")
    names = surroundings.write_config(run.config, folder)
    names += surroundings.write_command(environment, folder)
    names += surroundings.write_facts("environment.json", environment, folder)
    packages = requirements_of(run, problems)
    if packages:
        write_new(folder, _REQUIREMENTS, packages)
        names.append(_REQUIREMENTS)
    return names


def _download(
    artifacts: Iterable[Artifact], below: str, folder: Path, problems: list[str]
) -> list[str]:
    """Put artifacts into folders of their own; returns what was done."""
    done = []
    for artifact in artifacts:
        place = f"{below}/{artifact.name.replace(':', '-')}"
        try:
            artifact.download(folder / place)
        except LocalStoreError as problem:
            problems.append(f"{artifact.qualified_name}: {problem}")
        else:
            done.append(place)
    return done


def _advice(environment: dict[str, Any]) -> list[str]:
    from localstore.reproduce.surroundings import other_python

    said = other_python(environment, sys.version_info[:2])
    return [said] if said else []


def _say(
    run: StoredRun,
    folder: Path,
    report: Report,
    inputs: list[str],
    advice: list[str],
    *,
    as_json: bool,
) -> None:
    if as_json:
        terminal.say_json(
            {
                "run": run.path,
                "folder": str(folder),
                "done": report.done,
                "missing": report.missing,
                "masked": report.masked,
                "inputs": inputs,
                "advice": advice,
            }
        )
        return
    rows = [("done", report.done), ("masked", report.masked), ("input", inputs)]
    lines = [[title, inert(text)] for title, texts in rows for text in texts]
    if lines:
        click.echo(terminal.columns(lines))
    for text in report.missing:
        terminal.warning(f"not brought back: {text}")
    for text in advice:
        terminal.note(text)
