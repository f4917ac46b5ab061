"""Writers of all kinds beside a watch: no half of a checkpoint ever becomes a version.

A checkpoint of these writers tells by itself whether it is whole: a number, a block repeated many
times, and the hash of it all.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.watching.conftest import SETTLE_S, Bench, rounds, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAUSE_S = SETTLE_S * 2.5  # longer than the settle time
COMMON = """
import hashlib, os, sys, time
path, pause = sys.argv[1], float(sys.argv[2])

def checkpoint(number):
    body = b"%08d" % number + bytes([number % 256]) * 50_000
    return body + hashlib.sha256(body).digest()

def slowly(file, content, pieces=4):
    step = len(content) // pieces + 1
    for at in range(0, len(content), step):
        file.write(content[at:at + step])
        file.flush()
        time.sleep(pause)
"""
WRITERS = {
    # Writes once, with pauses longer than any settle time, the file open all the while.
    "slow": """
with open(path, "wb") as file:
    slowly(file, checkpoint(1))
""",
    # Truncates the same file for every checkpoint.
    "truncating": """
for number in range(3):
    with open(path, "wb") as file:
        slowly(file, checkpoint(number), 2)
    time.sleep(pause)
""",
    # Rewrites in place, without truncation: size and inode never change.
    "in place": """
with open(path, "wb") as file:
    file.write(checkpoint(0))
for number in range(1, 4):
    with open(path, "r+b") as file:
        slowly(file, checkpoint(number), 2)
    time.sleep(pause)
""",
    # The careful way.
    "renaming": """
for number in range(3):
    with open(path + ".tmp", "wb") as file:
        slowly(file, checkpoint(number), 2)
    os.replace(path + ".tmp", path)
    time.sleep(pause)
""",
    # Memory-mapped: no write() at all, and the file is closed while the mapping lives.
    "mapped": """
import mmap
content = checkpoint(5)
with open(path, "w+b") as file:
    file.truncate(len(content))
    view = mmap.mmap(file.fileno(), len(content))
for at in range(0, len(content), 20_000):
    view[at:at + 20_000] = content[at:at + 20_000]
    time.sleep(pause)
view.close()
""",
    # Several files of one checkpoint, one after another, each with a name that says "not yet".
    "folder": """
os.mkdir(path)
for shard in range(3):
    with open(f"{path}/{shard}.bin.tmp", "wb") as file:
        slowly(file, checkpoint(shard), 2)
    if shard < 2:
        open(f"{path}/{shard + 1}.bin.tmp", "wb").close()
    os.replace(f"{path}/{shard}.bin.tmp", f"{path}/{shard}.bin")
""",
    # A folder that is renamed into place, as the careful ones do.
    "renamed folder": """
folder, _, name = path.rpartition("/")
os.mkdir(f"{folder}/tmp-{name}")
for shard in range(3):
    with open(f"{folder}/tmp-{name}/{shard}.bin", "wb") as file:
        slowly(file, checkpoint(shard), 2)
os.rename(f"{folder}/tmp-{name}", path)
""",
}


def is_whole(content: bytes) -> bool:
    return hashlib.sha256(content[:-32]).digest() == content[-32:]


@pytest.fixture
def writers(tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that are gone after the test."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait(10)


def begin(kind: str, path: Path) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-c", COMMON + WRITERS[kind], str(path), str(PAUSE_S)]
    return subprocess.Popen(words)


@pytest.mark.parametrize("kind", sorted(WRITERS))
def test_only_whole_checkpoints_become_versions(
    bench: Bench, writers: list[subprocess.Popen[bytes]], kind: str
) -> None:
    folders = "folder" in kind
    name = "checkpoint-1" if folders else "last.ckpt"
    work = bench.at_work(bench.watch(pattern="checkpoint-*/" if folders else "*.ckpt"))
    writers.append(begin(kind, bench.folder / name))
    while writers[0].poll() is None:
        work.round()
        time.sleep(0.01)
    assert writers[0].returncode == 0
    rounds(work)
    versions = bench.contents()
    assert versions, "the last one is taken"
    for files in versions:
        assert all(is_whole(content) for content in files.values()), kind
        assert len(files) == (3 if folders else 1)
    (latest,) = (one for one in bench.versions() if "latest" in one.aliases)
    place = bench.folder / name if folders else bench.folder
    assert bench.files(latest) == {
        path: (place / path).read_bytes() for path in bench.files(latest)
    }


def test_a_hundred_writers_at_once_lose_nothing(bench: Bench) -> None:
    """Each file appears in another way, in between looks."""
    work = bench.at_work(bench.watch(pattern="**/*.ckpt"))
    for number in range(100):
        content = b"%03d" % number * 100
        if number % 3 == 0:
            bench.put(f"{number}.ckpt", content)
        elif number % 3 == 1:
            bench.put(f"{number}.tmp", content).rename(bench.folder / f"{number}.ckpt")
        else:
            bench.put(f"sub/{number}.ckpt", content)
        if number % 10 == 0:
            work.round()
    rounds(work)
    found = sorted(next(iter(files.values())) for files in bench.contents())
    assert found == sorted(b"%03d" % number * 100 for number in range(100))


@pytest.mark.parametrize("seconds", [0.0, PAUSE_S * 1.5])
def test_what_a_killed_writer_left_is_taken_only_when_nobody_can_say_that_it_is_cut(
    bench: Bench, writers: list[subprocess.Popen[bytes]], seconds: float
) -> None:
    """No system tells a cut file that rests from a whole one; a marker does."""
    plain = bench.at_work()
    careful = bench.at_work(
        bench.watch(id="c" * 16, name="sure", complete_when="{name}.done", pattern="*.ckpt")
    )
    writers.append(begin("slow", bench.folder / "last.ckpt"))
    until((bench.folder / "last.ckpt").exists)
    time.sleep(seconds)
    assert rounds(plain) == rounds(careful) == 0
    os.kill(writers[0].pid, signal.SIGKILL)
    writers[0].wait(10)
    assert rounds(careful) == 0
    assert bench.versions("sure") == ()
    made = rounds(plain)
    cut = (bench.folder / "last.ckpt").read_bytes()
    assert bench.contents() == ([{"last.ckpt": cut}] if made else [])
    bench.put("last.ckpt.done", b"")
    assert rounds(careful) == bool(cut)
