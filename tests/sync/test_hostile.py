"""A remote that lies: everything is refused and named, in bounded memory, and the rest goes on."""

from __future__ import annotations

import os
import secrets
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from localstore import crypto
from localstore.format import segment, signed, spec
from localstore.format.spec import CertKind, DataClass
from localstore.layout import HomePaths
from localstored.remotes.base import Entry
from localstored.remotes.memory import MemoryRemote
from tests.sync.conftest import sync_with
from tests.sync.makers import Project, contents, frame, make_project
from tests.sync.recording import Around

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Liar(Around):
    """Tells other bytes, sizes and names than there are."""

    def __init__(self, inner: MemoryRemote) -> None:
        super().__init__(inner)
        self.bytes: dict[str, bytes] = {}
        self.sizes: dict[str, int] = {}
        self.more: list[Entry] = []
        self.confirms = True

    def list(self, prefix: str) -> Iterator[Entry]:
        for entry in super().list(prefix):
            size = len(self.bytes[entry.name]) if entry.name in self.bytes else entry.size
            yield Entry(entry.name, self.sizes.get(entry.name, size))
        yield from self.more

    def read(self, name: str, offset: int, length: int) -> bytes:
        if name in self.bytes:
            return self.bytes[name][offset : offset + length]
        return super().read(name, offset, length)

    def confirm(self, name: str, length: int, source: Path) -> bool:
        return self.confirms and super().confirm(name, length, source)


@pytest.fixture
def project(home: Path) -> Project:
    """A project with one run that refers to one object, known to the stick."""
    made = make_project(home)
    made.log(made.run(), DataClass.ARTIFACTS, refs=[made.object(size=3000)])
    return made


@pytest.fixture
def liar(home: Path, project: Project) -> Liar:
    """A remote that has all of it."""
    inner = MemoryRemote()
    assert sync_with(home, inner).ok
    return Liar(inner)


def one(liar: Liar, part: str) -> str:
    """The name of the first file with `part` in its name; of certificates, a device's."""
    names = [entry.name for entry in liar.inner.list("") if part in entry.name]
    if part == "/certs/":
        names = [name for name in names if cert_kind(liar, name) == CertKind.DEVICE]
    return min(names)


def cert_kind(liar: Liar, name: str) -> int:
    return signed.decode(content(liar, name), spec.CERT_MAGIC).kind


def content(liar: Liar, name: str) -> bytes:
    return liar.inner.read(name, 0, 1 << 20)


def flipped(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


@pytest.mark.parametrize("part", ["/certs/", "/keys/", "/objects/", ".log"])
@pytest.mark.parametrize("at", [0, 40, -1])
def test_a_changed_file_is_refused_and_the_others_arrive(
    liar: Liar, other: Path, project: Project, part: str, at: int
) -> None:
    name = one(liar, part)
    liar.bytes[name] = flipped(content(liar, name), at)

    report = sync_with(other, liar)

    assert not report.ok
    (found,) = report.projects
    assert name.split("/", 2)[2] in [note.name for note in found.refused]
    assert not (other / name).exists()
    arrived = {str(p.relative_to(other)) for p in (other / "projects").rglob("*") if p.is_file()}
    wanted = contents(liar.inner).keys() - {name}
    if part == "/certs/":
        assert found.pulled == len(wanted)
    assert wanted - arrived <= {n for n in wanted if "/objects/" in n and ".log" in part}


def test_without_the_founders_certificate_nobody_knows_what_is_erased_and_no_run_moves(
    liar: Liar, other: Path
) -> None:
    names = [entry.name for entry in liar.inner.list("") if "/certs/" in entry.name]
    name = next(name for name in names if cert_kind(liar, name) == CertKind.USER)
    liar.bytes[name] = flipped(content(liar, name), 100)
    report = sync_with(other, liar)
    (found,) = report.projects
    assert any("vouches for the founder" in note.reason for note in found.damaged)
    assert not list(other.glob("projects/*/runs/*"))


def test_a_changed_genesis_makes_no_project(liar: Liar, other: Path) -> None:
    name = one(liar, "/links/")
    liar.bytes[name] = flipped(content(liar, name), 100)
    report = sync_with(other, liar)
    assert not report.ok
    assert "no genesis link" in report.refused[0].reason
    assert not (other / "projects").exists()


@pytest.mark.parametrize("cut", [0, 1, 100, 400, -1])
def test_a_file_that_ends_early_is_refused(liar: Liar, other: Path, cut: int) -> None:
    name = one(liar, ".log")
    real = content(liar, name)
    liar.bytes[name] = real[:cut]
    liar.sizes[name] = len(real)
    report = sync_with(other, liar)
    assert [note.name for note in report.projects[0].refused] == [name.split("/", 2)[2]]
    assert not (other / name).exists()


@pytest.mark.parametrize("part", ["/runs/", "/certs/"])
def test_bytes_of_one_file_under_the_name_of_another_are_refused(
    liar: Liar, other: Path, project: Project, part: str
) -> None:
    names = sorted(e.name for e in liar.inner.list("") if part in e.name)
    left, right = [n for n in names if n.endswith(".log") or part == "/certs/"][:2]
    liar.bytes[left], liar.bytes[right] = content(liar, right), content(liar, left)
    report = sync_with(other, liar)
    refused = {note.name for note in report.projects[0].refused}
    assert refused >= {name.split("/", 2)[2] for name in (left, right)}


def test_a_segment_of_another_project_is_refused(liar: Liar, home: Path, other: Path) -> None:
    stranger = make_project(home)
    name = one(liar, ".log")
    subject, leaf = name.split("/")[3:5]
    foreign = stranger.log(subject, segment_id=bytes.fromhex(leaf.removesuffix(".log")))
    liar.bytes[name] = foreign.read_bytes()
    report = sync_with(other, liar)
    assert "another project" in report.projects[0].refused[0].reason


def test_frames_that_others_appended_without_the_key_are_still_whole_frames_only(
    liar: Liar, other: Path
) -> None:
    name = one(liar, ".log")
    liar.bytes[name] = content(liar, name) + b"LF" + bytes(200) + frame(3)
    report = sync_with(other, liar)
    assert not report.ok
    assert not (other / name).exists()


@pytest.mark.parametrize("size", [1 << 62, (64 << 30) + 1, -1])
def test_a_size_beyond_reason_is_refused_before_a_byte_is_asked(
    liar: Liar, other: Path, size: int
) -> None:
    name = one(liar, ".log")
    liar.sizes[name] = size
    report = sync_with(other, liar)
    assert not report.ok
    assert not (other / name).exists()


def test_hostile_names_are_refused_and_lead_nowhere(
    liar: Liar, other: Path, project: Project, tmp_path: Path
) -> None:
    liar.more = [
        Entry(name, 5)
        for name in (
            "../../evil",
            f"projects/{project.id}/../../../evil",
            f"projects/{project.id}/links/\0",
            f"projects/{project.id}/local/catalog.db",
            "x" * 100_000,
        )
    ]
    report = sync_with(other, liar)
    assert len(report.refused) == 5
    assert max(len(str(note)) for note in report.refused) < 1000
    assert report.projects[0].ok
    assert not list(tmp_path.rglob("evil"))


def test_a_growing_log_is_grown_only_by_what_fits(
    liar: Liar, home: Path, other: Path, project: Project
) -> None:
    assert sync_with(other, liar).ok
    name = one(liar, ".log")
    before = (other / name).read_bytes()
    for more in (bytes(300), flipped(frame(9), 30), b"LF" + b"\xff" * 300):
        liar.bytes[name] = before + more
        report = sync_with(other, liar)
        assert (other / name).read_bytes() == before
        assert report.projects[0].pulled == 0


def test_what_the_remote_does_not_confirm_is_no_success(home: Path, project: Project) -> None:
    liar = Liar(MemoryRemote(secrets.token_hex(8)))
    liar.confirms = False
    report = sync_with(home, liar)
    assert not report.ok
    assert report.projects[0].pushed == 0
    assert not (project.paths.receipts / f"{liar.id}.jsonl").exists()


def test_a_remote_cannot_put_a_file_in_place_of_ours(
    liar: Liar, home: Path, project: Project
) -> None:
    names = sorted(contents(liar.inner))
    before = {name: (home / name).read_bytes() for name in names}
    for path in (*project.paths.local.iterdir(), *project.paths.receipts.iterdir()):
        path.unlink()
    for name in names:
        if "FORMAT" not in name:
            liar.bytes[name] = b"evil" * 50
    sync_with(home, liar)
    assert {name: (home / name).read_bytes() for name in names} == before


_HUGE = """
import resource, sys
from pathlib import Path
from tests.sync.conftest import sync_with
from tests.sync.test_hostile import Endless
resource.setrlimit(resource.RLIMIT_AS, (600 << 20, 600 << 20))
remote = Endless(sys.argv[2], Path(sys.argv[3]).read_bytes())
report = sync_with(Path(sys.argv[1]), remote)
assert not report.ok
print(remote.asked, report.projects[0].refused[0])
"""


class Endless(MemoryRemote):
    """Offers a log of 6 GiB: a genuine beginning, then a frame of zeros without end."""

    def __init__(self, name: str, beginning: bytes) -> None:
        super().__init__()
        self.name, self.asked = name, 0
        self.beginning = beginning + struct.pack("<2sBBIQ", b"LF", 2, 0, 16 << 20, 9)

    def list(self, prefix: str) -> Iterator[Entry]:
        yield Entry(self.name, 6 << 30)

    def read(self, name: str, offset: int, length: int) -> bytes:
        self.asked += length
        return self.beginning[offset : offset + length].ljust(length, b"\0")


def test_an_endless_file_costs_neither_memory_nor_disk(home: Path, tmp_path: Path) -> None:
    """The whole process may have 600 MiB of addresses; the lie shows at the end of its frame."""
    project = make_project(home)
    log = project.log("11" * 16)
    name = f"projects/{project.id}/runs/{'11' * 16}/{log.name}"
    genuine = log.rename(tmp_path / "genuine")
    done = subprocess.run(
        [sys.executable, "-c", _HUGE, str(home), name, str(genuine)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    asked, _, note = done.stdout.partition(" ")
    assert int(asked) <= 24 << 20
    assert f"{log.name} at byte {genuine.stat().st_size}: a frame whose checksum" in note
    assert not list((project.paths.local / "incoming").iterdir())


def test_a_file_that_would_fill_the_disk_is_not_begun(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(home)
    remote = Endless(f"projects/{project.id}/runs/{'11' * 16}/{'22' * 16}.log", b"")
    facts = list(os.statvfs(home))
    facts[4] = 1000  # f_bavail
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(facts))
    report = sync_with(home, remote)
    assert "the disk has" in report.projects[0].errors[0].reason
    assert remote.asked == 0


def test_a_remote_of_more_names_than_anybody_has_is_left_alone(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("localstored.listing.MAX_NAMES", 3)
    project = make_project(home)
    remote = MemoryRemote()
    for index in range(5):
        remote.create(f"projects/{project.id}/links/{index:064x}", b"x")
    report = sync_with(home, remote)
    assert not report.ok
    assert "more than 3 files" in report.projects[0].errors[0].reason


def test_a_keyslot_for_another_recipient_than_its_name_says_is_refused(
    liar: Liar, other: Path, project: Project
) -> None:
    name = one(liar, "/keys/")
    folder, _, leaf = name.rpartition("/")
    data = content(liar, name)
    liar.inner.create(f"{folder}/{'00' * 16}-{leaf.partition('-')[2]}", data)
    report = sync_with(other, liar)
    assert "another subject or recipient" in report.projects[0].refused[0].reason


def test_a_tail_copy_of_anything_but_records_is_refused(
    liar: Liar, other: Path, project: Project
) -> None:
    raw = segment.encode_frame(spec.FrameType.REF, 0, bytes(32))
    name = one(liar, ".log").removesuffix(".log")
    tail = f"{name}-{crypto.digest(spec.LABEL_FILE, raw).hex()[:32]}.tail"
    liar.inner.create(tail, raw)
    report = sync_with(other, liar)
    assert "something else than records" in report.projects[0].refused[0].reason
    assert HomePaths(other).project(project.id).root.exists()
