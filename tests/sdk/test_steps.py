"""Steps go as in wandb: forwards, merged while a step is open, never backwards."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import localstore
from tests.sdk.scripts import only_run, points


def test_steps_count_by_themselves() -> None:
    with localstore.init(project="steps") as run:
        for loss in (3, 2, 1):
            run.log({"loss": loss})
        assert run.step == 3
    assert points() == [{"_step": at, "loss": 3 - at} for at in range(3)]


def test_a_given_step_is_taken_and_a_later_call_adds_to_it() -> None:
    with localstore.init(project="steps") as run:
        run.log({"a": 1}, step=10)
        run.log({"b": 2}, step=10)
        run.log({"a": 3}, step=20)
    assert points() == [{"_step": 10, "a": 1, "b": 2}, {"_step": 20, "a": 3}]


def test_a_call_without_step_completes_the_step_that_was_given() -> None:
    with localstore.init(project="steps") as run:
        run.log({"a": 1}, step=5)
        run.log({"b": 2})
        run.log({"c": 3})
    assert points() == [{"_step": 5, "a": 1, "b": 2}, {"_step": 6, "c": 3}]


def test_commit_false_keeps_the_step_open() -> None:
    with localstore.init(project="steps") as run:
        run.log({"a": 1}, commit=False)
        run.log({"b": 2}, commit=False)
        run.log({"c": 3, "a": 4})
        run.log({"a": 5})
    assert points() == [{"_step": 0, "a": 4, "b": 2, "c": 3}, {"_step": 1, "a": 5}]


def test_commit_true_closes_a_given_step() -> None:
    with localstore.init(project="steps") as run:
        run.log({"a": 1}, step=5, commit=True)
        run.log({"a": 2})
    assert [row["_step"] for row in points()] == [5, 6]


def test_a_step_that_goes_back_is_dropped_counted_and_warned_about_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with localstore.init(project="steps") as run:
        run.log({"a": 1}, step=10)
        for step in (9, 3, 0):
            run.log({"a": -1}, step=step)
        run.log({"a": 2}, step=11)
    assert points() == [{"_step": 10, "a": 1}, {"_step": 11, "a": 2}]
    assert only_run().gaps == {"backwards step": 3}
    assert capsys.readouterr().err.count("behind step") == 1


def test_what_was_dropped_is_known_although_the_run_never_ends() -> None:
    run = localstore.init(project="steps")
    run.log({"a": 1}, step=10)
    run.log({"a": 1}, step=9)
    run.flush()
    run.flush()
    assert only_run().gaps == {"backwards step": 1}
    run.finish()


@pytest.mark.parametrize("step", ["soon", -1, float("nan"), float("inf"), 2**62, object(), []])
def test_what_is_no_step_is_dropped_and_counted(step: Any) -> None:
    with localstore.init(project="steps") as run:
        run.log({"a": 1}, step=step)
        run.log({"a": 2})
    assert points() == [{"_step": 0, "a": 2}]
    assert only_run().gaps == {"not a step": 1}


@pytest.mark.parametrize("step", [np.int64(7), np.float32(7.0), 7.0, "7", True])
def test_what_counts_as_a_whole_number_is_a_step(step: Any) -> None:
    with localstore.init(project="steps") as run:
        run.log({"a": 1}, step=step)
    assert points() == [{"_step": int(step), "a": 1}]


def test_the_greatest_step_is_kept() -> None:
    with localstore.init(project="steps") as run:
        run.log({"a": 0}, step=0)
        run.log({"a": 1}, step=2**62 - 1)
    assert [row["_step"] for row in points()] == [0, 2**62 - 1]


def test_a_step_that_stays_open_over_many_blocks_is_one_row() -> None:
    with localstore.init(project="steps") as run:
        for number in range(3000):
            run.log({f"k{number % 7}": number}, step=4)
        run.log({"end": 1}, step=5)
    assert points() == [
        {"_step": 4, **{f"k{key}": max(range(key, 3000, 7)) for key in range(7)}},
        {"_step": 5, "end": 1},
    ]
