"""A bundle file is a remote like any other, and survives what happens to files on sticks."""

from __future__ import annotations

import secrets
import shutil
from typing import TYPE_CHECKING

import pytest

from localstore import crypto
from localstore.errors import Damaged, NotFound, Refused, UsageError
from localstore.format import spec
from localstored.remotes.base import MAX_PIECE_BYTES, Entry, Unreachable
from localstored.remotes.bundlefile import BundleFile, Signer
from localstored.remotes.bundleformat import PART_HEADER_BYTES, Assumed
from tests.sync.contract import LINK, LOG, OTHER, PROJECT, RemoteContract

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KEYS = [f"projects/{PROJECT}/keys/{'11' * 16}/{n:032x}-{'22' * 16}" for n in range(64)]
SEED = bytes(range(32))
SIGNER = Signer(
    crypto.sign_public(SEED), bytes(32), lambda label, message: crypto.sign(SEED, label, message)
)


def make_signer(seed: bytes) -> Signer:
    """A device that signs."""

    def sign(label: bytes, message: bytes) -> bytes:
        return crypto.sign(seed, label, message)

    return Signer(crypto.sign_public(seed), crypto.sha256(seed), sign)


def contents(path: Path) -> dict[str, bytes]:
    """Everything that a bundle offers; what cannot be read is left out."""
    bundle = BundleFile.for_reading(path)
    found = {}
    try:
        for entry in bundle.list(""):
            try:
                found[entry.name] = bundle.read(entry.name, 0, entry.size)
            except Damaged:
                continue
    finally:
        bundle.close()
    return found


def small(path: Path, *, part_bytes: int = 0, signed: bool = True) -> dict[str, bytes]:
    """A bundle with every kind of record; returns what it offers."""
    bundle = BundleFile.for_writing(path, part_bytes=part_bytes, now_us=7)
    bundle.assume(PROJECT, [Assumed(f"links/{'44' * 32}", 9, bytes(32))])
    bundle.create(LOG, b"abc")
    bundle.create(LINK, b"hello")
    bundle.append(LOG, 3, b"def")
    bundle.create(KEYS[0], b"gone")
    bundle.delete(KEYS[0])
    bundle.create(KEYS[1], b"")
    bundle.append(LOG, 6, b"ghi")
    bundle.finish([SIGNER] if signed else [], 8)
    bundle.close()
    return {LOG: b"abcdefghi", LINK: b"hello", KEYS[1]: b""}


class TestBundleFile(RemoteContract):
    @pytest.fixture
    def remote(self, tmp_path: Path) -> Iterator[BundleFile]:
        bundle = BundleFile.for_writing(tmp_path / "a.bundle")
        yield bundle
        bundle.close()


class TestBundleFileInParts(RemoteContract):
    """Each part has room for about one piece, so that every test crosses parts."""

    @pytest.fixture
    def remote(self, tmp_path: Path) -> Iterator[BundleFile]:
        bundle = BundleFile.for_writing(tmp_path / "a.bundle", part_bytes=MAX_PIECE_BYTES + 1000)
        yield bundle
        bundle.close()


# ------------------------------------------------------------------ what was written is there
def test_what_was_written_is_there_and_vouched_for_when_it_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "a.bundle"
    wanted = small(path)
    assert contents(path) == wanted
    bundle = BundleFile.for_reading(path)
    assert bundle.findings.whole
    (vouched,) = bundle.findings.signatures
    assert (vouched.device, vouched.time_us) == (SIGNER.device, 8)
    assert vouched.records == bundle.findings.records - 1
    assert list(bundle.projects()) == [PROJECT]
    bundle.close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_only_read_takes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.bundle"
    small(path)
    before = path.read_bytes()
    bundle = BundleFile.for_reading(path)
    attacks: list[Callable[[], None]] = [
        lambda: bundle.create(KEYS[5], b"x"),
        lambda: bundle.append(LOG, 9, b"x"),
        lambda: bundle.delete(LOG),
        lambda: bundle.finish([], 9),
    ]
    for attack in attacks:
        with pytest.raises(Refused):
            attack()
    bundle.close()
    assert path.read_bytes() == before


def test_a_finished_bundle_grows_on_and_is_vouched_for_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.bundle"
    wanted = small(path)
    bundle = BundleFile.for_writing(path)
    bundle.create(KEYS[2], b"more")
    bundle.close()
    assert not BundleFile.for_reading(path).findings.ended
    bundle = BundleFile.for_writing(path)
    bundle.finish([SIGNER], 9)
    bundle.finish([SIGNER], 10)
    bundle.close()
    assert contents(path) == {**wanted, KEYS[2]: b"more"}
    findings = BundleFile.for_reading(path).findings
    assert findings.whole
    assert [one.time_us for one in findings.signatures] == [8, 9]


def test_a_second_export_at_once_is_turned_away(tmp_path: Path) -> None:
    path = tmp_path / "a.bundle"
    bundle = BundleFile.for_writing(path)
    with pytest.raises(Unreachable, match="another export"):
        BundleFile.for_writing(path)
    bundle.close()
    BundleFile.for_writing(path).close()


@pytest.mark.parametrize("content", [b"x", b"holiday" * 1000, b"LSBX" + bytes(500), b"\0" * 90])
def test_another_file_is_never_written_over(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "thesis.doc"
    path.write_bytes(content)
    with pytest.raises(UsageError):
        BundleFile.for_writing(path)
    with pytest.raises(Damaged):
        BundleFile.for_reading(path)
    assert path.read_bytes() == content


def test_a_link_is_not_followed_and_a_folder_is_no_bundle(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    small(victim)
    before = victim.read_bytes()
    (tmp_path / "link").symlink_to(victim)
    for path in (tmp_path / "link", tmp_path):
        with pytest.raises((UsageError, Unreachable)):
            BundleFile.for_writing(path)
        with pytest.raises((UsageError, Unreachable)):
            BundleFile.for_reading(path)
    assert victim.read_bytes() == before


def test_a_bundle_of_a_newer_version_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.bundle"
    small(path)
    raw = bytearray(path.read_bytes())
    raw[8] = 2
    path.write_bytes(raw)
    with pytest.raises(Damaged, match="version 2"):
        BundleFile.for_reading(path)


# ------------------------------------------------------------------ cut
def prefixes(wanted: dict[str, bytes], found: dict[str, bytes]) -> bool:
    """Whether nothing was found but beginnings of what was written (or what was deleted later)."""
    allowed = {**wanted, KEYS[0]: b"gone"}
    return all(allowed[name].startswith(data) for name, data in found.items())


def test_a_cut_at_any_byte_leaves_what_is_whole_and_is_told(tmp_path: Path) -> None:
    path, cut = tmp_path / "a.bundle", tmp_path / "cut.bundle"
    wanted = small(path)
    raw, most = path.read_bytes(), 0
    for length in range(len(raw)):
        cut.write_bytes(raw[:length])
        if length < PART_HEADER_BYTES:
            with pytest.raises(Damaged):
                BundleFile.for_reading(cut)
            continue
        found = contents(cut)
        assert prefixes(wanted, found)
        most = max(most, len(found))
        findings = BundleFile.for_reading(cut).findings
        assert not (findings.whole and findings.signatures)
        assert not findings.forged
    assert most >= len(wanted)


def test_an_export_that_was_cut_at_any_byte_goes_on_there(tmp_path: Path) -> None:
    path, cut = tmp_path / "a.bundle", tmp_path / "cut.bundle"
    wanted = small(path)
    raw = path.read_bytes()
    for length in range(len(raw)):
        cut.write_bytes(raw[:length])
        bundle = BundleFile.for_writing(cut)
        for name, data in wanted.items():
            size = bundle.have([name]).get(name)
            if size is None:
                bundle.create(name, data[:3])
                size = len(data[:3])
            bundle.append(name, size, data[size:])
        bundle.delete(KEYS[0])
        bundle.finish([SIGNER], 11)
        bundle.close()
        assert contents(cut) == wanted
        findings = BundleFile.for_reading(cut).findings
        assert findings.whole
        assert findings.signatures


@pytest.mark.parametrize("part", [1, 2, 3])
def test_parts_that_were_cut_at_any_byte_go_on_there(tmp_path: Path, part: int) -> None:
    """A kill cuts the last part; what would have followed is not there yet."""
    whole = tmp_path / "whole"
    whole.mkdir()
    wanted = in_parts(whole / "a.bundle")
    raw = (whole / ("a.bundle" if part == 1 else f"a.bundle.{part:03d}")).read_bytes()
    for length in range(0, len(raw), 3):
        folder = tmp_path / "cut"
        folder.mkdir()
        for number in range(1, part):
            name = "a.bundle" if number == 1 else f"a.bundle.{number:03d}"
            shutil.copyfile(whole / name, folder / name)
        last = "a.bundle" if part == 1 else f"a.bundle.{part:03d}"
        (folder / last).write_bytes(raw[:length])
        bundle = BundleFile.for_writing(folder / "a.bundle", part_bytes=700)
        for name, data in wanted.items():
            if name not in bundle.have([name]):
                bundle.create(name, data)
        bundle.finish([SIGNER], 12)
        bundle.close()
        assert contents(folder / "a.bundle") == wanted, length
        assert BundleFile.for_reading(folder / "a.bundle").findings.whole
        shutil.rmtree(folder)


def test_a_power_cut_that_kept_heads_and_lost_data_costs_those_pieces(tmp_path: Path) -> None:
    path = tmp_path / "a.bundle"
    bundle = BundleFile.for_writing(path)
    for name in KEYS[:4]:
        bundle.create(name, name.encode())
    bundle.close()
    raw = bytearray(path.read_bytes())
    at = raw.find(KEYS[2].encode(), raw.find(KEYS[2].encode()) + 1)
    raw[at : at + 20] = bytes(20)
    path.write_bytes(raw)
    bundle = BundleFile.for_writing(path)
    assert sorted(entry.name for entry in bundle.list("")) == KEYS[:2]
    bundle.create(KEYS[2], b"again")
    bundle.close()
    assert contents(path)[KEYS[2]] == b"again"


def test_the_file_that_a_cut_left_incomplete_is_not_offered(tmp_path: Path) -> None:
    path = tmp_path / "a.bundle"
    name = f"projects/{PROJECT}/objects/{'55' * 32}".replace("objects/", "objects/55/")
    bundle = BundleFile.for_writing(path)
    bundle.create(LINK, b"hello")
    bundle.create(name, bytes(MAX_PIECE_BYTES))
    bundle.close()
    bundle = BundleFile.for_reading(path)
    assert bundle.incomplete == name
    assert list(bundle.list("")) == [Entry(LINK, 5)]
    bundle.close()


# ------------------------------------------------------------------ flipped
def test_a_flip_of_any_byte_is_told_and_never_believed(tmp_path: Path) -> None:
    path, bad = tmp_path / "a.bundle", tmp_path / "bad.bundle"
    wanted = small(path)
    raw = path.read_bytes()
    deleted = range(raw.index(b"gone"), raw.index(b"gone") + 4)
    lost = []
    for at in range(len(raw)):
        changed = bytearray(raw)
        changed[at] ^= 1 << (at % 8)
        bad.write_bytes(changed)
        try:
            bundle = BundleFile.for_reading(bad)
        except Damaged:
            assert at < PART_HEADER_BYTES
            continue
        damaged = not bundle.findings.whole or bundle.findings.forged
        unread = 0
        for entry in bundle.list(""):
            try:
                bundle.read(entry.name, 0, entry.size)
            except Damaged:
                unread += 1
        bundle.close()
        assert damaged or unread or at in deleted, at
        found = contents(bad)
        assert prefixes(wanted, found), at
        lost.append(len(wanted) - len(found))
    assert max(lost) <= 1, "damage costs the file that it hit"


# ------------------------------------------------------------------ parts
def in_parts(path: Path, count: int = 8) -> dict[str, bytes]:
    """A bundle of several parts, each with a few files."""
    bundle = BundleFile.for_writing(path, part_bytes=700, now_us=7)
    for name in KEYS[:count]:
        bundle.create(name, name.encode()[-40:])
    bundle.finish([SIGNER], 8)
    bundle.close()
    return {name: name.encode()[-40:] for name in KEYS[:count]}


def test_each_part_is_smaller_than_was_asked(tmp_path: Path) -> None:
    wanted = in_parts(tmp_path / "a.bundle")
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files][:3] == ["a.bundle", "a.bundle.002", "a.bundle.003"]
    assert len(files) >= 4
    assert all(file.stat().st_size < 700 for file in files)
    assert contents(tmp_path / "a.bundle") == wanted
    findings = BundleFile.for_reading(tmp_path / "a.bundle").findings
    assert findings.whole
    assert findings.signatures
    assert findings.parts == len(files)


def test_a_piece_that_fits_no_part_is_refused(tmp_path: Path) -> None:
    bundle = BundleFile.for_writing(tmp_path / "a.bundle", part_bytes=700)
    with pytest.raises(Refused, match="do not fit"):
        bundle.create(LINK, bytes(1000))
    bundle.create(LINK, b"1")
    bundle.close()
    assert contents(tmp_path / "a.bundle") == {LINK: b"1"}


def remove(folder: Path) -> None:
    (folder / "a.bundle.002").unlink()


def swap(folder: Path) -> None:
    (folder / "a.bundle.002").rename(folder / "x")
    (folder / "a.bundle.003").rename(folder / "a.bundle.002")
    (folder / "x").rename(folder / "a.bundle.003")


def replace(folder: Path) -> None:
    in_parts(folder / "b.bundle")
    (folder / "b.bundle.002").replace(folder / "a.bundle.002")


def cut(folder: Path) -> None:
    part = folder / "a.bundle.002"
    part.write_bytes(part.read_bytes()[:-150])


def overwrite(folder: Path) -> None:
    (folder / "a.bundle.002").write_bytes(b"holiday")


def link(folder: Path) -> None:
    (folder / "a.bundle.002").rename(folder / "x")
    (folder / "a.bundle.002").symlink_to(folder / "x")


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (remove, "a.bundle.002 is missing"),
        (swap, "a.bundle.002 is part 3 of this bundle"),
        (replace, "a.bundle.002 belongs to another bundle"),
        (cut, "a.bundle.002 at byte"),
        (overwrite, "a.bundle.002"),
        (link, "a.bundle.002 is a link"),
    ],
)
def test_a_part_that_is_not_what_it_should_be_is_named_and_the_others_are_used(
    tmp_path: Path, harm: Callable[[Path], None], said: str
) -> None:
    wanted = in_parts(tmp_path / "a.bundle", 24)
    harm(tmp_path)
    found = contents(tmp_path / "a.bundle")
    assert 3 <= len(found) < len(wanted)
    assert found.items() <= wanted.items()
    bundle = BundleFile.for_reading(tmp_path / "a.bundle")
    assert any(said in problem for problem in bundle.findings.missing + bundle.findings.holes)
    assert not bundle.findings.whole
    assert not bundle.findings.signatures
    assert bundle.findings.unchecked == 1
    bundle.close()
    with pytest.raises(Damaged, match=r"a\.bundle\.002"):
        BundleFile.for_writing(tmp_path / "a.bundle")


def test_the_last_parts_missing_is_not_an_end(tmp_path: Path) -> None:
    in_parts(tmp_path / "a.bundle", 24)
    for path in sorted(tmp_path.iterdir())[3:]:
        path.unlink()
    findings = BundleFile.for_reading(tmp_path / "a.bundle").findings
    assert any("a.bundle.004 is missing" in problem for problem in findings.missing)
    assert not findings.ended


def test_parts_of_an_old_bundle_are_not_taken_for_those_of_a_new_one(tmp_path: Path) -> None:
    in_parts(tmp_path / "a.bundle")
    (tmp_path / "a.bundle").unlink()
    with pytest.raises(UsageError, match=r"a\.bundle\.002 is there"):
        BundleFile.for_writing(tmp_path / "a.bundle")


# ------------------------------------------------------------------ what is assumed
def test_what_is_assumed_counts_as_there_for_the_sender_and_not_for_the_receiver(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.bundle"
    bundle = BundleFile.for_writing(path)
    digest = crypto.sha256(b"abc")
    name = LOG.split("/", 2)[2]
    bundle.assume(PROJECT, [Assumed(name, 3, digest), Assumed("FORMAT", 5, digest)])
    assert bundle.have([LOG]) == {LOG: 3}
    assert bundle.digest(LOG, 3) == digest
    with pytest.raises(Refused, match="not in this bundle"):
        bundle.read(LOG, 0, 3)
    with pytest.raises(Refused):
        bundle.digest(LOG, 2)
    bundle.append(LOG, 3, b"def")
    bundle.close()
    bundle = BundleFile.for_reading(path)
    assert list(bundle.list("")) == []
    assert bundle.unmet() == [LOG]
    bundle.close()


@pytest.mark.parametrize("here", [None, b"", b"ab", b"abX", b"abc", b"abcd", b"abcdefgh"])
def test_the_end_of_a_log_is_offered_where_its_beginning_is_here(
    tmp_path: Path, here: bytes | None
) -> None:
    path, local = tmp_path / "a.bundle", tmp_path / "log"
    if here is not None:
        local.write_bytes(here)
    bundle = BundleFile.for_writing(path)
    bundle.assume(PROJECT, [Assumed(LOG.split("/", 2)[2], 3, crypto.sha256(b"abc"))])
    bundle.append(LOG, 3, b"def")
    source = tmp_path / "source"
    source.write_bytes(b"abcdef")
    assert bundle.confirm(LOG, 6, source)
    source.write_bytes(b"abXdef")
    assert not bundle.confirm(LOG, 6, source)
    bundle.close()

    bundle = BundleFile.for_reading(path, local=lambda name: local if name == LOG else None)
    if here is None or not here.startswith(b"abc"):
        assert list(bundle.list("")) == []
        with pytest.raises(NotFound):
            bundle.read(LOG, 0, 1)
    else:
        assert list(bundle.list("")) == [Entry(LOG, 6)]
        assert bundle.read(LOG, 0, 9) == b"abcdef"
        assert bundle.digest(LOG, 5) == crypto.sha256(b"abcde")
    bundle.close()


def test_a_signature_by_a_device_over_other_records_is_forged(tmp_path: Path) -> None:
    path = tmp_path / "a.bundle"
    bundle = BundleFile.for_writing(path)
    bundle.create(LINK, b"hello")

    def sign(label: bytes, message: bytes) -> bytes:
        return crypto.sign(SEED, label, message + b"x")

    bundle.finish([Signer(SIGNER.device, bytes(32), sign), make_signer(secrets.token_bytes(32))], 1)
    bundle.close()
    findings = BundleFile.for_reading(path).findings
    assert findings.forged == 1
    assert len(findings.signatures) == 1


def test_a_signature_for_another_purpose_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.bundle"
    bundle = BundleFile.for_writing(path)

    def sign(label: bytes, message: bytes) -> bytes:
        assert label == spec.SIGN_BUNDLE
        return crypto.sign(SEED, spec.SIGN_RECEIPT, message)

    bundle.finish([Signer(SIGNER.device, bytes(32), sign)], 1)
    bundle.close()
    assert BundleFile.for_reading(path).findings.forged == 1


def test_projects_of_a_bundle_are_listed_each_once(tmp_path: Path) -> None:
    bundle = BundleFile.for_writing(tmp_path / "a.bundle")
    for name in (LINK, LOG, f"projects/{OTHER}/FORMAT"):
        bundle.create(name, b"x")
    assert sorted(bundle.projects()) == sorted([PROJECT, OTHER])
    bundle.close()
