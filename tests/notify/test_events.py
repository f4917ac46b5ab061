"""What there is to tell: a pure function of what is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from localstore.notify.events import FORGOTTEN_US, RemoteFacts, RunFacts, run_events, sync_events
from localstore.notify.notifiers import EVENTS, Notifier

NOW = 1_800_000_000_000_000
MINUTE = 60_000_000
RUN = RunFacts(
    key="k", path="ada/digits/r1", name="alpha", state="finished", exit_code=0, writers=1,
    created_us=NOW - 90 * MINUTE, updated_us=NOW - MINUTE, active_us=NOW - MINUTE,
)  # fmt: skip
REMOTE = RemoteFacts(
    id="0123456789abcdef", name="stick", reason="not there", permanent=False,
    since_us=NOW - 10 * MINUTE,
)  # fmt: skip


def notifier(**values: Any) -> Notifier:
    given = {"name": "n", "id": "f" * 16, "kind": "desktop", "added_us": NOW - 60 * MINUTE}
    return Notifier(**{**given, **values})


@pytest.mark.parametrize("state", ["finished", "failed", "crashed", "running"])
@pytest.mark.parametrize("on", [EVENTS, ("crashed",), ("sync",)])
def test_a_notifier_tells_of_the_states_that_it_is_for(state: str, on: tuple[str, ...]) -> None:
    found = run_events([replace(RUN, state=state)], notifier(on=on), (), NOW)
    assert [event.kind for event in found] == ([state] if state in on else [])


def test_what_was_over_before_the_notifier_was_added_is_not_told() -> None:
    late = notifier(added_us=NOW)
    assert not run_events([RUN], late, (), NOW)
    assert run_events([RUN], late, {"k"}, NOW), "but what was seen running since then is"


def test_what_is_a_month_old_is_told_to_nobody() -> None:
    old = replace(RUN, updated_us=NOW - FORGOTTEN_US - 1, active_us=0, created_us=0)
    assert not run_events([old], notifier(added_us=0), (), NOW)
    assert not run_events([replace(old, state="running")], notifier(added_us=0), (), NOW)


@pytest.mark.parametrize(("minutes", "told"), [(29, False), (30, True)])
def test_a_live_run_without_a_record_for_so_long_is_silent(minutes: int, told: bool) -> None:
    run = replace(RUN, state="running", active_us=NOW - minutes * MINUTE, updated_us=NOW)
    assert bool(run_events([run], notifier(silent_min=30), (), NOW)) is told


def test_a_silence_after_new_records_is_another_one() -> None:
    runs = [replace(RUN, state="running", active_us=NOW - n * MINUTE) for n in (40, 50)]
    first, second = (run_events([run], notifier(), (), NOW)[0].key for run in runs)
    assert first != second


def test_an_end_is_told_once_however_often_it_is_seen_and_again_after_a_resume() -> None:
    runs = (RUN, replace(RUN, updated_us=NOW), replace(RUN, writers=2))
    keys = [run_events([run], notifier(), (), NOW)[0].key for run in runs]
    assert keys[0] == keys[1] != keys[2]


def test_keys_tell_nothing_of_the_run() -> None:
    (event,) = run_events([RUN], notifier(), (), NOW)
    assert "r1" not in event.key
    assert len(event.key) == 32


def test_by_default_a_path_and_a_state_are_told_and_nothing_else() -> None:
    (event,) = run_events([RUN], notifier(), (), NOW)
    assert event.told(notifier().tell) == {"path": "ada/digits/r1", "state": "finished"}
    more = event.told(("path", "state", "name", "exit_code", "times"))
    assert more == {
        "path": "ada/digits/r1", "state": "finished", "name": "alpha", "exit_code": 0,
        "started_us": RUN.created_us, "last_us": RUN.updated_us,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("minutes", "permanent", "told"), [(59, False, False), (60, False, True), (0, True, True)]
)
def test_a_failing_remote_is_trouble_after_a_while_or_when_a_person_must_act(
    minutes: int, permanent: bool, told: bool
) -> None:
    remote = replace(REMOTE, since_us=NOW - minutes * MINUTE, permanent=permanent)
    found = sync_events([remote], notifier(), NOW)
    assert [event.told(("reason",)) for event in found] == (
        [{"path": "stick", "state": "sync", "reason": "not there"}] if told else []
    )
    assert not sync_events([remote], notifier(on=("finished",)), NOW)


def test_the_reason_is_told_only_to_who_asked_for_it() -> None:
    (event,) = sync_events([replace(REMOTE, permanent=True)], notifier(), NOW)
    assert event.told(notifier().tell) == {"path": "stick", "state": "sync"}
