"""Every remote passes the contract; the folder has a few promises of its own."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from localstore.errors import Conflict, NotFound, Refused
from localstore.remotes import MARKER_FILE, claim_folder
from localstored.remotes.base import Entry, Remote, Unreachable
from localstored.remotes.folder import FolderRemote
from localstored.remotes.memory import MemoryRemote
from tests.sync.contract import LINK, LOG, PROJECT, RemoteContract

if TYPE_CHECKING:
    from pathlib import Path


class TestMemoryRemote(RemoteContract):
    @pytest.fixture
    def remote(self) -> MemoryRemote:
        return MemoryRemote()


class TestFolderRemote(RemoteContract):
    @pytest.fixture
    def remote(self, tmp_path: Path) -> FolderRemote:
        claim_folder(tmp_path)
        return FolderRemote(tmp_path)

    def test_files_and_folders_are_for_their_owner_alone(
        self, remote: FolderRemote, tmp_path: Path
    ) -> None:
        remote.create(LOG, b"abc")
        for path in (tmp_path / "projects").rglob("*"):
            assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600)

    @pytest.mark.parametrize("planted", ["projects", f"projects/{PROJECT}", LOG])
    def test_a_planted_link_leads_nowhere(
        self, remote: FolderRemote, tmp_path: Path, planted: str
    ) -> None:
        outside = tmp_path.parent / f"{tmp_path.name}-outside"
        outside.mkdir()
        (outside / "victim").write_bytes(b"victim")
        link = tmp_path / planted
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(outside / "victim" if planted == LOG else outside)

        for attack in (
            lambda: remote.create(LOG, b"x"),
            lambda: remote.append(LOG, 0, b"x"),
            lambda: remote.read(LOG, 0, 1),
        ):
            with pytest.raises((Refused, NotFound)):
                attack()
        assert list(remote.list("")) == []
        assert [path.name for path in outside.iterdir()] == ["victim"]
        assert (outside / "victim").read_bytes() == b"victim"

    def test_files_of_others_on_the_stick_are_passed_over(
        self, remote: FolderRemote, tmp_path: Path
    ) -> None:
        remote.create(LINK, b"1")
        (tmp_path / "projects" / "holiday.jpg").write_bytes(b"2")
        (tmp_path / "projects" / PROJECT / "links" / ".DS_Store").write_bytes(b"3")
        os.mkfifo(tmp_path / "projects" / PROJECT / "FORMAT")

        assert list(remote.list("")) == [Entry(LINK, 1)]
        with pytest.raises(Refused):
            remote.read(f"projects/{PROJECT}/FORMAT", 0, 1)

    def test_a_killed_create_leaves_nothing_for_ever(
        self, remote: FolderRemote, tmp_path: Path
    ) -> None:
        remote.create(LINK, b"1")
        left = (tmp_path / LINK).parent / ".tmp-0123"
        left.write_bytes(b"half")
        list(remote.list(""))
        assert left.exists()
        os.utime(left, (1, 1))
        list(remote.list(""))
        assert not left.exists()

    def test_an_erased_subject_leaves_no_folder(self, remote: FolderRemote, tmp_path: Path) -> None:
        remote.create(LOG, b"abc")
        remote.delete(LOG)
        assert not (tmp_path / LOG).parent.exists()
        assert (tmp_path / LOG).parent.parent.exists()

    def test_another_stick_in_the_same_place_is_not_taken_for_the_first(
        self, remote: FolderRemote, tmp_path: Path
    ) -> None:
        with pytest.raises(Unreachable, match="another remote"):
            FolderRemote(tmp_path, want_id="00" * 8)

    def test_an_empty_mount_point_is_not_a_remote(self, tmp_path: Path) -> None:
        with pytest.raises(Unreachable, match="no localstore remote"):
            FolderRemote(tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_a_marker_of_a_newer_version_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / MARKER_FILE).write_text(f"localstore-remote 2\nid {'0' * 16}\n")
        with pytest.raises(Unreachable, match="version 1"):
            FolderRemote(tmp_path)


class TestFolderWithoutHardLinks(RemoteContract):
    """A stick with FAT: no links, so a name is given by a rename. One user at a time."""

    @pytest.fixture
    def remote(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderRemote:
        claim_folder(tmp_path)

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(errno.EPERM, "no hard links here")

        monkeypatch.setattr(os, "link", refuse)
        return FolderRemote(tmp_path)

    def test_of_many_that_create_other_bytes_at_once_one_wins_whole(self, remote: Remote) -> None:
        """Without links nobody can promise who wins; whole it must be, so one at a time here."""
        remote.create(LINK, b"first")
        with pytest.raises(Conflict):
            remote.create(LINK, b"second")
