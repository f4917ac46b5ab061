"""Giving back: whole and checked, below the folder that was named and nowhere else."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localstore import crypto
from localstore.errors import BadName, Damaged, Forged, NotFound, StoreError, UsageError
from localstore.format.manifest import Entry, Part, encode_index
from localstore.format.objects import seal_object
from localstore.format.spec import DataClass
from localstore.store.ingest import Ingest
from localstore.store.manifests import load_entries
from localstore.store.objects import ObjectFiles
from localstore.store.placing import Names
from localstore.store.restore import open_file, read_file, restore
from localstore.store.sources import Source
from tests.attacks.bad_disk import failing, from_on
from tests.store.makers import KIB, MIB, Store, contents, noise, write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def some(store: Store, **more: bytes) -> tuple[dict[str, bytes], list[Entry]]:
    """Large and small files, and their entries."""
    files = {"big": noise(1, 5 * MIB), "a/b/c": b"small", "a/empty": b"", **more}
    files |= {f"many/{n:03d}": noise(n, 2000) for n in range(100)}
    return files, store.take(files)


def renamed(entries: list[Entry], path: str) -> list[Entry]:
    """What a hostile device might say: the first small file under another name."""
    (one,) = [entry for entry in entries if entry.path == "a/b/c"]
    return [replace(one, path=path)]


# ------------------------------------------------------------------ what is there already
def test_what_is_there_and_the_same_is_left_alone(store: Store, tmp_path: Path) -> None:
    files, entries = some(store)
    restore(store.project, entries, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    done = restore(store.project, entries, tmp_path / "out")
    assert (done.files, done.kept, done.size) == (0, len(files), sum(map(len, files.values())))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def test_what_is_there_and_another_is_replaced_and_the_rest_stays(
    store: Store, tmp_path: Path
) -> None:
    files, entries = some(store)
    write(tmp_path / "out/big", noise(2, 5 * MIB))
    write(tmp_path / "out/a/b/c", b"longer than it was")
    write(tmp_path / "out/mine", b"not of the version")
    assert store.give(entries, tmp_path / "out") == {**files, "mine": b"not of the version"}


def test_a_prefix_restores_what_begins_with_it(store: Store, tmp_path: Path) -> None:
    _, entries = some(store)
    found = store.give(entries, tmp_path / "out", path_prefix="a/")
    assert set(found) == {"a/b/c", "a/empty"}


def test_references_are_listed_and_nothing_is_written_for_them(
    store: Store, tmp_path: Path
) -> None:
    _, entries = some(store)
    reference = Entry("data", None, b"", (), "s3://bucket/data")
    done = restore(store.project, [*entries, reference], tmp_path / "out")
    assert done.references == (reference,)
    assert not (tmp_path / "out/data").exists()
    with pytest.raises(UsageError, match="a reference to 's3://bucket/data'"):
        open_file(store.project, reference)


def test_progress_tells_of_every_byte_once(store: Store, tmp_path: Path) -> None:
    files, entries = some(store)
    told = list[int]()
    restore(store.project, entries, tmp_path / "out", progress=told.append)
    assert sum(told) == sum(map(len, files.values()))


def test_progress_tells_of_a_large_file_piece_by_piece(store: Store, tmp_path: Path) -> None:
    entries = store.take({"big": noise(1, 16 * MIB)})
    told = list[int]()
    restore(store.project, entries, tmp_path / "out", progress=told.append)
    assert sum(told) == 16 * MIB
    assert max(told) <= 4 * MIB


def test_each_object_is_read_about_once(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = store.take({f"{n:04d}": noise(n, 3000) for n in range(3000)})
    real, opened = os.open, list[str]()

    def watched(path: Any, flags: int, *more: Any, **words: Any) -> int:
        opened.extend([str(path)] if "/objects/" in str(path) else [])
        return real(path, flags, *more, **words)

    monkeypatch.setattr(os, "open", watched)
    restore(store.project, entries, tmp_path / "out")
    assert len(opened) <= 2 * len(set(opened))
    assert set(map(os.path.basename, opened)) == store.objects()


def test_one_file_is_read_in_pieces_or_whole(store: Store) -> None:
    files, entries = some(store)
    for entry in entries:
        assert read_file(store.project, entry) == files[entry.path]
    big = next(entry for entry in entries if entry.path == "big")
    assert max(map(len, open_file(store.project, big))) <= 2 * MIB


# ------------------------------------------------------------------ hostile names
@pytest.mark.parametrize(
    "path", ["../x", "/tmp/x", "", "a/../../x", "a//x", ".", "x\0y", "a/./x", "..", "a/"]
)
def test_a_name_that_leads_out_is_refused_before_anything_is_written(
    store: Store, tmp_path: Path, path: str
) -> None:
    _, entries = some(store)
    (tmp_path / "below").mkdir()
    with pytest.raises(BadName):
        restore(store.project, [*entries, *renamed(entries, path)], tmp_path / "below/out")
    assert list((tmp_path / "below").iterdir()) == []


@pytest.mark.parametrize("path", ["CON", "C:\\x", "..\\x", "a\nb", "~", "-rf", "$(x)", "…", "nul "])
def test_a_name_that_is_only_strange_is_a_name(store: Store, tmp_path: Path, path: str) -> None:
    _, entries = some(store)
    assert store.give(renamed(entries, path), tmp_path / "out") == {path: b"small"}


def test_a_manifest_that_leads_out_is_damage_when_it_is_read(store: Store) -> None:
    _, entries = some(store)
    ingest = Ingest(store.project, DataClass.ARTIFACTS, refer=store.referred.extend)
    root, key = ingest.store_manifest(renamed(entries, "../x"))
    with pytest.raises(Damaged, match=r"objects/.*'\.\./x'"):
        load_entries(store.project, root, key)


def test_a_folder_nobody_would_make_is_made(store: Store, tmp_path: Path) -> None:
    _, entries = some(store)
    path = "/".join(["d"] * 1200)
    restore(store.project, renamed(entries, path), tmp_path / "out")
    subprocess.run(["rm", "-r", str(tmp_path / "out")], check=True)


def test_a_name_too_long_for_the_disk_is_told(store: Store, tmp_path: Path) -> None:
    _, entries = some(store)
    with pytest.raises(StoreError, match="File name too long"):
        restore(store.project, renamed(entries, "x" * 300), tmp_path / "out")


# ------------------------------------------------------------------ links below the folder
def test_a_link_out_of_the_folder_is_not_followed(store: Store, tmp_path: Path) -> None:
    _, entries = some(store)
    (tmp_path / "outside").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a").symlink_to(tmp_path / "outside")
    with pytest.raises(UsageError, match="'a' is no folder, or a symbolic link"):
        restore(store.project, entries, tmp_path / "out")
    assert list((tmp_path / "outside").iterdir()) == []
    assert (tmp_path / "out/many/099").read_bytes() == noise(99, 2000)


def test_a_link_at_the_place_of_a_file_is_replaced_and_not_followed(
    store: Store, tmp_path: Path
) -> None:
    files, entries = some(store)
    outside = write(tmp_path / "outside", b"precious")
    (tmp_path / "out/a/b").mkdir(parents=True)
    (tmp_path / "out/a/b/c").symlink_to(outside)
    (tmp_path / "out/big").symlink_to(outside)
    assert store.give(entries, tmp_path / "out") == files
    assert outside.read_bytes() == b"precious"
    assert not (tmp_path / "out/big").is_symlink()


def test_a_link_to_the_same_content_is_not_taken_for_the_file(store: Store, tmp_path: Path) -> None:
    _, entries = some(store)
    outside = write(tmp_path / "outside", b"small")
    (tmp_path / "out/a/b").mkdir(parents=True)
    (tmp_path / "out/a/b/c").symlink_to(outside)
    restore(store.project, entries, tmp_path / "out")
    assert not (tmp_path / "out/a/b/c").is_symlink()


def test_a_hard_link_to_something_outside_is_not_written_through(
    store: Store, tmp_path: Path
) -> None:
    files, entries = some(store)
    outside = write(tmp_path / "outside", b"precious")
    (tmp_path / "out").mkdir()
    os.link(outside, tmp_path / "out/big")
    assert store.give(entries, tmp_path / "out") == files
    assert outside.read_bytes() == b"precious"


def test_a_pipe_at_the_place_of_a_file_blocks_nobody(store: Store, tmp_path: Path) -> None:
    files, entries = some(store)
    (tmp_path / "out").mkdir()
    os.mkfifo(tmp_path / "out/big")
    assert store.give(entries, tmp_path / "out") == files


def test_a_folder_at_the_place_of_a_file_is_told_by_name(store: Store, tmp_path: Path) -> None:
    _, entries = some(store)
    write(tmp_path / "out/big/mine", b"precious")
    with pytest.raises(UsageError, match="'big' is a folder here"):
        restore(store.project, entries, tmp_path / "out")
    assert (tmp_path / "out/big/mine").read_bytes() == b"precious"
    assert not list((tmp_path / "out").glob(".tmp-*"))


def test_a_file_at_the_place_of_a_folder_is_told_by_name(store: Store, tmp_path: Path) -> None:
    _, entries = some(store)
    write(tmp_path / "out/many", b"precious")
    with pytest.raises(UsageError, match="'many' is no folder"):
        restore(store.project, entries, tmp_path / "out")
    assert (tmp_path / "out/many").read_bytes() == b"precious"


def test_the_folder_itself_may_be_a_link(store: Store, tmp_path: Path) -> None:
    files, entries = some(store)
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to("real")
    assert store.give(entries, tmp_path / "out") == files


# ------------------------------------------------------------------ names that are one elsewhere
def test_names_that_differ_in_case_alone_are_two_files_here(store: Store, tmp_path: Path) -> None:
    files = {"Read": b"1", "read": b"2", "dir/é": b"3", "dir/e\u0301": b"4", "DIR/x": b"5"}
    assert store.give(store.take(files), tmp_path / "out") == files


def test_a_file_that_another_entry_made_is_not_overwritten(store: Store, tmp_path: Path) -> None:
    entries = store.take({"Read": b"one", "read": b"other"})
    names = Names(entries)
    found = write(tmp_path / "Read", b"one").stat()
    names.note(entries[0], found)
    assert names.other(entries[0], found) is None
    assert names.other(entries[1], found) == "Read"


@pytest.fixture
def one_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that takes upper for lower case, as those of macOS and of sticks do."""

    def folding(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*arguments: Any, **words: Any) -> Any:
            if "dir_fd" in words or "src_dir_fd" in words:
                arguments = tuple(one.lower() if isinstance(one, str) else one for one in arguments)
            return real(*arguments, **words)

        return call

    for name in ("open", "stat", "rename", "mkdir"):
        monkeypatch.setattr(os, name, folding(name))


def test_a_file_system_that_takes_two_names_for_one_is_noticed(
    store: Store, tmp_path: Path, one_case: None
) -> None:
    entries = store.take({"Read": b"one", "read": b"other", "A/x": b"1", "a/y": b"2"})
    for _ in range(2):
        with pytest.raises(UsageError, match="'read' and 'Read' are one name"):
            restore(store.project, entries, tmp_path / "out")
        assert contents(tmp_path / "out") == {"read": b"one", "a/x": b"1", "a/y": b"2"}


# ------------------------------------------------------------------ damage
def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def swap(path: Path) -> None:
    other = next(one for one in path.parents[1].glob("*/*") if one != path)
    shutil.copy(other, path)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def swell(path: Path) -> None:
    os.truncate(path, 17 * MIB)


@pytest.mark.parametrize("harm", [flip, cut, lengthen, swap, empty, swell])
def test_a_damaged_object_is_named_and_spoils_its_own_files_alone(
    store: Store, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    files, entries = some(store)
    big = next(entry for entry in entries if entry.path == "big")
    victim = ObjectFiles(store.project.paths).path(big.parts[2].object_id)
    harm(victim)
    with pytest.raises(Damaged, match=f"objects/.*{victim.name}"):
        restore(store.project, entries, tmp_path / "out")
    del files["big"]
    assert contents(tmp_path / "out") == files


def test_a_missing_object_is_named_and_spoils_its_own_files_alone(
    store: Store, tmp_path: Path
) -> None:
    files, entries = some(store)
    big = next(entry for entry in entries if entry.path == "big")
    victim = ObjectFiles(store.project.paths).path(big.parts[0].object_id)
    victim.unlink()
    with pytest.raises(NotFound, match=victim.name) as caught:
        restore(store.project, entries, tmp_path / "out")
    assert "file: big" in caught.value.__notes__
    del files["big"]
    assert contents(tmp_path / "out") == files


def lie(entry: Entry, **what: Any) -> Entry:
    return replace(entry, **what)


def other_key(entry: Entry) -> Entry:
    return replace(entry, parts=(replace(entry.parts[0], key=bytes(32)),))


def beyond(entry: Entry) -> Entry:
    part = entry.parts[0]
    return replace(entry, parts=(replace(part, offset=part.offset + 10 * MIB),))


def beside(entry: Entry) -> Entry:
    part = entry.parts[0]
    return replace(entry, parts=(replace(part, offset=part.offset + 1),))


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: replace(entry, hash=bytes(32)),
        lambda entry: replace(entry, size=entry.size + 1),
        lambda entry: replace(entry, parts=entry.parts * 2),
        lambda entry: replace(entry, parts=()),
        other_key,
        beyond,
        beside,
    ],
)
def test_an_entry_that_lies_about_its_content_is_found_out(
    store: Store, tmp_path: Path, change: Callable[[Entry], Entry]
) -> None:
    _, entries = some(store)
    entry = change(next(entry for entry in entries if entry.path == "many/050"))
    with pytest.raises(Damaged):
        restore(store.project, [entry], tmp_path / "out")
    assert contents(tmp_path / "out") == {}
    with pytest.raises(Damaged):
        read_file(store.project, entry)


def test_a_part_of_many_repetitions_stops_at_the_size_that_was_said(
    store: Store, tmp_path: Path
) -> None:
    (entry,) = store.take({"a": bytes(MIB)})
    bomb = replace(entry, parts=entry.parts * 100_000)
    with pytest.raises(Forged):
        restore(store.project, [bomb], tmp_path / "out")
    assert contents(tmp_path / "out") == {}


def page(store: Store, content: bytes, data_class: int = DataClass.ARTIFACTS) -> Part:
    """A page that a hostile device made."""
    made = seal_object(data_class, content, store.project.dedup)
    write(ObjectFiles(store.project.paths).path(made.id), made.raw)
    return Part(made.id, made.key, 0, 1)


def listing(*parts: Part) -> bytes:
    return encode_index([(part.object_id, part.key) for part in parts])


def test_pages_that_repeat_or_lead_deep_are_damage(store: Store) -> None:
    ingest = Ingest(store.project, DataClass.ARTIFACTS, refer=store.referred.extend)
    leaf = Part(*ingest.store_manifest(ingest.run([Source("a", b"1")])), 0, 1)
    nothing = Part(*ingest.store_manifest([]), 0, 1)
    twice, hollow, other = listing(leaf, leaf), listing(leaf, nothing), listing(leaf)
    for bad in (page(store, twice), page(store, hollow), page(store, other, DataClass.CODE)):
        with pytest.raises(Damaged, match="objects/"):
            load_entries(store.project, bad.object_id, bad.key)
    deep = leaf
    for _ in range(8):
        assert len(load_entries(store.project, deep.object_id, deep.key)) == 1
        deep = page(store, listing(deep))
    with pytest.raises(Damaged, match="more than 8 levels"):
        load_entries(store.project, deep.object_id, deep.key)


def test_a_damaged_page_is_named(store: Store) -> None:
    _, entries = some(store)
    ingest = Ingest(store.project, DataClass.ARTIFACTS, refer=store.referred.extend)
    root, key = ingest.store_manifest(entries)
    flip(ObjectFiles(store.project.paths).path(root))
    with pytest.raises(Forged, match=root.hex()):
        load_entries(store.project, root, key)
    with pytest.raises(NotFound):
        load_entries(store.project, bytes(32), key)


# ------------------------------------------------------------------ disks that refuse
@pytest.mark.parametrize("call", ["pwrite", "rename", "mkdir"])
def test_a_disk_that_refuses_leaves_no_half_files(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    files, entries = some(store)
    (tmp_path / "out").mkdir()
    with failing(monkeypatch, call, from_on(2)), pytest.raises(StoreError, match="cannot restore"):
        restore(store.project, entries, tmp_path / "out")
    found = contents(tmp_path / "out")
    assert found.items() <= files.items()
    assert store.give(entries, tmp_path / "out") == files


# ------------------------------------------------------------------ holes
@settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.tuples(st.integers(0, 20 * MIB), st.binary(min_size=1, max_size=50)), max_size=4),
    st.integers(128 * KIB, 24 * MIB),
    st.sampled_from(["cdc", "fixed"]),
)
def test_a_file_with_holes_is_cut_as_the_same_file_without(
    tmp_path_factory: pytest.TempPathFactory,
    store: Store,
    data: list[tuple[int, bytes]],
    size: int,
    chunking: str,
) -> None:
    root = tmp_path_factory.mktemp("holes")
    sparse = root / "sparse"
    with sparse.open("wb") as file:
        file.truncate(size)
        for at, content in data:
            file.seek(min(at, size - len(content)))
            file.write(content)
    (dense,) = store.take({"x": sparse.read_bytes()}, chunking=chunking)
    (holes,) = store.take({"x": sparse}, chunking=chunking, rehash=True)
    assert holes == dense
    restore(store.project, [holes], root / "out")
    assert (root / "out/x").read_bytes() == sparse.read_bytes()
    assert (root / "out/x").stat().st_blocks * 512 <= 512 * KIB + 4 * MIB * len(data)


def test_two_gibibytes_of_nothing_are_one_object(store: Store, tmp_path: Path) -> None:
    sparse = tmp_path / "sparse"
    sparse.touch()
    os.truncate(sparse, 2 * 1024 * MIB)
    (entry,) = store.take({"x": sparse})
    assert len(store.objects()) <= 2
    restore(store.project, [entry], tmp_path / "out")
    assert (tmp_path / "out/x").stat().st_size == 2 * 1024 * MIB
    assert (tmp_path / "out/x").stat().st_blocks == 0


@pytest.mark.fuzz
def test_fifty_gibibytes_with_little_in_them(store: Store, tmp_path: Path) -> None:
    sparse, size = tmp_path / "sparse", 50 * 1024 * MIB
    with sparse.open("wb") as file:
        file.truncate(size)
        file.seek(30 * 1024 * MIB + 123)
        file.write(noise(1, 3 * MIB))
    entries = store.take({"x": sparse})
    restore(store.project, entries, tmp_path / "out")
    assert store.take({"x": tmp_path / "out/x"}) == entries
    assert (tmp_path / "out/x").stat().st_blocks * 512 < 16 * MIB


def test_zeros_that_are_no_hole_are_given_back_as_one(store: Store, tmp_path: Path) -> None:
    content = bytes(6 * MIB) + b"end"
    (entry,) = store.take({"x": content})
    assert crypto.content_hash(content) == entry.hash
    assert store.give([entry], tmp_path / "out") == {"x": content}
