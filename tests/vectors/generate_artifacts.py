"""Writes the vectors of artifacts beside it: manifests, digests, references, records.

    python tests/vectors/generate_artifacts.py

Every input is fixed, and what is expected is written by hand, not taken from the program.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any, Final

import blake3
import msgspec

HERE: Final = Path(__file__).parent


def _load_primitives() -> Any:
    source = importlib.util.spec_from_file_location("vectors_base", HERE / "generate.py")
    assert source is not None
    assert source.loader is not None
    module = importlib.util.module_from_spec(source)
    source.loader.exec_module(module)
    return module


base: Final = _load_primitives()
fixed: Final = base.fixed
pack: Final = msgspec.msgpack.encode
START_US: Final[int] = base.START_US
Vector = dict[str, Any]
Map = dict[Any, Any]


# ------------------------------------------------------------------ manifests
class Pages:
    """Objects of one manifest, by id."""

    def __init__(self) -> None:
        self.objects: dict[bytes, bytes] = {}

    def add(self, page: object, *, data_class: int = 7, name: bytes = b"") -> list[bytes]:
        """Seal a page; its id and key. `name` stores it under another id than its own."""
        content = page if isinstance(page, bytes) else pack(page)
        key, raw, _ = base._object(data_class, content, content, 0)
        name = name or hashlib.sha256(raw).digest()
        self.objects[name] = raw
        return [name, key]

    def vector(self, first: list[bytes], name: str, expect: str, **more: Any) -> Vector:
        return {
            "name": name,
            "first": [one.hex() for one in first],
            "objects": {one.hex(): raw.hex() for one, raw in self.objects.items()},
            "expect": expect,
            **more,
        }


def file(path: Any, content: bytes = b"content", **change: Any) -> Map:
    """A file that lies in one object."""
    parts = [[fixed("object"), fixed("object key"), 0, len(content)]] if content else []
    whole = {"path": path, "size": len(content), "hash": blake3.blake3(content).digest()}
    whole |= {"parts": parts} | change
    return {name: value for name, value in whole.items() if value != "absent"}


def reference(path: str, uri: Any = "https://example.org/data", **known: Any) -> Map:
    return {"path": path, "uri": uri, **known}


def page(*files: Map, **change: Any) -> Map:
    return {"v": 1, "files": list(files), **change}


UNICODE: Final = (
    "Zebra",
    "z/\u00e9t\u00e9.txt",
    "\u00fcber",
    "\uffee",
    "\U0001f600/a b",
    "\U0001f600/b",
)


FORMS: Final = ("e\u0301", "\u00e9")


def _one_page(name: str, content: object, expect: str = "damaged", **more: Any) -> Vector:
    pages = Pages()
    return pages.vector(pages.add(content), name, expect, **more)


def _good_pages() -> list[tuple[str, Map, list[Map]]]:
    part = [fixed("object"), fixed("object key"), 7, 4]
    two = file("a", b"contents", parts=[part, [fixed("other"), fixed("other key"), 0, 4]])
    refs = [
        reference("a"),
        reference("b", size=0, hash=fixed("hash")),
        reference("c", "s3://bucket/\u00fc?versionId=1", size=2**63 - 1),
    ]
    return [
        ("no files", page(), []),
        ("an empty file", page(file("empty", b"")), [file("empty", b"")]),
        ("two parts", page(two), [two]),
        ("references", page(*refs), refs),
        ("paths in the order of their bytes", page(*map(file, UNICODE)), [*map(file, UNICODE)]),
        ("two Unicode forms of one name", page(*map(file, FORMS)), [*map(file, FORMS)]),
        ("odd but harmless paths", page(*map(file, ODD)), [*map(file, ODD)]),
        ("a path of 4,096 bytes", page(file("\u00fc" * 2048)), [file("\u00fc" * 2048)]),
        (
            "fields of a later version",
            page(file("a") | {"mode": 493}, later=[1]),
            [file("a")],
        ),
    ]  # fmt: skip


ODD: Final = (" ", "-rf", "...", "..a", "C:\\x", "a\nb", "a.", "con", "~")


def _bad_pages() -> list[Vector]:
    part = [fixed("object"), fixed("object key"), 0, 7]
    entry = file("a")
    bad_paths = {
        "an absolute path": "/etc/passwd",
        "an empty path": "",
        "a path that leads up": "../a",
        "a path that leads up inside": "a/../../b",
        "a path with the part .": "a/./b",
        "a path with an empty part": "a//b",
        "a path that ends with a slash": "a/",
        "a path with a zero byte": "a\0b",
        "a path of 4,097 bytes": "\u00fc" * 2048 + "a",
        "a path that is no text": b"a",
    }
    bad_files: dict[str, Map] = {
        "a size that is a text": {"size": "7"},
        "a size that is a float": {"size": 7.0},
        "a size that is true": {"size": True},
        "a size below zero": {"size": -7},
        "no size": {"size": "absent"},
        "no hash": {"hash": "absent"},
        "a short hash": {"hash": bytes(31)},
        "a hash that is a text": {"hash": "a" * 32},
        "parts that are a map": {"parts": {}},
        "no parts of a file that has bytes": {"parts": "absent"},
        "parts that are fewer bytes": {"size": 8},
        "parts that are more bytes": {"size": 6},
        "a part without length": {"parts": [part, [part[0], part[1], 0, 0]]},
        "a part before the object": {"parts": [[part[0], part[1], -1, 7]]},
        "a part beyond what an object holds": {"parts": [[part[0], part[1], 2**24 - 6, 7]]},
        "a part with a short key": {"parts": [[part[0], bytes(31), 0, 7]]},
        "a part of three": {"parts": [part[:3]]},
        "a part of five": {"parts": [[*part, 0]]},
        "a reference with parts": {"uri": "https://example.org"},
        "a uri that is a number": {"uri": 1},
    }
    broken = pack(page(file("abc"))).replace(b"\xa3abc", b"\xa3\xed\xa0\x80")
    others: list[tuple[str, object]] = [
        ("version 2", page(entry, v=2)),
        ("version 0", page(entry, v=0)),
        ("version 1.0", page(entry, v=1.0)),
        ("no version", {"files": [entry]}),
        ("neither files nor pages", {"v": 1}),
        ("files and pages", page(entry, more=[[fixed("page"), fixed("page key")]])),
        ("no pages", {"v": 1, "more": []}),
        ("a page without key", {"v": 1, "more": [[fixed("page")]]}),
        ("a page with a short id", {"v": 1, "more": [[bytes(31), fixed("page key")]]}),
        ("files that are a map", {"v": 1, "files": {}}),
        ("a file that is an array", {"v": 1, "files": [["a"]]}),
        ("an array", [1, [entry]]),
        ("no msgpack", b"\xc1"),
        ("nothing", b""),
        ("a byte more", pack(page(entry)) + b"\0"),
        ("a byte less", pack(page(entry))[:-1]),
        ("files that claim to be 4,294,967,295", b"\x82\xa1v\x01\xa5files\xdd" + b"\xff" * 4),
        ("a path that is no UTF-8", broken),
        ("one path twice", page(entry, entry)),
        ("one path twice, not side by side", page(entry, file("b"), entry)),
        ("paths out of order", page(file("b"), file("a"))),
        ("paths in the order of UTF-16", page(file("\U0001f600"), file("\uffee"))),
    ]
    out = [_one_page(name, page(file(path))) for name, path in bad_paths.items()]
    out += [_one_page(name, page(file("a", **change))) for name, change in bad_files.items()]
    return out + [_one_page(name, content) for name, content in others]


def _nested(levels: int) -> tuple[Pages, list[bytes]]:
    pages = Pages()
    found = pages.add(page(file("a")))
    for _ in range(levels - 1):
        found = pages.add({"v": 1, "more": [found]})
    return pages, found


def _trees() -> list[Vector]:
    pages = Pages()
    leaves = [pages.add(page(file("a"), file("b"))), pages.add(page(file("b/c")))]
    last = pages.add(page(reference("d")))
    inner = pages.add({"v": 1, "more": leaves})
    whole = [file("a"), file("b"), file("b/c"), reference("d")]
    out = [
        pages.vector(
            pages.add({"v": 1, "more": [inner, last]}),
            "pages of pages, and a file that is a folder too",
            "ok",
            **_facts(whole),
            placeable=False,
        )
    ]
    for name, change, expect in (
        ("pages out of order", leaves[::-1], "damaged"),
        ("one page twice", [leaves[0], leaves[0]], "damaged"),
        ("pages that overlap", [inner, leaves[1]], "damaged"),
        ("a page with the key of another", [[leaves[0][0], leaves[1][1]]], "forged"),
    ):
        out.append(_with(pages, {"v": 1, "more": change}, name, expect))
    return out + _odd_trees()


def _with(pages: Pages, first: object, name: str, expect: str) -> Vector:
    more = Pages()
    more.objects |= pages.objects
    return more.vector(more.add(first), name, expect)


def _odd_trees() -> list[Vector]:
    eight, first = _nested(8)
    nine, beyond = _nested(9)
    missing, classes, empty, loop = Pages(), Pages(), Pages(), Pages()
    itself = fixed("a page that lists itself")
    body = {"v": 1, "more": [[itself, fixed("any key")]]}
    return [
        eight.vector(first, "eight levels", "ok", **_facts([file("a")])),
        nine.vector(beyond, "nine levels", "damaged"),
        missing.vector(
            missing.add({"v": 1, "more": [[fixed("page"), fixed("page key")]]}),
            "a page that is not here",
            "missing",
        ),
        classes.vector(
            classes.add({"v": 1, "more": [classes.add(page(file("a")), data_class=5)]}),
            "pages of two classes",
            "damaged",
        ),
        empty.vector(
            empty.add({"v": 1, "more": [empty.add(page()), empty.add(page(file("a")))]}),
            "an empty page among others",
            "damaged",
        ),
        loop.vector(loop.add(body, name=itself), "a page that leads to itself", "forged"),
    ]


def _facts(files: list[Map]) -> Vector:
    return {"files": base._plain(files), "digest": by_hand(files).hex()}


def by_hand(files: list[Map]) -> bytes:
    """Section 9.2, byte by byte."""
    rows = b""
    for one in sorted(files, key=lambda one: str(one["path"]).encode()):
        path, uri = one["path"].encode(), one.get("uri", "").encode()
        size = one.get("size", 2**64 - 1)
        rows += len(path).to_bytes(4, "little") + path + (b"\1" if uri else b"\0")
        rows += size.to_bytes(8, "little") + one.get("hash", bytes(32))
        rows += len(uri).to_bytes(4, "little") + uri
    return hashlib.blake2b(rows, digest_size=32, person=b"ls1/version").digest()


def manifest_vectors() -> list[Vector]:
    good = [_one_page(name, raw, "ok", **_facts(files)) for name, raw, files in _good_pages()]
    return good + _bad_pages() + _trees()


def version_vectors() -> list[Vector]:
    """Digests; the files of each stand in the order in which a writer may find them."""
    cases: dict[str, list[Map]] = {
        "no files": [],
        "one file": [file("a")],
        "the same content under another path": [file("b")],
        "two files, the later first": [file("b"), file("a")],
        "by bytes of UTF-8, not by letters": [file(path) for path in reversed(UNICODE)],
        "an empty file": [file("a", b"")],
        "a reference": [reference("a")],
        "a reference of known size": [reference("a", size=7)],
        "a reference of known size and hash": [
            reference("a", size=7, hash=blake3.blake3(b"content").digest())
        ],
        "a reference elsewhere": [reference("a", "file:///data")],
        "a file and a reference": [reference("z"), file("a")],
    }
    return [
        {
            "name": name,
            "files": [base._plain(_without_parts(one)) for one in files],
            "digest": by_hand(files).hex(),
            "expect": "ok",
        }
        for name, files in cases.items()
    ]


def _without_parts(one: Map) -> Map:
    return {name: value for name, value in one.items() if name != "parts"}


# ------------------------------------------------------------------ references
class Logs:
    """Logs and forks of a project, each of a trusted device if not said otherwise."""

    def __init__(self) -> None:
        self.files: list[Vector] = []

    def add(self, log: Any, *, trusted: bool = True, fork: bool = False, cut: int = 0) -> Logs:
        raw = log.raw[: len(log.raw) - cut]
        self.files.append({"unref_counts": trusted, "fork": fork, "file": raw.hex()})
        return self


def refs(*names: str, name: str = "refs", **change: Any) -> Any:
    """A log whose frames 0, 1 … name one object each."""
    log = base.Log(name, 7, **change)
    for one in names:
        log.refer(*one.split())
    return log


def unrefs(*frames: int, of: str = "refs", name: str = "unrefs", **change: Any) -> Any:
    """A log whose frame 0 ends REF frames of another."""
    log = base.Log(name, 1, **change)
    unref(log, *frames, of=of)
    return log


def unref(log: Any, *frames: int, of: str = "refs") -> Any:
    ended = [(base.Log(of).id, frame) for frame in frames]
    log.frames.append(base.segment.encode_unref(ended, len(log.frames)))
    return log


def headed(log: Any, *, final: bool = False) -> Any:
    log.head(final=final)
    return log


def _counting() -> list[tuple[str, Logs, list[str] | None]]:
    def both() -> Any:
        return headed(refs("1", "2"))

    elsewhere = {"subject": fixed("another subject", 16)}
    stale = headed(unrefs(0))
    stale.frames[0] = base.segment.encode_unref([(base.Log("refs").id, 1)], 0)
    final = unref(headed(unrefs(), final=True), 0)
    own = unref(refs("1", "2", name="own"), 0, of="own")
    early = unref(base.Log("own", 7), 2, of="own")
    early.head()
    early.refer("1")
    return [
        ("nothing is referred to", Logs().add(headed(refs())), []),
        ("two references", Logs().add(both()), ["1", "2"]),
        ("a REF that nothing vouches for keeps", Logs().add(refs("1", "2")), ["1", "2"]),
        ("a REF of an untrusted device keeps", Logs().add(refs("1"), trusted=False), ["1"]),
        ("one object in two frames", Logs().add(headed(refs("1 2", "2"))), ["1", "2"]),
        ("a vouched UNREF", Logs().add(both()).add(headed(unrefs(0))), ["2"]),
        ("an UNREF before its REF has come", Logs().add(headed(unrefs(0))), []),
        ("an UNREF that nothing vouches for", Logs().add(both()).add(unrefs(0)), ["1", "2"]),
        (
            "a vouched UNREF and one behind the last head",
            Logs().add(both()).add(unref(headed(unrefs(0)), 1)),
            ["2"],
        ),
        (
            "an UNREF whose head was cut off",
            Logs().add(both()).add(headed(unrefs(0)), cut=1),
            ["1", "2"],
        ),
        ("an UNREF under a head of other bytes", Logs().add(both()).add(stale), ["1", "2"]),
        ("an UNREF behind a final head", Logs().add(both()).add(headed(final)), ["1", "2"]),
        (
            "an UNREF of a deposit device, or of one that is not trusted",
            Logs().add(both()).add(headed(unrefs(0)), trusted=False),
            ["1", "2"],
        ),
        (
            "an UNREF of another subject",
            Logs().add(both()).add(headed(unrefs(0, **elsewhere))),
            ["1", "2"],
        ),
        ("an UNREF in its own log", Logs().add(headed(own)), ["2"]),
        ("an UNREF before its REF in one log", Logs().add(early), []),
        (
            "an UNREF of frames that are no REFs",
            Logs().add(both()).add(headed(unrefs(2, 9))),
            ["1", "2"],
        ),
        (
            "two REF frames of one object, one ended",
            Logs().add(headed(refs("1", "1"))).add(headed(unrefs(1))),
            ["1"],
        ),
        ("an UNREF of all", Logs().add(both()).add(headed(unrefs(1, 0))), []),
    ]  # fmt: skip


def _versions_of_a_log() -> list[tuple[str, Logs, list[str] | None]]:
    ends = headed(unrefs(0))
    return [
        (
            "two versions of a log that name the same",
            Logs().add(headed(refs("1", "2"))).add(refs("1", "3"), fork=True).add(ends),
            ["2", "3"],
        ),
        (
            "two versions that name others: the UNREF has no effect",
            Logs().add(headed(refs("1", "2"))).add(refs("3", "2"), fork=True).add(ends),
            ["1", "2", "3"],
        ),
        (
            "two versions that name the same in another order",
            Logs().add(headed(refs("1 2"))).add(refs("2 1"), fork=True).add(ends),
            [],
        ),
        (
            "a version in which the frame is another",
            Logs().add(headed(refs("1"))).add(headed(base.Log("refs", 7)), fork=True).add(ends),
            [],
        ),
        (
            "a version in which the frame is not there yet",
            Logs().add(headed(refs("1", "2"))).add(refs("1"), fork=True).add(headed(unrefs(1))),
            ["1"],
        ),
        (
            "an UNREF that only one version of its log holds",
            Logs().add(headed(refs("1", "2"))).add(ends).add(headed(unrefs(1)), fork=True),
            [],
        ),
    ]


def _not_whole() -> list[tuple[str, Logs, list[str] | None]]:
    log = headed(refs("1", "2"))
    gap, again, flipped, odd, short = (refs("1", "2") for _ in range(5))
    del gap.frames[0]
    again.frames.append(base.segment.encode_ref([fixed("3")], 0))
    flipped.frames[0] = base._flip(flipped.frames[0], 30)
    odd.frames[1] = base.segment.encode_frame(5, 1, bytes(33))
    short.frames[1] = base.segment.encode_frame(6, 1, bytes(25))
    longer = refs("1", "2")
    longer.frames[1] = base._flip(longer.frames[1], 5, 8)
    later = refs("1", "2")
    later.frames.append(base.segment.encode_frame(70, 2, b"of a later version"))
    later.refer("3")
    return [
        ("cut inside a REF", Logs().add(refs("1", "2"), cut=1), ["1"]),
        ("a frame is missing", Logs().add(log).add(gap, fork=True), None),
        ("a frame comes again, with other objects", Logs().add(again), ["1", "2", "3"]),
        ("a damaged REF", Logs().add(flipped), None),
        ("a last frame of which only the length is damaged", Logs().add(longer), None),
        ("a REF with half an id", Logs().add(odd), None),
        ("an UNREF with half an entry", Logs().add(short), None),
        ("frames of a later version", Logs().add(later), ["1", "2", "3"]),
    ]


def reference_vectors() -> list[Vector]:
    cases = [*_counting(), *_versions_of_a_log(), *_not_whole()]
    return [
        {
            "name": name,
            "logs": logs.files,
            **({} if ids is None else {"needed": sorted(fixed(one).hex() for one in ids)}),
            "expect": "damaged" if ids is None else "ok",
        }
        for name, logs, ids in cases
    ]


# ------------------------------------------------------------------ records
def artifact_record_vectors() -> list[Vector]:
    """Kinds 9 to 14 and the EDITs of an artifact, as they stand in a RECORDS frame."""
    one, another, seen = fixed("digest 1"), fixed("digest 2"), fixed("edit 1", 16)
    hash_ = blake3.blake3(b"content").digest()
    part = [fixed("object"), fixed("object key"), 0, 7]
    run = {"id": "run-1", "project": "p", "entity": "e"}
    version = {
        "manifest": [fixed("page"), fixed("page key")], "size": 7, "files": 1, "type": "model",
        "description": "d", "metadata": {"a": [1, None, 0.5]}, "run": run, "ttl_us": 5,
        "after": [seen],
    }  # fmt: skip
    held, stored = {"size": 7, "hash": hash_}, {"parts": [part], "kind": "image"}
    tags = {"version": one, "tags_add": ["a"], "tags_remove": ["b"]}
    edits: dict[str, Map] = {
        "EDIT of aliases": {"aliases": {"best": one, "old": None}},
        "EDIT of fields": {"version": one, "set": {"ttl_us": None, "description": "d"}},
        "EDIT of tags": tags,
        "EDIT that deletes": {"delete": one},
    }
    kinds: dict[str, list[Any]] = {
        "ARTIFACT": [9, START_US, {"name": "weights", "type": "model"}],
        "VERSION": [10, START_US, 3, one, version],
        "LINEAGE, out": [11, START_US, "output", "weights", one, {"type": "model"}],
        "LINEAGE, in": [11, START_US, "input", "data", another, {"project": "q", "entity": "e"}],
        "FILE with its bytes": [12, START_US, "a/b.txt", {**held, "data": b"content"}],
        "FILE in an object": [12, START_US, "a", held | stored],
        "FACTS": [13, START_US, "git", {"commit": "abc", "dirty": True}],
        "OUTPUT": [14, START_US, 1, "a\nb\n"],
        "OUTPUT that is replaced": [14, START_US, 2, " 50%\r"],
    }
    for name, operation in edits.items():
        kinds[name] = [7, START_US, fixed(name, 16), [seen], operation]
    return [
        {
            "name": name,
            "content": base.records.encode_records(number, [pack(record)]).hex(),
            "first": number,
            "records": [base._plain(record)],
            "expect": "ok",
        }
        for number, (name, record) in enumerate(kinds.items())
    ]


def console_vectors() -> list[Vector]:
    """OUTPUTs of a run in the order in which they stand on the disk, and what is left of them."""
    one, other = sorted([fixed("writer", 16), fixed("another writer", 16)])
    cases: list[tuple[str, list[tuple[Any, ...]], list[list[Any]]]] = [
        ("nothing", [], []),
        ("lines", [(0, one, 1, "a\nb\n"), (1, one, 1, "c\n")], [[1, "a\nb\n"], [1, "c\n"]]),
        ("two streams", [(0, one, 2, "b\n"), (0, one, 1, "a\n")], [[2, "b\n"], [1, "a\n"]]),
        ("by time", [(2, one, 1, "b\n"), (1, one, 1, "a\n")], [[1, "a\n"], [1, "b\n"]]),
        (
            "then by writer",
            [(0, other, 1, "b\n"), (0, one, 1, "a\n")],
            [[1, "a\n"], [1, "b\n"]],
        ),
        (
            "a line that changed",
            [(0, one, 1, " 1%\r"), (1, one, 1, " 2%\r"), (2, one, 1, "done\n")],
            [[1, "done\n"]],
        ),
        (
            "a line that still changes",
            [(0, one, 1, "a\n"), (1, one, 1, "1%\r")],
            [[1, "a\n"], [1, "1%\r"]],
        ),
        (
            "another stream and another writer replace nothing",
            [(0, one, 2, " 1%\r"), (1, one, 1, "a\n"), (2, other, 2, "b\n")],
            [[2, " 1%\r"], [1, "a\n"], [2, "b\n"]],
        ),
        (
            "a CR inside a text",
            [(0, one, 1, "a\rb\n"), (1, one, 1, "c\n")],
            [[1, "a\rb\n"], [1, "c\n"]],
        ),
    ]
    return [
        {
            "name": name,
            "outputs": [
                {"writer": writer.hex(), "record": pack([14, START_US + second, *rest]).hex()}
                for second, writer, *rest in outputs
            ],
            "left": left,
            "expect": "ok",
        }
        for name, outputs, left in cases
    ]


def all_vectors() -> dict[str, list[Vector]]:
    """Every file's vectors, by the file's stem."""
    return {
        "manifest": manifest_vectors(),
        "versions": version_vectors(),
        "references": reference_vectors(),
        "artifact_records": artifact_record_vectors(),
        "console": console_vectors(),
    }


def main() -> None:
    """Write everything."""
    for stem, vectors in all_vectors().items():
        (HERE / f"{stem}.json").write_text(base.as_text(stem, vectors), "utf-8")


if __name__ == "__main__":
    main()
