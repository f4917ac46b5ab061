"""What becomes a version, what does not, and what happens when things go wrong."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

import localstore
from localstore.artifacts import editing
from localstore.watching import folder as at_work
from localstore.watching.folder import WatchedFolder
from tests.attacks.bad_disk import always, failing
from tests.watching.conftest import Bench, rounds

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from localstore.watching.folder import Work
    from localstore.watching.looking import Candidate
    from localstore.watching.taking import Result


def test_a_file_at_rest_becomes_a_version_with_its_name_and_where_it_came_from(
    bench: Bench,
) -> None:
    bench.put("a.ckpt", b"weights")
    assert rounds(bench.at_work()) == 1
    (version,) = bench.versions()
    assert bench.files(version) == {"a.ckpt": b"weights"}
    assert (version.label, version.type, version.aliases) == ("v0", "model", ("latest",))
    assert version.metadata["watched"] == {"by": "0123456789abcdef", "path": "a.ckpt"}


def test_a_folder_becomes_one_version_with_all_its_files(bench: Bench) -> None:
    bench.put("checkpoint-1/w.bin", b"weights")
    bench.put("checkpoint-1/sub/.metadata", b"more")
    assert rounds(bench.at_work(bench.watch(pattern="checkpoint-*/"))) == 1
    assert bench.contents() == [{"w.bin": b"weights", "sub/.metadata": b"more"}]


def test_a_version_says_which_run_it_belongs_to(bench: Bench) -> None:
    bench.put("a", b"x")
    rounds(bench.at_work(bench.watch(run="r1", aliases=("newest",))))
    (version,) = bench.versions()
    assert [(run.id, run.project) for run in version.runs] == [("r1", "digits")]
    assert version.aliases == ("latest", "newest")


def test_many_files_become_versions_in_the_order_in_which_they_were_written(bench: Bench) -> None:
    for number in range(20):
        path = bench.put(f"{(number * 7) % 20:02}.ckpt", f"content {number}".encode())
        os.utime(path, ns=(number, 1_000_000 + number))
    assert rounds(bench.at_work()) == 20
    found = [next(iter(files.values())).decode() for files in bench.contents()]
    assert found == [f"content {number}" for number in range(20)]


# ------------------------------------------------------------------ nothing twice
def test_a_new_process_takes_nothing_again(bench: Bench) -> None:
    bench.put("a", b"x")
    bench.put("b", b"y")
    assert rounds(bench.at_work()) == 2
    again = bench.at_work()
    assert rounds(again) == 0
    assert not again.waiting
    assert again.counts["a new version"] == again.counts["content that is there already"] == 0


def test_a_lost_memory_makes_no_second_version(bench: Bench) -> None:
    bench.put("a", b"x")
    rounds(bench.at_work())
    for path in bench.project().paths.local.glob("watch-*"):
        path.unlink()
    assert rounds(bench.at_work()) == 0
    assert len(bench.versions()) == 1


def test_a_damaged_memory_is_no_memory(bench: Bench) -> None:
    bench.put("a", b"x")
    rounds(bench.at_work())
    (path,) = bench.project().paths.local.glob("watch-*")
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    assert rounds(bench.at_work()) == 0
    assert len(bench.versions()) == 1


def test_the_same_content_under_another_name_is_no_version_and_no_bytes(bench: Bench) -> None:
    content = os.urandom(300_000)
    bench.put("epoch-1.ckpt", content)
    work = bench.at_work()
    rounds(work)
    before = _bytes_of(bench)
    bench.put("last.ckpt", content)
    assert rounds(work) == 0
    assert len(bench.versions()) == 1
    assert _bytes_of(bench) - before < 2_000


def test_what_was_touched_only_is_no_version_and_moves_no_alias(bench: Bench) -> None:
    old = bench.put("old", b"same size 1")
    work = bench.at_work()
    rounds(work)
    bench.put("new", b"same size 2")
    rounds(work)
    old.touch()
    assert rounds(work) == 0
    assert [version.aliases for version in bench.versions()] == [(), ("latest",)]


def test_a_file_that_is_written_again_is_taken_again(bench: Bench) -> None:
    work = bench.at_work()
    for content in (b"first", b"other", b"first"):
        bench.put("last.ckpt", content)
        rounds(work)
    assert bench.contents() == [{"last.ckpt": b"first"}, {"last.ckpt": b"other"}]
    assert bench.versions()[0].aliases == ("latest",)


def _bytes_of(bench: Bench) -> int:
    return sum(one.stat().st_size for one in bench.home.root.rglob("*") if one.is_file())


# ------------------------------------------------------------------ changes meanwhile
def meddling(bench: Bench, meddle: Callable[[Candidate], object], **values: Any) -> WatchedFolder:
    """A watch in which something happens between the look and the version, once."""
    done: list[object] = []

    def carry_out(candidate: Candidate, work: Work) -> Result:
        def progress(_done: int, _total: int) -> None:
            if not done:
                done.append(meddle(candidate))

        return work(progress)

    return bench.at_work(bench.watch(**values), carry_out=carry_out)


@pytest.mark.parametrize("size", [10, 20_000_000])
def test_a_file_that_changes_while_it_is_read_is_taken_again_and_whole(
    bench: Bench, size: int
) -> None:
    path = bench.put("a", b"1" * size)
    work = meddling(bench, lambda _one: path.write_bytes(b"2" * size))
    rounds(work)
    assert rounds(work) + len(bench.versions()) >= 1
    assert bench.contents() == [{"a": b"2" * size}]
    assert work.counts["changed meanwhile"] == 1


def test_a_file_that_is_replaced_while_it_is_read_never_becomes_the_old_one(bench: Bench) -> None:
    path = bench.put("a", b"old")

    def replace(_one: object) -> None:
        bench.put("b.tmp", b"new").replace(path)

    work = meddling(bench, replace)
    rounds(work)
    rounds(work)
    assert bench.contents() == [{"a": b"new"}]


def test_a_file_that_joins_a_folder_meanwhile_makes_it_wait(bench: Bench) -> None:
    bench.put("c/w1", b"1")
    work = meddling(bench, lambda _one: bench.put("c/w2", b"2"), pattern="*/")
    rounds(work)
    rounds(work)
    assert bench.contents() == [{"w1": b"1", "w2": b"2"}]


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_link_that_is_put_in_its_place_between_look_and_reading_takes_nothing_from_outside(
    bench: Bench, tmp_path: Path, what: str
) -> None:
    outside = tmp_path / "private"
    outside.mkdir()
    (outside / "a").write_bytes(b"secret!")
    inside = bench.put("sub/a", b"content")

    def swap(_one: object) -> None:
        if what == "file":
            inside.unlink()
            inside.symlink_to(outside / "a")
        else:
            inside.parent.rename(bench.folder / "away")
            inside.parent.symlink_to(outside)

    def carry_out(one: Candidate, work: Work) -> Result:
        swap(one)  # before anything was read
        return work(_silent)

    work = bench.at_work(bench.watch(pattern="sub/*"), carry_out=carry_out)
    rounds(work)
    assert bench.versions() == ()
    assert work.counts["changed meanwhile"] + work.counts["failures"] == 1


def _silent(_done: int, _total: int) -> None:
    """No progress."""


def test_a_file_that_somebody_has_open_is_not_taken_until_it_is_closed(bench: Bench) -> None:
    work = bench.at_work()
    with (bench.folder / "a").open("wb") as file:
        file.write(b"half")
        file.flush()
        assert rounds(work) == 0
        time.sleep(0.15)
        assert rounds(work) == 0
        assert work.waiting == {"a"}
        file.write(b" and half")
    assert rounds(work) == 1
    assert bench.contents() == [{"a": b"half and half"}]


def test_a_marker_decides_and_stays_out_of_the_way(bench: Bench) -> None:
    work = bench.at_work(bench.watch(pattern="*/", complete_when="DONE"))
    bench.put("c/w", b"1")
    assert rounds(work) == 0
    bench.put("c/DONE", b"")
    assert rounds(work) == 1
    assert bench.contents() == [{"w": b"1", "DONE": b""}]


# ------------------------------------------------------------------ trouble
def test_a_folder_that_vanishes_and_comes_back_goes_on(bench: Bench) -> None:
    work = bench.at_work()
    bench.put("a", b"1")
    rounds(work)
    bench.folder.rename(bench.folder.with_name("away"))
    for _ in range(3):
        assert work.round() == 0
    assert work.missing
    assert len(bench.told) == 1
    bench.folder.mkdir()
    bench.put("b", b"2")
    assert rounds(work) == 1
    assert not work.missing


@pytest.mark.parametrize("call", ["pwrite", "fdatasync", "replace"])
def test_a_full_disk_is_told_once_and_waited_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    now = [0.0]
    work = bench.at_work(clock=lambda: now[0])
    bench.put("a", os.urandom(100_000))
    work.round()
    now[0] = 1.0
    with failing(monkeypatch, call, always, errno.ENOSPC) as fault:
        for _ in range(5):
            assert work.round() == 0
            now[0] += 0.1
        assert fault.failed
    assert len([one for one in bench.told if "warning" not in one]) >= 1
    before = work.in_trouble
    now[0] = 100.0
    assert rounds_until_made(work, now) == 1
    assert (before, work.in_trouble) == (True, False)
    assert len(bench.versions()) == 1


def rounds_until_made(work: WatchedFolder, now: list[float]) -> int:
    for _ in range(20):
        made = work.round()
        if made:
            return made
        now[0] += 60.0
    return 0


def test_one_file_that_cannot_be_read_does_not_keep_others_from_being_taken(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.put("bad", b"1")
    bench.put("good", b"2")
    real = os.open

    def refuse(path: Any, *words: Any, **more: Any) -> int:
        if str(path).endswith("/bad"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *words, **more)

    work = bench.at_work()
    monkeypatch.setattr(os, "open", refuse)
    assert rounds(work) == 1
    assert any("'" in one and "bad" in one for one in bench.told)
    monkeypatch.undo()
    (bench.folder / "bad").touch()
    assert rounds(work) == 1


def test_a_store_that_cannot_be_opened_is_tried_again(bench: Bench) -> None:
    now = [0.0]
    closed = [True]

    def open_project() -> Any:
        if closed:
            raise OSError(errno.EIO, "Input/output error")
        return bench.project(), bench.options()

    work = WatchedFolder(
        bench.watch(), open_project, tell=lambda _p, full: bench.told.append(full),
        clock=lambda: now[0],
    )  # fmt: skip
    bench.put("a", b"1")
    work.round()
    now[0] = 1.0
    assert work.round() == 0
    closed.clear()
    now[0] = 1.5
    assert work.round() == 0, "it waits a while"
    now[0] = 60.0
    assert work.round() == 1


def test_a_failure_waits_longer_each_time_but_never_for_ever() -> None:
    waits = [WatchedFolder._retry_s(tries) for tries in (0, 1, 2, 10, 10_000)]
    assert waits == [2.0, 4.0, 8.0, 300.0, 300.0]
    assert at_work._LAST_RETRY_S == 300.0


# ------------------------------------------------------------------ --keep
def test_keep_deletes_older_versions_of_this_watch(bench: Bench) -> None:
    work = bench.at_work(bench.watch(keep=2))
    for number in range(5):
        bench.put(f"{number}", f"content {number}".encode())
        rounds(work)
    assert [version.label for version in bench.versions()] == ["v3", "v4"]


def test_keep_passes_over_what_would_be_deleted_at_once(bench: Bench) -> None:
    for number in range(50):
        os.utime(bench.put(f"{number:02}", f"c{number}".encode()), ns=(0, number))
    work = bench.at_work(bench.watch(keep=3))
    assert rounds(work) == 3
    assert [list(files) for files in bench.contents()] == [["47"], ["48"], ["49"]]
    assert rounds(bench.at_work(bench.watch(keep=3))) == 0


def test_keep_never_deletes_what_people_named_tagged_made_or_use(bench: Bench) -> None:
    work = bench.at_work(bench.watch(keep=1))
    project, options = bench.project(), bench.options()

    def edit(operation: dict[str, Any]) -> None:
        editing.edit(project, "net", operation, options, bench.told.append)

    with localstore.init(project="digits", dir=bench.home.root) as run:
        mine = localstore.Artifact("net", "model")
        with mine.new_file("by hand") as file:
            file.write("x")
        run.log_artifact(mine).wait()
    for number in range(3):
        bench.put(f"{number}", f"content {number}".encode())
        rounds(work)
        newest = bench.versions()[-1].digest
        if number == 0:
            edit({"aliases": {"best": newest}})
        if number == 1:
            edit({"version": newest, "tags_add": ["paper"]})
    user = localstore.init(project="digits", dir=bench.home.root)
    user.use_artifact("net:latest")
    user.flush()
    for number in range(3, 6):
        bench.put(f"{number}", f"content {number}".encode())
        rounds(work)
    user.finish()
    assert [sorted(files) for files in bench.contents()] == [
        ["by hand"],
        ["0"],
        ["1"],
        ["2"],
        ["5"],
    ]
    bench.put("6", b"content 6")
    rounds(work)
    kept = [sorted(files) for files in bench.contents()]
    assert kept == [["by hand"], ["0"], ["1"], ["6"]], "what nobody uses any more may go"


def test_two_watches_of_one_artifact_count_for_themselves(bench: Bench) -> None:
    first = bench.at_work(bench.watch(pattern="a*", keep=1))
    second = bench.at_work(bench.watch(id="f" * 16, pattern="b*", keep=1))
    for number in range(3):
        bench.put(f"a{number}", f"a {number}".encode())
        bench.put(f"b{number}", f"b {number}".encode())
        rounds(first)
        rounds(second)
    assert [list(files) for files in bench.contents()] == [["a2"], ["b2"]]


def test_what_is_older_is_not_passed_over_before_the_newer_is_safe(bench: Bench) -> None:
    work = bench.at_work(bench.watch(keep=1))
    bench.put("old", b"old")
    with (bench.folder / "new").open("wb") as file:
        file.write(b"half")
        file.flush()
        time.sleep(0.15)
        assert rounds(work) == 1
        assert bench.contents() == [{"old": b"old"}]
    assert rounds(work) == 1
    assert bench.contents() == [{"new": b"half"}]
