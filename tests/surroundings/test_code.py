"""How much of the code is saved: what the settings allow, masked, and no more."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from localstore.surroundings import code
from localstore.surroundings.code import (
    LEVELS,
    capture,
    capture_to_compare,
    collect_code,
    effective_level,
    notebook_at_end,
)
from localstore.surroundings.notebook import MainCode

if TYPE_CHECKING:
    from pathlib import Path

    from tests.surroundings.repository import Repository

TOKEN = "ghp_" + "AbCdEf0123456789AbCdEf0123456789AbCd"


def main_of(repository: Repository, path: str = "train.py") -> MainCode:
    return MainCode(str(repository.root / path), (repository.root / path).read_bytes(), "script")


@pytest.fixture
def dirty(repository: Repository) -> Repository:
    """A repository with a commit, a change, and an untracked file."""
    repository.commit(train="a = 1\n", lib="b = 1\n")
    repository.write("train.py", "a = 2\n")
    repository.write("new.py", "n = 1\n")
    return repository


# ------------------------------------------------------------------ levels
def test_off_means_nothing(dirty: Repository) -> None:
    found = capture("off", cwd=dirty.root, untracked=True, main=main_of(dirty))
    assert (found.facts, found.files, found.masked, found.problems) == ({}, [], [], [])


def test_sha_is_the_commit_whatever_else_is_at_hand(dirty: Repository) -> None:
    found = capture("sha", cwd=dirty.root, untracked=True, main=main_of(dirty))
    assert list(found.facts) == ["commit"]
    assert (found.files, found.problems) == ([], [])


def test_each_level_has_what_the_one_before_it_has_and_more(dirty: Repository) -> None:
    seen: list[set[str]] = []
    for level in LEVELS:
        found = capture(level, cwd=dirty.root, main=main_of(dirty))
        seen.append({path for path, _ in found.files} | set(found.facts))
    assert all(less < more for less, more in itertools.pairwise(seen))
    assert seen[-1] == {
        *("commit", "branch", "dirty", "root", "level", "main", "main_kind"),
        *("diff.patch", "main/train.py", "code/train.py", "code/lib.py", "code/new.py"),
    }


def test_untracked_files_are_saved_on_request_alone(dirty: Repository) -> None:
    without = capture("diff", cwd=dirty.root)
    having = capture("diff", cwd=dirty.root, untracked=True)
    assert [path for path, _ in without.files] == ["diff.patch"]
    assert [path for path, _ in having.files] == ["diff.patch", "untracked/new.py"]


def test_everything_that_is_saved_is_masked_and_the_marks_are_facts_too(
    dirty: Repository,
) -> None:
    for name in ("train.py", "new.py"):
        dirty.write(name, f"x = 1\ny = '{TOKEN}'\n")
    found = capture("all", cwd=dirty.root, untracked=True, main=main_of(dirty))
    assert TOKEN not in repr(found)
    where = {(one["file"], one["line"]) for one in found.masked}
    assert {("main/train.py", 2), ("code/new.py", 2), ("untracked/new.py", 2)} < where
    assert ("diff.patch", 8) in where
    assert found.facts["masked"] == found.masked


def test_the_main_script_below_the_root_keeps_its_folder(dirty: Repository) -> None:
    dirty.write("deep/run.py", "")
    found = capture("main", cwd=dirty.root / "deep", main=main_of(dirty, "deep/run.py"))
    assert found.facts["main"] == "deep/run.py"
    assert ("main/deep/run.py", b"") in found.files


def test_without_a_repository_the_folder_of_the_script_is_the_code(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/run.py").write_text("x = 1\n")
    (tmp_path / "other.py").write_text("of somebody else\n")
    main = MainCode(str(tmp_path / "a/run.py"), b"x = 1\n", "script")
    found = capture("all", cwd=tmp_path, main=main)
    assert found.files == [("main/run.py", b"x = 1\n"), ("code/run.py", b"x = 1\n")]
    assert found.problems == []  # what was asked for is saved
    assert capture("diff", cwd=tmp_path, main=main).problems == [
        f"{tmp_path} is in no git repository"
    ]


def test_what_is_compared_holds_every_file_that_could_make_a_difference(
    dirty: Repository, tmp_path: Path
) -> None:
    found = capture_to_compare(dirty.root, main_of(dirty))
    assert [path for path, _ in found.files] == ["diff.patch", "untracked/new.py", "main/train.py"]
    fill(tmp_path / "apart", "run.py", "lib.py")
    main = MainCode(str(tmp_path / "apart/run.py"), b"", "script")
    found = capture_to_compare(tmp_path / "apart", main)
    assert [path for path, _ in found.files] == ["main/run.py", "code/lib.py", "code/run.py"]


def test_a_notebook_is_saved_again_at_the_end_under_its_first_name(dirty: Repository) -> None:
    path = str(dirty.root / "lab/n.ipynb")
    early = MainCode(path, f"'{TOKEN}'".encode(), "notebook")
    late = MainCode(path, f"x\n'{TOKEN}'".encode(), "notebook")
    dirty.write("train.py", f"'{TOKEN}'\n")
    start = capture("main", cwd=dirty.root, main=early)
    end = notebook_at_end(late, start.facts)
    assert end.files == [("main/lab/n.ipynb", b"x\n'***MASKED:github-token***'")]
    marks = [(one["file"], one["line"]) for one in end.facts["masked"]]
    assert marks == [("diff.patch", 7), ("main/lab/n.ipynb", 2)]
    assert end.facts["commit"] == start.facts["commit"]


def test_what_is_no_notebook_or_was_not_saved_is_not_saved_at_the_end(dirty: Repository) -> None:
    notebook = MainCode("n.ipynb", b"", "notebook")
    for level in ("off", "sha", "diff"):
        facts = capture(level, cwd=dirty.root, main=notebook).facts
        assert notebook_at_end(notebook, facts).files == []
    facts = capture("main", cwd=dirty.root, main=main_of(dirty)).facts
    assert notebook_at_end(main_of(dirty), facts).files == []
    assert notebook_at_end(None, facts).files == []


@pytest.mark.parametrize("setting", LEVELS)
@pytest.mark.parametrize("script", LEVELS)
def test_a_script_lowers_what_is_saved_and_never_raises_it(setting: str, script: str) -> None:
    level, warning = effective_level(setting, script)
    assert LEVELS.index(level) == min(LEVELS.index(setting), LEVELS.index(script))
    assert bool(warning) == (LEVELS.index(script) > LEVELS.index(setting))


def test_a_script_that_asks_for_nothing_or_nonsense_gets_the_setting() -> None:
    assert effective_level("diff", None) == ("diff", "")
    level, warning = effective_level("diff", "everything")
    assert level == "diff"
    assert "'everything'" in warning


# ------------------------------------------------------------------ a folder of code
def paths(found: list[tuple[str, bytes]]) -> list[str]:
    return [path for path, _ in found]


def fill(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def test_code_files_are_found_and_foreign_folders_are_not_entered(tmp_path: Path) -> None:
    fill(tmp_path, "a.py", "b/c.py", "requirements.txt", "Dockerfile", "data.csv", "n.ipynb")
    fill(tmp_path, ".git/x.py", ".venv/x.py", "node_modules/x.py", "wandb/x.py")
    fill(tmp_path, "__pycache__/x.py", "mine/pyvenv.cfg", "mine/lib/x.py")
    assert paths(collect_code(tmp_path)) == ["Dockerfile", "a.py", "b/c.py", "requirements.txt"]


def test_what_git_ignores_is_left_out_and_what_is_not_yet_added_is_in(
    repository: Repository,
) -> None:
    fill(repository.root, "a.py", "skip/b.py", "env/pyvenv.cfg", "env/lib/c.py")
    repository.write(".gitignore", "skip/\n")
    repository.commit()
    fill(repository.root, "new.py")
    (repository.root / "a.py").unlink()
    assert paths(collect_code(repository.root)) == ["new.py"]


def test_a_folder_that_git_ignores_as_a_whole_is_walked(repository: Repository) -> None:
    repository.write(".gitignore", "lab/\n")
    fill(repository.root, "lab/a.py")
    assert paths(collect_code(repository.root / "lab")) == ["a.py"]


def test_globs_and_functions_of_one_or_two_arguments_choose(tmp_path: Path) -> None:
    fill(tmp_path, "a.py", "b/c.py", "b/d.yaml")
    assert paths(collect_code(tmp_path, "*.yaml")) == ["b/d.yaml"]
    assert paths(collect_code(tmp_path, ["b/*"], ["*.py"])) == ["b/d.yaml"]
    assert paths(collect_code(tmp_path, exclude="b/*")) == ["a.py"]
    assert paths(collect_code(tmp_path, lambda path: path.endswith("c.py"))) == ["b/c.py"]
    assert paths(
        collect_code(tmp_path, lambda path, root: path == f"{root}/a.py", lambda path: False)
    ) == ["a.py"]
    assert paths(collect_code(tmp_path, "*.py", lambda path, root=None: "/b/" in path)) == ["a.py"]


def test_links_are_not_followed_out_of_the_folder(tmp_path: Path) -> None:
    fill(tmp_path, "outside/secret.py", "root/a.py")
    (tmp_path / "root/link.py").symlink_to(tmp_path / "outside/secret.py")
    (tmp_path / "root/folder").symlink_to(tmp_path / "outside")
    problems: list[str] = []
    assert paths(collect_code(tmp_path / "root", problems=problems)) == ["a.py"]
    assert problems == ["link.py is not saved: too long, or no plain file"]


def test_too_long_and_too_many_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "CODE_FILE_LIMIT_BYTES", 10)
    monkeypatch.setattr(code, "CODE_LIMIT_FILES", 2)
    fill(tmp_path, "a.py", "b.py", "c.py", "a_very_long_name.py")
    problems: list[str] = []
    assert paths(collect_code(tmp_path, problems=problems)) == ["a.py", "b.py"]
    assert problems == [
        "a_very_long_name.py is not saved: too long, or no plain file",
        "code files from c.py on are not saved: too many",
    ]


def test_a_folder_without_end_is_searched_in_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code, "WALK_LIMIT_ENTRIES", 8)
    fill(tmp_path, "a.py", *(f"f{at}/x.py" for at in range(9)))
    problems: list[str] = []
    assert paths(collect_code(tmp_path, problems=problems)) == ["a.py", "f0/x.py", "f1/x.py"]
    assert problems == [f"{tmp_path} is too large to search it all for code: some is not saved"]
