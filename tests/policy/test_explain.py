"""What is explained is what a sync does, of every file, and what it names is a rule in a file."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import pytest

from localstore.errors import BadSetting, NotFound
from localstore.layout import HomePaths
from localstore.policy.places import user_file
from localstored.engine import sync_home
from localstored.explain import explain, judge
from localstored.policy import Conditions
from tests.policy.homes import policy, with_stick
from tests.policy.recorded import record
from tests.policy.test_canary import ALWAYS

if TYPE_CHECKING:
    from pathlib import Path

RULES = f"[classes]\nmedia = 'manual'\nsystem = 'never'\nconsole = 'auto'\n{ALWAYS}"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of every class under rules of one's own, not synced yet."""
    home = tmp_path_factory.mktemp("explain") / "home"
    policy(home, RULES)
    record(home)
    with_stick(home)
    return home


def project(home: Path) -> str:
    (paths,) = HomePaths(home).all_projects()
    return paths.id


def test_what_arrives_is_what_was_said_to_leave(home: Path) -> None:
    said = explain(home, project(home), conditions=Conditions(), manual=False)
    assert not any(one["there"] for one in said)
    report = sync_home(home, manual=False)
    assert report.ok
    stick = home.parent / "stick/projects" / project(home)
    there = {path.relative_to(stick).as_posix() for path in stick.rglob("*") if path.is_file()}
    there = {name for name in there if not name.startswith("stamps/")}
    assert there == {one["item"] for one in said if one["leaves"]}
    after = explain(home, project(home), conditions=Conditions(), manual=False)
    assert {one["item"] for one in after if one["there"]} == there
    held = {one["reason"] for one in said if not one["leaves"]}
    notes = {note.reason for found in report.projects for note in found.held}
    assert notes == held


def test_each_answer_names_a_rule_of_a_file_that_is_there(home: Path) -> None:
    for one in explain(home, project(home), conditions=Conditions()):
        rule = one["rule"]
        assert rule["rule"]
        if rule["level"] == "user":
            assert rule["file"] == str(user_file(home))
            table: object = tomllib.loads(user_file(home).read_text())
            for key in rule["rule"].split("."):
                assert isinstance(table, dict)
                table = table[key]
        else:
            assert (rule["level"], rule["file"]) == ("built-in", "")


def test_items_are_chosen_by_class_subject_and_name(home: Path) -> None:
    whole = explain(home, project(home), conditions=Conditions())
    media = explain(home, project(home), ["class:media"], conditions=Conditions())
    assert {one["class"] for one in media} == {"media"}
    assert {one["waits"] for one in media if not one["leaves"]} == {"manual"}
    some = whole[len(whole) // 2]["item"]
    assert [one["item"] for one in explain(home, project(home), [some, some])] == [some]
    subject = next(one["item"] for one in whole if one["item"].startswith("runs/")).split("/")[1]
    below = {one["item"] for one in explain(home, project(home), [subject])}
    assert below >= {one["item"] for one in whole if f"/{subject}/" in one["item"]}
    assert {one.partition("/")[0] for one in below} == {"runs", "keys", "objects"}


def test_what_is_not_here_is_an_error_by_name(home: Path) -> None:
    for items in (["ab" * 16], ["runs/x"], [f"objects/ab/{'ab' * 32}"], ["../../etc/passwd"]):
        with pytest.raises(NotFound):
            explain(home, project(home), items)
    with pytest.raises(NotFound, match="no project"):
        explain(home, "ab" * 32)
    with pytest.raises(NotFound, match="no remote"):
        explain(home, project(home), remotes=["cloud"])
    with pytest.raises(BadSetting, match="class is"):
        judge(home, None, data_class="x", remote="stick", conditions={})
