"""What the service remembers: small files that may vanish, be cut, or be nonsense."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from localstore.errors import StoreError
from localstored.service import state as module
from localstored.service.state import MAX_HISTORY_BYTES, Pause, RemoteState, State, Trouble

if TYPE_CHECKING:
    from pathlib import Path

ID = "ab" * 8


def test_a_pause_outlives_the_process_that_asked_for_it(home: Path) -> None:
    State(home).set_pause(2_000)
    assert State(home).pause() == Pause(2_000)
    State(home).set_pause(None)
    assert State(home).pause() == Pause(None)
    State(home).clear_pause()
    State(home).clear_pause()
    assert State(home).pause() is None


def test_a_pause_ends_at_its_time_and_one_without_never_does() -> None:
    assert Pause(2_000).holds(1_999)
    assert not Pause(2_000).holds(2_000)
    assert Pause(None).holds(10**18)


def test_a_pause_that_cannot_be_written_down_is_not_promised(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(module, "replace_file", full)
    with pytest.raises(StoreError, match="no space"):
        State(home).set_pause(None)


def test_how_a_remote_went_is_kept_and_bytes_add_up(home: Path) -> None:
    state = State(home)
    state.add(ID, last_try_us=5, error=Trouble("away", "plug it in", permanent=True))
    state.add(ID, pushed_bytes=10)
    state.add(ID, pushed_bytes=5, pulled_bytes=1, last_success_us=9)
    assert State(home).remote(ID) == RemoteState(
        last_try_us=5,
        last_success_us=9,
        error=Trouble("away", "plug it in", permanent=True),
        pushed_bytes=15,
        pulled_bytes=1,
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"pushed_bytes": "many", "last_try_us": true}',
        b"[" * 100_000,
        b'{"error": {"text": 1}}',
        b"\xff\xfe",
    ],
)
def test_a_file_of_another_form_is_as_good_as_none(home: Path, content: bytes) -> None:
    (home / "state").mkdir()
    (home / "state" / f"{ID}.json").write_bytes(content)
    (home / "state" / "pause.json").write_bytes(content)
    assert State(home).remote(ID) == RemoteState()
    assert State(home).pause() is None


def test_an_id_that_is_none_never_becomes_a_path(home: Path) -> None:
    State(home).record("../../evil", RemoteState(pushed_bytes=1))
    assert not list(home.parent.glob("evil*"))


def test_the_history_is_cut_to_its_newer_half_and_stays_readable(home: Path) -> None:
    state = State(home)
    for number in range(12_000):
        state.remember({"n": number, "text": "x" * 80})
    size = (home / "state" / "history.jsonl").stat().st_size
    assert MAX_HISTORY_BYTES // 4 < size <= MAX_HISTORY_BYTES + 200
    entries = state.history(20_000)
    assert entries[-1]["n"] == 11_999
    assert [one["n"] for one in entries] == list(range(entries[0]["n"], 12_000))


def test_a_line_that_a_crash_cut_is_passed_over(home: Path) -> None:
    state = State(home)
    state.remember({"n": 1})
    with (home / "state" / "history.jsonl").open("ab") as file:
        file.write(b'{"n": 2, "te\n')
    state.remember({"n": 3})
    assert [one["n"] for one in state.history(10)] == [1, 3]
    assert [one["n"] for one in state.history(1)] == [3]


def test_a_disk_that_refuses_costs_the_memory_and_nothing_else(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(28, "no space left on device")

    state = State(home)
    monkeypatch.setattr(module, "replace_cache", full)
    monkeypatch.setattr(os, "open", full)
    state.add(ID, pushed_bytes=1)
    state.remember({"n": 1})
    state.record_damage([{"n": 1}])


def test_files_are_for_their_owner_alone(home: Path) -> None:
    state = State(home)
    state.add(ID, pushed_bytes=1)
    state.remember({"n": 1})
    state.set_pause(None)
    modes = {path.stat().st_mode & 0o777 for path in (home / "state").iterdir()}
    assert modes == {0o600}
    assert (home / "state").stat().st_mode & 0o777 == 0o700
    assert json.loads((home / "state" / "pause.json").read_text()) == {"until_us": None}
