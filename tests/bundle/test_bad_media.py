"""Sticks that are full, too small or write-protected, and disks without room."""

from __future__ import annotations

import errno
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from localstore.errors import LocalStoreError
from localstore.format.spec import DataClass
from localstored.remotes.base import Full, Unreachable
from localstored.remotes.bundlefile import BundleFile
from tests.bundle.homes import acknowledge, device_of, export, import_
from tests.bundle.test_bundle_file import KEYS, contents
from tests.cli.conftest import call
from tests.sync.contract import LINK
from tests.sync.makers import Project, make_project, synced_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """About 600 kB."""
    made = make_project(tmp_path / "home")
    objects = [made.object(size=100_000 + n) for n in range(6)]
    made.log(made.run(), DataClass.ARTIFACTS, refs=objects)
    return made


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)])
    if done.returncode:
        pytest.skip("mount is not permitted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    """Change a mounted file system."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


@pytest.mark.real("root", "mount")
def test_a_full_stick_is_told_and_gone_on_with_when_there_is_room(
    tmp_path: Path, small: Path, project: Project
) -> None:
    home, path = tmp_path / "home", small / "a.bundle"
    done = export(home, path)
    assert not done.ok
    assert not done.finished
    assert "No space" in str(done.to_json())
    early = import_(tmp_path / "desk", path)
    assert not early.ok
    assert not early.ended

    remount(small, "size=4m")
    assert export(home, path).ok
    assert import_(tmp_path / "desk", path).ok
    assert synced_bytes(tmp_path / "desk") == synced_bytes(home)


@pytest.mark.real("root", "mount")
def test_a_full_disk_takes_what_fits_and_the_rest_later(
    tmp_path: Path, small: Path, project: Project
) -> None:
    home, path = tmp_path / "home", tmp_path / "a.bundle"
    assert export(home, path).ok
    taken = import_(small / "desk", path)
    assert not taken.ok
    assert synced_bytes(small / "desk").items() <= synced_bytes(home).items()
    assert not list(small.glob("desk/projects/*/local/incoming/*"))

    remount(small, "size=4m")
    assert import_(small / "desk", path).ok
    assert synced_bytes(small / "desk") == synced_bytes(home)


@pytest.mark.real("root", "mount")
def test_a_stick_that_is_write_protected_is_read_and_gives_no_receipt(
    tmp_path: Path, small: Path
) -> None:
    made = make_project(tmp_path / "home")
    made.run()
    path = small / "a.bundle"
    assert export(tmp_path / "home", path, signers=[device_of(made)]).ok
    remount(small, "ro")
    try:
        taken = call("--home", str(tmp_path / "desk"), "bundle", "import", "--relay", str(path))
        assert taken.code == 0, taken.err
        assert "no receipt" in taken.err
        assert "--receipt" in taken.err or "LOCALSTORE_QUIET" in os.environ
        with pytest.raises(Unreachable):
            BundleFile.for_writing(path)
        out = tmp_path / "receipt"
        assert acknowledge(tmp_path / "desk", out, bundle=path).files > 3
    finally:
        remount(small, "rw")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO])
@pytest.mark.parametrize("fails_at", range(1, 12))
def test_whatever_write_fails_the_bundle_stays_whole_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, fails_at: int
) -> None:
    path, left, real = tmp_path / "a", fails_at, os.pwrite

    def failing(handle: int, data: bytes, offset: int) -> int:
        nonlocal left
        left -= 1
        if left == 0:
            real(handle, bytes(data)[:3], offset)
            raise OSError(code, os.strerror(code))
        return real(handle, data, offset)

    wanted = {LINK: b"hello", KEYS[0]: b"one", KEYS[1]: b"two"}
    monkeypatch.setattr(os, "pwrite", failing)
    failed = False
    for _ in range(2):
        try:
            bundle = BundleFile.for_writing(path)
        except LocalStoreError as problem:
            assert isinstance(problem, Unreachable if code == errno.EIO else Full)
            failed = True
            continue
        try:
            for name, data in wanted.items():
                bundle.create(name, data)
            bundle.finish([], 1)
        except LocalStoreError as problem:
            assert isinstance(problem, Unreachable if code == errno.EIO else Full)
            failed = True
        finally:
            bundle.close()
    assert failed or left > 0
    assert contents(path) == wanted
    assert BundleFile.for_reading(path).findings.whole


@pytest.mark.parametrize("again", [False, True])
def test_a_disk_that_takes_no_part_after_the_first_is_told(tmp_path: Path, again: bool) -> None:
    bundle = BundleFile.for_writing(tmp_path / "a", part_bytes=700)
    (tmp_path / "a.002").mkdir()
    for _ in range(2):
        with pytest.raises(Unreachable):
            for name in KEYS[:8]:
                bundle.create(name, b"x" * 40)
    if again:
        bundle.close()
    (tmp_path / "a.002").rmdir()
    if again:
        bundle = BundleFile.for_writing(tmp_path / "a", part_bytes=700)
    for name in KEYS[:8]:
        if name not in bundle.have([name]):
            bundle.create(name, b"x" * 40)
    bundle.finish([], 1)
    bundle.close()
    assert sorted(contents(tmp_path / "a")) == KEYS[:8]
