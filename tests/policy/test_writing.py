"""What a writer leaves out, puts apart and stamps; and what another machine gets to see of it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

import localstore
from localstore import Api
from localstore.check import inspect_home
from localstore.layout import HomePaths
from localstore.policy.places import project_file, tags_folder, user_file
from localstore.policy.redaction import REDACTED, Splitter, redact_arguments, scrubber
from localstored.policyfile import Book, read_stamps
from tests.policy.homes import elsewhere, opened, policy, what_leaves

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

AROUND = {"environment": True, "host_names": "local"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def record(home: Path, config: dict[str, Any] | None = None, **more: Any) -> str:
    """One finished run; returns its id."""
    with localstore.init(project="p", dir=home, config=config or {}, **more) as run:
        run.log({"loss": 0.5})
    return run.id


# ------------------------------------------------------------------ config
def test_a_redacted_value_is_nowhere_and_is_counted(home: Path) -> None:
    policy(home, "[redact]\nconfig = ['*password*', 'db.user']\nsummary = 'secret'")
    config = {
        "lr": 0.1,
        "DB_Password": "CANARY-1",
        "db": {"user": "CANARY-2", "host": "h", "passwords": ["CANARY-3"]},
        "stages": [{"password": "CANARY-4", "n": 1}],
    }
    with localstore.init(project="p", dir=home, config=config) as run:
        run.summary["secret"] = "CANARY-5"
        run.config["password2"] = "CANARY-6"
        assert run.config["DB_Password"] == "CANARY-1"  # the script has what it set
    assert b"CANARY" not in opened(home)
    found = Api(home).run(run.id)
    assert found.config == {
        "lr": 0.1,
        "DB_Password": REDACTED,
        "db": {"user": REDACTED, "host": "h", "passwords": REDACTED},
        "stages": [{"password": REDACTED, "n": 1}],
        "password2": REDACTED,
    }
    assert found.summary["secret"] == REDACTED
    assert found.gaps["redacted by policy: config"] == 5
    assert found.gaps["redacted by policy: summary"] >= 1


def test_a_value_that_is_kept_local_is_whole_at_home_and_absent_elsewhere(
    home: Path, tmp_path: Path
) -> None:
    policy(home, "[keep_local]\nconfig = ['data_path', 'db.host']")
    config = {"lr": 1, "data_path": "CANARY-1", "db": {"host": "CANARY-2", "port": 5}}
    run = record(home, config)
    assert Api(home).run(run).config == config
    other = elsewhere(home, tmp_path / "other")
    assert Api(other).run(run).config == {"lr": 1, "db": {"port": 5}}
    assert b"CANARY" not in opened(other)
    assert not Api(other).run(run).problems


def test_where_metrics_stay_their_last_values_in_the_summary_stay_too(
    home: Path, tmp_path: Path
) -> None:
    policy(home, "[classes]\nmetrics = 'never'")
    with localstore.init(project="p", dir=home) as run:
        run.log({"loss": 0.5})
        run.summary["note"] = "mine"
    assert Api(home).run(run.id).summary["loss"] == 0.5
    other = elsewhere(home, tmp_path / "other")
    assert Api(other).run(run.id).summary == {"note": "mine"}
    assert b"loss" not in opened(other)


def test_verify_elsewhere_does_not_miss_what_a_rule_keeps(home: Path, tmp_path: Path) -> None:
    policy(home, "[keep_local]\nconfig = 'data_path'")
    record(home, {"data_path": "x"})
    other = elsewhere(home, tmp_path / "other")
    found = inspect_home(HomePaths(other), Api(other).identity, read_data=True)
    assert not found.findings
    assert any("may not leave its machine" in note for note in found.notes)


def test_a_config_value_that_changes_and_goes_is_followed_in_its_part(
    home: Path, tmp_path: Path
) -> None:
    policy(home, "[keep_local]\nconfig = 'path'")
    with localstore.init(project="p", dir=home, config={"path": "a", "keep": 1}) as run:
        run.config.update({"path": "b", "keep": 2}, allow_val_change=True)
        run.config.update({"path2": 3})
        del run.config["path"]
        run.config["path"] = "CANARY"
    assert Api(home).run(run.id).config == {"path": "CANARY", "keep": 2, "path2": 3}
    other = elsewhere(home, tmp_path / "other")
    assert Api(other).run(run.id).config == {"keep": 2, "path2": 3}


def test_a_run_that_goes_on_knows_what_was_kept_local(home: Path) -> None:
    policy(home, "[keep_local]\nconfig = 'path'")
    run = record(home, {"path": "a"})
    with localstore.init(project="p", dir=home, id=run, resume="must") as again:
        assert again.config["path"] == "a"
    assert Api(home).run(run).config == {"path": "a"}


def test_a_rule_on_config_keys_obeys_its_own_word(home: Path) -> None:
    policy(home, "[rules.paths]\nconfig = '*path*'\nleave = 'manual'")
    record(home, {"path": "x"})
    assert all(what_leaves(home).values())  # asked by hand
    policy(home, "[rules.paths]\nconfig = '*path*'\nleave = 'never'")
    held = [name for name, leaves in what_leaves(home).items() if not leaves]
    assert len(held) == 1


# ------------------------------------------------------------------ artifacts
def log_artifact(home: Path, name: str, kind: str, content: bytes, files: Path) -> str:
    files.mkdir(exist_ok=True)
    (files / f"{name}.bin").write_bytes(content)
    with localstore.init(project="p", dir=home) as run:
        run.log_artifact(files / f"{name}.bin", name=name, type=kind)
    return run.id


SECRET_RULES = [
    "[rules.s]\nartifact_name = 'secret-*'\nleave = 'never'",
    "[rules.s]\nartifact_type = ['dataset', 'raw']\nleave = 'never'",
    "[rules.s]\nartifact_name = '*'\nartifact_type = 'dataset'\nleave = 'never'",
    "[rules.s]\nartifact_name = 'secret-*'\nmax_file = '10 B'",
    "[conditions]\nmax_file = '150 kB'",
]


@pytest.mark.parametrize("rule", SECRET_RULES)
def test_an_artifact_that_is_held_is_not_even_named_elsewhere(
    home: Path, tmp_path: Path, rule: str
) -> None:
    policy(home, rule)
    secret, plain = b"CANARY-content" * 20_000, os.urandom(30_000)
    run = log_artifact(home, "secret-CANARY", "dataset", secret, tmp_path / "files")
    open_run = log_artifact(home, "open", "model", plain, tmp_path / "files")
    with localstore.init(project="p", dir=home) as user:
        user.use_artifact("secret-CANARY:latest")
    other = elsewhere(home, tmp_path / "other")
    seen = opened(other)
    # A rule on sizes knows the size when the version is logged, not when it is named.
    assert (b"CANARY" in seen) is ("conditions" in rule)
    assert b"CANARY-content" not in seen
    assert plain in seen
    assert b"CANARY-content" in opened(home)
    assert [one.name for one in Api(other).run(open_run).logged_artifacts()] == ["open:v0"]
    assert len(Api(home).run(run).logged_artifacts()) == 1
    if "conditions" not in rule:
        assert not Api(other).run(run).logged_artifacts()
        assert not Api(other).run(user.id).used_artifacts()


def test_content_that_also_stands_in_what_leaves_leaves(home: Path, tmp_path: Path) -> None:
    policy(home, SECRET_RULES[0])
    content = os.urandom(50_000)
    log_artifact(home, "secret-a", "dataset", content, tmp_path / "files")
    log_artifact(home, "open", "dataset", content, tmp_path / "files")
    assert content in opened(elsewhere(home, tmp_path / "other"))


def test_aliases_and_deletions_of_a_held_artifact_are_held_too(home: Path, tmp_path: Path) -> None:
    policy(home, SECRET_RULES[1])
    log_artifact(home, "a", "dataset", b"x" * 5000, tmp_path / "files")
    made = Api(home).artifact("a:latest")
    made.aliases.append("CANARY-alias")
    made.save()
    assert b"CANARY-alias" in opened(home)
    assert b"CANARY-alias" not in opened(elsewhere(home, tmp_path / "other"))


def test_a_stamp_says_which_rules_and_nothing_of_names(home: Path, tmp_path: Path) -> None:
    policy(home, "[rules.b]\nartifact_name = 's*'\n[rules.a]\nartifact_type = 'dataset'")
    log_artifact(home, "secret", "dataset", b"x", tmp_path / "files")
    (paths,) = HomePaths(home).all_projects()
    texts = {path.read_bytes() for path in tags_folder(paths).iterdir()}
    assert texts == {b"a\nb"}
    assert [stamp.rules for stamp in read_stamps(paths).values()] == [("a", "b")]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tags_folder(paths).iterdir())


def test_a_machine_that_does_not_know_the_rule_keeps_it(home: Path, tmp_path: Path) -> None:
    policy(home, "[rules.s]\nartifact_name = 's*'\nleave = 'auto'")
    log_artifact(home, "secret", "dataset", b"x" * 5000, tmp_path / "files")
    assert all(what_leaves(home).values())
    (paths,) = HomePaths(home).all_projects()
    for path in tags_folder(paths).iterdir():
        path.unlink()
    assert not all(what_leaves(home).values())


# ------------------------------------------------------------------ broken files
def test_while_a_file_is_broken_training_goes_on_and_what_rules_could_be_about_stays(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy(home, "[redact]\nconfg = 'password'")
    (tmp_path / "f").write_bytes(b"CANARY-file" * 1000)
    with localstore.init(
        project="p", dir=home, config={"password": "CANARY-config"}, settings=AROUND
    ) as run:
        run.log({"a": 1})
        run.summary["s"] = "CANARY-summary"
        run.log_artifact(tmp_path / "f", name="CANARY-name")
    said = capsys.readouterr().err
    assert "unknown key 'confg' in [redact]" in said
    assert "all their values are left out" in said
    assert not any(what_leaves(home).values())
    user_file(home).write_text("")  # mended
    other = elsewhere(home, tmp_path / "other")
    assert b"CANARY" not in opened(other)
    assert Api(other).run(run.id).history(pandas=False)["a"] == [1]
    found = Api(home).run(run.id)
    assert found.config == {"password": REDACTED}
    assert found.summary == {"a": 1, "s": REDACTED}  # what was measured stands in the run anyway
    assert found.gaps["redacted by policy: config"] == 1


BROKEN_ELSEWHERE = [
    "[redact]\nconfig = '*password*'\n[classes]\nmedia = 'nevr'",
    "[redact]\nconfig = '*password*'\n[unknown]\nx = 1",
    "[classes]\nmedia = never\n\n  [redact]  # mine\nconfig = [\n  '*password*',\n]\n",
    "[classes\n[redact]\nconfig = '*password*'\n[remotes.x.limits]\nupload = \n",
    "redact.config = ['*password*']\n[limits]\nupload = 5",
]
CANNOT_BE_TOLD = [
    "[redact]\nconfig = ['*password*'\n",
    "[redact\nconfig = ['*password*']",
    "[redacted]\nconfig = ['*password*']",
    "[[redact]]\nconfig = ['*password*']",
    "[redact]\nconfig = 5",
    "[redact]\nconfig = \"['*password*']\"",
    "[Redact]\nconfig = ['*password*']\n[classes\n",
    "[remotes.stick.redact]\nconfig = ['*password*']",
    "redact.config = ['*password*\n[classes]\nmedia = 'never'",
    "\ufeff\udcff",
]


@pytest.mark.parametrize("text", BROKEN_ELSEWHERE)
def test_a_slip_elsewhere_in_a_file_does_not_let_a_password_be_recorded(
    home: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    policy(home, text)
    run = record(home, {"db": {"password": "CANARY"}, "lr": 0.1})
    assert b"CANARY" not in opened(home)
    assert Api(home).run(run).config == {"db": {"password": REDACTED}, "lr": 0.1}
    assert "left out" not in capsys.readouterr().err


@pytest.mark.parametrize("text", CANNOT_BE_TOLD)
def test_what_a_file_may_leave_out_and_nobody_can_tell_is_left_out(
    home: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    policy(home, "")
    user_file(home).write_bytes(text.encode(errors="surrogateescape"))
    run = record(home, {"db": {"password": "CANARY"}, "lr": 0.1})
    assert b"CANARY" not in opened(home)
    found = Api(home).run(run)
    assert (found.config["lr"], found.summary) == (REDACTED, {"loss": 0.5})
    assert "nobody can tell what `redact` says there" in capsys.readouterr().err


def test_a_broken_file_that_leaves_nothing_out_costs_no_value(home: Path) -> None:
    policy(home, "[classes]\nmedia = 'nevr'\n[remotes.cloud.limits]\nupload = '1 MiB/s'")
    run = record(home, {"password": "mine", "lr": 0.1})
    assert Api(home).run(run).config == {"password": "mine", "lr": 0.1}
    assert not any(what_leaves(home).values())


def test_a_broken_file_does_not_switch_off_the_other_one(home: Path) -> None:
    with localstore.init(project="p", dir=home) as run:
        (paths,) = HomePaths(home).all_projects()
        project_file(paths).parent.mkdir(exist_ok=True)
        project_file(paths).write_text("[redact]\nconfig = '*password*'")
        policy(home, "[classes]\nmedia = 'nevr'")
        run.config.update({"password": "CANARY", "lr": 0.1})
    assert b"CANARY" not in opened(home)
    assert Api(home).run(run.id).config == {"password": REDACTED, "lr": 0.1}


def test_rules_that_change_while_a_run_is_open_count_from_then_on(home: Path) -> None:
    with localstore.init(project="p", dir=home, config={"a": "before"}) as run:
        policy(home, "[redact]\nconfig = 'secret'")
        run.config["secret"] = "CANARY"
        (paths,) = HomePaths(home).all_projects()
        project_file(paths).parent.mkdir(exist_ok=True)
        project_file(paths).write_text("[redact]\nconfig = 'other'")
        run.config["other"] = "CANARY"
    assert b"CANARY" not in opened(home)
    assert Book.read(home).is_current()


# ------------------------------------------------------------------ around the run
def test_command_line_environment_and_names_are_redacted_before_they_are_sealed(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["python", "t.py", "--db-password", "CANARY-1", "api_password=CANARY-2", "--lr", "1"]
    monkeypatch.setattr(sys, "orig_argv", [*words, "--out=/data/canaryuser/x"])
    monkeypatch.setenv("OMP_NUM_THREADS", "CANARY-3")
    monkeypatch.setenv("SLURM_JOB_NAME", "CANARY-4")
    monkeypatch.setenv("LOGNAME", "canaryuser")
    host = os.uname()
    changed = os.uname_result((host[0], "canaryhost.lab", *host[2:]))
    monkeypatch.setattr(os, "uname", lambda: changed)
    policy(
        home,
        "[redact]\nconfig = '*password*'\nenvironment = ['OMP_*', 'slurm_job_name']\n"
        "host_names = true\nuser_names = true",
    )
    run = record(home, {"where": "on canaryhost, by CanaryUser"}, settings=AROUND)
    seen = opened(home).lower()
    assert b"canary" not in seen
    facts = Api(home).run(run).facts("environment")
    assert facts["command"][-1] == f"--out=/data/{REDACTED}/x"
    assert facts["command"][3:5] == [REDACTED, f"api_password={REDACTED}"]
    assert facts["variables"]["OMP_NUM_THREADS"] == REDACTED
    assert facts["job"]["slurm_job_name"] == REDACTED
    assert Api(home).run(run).facts("host") == {"host": REDACTED, "user": REDACTED}
    assert Api(home).run(run).config["where"] == f"on {REDACTED}, by {REDACTED}"


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["--password", "x"], ["--password", REDACTED]),
        (["--password=x"], [f"--password={REDACTED}"]),
        (["--db-password", "-x", "y"], ["--db-password", REDACTED, "y"]),
        (["db.password=x"], [f"db.password={REDACTED}"]),
        (["--DB_PASSWORD=a=b"], [f"--DB_PASSWORD={REDACTED}"]),
        (["--pass", "x"], ["--pass", "x"]),
        (["sk-123"], [REDACTED]),
        (["--password"], ["--password"]),
        (["--lr", "password"], ["--lr", "password"]),
        ([], []),
    ],
)
def test_values_of_options_on_a_command_line(words: Sequence[str], wanted: Sequence[str]) -> None:
    found, count = redact_arguments(words, ["*password*"], ["sk-*"])
    assert found == wanted
    assert count == sum(a != b for a, b in zip(words, wanted, strict=True))


def test_names_are_replaced_where_they_stand_as_words() -> None:
    scrub = scrubber(["ada", "ada.lab"])
    assert scrub is not None
    assert scrub("/home/ada/x, ADA@ada.lab, adam, ada_1, nada") == (
        f"/home/{REDACTED}/x, {REDACTED}@{REDACTED}, adam, {REDACTED}_1, nada"
    )
    assert scrubber([]) is None


def test_a_mapping_is_taken_apart_and_comes_together_again() -> None:
    splitter = Splitter([], {"r": ["b", "x.y"], "q": ["y"]})
    given = {"a": 1, "b": {"c": 2}, "x": {"y": 3, "z": [{"y": 4}]}, "l": [{"y": 1}, 2]}
    found = splitter.split(given)
    assert found.public == {"a": 1, "x": {"z": [{}]}, "l": [{}, 2]}
    assert {key: rules for key, (_, rules) in found.apart.items()} == {
        "b": {"r"},
        "x": {"r", "q"},
        "l": {"q"},
    }
    whole = {**found.public, **{key: value for key, (value, _) in found.apart.items()}}
    assert whole == given


def test_where_media_stay_nothing_of_them_but_their_key_is_in_the_metrics(
    home: Path, tmp_path: Path
) -> None:
    policy(home, "[classes]\nmedia = 'never'")
    with localstore.init(project="p", dir=home) as run:
        run.log(
            {
                "table": localstore.Table(columns=["CANARY-1"], data=[["CANARY-2"]]),
                "page": localstore.Html("CANARY-3"),
                "text": localstore.Text("CANARY-4", caption="CANARY-5"),
                "loss": 1.0,
            }
        )
    assert all(f"CANARY-{n}".encode() in opened(home) for n in range(1, 6))
    other = elsewhere(home, tmp_path / "other")
    assert b"CANARY" not in opened(other)
    assert Api(other).run(run.id).history(pandas=False)["loss"] == [1.0]
