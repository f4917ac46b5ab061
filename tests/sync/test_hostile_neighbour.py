"""Of two remotes one is hostile: it is named, costs little, and the other one gets everything."""

from __future__ import annotations

import itertools
import os
import secrets
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from localstore.layout import HomePaths
from localstored.remotes import open_remote
from localstored.remotes.base import Busy, Entry, Unreachable
from localstored.remotes.memory import MemoryRemote
from tests.sync.conftest import sync, sync_with
from tests.sync.makers import Project, contents, make_project, synced_bytes, with_remote
from tests.sync.recording import Around

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

    from localstore.remotes import RemoteEntry
    from localstored.remotes.base import Remote

ATTACKS = {
    "huge lengths": "",
    "wrong hashes": "",
    "path tricks": "",
    "slow bodies": "no byte came for a while",
    "endless lists": "more than",
    "endless projects": "more than",
    "sizes that are no sizes": "",
    "bytes without end": "",
    "an answer of another length": "",
}


class Evil(Around):
    """A remote that has the project, and lies about it in one way."""

    def __init__(self, inner: Remote, attack: str) -> None:
        super().__init__(inner)
        self.attack = attack

    def list(self, prefix: str) -> Iterator[Entry]:
        entries = list(super().list(prefix))
        project = entries[0].name.split("/")[1] if entries else "00" * 32
        match self.attack:
            case "huge lengths":
                yield from (Entry(entry.name, 1 << 62) for entry in entries)
            case "sizes that are no sizes":
                yield from (Entry(entry.name, -5) for entry in entries)
            case "path tricks":
                yield from entries
                for name in ("../../evil", f"projects/{project}/../../evil", "/evil", "evil\0"):
                    yield Entry(name, 4)
                yield Entry(f"projects/{project}/local/evil", 4)
            case "endless lists":
                yield from entries
                for number in itertools.count():
                    yield Entry(f"projects/{project}/objects/{number % 256:02x}/{number:064x}", 10)
            case _:
                yield from entries

    def projects(self) -> Iterator[str]:
        yield from super().projects()
        if self.attack == "endless projects":
            yield from (f"{number:064x}" for number in itertools.count())
        if self.attack == "path tricks":
            yield from ("..", "../../evil", "a/b", "\0", "x" * 100_000)

    def have(self, names: Collection[str]) -> Mapping[str, int]:
        found = super().have(names)
        return {name: 1 << 62 for name in found} if self.attack == "huge lengths" else found

    def read(self, name: str, offset: int, length: int) -> bytes:
        data = super().read(name, offset, length)
        match self.attack:
            case "wrong hashes":
                return bytes(byte ^ 1 for byte in data)
            case "slow bodies":  # what a wrapper makes of one that drips
                raise Busy("no byte came for a while")
            case "bytes without end":
                return data + bytes(4 << 20)
            case "an answer of another length":
                return data[: len(data) // 2]
        return data


def evil_beside_good(home: Path, attack: str, evil: Remote) -> Callable[[RemoteEntry], Remote]:
    """An opener: the remote `evil` is evil, the other is what it is."""
    return lambda entry: Evil(evil, attack) if entry.name == "evil" else open_remote(entry)


def two_remotes(folder: Path) -> tuple[Path, Path, MemoryRemote, Project]:
    """A home, a good stick that lacks its project, and a remote that has news of another one."""
    home, stick, source = folder / "home", folder / "stick", folder / "source"
    with_remote(home, folder / "evil", "evil")  # is asked first
    with_remote(home, stick, "good")
    HomePaths(source).root.mkdir()
    theirs = make_project(source)
    theirs.log(theirs.run(), refs=[theirs.object(size=3000)])
    inner = MemoryRemote(secrets.token_hex(8))
    fill(inner, source)
    assert sync_with(home, inner).ok
    for path in home.rglob("catalog.db*"):
        path.unlink()  # nothing is remembered of it but what is here
    theirs.log(theirs.run(), refs=[theirs.object(size=3000)])
    fill(inner, source)
    ours = make_project(home)
    ours.log(ours.run(), refs=[ours.object(size=3000)])
    return home, stick, inner, ours


def fill(remote: MemoryRemote, source: Path) -> None:
    """Put there what a home holds."""
    for name, data in synced_bytes(source).items():
        remote.create(name, data)


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_other_remote_gets_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attack: str
) -> None:
    monkeypatch.setattr("localstored.listing.MAX_NAMES", 5000)
    monkeypatch.setattr("localstored.listing.MAX_PROJECTS", 5000)
    home, stick, inner, ours = two_remotes(tmp_path)
    before = contents(inner)
    report = sync(home, opener=evil_beside_good(home, attack, inner))
    assert not report.ok
    told = repr(report.to_json())
    assert ATTACKS[attack] in told
    assert len(told) < 200_000
    good = [one for one in report.projects if one.remote == "good" and one.project == ours.id]
    assert good[0].ok
    assert "good" not in report.failed
    own = f"projects/{ours.id}/"
    here = {name: data for name, data in synced_bytes(home).items() if name.startswith(own)}
    there = {name: data for name, data in synced_bytes(stick).items() if name.startswith(own)}
    assert here == there
    assert not list(tmp_path.rglob("evil*/*evil")), "no name leads anywhere"
    assert not [path for path in home.rglob("*") if "evil" in path.name]
    for name, data in synced_bytes(home).items():
        assert name.startswith(own) or before[name] == data, "what was taken is what was made"


def test_a_remote_that_goes_in_the_middle_stops_no_other(tmp_path: Path) -> None:
    class Going(Around):
        def create(self, name: str, data: bytes) -> None:
            raise Unreachable("the plug was pulled")

    home, stick, inner, ours = two_remotes(tmp_path)
    report = sync(home, opener=lambda e: Going(inner) if e.name == "evil" else open_remote(e))
    assert "plug" in report.failed["evil"]
    assert "good" not in report.failed
    assert (stick / "projects" / ours.id / "runs").is_dir()


_BOUNDED = """
import resource, sys
from pathlib import Path
from localstored.remotes.memory import MemoryRemote
from tests.sync.conftest import sync
from tests.sync.test_hostile_neighbour import evil_beside_good, fill
resource.setrlimit(resource.RLIMIT_AS, (700 << 20, 700 << 20))
home, source, attack = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
inner = MemoryRemote()
fill(inner, source)
report = sync(home, opener=evil_beside_good(home, attack, inner))
assert not report.ok
assert "good" not in report.failed, report.failed
"""


@pytest.mark.parametrize("attack", ["endless projects", "huge lengths"])
def test_whatever_it_says_takes_no_memory(tmp_path: Path, attack: str) -> None:
    """The whole process may have 700 MiB of addresses, and a remote names more than fits there."""
    home, stick, _, ours = two_remotes(tmp_path)
    words = [sys.executable, "-c", _BOUNDED, str(home), str(tmp_path / "source"), attack]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, env={**os.environ})
    assert done.returncode == 0, done.stderr
    assert (stick / "projects" / ours.id / "runs").is_dir()


def test_a_new_project_that_comes_too_slowly_is_named_for_that_and_comes_later(
    tmp_path: Path,
) -> None:
    home, stick, inner, ours = two_remotes(tmp_path)
    fresh = HomePaths(tmp_path / "fresh").root
    with_remote(fresh, tmp_path / "evil", "evil")
    with_remote(fresh, stick, "good")
    assert sync(home, remotes=["good"], projects=[ours.id]).ok
    report = sync(fresh, opener=evil_beside_good(fresh, "slow bodies", inner))
    assert [note.reason for note in report.refused] == [
        "cannot be looked at now: no byte came for a while"
    ]
    assert (fresh / "projects" / ours.id / "runs").is_dir()
    assert sync(fresh, opener=evil_beside_good(fresh, "", inner)).ok
    assert synced_bytes(fresh).items() >= contents(inner).items()
