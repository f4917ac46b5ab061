"""Taking files: the same again costs nothing, and nothing that was said to be kept is missing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localstore import crypto
from localstore.errors import Damaged, NotFound, StoreError, UsageError
from localstore.format.manifest import Entry, version_digest
from localstore.format.spec import DataClass
from localstore.store import blobs
from localstore.store.filecache import Facts
from localstore.store.ingest import Ingest
from localstore.store.manifests import load_entries
from localstore.store.objects import Group, ObjectFiles
from localstore.store.sources import Source, look
from tests.attacks.bad_disk import failing, from_on
from tests.store.makers import (
    KIB,
    MIB,
    Store,
    contents,
    deposit_store,
    noise,
    open_store,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TEXT = b"".join(b"%08d,%f\n" % (n, n / 7) for n in range(200_000))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of all files that were opened to be read."""
    real, names = os.open, list[str]()

    def watched(path: Any, flags: int, *more: Any, **words: Any) -> int:
        names.append(str(path))
        return real(path, flags, *more, **words)

    monkeypatch.setattr(os, "open", watched)
    yield names


def ids(entries: Sequence[Entry]) -> set[str]:
    return {part.object_id.hex() for entry in entries for part in entry.parts}


# ------------------------------------------------------------------ round trips
@settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.dictionaries(
        st.sampled_from(["a", "b/c", "b/d", "e", "f/g/h", "…"]),
        st.tuples(st.integers(0, 9), st.integers(0, 300 * KIB)),
    ),
    st.sampled_from(["cdc", "fixed"]),
)
def test_what_was_taken_is_given_back(
    tmp_path_factory: pytest.TempPathFactory, wanted: dict[str, tuple[int, int]], chunking: str
) -> None:
    root = tmp_path_factory.mktemp("trip")
    store = open_store(root / "home")
    files = {path: noise(*made) for path, made in wanted.items()}
    entries = store.take(files, chunking=chunking)
    assert store.give(entries, root / "out") == files
    assert [(e.size, e.hash) for e in entries] == [
        (len(files[e.path]), crypto.content_hash(files[e.path])) for e in entries
    ]


def test_large_files_small_files_and_bytes_in_one_version(store: Store, tmp_path: Path) -> None:
    files = {"text.csv": TEXT, "big": noise(1, 20 * MIB), "empty": b"", "tiny": b"x"}
    files |= {f"many/{n:03d}": noise(n, 3000) for n in range(300)}
    on_disk = {path: write(tmp_path / "in" / path, content) for path, content in files.items()}
    entries = store.take({**on_disk, "in memory": b"bytes"})
    assert store.give(entries, tmp_path / "out") == {**files, "in memory": b"bytes"}
    assert store.bytes_of_objects() < sum(map(len, files.values()))
    assert store.leftovers() == []


def test_small_files_beside_large_ones_are_told_and_referred_to_in_the_callers_thread(
    store: Store, tmp_path: Path
) -> None:
    files = {f"s/{n:04d}": write(tmp_path / f"s{n}", noise(n, 900)) for n in range(300)}
    files["large"] = write(tmp_path / "large", noise(7, 6 * MIB))
    told, threads = list[int](), set[int]()

    def progress(count: int) -> None:
        told.append(count)
        threads.add(threading.get_ident())

    def refer(ids: Sequence[bytes]) -> None:
        store.referred.extend(ids)
        threads.add(threading.get_ident())

    first = store.take(files, progress=progress, refer=refer)
    assert sum(told) == 300 * 900 + 6 * MIB
    assert store.take(files, progress=progress, refer=refer) == first
    assert sum(told) == 2 * (300 * 900 + 6 * MIB)
    assert threads == {threading.get_ident()}
    found = store.give(first, tmp_path / "out")
    assert found == {path: file.read_bytes() for path, file in files.items()}


def test_a_small_file_that_is_missing_beside_a_large_one_is_told_and_nothing_is_left(
    store: Store, tmp_path: Path
) -> None:
    gone = write(tmp_path / "gone", b"soon")
    source = Source("gone", gone, look(gone))
    gone.unlink()
    large = write(tmp_path / "large", noise(8, 6 * MIB))
    ingest = Ingest(store.project, DataClass.ARTIFACTS, refer=store.referred.extend)
    before = threading.active_count()
    with pytest.raises(NotFound, match="gone"):
        ingest.run([source, Source("large", large)], {"gone": Facts(4, 0, 0, 0)})
    assert store.leftovers() == []
    assert threading.active_count() == before


def test_only_what_the_store_had_not_counts_as_new(store: Store) -> None:
    def new_bytes(**files: bytes) -> int:
        ingest = Ingest(store.project, DataClass.ARTIFACTS, refer=store.referred.extend)
        ingest.run([Source(path, content) for path, content in files.items()])
        return ingest.new_bytes

    big = noise(1, 20 * MIB)
    assert new_bytes(big=big, small=b"small") == 20 * MIB + 5
    assert new_bytes(big=big, small=b"small") == 0
    assert new_bytes(elsewhere=big, other=b"others") == 6
    assert MIB <= new_bytes(longer=big + noise(2, MIB)) < 4 * MIB


def test_small_files_share_chunks_and_a_large_one_begins_its_own(store: Store) -> None:
    entries = store.take({f"{n:03d}": noise(n, 4 * KIB) for n in range(64)} | {"z": noise(9, MIB)})
    assert len(ids(entries)) <= 2 + len(entries[-1].parts)
    assert entries[-1].parts[0].offset == 0
    assert all(part.offset == 0 for part in entries[-1].parts)


def test_the_same_files_make_the_same_version_in_two_homes(tmp_path: Path) -> None:
    files = {"a": noise(1, MIB), "b": b"text", "c/d": b""}
    here, there = open_store(tmp_path / "here"), open_store(tmp_path / "there")
    one, other = here.take(files), there.take(files, chunking="fixed")
    assert version_digest(one) == version_digest(other)
    assert ids(one).isdisjoint(ids(other))


def test_objects_are_of_the_class_that_was_asked_for(store: Store) -> None:
    (entry,) = store.take({"train.py": b"print()"}, data_class=DataClass.CODE)
    part = entry.parts[0]
    opened = ObjectFiles(store.project.paths).read_object(part.object_id, part.key)
    assert opened.data_class == DataClass.CODE


def test_one_content_in_two_classes_is_two_objects(store: Store) -> None:
    one = store.take({"a": TEXT})
    other = store.take({"a": TEXT}, data_class=DataClass.CODE)
    assert ids(one).isdisjoint(ids(other))


# ------------------------------------------------------------------ the same again
def test_a_second_version_adds_what_is_new(store: Store) -> None:
    content = noise(1, 12 * MIB)
    store.take({"model": content})
    before = store.bytes_of_objects()
    entries = store.take({"model": content[:MIB] + b"inserted" + content[MIB:]})
    assert store.bytes_of_objects() - before < 3 * MIB
    assert len(entries[0].parts) > 8


def test_nothing_new_is_written_for_the_same_content_under_other_names(store: Store) -> None:
    store.take({"a": noise(1, 3 * MIB), "b": b"small"})
    before = store.objects()
    store.take({"c": noise(1, 3 * MIB), "d/e": b"small"})
    assert store.objects() == before


def test_an_unchanged_file_is_not_opened_again(
    store: Store, tmp_path: Path, opened: list[str]
) -> None:
    files = {"big": write(tmp_path / "big", noise(1, MIB)), "s": write(tmp_path / "s", b"small")}
    time.sleep(0.06)
    first = store.take(files)
    assert {str(file) for file in files.values()} <= set(opened)
    opened.clear()
    assert store.take(files) == first
    assert {str(file) for file in files.values()}.isdisjoint(opened)


def test_rehash_reads_every_file(store: Store, tmp_path: Path, opened: list[str]) -> None:
    file = write(tmp_path / "s", b"small")
    time.sleep(0.06)
    first = store.take({"s": file})
    opened.clear()
    assert store.take({"s": file}, rehash=True) == first
    assert str(file) in opened


def test_a_file_that_was_changed_just_now_is_read_again(
    store: Store, tmp_path: Path, opened: list[str]
) -> None:
    file = tmp_path / "s"
    file.write_bytes(b"small")
    store.take({"s": file})
    opened.clear()
    store.take({"s": file})
    assert str(file) in opened


@pytest.mark.parametrize("size", [1000, MIB])
def test_a_change_that_keeps_size_and_time_is_found(
    store: Store, tmp_path: Path, size: int
) -> None:
    file = write(tmp_path / "f", noise(1, size))
    times = file.stat()
    time.sleep(0.06)
    store.take({"f": file})
    with file.open("r+b") as open_file:
        open_file.write(b"changed")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    (entry,) = store.take({"f": file})
    assert entry.hash == crypto.content_hash(file.read_bytes())


def test_a_touched_or_moved_small_file_keeps_the_parts_that_it_had(
    store: Store, tmp_path: Path
) -> None:
    files = {f"{n:03d}": write(tmp_path / f"{n:03d}", noise(n, 5000)) for n in range(100)}
    first = store.take(files)
    files["050"].touch()
    write(files["051"], b"changed")
    second = store.take({f"moved/{path}": file for path, file in files.items()})
    assert len(ids(second) - ids(first)) == 1
    changed = [a.path for a, b in zip(first, second, strict=True) if a.parts != b.parts]
    assert changed == ["051"]


def test_caches_that_were_deleted_or_damaged_cost_only_time(store: Store, tmp_path: Path) -> None:
    files = {"a": write(tmp_path / "a", noise(1, MIB)), "b": write(tmp_path / "b", b"small")}
    time.sleep(0.06)
    first, objects = store.take(files), store.objects()
    for path in store.project.paths.local.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:-1])
    assert store.take(files) == first
    for path in store.project.paths.local.rglob("*"):
        if path.is_file():
            path.unlink()
    assert store.take(files) == first
    assert store.objects() == objects


def test_another_level_of_zstd_makes_another_key_and_another_object(store: Store) -> None:
    (by_ingest,) = store.take({"a": TEXT[: 100 * KIB]})
    (by_blob,) = blobs.keep(
        store.project, DataClass.ARTIFACTS, [TEXT[: 100 * KIB]], store.referred.extend
    )
    assert by_blob[0].object_id != by_ingest.parts[0].object_id
    assert by_blob[0].key != by_ingest.parts[0].key


# ------------------------------------------------------------------ expected
def test_a_file_that_changed_since_it_was_named_is_taken_anew_and_told(
    store: Store, tmp_path: Path
) -> None:
    file, same = write(tmp_path / "f", b"then"), write(tmp_path / "g", b"same")
    sources = {"f": Source("f", file, look(file)), "g": Source("g", same, look(same))}
    write(file, b"now, and longer")
    entries = store.take(sources)
    assert store.changed == ["f"]
    assert entries[0].hash == crypto.content_hash(b"now, and longer")
    assert store.take(sources) == entries
    assert store.changed == ["f"]


def test_two_sources_of_one_path_are_refused(store: Store) -> None:
    sources = [Source("a", b"1"), Source("a", b"2")]
    ingest = Ingest(store.project, DataClass.ARTIFACTS, refer=store.referred.extend)
    with pytest.raises(UsageError, match="two files are called 'a'"):
        ingest.run(sources)


def test_a_path_that_is_a_file_and_a_folder_is_refused(store: Store) -> None:
    with pytest.raises(UsageError, match="'a' is a file, and a folder"):
        store.take({"a": b"1", "a-b": b"2", "a/b": b"3"})
    assert store.objects() == set()


# ------------------------------------------------------------------ references and collectors
def test_objects_are_referred_to_once_they_are_there_and_before_run_returns(store: Store) -> None:
    files, seen = ObjectFiles(store.project.paths), list[bytes]()

    def refer(found: Sequence[bytes]) -> None:
        assert threading.current_thread() is threading.main_thread()
        assert all(map(files.has, found))
        seen.extend(found)

    wanted = {"big": noise(1, 12 * MIB), "s": b"small"}
    entries = store.take(wanted, refer=refer)
    assert {one.hex() for one in seen} == ids(entries)
    assert len(seen) == len(set(seen))
    seen.clear()
    store.take(wanted, refer=refer)
    assert {one.hex() for one in seen} == ids(entries)


def test_objects_that_are_used_again_are_pinned(store: Store, tmp_path: Path) -> None:
    files = {"a": write(tmp_path / "a", noise(1, MIB)), "b": noise(2, MIB)}
    time.sleep(0.06)
    (one, other) = store.take(files)
    paths = [
        ObjectFiles(store.project.paths).path(part.object_id) for part in (*one.parts, *other.parts)
    ]
    for path in paths:
        os.utime(path, (1, 1))
    store.take(files)
    assert all(path.stat().st_mtime > 1 for path in paths)


@pytest.mark.parametrize("which", ["file", "bytes"])
def test_an_object_that_is_gone_is_stored_again(store: Store, tmp_path: Path, which: str) -> None:
    content = noise(1, 3 * MIB)
    source = write(tmp_path / "a", content) if which == "file" else content
    time.sleep(0.06)
    (first,) = store.take({"a": source})
    ObjectFiles(store.project.paths).path(first.parts[1].object_id).unlink()
    (second,) = store.take({"a": source})
    assert ids([first]) <= store.objects()
    assert store.give([second], tmp_path / "out") == {"a": content}


@pytest.mark.parametrize("known", [False, True])
def test_an_object_that_a_collector_took_before_the_reference_is_stored_again(
    store: Store, tmp_path: Path, known: bool
) -> None:
    file, files = write(tmp_path / "a", noise(1, 3 * MIB)), ObjectFiles(store.project.paths)
    time.sleep(0.06)
    taken = list[bytes]()
    if known:
        store.take({"a": file})

    def refer(found: Sequence[bytes]) -> None:
        if not taken:
            taken.append(found[0])
            files.path(found[0]).unlink()

    (entry,) = store.take({"a": file}, refer=refer)
    assert taken[0].hex() in store.objects()
    assert store.give([entry], tmp_path / "out") == {"a": file.read_bytes()}


def test_whoever_deletes_as_fast_as_we_write_is_told_of(store: Store) -> None:
    files = ObjectFiles(store.project.paths)

    def refer(found: Sequence[bytes]) -> None:
        for one in found:
            files.path(one).unlink(missing_ok=True)

    with pytest.raises(StoreError, match="vanish"):
        store.take({"a": b"content"}, refer=refer)
    with pytest.raises(OSError, match="vanish"):
        blobs.keep(store.project, DataClass.MEDIA, [b"content"], refer)
    with pytest.raises(StoreError, match="vanish"):
        Ingest(store.project, DataClass.ARTIFACTS, refer=refer).store_manifest([])


# ------------------------------------------------------------------ manifests
def test_a_manifest_of_many_pages_is_stored_and_read(store: Store) -> None:
    ingest = Ingest(store.project, DataClass.ARTIFACTS, refer=store.referred.extend)
    (real,) = ingest.run([Source("real", b"content")])
    entries = [Entry(f"d/{n:05d}", real.size, real.hash, real.parts) for n in range(20_000)] + [
        Entry("r", None, b"", (), "https://example.org/r")
    ]
    root, key = ingest.store_manifest(entries)
    assert load_entries(store.project, root, key) == entries
    assert len(store.objects()) > 8
    assert store.objects() <= {one.hex() for one in store.referred}
    assert ingest.store_manifest(entries) == (root, key)


def test_a_manifest_without_files_is_one(store: Store) -> None:
    ingest = Ingest(store.project, DataClass.CODE, refer=store.referred.extend)
    assert load_entries(store.project, *ingest.store_manifest([])) == []


# ------------------------------------------------------------------ disks that refuse
@pytest.mark.parametrize("call", ["open", "pwrite", "rename", "fsync"])
def test_a_disk_that_refuses_leaves_nothing_that_counts(
    store: Store, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    with failing(monkeypatch, call, from_on(3)), pytest.raises(StoreError):
        store.take({f"{n:03d}": noise(n, 200 * KIB) for n in range(5)})
    for path in store.project.paths.objects.glob("*/*"):
        if not path.name.startswith("."):
            assert crypto.sha256(path.read_bytes()).hex() == path.name
    entries = store.take({f"{n:03d}": noise(n, 200 * KIB) for n in range(5)})
    assert ids(entries) <= store.objects()


def test_a_disk_that_fills_up_under_many_threads_is_told_and_cleaned(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = threading.active_count()
    with failing(monkeypatch, "pwrite", from_on(20)), pytest.raises(StoreError, match="refused"):
        store.take({"big": noise(1, 40 * MIB)})
    assert threading.active_count() == before
    assert store.leftovers() == []
    assert store.objects() == set()


def test_an_interrupted_ingest_stops_its_threads_and_leaves_no_files(store: Store) -> None:
    before = threading.active_count()
    seen = 0

    def interrupt(count: int) -> None:
        nonlocal seen
        seen += count
        if seen > 20 * MIB:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files = {f"{n}": noise(n, 8 * MIB) for n in range(5)}
        store.take(files, progress=interrupt)
    assert threading.active_count() == before
    assert store.leftovers() == []


_KILLED = """
import sys
from pathlib import Path
from tests.store.makers import MIB, noise, open_store
store = open_store(Path(sys.argv[1]))
files = {f"{n:02d}": noise(n, 4 * MIB) for n in range(100)}
store.take(files, progress=lambda _: print(flush=True))
"""


@pytest.mark.parametrize("after", [1, 12])
def test_a_killed_ingest_leaves_temporary_files_and_whole_objects_alone(
    store: Store, tmp_path: Path, after: int
) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(tmp_path / "home")],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout is not None
    for _ in range(after):
        child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    for path in store.project.paths.objects.glob("*/*"):
        if not path.name.startswith(".tmp-"):
            assert crypto.sha256(path.read_bytes()).hex() == path.name
    files = {f"{n:02d}": noise(n, 4 * MIB) for n in range(3)}
    assert store.give(store.take(files), tmp_path / "out") == files


# ------------------------------------------------------------------ who may know what
def test_a_deposit_machine_stores_and_keeps_no_memory_of_it(store: Store, tmp_path: Path) -> None:
    node = deposit_store(store, tmp_path / "node")
    files = {"a": write(tmp_path / "a", noise(1, 3 * MIB)), "b": b"small"}
    time.sleep(0.06)
    entries = node.take(files)
    assert list(node.project.paths.local.rglob("*")) == []
    assert node.take(files) == entries
    assert list(node.project.paths.local.rglob("*")) == []
    assert ids(entries) == node.objects()
    for name in node.objects():
        target = store.project.paths.objects / name[:2] / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((node.project.paths.objects / name[:2] / name).read_bytes())
    assert store.give(entries, tmp_path / "out")["b"] == b"small"


def test_two_deposit_machines_and_the_owner_cut_and_name_apart(
    store: Store, tmp_path: Path
) -> None:
    content = noise(1, 6 * MIB)
    stores = [store, *(deposit_store(store, tmp_path / name) for name in ("n1", "n2"))]
    taken = [one.take({"a": content}) for one in stores]
    assert len(set.union(*map(ids, taken))) == sum(len(ids(entries)) for entries in taken)
    assert len({tuple(p.length for p in entries[0].parts) for entries in taken}) > 1


def test_nothing_of_a_file_is_in_clear_below_the_home(store: Store, tmp_path: Path) -> None:
    marker = b"MARKER-of-a-secret-content"
    names = {"NAMEofSecret.txt": marker * 20, "NAMEofSecret-big.bin": marker * 50_000}
    files = {name: write(tmp_path / "in" / name, content) for name, content in names.items()}
    time.sleep(0.06)
    ingest = Ingest(store.project, DataClass.ARTIFACTS, refer=store.referred.extend)
    ingest.store_manifest(ingest.run([Source(*pair) for pair in files.items()]))
    found = contents(tmp_path / "home")
    assert any("chunks" in name for name in found)
    assert any("files.cache" in name for name in found)
    for name, content in found.items():
        assert b"NAMEofSecret" not in content + name.encode()
        assert b"MARKER-of" not in content
    for path in (tmp_path / "home").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


# ------------------------------------------------------------------ contents in memory
@settings(
    deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.binary(max_size=1000), max_size=3), st.sampled_from([0, 5 * MIB]))
def test_contents_that_are_kept_are_read_again(store: Store, some: list[bytes], more: int) -> None:
    bodies = [*some, noise(1, more)]
    kept = blobs.keep(store.project, DataClass.MEDIA, bodies, store.referred.extend)
    for body, parts in zip(bodies, kept, strict=True):
        wanted = crypto.content_hash(body)
        assert blobs.read_parts(store.project, parts, len(body), wanted) == body
        assert {part.object_id for part in parts} <= set(store.referred)


def test_a_content_that_is_another_than_its_record_says_is_damage(store: Store) -> None:
    (parts,) = blobs.keep(store.project, DataClass.MEDIA, [b"content"], store.referred.extend)
    for size, of in ((7, b"other"), (6, b"content"), (8, b"content")):
        with pytest.raises(Damaged):
            blobs.read_parts(store.project, parts, size, crypto.content_hash(of))


def test_an_empty_group_commits(store: Store) -> None:
    Group(ObjectFiles(store.project.paths)).commit()
    assert store.objects() == set()
