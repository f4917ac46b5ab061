"""The code of a run comes back as it ran; what cannot is named; hostile names do nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from localstore.errors import AlreadyExists, BadName
from localstore.reproduce.folder import check_name, write_new
from localstore.reproduce.patches import path_of, unmask_context
from localstore.reproduce.restore import restore_code
from localstore.surroundings.code import CodeCapture, capture
from localstore.surroundings.notebook import MainCode

if TYPE_CHECKING:
    from pathlib import Path

    from tests.surroundings.repository import Repository

TOKEN = "ghp_" + "AbCdEf0123456789AbCdEf0123456789AbCd"
MARK = "***MASKED:github-token***"


def saved(repository: Repository, level: str = "diff", **more: Any) -> CodeCapture:
    """The capture of a run, as its records give it back."""
    return capture(level, cwd=repository.root, **more)


def tree(root: Path) -> dict[str, bytes]:
    """The plain files below a folder, but git's own."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.relative_to(root).parts[0] != ".git"
    }


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "again"


# ------------------------------------------------------------------ with a repository
def test_commit_patch_and_untracked_files_come_back_as_they_ran(
    repository: Repository, target: Path
) -> None:
    repository.write("weights.bin", bytes(range(256)))
    repository.write("no end", "one\ntwo")
    commit = repository.commit(train="a = 1\n", gone="x\n")
    repository.write("train.py", "a = 2\n")
    repository.write("weights.bin", bytes(range(255, -1, -1)))
    repository.write("no end", "one\nthree")
    repository.write("sub/new.py", "n = 1\n")
    repository.write("crlf.txt", "a\r\nb\r\n")
    repository.git("add", "crlf.txt")
    (repository.root / "gone.py").unlink()
    run = saved(repository, untracked=True)
    ran = tree(repository.root)
    repository.commit(train="a = 3\n")
    report = restore_code(run.facts, run.files, target, [repository.root])
    assert tree(target) == ran
    assert report.done == [
        f"commit {commit} as a worktree of {repository.root}",
        "diff.patch",
        "untracked files: 1",
    ]
    assert (report.missing, report.masked) == ([], [])
    assert repository.git("-C", str(target), "rev-parse", "HEAD") == commit


def test_the_default_level_brings_the_commit_and_says_what_it_cannot_know(
    repository: Repository, target: Path
) -> None:
    repository.commit(train="a = 1\n")
    run = saved(repository, "sha")
    report = restore_code(run.facts, run.files, target, [repository.root])
    assert tree(target) == {"train.py": b"a = 1\n"}
    assert report.missing == [
        "changes that were not committed, if there were any: the commit alone was recorded"
    ]


def test_a_commit_that_was_never_pushed_comes_back_from_a_clone(
    repository: Repository, tmp_path: Path, target: Path
) -> None:
    repository.commit(train="a = 1\n")
    repository.git("clone", "-q", "--bare", ".", str(tmp_path / "central"))
    repository.git("remote", "add", "origin", str(tmp_path / "central"))
    repository.git("fetch", "-q", "origin")
    repository.commit(train="a = 2\n")
    repository.write("train.py", "a = 3\n")
    run = saved(repository)
    clone = tmp_path / "clone"
    repository.git("clone", "-q", str(tmp_path / "central"), str(clone))
    report = restore_code(run.facts, run.files, target, [tmp_path, clone])
    assert tree(target) == {"train.py": b"a = 3\n"}
    assert report.done[1] == "upstream.patch"


def test_a_main_script_and_code_files_beside_the_repository_are_added(
    repository: Repository, target: Path
) -> None:
    repository.commit(train="a = 1\n")
    repository.write("new.py", "n = 1\n")
    main = MainCode("/elsewhere/notebook.ipynb", b"{}\n", "notebook")
    run = saved(repository, "all", main=main)
    report = restore_code(run.facts, run.files, target, [repository.root])
    assert tree(target) == {
        "train.py": b"a = 1\n",
        "new.py": b"n = 1\n",
        "notebook.ipynb": b"{}\n",
    }
    assert report.done[1:] == ["code files: 2", "main file"]


# ------------------------------------------------------------------ masked patches
def test_a_patch_with_masked_context_applies_and_the_lines_with_marks_are_named(
    repository: Repository, target: Path
) -> None:
    before = f"a = 1\nold = '{TOKEN}'\nb = 1\ngone = '{TOKEN}'\nc = 1\n"
    repository.write("café.py", before)
    repository.commit()
    new = TOKEN.replace("Ab", "Zz")
    after = f"a = 2\nold = '{TOKEN}'\nb = 1\nnew = '{new}'\nc = 1\n"
    repository.write("café.py", after)
    run = saved(repository)
    assert TOKEN.encode() not in run.files[0][1]
    report = restore_code(run.facts, run.files, target, [repository.root])
    assert (target / "café.py").read_text() == after.replace(new, MARK)
    assert report.masked == ["café.py:4 (github-token)"]
    assert report.missing == []


def test_a_private_key_that_a_commit_has_stays_whole_when_a_line_near_it_changes(
    repository: Repository, target: Path
) -> None:
    body = "\n".join("QUJD" * 16 for _ in range(9))
    key = f"-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n"
    repository.write("key.pem", f"a\n{key}b\n")
    repository.commit()
    repository.write("key.pem", f"a\n{key}c\n")
    run = saved(repository)
    assert b"QUJDQUJD" not in run.files[0][1]
    report = restore_code(run.facts, run.files, target, [repository.root])
    assert (target / "key.pem").read_text() == f"a\n{key}c\n"
    assert report.missing == []


def test_lines_that_look_like_heads_of_a_patch_are_content() -> None:
    patch = (
        b"diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,4 +1,2 @@\n"
        b"--- a/other\n s = ***MASKED:token***\n@@ -9 +9 @@\n-***MASKED:token***\n"
        b"@@ -9 +8 @@\n-***MASKED:token***\n+***MASKED:token***\n\\ No newline at end of file\n"
    )
    # The third line of the hunk lacks its blank; it counts as one of both files.
    file = b"-- a/other\ns = REAL2\n@ -9 +9 @@\nREAL4\n5\n6\n7\n8\nREAL9"
    asked: list[bytes] = []

    def read(path: bytes) -> bytes:
        asked.append(path)
        return file

    unmasked = unmask_context(patch, read)
    assert b" s = REAL2\n" in unmasked
    assert b"-REAL4\n" in unmasked
    assert b"-REAL9\n+***MASKED:token***\n" in unmasked
    assert asked == [b"x"]


def test_a_patch_whose_masked_file_is_lost_stays_as_it_is() -> None:
    patch = b"--- a/x\n+++ b/x\n@@ -1 +1 @@\n-***MASKED:token***\n+b\n"
    assert unmask_context(patch, lambda path: None).count(b"MASKED") == 1
    assert unmask_context(b"no marks", lambda path: None) == b"no marks"


@pytest.mark.parametrize(
    ("line", "path"),
    [
        (b"--- a/x y.py", b"x y.py"),
        (b"--- a/x y.py\t", b"x y.py"),
        (b'--- "a/caf\\303\\251.py"', "café.py".encode()),
        (b'--- "a/quo\\"te\\n"', b'quo"te\n'),
        (b"--- /dev/null", b""),
    ],
)
def test_paths_are_read_as_git_writes_them(line: bytes, path: bytes) -> None:
    assert path_of(line) == path


# ------------------------------------------------------------------ without a repository
def test_without_the_commit_saved_files_come_back_and_the_commit_is_named(
    repository: Repository, tmp_path: Path, target: Path
) -> None:
    commit = repository.commit(train="a = 1\n")
    repository.git("remote", "add", "origin", "https://ada:pw@example.org/x.git")
    repository.write("train.py", f"a = '{TOKEN}'\n")
    main = MainCode(str(repository.root / "train.py"), f"a = '{TOKEN}'\n".encode(), "script")
    run = saved(repository, "main", main=main)
    (tmp_path / "other").mkdir()
    report = restore_code(run.facts, run.files, target, [tmp_path / "other", tmp_path / "gone"])
    assert sorted(tree(target)) == ["diff.patch", "train.py"]
    assert report.done == ["main file"]
    assert report.missing == [
        f"commit {commit}, from https://example.org/x.git, is in no repository at hand:"
        " name one that has it, with --repo",
        "diff.patch is saved as a file: without its commit it cannot be applied",
    ]
    assert "train.py:1 (github-token)" in report.masked


def test_a_run_without_code_says_so(target: Path) -> None:
    assert restore_code({}, [], target).missing == ["no code was saved with this run"]


def test_what_was_over_a_limit_or_in_a_submodule_is_named(target: Path) -> None:
    facts = {
        "commit": "0" * 40,
        "dirty": True,
        "limits": {"diff.patch": "over 9 bytes, and left out"},
        "submodules": {"lib; rm -rf ~": "1" * 40},
    }
    missing = restore_code(facts, [], target).missing
    assert "diff.patch was over 9 bytes, and left out when the run was recorded" in missing
    assert f"submodule lib; rm -rf ~ at {'1' * 40}: git submodule update --init -- " in missing[1]
    assert missing[1].endswith("'lib; rm -rf ~'")
    assert "files differed from the commit, and no patch was saved" in missing


def test_a_patch_that_does_not_apply_is_kept_beside_the_code(
    repository: Repository, target: Path
) -> None:
    commit = repository.commit(train="a = 1\n")
    patch = b"diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n"
    facts = {"commit": commit, "dirty": True}
    report = restore_code(facts, [("diff.patch", patch)], target, [repository.root])
    assert (target / "diff.patch.unapplied").read_bytes() == patch
    assert (target / "train.py").exists()
    assert "diff.patch does not apply" in report.missing[0]


# ------------------------------------------------------------------ attacks
def test_a_folder_that_holds_anything_is_left_alone(tmp_path: Path, target: Path) -> None:
    target.mkdir()
    restore_code({}, [("main/a.py", b"x")], target)
    with pytest.raises(AlreadyExists):
        restore_code({}, [("main/b.py", b"x")], target)
    assert tree(target) == {"a.py": b"x"}
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AlreadyExists):
        restore_code({}, [("main/a.py", b"x")], tmp_path / "link")


@pytest.mark.parametrize(
    "path",
    [
        *("../x", "a/../../x", "/etc/x", "a//b", "", ".", "a/.", "a\0b", "a\\b", "x" * 5000),
        *(".git/config", "a/.git/hooks/post-checkout", ".GIT/config", ".git./x", ".git /x"),
        *("git~1/config", ".g\u200cit/config", ".git::$INDEX_ALLOCATION/x", ".\uff47it/x"),
    ],
)
def test_a_hostile_path_makes_no_file(path: str, tmp_path: Path, target: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    report = restore_code({}, [(f"code/{path}", b"evil"), ("code/good.py", b"")], target)
    assert tree(target) == {"good.py": b""}
    assert [found for found in sorted(tmp_path.rglob("*")) if target not in found.parents] == [
        *sorted([*before, target])
    ]
    assert len(report.missing) == 1


@pytest.mark.parametrize("path", [".gitignore", ".github/x.yml", "git/x", "a b/ä.py", "...", "~"])
def test_an_unusual_path_is_fine(path: str) -> None:
    assert check_name(path) == path


def test_files_are_not_written_through_links(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    root = tmp_path / "root"
    root.mkdir()
    (root / "folder").symlink_to(outside)
    (root / "file").symlink_to(outside / "file")
    for path in ("folder/x", "file"):
        with pytest.raises(BadName):
            write_new(root, path, b"evil")
    assert list(outside.iterdir()) == []
    write_new(root, "a/b", b"one")
    with pytest.raises(BadName):
        write_new(root, "a/b/c", b"under a file")
    with pytest.raises(BadName):
        write_new(root, "a", b"over a folder")
    write_new(root, "a/b", b"two")
    assert (root / "a/b").read_bytes() == b"two"


def new_file(path: str, content: str, mode: str = "100644") -> bytes:
    lines = content.count("\n") + (not content.endswith("\n"))
    end = "" if content.endswith("\n") else "\n\\ No newline at end of file\n"
    body = "".join(f"+{line}\n" for line in content.rstrip("\n").split("\n")).rstrip("\n")
    return (
        f"diff --git a/{path} b/{path}\nnew file mode {mode}\n--- /dev/null\n+++ b/{path}\n"
        f"@@ -0,0 +1,{lines} @@\n{body}\n{end.lstrip(chr(10))}"
    ).encode()


@pytest.mark.parametrize(
    "path", ["../x", "/tmp/x", ".git/hooks/post-checkout", "a/.git/config", "a/../../x"]
)
def test_a_patch_with_a_hostile_path_is_not_applied(
    path: str, repository: Repository, tmp_path: Path, target: Path
) -> None:
    commit = repository.commit(train="a = 1\n")
    patch = new_file("good.py", "x = 1\n") + new_file(path, "evil\n")
    before = sorted(found for found in tmp_path.rglob("*") if ".git" not in found.parts)
    report = restore_code({"commit": commit}, [("diff.patch", patch)], target, [repository.root])
    assert sorted(tree(target)) == ["diff.patch.unapplied", "train.py"]
    assert "does not apply" in report.missing[0]
    after = [
        found
        for found in tmp_path.rglob("*")
        if ".git" not in found.parts and target not in [found, *found.parents]
    ]
    assert sorted(after) == before
    assert not (repository.root / ".git/hooks/post-checkout").exists()


def test_links_of_a_patch_that_lead_out_are_removed_and_others_stay(
    repository: Repository, tmp_path: Path, target: Path
) -> None:
    commit = repository.commit(train="a = 1\n")
    patch = new_file("out", "../../etc", "120000") + new_file("in", "train.py", "120000")
    files = [("diff.patch", patch), ("untracked/out/passwd", b"x"), ("code/out", b"y")]
    report = restore_code({"commit": commit}, files, target, [repository.root])
    assert (target / "in").readlink().name == "train.py"
    assert not (target / "out").is_symlink()
    assert "refused 'out': a link out of the folder" in report.missing
    assert not (tmp_path / "etc").exists()


def test_a_patch_through_its_own_link_is_not_applied(
    repository: Repository, tmp_path: Path, target: Path
) -> None:
    commit = repository.commit(train="a = 1\n")
    (tmp_path / "outside").mkdir()
    patch = new_file("out", "../outside", "120000") + new_file("out/x", "evil\n")
    report = restore_code({"commit": commit}, [("diff.patch", patch)], target, [repository.root])
    assert "does not apply" in report.missing[0]
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.mark.parametrize("commit", ["HEAD", "--upload-pack=evil", "main", "0" * 39, "../x", ""])
def test_a_commit_that_is_no_hash_is_not_asked_for(
    commit: str, repository: Repository, target: Path
) -> None:
    repository.commit(train="a = 1\n")
    restore_code({"commit": commit, "dirty": False}, [], target, [repository.root])
    assert not target.exists() or tree(target) == {}


def test_no_hook_and_no_filter_of_the_repository_runs(
    repository: Repository, tmp_path: Path, target: Path
) -> None:
    ran = tmp_path / "ran"
    evil = tmp_path / "evil"
    evil.write_text(f"#!/bin/sh\necho x >> {ran}\ncat\n")
    evil.chmod(0o700)
    repository.write(".gitattributes", "*.py filter=evil\n")
    commit = repository.commit(train="a = 1\n")
    hook = repository.root / ".git/hooks/post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(evil.read_text())
    hook.chmod(0o700)
    for part in ("smudge", "clean", "process"):
        repository.git("config", f"filter.evil.{part}", str(evil))
    repository.git("config", "core.fsmonitor", str(evil))
    patch = b"diff --git a/train.py b/train.py\n--- a/train.py\n+++ b/train.py\n"
    patch += b"@@ -1 +1 @@\n-a = 1\n+a = 2\n"
    report = restore_code({"commit": commit}, [("diff.patch", patch)], target, [repository.root])
    assert (target / "train.py").read_text() == "a = 2\n"
    assert report.done[1] == "diff.patch"
    assert not ran.exists()
