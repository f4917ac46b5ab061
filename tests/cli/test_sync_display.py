"""Progress: numbers that add up, a rate that forgets, lines for logs and bars for people."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from localstore.cli.sync_display import Display, Lines, duration_text, showing

MB = 1_000_000


def event(
    done: int, of: int, *, size: int = 0, planned: int = 0, phase: str = "runs", **more: Any
) -> dict[str, Any]:
    facts = {"remote": "stick", "project": "ab" * 32, "phase": phase}
    counts = {"done_items": done, "planned_items": of, "done_bytes": size, "planned_bytes": planned}
    return {**facts, **counts, **more}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def display(clock: Clock) -> Display:
    return Display({"ab" * 32: "ada/digits"}, clock)


def test_rate_and_time_left_are_those_of_the_last_seconds(display: Display, clock: Clock) -> None:
    for second in range(30):
        clock.now = float(second)
        # Slow at first; what counts is the 10 MB/s of now.
        size = second * 100_000 if second < 15 else 1_500_000 + (second - 15) * 10 * MB
        display.take(event(second, 100, size=size, planned=341_500_000))
    assert display.line("stick") == (
        "stick: 29/100 files, 141.5 MB of 341.5 MB, 10.0 MB/s, 20 s left (ada/digits runs)"
    )


def test_a_stall_has_no_rate_and_promises_no_end(display: Display, clock: Clock) -> None:
    display.take(event(1, 2, size=5 * MB, planned=10 * MB))
    clock.now = 60.0
    display.take(event(1, 2, size=5 * MB, planned=10 * MB))
    assert display.line("stick") == "stick: 1/2 files, 5.0 MB of 10.0 MB (ada/digits runs)"


def test_phases_and_projects_add_up_also_where_a_phase_is_done_in_parts(display: Display) -> None:
    display.take(event(4, 4, size=4, planned=4, phase="trust"))
    display.take(event(1, 2, size=10, planned=20))
    display.take(event(2, 2, size=20, planned=20))
    display.take(event(1, 3, size=5, planned=30))
    display.take(event(2, 2, size=7, planned=7, project="cd" * 32))
    assert display.remotes["stick"].total == (9, 11, 36, 61)


def test_events_of_the_engine_and_of_the_service_count_alike(display: Display) -> None:
    display.take(SimpleNamespace(**event(1, 2, size=3, planned=4)))
    display.take(event(1, 2, size=3, planned=4, kind="progress"))
    assert display.remotes["stick"].total == (1, 2, 3, 4)


@pytest.mark.parametrize("said", [{}, {"remote": 5}, "text", None, {"kind": "remote", "text": "x"}])
def test_an_event_of_another_kind_does_no_harm(display: Display, said: object) -> None:
    assert display.take(said) is None


def test_a_remote_that_waits_says_so(display: Display) -> None:
    display.take({"kind": "remote", "remote": "lab", "doing": "waiting", "text": "it is\x1b away"})
    assert display.line("lab") == "lab: 0/0 files, 0 B of 0 B (it is\\x1b away)"


# ------------------------------------------------------------------ without a terminal
def test_a_short_sync_says_nothing_and_a_long_one_a_line_each_five_seconds(
    display: Display, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = Lines(display, verbose=False)
    for second in range(13):
        clock.now = float(second)
        lines.take(event(second, 12, size=second * MB, planned=12 * MB))
        if second == 4:
            assert capsys.readouterr().err == ""
    said = capsys.readouterr()
    assert said.out == ""
    assert [line.split(":")[0] for line in said.err.splitlines()] == ["localstore", "localstore"]


def test_a_verbose_one_says_the_end_of_each_phase(
    display: Display, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = Lines(display, verbose=True)
    for done in range(1, 4):
        lines.take(event(done, 3, phase="trust"))
    lines.take(event(2, 2, phase="runs"))
    assert capsys.readouterr().err.count("\n") == 2


def test_a_quiet_one_says_nothing_at_all() -> None:
    with showing({}, quiet=True, verbose=True) as take:
        assert take is None


# ------------------------------------------------------------------ on a terminal
def test_on_a_terminal_there_is_a_bar_for_each_remote_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with showing({"ab" * 32: "ada/digits"}, quiet=False, verbose=False) as take:
        assert take is not None
        take(event(1, 2, size=MB, planned=2 * MB))
        take({**event(1, 1), "remote": "lab"})
    said = capsys.readouterr()
    assert said.out == ""
    assert "stick ada/digits runs" in said.err
    assert "1/2 files" in said.err


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (89, "89 s"),
        (90, "2 min"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (266_400, "3 d 2 h"),
    ],
)
def test_lengths_of_time_are_read_at_a_glance(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_a_thousand_events_a_second_cost_no_memory(display: Display, clock: Clock) -> None:
    for number in range(5000):
        clock.now = number / 1000
        display.take(event(number, 5000, size=number, planned=5000))
    assert len(display.remotes["stick"]._samples) <= 128
