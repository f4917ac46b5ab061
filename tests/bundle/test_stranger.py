"""The page is enough: a reader written from it alone agrees with ours, on good bytes and bad."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis.strategies as st
from hypothesis import given, settings

from localstore import crypto
from localstore.errors import Damaged
from localstore.format import spec
from localstored.remotes.bundlefile import BundleFile
from localstored.remotes.bundleformat import Assumed
from tests.bundle import stranger
from tests.bundle.test_bundle_file import KEYS, SIGNER, small
from tests.sync.contract import LINK, LOG, PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = [LOG, LINK, *KEYS[:6]]
PIECES = st.binary(max_size=40)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("grow"), st.integers(0, len(NAMES) - 1), PIECES),
        st.tuples(st.just("delete"), st.integers(0, len(NAMES) - 1), st.just(b"")),
        st.tuples(st.just("assume"), st.integers(0, len(NAMES) - 1), PIECES),
        st.tuples(st.just("reopen"), st.just(0), st.just(b"")),
        st.tuples(st.just("finish"), st.just(0), st.just(b"")),
    ),
    max_size=25,
)


def make(path: Path, steps: list[tuple[str, int, bytes]], part_bytes: int) -> dict[str, bytes]:
    """Carry out steps on a bundle, and on a dict; what is assumed is left out of that."""
    model: dict[str, bytes] = {}
    assumed: set[str] = set()
    bundle = BundleFile.for_writing(path, part_bytes=part_bytes, now_us=5)
    for step, index, data in steps:
        name = NAMES[index]
        match step:
            case "grow" if name in model:
                bundle.append(name, len(model[name]), data)
                model[name] += data
            case "grow" if name not in assumed:
                bundle.create(name, data)
                model[name] = data
            case "delete":
                bundle.delete(name)
                model.pop(name, None)
                assumed.discard(name)
            case "assume" if name not in model and name not in assumed:
                own = name.split("/", 2)[2]
                bundle.assume(PROJECT, [Assumed(own, len(data), crypto.sha256(data))])
                assumed.add(name)
            case "finish":
                bundle.finish([SIGNER], 6)
            case "reopen":
                bundle.close()
                bundle = BundleFile.for_writing(path, part_bytes=part_bytes)
    bundle.close()
    return model


def ours(path: Path) -> dict[str, bytes | None]:
    """What our reader offers; None where the bytes are damaged."""
    bundle = BundleFile.for_reading(path)
    found: dict[str, bytes | None] = {}
    for entry in bundle.list(""):
        try:
            found[entry.name] = bundle.read(entry.name, 0, entry.size)
        except Damaged:
            found[entry.name] = None
    bundle.close()
    return found


def agree(path: Path) -> stranger.Seen:
    """Hold the two readers against each other."""
    seen = stranger.read(path)
    assert ours(path) == seen.offered()
    findings = BundleFile.for_reading(path).findings
    assert len(findings.signatures) + findings.forged == len(seen.signed)
    assert findings.unchecked == seen.unchecked
    assert bool(findings.holes) == bool(seen.holes)
    assert len(findings.missing) == seen.missing
    assert len(findings.refused) == seen.refused
    assert findings.ended == seen.ended
    return seen


class _Folder:
    """A folder for one example."""

    def __enter__(self) -> Path:
        self.path = Path(tempfile.mkdtemp())
        return self.path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path)


@given(steps=STEPS, part_bytes=st.sampled_from([0, 500, 900]))
@settings(max_examples=150, deadline=None)
def test_both_readers_read_what_was_written(
    steps: list[tuple[str, int, bytes]], part_bytes: int
) -> None:
    with _Folder() as folder:
        model = make(folder / "a", steps, part_bytes)
        seen = agree(folder / "a")
        assert seen.offered() == model
        assert not (seen.holes or seen.refused or seen.missing)
        for device, message, signature in seen.signed:
            crypto.check_signature(device, spec.SIGN_BUNDLE, message, signature)


@given(
    steps=STEPS,
    part_bytes=st.sampled_from([0, 500]),
    harm=st.lists(
        st.tuples(st.sampled_from(["flip", "cut", "zero", "drop", "repeat"]), st.integers(0, 5000)),
        min_size=1,
        max_size=3,
    ),
)
@settings(max_examples=300, deadline=None)
def test_both_readers_make_the_same_of_what_was_damaged(
    steps: list[tuple[str, int, bytes]], part_bytes: int, harm: list[tuple[str, int]]
) -> None:
    with _Folder() as folder:
        make(folder / "a", steps, part_bytes)
        parts = sorted(folder.iterdir())
        for kind, at in harm:
            part = parts[at % len(parts)]
            if part.exists():
                _harm(part, kind, at)
        first = folder / "a"
        if first.exists() and len(raw := first.read_bytes()) >= 84 and stranger.is_header(raw):
            agree(first)


def _harm(part: Path, kind: str, at: int) -> None:
    raw = bytearray(part.read_bytes())
    at = 84 + at % max(1, len(raw) - 84)
    match kind:
        case "flip" if at < len(raw):
            raw[at] ^= 1 << (at % 8)
        case "cut":
            del raw[at:]
        case "zero":
            raw[at : at + 30] = bytes(len(raw[at : at + 30]))
        case "repeat":
            raw[at:at] = raw[84:at]
        case "drop" if part.name != "a":
            part.unlink()
            return
    part.write_bytes(raw)


def _cuts(path: Path) -> Iterator[int]:
    yield from range(84, path.stat().st_size)


def test_both_readers_agree_on_every_cut(tmp_path: Path) -> None:
    path, cut = tmp_path / "a", tmp_path / "cut"
    small(path)
    raw = path.read_bytes()
    for length in _cuts(path):
        cut.write_bytes(raw[:length])
        agree(cut)
