"""A disk that refuses costs no training: a warning, a counted gap, and all that could be kept."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

import localstore
from localstore import stream, writer
from tests.attacks.bad_disk import always, at, failing, from_on
from tests.sdk.scripts import column, only_run, points

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from localstore.sdk.run import Run

CODES = (errno.EIO, errno.ENOSPC)


def log_many(run: Run, begin: int, end: int) -> None:
    for number in range(begin, end):
        run.log({"n": number, "loss": number / 7})


def only_once(run: Any, count: int) -> None:
    """All steps are there, once, as they were."""
    found = points(run)
    assert [row["n"] for row in found] == list(range(count))
    assert [row["loss"] for row in found] == [number / 7 for number in range(count)]


@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.get)
@pytest.mark.parametrize("call", ["pwrite", "fdatasync", "ftruncate", "open", "fsync"])
@pytest.mark.parametrize("number", [*range(1, 8), 12, 40])
def test_one_failure_anywhere_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, call: str, number: int, code: int
) -> None:
    with localstore.init(project="disk", config={"lr": 1}) as run:
        with failing(monkeypatch, call, at(number), code):
            for part in range(6):
                log_many(run, part * 20, part * 20 + 20)
                run.flush()
            run.config["late"] = 2
        run.finish()
    only_once(only_run(), 120)
    assert (only_run().state, only_run().gaps) == ("finished", {})
    assert only_run().config == {"lr": 1, "late": 2}
    assert [one for one in only_run().problems if "ends inside" not in one] == []


@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.get)
@pytest.mark.parametrize("call", ["pwrite", "fdatasync"])
@pytest.mark.parametrize("every", [2, 3, 5])
def test_a_disk_that_fails_again_and_again_loses_and_repeats_nothing(
    monkeypatch: pytest.MonkeyPatch, call: str, every: int, code: int
) -> None:
    monkeypatch.setattr(stream, "_LONGEST_S", 0.0)
    monkeypatch.setattr(stream, "_REOPEN_AFTER_S", 0.0)
    with localstore.init(project="disk") as run:
        with failing(monkeypatch, call, lambda number: number % every == 0, code):
            for part in range(12):
                log_many(run, part * 100, part * 100 + 100)
                run.flush()
        run.finish()
    only_once(only_run(), 1200)
    assert only_run().gaps == {}


@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.get)
@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_what_was_acknowledged_before_the_disk_failed_survives_a_kill(
    monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    run = localstore.init(project="disk")
    log_many(run, 0, 50)
    with failing(monkeypatch, "fdatasync", at(number), code):
        run.flush()
        log_many(run, 50, 100)
        run.flush()
        log_many(run, 100, 150)
        # What another process would find now, if this one were killed.
        only_once(only_run(), 150)
    run.flush()
    only_once(only_run(), 150)
    run.finish()


@pytest.mark.parametrize("most", [1, 7, 100])
def test_short_writes_are_completed(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    real = os.pwrite
    with localstore.init(project="disk") as run, monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda h, data, at: real(h, bytes(data)[:most], at))
        log_many(run, 0, 60)
        run.flush()
        log_many(run, 60, 120)
        run.finish()
    only_once(only_run(), 120)
    assert only_run().problems == []


def test_a_write_that_takes_nothing_is_a_disk_that_refuses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = os.pwrite
    with localstore.init(project="disk") as run:
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", lambda *_: 0)
            log_many(run, 0, 100)
        assert os.pwrite is real
        run.finish()
    only_once(only_run(), 100)


def test_a_disk_that_takes_nothing_at_all_for_long_slows_nothing_and_is_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(writer, "MAX_PENDING_BYTES", 200_000)
    with localstore.init(project="disk") as run:
        log_many(run, 0, 10)
        run.flush()
        with failing(monkeypatch, "pwrite", always, errno.ENOSPC):
            before = time.monotonic()
            log_many(run, 10, 40_000)
            assert time.monotonic() - before < 10
            handles = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        run.flush()
        log_many(run, 40_000, 40_010)
    assert handles < 60
    found = column("n")
    assert found[:10] == list(range(10))
    assert found[-10:] == list(range(40_000, 40_010))
    assert len(found) == len(set(found))
    assert found == sorted(found)
    assert only_run().gaps == {"no space on the disk": 40_010 - len(found)}
    said = capsys.readouterr().err
    assert said.count("the disk refuses records") == 1
    assert said.count("the disk takes records again") >= 1


@pytest.mark.parametrize("call", ["open", "pwrite", "mkdir"])
def test_a_disk_that_takes_no_run_is_a_warning_and_training_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], call: str
) -> None:
    localstore.init(project="disk").finish()
    real = os.open

    def refuse(path: Any, flags: int = 0, *more: Any, **words: Any) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.EIO, "no")
        return real(path, flags, *more, **words)

    with failing(monkeypatch, call, always) as fault, monkeypatch.context() as patch:
        if call == "open":
            patch.setattr(os, "open", refuse)
        run = localstore.init(project="disk")
        log_many(run, 0, 100)
        run.config["x"] = 1
        run.summary["y"] = 1
        run.finish()
    assert fault.calls or call == "open"
    assert "warning" in capsys.readouterr().err


def test_a_run_whose_disk_never_comes_back_says_what_was_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = localstore.init(project="disk")
    log_many(run, 0, 100)
    run.flush()
    with failing(monkeypatch, "pwrite", from_on(1)), failing(monkeypatch, "unlink", always):
        log_many(run, 100, 150)
        run.finish()
    assert "could not be written" in capsys.readouterr().err
    only_once(only_run(), 100)


def test_a_standard_error_on_the_same_full_disk_raises_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Full(io.StringIO):
        def write(self, _text: str) -> int:
            raise OSError(errno.ENOSPC, "no space")

    with localstore.init(project="disk") as run, monkeypatch.context() as patch:
        for stream in (Full(), None):
            patch.setattr(sys, "stderr", stream)
            with failing(patch, "pwrite", always, errno.ENOSPC):
                log_many(run, 0, 5)
                run.log(5)  # type: ignore[arg-type]
            run.flush()
    assert len(points()) == 10


def test_a_file_in_the_place_of_the_store_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "home").write_text("not a folder")
    with localstore.init(project="disk") as run:
        log_many(run, 0, 10)
    said = capsys.readouterr().err
    assert "nothing will be recorded" in said
    assert "10 log() calls were not recorded" in said


# ------------------------------------------------------------------ real file systems
@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home on a file system of four megabytes."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(home)])
    if done.returncode:
        pytest.skip("mount is not permitted here")
    yield home
    localstore.finish()
    subprocess.run(["umount", "-l", str(home)], check=True)


@pytest.mark.real("root", "mount")
def test_a_full_disk_is_a_gap_and_recording_goes_on_when_there_is_space(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_PENDING_BYTES", 1_000_000)
    ballast = small_disk / "ballast"
    with localstore.init(project="disk") as run:
        log_many(run, 0, 1000)
        run.flush()
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        log_many(run, 1000, 60_000)
        ballast.unlink()
        time.sleep(0.3)
        run.flush()
        log_many(run, 60_000, 60_100)
    found = column("n")
    assert found == sorted(set(found))
    assert found[:1000] == list(range(1000))
    assert found[-100:] == list(range(60_000, 60_100))
    assert only_run().gaps == {"no space on the disk": 60_100 - len(found)}
    assert only_run().state == "finished"


@pytest.mark.real("root", "mount")
def test_a_store_that_is_read_only_is_a_warning(
    small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with localstore.init(project="disk") as run:
        log_many(run, 0, 10)
    remount = ["mount", "-o", "remount,ro", str(small_disk)]
    subprocess.run(remount, check=True)
    with localstore.init(project="disk") as run:
        log_many(run, 0, 10)
    assert "nothing will be recorded" in capsys.readouterr().err
    only_once(only_run(), 10)


@pytest.mark.real("root", "mount")
def test_a_store_that_becomes_read_only_in_the_middle_is_a_warning(
    small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = localstore.init(project="disk")
    log_many(run, 0, 10)
    run.flush()
    # A forced change: open files stay open and every write is refused.
    subprocess.run(["mount", "-o", "remount,size=4k", str(small_disk)])
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)])
    log_many(run, 10, 20)
    run.finish()
    assert [number for number in column("n") if number < 10] == list(range(10))
    capsys.readouterr()


INJECTED = """
import localstore
run = localstore.init(project="disk")
for n in range(300):
    run.log({"n": n, "loss": n / 7})
    if n % 50 == 49: run.flush()
run.finish()
"""


@pytest.mark.real("strace")
@pytest.mark.parametrize("code", ["EIO", "ENOSPC"])
@pytest.mark.parametrize(
    "fault", ["fdatasync:when=1", "fdatasync:when=3+2", "pwrite64:when=20", "pwrite64:when=30+7"]
)
def test_a_failure_that_the_kernel_reports_loses_nothing(
    tmp_path: Path, fault: str, code: str
) -> None:
    localstore.init(project="disk", id="before").finish()
    call, when = fault.split(":")
    inject = f"inject={call}:error={code}:{when}"
    words = ["strace", "-f", "-qq", "-o", str(tmp_path / "trace"), "-e", f"trace={call}"]
    done = subprocess.run(
        [*words, "-e", inject, sys.executable, "-c", INJECTED], capture_output=True, text=True
    )
    if "ptrace" in done.stderr.lower():
        pytest.skip("tracing is not permitted here")
    assert done.returncode == 0, done.stderr
    assert "INJECTED" in (tmp_path / "trace").read_text()
    (run,) = [one for one in localstore.Api().runs() if one.id != "before"]
    found = column("n", run)
    lost = 300 - len(found)
    assert found == sorted(set(found))
    assert lost == 0 or "could not be written" in done.stderr, done.stderr
