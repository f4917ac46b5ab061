"""What git knows of the code, and that nothing which a repository names is ever run."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from localstore.surroundings import git
from localstore.surroundings.git import look, untracked
from localstore.surroundings.quiet_git import Git
from tests.surroundings.repository import Repository


def program(folder: Path, name: str, text: str) -> Path:
    """An executable script."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return path


# ------------------------------------------------------------------ levels
def test_by_default_the_commit_and_nothing_else_is_known(repository: Repository) -> None:
    commit = repository.commit(train="a = 1\n")
    repository.git("remote", "add", "origin", "https://ada:pw@example.org/x.git")
    repository.write("train.py", "a = 2\n")
    found = look(repository.root, full=False)
    assert found.facts == {"commit": commit}
    assert found.patches == {}
    assert found.problems == []
    assert found.root is None


def test_with_more_allowed_branch_remote_and_patch_are_known(repository: Repository) -> None:
    commit = repository.commit(train="a = 1\n")
    repository.git("remote", "add", "origin", "https://ada:pw@example.org/x.git?token=abc&depth=2")
    repository.write("train.py", "a = 2\n")
    found = look(repository.root, full=True)
    assert found.facts == {
        "commit": commit,
        "branch": "main",
        "dirty": True,
        "remote": "https://example.org/x.git?token=***MASKED:url-token***&depth=2",
        "root": "work",
    }
    assert b"-a = 1\n+a = 2\n" in found.patches["diff.patch"]
    assert found.root == repository.root
    assert found.problems == []


def test_a_clean_tree_has_no_patch(repository: Repository) -> None:
    repository.commit(train="a = 1\n")
    found = look(repository.root, full=True)
    assert found.facts["dirty"] is False
    assert found.patches == {}


def test_a_subfolder_has_the_patch_of_the_whole_tree(repository: Repository) -> None:
    repository.write("deep/below/x.py", "")
    repository.commit(train="a = 1\n")
    repository.git("config", "diff.relative", "true")
    repository.write("train.py", "a = 2\n")
    assert b"a/train.py" in look(repository.root / "deep/below", full=True).patches["diff.patch"]


def test_binary_changes_are_in_the_patch(repository: Repository) -> None:
    repository.write("weights.bin", bytes(range(256)))
    repository.commit()
    repository.write("weights.bin", bytes(range(255, -1, -1)))
    assert b"GIT binary patch" in look(repository.root, full=True).patches["diff.patch"]


def test_how_a_person_likes_diffs_does_not_change_the_patch(repository: Repository) -> None:
    repository.commit(train="a = 1\n")
    repository.write("train.py", "a = 2\n")
    plain = look(repository.root, full=True).patches
    for setting in ("diff.noprefix=true", "diff.mnemonicPrefix=true", "color.ui=always"):
        repository.git("config", *setting.split("="))
    assert look(repository.root, full=True).patches == plain


def test_a_commit_that_no_remote_has_comes_with_the_patch_since_the_one_that_has(
    repository: Repository, tmp_path: Path
) -> None:
    pushed = repository.commit(train="a = 1\n")
    Repository(tmp_path / "central", "--bare")
    repository.git("remote", "add", "origin", str(tmp_path / "central"))
    repository.git("push", "-q", "-u", "origin", "main")
    assert "upstream_commit" not in look(repository.root, full=True).facts
    repository.commit(train="a = 2\n")
    repository.write("train.py", "a = 3\n")
    found = look(repository.root, full=True)
    assert found.facts["upstream_commit"] == pushed
    assert b"-a = 1\n+a = 3\n" in found.patches["upstream.patch"]
    assert b"-a = 2\n+a = 3\n" in found.patches["diff.patch"]


# ------------------------------------------------------------------ repositories of all kinds
def test_outside_of_repositories_nothing_is_known_and_the_default_says_nothing(
    tmp_path: Path,
) -> None:
    quiet, asked = look(tmp_path, full=False), look(tmp_path, full=True)
    assert (quiet.facts, quiet.problems) == ({}, [])
    assert asked.problems == [f"{tmp_path} is in no git repository"]


def test_without_git_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", "env", "exit 127")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert look(tmp_path, full=True).problems == ["git is not installed"]
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert look(tmp_path, full=True).problems == ["git is not installed"]


def test_before_the_first_commit_the_files_that_were_added_are_the_patch(
    repository: Repository,
) -> None:
    repository.write("train.py", "a = 1\n")
    repository.git("add", "train.py")
    found = look(repository.root, full=True)
    assert "commit" not in found.facts
    assert found.facts["dirty"] is True
    assert b"+a = 1" in found.patches["diff.patch"]
    assert found.problems == [f"the repository of {repository.root} has no commit yet"]


def test_a_bare_repository_has_a_commit_and_no_patch(
    repository: Repository, tmp_path: Path
) -> None:
    commit = repository.commit(train="a = 1\n")
    repository.git("clone", "-q", "--bare", ".", str(tmp_path / "bare"))
    found = look(tmp_path / "bare", full=True)
    assert found.facts["commit"] == commit
    assert found.patches == {}
    assert "no working tree" in found.problems[0]


def test_a_detached_worktree_has_its_own_commit_and_no_branch(
    repository: Repository, tmp_path: Path
) -> None:
    first = repository.commit(train="a = 1\n")
    repository.commit(train="a = 2\n")
    repository.git("worktree", "add", "-q", "--detach", str(tmp_path / "other"), first)
    (tmp_path / "other/train.py").write_text("a = 9\n")
    found = look(tmp_path / "other", full=True)
    assert found.facts["commit"] == first
    assert "branch" not in found.facts
    assert b"+a = 9" in found.patches["diff.patch"]
    assert look(repository.root, full=True).facts["dirty"] is False


def test_changes_inside_a_submodule_are_named(repository: Repository, tmp_path: Path) -> None:
    inner = Repository(tmp_path / "lib")
    commit = inner.commit(lib="b = 1\n")
    repository.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(inner.root))
    repository.commit(train="a = 1\n")
    assert look(repository.root, full=True).facts["submodules"] == {"lib": commit}
    (repository.root / "lib/lib.py").write_text("b = 2\n")
    found = look(repository.root, full=True)
    assert found.facts["dirty"] is False
    assert found.problems == ["changes inside the submodule lib are not saved"]


def test_a_hook_that_starts_training_does_not_mislead(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = repository.commit(train="a = 1\n")
    other = Repository(tmp_path / "other")
    other.commit(train="b = 1\n")
    monkeypatch.setenv("GIT_DIR", str(other.root / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other.root / ".git/index"))
    assert look(repository.root, full=True).facts["commit"] == commit


@pytest.mark.real("root")
def test_a_repository_of_somebody_else_is_left_alone_with_advice(repository: Repository) -> None:
    repository.commit(train="a = 1\n")
    for path in [repository.root, *repository.root.rglob("*")]:
        os.chown(path, 12345, 12345)
    found = look(repository.root, full=False)
    assert found.facts == {}
    assert "safe.directory" in found.problems[0]


# ------------------------------------------------------------------ limits
def test_a_patch_over_the_limit_goes_without_binary_files_then_altogether(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git, "PATCH_LIMIT_BYTES", 3000)
    repository.write("weights.bin", b"\0")
    repository.commit(train="a = 1\n")
    repository.write("weights.bin", os.urandom(9000))
    repository.write("train.py", "a = 2\n")
    found = look(repository.root, full=True)
    assert b"+a = 2" in found.patches["diff.patch"]
    assert b"Binary files" in found.patches["diff.patch"]
    assert found.facts["limits"] == {
        "diff.patch": "over 3000 bytes with binary files, which are left out"
    }
    repository.write("train.py", "a = 2\n" * 9000)
    found = look(repository.root, full=True)
    assert found.patches == {}
    assert found.facts["limits"] == {"diff.patch": "over 3000 bytes, and left out"}
    assert found.facts["dirty"] is True


def test_a_git_that_hangs_is_stopped_with_all_it_started_and_asked_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "bin"
    program(tools, "git", f"echo x >> {tmp_path}/calls\n/bin/sleep 600 &\n/bin/sleep 600")
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    asked = Git(tmp_path, timeout_s=0.5)
    assert asked.ask("rev-parse").code < 0
    assert asked.late
    assert not asked.ask("rev-parse").good
    assert (tmp_path / "calls").read_text() == "x\n"
    assert "took too long" in look(tmp_path, full=False, timeout_s=0.2).problems[0]


def test_words_for_git_reach_it_through_a_full_pipe(repository: Repository) -> None:
    content = os.urandom(1 << 20)
    repository.write("big.bin", content)
    expected = repository.git("hash-object", "--no-filters", "big.bin")
    asked = Git(repository.root).ask("hash-object", "--stdin", stdin=content)
    assert asked.text == expected


# ------------------------------------------------------------------ hostile repositories
def armed(repository: Repository, tmp_path: Path) -> Path:
    """A repository whose configuration names a program at every place; returns its footprint."""
    ran = tmp_path / "ran"
    evil = program(tmp_path / "evil", "evil", f"echo $0 $@ >> {ran}; cat 2>/dev/null")
    repository.commit(train="a = 1\n")
    repository.write(".gitattributes", "*.py filter=evil diff=evil\n*.txt filter=process\n")
    repository.write("notes.txt", "one\n")
    repository.commit()
    for hook in ("post-checkout", "post-index-change", "fsmonitor-watchman", "pre-auto-gc"):
        program(repository.root / ".git/hooks", hook, f"echo hook {hook} >> {ran}")
    for key in (
        *("core.fsmonitor", "core.pager", "core.editor", "core.sshCommand", "core.askPass"),
        *("diff.external", "diff.evil.command", "diff.evil.textconv", "filter.evil.clean"),
        *("filter.evil.smudge", "filter.process.process", "gpg.program", "credential.helper"),
        *("core.alternateRefsCommand", "uploadpack.packObjectsHook", "pager.diff"),
    ):
        repository.git("config", key, str(evil))
    repository.git("config", "log.showSignature", "true")
    repository.git("config", "filter.process.required", "true")
    # From here on no plain git may look at the working tree.
    repository.write("train.py", "a = 2\n")
    repository.write("notes.txt", "two\n")
    ran.unlink(missing_ok=True)
    return ran


def test_no_program_that_a_repository_names_is_run(repository: Repository, tmp_path: Path) -> None:
    ran = armed(repository, tmp_path)
    found = look(repository.root, full=True)
    untracked(repository.root, found.problems)
    assert b"+a = 2" in found.patches["diff.patch"]
    assert b"+two" in found.patches["diff.patch"]
    assert found.problems == []
    assert not ran.exists()


def test_the_trap_of_these_tests_works(repository: Repository, tmp_path: Path) -> None:
    ran = armed(repository, tmp_path)
    repository.git("config", "--unset", "core.fsmonitor")
    repository.git("config", "filter.process.required", "false")
    repository.git("config", "--unset", "filter.process.process")
    repository.git("diff", "HEAD")
    assert "evil" in ran.read_text()


def test_a_filter_whose_name_git_cannot_be_told_keeps_the_tree_unread(
    repository: Repository, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    evil = program(tmp_path / "evil", "evil", f"echo x >> {ran}; cat")
    repository.commit(train="a = 1\n")
    repository.write(".gitattributes", "*.py filter=a=b\n")
    repository.git("config", "filter.a=b.clean", str(evil))
    repository.write("train.py", "a = 2\n")
    found = look(repository.root, full=True)
    assert "programs that it names" in found.problems[0]
    assert "dirty" not in found.facts
    assert not ran.exists()


def test_a_filter_of_the_persons_own_configuration_is_used_and_not_the_repositorys(
    repository: Repository, tmp_path: Path, person: Path
) -> None:
    with person.open("a") as file:
        file.write('[filter "upper"]\n\tclean = tr a-z A-Z\n')
    repository.write(".gitattributes", "*.txt filter=upper\n")
    repository.write("notes.txt", "one\n")
    repository.commit()
    repository.git("config", "filter.upper.clean", f"echo x >> {tmp_path}/ran; cat")
    repository.write("notes.txt", "two\n")
    assert b"+TWO" in look(repository.root, full=True).patches["diff.patch"]
    assert not (tmp_path / "ran").exists()


def test_a_submodules_own_configuration_is_not_obeyed(
    repository: Repository, tmp_path: Path
) -> None:
    inner = Repository(tmp_path / "lib")
    inner.commit(lib="b = 1\n")
    repository.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(inner.root))
    repository.commit(train="a = 1\n")
    ran = tmp_path / "ran"
    evil = program(tmp_path / "evil", "evil", f"echo x >> {ran}; cat")
    inside = Path(repository.git("-C", "lib", "rev-parse", "--absolute-git-dir"))
    (inside / "info").mkdir(exist_ok=True)
    (inside / "info/attributes").write_text("*.py filter=evil\n")
    with (inside / "config").open("a") as file:
        file.write(f'[core]\n\tfsmonitor = {evil}\n[filter "evil"]\n\tclean = {evil}\n')
    (repository.root / "lib/lib.py").write_text("b = 2\n")
    found = look(repository.root, full=True)
    assert found.problems == ["changes inside the submodule lib are not saved"]
    assert not ran.exists()


def test_a_repository_with_missing_objects_fetches_nothing(
    repository: Repository, tmp_path: Path
) -> None:
    repository.commit(train="a = 1\n")
    ran = tmp_path / "ran"
    evil = program(tmp_path / "evil", "evil", f"echo x >> {ran}")
    for key, value in (
        ("extensions.partialClone", "origin"),
        ("remote.origin.url", f"ext::{evil}"),
        ("remote.origin.promisor", "true"),
        ("protocol.ext.allow", "always"),
        ("core.repositoryFormatVersion", "1"),
    ):
        repository.git("config", key, value)
    blob = repository.git("rev-parse", "HEAD:train.py")
    lost = repository.root / ".git/objects" / blob[:2] / blob[2:]
    lost.chmod(stat.S_IRUSR | stat.S_IWUSR)
    lost.unlink()
    repository.write("train.py", "a = 2\n")
    found = look(repository.root, full=True)
    assert "could not be made" in found.problems[0]
    assert not ran.exists()


def test_nothing_is_written_into_the_repository(repository: Repository) -> None:
    repository.commit(train="a = 1\n")
    os.utime(repository.root / "train.py", (1, 1))
    before = {path: path.stat().st_mtime_ns for path in (repository.root / ".git").rglob("*")}
    look(repository.root, full=True)
    after = {path: path.stat().st_mtime_ns for path in (repository.root / ".git").rglob("*")}
    assert after == before


# ------------------------------------------------------------------ untracked files
def test_untracked_files_come_without_ignored_ones_links_and_what_is_too_long(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git, "UNTRACKED_FILE_LIMIT_BYTES", 100)
    repository.write(".gitignore", "*.log\n")
    repository.commit(train="a = 1\n")
    (tmp_path / "secret").write_text("of another folder")
    repository.write("new.py", "n = 1\n")
    repository.write("run.log", "x")
    repository.write("long.py", "x" * 101)
    (repository.root / "link.py").symlink_to(tmp_path / "secret")
    os.mkfifo(repository.root / "pipe.py")
    Repository(repository.root / "nested").commit(inner="i = 1\n")
    problems: list[str] = []
    assert untracked(repository.root, problems) == [("new.py", b"n = 1\n")]
    assert {text.split()[1] for text in problems} >= {"long.py", "link.py", "nested/"}


def test_too_many_untracked_files_are_cut_and_told(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git, "UNTRACKED_LIMIT_FILES", 2)
    for at in range(4):
        repository.write(f"n{at}.py", "")
    problems: list[str] = []
    assert [path for path, _ in untracked(repository.root, problems)] == ["n0.py", "n1.py"]
    assert problems == ["untracked files from n2.py on are not saved: too many"]


def test_a_name_that_is_not_utf8_does_not_break_the_text(repository: Repository) -> None:
    name = os.fsdecode(b"caf\xe9.py")
    repository.write(name, "x = 1\n")
    problems: list[str] = []
    ((path, content),) = untracked(repository.root, problems)
    assert (path, content) == (name, b"x = 1\n")
    assert git.utf8(path) == "caf\\xe9.py"
