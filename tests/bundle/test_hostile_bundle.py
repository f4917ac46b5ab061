"""Bundles that somebody made to harm: bounded memory and time, nothing written, clear words."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from typing import TYPE_CHECKING

import pytest

from localstore import crypto
from localstore.errors import Damaged, LocalStoreError, NotFound
from localstored.remotes import bundleindex
from localstored.remotes.bundlefile import BundleFile
from localstored.remotes.bundleformat import (
    MARK,
    PART_HEADER_BYTES,
    Assumed,
    Kind,
    PartHeader,
    encode_assumed,
)
from tests.bundle.test_bundle_file import KEYS, contents, small
from tests.sync.contract import HOSTILE_NAMES, LINK, LOG, PROJECT

if TYPE_CHECKING:
    from pathlib import Path

HEADER = PartHeader(bytes(8), 1, 7)


def craft(path: Path, *records: tuple[Kind | int, str, bytes, int]) -> Path:
    """A bundle of records as they are given: kind, name, data, offset."""
    raw = HEADER.encode()
    for index, (kind, name, data, offset) in enumerate(records):
        raw += head(kind, index, name.encode("latin-1", "replace"), data, offset) + data
    path.write_bytes(raw)
    return path


def head(
    kind: int, index: int, name: bytes, data: bytes, offset: int = 0, length: int | None = None
) -> bytes:
    """The head of a record that our writer would never make."""
    claimed = len(data) if length is None else length
    raw = struct.pack(
        "<4sBBHIQQ32s",
        MARK,
        kind,
        0,
        len(name) & 0xFFFF,
        claimed,
        offset,
        index,
        crypto.sha256(data),
    )
    raw += name
    return raw + struct.pack("<I", zlib.crc32(raw))


@pytest.mark.parametrize("kind", [Kind.PUT, Kind.DELETE])
@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_hostile_name_is_refused_and_the_rest_is_read(
    tmp_path: Path, kind: Kind, name: str
) -> None:
    path = craft(
        tmp_path / "a", (Kind.PUT, LINK, b"1", 0), (kind, name, b"", 0), (Kind.PUT, LOG, b"2", 0)
    )
    found = BundleFile.for_reading(path)
    assert found.findings.refused or found.findings.holes  # names over 256 bytes make no head
    assert contents(path) == {LINK: b"1", LOG: b"2"}
    assert all(len(problem) < 1000 for problem in found.findings.refused)
    found.close()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a"]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_hostile_name_is_never_assumed(tmp_path: Path, name: str) -> None:
    raw = name.encode("latin-1", "replace")
    data = struct.pack("<Q32sH", 5, bytes(32), len(raw)) + raw
    path = craft(tmp_path / "a", (Kind.ASSUMED, "", data, 0), (Kind.PUT, LOG, b"2", 0))
    asked: list[str] = []

    def local(wanted: str) -> Path | None:
        asked.append(wanted)
        return None

    bundle = BundleFile.for_reading(path, local=local)
    assert set(bundle.files) == {LOG}
    assert len(bundle.findings.refused) == 1
    assert bundle.unmet() == asked == []
    bundle.close()


@pytest.mark.parametrize(
    "second",
    [
        (Kind.PUT, LOG, b"xyz", 0),
        (Kind.PUT, LOG, b"xyz", 2),
        (Kind.PUT, LOG, b"xyz", 4),
        (Kind.PUT, LOG, b"xyz", (1 << 64) - 1),
        (Kind.PUT, LOG, b"", 3),
        (Kind.DELETE, LOG, b"", 1),
        (Kind.END, "", b"", 9),
        (7, "", b"", 0),
        (63, "", b"", 0),
        (200, "", b"", 0),
        (Kind.SIGNATURE, "", b"short", 0),
        (Kind.ASSUMED, f"projects/{PROJECT}/", b"short", 0),
        (
            Kind.ASSUMED,
            f"projects/{PROJECT}/",
            b"".join(encode_assumed([Assumed(LOG.split("/", 2)[2], 9, bytes(32))])),
            0,
        ),
    ],
)
def test_a_record_that_does_not_fit_changes_nothing(
    tmp_path: Path, second: tuple[Kind | int, str, bytes, int]
) -> None:
    path = craft(tmp_path / "a", (Kind.PUT, LOG, b"abc", 0), second, (Kind.PUT, LINK, b"1", 0))
    assert contents(path) == {LOG: b"abc", LINK: b"1"}
    findings = BundleFile.for_reading(path).findings
    assert len(findings.refused) == 1
    assert not findings.whole


@pytest.mark.parametrize("kind", [64, 100, 127])
def test_a_record_of_a_later_kind_is_passed_over(tmp_path: Path, kind: int) -> None:
    path = craft(tmp_path / "a", (kind, "", b"later", 0), (Kind.PUT, LOG, b"abc", 0))
    assert contents(path) == {LOG: b"abc"}
    assert not BundleFile.for_reading(path).findings.refused


@pytest.mark.parametrize("length", [5, (4 << 20) + 1, (1 << 32) - 1])
def test_a_length_that_is_a_lie_takes_no_memory(tmp_path: Path, length: int) -> None:
    path = tmp_path / "a"
    path.write_bytes(HEADER.encode() + head(Kind.PUT, 0, LOG.encode(), b"abc", 0, length) + b"abc")
    assert contents(path) == {}
    assert BundleFile.for_reading(path).findings.holes


def test_assumed_sizes_beyond_reason_are_refused(tmp_path: Path) -> None:
    name = LOG.split("/", 2)[2]
    data = b"".join(encode_assumed([Assumed(name, (1 << 62) + 1, bytes(32))]))
    path = craft(tmp_path / "a", (Kind.ASSUMED, f"projects/{PROJECT}/", data, 0))
    assert not BundleFile.for_reading(path).files


def test_what_is_assumed_twice_is_refused(tmp_path: Path) -> None:
    name = LOG.split("/", 2)[2]
    data = b"".join(encode_assumed([Assumed(name, 3, bytes(32))] * 2))
    path = craft(tmp_path / "a", (Kind.ASSUMED, f"projects/{PROJECT}/", data, 0))
    assert not BundleFile.for_reading(path).files


def test_a_bundle_of_more_files_than_anybody_has_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundleindex, "MAX_FILES", 3)
    path = craft(tmp_path / "a", *((Kind.PUT, name, b"", 0) for name in KEYS[:6]))
    bundle = BundleFile.for_reading(path)
    assert len(bundle.files) == 3
    assert len(bundle.findings.refused) == 3
    bundle.close()


def test_a_bundle_of_more_pieces_than_anybody_has_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundleindex, "MAX_EXTENTS", 3)
    path = craft(tmp_path / "a", *((Kind.PUT, LOG, b"x", at) for at in range(6)))
    bundle = BundleFile.for_reading(path)
    assert bundle.have([LOG]) == {LOG: 3}
    bundle.close()


def test_notes_about_a_hostile_bundle_are_bounded(tmp_path: Path) -> None:
    path = craft(tmp_path / "a", *((Kind.PUT, "../x", b"", 0) for _ in range(5000)))
    assert len(BundleFile.for_reading(path).findings.refused) == 100


_HUGE = """
import resource, sys, time
from pathlib import Path
from localstored.remotes.bundlefile import BundleFile
resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))
began = time.process_time()
bundle = BundleFile.for_reading(Path(sys.argv[1]))
assert not list(bundle.list(""))
assert bundle.findings.holes
print(time.process_time() - began)
"""


@pytest.mark.parametrize("filling", [b"\0", MARK, MARK + bytes(56), b"LSB"])
def test_a_huge_file_of_nothing_or_of_marks_costs_little(tmp_path: Path, filling: bytes) -> None:
    """16 MiB, and a hole of 1 TiB behind; 400 MiB of addresses, and seconds of work."""
    path = tmp_path / "a"
    with path.open("wb") as file:
        file.write(HEADER.encode())
        file.write(filling * ((16 << 20) // len(filling)))
        os.truncate(file.fileno(), 1 << 40)
    done = subprocess.run(
        [sys.executable, "-c", _HUGE, str(path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 10


@pytest.mark.parametrize("marks", [1, 5000])
def test_damage_among_many_marks_does_not_hide_what_follows(tmp_path: Path, marks: int) -> None:
    path = craft(tmp_path / "a", (Kind.PUT, LOG, MARK * marks, 0), (Kind.PUT, LINK, b"1", 0))
    raw = bytearray(path.read_bytes())
    raw[PART_HEADER_BYTES + 8] ^= 1
    path.write_bytes(raw)
    assert contents(path) == {LINK: b"1"}


def test_a_pipe_a_folder_and_nothing_are_no_bundles(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path, tmp_path / "nothing"):
        with pytest.raises(LocalStoreError):
            BundleFile.for_reading(path)
    with pytest.raises(NotFound):
        BundleFile.for_reading(tmp_path / "nothing")


def test_a_part_that_is_not_the_first_is_no_bundle(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(PartHeader(bytes(8), 2, 7, 100, 3, bytes(32)).encode())
    with pytest.raises(Damaged, match="not the first part"):
        BundleFile.for_reading(path)


def test_bytes_that_change_after_they_were_listed_are_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    small(path)
    bundle = BundleFile.for_reading(path)
    raw = bytearray(path.read_bytes())
    at = raw.index(b"hello")
    raw[at] ^= 1
    path.write_bytes(raw)
    with pytest.raises(Damaged, match="hash"):
        bundle.read(LINK, 0, 5)
    with pytest.raises(Damaged):
        bundle.digest(LINK, 5)
    source = tmp_path / "source"
    source.write_bytes(b"hello")
    assert not bundle.confirm(LINK, 5, source)
    bundle.close()


def test_a_bundle_that_shrinks_under_the_reader_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a"
    small(path)
    bundle = BundleFile.for_reading(path)
    os.truncate(path, 200)
    with pytest.raises(Damaged):
        bundle.read(LOG, 0, 9)
    bundle.close()
