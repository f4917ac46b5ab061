"""`localstore show`: what stands around a run; facts of any shape do no harm."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import localstore
from localstore.cli.around import code_rows, count_files, environment_rows, last_values, state_row
from localstore.cli.show import value_text
from localstore.format.columns import Column
from localstore.format.spec import DataClass, RecordKind
from localstore.identity import now_us
from localstore.query.contents import RunFile
from localstore.query.history import Table
from tests.cli.conftest import call
from tests.surroundings.conftest import person, repository

if TYPE_CHECKING:
    from tests.surroundings.repository import Repository

__all__ = ["person", "repository"]
TOKEN = "ghp_" + "AbCdEf0123456789AbCdEf0123456789AbCd"


@pytest.fixture
def full_run(repository: Repository, monkeypatch: pytest.MonkeyPatch, person: object) -> str:
    """Run `one` with everything around it; returns its commit."""
    for part in ("CODE_SAVING", "SYSTEM_METRICS", "ENVIRONMENT"):
        monkeypatch.setenv(f"LOCALSTORE_{part}", "all" if part == "CODE_SAVING" else "true")
    monkeypatch.setenv("LOCALSTORE_HOST_NAMES", "local")
    monkeypatch.chdir(repository.root)
    commit = repository.commit(train="lr = 1\n", lib=f"key = '{TOKEN}'\n")
    repository.write("train.py", "lr = 2\n")
    run = localstore.init(project="digits", id="one")
    run.log({"sample": localstore.Image(np.zeros((4, 6, 3), np.uint8)), "loss": 1.0})
    made = localstore.Artifact("data set", "dataset")
    with made.new_file("x.txt") as file:
        file.write("x")
    run.log_artifact(made, aliases=["best"]).wait()
    run.use_artifact("data set:best")
    run.finish()
    return commit


def sections(text: str) -> dict[str, dict[str, str]]:
    """Rows by section and by their first word."""
    out: dict[str, dict[str, str]] = {}
    for block in text.split("\n\n"):
        title, *rows = block.split("\n")
        out[title] = {row.split()[0]: " ".join(row.split()[1:]) for row in rows if row}
    return out


# ------------------------------------------------------------------ for people
def test_code_environment_machine_and_artifacts_are_shown(full_run: str) -> None:
    outcome = call("show", "one")
    assert (outcome.code, outcome.err) == (0, "")
    shown = sections(outcome.out)
    assert shown["code"]["commit"].startswith(f"{full_run[:12]} on ")
    assert shown["code"]["commit"].endswith(", with changes")
    assert "diff.patch" in shown["code"]["saved"]
    assert shown["code"]["masked"] == "1 line in code/lib.py"
    assert shown["environment"]["python"].startswith("3.")
    assert "core" in shown["environment"]["machine"]
    assert "@" in shown["environment"]["host"]
    assert shown["environment"]["at"].startswith("last ")
    assert "memory" in shown["environment"]["at"]
    assert shown["artifacts"] == {
        "used": "ada/digits/data set:v0 dataset 1 B, best, latest",
        "logged": "ada/digits/data set:v0 dataset 1 B, best, latest",
    }
    assert shown["summary"]["sample"] == "image 6 x 4"
    assert "\nfiles " in outcome.out
    assert TOKEN not in outcome.out


def test_json_has_all_of_it(full_run: str) -> None:
    document = json.loads(call("show", "one", "--json").out)
    assert document["facts"]["git"]["commit"] == full_run
    assert set(document["facts"]) == {"git", "environment", "host"}
    assert {"code", "media", "system"} <= {file["class"] for file in document["files"]}
    (used,), (logged,) = document["artifacts"]["used"], document["artifacts"]["logged"]
    assert used == logged
    assert (used["name"], used["here"]) == ("ada/digits/data set:v0", True)
    assert document["system"]["memory.percent"]["points"] >= 1
    assert document["system_history"] == {}


def test_the_machine_is_drawn_like_the_history(full_run: str) -> None:
    text = call("show", "one", "--system").out
    assert "\nmemory.percent  " in text
    assert "\nloss  " not in text
    assert "more keys, for --key: " in text
    chosen = call("show", "one", "--system", "--key", "memory.percent").out
    assert "second 0 to " in chosen
    assert "\nload.1m  " not in chosen
    points = json.loads(call("show", "one", "--system", "--key", "load.1m", "--json").out)
    assert points["system_history"]["load.1m"][0][0] == 0
    assert points["history"] == {}


def test_an_unknown_measurement_is_an_error_that_lists_them(full_run: str) -> None:
    outcome = call("show", "one", "--system", "--key", "loss")
    assert outcome.code == 66
    assert "memory.percent" in outcome.err


def test_an_artifact_that_is_deleted_is_still_named(full_run: str) -> None:
    localstore.Api().artifact("data set").delete(delete_aliases=True)
    rows = sections(call("show", "one").out)["artifacts"]
    assert rows["used"].startswith("ada/digits/data set@")
    assert rows["used"].endswith(" not here")


def test_a_run_with_nothing_around_it_has_no_empty_sections() -> None:
    localstore.init(project="digits", id="one").finish()
    assert [
        one
        for one in ("code", "environment", "artifacts", "files")
        if f"\n{one}" in call("show", "one").out
    ] == []
    assert "was measured" in call("show", "one", "--system", LOCALSTORE_QUIET="0").err


# ------------------------------------------------------------------ facts of any shape
HOSTILE = "\x1b[2J\u202e\r\n"
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.just(HOSTILE) | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "memory_mb", "version", "cpu", "cpu_limit", "file", HOSTILE]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
FACTS = st.dictionaries(
    st.sampled_from(
        ["commit", "branch", "dirty", "remote", "masked", "limits", "python", "system", "host",
         "hardware", "command", "job", "container", "frameworks", "gpus", "user"]
    ),
    VALUES,
)  # fmt: skip


@given(FACTS)
def test_facts_of_any_shape_are_shown_inert(facts: dict[str, Any]) -> None:
    rows = code_rows(facts, []) + environment_rows(facts, facts)
    assert all(cell.isprintable() for row in rows for cell in row)


@given(VALUES)
def test_a_value_of_any_shape_is_shown_inert(value: Any) -> None:
    assert value_text(value).isprintable()
    assert value_text({"_type": HOSTILE, "count": value, "width": value}).isprintable()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "text", None, True, HOSTILE])
def test_a_measurement_that_is_no_number_is_left_out(value: Any) -> None:
    names = ("cpu", "process.memory.rss_mb", "gpu.0.utilization")
    table = Table([0], [0], {name: [(0, Column([value], None))] for name in names})
    assert (last_values(table), state_row(table)) == ({}, "")


def test_hostile_names_and_lineage_do_no_harm() -> None:
    run = localstore.init(project="digits", id="one")
    facts = {"commit": HOSTILE, "masked": [{"file": HOSTILE}, 7], "limits": {HOSTILE: 1}}
    for record in (
        [RecordKind.FACTS, now_us(), "git", facts],
        [RecordKind.FACTS, now_us(), "environment", {"python": [], "gpus": [{"name": []}, 1]}],
    ):
        run._writer.append(DataClass.CODE, record, b"")
    for name in (HOSTILE, "", "../x", "a" * 5000):
        link = [RecordKind.LINEAGE, now_us(), "output", name, b"short", {"type": HOSTILE}]
        run._writer.append(DataClass.META, link)
    run.finish()
    outcome = call("show", "one")
    assert outcome.code in (0, 20)
    assert outcome.out.replace("\n", "").isprintable()
    assert call("show", "one", "--json").code == outcome.code


def test_files_are_counted_by_class() -> None:
    def file(path: str, data_class: DataClass) -> RunFile:
        return RunFile(
            path=path, data_class=int(data_class), size=600, hash=b"", facts={}, time_us=0
        )

    files = [file("a", DataClass.MEDIA), file("b", DataClass.ARTIFACTS), file("c", DataClass.MEDIA)]
    assert count_files(files) == "3 (2 media, 1 saved), 1.8 kB"
    assert count_files([]) == ""
