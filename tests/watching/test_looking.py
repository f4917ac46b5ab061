"""One look at a folder."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from localstore.watching.looking import look, look_again
from localstore.watching.patterns import Pattern

if TYPE_CHECKING:
    from pathlib import Path

    from tests.watching.conftest import Bench


def seen(folder: Path, pattern: str, marker: str = "") -> list[str]:
    found = look(str(folder), Pattern.read(pattern), marker).candidates
    return sorted(name for name, one in found.items() if not one.problem)


def test_files_that_are_meant_are_seen_and_no_others(bench: Bench) -> None:
    for name in ("a.ckpt", "b.ckpt.tmp", ".c.ckpt", "d.txt", "sub/e.ckpt", ".hid/f.ckpt"):
        bench.put(name, b"x")
    assert seen(bench.folder, "*.ckpt") == ["a.ckpt"]
    assert seen(bench.folder, "**/*.ckpt") == ["a.ckpt", "sub/e.ckpt"]


def test_a_folder_that_is_meant_is_one_candidate_with_all_its_files(bench: Bench) -> None:
    bench.put("checkpoint-1/w.bin", b"x")
    bench.put("checkpoint-1/sub/.metadata", b"yy")
    bench.put("checkpoint-2", b"a file")
    (one,) = look(str(bench.folder), Pattern.read("checkpoint-*/")).candidates.values()
    assert [path for path, _ in one.files] == ["sub/.metadata", "w.bin"]
    assert (one.name, one.folder, one.size) == ("checkpoint-1", True, 3)


def test_a_link_out_of_the_folder_is_never_followed(bench: Bench, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "id.ckpt").write_bytes(b"secret")
    (bench.folder / "file.ckpt").symlink_to(secret / "id.ckpt")
    (bench.folder / "sub").symlink_to(secret)
    bench.put("checkpoint-1/w.bin", b"x")
    (bench.folder / "checkpoint-1/link").symlink_to(secret / "id.ckpt")
    (bench.folder / "checkpoint-2").symlink_to(secret)
    assert seen(bench.folder, "**/*.ckpt") == []
    assert seen(bench.folder, "checkpoint-*/") == []


def test_a_watched_folder_that_became_a_link_is_not_there(bench: Bench, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    bench.folder.rmdir()
    bench.folder.symlink_to(other)
    with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
        look(str(bench.folder), Pattern.read("*"))


def test_pipes_sockets_and_names_of_odd_bytes_are_told_and_passed_over(bench: Bench) -> None:
    os.mkfifo(bench.folder / "pipe.ckpt")
    bench.put("checkpoint-1/w.bin", b"x")
    os.mkfifo(bench.folder / "checkpoint-1/pipe")
    odd = os.fsencode(bench.folder) + b"/\xff\xfe.ckpt"
    with open(odd, "wb") as file:  # noqa: PTH123 - a name that no text is
        file.write(b"x")
    bench.put("good\n.ckpt", b"x")
    assert seen(bench.folder, "*.ckpt") == ["good\n.ckpt"]
    assert seen(bench.folder, "*/") == []


def test_a_marker_counts_when_it_is_not_older_than_what_it_marks(bench: Bench) -> None:
    path = bench.put("a.ckpt", b"x")
    done = bench.put("a.ckpt.done", b"")
    stat = path.stat()
    for shift, complete in ((1, True), (0, True), (-1, False)):
        os.utime(done, ns=(stat.st_atime_ns, stat.st_mtime_ns + shift))
        found = look(str(bench.folder), Pattern.read("*.ckpt"), "{name}.done").candidates
        assert found["a.ckpt"].complete is complete


def test_looking_again_sees_every_change(bench: Bench) -> None:
    bench.put("c/w.bin", b"x")

    def changed_by(change: object) -> bool:
        one = look(str(bench.folder), Pattern.read("*/")).candidates["c"]
        assert look_again(str(bench.folder), one)
        assert callable(change)
        change()
        return not look_again(str(bench.folder), one)

    assert changed_by(lambda: bench.put("c/w.bin", b"y"))
    assert changed_by(lambda: bench.put("c/new.bin", b"y"))
    assert changed_by((bench.folder / "c/new.bin").unlink)
    assert changed_by(lambda: (bench.folder / "c").rename(bench.folder / "d"))


def test_a_folder_that_nobody_may_list_does_not_hide_the_others(bench: Bench) -> None:
    bench.put("good/a.pt", b"x")
    for depth in range(40):  # deeper than any look goes
        bench.put("/".join(["deep"] * (depth + 1)) + "/a.pt", b"x")
    assert "good/a.pt" in seen(bench.folder, "**/*.pt")
