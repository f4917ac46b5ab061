"""`localstore prune`, `pull` and what other commands say of a pruned run, as a person sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import localstore
from localstore.errors import Pruned
from localstore.layout import HomePaths
from tests.cli.conftest import call

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with two runs, an artifact of two versions, and a stick that has all of it."""
    monkeypatch.setenv("LOCALSTORE_USERNAME", "ada")
    for name, lr in (("first", 0.1), ("second", 0.2)):
        run = localstore.init(project="digits", id=name, config={"lr": lr})
        for step in range(5):
            run.log({"loss": 1 / (step + 1)})
        file = tmp_path / "weights.bin"
        file.write_bytes(f"weights of {name} ".encode() * 20_000)
        artifact = localstore.Artifact("model", type="model")
        artifact.add_file(str(file), name="weights.bin")
        run.log_artifact(artifact)
        run.finish()
    assert call("remote", "add", "stick", str(tmp_path / "stick")).code == 0
    synced = call("sync", "now")
    assert synced.code == 0, synced.err
    return tmp_path / "home"


def stored(home: Path) -> dict[str, bytes]:
    """Every log and object."""
    (paths,) = HomePaths(home).all_projects()
    return {
        name: paths.file(name).read_bytes()
        for name in paths.names()
        if name.startswith(("runs/", "objects/"))
    }


def prune(*words: str) -> dict[str, Any]:
    """Prune without waiting for the time of grace that objects have."""
    done = call("prune", "--yes", "--json", "--grace", "0", *words)
    assert done.code == 0, done.err
    out: dict[str, Any] = json.loads(done.out)
    return out


def listed() -> list[dict[str, Any]]:
    """What `ls` says of every run, but for what was pruned of it."""
    runs: list[dict[str, Any]] = json.loads(call("ls", "--json").out)["runs"]
    return [{key: value for key, value in run.items() if key != "pruned"} for run in runs]


def test_a_pruned_run_is_listed_and_shown_with_config_and_summary(home: Path) -> None:
    before = listed()
    assert prune("--run", "first")["bytes"] > 0
    assert listed() == before
    shown = call("show", "first")
    assert shown.code == 0, shown.err
    assert "lr" in shown.out
    assert "loss" in shown.out
    assert "on remote 'stick'" in shown.out
    assert "localstore pull first" in shown.out
    document = json.loads(call("show", "first", "--json").out)
    assert document["config"] == {"lr": 0.1}
    assert document["summary"]["loss"] == pytest.approx(0.2)
    assert document["pruned"] == {"metrics": "remote 'stick'"}
    assert document["problems"] == []


def test_what_is_not_here_is_called_pruned_and_not_damaged(home: Path, tmp_path: Path) -> None:
    prune()
    run = localstore.Api().run("first")
    with pytest.raises(Pruned, match="remote 'stick'") as problem:
        run.history()
    assert "localstore pull first" in problem.value.hint
    with pytest.raises(Pruned):
        list(run.scan_history())
    for words in (
        ["show", "first", "--key", "loss"],
        ["export", "first"],
        ["artifact", "get", "model:latest", "--root", str(tmp_path / "out")],
    ):
        done = call(*words)
        assert done.code == Pruned.exit_code, (words, done)
        assert "pruned here; it is on remote 'stick'" in done.err
        assert "localstore pull" in done.err
        assert "amage" not in done.err


def test_pull_brings_a_run_and_its_artifact_back_byte_for_byte(home: Path) -> None:
    before = stored(home)
    prune()
    done = call("pull", "first")
    assert done.code == 0, done.err
    assert len(localstore.Api().run("first").history(pandas=False)["loss"]) == 5
    with pytest.raises(Pruned):
        localstore.Api().run("second").history()
    assert call("pull", "digits").code == 0
    assert stored(home) == before
    again = call("pull", "second")
    assert again.code == 0
    assert "nothing of it was pruned" in again.err or again.err == ""


def test_one_version_of_an_artifact_comes_back_alone(home: Path, tmp_path: Path) -> None:
    prune()
    assert call("pull", "model:v0").code == 0
    got = call("artifact", "get", "model:v0", "--root", str(tmp_path / "out"))
    assert got.code == 0, got.err
    assert (tmp_path / "out" / "weights.bin").read_bytes() == b"weights of first " * 20_000
    assert call("artifact", "get", "model:v1", "--root", str(tmp_path / "o2")).code == 66


def test_the_newest_are_kept(home: Path, tmp_path: Path) -> None:
    prune("--keep-last", "1")
    assert len(localstore.Api().run("second").history(pandas=False)["loss"]) == 5
    assert call("artifact", "get", "model:v1", "--root", str(tmp_path / "out")).code == 0
    with pytest.raises(Pruned):
        localstore.Api().run("first").history()


def test_verify_repair_gc_and_du_take_pruned_bytes_for_what_they_are(home: Path) -> None:
    prune()
    files = stored(home)
    verified = call("verify", "--read-data")
    assert verified.code == 0, verified.out + verified.err
    repaired = call("repair")
    assert repaired.code == 0, repaired.out + repaired.err
    assert call("gc", "--grace", "0").code == 0
    document = json.loads(call("du", "--json").out)
    assert document["projects"][0]["pruned"] > 0
    assert document["projects"][0]["problems"] == []
    assert stored(home) == files


def test_a_sync_pulls_nothing_back_and_deletes_nothing_there(home: Path, tmp_path: Path) -> None:
    def there() -> dict[str, bytes]:
        found = (path for path in (tmp_path / "stick").rglob("*") if path.is_file())
        return {str(path): path.read_bytes() for path in found if "/stamps/" not in str(path)}

    prune()
    files, remote = stored(home), there()
    for _ in range(2):
        assert call("sync", "now").code == 0
        assert stored(home) == files
        assert there() == remote


def test_the_same_content_logged_again_is_stored_again(home: Path, tmp_path: Path) -> None:
    """Caches of what was taken before must not believe that it is still here."""
    prune()
    run = localstore.init(project="digits", id="third")
    file = tmp_path / "again.bin"
    file.write_bytes(b"weights of first " * 20_000)
    artifact = localstore.Artifact("copy", type="model")
    artifact.add_file(str(file), name="weights.bin")
    run.log_artifact(artifact)
    run.finish()
    got = call("artifact", "get", "copy", "--root", str(tmp_path / "out"))
    assert got.code == 0, got.err
    assert (tmp_path / "out" / "weights.bin").read_bytes() == file.read_bytes()
    assert call("verify", "--read-data").code == 0


def test_erasing_a_pruned_run_erases_it_on_the_remote_and_its_stubs(
    home: Path, tmp_path: Path
) -> None:
    prune()
    subject = localstore.Api().run("first").subject
    assert call("rm", "first", "--now", "--yes").code == 0
    assert call("sync", "now").code == 0
    assert not [p for p in (tmp_path / "stick").rglob("*") if subject in str(p) and p.is_file()]
    kept = [p for p in home.rglob("*") if subject in str(p) and p.is_file()]
    assert not [p for p in kept if p.parent.name != "wake"]
    assert call("verify").code == 0


def test_a_dry_run_and_a_no_change_nothing(home: Path) -> None:
    files = stored(home)
    assert call("prune", "--dry-run").code == 0
    assert call("prune", stdin="n\n").code == 2
    assert stored(home) == files


def test_wrong_words_are_usage_errors(home: Path) -> None:
    assert call("prune", "--classes", "nonsense", "--yes").code == 2
    assert call("prune", "--synced-to", "cloud", "--yes").code == 66
    assert call("pull", "nobody").code == 66
    assert call("gc", "--remote", "cloud").code == 66


SCRIPT = """
import localstore
run = localstore.init(project="digits", id="media")
rows = [[index, "x" * 50] for index in range(3000)]
run.log({"table": localstore.Table(columns=["a", "b"], data=rows)})
print("hello from the run")
run.finish()
"""


def test_files_and_output_of_a_pruned_run_say_where_they_are(home: Path) -> None:
    (home / "policy.toml").write_text('[classes]\nconsole = "auto"\n')
    environment = {**os.environ, "LOCALSTORE_CONSOLE": "true"}
    words = [sys.executable, "-c", SCRIPT]
    subprocess.run(words, env=environment, check=True, capture_output=True, timeout=60)
    assert call("sync", "now").code == 0
    assert "table" in call("files", "media").out
    assert "hello from the run" in call("logs", "media").out
    prune("--run", "media")
    shown = call("files", "media", LOCALSTORE_QUIET="0")
    assert shown.code == Pruned.exit_code
    assert "localstore pull media" in shown.err
    assert "has no files" not in shown.err
    wanted = call("files", "media", "--get", "*.json", "--root", str(home.parent / "out"))
    assert wanted.code == Pruned.exit_code
    assert "localstore pull media" in wanted.err
    assert "was pruned here; it is on remote 'stick'" in wanted.err
    with pytest.raises(Pruned):
        localstore.Api().run("media").read_file("media/table/nothing.json")
    said = call("logs", "media")
    assert said.code == Pruned.exit_code, said
    assert "on remote 'stick'" in said.err
    assert call("pull", "media").code == 0
    assert "table" in call("files", "media").out
    assert "hello from the run" in call("logs", "media").out


def test_a_deleted_version_leaves_the_remote_by_gc(home: Path, tmp_path: Path) -> None:
    def objects() -> set[str]:
        return {path.name for path in (tmp_path / "stick").glob("projects/*/objects/*/*")}

    before = objects()
    assert call("artifact", "rm", "model:v0", "--yes").code == 0
    assert call("sync", "now").code == 0
    waiting = json.loads(call("gc", "--remote", "stick", "--json").out)["projects"][0]
    assert waiting["waiting"] > 0
    assert objects() == before
    done = call("gc", "--remote", "stick", "--grace", "0")
    assert done.code == 0, done.err
    assert objects() < before
    assert call("sync", "now").code == 0
    assert objects() < before
    assert call("verify").code == 0
    assert call("artifact", "get", "model:v1", "--root", str(tmp_path / "out")).code == 0


def test_files_of_a_pruned_version_are_asked_for_by_its_name(home: Path, tmp_path: Path) -> None:
    prune("--run", "first")
    done = call("artifact", "get", "digits/model:v0", "--root", str(tmp_path / "out"))
    assert done.code == Pruned.exit_code, done
    assert "contents of ada/digits/model:v0 were pruned here; it is on remote 'stick'" in done.err
    assert "`localstore pull ada/digits/model:v0` brings them back" in done.err
    assert call("pull", "ada/digits/model:v0").code == 0
    assert call("artifact", "get", "digits/model:v0", "--root", str(tmp_path / "out")).code == 0


def test_a_pull_from_a_remote_that_is_away_says_so_once_and_what_to_do(home: Path) -> None:
    prune("--run", "first")
    (home.parent / "stick/LOCALSTORE-REMOTE").rename(home.parent / "marker")
    done = call("pull", "first")
    assert done.code == 69
    assert "runs/" not in done.err
    assert "error: not everything came back" in done.err
    assert "when stick can be reached, call it again" in done.err
    assert done.err.count("did not come") == 1


def test_two_remotes_that_have_the_same_bytes_free_them_once(home: Path, tmp_path: Path) -> None:
    assert call("remote", "add", "other", str(tmp_path / "other")).code == 0
    assert call("sync", "now").code == 0
    planned = prune("--run", "first", "--dry-run")["bytes"]
    assert planned == prune("--run", "first", "--synced-to", "other", "--dry-run")["bytes"]
    assert prune("--run", "first")["bytes"] == planned


@pytest.mark.parametrize("none", ["0", "0s", "0h"])
def test_no_time_of_grace_may_be_said_with_a_unit(home: Path, none: str) -> None:
    done = call("prune", "--run", "first", "--grace", none, "--dry-run")
    assert done.code == 0, done.err
    assert "would free" in call("prune", "-n", "--run", "first", LOCALSTORE_QUIET="0").err
    assert call("prune", "--older", "0s", "-n").code == 2


def test_a_prune_that_frees_nothing_says_so(home: Path) -> None:
    prune("--run", "first")
    again = call("prune", "--run", "first", "--yes", "--grace", "0s", LOCALSTORE_QUIET="0")
    assert (again.code, "nothing was freed" in again.err) == (0, True), again
    assert "would" not in again.err


def test_a_remote_that_alone_has_pruned_bytes_is_not_forgotten_by_the_way(home: Path) -> None:
    prune("--run", "first")
    refused = call("remote", "rm", "stick")
    assert refused.code == 77
    assert "were pruned here lie on stick" in refused.err
    assert "localstore pull" in refused.err
    assert call("pull", "first").code == 0
    assert call("remote", "rm", "stick").code == 0


def test_a_remote_with_pruned_bytes_is_forgotten_by_force(home: Path) -> None:
    prune("--run", "first")
    assert call("remote", "rm", "stick", "--force").code == 0
