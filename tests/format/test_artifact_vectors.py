"""Vectors of manifests, digests, histories, references and their records: we and a stranger agree.

What is expected was written by hand, so both readers are held to the document.
"""

from __future__ import annotations

import importlib.util
import json
import random
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from localstore import crypto
from localstore.artifacts import model
from localstore.artifacts.edits import Said
from localstore.artifacts.reading import _belongs
from localstore.cli.logs import Piece, standing
from localstore.errors import Damaged, Forged, NotFound, UsageError
from localstore.format import manifest, references, segment
from localstore.format.records import decode_records
from localstore.format.segment import decode_header
from localstore.layout import object_name
from localstore.query.contents import _as_file
from localstore.store.manifests import load_entries
from tests.store.makers import open_store

from . import stranger, stranger_artifacts
from .walk import VECTORS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from localstore.project import Project

Vector = dict[str, Any]
SHUFFLES = 6


def _load_generator(name: str) -> Any:
    source = importlib.util.spec_from_file_location(f"vectors_{name}", VECTORS / f"{name}.py")
    assert source is not None
    assert source.loader is not None
    module = importlib.util.module_from_spec(source)
    source.loader.exec_module(module)
    return module


generate = _load_generator("generate_artifacts")
ALL = generate.all_vectors() | _load_generator("generate_histories").all_vectors()


def each(stem: str) -> pytest.MarkDecorator:
    body = json.loads((VECTORS / f"{stem}.json").read_text("utf-8"))
    assert body["format"] == "localstore 1"
    names = [vector["name"].replace(" ", "_") for vector in body["vectors"]]
    assert len(set(names)) == len(names)
    return pytest.mark.parametrize("vector", body["vectors"], ids=names)


@pytest.mark.parametrize("stem", sorted(ALL))
def test_the_stored_vectors_are_those_that_the_generator_makes(stem: str) -> None:
    stored = (VECTORS / f"{stem}.json").read_text("utf-8")
    assert stored == generate.base.as_text(stem, ALL[stem])


def native(value: Any) -> Any:
    """What a vector writes as JSON, with its bytes."""
    if isinstance(value, list):
        return [native(one) for one in value]
    if isinstance(value, dict):
        if list(value) == ["hex"]:
            return bytes.fromhex(value["hex"])
        return {key: native(one) for key, one in value.items()}
    return value


# ------------------------------------------------------------------ manifests
@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return open_store(tmp_path_factory.mktemp("home")).project


@pytest.fixture
def with_objects(project: Project, vector: Vector) -> Iterator[Project]:
    """A project that holds the objects of a vector under the names that it gives them."""
    places = [(project.paths.file(object_name(bytes.fromhex(n))), r) for n, r in objects_of(vector)]
    for place, raw in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(raw)
    yield project
    for place, _ in places:
        place.unlink(missing_ok=True)


def objects_of(vector: Vector) -> list[tuple[str, bytes]]:
    return [(name, bytes.fromhex(raw)) for name, raw in vector["objects"].items()]


def as_entry(file: dict[str, Any]) -> manifest.Entry:
    parts = tuple(manifest.Part(*part) for part in file.get("parts", []))
    return manifest.Entry(
        file["path"], file.get("size"), file.get("hash", b""), parts, file.get("uri", "")
    )


@each("manifest")
def test_manifests(vector: Vector, with_objects: Project) -> None:
    first, key = map(bytes.fromhex, vector["first"])
    wrong: dict[str, type[Exception]] = {"damaged": Damaged, "forged": Forged, "missing": NotFound}
    if vector["expect"] != "ok":
        with pytest.raises(wrong[vector["expect"]]):
            load_entries(with_objects, first, key)
        return
    entries = load_entries(with_objects, first, key)
    assert entries == [as_entry(file) for file in native(vector["files"])]
    assert manifest.version_digest(entries).hex() == vector["digest"]
    paths = [entry.path for entry in entries]
    if not vector.get("placeable", True):
        with pytest.raises(UsageError, match="a folder"):
            manifest.check_paths(paths)
        return
    manifest.check_paths(paths)
    known = [msgspec.msgpack.decode(page)["files"] for page in manifest.encode_pages(entries)]
    assert [as_entry(file) for files in known for file in files] == entries


@each("manifest")
def test_a_stranger_reads_manifests_as_we_do(vector: Vector) -> None:
    stored = dict(objects_of(vector))
    first, key = map(bytes.fromhex, vector["first"])

    def fetch(name: bytes, key: bytes) -> tuple[int, bytes]:
        if name.hex() not in stored:
            raise stranger.Refused("missing")
        return stranger_artifacts.open_object(stored[name.hex()], key, name)

    if vector["expect"] != "ok":
        with pytest.raises(stranger.Refused) as refused:
            stranger_artifacts.read_manifest((first, key), fetch)
        assert refused.value.why == vector["expect"]
        return
    files = stranger_artifacts.read_manifest((first, key), fetch)
    assert [as_entry(file) for file in files] == [as_entry(f) for f in native(vector["files"])]
    assert stranger_artifacts.version_digest(files).hex() == vector["digest"]
    placeable = stranger_artifacts.can_be_placed([file["path"] for file in files])
    assert placeable == vector.get("placeable", True)


@each("objects")
def test_a_stranger_reads_objects_as_we_do(vector: Vector) -> None:
    raw, key, name, dedup = (
        bytes.fromhex(vector[field]) for field in ("file", "key", "id", "dedup_secret")
    )
    try:
        found = stranger_artifacts.open_object(raw, key, name, dedup)
    except stranger.Refused as refused:
        assert refused.why == vector["expect"]
    else:
        assert vector["expect"] == "ok"
        assert found == (vector["class"], bytes.fromhex(vector["content"]))


@each("versions")
def test_digests_of_versions(vector: Vector) -> None:
    files = native(vector["files"])
    for turn in range(SHUFFLES):
        random.Random(turn).shuffle(files)
        ours = manifest.version_digest(as_entry(file) for file in files)
        assert ours.hex() == vector["digest"]
        assert stranger_artifacts.version_digest(files).hex() == vector["digest"]


def test_only_what_is_another_version_has_another_digest() -> None:
    vectors = json.loads((VECTORS / "versions.json").read_text("utf-8"))["vectors"]
    assert len({vector["digest"] for vector in vectors}) == len(vectors)


# ------------------------------------------------------------------ histories
def orders(vector: Vector) -> Iterator[list[Said]]:
    """The records of a history in several orders of arrival, each in its class and place."""
    said = [
        Said(
            record=msgspec.msgpack.decode(bytes.fromhex(one["record"])),
            place=(bytes.fromhex(one["segment"]), one["sequence"]),
            data_class=one["class"],
            deposit=one["deposit"],
            flag="by a revoked device" if one.get("flagged") else "",
        )
        for one in vector["records"]
    ]
    for turn in range(SHUFFLES):
        yield said
        said = random.Random(turn).sample(said, len(said))


def shown(state: model.ArtifactState) -> dict[str, Any]:
    """A state as the vectors write it."""
    names = ("labels", "tags", "aliases", "description", "metadata", "ttl_us")
    return {
        version.digest.hex(): {
            name: list(value) if isinstance(value := getattr(version, name), tuple) else value
            for name in names
        }
        for version in state.versions
    }


@each("histories")
def test_histories_of_artifacts(vector: Vector) -> None:
    expected = native(vector["versions"])
    for said in orders(vector):
        state = model.fold(one for one in said if _belongs(one.record[0], one.data_class))
        assert shown(state) == expected
        assert state.highest == vector.get("highest", state.highest)
        assert [state.name, state.type] == vector.get("artifact", ["", ""])
        for version in state.versions:
            for word in (*version.labels, *version.aliases, version.digest.hex()):
                assert state.find(word) == version


@each("histories")
def test_a_stranger_reads_histories_as_we_do(vector: Vector) -> None:
    for said in orders(vector):
        theirs = stranger_artifacts.fold(
            stranger_artifacts.Said(o.data_class, o.record, o.place, o.deposit, bool(o.flag))
            for o in said
        )
        ours = model.fold(one for one in said if _belongs(one.record[0], one.data_class))
        assert theirs["versions"] == native(vector["versions"])
        assert theirs["artifact"] == vector.get("artifact", ["", ""])
        assert theirs["highest"] == ours.highest
        assert theirs["tips"] == sorted(one.hex() for one in ours.tips)


# ------------------------------------------------------------------ references
def needed_by_us(vector: Vector) -> list[str]:
    logs: list[references.LogRefs] = []
    cancelled: list[references.RefFrame] = []
    for number, one in enumerate(vector["logs"]):
        raw = memoryview(bytes.fromhex(one["file"]))
        header, start = decode_header(bytes(raw))
        found = references.scan(raw, start)
        if found.gap is not None:
            raise Damaged("frames are missing", offset=found.gap)
        subject, name = header.subject.hex(), header.segment.hex()
        logs.append(references.LogRefs(str(number), subject, name, found.refs))
        if found.cancels and one["unref_counts"]:
            ends = references.vouched_cancels(raw)
            cancelled += [references.RefFrame(subject, *end) for end in ends]
    return sorted(references.needed(logs, cancelled))


@each("references")
def test_which_objects_are_needed(vector: Vector) -> None:
    if vector["expect"] != "ok":
        with pytest.raises(Damaged):
            needed_by_us(vector)
        return
    assert needed_by_us(vector) == vector["needed"]


@each("references")
def test_a_stranger_needs_the_same_objects(vector: Vector) -> None:
    logs = [(bytes.fromhex(one["file"]), one["unref_counts"]) for one in vector["logs"]]
    if vector["expect"] != "ok":
        with pytest.raises(stranger.Refused, match=vector["expect"]):
            stranger.needed(logs)
        return
    for turn in range(SHUFFLES):
        assert sorted(one.hex() for one in stranger.needed(logs)) == vector["needed"]
        logs = random.Random(turn).sample(logs, len(logs))


def test_the_key_free_frames_are_read_by_a_stranger_with_a_key_too() -> None:
    """REF and UNREF are frames like others: chained, counted, and refused when they are broken."""
    log = generate.refs("1", "2")
    generate.unref(log, 0)
    log.head(final=True)
    assert stranger.read_log(log.raw, log.class_secret) == (["ok"] * 4, [])
    log.frames[2] = segment.encode_frame(6, 2, bytes(25))
    verdicts, _ = stranger.read_log(log.raw, log.class_secret)
    assert verdicts == ["ok", "ok", "damaged", "damaged"]


# ------------------------------------------------------------------ records
@each("artifact_records")
def test_records_of_artifacts_and_files(vector: Vector) -> None:
    raw = bytes.fromhex(vector["content"])
    first, found = decode_records(raw)
    assert (first, generate.base._plain(found)) == (vector["first"], vector["records"])
    assert stranger.read_records(raw) == (first, found)


@each("artifact_records")
def test_what_a_reader_makes_of_the_record_of_a_file(vector: Vector) -> None:
    (record,) = decode_records(bytes.fromhex(vector["content"]))[1]
    file = stranger_artifacts.read_file_record(record)
    if record[0] != 12:
        assert file is None
        return
    ours = _as_file(record, 6)
    assert file is not None
    assert ours is not None
    assert (ours.path, ours.size, ours.hash, ours.data) == (
        file["path"], file["size"], file["hash"], file.get("data"),
    )  # fmt: skip
    parts = [[part.object_id, part.key, part.offset, part.length] for part in ours.parts]
    assert parts == file.get("parts", [])
    assert ours.hash == crypto.content_hash(b"content")


@each("console")
def test_what_is_left_of_a_console(vector: Vector) -> None:
    outputs = [
        (bytes.fromhex(one["writer"]), at, msgspec.msgpack.decode(bytes.fromhex(one["record"])))
        for at, one in enumerate(vector["outputs"])
    ]
    assert stranger_artifacts.console(outputs) == vector["left"]
    pieces = [
        Piece(record[1], writer, record[2], record[3])
        for writer, _, record in sorted(outputs, key=lambda one: (one[2][1], one[0], one[1]))
    ]
    assert [[one.stream, one.text] for one in standing(pieces)] == vector["left"]
