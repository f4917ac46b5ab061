"""Console, machine, environment and code: each with its switch, none beyond what is allowed."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import localstore
from localstore.errors import BadSetting, UsageError
from localstore.format.spec import DataClass
from localstore.layout import HomePaths
from tests.sdk.scripts import TIMEOUT_S, only_run

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = """
import localstore
run = localstore.init(project="around", config={"lr": 0.1})
print("printed by the script")
run.log({"loss": 1.0})
"""


@pytest.fixture
def switched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings as a person has them who has set none."""
    for part in ("CONSOLE", "SYSTEM_METRICS", "ENVIRONMENT", "CODE_SAVING", "HOST_NAMES"):
        monkeypatch.delenv(f"LOCALSTORE_{part}")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository with one commit and a change that is not committed; we stand in it."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "train.py").write_text(SCRIPT)
    (folder / "model.py").write_text("LAYERS = 2\n")
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], check=True)
    subprocess.run([*git, "remote", "add", "origin", "https://me:hunter2@host/r.git"], check=True)
    (folder / "model.py").write_text("LAYERS = 3\n")
    monkeypatch.chdir(folder)
    return folder


def run_train(folder: Path) -> str:
    """Run the repository's script; returns what it said to the person."""
    return run_words("-c", (folder / "train.py").read_text())


def run_words(*words: str) -> str:
    """Run Python with these words; returns what it said to the person."""
    command = [sys.executable, "-W", "error", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def paths() -> list[str]:
    return [file.path for file in only_run().files()]


# ------------------------------------------------------------------ what is on by default
@pytest.mark.usefixtures("switched_on")
def test_without_a_setting_console_machine_and_environment_are_recorded(repository: Path) -> None:
    run_train(repository)
    run = only_run()
    assert "printed by the script" in "".join(line.text for line in run.console())
    assert run.facts("environment")["python"]["version"]
    assert b"localstore==" in run.read_file("requirements.txt") or b"pynacl" in run.read_file(
        "requirements.txt"
    )
    assert "process.memory.rss_mb" in run.system_metrics(pandas=False)
    assert run.problems == []


@pytest.mark.usefixtures("switched_on")
def test_without_a_setting_the_commit_is_all_that_is_kept_of_the_code(repository: Path) -> None:
    run_train(repository)
    facts = only_run().facts("git")
    assert list(facts) == ["commit"]
    assert [one for one in paths() if one != "requirements.txt"] == []


@pytest.mark.usefixtures("switched_on")
@pytest.mark.parametrize("part", ["console", "system_metrics", "environment"])
def test_each_part_has_its_switch(
    repository: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    monkeypatch.setenv(f"LOCALSTORE_{part.upper()}", "false")
    run_train(repository)
    run = only_run()
    has = {
        "console": bool(run.console()),
        "system_metrics": bool(len(run.contents.system())),
        "environment": bool(run.facts("environment")),
    }
    assert has == {name: name != part for name in has}


@pytest.mark.usefixtures("switched_on")
def test_a_rank_that_is_not_the_first_of_its_node_records_its_metrics_alone(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "5")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "8")
    run_train(repository)
    assert (only_run().console(), paths(), only_run().facts("git")) == ([], [], {})
    monkeypatch.setenv("LOCALSTORE_EVERY_RANK", "true")
    run_train(repository)
    assert any(run.console() for run in localstore.Api().runs())


# ------------------------------------------------------------------ names
@pytest.mark.usefixtures("switched_on")
def test_host_and_user_name_stand_in_a_segment_that_stays_unless_shared(
    repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run_train(repository)
    assert set(only_run().facts("host")) == {"host", "user"}
    assert len(tags(tmp_path)) == 1
    monkeypatch.setenv("LOCALSTORE_HOST_NAMES", "share")
    run_train(repository)
    assert len(tags(tmp_path)) == 1
    monkeypatch.setenv("LOCALSTORE_HOST_NAMES", "off")
    run_train(repository)
    assert [bool(run.facts("host")) for run in localstore.Api().runs()].count(False) == 1


def tags(tmp_path: Path) -> list[bytes]:
    """Policy tags of the segments of class system, none left out but zeros."""
    from localstore.format.segment import decode_header

    (project,) = HomePaths(tmp_path / "home").all_projects()
    headers = [decode_header(path.read_bytes())[0] for path in project.runs.rglob("*.log")]
    return [one.policy_tag for one in headers if any(one.policy_tag)]


# ------------------------------------------------------------------ code
@pytest.mark.usefixtures("switched_on")
def test_with_diff_the_patch_is_kept_and_credentials_are_not(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCALSTORE_CODE_SAVING", "diff")
    run_train(repository)
    facts = only_run().facts("git")
    assert (facts["dirty"], facts["remote"]) == (True, "https://host/r.git")
    assert b"+LAYERS = 3" in only_run().read_file("diff.patch")
    assert {file.data_class for file in only_run().files() if "patch" in file.path} == {
        int(DataClass.CODE)
    }


@pytest.mark.usefixtures("switched_on")
def test_a_script_lowers_what_is_kept_and_never_raises_it(
    repository: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    localstore.init(project="around", settings={"code_saving": "all", "console": False}).finish()
    assert list(only_run().facts("git")) == ["commit"]
    assert "never raise it" in capsys.readouterr().err
    monkeypatch.setenv("LOCALSTORE_CODE_SAVING", "all")
    localstore.init(project="lower", settings={"code_saving": "off", "console": False}).finish()
    (run,) = localstore.Api().runs("lower")
    assert (run.facts("git"), [f.path for f in run.files() if "req" not in f.path]) == ({}, [])


def test_a_setting_that_does_not_exist_is_named() -> None:
    with pytest.raises(UsageError, match="code_savings"):
        localstore.init(project="around", settings={"code_savings": "diff"})
    with pytest.raises(BadSetting, match="code_saving"):
        localstore.init(project="around", settings={"code_saving": "some"})


def test_log_code_needs_the_permission_of_the_settings(
    repository: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with localstore.init(project="around") as run:
        assert run.log_code(repository) is None
    assert "code_saving" in capsys.readouterr().err
    monkeypatch.setenv("LOCALSTORE_CODE_SAVING", "all")
    (repository / "notes.py").write_text("")
    (repository / "keys.py").write_text('TOKEN = "ghp_' + "a1B2" * 9 + '"\n')
    with localstore.init(project="around", reinit=True) as run:
        artifact = run.log_code(repository, exclude=["notes*"])
        assert artifact is not None
        artifact.wait()
        found = {entry.path for entry in artifact.files()}
        out = artifact.download(repository / "out")
    assert found == {"train.py", "model.py", "keys.py"}
    kept = (repository / "out/keys.py").read_text()
    assert out
    assert "ghp_" not in kept
    assert "MASKED" in kept


def test_what_log_code_keeps_is_of_class_code_alone(
    repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from localstore.format.segment import decode_header

    monkeypatch.setenv("LOCALSTORE_CODE_SAVING", "all")
    with localstore.init(project="around") as run:
        run.log_code(repository)
    (project,) = HomePaths(tmp_path / "home").all_projects()
    classes = {
        decode_header(path.read_bytes())[0].data_class for path in project.runs.rglob("*.log")
    }
    objects = {
        path.read_bytes()[6] for path in (project.root / "objects").rglob("*") if path.is_file()
    }
    assert DataClass.ARTIFACTS not in classes
    assert objects == {DataClass.CODE}


# ------------------------------------------------------------------ the same work twice
@pytest.mark.usefixtures("switched_on")
def test_a_start_that_repeats_an_earlier_run_says_so_and_names_it(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCALSTORE_QUIET", "0")
    assert "same code" not in run_words("train.py")
    first = only_run()
    said = run_words("train.py")
    assert f"{first.name} ({first.id}) had the same code, config and inputs" in said


@pytest.mark.usefixtures("switched_on")
@pytest.mark.parametrize("change", ["config", "code that is not committed", "a run that is gone"])
def test_a_start_that_differs_repeats_nothing(
    repository: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.setenv("LOCALSTORE_QUIET", "0")
    run_words("train.py")
    if change == "config":
        (repository / "train.py").write_text(SCRIPT.replace("0.1", "0.2"))
    elif change == "code that is not committed":
        (repository / "model.py").write_text("LAYERS = 4\n")
    else:
        only_run().delete(now=True)
    assert "same code" not in run_words("train.py")


@pytest.mark.usefixtures("switched_on", "repository")
def test_a_program_that_is_no_file_repeats_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALSTORE_QUIET", "0")
    run_words("-c", SCRIPT)
    assert "same code" not in run_words("-c", SCRIPT + "run.log({'other': 2.0})\n")


@pytest.mark.usefixtures("switched_on")
def test_code_that_could_not_be_read_whole_repeats_nothing(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCALSTORE_QUIET", "0")
    (repository / "weights.bin").write_bytes(b"a" * (2 << 20))
    run_words("train.py")
    (repository / "weights.bin").write_bytes(b"b" * (2 << 20))
    assert "same code" not in run_words("train.py")


@pytest.mark.usefixtures("switched_on")
def test_two_short_scripts_that_do_not_finish_are_told_apart(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCALSTORE_QUIET", "0")
    (repository / "other.py").write_text(SCRIPT)
    for words in (("train.py",), ("other.py",)):
        assert "same code" not in run_words(*words)
    assert "same code" in run_words("train.py")


LOOP = """
import localstore
for lr in (1, 2, 3):
    run = localstore.init(project="loop")
    run.config.lr = lr
    run.finish()
"""


@pytest.mark.usefixtures("switched_on")
def test_runs_whose_config_is_set_after_their_start_are_told_apart_by_it(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCALSTORE_QUIET", "0")
    (repository / "loop.py").write_text(LOOP)
    assert "same code" not in run_words("loop.py")
