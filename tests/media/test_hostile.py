"""Stored media that somebody else wrote: what they claim costs nothing, and nothing is run."""

from __future__ import annotations

import contextlib
import io
import pickle
import struct
import tarfile
import wave
import zipfile
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localstore.errors import Damaged, NotFound, UsageError
from localstore.media import Audio, Image, Object3D, Table, plot
from localstore.media.headers import picture_header
from localstore.media.pictures import MAX_PIXELS, open_bounded
from localstore.media.png import encode
from localstore.media.reading import KINDS, from_file, from_record
from tests.media.conftest import Shelf

FORMATS = {
    "image-file": "png",
    "video-file": "gif",
    "audio-file": "wav",
    "text-file": "txt",
    "html-file": "html",
    "plotly-file": "plotly.json",
    "object3D-file": "pts.npy",
    "table-file": "table.json",
    "custom-chart": "chart.json",
}


class Trap:
    """Whoever unpickles it is caught."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("something was unpickled",)


def stored(kind: str, content: bytes, **facts: Any) -> Any:
    return from_file("a", {"kind": kind, "format": FORMATS[kind], **facts}, lambda path: content)


def use(media: Any) -> None:
    """Look at everything that media can show."""
    for name in ("to_pil", "to_numpy", "to_vega_lite", "files", "facts", "counts"):
        if hasattr(media, name):
            getattr(media, name)()
    for name in ("figure", "html", "text", "content", "content_type"):
        getattr(media, name, None)


def huge_png(width: int, height: int) -> bytes:
    """A PNG of some hundred bytes that claims to be enormous."""

    def chunk(name: bytes, body: bytes) -> bytes:
        crc = zlib.crc32(body, zlib.crc32(name))
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", crc)

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000)))


@pytest.mark.parametrize(
    ("width", "height"), [(100_000, 100_000), (1 << 31, 1 << 31), (MAX_PIXELS + 1, 1)]
)
def test_a_bomb_of_pixels_is_refused_before_it_is_decoded(width: int, height: int) -> None:
    with pytest.raises(Damaged, match="pixels"):
        stored("image-file", huge_png(width, height)).to_pil()


def test_a_tiff_is_kept_and_not_decoded() -> None:
    tiff = stored("image-file", b"II*\0" + bytes(100), format="tiff")

    assert tiff.content[:2] == b"II"
    with pytest.raises(UsageError, match="never drawn"):
        tiff.to_pil()
    with pytest.raises(Damaged):  # also where it calls itself a PNG
        stored("image-file", b"II*\0" + bytes(100)).to_pil()


def test_a_file_with_a_pickle_inside_is_not_unpickled() -> None:
    out = io.BytesIO()
    np.save(out, np.array([Trap()], dtype=object), allow_pickle=True)
    for kind in KINDS:
        for content in (out.getvalue(), pickle.dumps(Trap())):
            with contextlib.suppress(Damaged, UsageError):
                use(stored(kind, content))


@pytest.mark.parametrize("claim", [(1 << 40, 3), (10, 5), (3,), (0, 0, 3), (-1, 3)])
def test_an_array_of_points_that_claims_too_much_is_refused(claim: tuple[int, ...]) -> None:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        out, {"shape": claim, "fortran_order": False, "descr": "<f4"}
    )
    with pytest.raises(Damaged):
        stored("object3D-file", out.getvalue() + bytes(120)).to_numpy()


def test_a_wav_that_claims_too_much_costs_only_its_size() -> None:
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(100))
    raw = bytearray(out.getvalue())
    raw[40:44] = b"\xff\xff\xff\x7f"

    assert len(stored("audio-file", bytes(raw)).to_numpy()[0]) <= 50


def test_archives_are_never_unpacked() -> None:
    tar, packed = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../../evil"))
    with zipfile.ZipFile(packed, "w") as zipped:
        zipped.writestr("../../evil", "x")
    for content in (tar.getvalue(), packed.getvalue()):
        assert stored("text-file", content).content == content
        with pytest.raises(Damaged):
            stored("image-file", content).to_pil()


def test_what_could_run_scripts_is_served_as_text() -> None:
    page = b"<script>alert(1)</script>"
    for kind, form in (("html-file", "html"), ("image-file", "svg"), ("text-file", "txt")):
        media = stored(kind, page, format=form)

        assert media.content_type.startswith("text/plain")
        assert media.content == page


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "facts",
    [
        {"format": "exe"},
        {"format": None},
        {"format": ["png"]},
        {"caption": 5},
        {"width": -1},
        {"width": "9"},
        {"points": 1 << 70},
        {"frames": True},
        {"files": {"mask/a": "../../x"}},
        {"files": {"mask/a": "/etc/passwd"}},
        {"files": [1]},
        {"files": {"classes": "a"}},
        {"files": {"boxes": "a"}},
    ],
    ids=str,
)
def test_facts_that_lie_are_damaged_or_ignored(kind: str, facts: dict[str, Any]) -> None:
    with contextlib.suppress(Damaged, UsageError):  # and nothing else
        assert stored(kind, b"\0", **facts).kind == kind


@pytest.mark.parametrize(
    "facts", [{}, {"kind": "video"}, {"kind": None}, {"kind": ["image-file"]}, {"kind": "os.path"}]
)
def test_an_unknown_kind_is_damaged(facts: dict[str, Any]) -> None:
    with pytest.raises(Damaged, match="kind"):
        from_file("a", facts, lambda path: b"")


@pytest.mark.parametrize(
    "record",
    [
        None,
        5,
        [],
        {},
        {"_type": 5},
        {"_type": "image-file"},
        {"_type": "image-file", "path": 5},
        {"_type": "image-file", "path": "a/../b"},
        {"_type": "image-file", "path": "a\0b"},
        {"_type": "images/separated"},
        {"_type": "images/separated", "paths": "abc"},
        {"_type": "images/separated", "paths": [5]},
        {"_type": "images/separated", "paths": ["a"] * 200_000},
        {"_type": "image-file", "dropped": "too large"},
    ],
    ids=lambda record: f"{record!r:.60}",
)
def test_a_record_that_lies_is_damaged(record: Any) -> None:
    with pytest.raises(Damaged):
        from_record(record, lambda path: {"kind": "text-file", "format": "txt"}, lambda path: b"")


def test_a_missing_file_is_not_found_and_not_damage() -> None:
    shelf = Shelf()
    record = shelf.log(Image(np.zeros((2, 2), np.uint8)))
    facts = dict(shelf.files[record["path"]].facts)
    shelf.files.clear()
    with pytest.raises(NotFound):
        from_file(record["path"], facts, shelf.read)


def contents() -> dict[str, bytes]:
    """A good content of each kind that is decoded."""
    rng = np.random.default_rng(0)
    table = Table(columns=["a", "b"], data=[[1, float("nan")], [b"x", {"_type": "y"}]])
    return {
        "image-file": encode(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)),
        "audio-file": Audio(rng.random(50), 8000).content,
        "object3D-file": Object3D(rng.random((5, 3))).content,
        "table-file": table.packed()[0],
        "custom-chart": bytes(plot.line(table, "a", "b").files()[0].content),
    }


@pytest.mark.parametrize("kind", contents().keys())
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_bytes_that_were_changed_open_or_are_damaged(kind: str, data: st.DataObject) -> None:
    raw = bytearray(contents()[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)) | st.just(len(raw)))
    with contextlib.suppress(Damaged, UsageError, NotFound):
        use(stored(kind, bytes(raw[:cut])))


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"RIFF", b"BM", b"II*\0"]),
    st.binary(max_size=200),
)
def test_a_header_of_any_bytes_is_read_or_refused(magic: bytes, rest: bytes) -> None:
    found = picture_header(magic + rest)

    assert found is None or (found[1] >= 0 and found[2] >= 0)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"RIFFxxxxWEBP", b"BM"]),
    st.binary(max_size=200),
)
def test_any_bytes_behind_a_magic_are_damaged(magic: bytes, rest: bytes) -> None:
    with pytest.raises(Damaged):
        open_bounded(magic + rest)


def test_a_jpeg_of_endless_marks_ends() -> None:
    assert picture_header(b"\xff\xd8" + b"\xff" * 200_000) is not None
    assert picture_header(b"\xff\xd8\xff\xd0" * 60_000) is not None
