"""`localstore config`."""

from __future__ import annotations

import json
import os
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localstore.cli.config import edited
from tests.cli.conftest import call


def _user_file() -> Path:
    return Path(os.environ["LOCALSTORE_HOME"]) / "config.toml"


def test_set_and_show_with_origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("config", "set", "trash_days", "30").code == 0
    assert call("config", "set", "project", "digits", "--project").code == 0
    found = json.loads(call("config", "show", "--origin", "--json").out)
    assert found["trash_days"] == {"value": 30.0, "origin": str(_user_file())}
    assert found["project"] == {"value": "digits", "origin": str(tmp_path / "localstore.toml")}
    assert found["home"] == {"value": str(tmp_path / "home"), "origin": "LOCALSTORE_HOME"}
    assert found["mode"] == {"value": "offline", "origin": "default"}
    assert re.search(r"^trash_days +30\.0$", call("config", "show").out, re.M)
    assert _user_file().stat().st_mode & 0o777 == 0o600


def test_a_passphrase_is_never_shown() -> None:
    for words in ([], ["--json"], ["--origin"]):
        outcome = call("config", "show", *words, LOCALSTORE_PASSPHRASE="sesame")
        assert "sesame" not in outcome.out + outcome.err
        assert "(set)" in outcome.out


def test_comments_and_other_lines_stay() -> None:
    _user_file().parent.mkdir()
    _user_file().write_text(
        '# mine\nproject = "old"  # why\ntags = [\n  "a", # one\n]\nquiet = true'
    )
    assert call("config", "set", "tags", "b,c").code == 0
    assert call("config", "set", "project", 'new "one"').code == 0
    assert call("config", "set", "trash_days", "2").code == 0
    assert _user_file().read_text() == (
        '# mine\nproject = "new \\"one\\""\ntags = ["b", "c"]\nquiet = true\ntrash_days = 2.0\n'
    )


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("bogus", "1", "'bogus' cannot be set in a file"),
        ("passphrase", "sesame", "'passphrase' cannot be set in a file"),
        ("home", "/tmp", "'home' cannot be set in a file"),
        ("trash_days", "soon", "trash_days is 'soon', want a number, not negative"),
        ("trash_days", "nan", "trash_days is 'nan', want"),
        ("trash_days", "-1", "trash_days is '-1', want"),
        ("mode", "online", "mode is 'online', want one of offline, disabled"),
        ("quiet", "maybe", "quiet is 'maybe', want true or false"),
    ],
)
def test_what_breaks_the_rules_is_refused_and_not_written(
    name: str, value: str, problem: str
) -> None:
    outcome = call("config", "set", "--", name, value)
    assert outcome.code == 78
    assert outcome.err.startswith(f"localstore: error: {problem}")
    assert not _user_file().exists()


def test_a_cap_that_is_no_size_is_refused_and_not_written(tmp_path: Path) -> None:
    wrong = call("config", "set", "store_cap", "50 MBB")
    assert wrong.code == 78
    assert "50 MBB" in wrong.err
    assert not (tmp_path / "home" / "config.toml").exists()
    for right in ("50 MB", ""):
        assert call("config", "set", "store_cap", right).code == 0


def test_a_file_with_an_unknown_setting_is_left_alone() -> None:
    _user_file().parent.mkdir()
    _user_file().write_text("bogus = 1\n")
    assert call("config", "set", "quiet", "true").code == 78
    assert _user_file().read_text() == "bogus = 1\n"


def test_a_value_that_something_stronger_overrules_is_said() -> None:
    outcome = call("config", "set", "run_group", "a", LOCALSTORE_RUN_GROUP="b")
    assert outcome.code == 0
    assert outcome.err == "localstore: warning: run_group is 'b' here: LOCALSTORE_RUN_GROUP\n"


@given(st.text(), st.lists(st.text()))
def test_any_text_can_be_written_and_read_back(text: str, tags: list[str]) -> None:
    made = edited('a = 1\nproject = "x"\n', "project", text)
    made = edited(made, "tags", tuple(tags))
    assert tomllib.loads(made) == {"a": 1, "project": text, "tags": tags}
