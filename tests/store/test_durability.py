"""Objects and power: no object has its name before its bytes are safe, none is relied on too early.

The paper disk of `tests.attacks.power` keeps, of what was not synced, an arbitrary beginning.
"""

from __future__ import annotations

import os
import random
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from localstore import crypto, durable
from localstore.errors import StoreError
from localstore.format.spec import DataClass
from localstore.store import blobs, ingest, sealing
from localstore.store.objects import Group, ObjectFiles
from tests.attacks.bad_disk import always, failing
from tests.attacks.power import Disk, Event, File, Folder, Recorder
from tests.store.makers import KIB, MIB, Store, noise

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


def record(store: Store, act: Callable[[Callable[[Sequence[bytes]], None]], None]) -> list[Event]:
    """All calls that change the project's folder; what was referred to stands between them."""
    recorder = Recorder(store.project.paths.root)
    with pytest.MonkeyPatch.context() as patch:
        recorder.install(patch)
        act(lambda ids: recorder.note("referred", tuple(one.hex() for one in ids)))
    return recorder.events


def after(disk: Disk, keep: Callable[[int], int]) -> dict[str, bytearray]:
    """Objects with their names, after the power came back."""
    top, found = disk.top.after(keep(len(disk.top.pending))), dict[str, bytearray]()
    objects = top.get("objects")
    assert isinstance(objects, Folder)
    for folder in objects.after(keep(len(objects.pending))).values():
        assert isinstance(folder, Folder)
        for name, node in folder.after(keep(len(folder.pending))).items():
            if not name.startswith("."):
                assert isinstance(node, File)
                found[name] = node.after(keep(len(node.pending)))
    return found


def check(store: Store, before: Path, events: list[Event]) -> int:
    """Cut the power after every event, in four ways; how many cuts that were."""
    rng = random.Random(1)
    keeps: list[Callable[[int], int]] = [
        lambda _count: 0,
        lambda count: count,
        lambda count: rng.randint(0, count),
        lambda count: rng.randint(0, count),
    ]
    disk, referred = Disk(), set[str]()
    disk.load(before)
    for event in events:
        disk.play(event)
        if event[0] == "referred":
            referred.update(event[1])
        if event[0] in ("open", "close"):
            continue
        for keep in keeps:
            found = after(disk, keep)
            for name, content in found.items():
                assert crypto.sha256(content).hex() == name, event
            assert referred <= found.keys(), event
    assert referred <= store.objects()
    return len(events) * len(keeps)


@pytest.fixture
def before(store: Store, tmp_path: Path) -> Path:
    """The project's folder as it was before the ingest, with an object or two."""
    store.take({"old": noise(99, 150 * KIB)})
    shutil.copytree(store.project.paths.root, tmp_path / "before")
    return tmp_path / "before"


@pytest.mark.parametrize("threads", [False, True])
@pytest.mark.parametrize("files", [3, 24])
def test_a_power_cut_in_an_ingest_leaves_nothing_but_what_can_be_collected(
    store: Store,
    tmp_path: Path,
    before: Path,
    monkeypatch: pytest.MonkeyPatch,
    threads: bool,
    files: int,
) -> None:
    monkeypatch.setattr(sealing, "_BATCH_BYTES", 10 * 130 * KIB)
    monkeypatch.setattr(ingest, "_THREADS_FROM_BYTES", 0 if threads else 1 << 60)
    wanted = {f"{n:02d}": noise(n, 130 * KIB) for n in range(files)} | {"x": b"small"}

    def act(refer: Callable[[Sequence[bytes]], None]) -> None:
        store.take({**wanted, "old": noise(99, 150 * KIB)}, refer=refer)

    events = record(store, act)
    synced = sum(event[0] == "sync_disk" for event in events)
    singly = sum(event[0] == "fsync" for event in events)
    assert synced <= 8
    assert singly < 3 * files + 20
    assert check(store, before, events) > 100


def test_a_power_cut_while_contents_are_kept(store: Store, tmp_path: Path, before: Path) -> None:
    bodies = [noise(n, 20 * KIB) for n in range(3)]

    def act(refer: Callable[[Sequence[bytes]], None]) -> None:
        blobs.keep(store.project, DataClass.MEDIA, bodies, refer)
        blobs.keep(store.project, DataClass.MEDIA, bodies, refer)

    check(store, before, record(store, act))


def test_where_no_disk_is_synced_at_once_every_file_is(
    store: Store, tmp_path: Path, before: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "_libc", lambda: None)

    def act(refer: Callable[[Sequence[bytes]], None]) -> None:
        store.take({f"{n:02d}": noise(n, 130 * KIB) for n in range(12)}, refer=refer)

    events = record(store, act)
    assert not any(event[0] == "sync_disk" for event in events)
    check(store, before, events)


def test_thousands_of_small_files_are_few_syncs(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = list[int]()
    real = os.fsync

    def counted(handle: int) -> None:
        synced.append(handle)
        real(handle)

    monkeypatch.setattr(os, "fsync", counted)
    store.take({f"{n:04d}": noise(n, 2 * KIB) for n in range(4000)})
    assert len(synced) < 300


def test_an_object_that_another_process_just_named_has_its_folder_synced(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = store.take({"a": noise(1, 150 * KIB)})[0].parts[0]
    synced = list[Any]()
    monkeypatch.setattr(durable, "sync_folder", synced.append)
    files = ObjectFiles(store.project.paths)
    group = Group(files)
    assert group.hold(made.object_id)
    group.commit()
    assert files.path(made.object_id).parent in synced


def test_a_disk_that_fails_to_sync_is_told_and_nothing_gets_its_name(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_handle: int) -> bool:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(durable, "sync_disk", refuse)
    with failing(monkeypatch, "fsync", always), pytest.raises(StoreError, match="refused"):
        store.take({f"{n:02d}": noise(n, 130 * KIB) for n in range(12)})
    assert store.objects() == set()
    assert store.leftovers() == []
    assert store.referred == []


def test_a_cut_object_is_stored_again_over_itself(store: Store, tmp_path: Path) -> None:
    content = noise(1, 3 * MIB)
    (entry,) = store.take({"a": content})
    path = ObjectFiles(store.project.paths).path(entry.parts[0].object_id)
    whole = path.read_bytes()
    path.write_bytes(b"")
    for cache in store.project.paths.local.rglob("*"):
        if cache.is_file():
            cache.unlink()
    store.take({"a": content})
    assert path.read_bytes() == whole


def test_a_folder_of_this_machine_is_synced_at_once_or_not_at_all(tmp_path: Path) -> None:
    handle = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert durable.sync_disk(handle) in (True, False)
    finally:
        os.close(handle)
    proc = os.open("/proc/self", os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert durable.sync_disk(proc) is False
    finally:
        os.close(proc)
