"""What the history and the state say of syncs: soon, truly, and in a person's words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from localstore.errors import StoreError
from localstore.remotes import RemoteEntry, read_remotes
from localstored.report import Note, ProjectReport, SyncReport
from localstored.service.desk import Desk
from localstored.service.ledger import TELL_S, Ledger
from localstored.service.state import State
from tests.sync.makers import with_remote

if TYPE_CHECKING:
    from pathlib import Path

    from tests.daemon.conftest import FakeClock, Said

SECOND_US = 1_000_000


class Told:
    """A ledger, its clock, and what stands in the history."""

    def __init__(self, home: Path, said: Said, clock: FakeClock, entry: RemoteEntry) -> None:
        self.home, self.clock, self.entry = home, clock, entry
        desk = Desk(home, said.journal, clock=lambda: int(clock() * 1e6), monotonic=clock)
        self.ledger = Ledger(entry, desk)

    def push(self, count: int, *, by: str = "service") -> None:
        """A sync that brought so many files away in a tenth of a second."""
        project = ProjectReport(remote=self.entry.name, project="ab" * 32, pushed=count)
        report = SyncReport(projects=[project])
        loud = by == "person"
        self.ledger.went_through(report, took_us=SECOND_US // 10, loud=loud, by=by)

    def history(self) -> list[tuple[str, int, float]]:
        """Who asked, files that left, seconds."""
        found = State(self.home).history(100)
        return [(one["by"], one["pushed"], one["seconds"]) for one in found]


@pytest.fixture
def told(home: Path, tmp_path: Path, said: Said, clock: FakeClock) -> Told:
    with_remote(home, tmp_path / "stick")
    return Told(home, said, clock, read_remotes(home)["stick"])


def test_the_first_small_sync_stands_in_the_history_at_once(told: Told) -> None:
    told.push(3)
    assert told.history() == [("service", 3, 0.1)]


def test_what_follows_within_a_minute_is_one_entry_with_the_time_that_it_took(told: Told) -> None:
    for _ in range(5):
        told.push(2)
        told.clock.sleep(TELL_S / 10)
    assert told.history() == [("service", 2, 0.1)]
    told.clock.sleep(TELL_S)
    assert told.ledger.due_s == 0.0
    told.ledger.write()
    assert told.history()[1:] == [("service", 8, 0.4)]


def test_a_sync_that_a_person_asked_for_is_not_credited_with_what_the_service_did(
    told: Told,
) -> None:
    for count in (1, 2):
        told.push(count)
    told.push(4, by="person")
    assert told.history() == [("service", 1, 0.1), ("service", 2, 0.1), ("person", 4, 0.1)]


def test_what_went_before_a_failure_is_told_with_it(told: Told) -> None:
    told.push(1)
    told.push(2)
    told.ledger.failed(StoreError("it is away"), None, 1.0, "service")
    assert [one["error"] for one in State(told.home).history(9)] == [None, "it is away"]
    assert told.history()[1][1] == 2


def test_a_broken_policy_is_told_once_by_its_file_and_with_what_to_do(told: Told) -> None:
    report = SyncReport()
    for digits in ("ab", "cd"):
        project = ProjectReport(remote="stick", project=digits * 32)
        project.errors.append(Note("policy", "/home/ada/policy.toml: unknown key 'clases'"))
        report.projects.append(project)
    told.ledger.went_through(report, took_us=1, loud=True, by="service")
    error = State(told.home).remote(told.entry.id).error
    assert error is not None
    assert error.text == "/home/ada/policy.toml: unknown key 'clases'"
    assert "policy edit" in error.hint
