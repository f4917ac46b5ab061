"""`localstore watch`."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

import localstore
from localstore.watching import watches
from tests.cli.conftest import COMMAND, call
from tests.watching.conftest import Bench, until

if TYPE_CHECKING:
    from pathlib import Path

SOON = ("--settle", "100ms")


def add(bench: Bench, *words: str) -> str:
    given = ("watch", "add", str(bench.folder), "--artifact", "net", "-p", "digits")
    done = call(*given, *SOON, *words)
    assert done.code == 0, done.err
    return done.out.strip()


def test_what_is_added_is_listed_and_can_be_forgotten(bench: Bench) -> None:
    first = add(bench, "--pattern", "*.ckpt", "--keep", "3", "--alias", "best", "--run", "r1")
    second = add(bench, "--pattern", "checkpoint-*/", "--complete-when", "DONE")
    listed = json.loads(call("watch", "ls", "--json").out)
    assert [one["id"] for one in listed] == [first, second]
    assert listed[0] | {"id": ""} == {
        "id": "", "folder": str(bench.folder), "pattern": "*.ckpt", "artifact": "net",
        "type": "model", "project": "digits", "entity": "", "run": "r1", "keep": 3,
        "settle_s": 0.1, "aliases": ["best"], "complete_when": None,
        "there": True, "versions": 0, "latest": None,
    }  # fmt: skip
    said = call("watch", "ls").out
    assert f"{bench.folder}/checkpoint-*/" in said
    assert "keep 3, run r1, alias best" in said
    assert call("watch", "rm", first).code == 0
    assert call("watch", "rm", str(bench.folder)).code == 0
    assert call("watch", "ls").out == ""
    assert not watches.path_of(bench.home).exists()
    assert call("watch", "rm", first).code == 66


def test_the_list_says_what_was_taken_and_what_is_not_there(bench: Bench) -> None:
    watch = add(bench)
    bench.put("a.ckpt", b"1")
    call("watch", "run", "--once")
    bench.put("b.ckpt", b"2")
    call("watch", "run", "--once")
    titles, row = call("watch", "ls").out.splitlines()
    assert titles.split() == ["WATCHED", "ARTIFACT", "VERSIONS", "LATEST", "RULES", "ID"]
    assert row.split()[:4] == [f"{bench.folder}/*", "digits/net", "2", "v1"]
    assert row.endswith(watch)
    for path in bench.folder.iterdir():
        path.unlink()
    bench.folder.rmdir()
    assert f"{bench.folder} is not there" in call("watch", "ls").err


def test_a_run_that_nobody_knows_is_told_when_a_watch_is_added(bench: Bench) -> None:
    given = ("watch", "add", str(bench.folder), "--artifact", "net", "-p", "digits")
    assert "there is no run 'nope' in digits yet" in call(*given, "--run", "nope").err
    localstore.init(project="digits", id="r1", dir=bench.home.root).finish()
    done = call(*given, "--run", "r1", LOCALSTORE_QUIET="")
    assert "no run" not in done.err
    assert f"{bench.folder}/* becomes versions of digits/net" in done.err


def test_once_takes_what_is_at_rest_and_leaves(bench: Bench) -> None:
    add(bench)
    bench.put("a.ckpt", b"1")
    done = call("watch", "run", "--once")
    assert (done.code, done.out) == (0, "digits/net:v0 a.ckpt\n")
    assert call("watch", "run", "--once").out == ""
    with (bench.folder / "b.ckpt").open("wb") as file:
        file.write(b"half")
        file.flush()
        done = call("watch", "run", "--once", LOCALSTORE_QUIET="")
    assert (done.code, done.out) == (0, "")
    assert "1 not at rest" in done.err


def test_it_takes_until_it_is_interrupted(bench: Bench) -> None:
    add(bench)
    words = [str(COMMAND), "watch", "run"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            bench.put("a.ckpt", b"1")
            until(bench.versions)
            assert call("watch", "run").code == 73, "one is enough"
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0
        finally:
            process.kill()
        assert process.stdout is not None
        assert process.stdout.read() == "digits/net:v0 a.ckpt\n"


def test_trouble_has_an_exit_code(bench: Bench) -> None:
    add(bench)
    bench.folder.rmdir()
    done = call("watch", "run", "--once")
    assert done.code == 1
    assert "No such file" in done.err


def test_nothing_to_watch_is_said(bench: Bench) -> None:
    assert call("watch", "run", "--once").code == 66


@pytest.mark.parametrize(
    "words",
    [("--settle", "soon"), ("--settle", "0"), ("--keep", "0"), ("--pattern", "/etc/*"),
     ("--alias", "v7"), ("--run", "a/b/c/d"), ("--run", "other/r1"), ("--complete-when", "a/b"),
     ("--type", "")],
)  # fmt: skip
def test_wrong_words_are_refused_and_nothing_is_written(
    bench: Bench, words: tuple[str, ...]
) -> None:
    given = ("watch", "add", str(bench.folder), "--artifact", "net", "-p", "digits")
    assert call(*given, *words).code == 2
    assert not watches.path_of(bench.home).exists()


def test_folders_that_are_none_or_hold_the_store_are_refused(bench: Bench, tmp_path: Path) -> None:
    for folder in (tmp_path / "none", bench.put("file", b""), bench.home.root, tmp_path):
        assert call("watch", "add", str(folder), "--artifact", "net").code == 2


def test_a_list_that_does_not_open_can_be_forgotten_by_id(bench: Bench) -> None:
    name = add(bench)
    path = watches.path_of(bench.home)
    path.write_text(path.read_text().replace('sealed = "', 'sealed = "AAAA'))
    assert call("watch", "ls").code == 78
    assert call("watch", "rm", name).code == 0
    assert not path.exists()
