"""Files that must not be taken, or not as they are: refused by name, without a wait."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from localstore import crypto
from localstore.errors import BadName, NotFound, StoreError, UsageError
from localstore.store.sources import walk
from tests.attacks.bad_disk import always, failing
from tests.store.makers import KIB, MIB, Store, noise, write

if TYPE_CHECKING:
    from collections.abc import Callable


def touch(path: Path) -> None:
    path.write_bytes(b"")


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


MAKERS: list[tuple[Callable[[Path], Any], type[Exception], str]] = [
    (lambda path: None, NotFound, "there is no file"),
    (lambda path: path.mkdir(), UsageError, "a directory"),
    (os.mkfifo, UsageError, "a named pipe"),
    (bind, UsageError, "a socket"),
    (lambda path: path.symlink_to("/dev/zero"), UsageError, "a device"),
    (lambda path: path.symlink_to("nothing"), NotFound, "a link to nothing"),
    (lambda path: path.symlink_to(path), StoreError, "cannot be read"),
]


@pytest.mark.parametrize(("make", "error", "what"), MAKERS)
def test_what_is_no_file_is_refused_by_name_and_never_opened(
    store: Store,
    tmp_path: Path,
    make: Callable[[Path], Any],
    error: type[Exception],
    what: str,
) -> None:
    make(tmp_path / "odd-one")
    with pytest.raises(error, match=f"odd-one.*{what}|{what}.*odd-one"):
        store.take({"x": tmp_path / "odd-one", "a": b"fine"})
    assert store.objects() == set()


def test_a_pipe_that_took_the_place_of_a_file_blocks_nobody(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, real = write(tmp_path / "f", b"content"), os.open

    def swap(path: Any, flags: int, *more: Any, **words: Any) -> int:
        if path == file:
            file.unlink()
            os.mkfifo(file)
        return real(path, flags, *more, **words)

    monkeypatch.setattr(os, "open", swap)
    with pytest.raises(UsageError, match="a named pipe"):
        store.take({"x": file})


_UNREADABLE = """
import os, sys
from pathlib import Path
from localstore.errors import NotPermitted
from localstore.store.sources import open_file, walk
if os.geteuid() == 0:
    os.seteuid(65534)
for act in (lambda: open_file(Path("secret")), lambda: walk(Path("closed"))):
    try:
        act()
    except NotPermitted as problem:
        print(problem)
"""


def test_what_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path / "secret", b"content").chmod(0)
    (tmp_path / "closed").mkdir()
    for folder in (tmp_path, *tmp_path.parents[:3]):
        if str(folder) != "/tmp":
            folder.chmod(0o755)
    (tmp_path / "closed").chmod(0)
    words = [sys.executable, "-c", _UNREADABLE]
    root = Path(__file__).parents[2]
    found = subprocess.run(
        words, cwd=tmp_path, env={"PYTHONPATH": str(root)}, capture_output=True, text=True
    )
    assert found.stdout.splitlines() == [
        "'secret' cannot be read: Permission denied",
        "'closed' cannot be read: Permission denied",
    ], found.stderr


def test_a_disk_that_cannot_be_read_is_named(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "f", noise(1, MIB))
    with failing(monkeypatch, "preadv", always), pytest.raises(StoreError) as caught:
        store.take({"x": file})
    assert str(file) in str(caught.value)


# ------------------------------------------------------------------ changes while it is read
def test_a_file_that_changes_once_while_it_is_read_is_taken_whole(
    store: Store, tmp_path: Path
) -> None:
    file, seen = write(tmp_path / "f", noise(1, 20 * MIB)), list[int]()

    def change(count: int) -> None:
        seen.append(count)
        if len(seen) == 2:
            write(file, noise(2, 20 * MIB + 5), age_s=10)

    (entry,) = store.take({"x": file}, progress=change)
    assert entry.hash == crypto.content_hash(noise(2, 20 * MIB + 5))
    assert store.give([entry], tmp_path / "out") == {"x": noise(2, 20 * MIB + 5)}


def append(file: Path) -> None:
    with file.open("ab") as out:
        out.write(b"more")


def replace(file: Path) -> None:
    write(file.with_name("new"), file.read_bytes()).replace(file)


def rewrite(file: Path) -> None:
    times = file.stat()
    with file.open("r+b") as out:
        out.write(os.urandom(8))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("change", [append, replace, rewrite])
@pytest.mark.parametrize("size", [10 * KIB, 9 * MIB])
def test_a_file_that_always_changes_while_it_is_read_is_refused_by_name(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path], None],
    size: int,
) -> None:
    file = write(tmp_path / "busy.log", noise(1, size))
    inside = False

    def changing(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*arguments: Any) -> Any:
            nonlocal inside
            found = real(*arguments)
            if not inside:
                inside = True
                time.sleep(0.02)
                change(file)
                inside = False
            return found

        return call

    monkeypatch.setattr(os, "pread", changing("pread"))
    monkeypatch.setattr(os, "preadv", changing("preadv"))
    with pytest.raises(UsageError, match=r"busy\.log' changes while it is read"):
        store.take({"x": file})


def test_a_file_that_shrinks_while_it_is_read_is_not_half_taken(
    store: Store, tmp_path: Path
) -> None:
    file, seen = write(tmp_path / "f", noise(1, 20 * MIB)), list[int]()

    def cut(count: int) -> None:
        seen.append(count)
        if len(seen) == 1:
            os.truncate(file, 7 * MIB)

    (entry,) = store.take({"x": file}, progress=cut)
    assert (entry.size, entry.hash) == (7 * MIB, crypto.content_hash(noise(1, 20 * MIB)[: 7 * MIB]))


def test_a_file_that_vanishes_while_it_is_read_is_missed_by_name(
    store: Store, tmp_path: Path
) -> None:
    file = write(tmp_path / "gone", noise(1, MIB))
    with pytest.raises(NotFound, match=r"there is no file '.*gone'"):
        store.take({"x": file}, progress=lambda _count: file.unlink())


# ------------------------------------------------------------------ names
@pytest.mark.parametrize("name", ["a\nb", "…", "a b", "'\"\\", "-rf", "e\u0301", "x" * 255])
def test_strange_names_are_names(store: Store, tmp_path: Path, name: str) -> None:
    write(tmp_path / "in" / name / name, b"content")
    found = dict(walk(tmp_path / "in"))
    assert list(found) == [f"{name}/{name}"]
    entries = store.take(found)
    assert store.give(entries, tmp_path / "out") == {f"{name}/{name}": b"content"}


def test_a_name_that_is_not_utf8_is_refused_by_name(store: Store, tmp_path: Path) -> None:
    bad = Path(os.fsdecode(os.fsencode(tmp_path / "in") + b"/caf\xe9"))
    write(bad, b"content")
    with pytest.raises(UsageError, match=r"caf\\xe9.*is not valid UTF-8"):
        walk(tmp_path / "in")
    with pytest.raises(BadName, match="not valid Unicode"):
        store.take({"caf\udce9": bad})
    (entry,) = store.take({"café": bad})
    assert entry.path == "café"


def test_a_name_with_a_zero_byte_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no file name"):
        store.take({"a": tmp_path / "a\0b"})


# ------------------------------------------------------------------ folders
def test_a_folder_is_walked_in_the_order_of_paths(tmp_path: Path) -> None:
    for name in ("b", "a/z", "a-b", "a/b/c", "Ä"):
        write(tmp_path / "in" / name, b"")
    (tmp_path / "in" / "empty").mkdir()
    found = walk(tmp_path / "in")
    assert [path for path, _ in found] == ["a-b", "a/b/c", "a/z", "b", "Ä"]
    assert all(file == str(tmp_path / "in" / path) for path, file in found)


def test_links_stand_for_what_they_point_to(store: Store, tmp_path: Path) -> None:
    write(tmp_path / "else/where/f", b"content")
    root = tmp_path / "in"
    root.mkdir()
    (root / "link").symlink_to(tmp_path / "else/where/f")
    (root / "folder").symlink_to(tmp_path / "else")
    os.link(tmp_path / "else/where/f", root / "hard")
    entries = store.take(dict(walk(root)))
    assert [entry.path for entry in entries] == ["folder/where/f", "hard", "link"]
    assert len({entry.parts for entry in entries}) == 3 or len(store.objects()) == 1
    assert set(store.give(entries, tmp_path / "out").values()) == {b"content"}


def test_a_folder_that_leads_back_to_itself_is_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path / "in/a/b/f", b"")
    (tmp_path / "in/a/b/back").symlink_to(tmp_path / "in/a")
    with pytest.raises(UsageError, match=r"in/a/b/back' leads back to '.*in/a'"):
        walk(tmp_path / "in")


def test_one_folder_reached_twice_is_no_loop(tmp_path: Path) -> None:
    write(tmp_path / "in/a/f", b"")
    (tmp_path / "in/b").symlink_to("a")
    assert [path for path, _ in walk(tmp_path / "in")] == ["a/f", "b/f"]


@pytest.mark.parametrize(("make", "error", "what"), MAKERS[2:])
def test_what_is_no_file_in_a_folder_is_refused_by_name(
    tmp_path: Path, make: Callable[[Path], Any], error: type[Exception], what: str
) -> None:
    (tmp_path / "in/below").mkdir(parents=True)
    make(tmp_path / "in/below/odd-one")
    with pytest.raises(error, match="odd-one"):
        walk(tmp_path / "in")


def test_what_is_no_folder_is_not_walked(tmp_path: Path) -> None:
    write(tmp_path / "f", b"")
    with pytest.raises(UsageError, match="is no folder"):
        walk(tmp_path / "f")
    with pytest.raises(NotFound, match="there is no folder"):
        walk(tmp_path / "nothing")


def test_a_very_deep_folder_is_walked(tmp_path: Path) -> None:
    deep = tmp_path.joinpath("in", *["d"] * 400)
    write(deep / "f", b"")
    assert len(walk(tmp_path / "in")) == 1
