"""`run.watch_dir`: a run takes what comes to rest, and never suffers from it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import localstore
from localstore import Api
from localstore.errors import UsageError
from tests.watching.conftest import Bench, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def no_run_left_open() -> Iterator[None]:
    """A run that stays open would watch for ever."""
    yield
    localstore.finish()


def begin(bench: Bench, **values: Any) -> localstore.Run:
    run = localstore.init(project="digits", id="r1", dir=bench.home.root)
    run.watch_dir(bench.folder, **{"name": "net", "settle": 0.1, **values})
    return run


def test_what_comes_to_rest_becomes_versions_of_the_run(bench: Bench) -> None:
    run = begin(bench, pattern="*.ckpt", type="weights", aliases="newest")
    bench.put("a.ckpt", b"1")
    until(bench.versions)
    run.finish()
    (version,) = bench.versions()
    assert (version.type, version.aliases) == ("weights", ("latest", "newest"))
    assert [one.id for one in version.runs] == ["r1"]
    stored = Api(bench.home.root).run("digits/r1")
    assert [one.name for one in stored.logged_artifacts()] == ["net:v0"]


def test_the_last_checkpoint_is_taken_when_the_run_ends(bench: Bench) -> None:
    run = begin(bench, settle=30.0)
    bench.put("last.ckpt", b"last")
    before = time.monotonic()
    run.finish()
    assert time.monotonic() - before < 10.0
    assert bench.contents() == [{"last.ckpt": b"last"}]


def test_what_is_still_written_at_the_end_is_told_and_not_taken(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    run = begin(bench)
    with (bench.folder / "half.ckpt").open("wb") as file:
        file.write(b"half")
        file.flush()
        run.finish()
    assert bench.versions() == ()
    assert "half.ckpt" in capsys.readouterr().err
    gaps = Api(bench.home.root).run("digits/r1").gaps
    assert gaps == {"watched folder: files were not at rest at the end": 1}


def wait_for_content(bench: Bench, content: bytes) -> None:
    until(lambda: {"last.ckpt": content} in bench.contents())


def test_keep_counts_for_one_run_alone(bench: Bench) -> None:
    for run_id in ("one", "two"):
        run = localstore.init(project="digits", id=run_id, dir=bench.home.root)
        run.watch_dir(bench.folder, name="net", settle=0.1, keep=1)
        for number in range(3):
            bench.put("last.ckpt", f"{run_id} {number}".encode())
            wait_for_content(bench, f"{run_id} {number}".encode())
        run.finish()
    assert bench.contents() == [{"last.ckpt": b"one 2"}, {"last.ckpt": b"two 2"}]


def test_a_resumed_run_takes_nothing_again(bench: Bench) -> None:
    bench.put("a.ckpt", b"1")
    begin(bench).finish()
    run = localstore.init(project="digits", id="r1", resume="must", dir=bench.home.root)
    run.watch_dir(bench.folder, name="net", settle=0.1)
    run.finish()
    assert len(bench.versions()) == 1


def test_training_goes_on_whatever_happens_to_the_folder(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.folder.rmdir()
    run = begin(bench)
    run.log({"loss": 1.0})
    bench.folder.write_bytes(b"no folder")
    time.sleep(0.1)
    bench.folder.unlink()
    bench.folder.mkdir()
    bench.put("a.ckpt", b"1")
    until(bench.versions)
    run.finish()
    assert "is there again" in capsys.readouterr().err
    assert Api(bench.home.root).run("digits/r1").state == "finished"


def test_an_artifact_without_a_name_is_called_after_run_and_folder(bench: Bench) -> None:
    bench.put("a.ckpt", b"1")
    begin(bench, name=None).finish()
    assert len(bench.versions("run-r1-out")) == 1


@pytest.mark.parametrize(
    "wrong",
    [{"pattern": "../*"}, {"keep": 0}, {"keep": "three"}, {"settle": 0.0}, {"settle": "soon"},
     {"name": "a/b"}, {"aliases": ["v1"]}, {"complete_when": "a/b"}, {"settle": float("nan")}],
)  # fmt: skip
def test_plainly_wrong_arguments_are_refused_at_once(bench: Bench, wrong: dict[str, Any]) -> None:
    run = localstore.init(project="digits", dir=bench.home.root)
    with pytest.raises(UsageError):
        run.watch_dir(bench.folder, **{"name": "net", **wrong})


def test_after_the_end_there_is_nothing_to_watch_for(bench: Bench) -> None:
    run = localstore.init(project="digits", dir=bench.home.root)
    run.finish()
    with pytest.raises(UsageError):
        run.watch_dir(bench.folder, name="net")


def test_a_disabled_run_watches_nothing(bench: Bench) -> None:
    threads = threading.active_count()
    run = localstore.init(mode="disabled")
    run.watch_dir(bench.folder, name="net")
    assert threading.active_count() == threads
    run.finish()


def test_the_thread_is_gone_after_the_run(bench: Bench) -> None:
    begin(bench).finish()
    assert not [one for one in threading.enumerate() if one.name == "localstore-watch"]


FORKING = """
import os, sys, localstore
run = localstore.init(project="digits", id="r1")
run.watch_dir(sys.argv[1], name="net", settle=0.1)
pid = os.fork()
if pid == 0:
    run.log({"loss": 1.0})
    run.watch_dir(sys.argv[1], name="child", settle=0.1)
    run.finish()
    os._exit(0)
os.waitpid(pid, 0)
open(sys.argv[1] + "/a.ckpt", "wb").write(b"1")
run.finish()
"""
KILLED = """
import sys, time, localstore
run = localstore.init(project="digits", id="r1")
run.watch_dir(sys.argv[1], name="net", settle=0.1)
print("watching", flush=True)
time.sleep(60)
"""


def script(bench: Bench, code: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "LOCALSTORE_HOME": str(bench.home.root)}
    words = [sys.executable, "-c", code, str(bench.folder)]
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def test_a_forked_child_watches_nothing_and_ends_nothing(bench: Bench) -> None:
    with script(bench, FORKING) as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "for the process that began the run" in said
    assert bench.contents() == [{"a.ckpt": b"1"}]
    assert bench.versions("child") == ()


def test_what_was_taken_survives_a_kill(bench: Bench) -> None:
    with script(bench, KILLED) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "watching\n"
        bench.put("a.ckpt", b"1")
        until(bench.versions)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    assert bench.contents() == [{"a.ckpt": b"1"}]


def test_watching_costs_no_import_before_it_is_asked_for(tmp_path: Path) -> None:
    code = "import sys, localstore; localstore.Run; print('localstore.watching' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
