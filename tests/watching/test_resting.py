"""When something has come to rest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from localstore.watching.looking import Candidate, Stamp
from localstore.watching.resting import Rest

STAMP = Stamp(1, 2, 100, 1_000, 1_000)


def one(stamp: Stamp = STAMP, **more: object) -> dict[str, Candidate]:
    made = Candidate("a.ckpt", (("a.ckpt", stamp),))
    return {"a.ckpt": replace(made, **more)}  # type: ignore[arg-type]


def names(found: list[Candidate]) -> list[str]:
    return [candidate.name for candidate in found]


def test_what_stays_as_it_is_over_the_settle_time_rests() -> None:
    rest = Rest(2.0)
    assert not rest.look(one(), 10.0)
    assert not rest.look(one(), 11.9)
    assert names(rest.look(one(), 12.0)) == ["a.ckpt"]


@pytest.mark.parametrize("changed", ["inode", "size", "mtime_ns", "ctime_ns", "device"])
def test_any_change_begins_the_wait_anew(changed: str) -> None:
    rest = Rest(2.0)
    rest.look(one(), 10.0)
    other = STAMP._replace(**{changed: 77})
    assert not rest.look(one(other), 12.0)
    assert not rest.look(one(other), 13.9)
    assert rest.look(one(other), 14.0)


def test_what_was_renamed_into_place_rests_at_once_and_only_as_long_as_it_is_that() -> None:
    rest = Rest(60.0)
    assert rest.look(one(), 10.0, {"a.ckpt"})
    assert not rest.look(one(STAMP._replace(size=7)), 11.0)


def test_a_marker_says_at_once_and_nothing_rests_without_it() -> None:
    rest = Rest(2.0)
    assert not rest.look(one(complete=False), 10.0)
    assert not rest.look(one(complete=False), 100.0)
    assert rest.look(one(complete=True), 100.1)


def test_empty_files_empty_folders_and_problems_never_rest() -> None:
    rest = Rest(0.1)
    empty = {"e": Candidate("e", (("e", STAMP._replace(size=0)),))}
    folder = {"f": Candidate("f", (), folder=True)}
    for found in (empty, folder, one(problem="odd")):
        rest.look(found, 1.0)
        assert not rest.look(found, 100.0)


def test_a_folder_with_an_unfinished_file_in_it_waits_for_that_file() -> None:
    rest = Rest(0.1)
    files = (("w.bin", STAMP), ("sub/x.bin.tmp", STAMP))
    found = {"c": Candidate("c", files, folder=True)}
    rest.look(found, 1.0)
    assert not rest.look(found, 100.0)


def test_a_folder_with_a_hidden_file_in_it_is_whole() -> None:
    """`.metadata` belongs to a distributed checkpoint."""
    rest = Rest(0.1)
    found = {"c": Candidate("c", ((".metadata", STAMP), ("w.bin", STAMP)), folder=True)}
    rest.look(found, 1.0)
    assert rest.look(found, 100.0)


def test_what_is_oldest_is_taken_first() -> None:
    rest = Rest(0.1)
    found = {
        name: Candidate(name, ((name, STAMP._replace(mtime_ns=at)),))
        for name, at in (("new", 3), ("old", 1), ("middle", 2))
    }
    rest.look(found, 1.0)
    assert names(rest.look(found, 2.0)) == ["old", "middle", "new"]


def test_a_clock_tells_when_to_look_again() -> None:
    rest = Rest(2.0)
    assert rest.due_in_s(5.0) is None
    rest.look(one(), 10.0)
    assert rest.due_in_s(11.5) == pytest.approx(0.5)
    assert rest.due_in_s(12.5) == 0.0, "nobody has looked since"
    rest.look(one(), 12.5)
    assert rest.due_in_s(12.5) is None
