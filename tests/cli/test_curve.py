"""Curves in text."""

from __future__ import annotations

import math

import pytest

from localstore.cli.curve import draw


def test_a_rise_in_braille() -> None:
    assert draw([0, 1], [0.0, 1.0], width=4, height=2) == ["  ⡠⠊", "⡠⠊"]


def test_a_rise_in_ascii() -> None:
    assert draw([0, 3], [0.0, 3.0], width=4, height=4, braille=False) == ["   *", "  *", " *", "*"]


def test_a_fall_and_the_space_between_steps() -> None:
    assert draw([0, 1, 10], [2.0, 0.0, 0.0], width=11, height=3, braille=False) == [
        "*",
        "*",
        " **********",
    ]


@pytest.mark.parametrize("values", [[], [math.nan], [math.inf, -math.inf]])
def test_nothing_finite_draws_nothing(values: list[float]) -> None:
    assert draw(list(range(len(values))), values, width=10) == []


def test_one_point_and_a_constant_stand_in_the_middle() -> None:
    assert draw([7], [5.0], width=5, height=3, braille=False) == ["", "  *", ""]
    assert draw([0, 4], [5.0, 5.0], width=5, height=3, braille=False) == ["", "*****", ""]


def test_nan_and_infinity_leave_a_gap() -> None:
    values = [1.0, 1.0, math.nan, math.inf, 1.0]
    assert draw(list(range(5)), values, width=5, height=1, braille=False) == ["**  *"]


def test_the_greatest_floats_fit() -> None:
    drawn = draw([0, 1 << 62], [-1.7e308, 1.7e308], width=3, height=3, braille=False)
    assert drawn == ["  *", " *", "*"]


def test_the_least_floats_fit() -> None:
    assert len(draw([0, 1], [0.0, 5e-324], width=3, height=3)) == 3


def test_steps_that_go_back_are_drawn() -> None:
    assert draw([2, 0], [0.0, 2.0], width=3, height=3, braille=False) == ["*", " *", "  *"]


@pytest.mark.parametrize("braille", [True, False])
def test_no_line_is_wider_or_higher_than_asked(braille: bool) -> None:
    steps = list(range(5000))
    values = [math.sin(step / 50) * 10 ** (step % 7) for step in steps]
    drawn = draw(steps, values, width=33, height=5, braille=braille)
    assert len(drawn) == 5
    assert max(map(len, drawn)) <= 33
