"""The agenda: what is done next, and how long a remote in trouble is left alone."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localstored.service.agenda import (
    AGAIN_S,
    LONGEST_S,
    MAX_RETRY_AFTER_S,
    MAX_SUBJECTS,
    PERMANENT_S,
    Agenda,
    Work,
)


def most(_low: float, high: float) -> float:
    return high


@pytest.fixture
def agenda() -> Agenda:
    return Agenda(most)


def test_nothing_is_done_unasked(agenda: Agenda) -> None:
    assert agenda.take(0.0) is None
    assert agenda.wait_s(0.0) is None


def test_hints_of_one_moment_are_one_piece_of_work(agenda: Agenda) -> None:
    agenda.add({"p": ["a", "b"]})
    agenda.add({"p": ["b"], "q": ["c"]})
    assert agenda.take(0.0) == Work(hints={"p": frozenset("ab"), "q": frozenset("c")})
    assert agenda.take(0.0) is None


def test_a_whole_sync_comes_before_hints_and_has_them_in_it(agenda: Agenda) -> None:
    agenda.add({"p": ["a"]})
    agenda.want_look()
    agenda.want_full()
    assert agenda.take(0.0) == Work(full=True)
    assert agenda.take(0.0) is None


def test_a_hint_that_comes_while_everything_is_synced_is_not_lost(agenda: Agenda) -> None:
    agenda.want_full()
    agenda.take(0.0)
    agenda.add({"p": ["a"]})
    assert agenda.take(0.0) == Work(hints={"p": frozenset("a")})


def test_what_was_told_as_urgent_is_looked_at_properly_afterwards(agenda: Agenda) -> None:
    agenda.want_full()
    agenda.take(0.0)
    agenda.add({"p": ["a"]})
    assert agenda.urgent() == {"p": frozenset("a")}
    assert agenda.urgent() == {}
    agenda.add({"p": ["b"]})
    assert agenda.urgent() == {"p": frozenset("b")}
    assert agenda.take(0.0) == Work(hints={"p": frozenset("ab")})


def test_what_failed_is_in_the_next_attempt(agenda: Agenda) -> None:
    agenda.add({"p": ["a"]})
    agenda.take(0.0)
    agenda.failed(0.0, retry_after_s=None, permanent=False)
    assert agenda.take(0.5) is None
    assert agenda.take(1.0) == Work(full=True)


def test_too_many_hints_become_one_whole_sync(agenda: Agenda) -> None:
    agenda.add({"p": [f"{n:032x}" for n in range(MAX_SUBJECTS + 1)]})
    assert agenda.queued == 0
    assert agenda.take(0.0) == Work(full=True)


def test_waits_double_from_a_second_to_five_minutes_and_never_overflow(agenda: Agenda) -> None:
    waits = [agenda.failed(0.0, retry_after_s=None, permanent=False) for _ in range(2000)]
    assert waits[:4] == [1.0, 2.0, 4.0, 8.0]
    assert max(waits) == waits[-1] == LONGEST_S


@given(st.integers(0, 2**32), st.integers(1, 40))
def test_a_wait_is_anything_up_to_its_ceiling(seed: int, failures: int) -> None:
    agenda, wait_s = Agenda(random.Random(seed).uniform), 0.0
    for _ in range(failures):
        wait_s = agenda.failed(0.0, retry_after_s=None, permanent=False)
    assert 0.0 <= wait_s <= min(2.0 ** (failures - 1), LONGEST_S)


def test_a_server_that_says_when_is_obeyed_within_reason(agenda: Agenda) -> None:
    assert agenda.failed(0.0, retry_after_s=120.0, permanent=False) == 120.0
    assert agenda.failed(0.0, retry_after_s=1e9, permanent=False) == MAX_RETRY_AFTER_S
    assert agenda.failed(0.0, retry_after_s=0.0, permanent=False) == 4.0


def test_what_only_a_person_can_mend_waits_for_one_or_an_hour(agenda: Agenda) -> None:
    agenda.failed(0.0, retry_after_s=1.0, permanent=True)
    assert agenda.take(PERMANENT_S - 1) is None
    assert agenda.wait_s(0.0) == PERMANENT_S
    agenda.unblock()
    assert agenda.take(1.0) == Work(full=True)


def test_after_a_success_the_waits_begin_anew(agenda: Agenda) -> None:
    for _ in range(5):
        agenda.failed(0.0, retry_after_s=None, permanent=False)
    agenda.succeeded()
    assert agenda.failed(0.0, retry_after_s=None, permanent=False) == 1.0


def test_one_bad_file_holds_up_no_hint(agenda: Agenda) -> None:
    agenda.went_partly(0.0)
    agenda.add({"p": ["a"]})
    assert agenda.take(0.0) == Work(hints={"p": frozenset("a")})
    assert agenda.take(0.0) is None
    assert agenda.wait_s(0.0) == AGAIN_S + 1.0
    assert agenda.take(AGAIN_S + 1.0) == Work(full=True)


def test_a_whole_sync_without_fault_ends_the_repetitions(agenda: Agenda) -> None:
    agenda.went_partly(0.0)
    agenda.went_wholly()
    assert agenda.wait_s(0.0) is None


def test_while_held_nothing_is_due(agenda: Agenda) -> None:
    agenda.want_full()
    agenda.held = True
    assert agenda.take(0.0) is None
    assert agenda.wait_s(0.0) is None
    agenda.held = False
    assert agenda.take(0.0) == Work(full=True)
