"""Each event once, not too many, and again when it did not get through."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import localstore
from localstore.notify.loop import STATE_FILE, Notifying
from localstore.notify.notifiers import add_notifier, remove_notifier
from localstore.notify.told import Told
from localstore.remotes import add_remote

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from localstore.layout import HomePaths
    from tests.notify.conftest import Clock, Sink


@pytest.fixture
def hook(home: HomePaths, sink: Sink, clock: Clock) -> Sink:
    """A webhook that is told everything."""
    add_notifier(home, "hook", "webhook", clock.us, url=sink.url)
    return sink


def told(sink: Sink) -> list[tuple[str, str]]:
    return [(one["path"], one["state"]) for post in sink.got for one in post.body["events"]]


def look(work: Notifying, clock: Clock, seconds: float = 60.0) -> int:
    clock.pass_s(seconds)
    return work.round()


def test_nothing_is_sent_before_a_person_added_a_notifier(
    home: HomePaths, sink: Sink, notifying: Any, make_run: Any
) -> None:
    make_run("r1")
    assert notifying().round() == 0
    assert sink.got == []
    assert not (home.root / STATE_FILE).exists()


def test_ends_are_told_once_and_what_was_before_is_not(
    hook: Sink, notifying: Any, make_run: Any, clock: Clock, home: HomePaths
) -> None:
    good, bad = make_run("good"), make_run("bad", exit_code=3)
    work = notifying()
    assert work.round() == 2
    assert sorted(told(hook)) == [(bad, "failed"), (good, "finished")]
    assert look(work, clock) == look(work, clock) == 0
    assert look(notifying(), clock) == 0, "a new process remembers"


def test_what_ended_before_the_notifier_came_is_not_told(
    home: HomePaths, sink: Sink, notifying: Any, make_run: Any, clock: Clock
) -> None:
    make_run("old")
    clock.pass_s(10)
    add_notifier(home, "hook", "webhook", clock.us, url=sink.url)
    assert notifying().round() == 0


def test_a_run_that_is_killed_is_told_as_crashed(
    home: HomePaths, hook: Sink, notifying: Any, clock: Clock
) -> None:
    code = (
        "import localstore, os, signal\n"
        "run = localstore.init(project='digits', id='r1')\n"
        "run.log({'loss': 1.0})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "LOCALSTORE_HOME": str(home.root)}
    subprocess.run([sys.executable, "-c", code], env=environment, timeout=60)
    assert notifying().round() == 1
    assert [state for _, state in told(hook)] == ["crashed"]


def test_a_live_run_that_records_nothing_is_silent_until_it_records_again(
    home: HomePaths, hook: Sink, notifying: Any, clock: Clock
) -> None:
    run = localstore.init(project="digits", id="r1", dir=home.root)
    run.log({"loss": 1.0})
    run.flush()
    work = notifying()
    assert work.round() == 0
    assert look(work, clock, 29 * 60) == 0
    assert look(work, clock, 2 * 60) == 1
    assert look(work, clock, 60 * 60) == 0
    run.finish()
    assert look(work, clock) == 1
    assert [state for _, state in told(hook)] == ["silent", "finished"]


def test_many_at_once_make_one_message(
    hook: Sink, notifying: Any, make_run: Any, clock: Clock
) -> None:
    for number in range(6):
        make_run(f"r{number}", exit_code=number % 2)
    assert notifying().round() == 1
    (post,) = hook.got
    assert len(post.body["events"]) == 6
    assert post.body["text"].startswith("localstore: 3 finished, 3 failed\nrun ")


def test_an_hour_has_only_so_many_messages_and_nothing_is_lost(
    home: HomePaths, sink: Sink, notifying: Any, make_run: Any, clock: Clock
) -> None:
    add_notifier(home, "hook", "webhook", clock.us, url=sink.url, at_most=2)
    work = notifying()
    for number in range(4):
        make_run(f"r{number}")
        look(work, clock, 1.0)
        look(work, clock, 15.0)
    assert len(sink.got) == 2
    clock.pass_s(3_600)
    work.round()
    assert len(told(sink)) == 4


@pytest.mark.parametrize("jump_s", [-365 * 86_400, 365 * 86_400])
def test_a_clock_that_jumps_a_year_and_back_silences_nobody(
    hook: Sink, notifying: Any, make_run: Any, clock: Clock, jump_s: int
) -> None:
    work = notifying()
    make_run("r1")
    work.round()
    clock.us += jump_s * 1_000_000
    look(work, clock)
    clock.us -= jump_s * 1_000_000
    make_run("r2")
    look(work, clock)
    assert [path.rpartition("/")[2] for path, state in told(hook) if state == "finished"] == [
        "r1",
        "r2",
    ]


def test_what_did_not_get_through_is_tried_again_later_and_later(
    hook: Sink, notifying: Any, make_run: Any, clock: Clock, said: list[str]
) -> None:
    hook.answers = [(500, {})] * 3
    make_run("r1")
    work = notifying()
    tries = []
    for second in range(200):
        before = len(hook.got)
        look(work, clock, 1.0)
        if len(hook.got) > before:
            tries.append(second)
    assert [second - tries[0] for second in tries] == [0, 10, 30, 70]
    assert said == ["notifier hook: the webhook answers 500", "notifier hook: works again"]
    assert look(work, clock, 4_000) == 0


def test_retry_after_is_obeyed(hook: Sink, notifying: Any, make_run: Any, clock: Clock) -> None:
    hook.answers = [(429, {"Retry-After": "300"})]
    make_run("r1")
    work = notifying(random=lambda: 0.0)
    work.round()
    look(work, clock, 299)
    assert len(hook.got) == 1
    look(work, clock, 2)
    assert len(hook.got) == 2


def test_a_notifier_that_fails_does_not_keep_another_from_telling(
    home: HomePaths, hook: Sink, notifying: Any, make_run: Any, clock: Clock, tmp_path: Path
) -> None:
    add_notifier(home, "dead", "command", clock.us, words=("/does/not/exist",))
    make_run("r1")
    assert notifying().round() == 1


def test_one_that_was_removed_and_added_again_begins_anew(
    home: HomePaths, hook: Sink, notifying: Any, make_run: Any, clock: Clock
) -> None:
    make_run("r1")
    work = notifying()
    work.round()
    remove_notifier(home, "hook")
    clock.pass_s(60)
    assert work.round() == 0
    add_notifier(home, "hook", "webhook", clock.us, url=hook.url)
    assert look(work, clock) == 0
    assert len(hook.got) == 1


# ------------------------------------------------------------------ remotes
@pytest.fixture
def remote_state(home: HomePaths, tmp_path: Path) -> Callable[[Any], None]:
    """Writes down how the last sync with a remote went, as the service does."""
    entry = add_remote(home.root, "stick", str(tmp_path / "stick"))
    path = home.root / "state" / f"{entry.id}.json"
    path.parent.mkdir()

    def write(error: Any, **more: Any) -> None:
        path.write_text(json.dumps({"last_try_us": 1, "error": error, **more}))

    return write


TROUBLE = {"text": "no localstore remote", "hint": "mount it", "permanent": False}


def test_trouble_with_a_remote_is_told_after_a_while_and_again_when_it_comes_back(
    hook: Sink, notifying: Any, clock: Clock, remote_state: Any
) -> None:
    work = notifying()
    remote_state(TROUBLE)
    assert work.round() == 0
    assert look(work, clock, 59 * 60) == 0
    work = notifying()  # the next process goes on where this one was
    assert look(work, clock, 60) == 1
    assert look(work, clock, 3_600) == 0
    assert told(hook) == [("stick", "sync")]
    remote_state(None, last_success_us=clock.us)
    look(work, clock)
    remote_state({**TROUBLE, "permanent": True})
    assert look(work, clock) == 1


def test_remotes_need_no_key(
    hook: Sink, notifying: Any, clock: Clock, remote_state: Any, make_run: Any
) -> None:
    make_run("r1")
    remote_state({**TROUBLE, "permanent": True})
    assert notifying(identity=None).round() == 1
    assert told(hook) == [("stick", "sync")]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"error": 3}', '{"error": {"text": 1}}',
                                  "[" * 100_000, '{"error": []}'])  # fmt: skip
def test_a_state_that_is_none_is_no_trouble(
    home: HomePaths, hook: Sink, notifying: Any, clock: Clock, remote_state: Any, text: str
) -> None:
    remote_state(None)
    (path,) = (home.root / "state").iterdir()
    path.write_text(text)
    assert look(notifying(), clock, 90 * 60) == 0


# ------------------------------------------------------------------ what lies on the disk
def test_what_was_told_is_remembered_without_a_name(
    home: HomePaths, hook: Sink, notifying: Any, make_run: Any
) -> None:
    make_run("CANARYRUN", name="CANARYNAME", notes="CANARYNOTES")
    notifying().round()
    raw = (home.root / STATE_FILE).read_bytes()
    assert b"CANARY" not in raw
    assert b"digits" not in raw
    assert (home.root / STATE_FILE).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"version": 9}', '{"version": 1, "told": 3}',
     '{"version": 1, "told": {"x": []}, "sent": {"y": 1}}'],
)  # fmt: skip
def test_a_damaged_memory_is_no_memory(
    home: HomePaths, hook: Sink, notifying: Any, make_run: Any, text: str
) -> None:
    make_run("r1")
    (home.root / STATE_FILE).write_text(text)
    assert notifying().round() == 1


def test_the_memory_is_bounded_and_forgets_the_oldest_first(tmp_path: Path) -> None:
    told = Told(tmp_path / "state")
    told.put("n", [str(number) for number in range(100_010)], 1)
    told.keep({"n"})
    assert not told.is_told("n", "9")
    assert told.is_told("n", "10")
    told.keep(set())
    assert not told.is_told("n", "10")


def test_weeks_later_nothing_is_told_twice(
    hook: Sink, notifying: Any, make_run: Any, clock: Clock
) -> None:
    make_run("r1")
    work = notifying()
    work.round()
    for _ in range(70):
        look(work, clock, 86_400)
    assert len(hook.got) == 1
