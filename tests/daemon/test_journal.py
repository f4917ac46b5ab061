"""What the service says: whole lines, for the journal, for a person, for a program."""

from __future__ import annotations

import io
import json
import threading
from datetime import UTC, datetime

import pytest

from localstored.service.journal import Journal, Level

WHEN = datetime(2026, 11, 21, 14, 0, 5, tzinfo=UTC)


def lines(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


def test_a_person_gets_time_level_event_and_facts() -> None:
    stream = io.StringIO()
    Journal(stream, clock=lambda: WHEN).warning("sync", remote="ab12", problem="no stick", n=3)
    assert lines(stream) == ['2026-11-21T14:00:05Z warning sync remote=ab12 problem="no stick" n=3']


def test_the_journal_gets_a_level_and_keeps_its_own_time() -> None:
    stream = io.StringIO()
    journal = Journal(stream, to_systemd=True, least=Level.DEBUG)
    journal.error("a")
    journal.warning("b")
    journal.notice("c")
    journal.info("d")
    journal.debug("e")
    assert lines(stream) == ["<3>a", "<4>b", "<5>c", "<6>d", "<7>e"]


def test_a_program_gets_one_object_for_each_line() -> None:
    stream = io.StringIO()
    Journal(stream, as_json=True, clock=lambda: WHEN).info("sync", pushed=3, why="a\nb", x=None)
    (line,) = lines(stream)
    assert json.loads(line) == {
        "level": "info",
        "event": "sync",
        "time": "2026-11-21T14:00:05.000000Z",
        "pushed": 3,
        "why": "a\nb",
        "x": None,
    }


@pytest.mark.parametrize(
    "evil", ["a\nb", "a\r\n<3>fake error", "\x1b[31mred", "\u202e", "x" * 9999]
)
def test_no_text_makes_a_second_line_or_moves_a_terminal(evil: str) -> None:
    stream = io.StringIO()
    Journal(stream, to_systemd=True).info("sync", text=evil)
    (line,) = lines(stream)
    assert line.isascii()
    assert line.isprintable()
    assert len(line) < 4000


def test_what_goes_on_for_a_week_is_said_once_and_its_end_too() -> None:
    stream = io.StringIO()
    journal = Journal(stream)
    for _ in range(1000):
        journal.on_change("remote a", Level.WARNING, "sync", problem="away")
    assert len(lines(stream)) == 1
    assert journal.on_change("remote a", Level.WARNING, "sync", problem="full")
    assert journal.forget("remote a")
    assert not journal.forget("remote a")
    assert journal.on_change("remote a", Level.WARNING, "sync", problem="full")


def test_what_is_remembered_has_a_bound() -> None:
    journal = Journal(io.StringIO())
    for number in range(5000):
        journal.on_change(f"file {number}", Level.WARNING, "note")
    assert len(journal._last) <= 1000


def test_lines_of_many_threads_stay_whole() -> None:
    stream = io.StringIO()
    journal = Journal(stream, to_systemd=True)

    def talk() -> None:
        for _ in range(200):
            journal.info("event", a="one two", b=2)

    threads = [threading.Thread(target=talk) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert set(lines(stream)) == {'<6>event a="one two" b=2'}
    assert len(lines(stream)) == 1600


def test_a_stream_that_is_gone_does_not_end_the_service() -> None:
    stream = io.StringIO()
    stream.close()
    Journal(stream).info("event")
