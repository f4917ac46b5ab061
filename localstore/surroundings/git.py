"""What git knows about the code that runs: commit, branch, remote, patches, untracked files.

Every command is one that `Git` makes harmless. Nothing is written, not even git's own index.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from localstore.surroundings.masking import mask_url
from localstore.surroundings.quiet_git import NOT_FOUND, TIMEOUT_S, Answer, Git

if TYPE_CHECKING:
    from collections.abc import Mapping

PATCH_LIMIT_BYTES: Final = 8 << 20
UNTRACKED_LIMIT_BYTES: Final = 8 << 20  # of all untracked files together
UNTRACKED_FILE_LIMIT_BYTES: Final = 1 << 20
UNTRACKED_LIMIT_FILES: Final = 1000
# Git shows a file that was touched and not changed by a head without a body, unless it may write
# the index.
_UNCHANGED: Final = re.compile(rb"^diff --git .*\n(?=diff --git |\Z)", re.MULTILINE)
# After the numbers of a hunk git quotes a line above it, which may be the middle of a key.
_QUOTED: Final = re.compile(rb"^(@@ -[0-9,]{1,30} \+[0-9,]{1,30} @@).*$", re.MULTILINE)
_DIFF: Final = (
    *("diff", "--binary", "--no-ext-diff", "--no-textconv", "--no-color", "--no-relative"),
    *("--no-renames", "--src-prefix=a/", "--dst-prefix=b/", "--submodule=short"),
    # Looking inside a submodule would obey the configuration that lies there.
    "--ignore-submodules=dirty",
)


@dataclass(slots=True)
class Finding:
    """What was found out about the code's repository.

    Attributes:
        facts: plain values; `commit`, and from level `diff` on `branch`, `dirty`, `remote`,
            `root` (name of the folder), `upstream_commit`, `submodules` (commits by path),
            `changed_submodules`, `limits`.
        patches: `diff.patch` and `upstream.patch`, unmasked.
        problems: what could not be learned, and why.
        root: the working tree.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    patches: dict[str, bytes] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    root: Path | None = None


# ------------------------------------------------------------------ what was found
def utf8(text: str) -> str:
    """The same text where it is valid; bytes of a file name that are not UTF-8 escaped."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def commit_of(git: Git) -> tuple[str, str]:
    """The commit that is checked out, and what keeps it from being known, one of them empty."""
    answer = git.ask("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    if answer.good:
        return answer.text, ""
    return "", _why_not(answer, git.folder)


def _why_not(answer: Answer, folder: Path) -> str:
    if answer.code == NOT_FOUND:
        return "git is not installed"
    if answer.code < 0:
        return f"git took too long in {folder}"
    if "dubious ownership" in answer.err or "unsafe repository" in answer.err:
        return (
            f"git does not trust {folder}, which belongs to another user;"
            f" if you do: git config --global --add safe.directory {folder}"
        )
    if "not a git repository" in answer.err:
        return f"{folder} is in no git repository"
    first = answer.err.partition("\n")[0].removeprefix("fatal: ")
    return f"git: {first}" if first else f"the repository of {folder} has no commit yet"


def look(folder: Path, *, full: bool, timeout_s: float = TIMEOUT_S) -> Finding:
    """Learn about the repository that `folder` stands in.

    Args:
        full: all there is to know; otherwise the commit and nothing else.
        timeout_s: seconds that one git command may take.
    """
    git = Git(folder, timeout_s)
    found = Finding()
    commit, why_not = commit_of(git)
    if commit:
        found.facts["commit"] = commit
    # Without saving of code, a script that stands in no repository deserves no remark.
    elif full or "trust" in why_not or "too long" in why_not:
        found.problems.append(why_not)
    if full and (commit or "no commit yet" in why_not):
        _look_closer(git, found)
    return found


def _look_closer(git: Git, found: Finding) -> None:
    configuration = git.configuration()
    settings = {key: value for _, key, value in configuration}
    branch = git.ask("symbolic-ref", "--quiet", "--short", "HEAD").text
    if branch:
        found.facts["branch"] = branch
    remote = _remote(settings, branch)
    if remote:
        found.facts["remote"] = utf8(mask_url(remote))
    top = git.ask("rev-parse", "--show-toplevel")
    if not top.good:
        found.problems.append(f"{git.folder} is no working tree: there is nothing to compare")
        return
    found.root = git.folder = Path(os.fsdecode(top.out.removesuffix(b"\n")))
    found.facts["root"] = utf8(found.root.name)
    if not git.silence_filters(configuration):
        found.problems.append(
            "the repository's configuration does not let git compare files without running"
            " programs that it names; no patch was saved"
        )
        return
    _patches(git, found)
    _submodules(git, found)


def _remote(settings: Mapping[str, str], branch: str) -> str:
    """Where the branch is pushed to, else `origin`, else any remote; empty when there is none."""
    urls = {
        key[len("remote.") : -len(".url")]: value
        for key, value in settings.items()
        if key.startswith("remote.") and key.endswith(".url")
    }
    for name in (settings.get(f"branch.{branch}.remote", ""), "origin", *urls):
        if name in urls:
            return urls[name]
    return ""


def _patches(git: Git, found: Finding) -> None:
    base = "HEAD" if "commit" in found.facts else _empty_tree(git)
    patch = diff(git, base, found, "diff.patch")
    found.facts["dirty"] = patch != b""
    upstream = _unpushed_since(git) if "commit" in found.facts else ""
    if upstream:
        found.facts["upstream_commit"] = upstream
        diff(git, upstream, found, "upstream.patch")


def _empty_tree(git: Git) -> str:
    return git.ask("hash-object", "-t", "tree", "--stdin").text


def diff(git: Git, base: str, found: Finding, name: str) -> bytes | None:
    """Put the patch from `base` to the working tree into `found`.

    One that is too long is tried without the contents of binary files, then left out; both are
    said in `facts["limits"]`.

    Returns:
        The patch, or None when it could not be made.
    """
    answer = git.ask(*_DIFF, base, "--", limit_bytes=PATCH_LIMIT_BYTES)
    if answer.cut:
        said = f"over {PATCH_LIMIT_BYTES} bytes with binary files, which are left out"
        words = (word for word in _DIFF if word != "--binary")
        answer = git.ask(*words, base, "--", limit_bytes=PATCH_LIMIT_BYTES)
        if answer.cut:
            said = f"over {PATCH_LIMIT_BYTES} bytes, and left out"
        found.facts.setdefault("limits", {})[name] = said
        found.problems.append(f"{name} is {said}")
    if answer.cut:
        return None
    if not answer.good:
        found.problems.append(f"{name} could not be made: {_why_not(answer, git.folder)}")
        return None
    patch = _QUOTED.sub(rb"\1", _UNCHANGED.sub(b"", answer.out))
    if patch:
        found.patches[name] = patch
    return patch


def _unpushed_since(git: Git) -> str:
    """The last commit that a remote has too, if HEAD itself is on none; else empty."""
    if not git.ask("rev-list", "--max-count=1", "HEAD", "--not", "--remotes").text:
        return ""
    newest = git.ask(
        *("for-each-ref", "--sort=-committerdate", "--count=20", "--format=%(refname)"),
        "refs/remotes",
    ).text.split("\n")
    for candidate in ("@{upstream}", "refs/remotes/origin/HEAD", *filter(None, newest)):
        answer = git.ask("merge-base", "HEAD", candidate)
        if answer.good and answer.text:
            return answer.text
    return ""


def _submodules(git: Git, found: Finding) -> None:
    """Note the submodules' commits, and say which of them have changes that no patch holds."""
    listed = git.ask("ls-files", "--stage", "-z").out.split(b"\0")
    for row in listed:
        facts, _, raw_path = row.partition(b"\t")
        if not facts.startswith(b"160000 "):
            continue
        path = os.fsdecode(raw_path)
        inner = found.root / path if found.root is not None else Path(path)
        if not (inner / ".git").exists():
            continue
        own = Git(inner, git.timeout_s)
        commit = commit_of(own)[0]
        found.facts.setdefault("submodules", {})[utf8(path)] = commit
        if _is_changed(own):
            found.facts.setdefault("changed_submodules", []).append(utf8(path))
            found.problems.append(f"changes inside the submodule {utf8(path)} are not saved")


def _is_changed(git: Git) -> bool:
    if not git.silence_filters(git.configuration()):
        return True  # as far as anybody can tell
    answer = git.ask(*_DIFF, "HEAD", "--")
    return answer.cut or _UNCHANGED.sub(b"", answer.out) != b""


# ------------------------------------------------------------------ files
def listed_files(folder: Path, *, tracked: bool) -> list[str] | None:
    """Files below `folder` that git does not ignore, relative to it; None without a repository.

    Args:
        tracked: those that git tracks too; otherwise the untracked ones alone.
    """
    kinds = ("--cached", "--others") if tracked else ("--others",)
    answer = Git(folder).ask("ls-files", "-z", *kinds, "--exclude-standard")
    if not answer.good and not answer.cut:
        return None
    # What stands after the last NUL is a name that the limit cut, or nothing.
    return [os.fsdecode(raw) for raw in answer.out.split(b"\0")[:-1]]


def untracked(root: Path, problems: list[str]) -> list[tuple[str, bytes]]:
    """Files of a working tree that git neither tracks nor ignores, as paths and contents.

    Links, special files, nested repositories and what is over a limit are named in `problems`.
    """
    files: list[tuple[str, bytes]] = []
    total_bytes = 0
    for path in listed_files(root, tracked=False) or []:
        if len(files) >= UNTRACKED_LIMIT_FILES or total_bytes >= UNTRACKED_LIMIT_BYTES:
            problems.append(f"untracked files from {utf8(path)} on are not saved: too many")
            break
        content = read_plain(root / path, UNTRACKED_FILE_LIMIT_BYTES)
        if content is None:
            problems.append(f"untracked {utf8(path)} is not saved: too long, or no plain file")
            continue
        total_bytes += len(content)
        files.append((path, content))
    return files


def read_plain(path: Path, limit_bytes: int) -> bytes | None:
    """The content of a regular file of at most so many bytes; None for all else."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):  # a name with NUL
        return None
    try:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            return None
        with os.fdopen(number, "rb", closefd=False) as file:
            content = file.read(limit_bytes + 1)
    except OSError:
        return None
    finally:
        os.close(number)
    return content if len(content) <= limit_bytes else None
