"""`localstore show`."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import call, spawn

if TYPE_CHECKING:
    from collections.abc import Callable


def test_facts_config_summary_and_curves(two_runs: None) -> None:
    outcome = call("show", "first")
    assert (outcome.code, outcome.err) == (0, "")
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "TIME", outcome.out)
    assert text.startswith(
        "run      alpha\n"
        "path     ada/digits/first\n"
        "state    finished\n"
        "created  TIME\n"
        "updated  TIME\n"
        "rows     2\n"
        "\n"
        "config\n"
        "  lr         0.1\n"
        "  net.depth  3\n"
        "\n"
        "summary\n"
        "  acc   1\n"
        "  loss  0.5\n"
        "\n"
        "acc  2 points  first 0  last 1  min 0  max 1\n"
    )
    assert "\nloss  2 points  first 1  last 0.5  min 0.5  max 1\n" in text
    assert "step 0 to 1\n" in text


def test_a_failed_run_says_how_it_left(two_runs: None) -> None:
    assert "state    failed (exit code 3)\n" in call("show", "digits/second").out


def test_a_terminal_without_utf8_gets_ascii(two_runs: None) -> None:
    outcome = spawn("show", "first", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert outcome.code == 0
    assert outcome.out.isascii()
    assert "*" in outcome.out


def test_keys_choose_what_is_drawn(make_run: Callable[..., str]) -> None:
    make_run([{f"k{at}": at for at in range(9)} | {"word": "x"}], id="one")
    assert "more keys, for --key: k6, k7, k8\n" in call("show", "one").out
    chosen = call("show", "one", "--key", "k8", "--key", "word").out
    assert "\nk8  1 point  " in chosen
    assert "\nword  no numbers to draw\n" in chosen
    assert "\nk1  " not in chosen


@pytest.mark.parametrize("words", [["nobody"], ["digits/nobody"], ["words/first"], ["a/b/c/d"]])
def test_an_unknown_run_is_an_error_that_says_what_to_do(two_runs: None, words: list[str]) -> None:
    outcome = call("show", *words)
    assert outcome.code in (2, 66)
    assert outcome.out == ""
    assert outcome.err.startswith("localstore: error: ")


def test_an_unknown_key_is_an_error_that_lists_the_keys(two_runs: None) -> None:
    outcome = call("show", "first", "--key", "los")
    assert outcome.code == 66
    assert outcome.err.endswith("localstore: hint: it has acc, loss\n")


def test_json_has_facts_of_every_key_and_points_of_chosen_ones(two_runs: None) -> None:
    document = json.loads(call("show", "first", "--json", "--key", "loss").out)
    assert document["path"] == "ada/digits/first"
    assert document["rows"] == 2
    assert document["keys"]["acc"] == {"points": 2, "first": 0, "last": 1, "min": 0, "max": 1}
    assert document["history"] == {"loss": [[0, 1.0], [1, 0.5]]}


def test_infinities_and_huge_numbers_are_drawn(make_run: Callable[..., str]) -> None:
    rows = [{"x": value} for value in (1e308, -1e308, float("nan"), float("inf"), 2**63)]
    make_run(rows, id="one")
    outcome = call("show", "one")
    assert (outcome.code, outcome.err) == (0, "")
    assert "x  5 points  first 1e+308  last 9.223e+18  min -1e+308  max 1e+308\n" in outcome.out
