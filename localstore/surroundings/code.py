"""The code that made a run, as far as the settings allow it to be saved: masked files and facts.

Each level has what the one before it has:
off     nothing
sha     the commit
diff    branch, dirty flag, remote, and the patch from the commit to what ran
main    the main script, or the notebook's cells as they were executed
all     the files of the code folder
"""

from __future__ import annotations

import fnmatch
import inspect
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from localstore.surroundings import git
from localstore.surroundings.git import read_plain, utf8
from localstore.surroundings.masking import Mark, mask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from localstore.surroundings.notebook import MainCode

    Choice = Callable[..., bool] | Sequence[str] | str

LEVELS: Final = ("off", "sha", "diff", "main", "all")
# No notebooks: their outputs are data. The main one is saved by its cells alone.
CODE_FILES: Final = ("*.py", "requirements*.txt", "Dockerfile")
CODE_FILE_LIMIT_BYTES: Final = 4 << 20
CODE_LIMIT_BYTES: Final = 64 << 20
CODE_LIMIT_FILES: Final = 5000
WALK_LIMIT_ENTRIES: Final = 50_000  # a script in a home folder must not have all of it searched
_FOREIGN_FOLDERS: Final = frozenset(
    {"node_modules", "__pycache__", "wandb", "mlruns", "venv", "site-packages"}
)


@dataclass(slots=True)
class CodeCapture:
    """What was saved of the code.

    Attributes:
        facts: plain values: `level`, those of git, `main`, `main_kind`, and `masked` once more.
        files: paths and masked contents: `diff.patch`, `upstream.patch`, and what lies below
            `untracked/` (by its path from the repository's root), `main/` and `code/`.
        masked: where something was masked, by file and line.
        problems: what was not saved, and why; for people.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    files: list[tuple[str, bytes]] = field(default_factory=list)
    masked: list[Mark] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def effective_level(setting: str, script: str | None) -> tuple[str, str]:
    """How much is saved: what the settings allow, or less where the script asks for less.

    Returns:
        The level, and a warning, empty when the script got what it asked for.
    """
    if script is None or script == setting:
        return setting, ""
    if script not in LEVELS:
        known = ", ".join(LEVELS)
        return setting, f"no level of saving code is called {script!r}, want one of {known}"
    if LEVELS.index(script) < LEVELS.index(setting):
        return script, ""
    return setting, (
        f"the script asks to save code at level {script!r}, and the settings allow {setting!r}:"
        " a script can lower what is saved, and never raise it"
    )


def capture(
    level: str,
    *,
    cwd: Path,
    untracked: bool = False,
    main: MainCode | None = None,
    code_root: Path | None = None,
) -> CodeCapture:
    """Save the code of this run, as much as `level` says.

    Args:
        cwd: the working folder.
        untracked: from level `diff` on, also the files that git neither tracks nor ignores.
        main: the program, where the level is `main` or more.
        code_root: the code folder, for level `all`; default the repository's root, else the
            folder of the main script, else `cwd`.
    """
    captured = CodeCapture()
    if level == "off":
        return captured
    rank = LEVELS.index(level)
    found = git.look(cwd, full=level != "sha")
    captured.facts, captured.problems = found.facts, found.problems
    if level == "sha":
        return captured
    captured.facts["level"] = level
    files = list(found.patches.items())
    if untracked and found.root is not None:
        loose = git.untracked(found.root, captured.problems)
        files += [(f"untracked/{path}", content) for path, content in loose]
    if main is not None and rank >= LEVELS.index("main"):
        files.append(_main_file(main, found.root, captured.facts))
        if found.root is None:
            captured.problems.clear()  # without git, but what was asked for is saved
    if level == "all":
        root = code_root or found.root or _folder_of(main, cwd)
        code = collect_code(root, problems=captured.problems)
        files += [(f"code/{path}", content) for path, content in code]
    captured.files, captured.masked = mask_files(files)
    if captured.masked:
        captured.facts["masked"] = list(captured.masked)
    return captured


def capture_to_compare(cwd: Path, main: MainCode | None) -> CodeCapture:
    """All code that can decide what a run does, to be hashed and compared, not to be saved.

    That is commit, patch, untracked files and the main script; without a commit, the code folder.
    """
    captured = capture("main", cwd=cwd, untracked=True, main=main)
    return captured if captured.facts.get("commit") else capture("all", cwd=cwd, main=main)


def notebook_at_end(main: MainCode | None, facts: Mapping[str, Any]) -> CodeCapture:
    """The notebook once more, when the run ends: most cells are executed after its start.

    Args:
        main: the program as `find_main` sees it now.
        facts: of the capture at the start.

    Returns:
        Its file under the same path, and new facts where marks changed; nothing when the program
        is no notebook or its main file was not to be saved.
    """
    captured = CodeCapture()
    if main is None or main.kind not in ("notebook", "session") or "main" not in facts:
        return captured
    path = f"main/{facts['main']}"
    captured.files, captured.masked = mask_files([(path, main.content)])
    others = [one for one in facts.get("masked", ()) if one["file"] != path]
    captured.facts = {**facts, "masked": [*others, *captured.masked]}
    return captured


def _folder_of(main: MainCode | None, cwd: Path) -> Path:
    return Path(main.path).parent if main is not None and Path(main.path).is_absolute() else cwd


def _main_file(main: MainCode, root: Path | None, facts: dict[str, Any]) -> tuple[str, bytes]:
    path = Path(main.path)
    inside = root is not None and path.is_absolute() and path.resolve().is_relative_to(root)
    name = path.resolve().relative_to(root).as_posix() if root and inside else path.name
    facts["main"], facts["main_kind"] = utf8(name), main.kind
    return f"main/{name}", main.content


def mask_files(files: Iterable[tuple[str, bytes]]) -> tuple[list[tuple[str, bytes]], list[Mark]]:
    """Files without secrets, and where these were; paths become valid UTF-8."""
    masked: list[tuple[str, bytes]] = []
    marks: list[Mark] = []
    for path, content in files:
        clean, own = mask(utf8(path), content)
        masked.append((utf8(path), clean))
        marks += own
    return masked, marks


# ------------------------------------------------------------------ a folder of code
def collect_code(
    root: Path,
    include: Choice | None = None,
    exclude: Choice | None = None,
    problems: list[str] | None = None,
) -> list[tuple[str, bytes]]:
    """The code files below a folder, not yet masked, in the order of their paths.

    What git ignores, hidden folders, virtual environments and links are left out.

    Args:
        root: the folder.
        include: globs for a file's name or path, or a function of the absolute path, or of it and
            `root`; default Python files, requirements and a Dockerfile.
        exclude: likewise; what it names is left out.
        problems: takes what was left out for its size.

    Returns:
        Paths relative to `root`, with `/`, and contents.
    """
    root = root.resolve()
    wanted = _chooser(CODE_FILES if include is None else include, root)
    unwanted = _chooser(exclude if exclude is not None else (), root)
    said = problems if problems is not None else []
    files: list[tuple[str, bytes]] = []
    total_bytes = 0
    for path in sorted(_candidates(root, said)):
        if not wanted(path) or unwanted(path):
            continue
        content = read_plain(root / path, CODE_FILE_LIMIT_BYTES)
        if content is None:
            said.append(f"{utf8(path)} is not saved: too long, or no plain file")
            continue
        total_bytes += len(content)
        if total_bytes > CODE_LIMIT_BYTES or len(files) >= CODE_LIMIT_FILES:
            said.append(f"code files from {utf8(path)} on are not saved: too many")
            break
        files.append((path, content))
    return files


def _chooser(choice: Choice, root: Path) -> Callable[[str], bool]:
    if callable(choice):
        takes_root = _arguments(choice) >= 2  # (path, root), as other trackers call it
        function = choice

        def by_function(path: str) -> bool:
            full = str(root / path)
            return bool(function(full, str(root)) if takes_root else function(full))

        return by_function
    globs = (choice,) if isinstance(choice, str) else tuple(choice)
    return lambda path: any(
        fnmatch.fnmatchcase(path, glob) or fnmatch.fnmatchcase(path.rpartition("/")[2], glob)
        for glob in globs
    )


def _arguments(function: Callable[..., bool]) -> int:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1
    return sum(one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) for one in parameters)


def _candidates(root: Path, problems: list[str]) -> Iterator[str]:
    listed = git.listed_files(root, tracked=True)
    if listed:
        apart = tuple(
            path.removesuffix("pyvenv.cfg") for path in listed if path.endswith("/pyvenv.cfg")
        )
        for path in set(listed):
            if not (_is_foreign(path) or path.startswith(apart)) and (root / path).is_file():
                yield path
        return
    entries = 0
    for folder, folders, names in os.walk(root):
        below = Path(folder)
        entries += 1 + len(names)
        if entries > WALK_LIMIT_ENTRIES:
            problems.append(f"{root} is too large to search it all for code: some is not saved")
            return
        folders[:] = sorted(
            name
            for name in folders
            if not _is_foreign(f"{name}/x") and not (below / name / "pyvenv.cfg").exists()
        )
        yield from ((below / name).relative_to(root).as_posix() for name in names)


def _is_foreign(path: str) -> bool:
    """Whether a file stands in a folder that holds nobody's own code."""
    return any(part.startswith(".") or part in _FOREIGN_FOLDERS for part in path.split("/")[:-1])
