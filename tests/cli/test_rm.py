"""`localstore rm`."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

import localstore
from localstore.erase import Progress, erasure_status
from localstore.layout import HomePaths, ProjectPaths
from localstore.remotes import RemoteEntry, add_remote
from tests.cli.conftest import COMMAND, call


def _home() -> HomePaths:
    return HomePaths(Path(os.environ["LOCALSTORE_HOME"]))


def _ids(*words: str) -> list[str]:
    return sorted(run["id"] for run in json.loads(call("ls", "--json", *words).out)["runs"])


def test_without_yes_and_nobody_to_ask_nothing_is_deleted(two_runs: None) -> None:
    outcome = call("rm", "first")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.endswith("localstore: hint: give --yes\n")
    assert _ids() == ["first", "second"]


def _answer(answer: bytes, *words: str) -> tuple[int, str]:
    """Run the command with a person at the terminal who answers so."""
    main, side = pty.openpty()
    with os.fdopen(main, "r+b", buffering=0) as keyboard:
        process = subprocess.Popen(
            [str(COMMAND), *words], stdin=side, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        os.close(side)
        keyboard.write(answer + b"\n")
        _, err = process.communicate(timeout=60)
    return process.returncode, err.decode()


def test_it_asks_and_names_and_counts_what_goes(two_runs: None) -> None:
    code, err = _answer(b"n", "rm", "first", "second")
    assert code == 2
    assert "  alpha  ada/digits/first   finished  " in err
    assert "  beta   ada/digits/second  failed    " in err
    assert "Move 2 runs (" in err
    assert _ids() == ["first", "second"]


def test_a_yes_is_enough(two_runs: None) -> None:
    assert _answer(b"y", "rm", "first")[0] == 0
    assert _ids() == ["second"]


def test_a_deleted_run_stays_in_the_trash_and_comes_back(two_runs: None) -> None:
    outcome = call("rm", "first", "--yes")
    assert outcome.code == 0
    assert outcome.out.startswith("ada/digits/first  in the trash until ")
    assert (_ids(), _ids("--trash")) == (["second"], ["first"])
    assert call("rm", "--undo", "first").out == "ada/digits/first  out of the trash\n"
    assert (_ids(), _ids("--trash")) == (["first", "second"], [])
    assert call("show", "first").code == 0


def test_now_erases_at_once_and_for_ever(two_runs: None) -> None:
    subject = localstore.Api().run("first").subject
    outcome = call("rm", "--now", "-y", "first", "--json")
    assert json.loads(outcome.out)["deleted"] == [
        {"path": "ada/digits/first", "id": "first", "erased": True, "erased_at": None}
    ]
    assert list(_home().projects.glob(f"*/*/{subject}")) == []
    assert call("rm", "--undo", "first").code == 66


def test_what_is_in_the_trash_can_be_erased_now(two_runs: None) -> None:
    call("rm", "-y", "first")
    assert call("rm", "-y", "--now", "first").out == "ada/digits/first  erased\n"
    assert (_ids(), _ids("--trash")) == (["second"], [])


def test_one_wrong_name_deletes_nothing(two_runs: None) -> None:
    outcome = call("rm", "-y", "first", "nobody")
    assert (outcome.code, outcome.out) == (66, "")
    assert _ids() == ["first", "second"]


def test_a_run_that_is_not_in_the_trash_cannot_be_taken_out(two_runs: None) -> None:
    assert call("rm", "--undo", "first").code == 66


@pytest.mark.parametrize(
    "words", [[], ["--status", "first"], ["--undo", "--now", "first"], ["--status", "--now"]]
)
def test_what_makes_no_sense_is_a_usage_error(two_runs: None, words: list[str]) -> None:
    assert call("rm", *words).code == 2


# ------------------------------------------------------------------ --status
def test_status_of_an_empty_store() -> None:
    assert json.loads(call("rm", "--status", "--json").out) == {"tombstones": []}
    assert "nothing is deleted" in call("rm", "--status", LOCALSTORE_QUIET="0").err


def test_status_lists_every_tombstone_and_every_remote(two_runs: None, tmp_path: Path) -> None:
    add_remote(_home().root, "stick", str(tmp_path / "stick"))
    subject = localstore.Api().run("second").subject
    call("rm", "-y", "first")
    call("rm", "-y", "--now", "second")
    outcome = call("rm", "--status")
    assert (outcome.code, outcome.err) == (0, "")
    rows = [line.split("  ") for line in outcome.out.splitlines()]
    assert [[cell.strip() for cell in row if cell][:2] for row in rows] == [
        ["PROJECT", "RUN"],
        ["ada/digits", subject[:12]],
        ["ada/digits", "first"],
    ]
    found = json.loads(call("rm", "--status", "--json").out)["tombstones"]
    assert [(one["run"], one["here"], one["remotes"]) for one in found] == [
        (None, "done", {"stick": "never there"}),
        ("ada/digits/first", "in the trash", {"stick": "in the trash"}),
    ]


def test_an_erasure_is_pending_until_the_remote_has_heard_of_it(
    two_runs: None, tmp_path: Path
) -> None:
    add_remote(_home().root, "stick", str(tmp_path / "stick"))
    assert call("sync", "now").code == 0
    call("rm", "-y", "--now", "first")
    found = json.loads(call("rm", "--status", "--json").out)["tombstones"]
    assert [(one["here"], one["remotes"]) for one in found] == [("done", {"stick": "pending"})]


def test_status_opens_a_protected_key_once(two_runs: None) -> None:
    """A passphrase in the environment is forgotten when it is read."""
    call("rm", "-y", "first")
    call("key", "protect", "--stdin", stdin="sesame\n")
    assert call("rm", "--status", LOCALSTORE_PASSPHRASE="sesame").code == 0


SUBJECT = "ab" * 16
LOG, SLOT = f"runs/{SUBJECT}/{'cd' * 16}.log", f"keys/{SUBJECT}/{'0' * 32}-{'1' * 32}"
STICK = RemoteEntry("stick", "/mnt/stick", "0123456789abcdef")


def _line(name: str, size: int) -> str:
    facts = {"name": name, "size": size, "sha256": hashlib.sha256().hexdigest(), "at_us": 1}
    return json.dumps(facts) + "\n"


@pytest.mark.parametrize(
    ("receipts", "progress"),
    [
        ("", Progress.NEVER_THERE),
        (_line(LOG.replace("ab", "ef"), 9), Progress.NEVER_THERE),
        (_line(LOG, 900), Progress.PENDING),
        (_line(LOG, 900) + _line(SLOT, 40) + _line(LOG, 0), Progress.PENDING),
        (_line(LOG, 900) + _line(SLOT, 40) + _line(LOG, 0) + _line(SLOT, 0), Progress.DONE),
        (_line(LOG, 900) + _line(LOG, 0)[:-1], Progress.PENDING),
        (_line(LOG, 900) + "{nonsense\n\xff\n" + _line(LOG, 0), Progress.DONE),
    ],
    ids=["none", "another run", "there", "partly", "gone", "torn line", "unreadable line"],
)
def test_a_remote_is_done_only_when_it_acknowledged_every_file_gone(
    tmp_path: Path, receipts: str, progress: Progress
) -> None:
    paths = ProjectPaths(tmp_path)
    paths.receipts.mkdir()
    (paths.receipts / f"{STICK.id}.jsonl").write_bytes(receipts.encode("latin-1"))
    found = erasure_status(paths, {SUBJECT: (5, b"")}, [STICK], now_us=5)
    assert [(one.here, one.remotes) for one in found] == [(Progress.DONE, {"stick": progress})]
    waiting = erasure_status(paths, {SUBJECT: (5, b"")}, [STICK], now_us=4)
    assert waiting[0].remotes == {"stick": Progress.TRASH}


def test_bytes_that_are_still_here_are_pending(tmp_path: Path) -> None:
    (tmp_path / f"runs/{SUBJECT}").mkdir(parents=True)
    (tmp_path / LOG).write_bytes(b"x")
    found = erasure_status(ProjectPaths(tmp_path), {SUBJECT: (5, b"")}, [], now_us=6)
    assert found[0].here is Progress.PENDING
