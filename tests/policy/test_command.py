"""`localstore policy`: shows, changes, tries; and says what a change lets go."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from typing import TYPE_CHECKING, Any

import pytest

import localstore
from localstore.layout import HomePaths
from localstore.policy.places import project_file, user_file
from localstore.policy.rules import CLASS_WORDS
from tests.cli.conftest import call
from tests.policy.homes import with_stick

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with one run of two classes, and a remote."""
    home = tmp_path / "home"
    with localstore.init(project="p", dir=home, config={"lr": 1}) as run:
        run.log({"a": 1})
    with_stick(home)
    return home


def shown(*words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(call("policy", "show", "--json", *words).out)
    return found


def test_the_built_in_defaults_are_shown_with_their_origin(home: Path) -> None:
    found = shown()["classes"]
    assert {word: one["leave"] for word, one in found.items()} == {
        **dict.fromkeys(CLASS_WORDS, "auto"),
        "console": "never",
    }
    text = call("policy", "show", "--origin").out
    assert text.count("the built-in rule") == len(CLASS_WORDS)


def test_each_example_of_the_help_is_taken(home: Path) -> None:
    lines = [line.strip() for line in call("policy", "set", "--help").out.splitlines()]
    examples = [line.partition("   ")[0] for line in lines if re.match(r"media |\w+\.\S+ ", line)]
    assert len(examples) >= 9
    for line in examples:
        words = ["stick" if word == "cloud" else word for word in shlex.split(line)]
        done = call("policy", "set", *words)
        assert done.code == 0, (words, done.err)
    table = tomllib.loads(user_file(home).read_text())
    assert table["remotes"]["stick"]["classes"]["media"] == "never"
    assert table["conditions"]["battery_above"] == 30
    assert table["rules"]["secret-data"]["leave"] == "never"
    assert shown()["classes"]["media"]["leave"] == "never"


def test_the_strictest_of_two_levels_is_shown_with_its_file(home: Path) -> None:
    assert call("policy", "set", "media", "manual").code == 0
    assert call("policy", "set", "media", "never", "--project", "p").code == 0
    (paths,) = HomePaths(home).all_projects()
    one = shown("--project", "p")["classes"]["media"]
    assert one == {
        "leave": "never",
        "rule": {"level": "project", "file": str(project_file(paths)), "rule": "classes.media"},
    }
    assert shown()["classes"]["media"]["leave"] == "manual"


def test_loosening_says_what_goes_from_now_on(home: Path) -> None:
    call("policy", "set", "metrics", "never")
    done = call("policy", "set", "metrics", "auto")
    assert "metrics leaves by itself, encrypted (it was never)" in done.err
    assert "1 files of it" in done.err
    assert "for stick" in done.err
    assert "leave for" not in call("policy", "set", "metrics", "never").err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("set", "medai", "never"), 78, "media"),
        (("set", "media", "maybe"), 78, "never"),
        (("set", "rules.x.leav", "never"), 78, "leave"),
        (("set", "conditions.hours", "22"), 78, "hours such as"),
        (("set", "limits.upload", "5"), 78, "a rate such as"),
        (("set", "redact.config", '["*password*]'), 78, "no more quotes around it"),
        (("set", "redact.config", '"*password*'), 78, "no more quotes around it"),
        (("set", "media", "never", "--remote", "cloud"), 66, "no remote 'cloud'"),
        (("set", "redact.config", "x", "--remote", "stick"), 78, "not for one remote"),
        (("set", "media", "never", "--project", "q"), 66, "no project 'q'"),
        (("unset", "media"), 66, "is not set"),
        (("test",), 2, "say what"),
        (("test", "--class", "media", "--at", "25:00"), 2, "want a time"),
        (("test", "--class", "media", "--remote", "cloud"), 66, "no remote 'cloud'"),
    ],
)
def test_a_slip_is_an_error_that_says_what_was_wanted(
    home: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    done = call("policy", *words)
    assert (done.code, said in done.err) == (code, True), done.err
    assert not user_file(home).exists()


@pytest.mark.parametrize(
    "written",
    ['["*password*", "tok*"]', "['*password*','tok*']", '"*password*", "tok*"', "*password*,tok*"],
)
@pytest.mark.parametrize("key", ["redact.config", "keep_local.config", "rules.x.artifact_name"])
def test_a_list_may_be_written_as_it_stands_in_the_file(home: Path, key: str, written: str) -> None:
    assert call("policy", "set", key, written).code == 0
    (one,) = shown()["settings"]
    assert one["value"] == ["*password*", "tok*"]


@pytest.mark.parametrize(
    ("key", "written", "value"),
    [
        ("conditions.network", '"Nowhere"', ["Nowhere"]),
        ("conditions.network", '["Nowhere", "vpn:wg0"]', ["Nowhere", "vpn:wg0"]),
        ("limits.upload", '"2 MiB/s"', "2 MiB/s"),
        ("conditions.battery_above", '"30%"', "30%"),
    ],
)
def test_a_text_may_be_written_as_it_stands_in_the_file(
    home: Path, key: str, written: str, value: object
) -> None:
    assert call("policy", "set", key, written).code == 0
    (one,) = shown()["settings"]
    assert one["value"] == value


def test_a_list_within_a_text_is_no_pattern_that_fits_nothing(home: Path) -> None:
    user_file(home).write_text("""[redact]\nconfig = '["*password*"]'\n""")
    done = call("policy", "show")
    assert (done.code, "no more quotes around it" in done.err) == (78, True), done.err


def test_sizes_are_told_as_people_write_them(home: Path) -> None:
    call("policy", "set", "conditions.max_file", "2 GiB")
    done = call("policy", "test", "--class", "media", "--size", "3GiB")
    assert "3 GiB, more than the 2 GiB of" in done.out
    done = call("policy", "test", "--class", "media", "--size", "2147483649 B")
    assert "2.1475 GB, more than the 2 GiB of" in done.out


def test_what_was_set_is_taken_out_again(home: Path) -> None:
    for key, value in (("media", "never"), ("rules.x.leave", "never"), ("rules.x.hours", "0")):
        call("policy", "set", key, value)
    assert call("policy", "unset", "rules.x").code == 0
    assert call("policy", "unset", "media").code == 0
    assert shown()["settings"] == []


def test_a_broken_file_is_named_and_never_overwritten(home: Path) -> None:
    user_file(home).write_text("[classes]\nmedai = 'never'\n")
    for words in (("show",), ("set", "media", "never")):
        done = call("policy", *words)
        assert done.code == 78
        assert "unknown key 'medai'" in done.err
    assert user_file(home).read_text() == "[classes]\nmedai = 'never'\n"
    held = json.loads(call("policy", "test", "--class", "meta", "--json").out)
    assert not held[0]["leaves"]


def test_an_edit_is_kept_only_if_it_can_be_understood(home: Path) -> None:
    good, bad = "sed -i 's/.*/# mine/; $a[classes]' ", "sed -i '$a[clases]' "
    assert call("policy", "edit", EDITOR=bad).code == 78
    assert not user_file(home).exists()
    assert call("policy", "edit", EDITOR=good).code == 0
    assert "[classes]" in user_file(home).read_text()


# ------------------------------------------------------------------ test
def decision(*words: str) -> tuple[bool, str, str]:
    (found,) = json.loads(call("policy", "test", "--json", "--remote", "stick", *words).out)
    return found["leaves"], found["waits"], found["rule"]["rule"]


def test_what_would_be_decided_is_tried_without_anything_being_there(home: Path) -> None:
    for key, value in (
        ("rules.s.artifact_name", "secret-*"),
        ("rules.s.leave", "never"),
        ("rules.t.artifact_type", "dataset"),
        ("rules.t.leave", "manual"),
        ("keep_local.config", "*path*"),
        ("conditions.hours", "22:00-06:00"),
        ("conditions.battery_above", "30"),
        ("conditions.max_file", "1 MB"),
    ):
        assert call("policy", "set", key, value).code == 0
    night = ("--at", "23:00", "--on-mains")
    assert decision("--artifact", "secret-1", *night) == (False, "", "rules.s")
    assert decision("--artifact", "open", "--type", "model", *night)[0]
    assert decision("--artifact", "a", "--type", "dataset", *night) == (False, "manual", "rules.t")
    assert decision("--artifact", "a", "--type", "dataset", "--manual")[0]
    assert decision("--config", "data_path", *night) == (False, "", "rules.keep-local")
    assert decision("--config", "lr", *night)[0]
    assert decision("--class", "media", "--at", "12:00", "--on-mains") == (
        (False, "hours", "conditions.hours")
    )
    low = ("--on-battery", "20", "--at", "23:00")
    assert decision("--class", "media", *low) == (False, "power", "conditions.battery_above")
    assert decision("--class", "media", "--on-battery", "30", "--at", "23:00")[0]
    assert decision("--class", "media", "--size", "2 MB", *night) == (
        (False, "", "conditions.max_file")
    )
    assert (
        decision("--artifact", "big", "--type", "model", "--size", "2 MB", *night)[2]
        == "conditions.max_file"
    )


def test_what_is_here_is_tried_by_its_name(home: Path) -> None:
    call("policy", "set", "metrics", "never")
    lines = call("policy", "test", "p").out.splitlines()
    assert any(line.startswith("metrics is held from stick: metrics never") for line in lines)
    assert any(line.startswith("meta leaves for stick") for line in lines)


def test_without_a_remote_nothing_leaves_and_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    done = call("policy", "test", "--class", "media", LOCALSTORE_QUIET="0")
    assert (done.code, done.out) == (0, "")
    assert "no remote was added" in done.err


def test_a_rule_on_a_remote_of_no_name_here_is_warned_about(home: Path) -> None:
    call("policy", "set", "rules.x.remotes", "clowd")
    call("policy", "set", "rules.x.leave", "never")
    assert "there is none of this name" in call("policy", "show").err
