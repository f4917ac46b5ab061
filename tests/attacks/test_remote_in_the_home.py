"""A remote's folder that turns out to be the home itself: nothing may be lost by that."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from localstore.errors import Refused
from localstore.remotes import MARKER_FILE, claim_folder, read_marker
from localstored.remotes import folder
from localstored.remotes.base import Unreachable
from localstored.remotes.folder import FolderRemote
from tests.prune.makers import ended_run, make_world

if TYPE_CHECKING:
    from pathlib import Path

    from tests.prune.makers import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = make_world(tmp_path)
    ended_run(made.project)
    made.push()
    return made


def test_a_path_that_leads_elsewhere_after_the_first_look_is_not_followed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who owns the folder above, or serves it, may put a link to the home in its place."""
    shared, aside = tmp_path / "stick", tmp_path / "aside"

    def swapped(root: Path, **words: int | None) -> str:
        found = read_marker(root, **words)
        shared.rename(aside)
        shared.symlink_to(world.home)
        return found

    monkeypatch.setattr(folder, "read_marker", swapped)
    remote = FolderRemote(shared, want_id=world.remote.id)
    before = world.files()
    assert before
    assert not list(remote.list("projects/"))
    world.prune(opener=lambda _: remote)
    assert world.files() == before


def test_a_home_under_a_second_path_confirms_nothing(world: World) -> None:
    """A mount can show the home where a remote was, and no path tells."""
    (world.home / MARKER_FILE).write_bytes(f"localstore-remote 1\nid {world.remote.id}\n".encode())
    before = world.files()
    report = world.prune(opener=lambda _: FolderRemote(world.home))
    assert report.bytes == 0
    assert world.files() == before
    remote = FolderRemote(world.home)
    name = next(name for name in before if name.endswith(".log"))
    path = world.project.paths.file(name)
    with pytest.raises(Refused, match="itself"):
        remote.confirm(f"projects/{world.project.id}/{name}", 10, path)
    remote.close()


def test_a_folder_that_is_not_there_or_no_remote_is_let_go(tmp_path: Path) -> None:
    for place in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(Unreachable, match="no localstore remote"):
            FolderRemote(place)
    id_ = claim_folder(tmp_path / "stick")
    assert FolderRemote(tmp_path / "stick").id == id_
