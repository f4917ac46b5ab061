"""Brings back the code of a run: the commit from a repository at hand, the patch, saved files.

What cannot be brought back is named; nothing is guessed, fetched or run.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from localstore.errors import BadName
from localstore.reproduce.folder import check_new, write_new
from localstore.reproduce.patches import unmask_context
from localstore.surroundings.git import read_plain
from localstore.surroundings.masking import MARK_PATTERN, mask
from localstore.surroundings.quiet_git import Git

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

_TIMEOUT_S: Final = 600.0
_FILE_LIMIT_BYTES: Final = 64 << 20
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_UNAPPLIED: Final = ".unapplied"


@dataclass(slots=True)
class Report:
    """What was brought back.

    Attributes:
        done: what was, in the order in which it was done.
        missing: what was not, and why or how to get it.
        masked: `path:line (kind)` of each line in the folder that holds a mark for a secret.
    """

    done: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    masked: list[str] = field(default_factory=list)


def restore_code(
    facts: Mapping[str, Any],
    files: Iterable[tuple[str, bytes]],
    target: Path,
    repositories: Sequence[Path] = (),
) -> Report:
    """Put the code of a run into a new folder.

    Args:
        facts: those of git, as they were saved.
        files: paths and contents as they were saved: patches, and what lies below `untracked/`,
            `main/` and `code/`.
        target: the folder; must not exist, or be empty.
        repositories: where to look for the commit; the first that has it makes a worktree.

    Raises:
        AlreadyExists: the folder holds something.
        StoreError: the disk refused.
    """
    target = target.absolute()
    check_new(target)
    return _Restoring(facts, dict(files), target).run(repositories)


class _Restoring:
    """One restoration under way."""

    def __init__(self, facts: Mapping[str, Any], files: dict[str, bytes], target: Path) -> None:
        self._facts, self._files, self._target = facts, files, target
        self._report = Report()
        self._touched: dict[str, None] = {}

    def run(self, repositories: Sequence[Path]) -> Report:
        if not self._from_a_repository(repositories):
            self._without_a_repository()
        self._saved_files()
        for path, commit in _items(self._facts.get("submodules")):
            how = f"git submodule update --init -- {shlex.quote(path)}"
            self._missing(f"submodule {path} at {commit}: {how}")
        for name, why in _items(self._facts.get("limits")):
            self._missing(f"{name} was {why} when the run was recorded")
        self._changes()
        for path in sorted(self._touched):
            self._note_marks(path)
        return self._report

    def _changes(self) -> None:
        """Say what is not known of changes that ran and were not committed."""
        if not self._facts and not self._files:
            self._missing("no code was saved with this run")
        elif self._facts.get("commit") and "dirty" not in self._facts:
            self._missing(
                "changes that were not committed, if there were any: the commit alone was recorded"
            )
        elif self._facts.get("dirty") and "diff.patch" not in self._files:
            self._missing("files differed from the commit, and no patch was saved")

    def _missing(self, text: str) -> None:
        self._report.missing.append(text)

    # -------------------------------------------------------------- with git
    def _from_a_repository(self, repositories: Sequence[Path]) -> bool:
        """Whether a repository had the commit, or the one that the remote had, and gave it."""
        for commit_fact, patch in (("commit", "diff.patch"), ("upstream_commit", "upstream.patch")):
            commit = str(self._facts.get(commit_fact, ""))
            if not _COMMIT.fullmatch(commit):
                continue
            if commit_fact != "commit" and patch not in self._files:
                continue
            for folder in repositories:
                git = Git(folder, _TIMEOUT_S)
                if git.ask("cat-file", "-e", f"{commit}^{{commit}}").good:
                    return self._worktree(git, commit, patch)
        return False

    def _worktree(self, git: Git, commit: str, patch: str) -> bool:
        if not git.silence_filters(git.configuration()):
            self._missing(f"{git.folder}: its configuration names programs that git would run")
            return False
        answer = git.ask("worktree", "add", "--quiet", "--detach", str(self._target), commit)
        if not answer.good:
            git.ask("worktree", "remove", "--force", str(self._target))
            self._missing(f"no worktree of {git.folder}: {answer.err.partition(chr(10))[0]}")
            return False
        self._report.done.append(f"commit {commit} as a worktree of {git.folder}")
        git.folder = self._target
        if patch in self._files:
            self._apply(git, commit, patch)
        if any("filter=lfs" in line for line in self._lines(".gitattributes")):
            self._missing("contents of files in Git LFS: git lfs pull")
        return True

    def _apply(self, git: Git, commit: str, name: str) -> None:
        def read(path: bytes) -> bytes | None:
            answer = git.ask(
                *("cat-file", "blob", f"{commit}:{os.fsdecode(path)}"),
                limit_bytes=_FILE_LIMIT_BYTES,
            )
            return answer.out if answer.good else None

        patch = unmask_context(self._files[name], read)
        answer = git.ask("apply", "--whitespace=nowarn", stdin=patch)
        if not answer.good:
            reason = answer.err.partition("\n")[0]
            self._missing(f"{name} does not apply ({reason}); it lies in {name}{_UNAPPLIED}")
            self._write(name + _UNAPPLIED, self._files[name])
            return
        self._report.done.append(name)
        for row in git.ask("apply", "--numstat", "-z", stdin=patch).out.split(b"\0"):
            path = os.fsdecode(row.rpartition(b"\t")[2])
            if path and self._stays_inside(path):
                self._touched[path] = None

    def _stays_inside(self, path: str) -> bool:
        """Whether what a patch made is no link out of the folder; such a link is removed."""
        made = self._target / path
        if not made.is_symlink() or made.resolve().is_relative_to(self._target.resolve()):
            return True
        made.unlink()
        self._missing(f"refused {path!r}: a link out of the folder")
        return False

    def _lines(self, path: str) -> list[str]:
        content = read_plain(self._target / path, _FILE_LIMIT_BYTES)
        return (content or b"").decode("utf-8", "replace").splitlines()

    # -------------------------------------------------------------- without git, and beside it
    def _without_a_repository(self) -> None:
        commit = self._facts.get("commit")
        if commit:
            remote = self._facts.get("remote")
            where = f", from {remote}," if remote else ""
            self._missing(
                f"commit {commit}{where} is in no repository at hand:"
                " name one that has it, with --repo"
            )
        if "diff.patch" in self._files:
            self._write("diff.patch", self._files["diff.patch"])
            self._missing("diff.patch is saved as a file: without its commit it cannot be applied")

    def _saved_files(self) -> None:
        """Files of the code folder, untracked ones, and the main script last: it is what ran."""
        base = str(self._facts.get("code_root", ""))
        for kind in ("code", "untracked", "main"):
            count = 0
            for path, content in sorted(self._files.items()):
                if not path.startswith(f"{kind}/"):
                    continue
                inside = path.removeprefix(f"{kind}/")
                name = f"{base}/{inside}" if kind == "code" and base else inside
                count += self._has_already(name, content) or self._write(name, content)
            if count:
                what = {"code": "code files", "untracked": "untracked files", "main": "main file"}
                self._report.done.append(what[kind] + (f": {count}" if kind != "main" else ""))

    def _has_already(self, path: str, content: bytes) -> bool:
        """Whether the file is there as it was saved, but for what was masked in the saved one."""
        there = read_plain(self._target / path, _FILE_LIMIT_BYTES)
        return there is not None and mask(path, there)[0] == content

    def _write(self, path: str, content: bytes) -> bool:
        try:
            write_new(self._target, path, content)
        except BadName as error:
            self._missing(str(error))
            return False
        self._touched[path] = None
        return True

    def _note_marks(self, path: str) -> None:
        for number, line in enumerate(self._lines(path), 1):
            kinds = dict.fromkeys(MARK_PATTERN.findall(line))
            self._report.masked += [f"{path}:{number} ({kind})" for kind in kinds]


def _items(value: Any) -> list[tuple[str, str]]:
    """Rows of a mapping that came from outside, as text."""
    rows = value.items() if isinstance(value, dict) else ()
    return [(str(key), str(one)) for key, one in rows]
