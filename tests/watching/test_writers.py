"""Whether somebody writes a file."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from localstore.watching.looking import Stamp
from localstore.watching.writers import has_writer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOLD = """
import mmap, sys
file = open(sys.argv[1], "r+b")
if sys.argv[2] == "mapped":
    view = mmap.mmap(file.fileno(), 0)
    file.close()
print("open", flush=True)
sys.stdin.read()
"""
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="leases and /proc are of Linux")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.ckpt"
    path.write_bytes(b"x" * 10_000)
    return path


def stamp(path: Path) -> Stamp:
    return Stamp.of(path.stat())


@pytest.fixture(params=["open", "mapped"])
def other_writer(file: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-c", HOLD, str(file), request.param]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process
    finally:
        process.kill()
        process.communicate(timeout=10)


def test_another_process_that_has_it_open_or_mapped_is_a_writer(
    file: Path, other_writer: subprocess.Popen[str]
) -> None:
    assert has_writer(str(file), stamp(file))
    other_writer.kill()
    other_writer.wait(10)
    assert not has_writer(str(file), stamp(file))


def test_this_very_process_is_a_writer_too(file: Path) -> None:
    with file.open("ab"):
        assert has_writer(str(file), stamp(file))
    assert not has_writer(str(file), stamp(file))


def test_readers_are_no_writers(file: Path) -> None:
    with file.open("rb"):
        assert not has_writer(str(file), stamp(file))


def test_where_leases_are_refused_open_files_of_own_processes_are_looked_at(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def refuse(*_words: object) -> int:
        raise OSError(22, "no leases here")

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    assert not has_writer(str(file), stamp(file))
    with file.open("ab"):
        assert has_writer(str(file), stamp(file))


def test_what_is_gone_or_another_file_counts_as_written(file: Path) -> None:
    before = stamp(file)
    file.with_name("other").write_bytes(b"y")
    file.with_name("other").replace(file)
    assert has_writer(str(file), before)
    file.unlink()
    assert has_writer(str(file), before)


def test_a_link_in_its_place_is_not_followed(file: Path) -> None:
    before = stamp(file)
    moved = file.rename(file.with_name("moved"))
    file.symlink_to(moved)
    assert has_writer(str(file), before)


def test_a_pipe_in_its_place_does_not_block(file: Path) -> None:
    before = stamp(file)
    file.unlink()
    os.mkfifo(file)
    assert has_writer(str(file), before)


def test_who_opens_it_for_writing_at_that_moment_does_not_wait_and_we_survive(file: Path) -> None:
    """A lease that somebody breaks sends a signal, which must not be one that ends a program."""
    code = (
        "import sys, time\n"
        "end = time.monotonic() + 1.0\n"
        "slowest = 0.0\n"
        "while time.monotonic() < end:\n"
        "    before = time.monotonic()\n"
        "    open(sys.argv[1], 'ab').close()\n"
        "    slowest = max(slowest, time.monotonic() - before)\n"
        "print(slowest)\n"
    )
    words = [sys.executable, "-c", code, str(file)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        while process.poll() is None:
            has_writer(str(file), stamp(file))
        said, _ = process.communicate(timeout=10)
    finally:
        process.kill()
    assert float(said) < 0.9, "an opener waited for a lease"


def test_what_belongs_to_others_is_left_to_those_who_read_it(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_words: object, **_more: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert not has_writer(str(file), stamp(file))
