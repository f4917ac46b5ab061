"""Every published vector has the outcome that it promises, here and with a stranger's reader."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import pytest

from localstore import crypto, identity, keyslots
from localstore.errors import Damaged, KeyUnavailable
from localstore.format import objects, signed, spec
from localstore.format.columns import decode_block
from localstore.format.records import decode_records

from . import stranger
from .walk import VECTORS, generate, rows, walk, word

if TYPE_CHECKING:
    from collections.abc import Callable

Vector = dict[str, Any]


def load(stem: str) -> list[Vector]:
    body = json.loads((VECTORS / f"{stem}.json").read_text("utf-8"))
    assert body["format"] == f"localstore {spec.FORMAT_VERSION}"
    vectors: list[Vector] = body["vectors"]
    return vectors


def each(stem: str) -> pytest.MarkDecorator:
    vectors = load(stem)
    names = [str(v.get("name", v.get("length"))).replace(" ", "_") for v in vectors]
    return pytest.mark.parametrize("vector", vectors, ids=names)


def outcome(act: Callable[[], object]) -> str:
    try:
        act()
    except Damaged as problem:
        return word(problem)
    return "ok"


def plain(value: object) -> Any:
    """The value as the vectors write it."""
    return json.loads(json.dumps(generate._plain(value)))


def hexes(vector: Vector, *names: str) -> list[bytes]:
    return [bytes.fromhex(vector[name]) for name in names]


@pytest.mark.parametrize("stem", sorted(generate.all_vectors()))
def test_the_stored_vectors_are_those_that_the_generator_makes(stem: str) -> None:
    stored = (VECTORS / f"{stem}.json").read_text("utf-8")
    assert stored == generate.as_text(stem, generate.all_vectors()[stem])


@each("padme")
def test_padding(vector: Vector) -> None:
    assert crypto.padme(vector["length"]) == vector["padded"] == stranger.padme(vector["length"])


@each("hashes")
def test_hashes_and_derived_keys(vector: Vector) -> None:
    key, salt, data = hexes(vector, "key", "salt", "data")
    label = vector["label"].encode()
    assert getattr(spec, vector["name"]) == label
    assert crypto.digest(label, data).hex() == vector["digest"]
    assert crypto.digest(label, data, size=16).hex() == vector["digest_16"]
    assert crypto.keyed_digest(key, label, data).hex() == vector["keyed_digest"]
    assert crypto.derive(key, label, salt).hex() == vector["derive"]
    assert crypto.derive(key, label).hex() == vector["derive_without_salt"]
    assert stranger.blake(label, key=key, salt=salt).hex() == vector["derive"]


@each("signatures")
def test_signatures(vector: Vector) -> None:
    public, message, signature = hexes(vector, "public", "message", "signature")
    label = vector["label"].encode()
    check = crypto.check_signature
    assert outcome(lambda: check(public, label, message, signature)) == vector["expect"]


@each("envelope")
def test_signed_files(vector: Vector) -> None:
    raw, magic = bytes.fromhex(vector["file"]), vector["magic"].encode()
    assert outcome(lambda: signed.decode(raw, magic)) == vector["expect"]
    if vector["expect"] == "ok":
        assert signed.decode(raw, magic).hash.hex() == vector["hash"]


@each("keyslot")
def test_keyslots(vector: Vector) -> None:
    raw, private = hexes(vector, "file", "private")

    def opened() -> bytes:
        file = signed.decode(raw, spec.KEYSLOT_MAGIC)
        return keyslots._parse(file, "").open(private, file.project)

    assert outcome(opened) == vector["expect"]
    if vector["expect"] == "ok":
        assert opened().hex() == vector["secret"]


@each("recovery")
def test_recovery_codes(vector: Vector) -> None:
    if vector["expect"] == "refused":
        with pytest.raises(KeyUnavailable):
            identity.from_recovery_code(vector["code"], "ada")
        return
    found = identity.from_recovery_code(vector["code"], "ada")
    assert found.user.hex() == vector["user"]
    assert found.roots == {vector["generation"]: bytes.fromhex(vector["root"])}
    assert identity.recovery_code(found) == vector["code"].strip().upper()


@each("segment")
def test_segments(vector: Vector) -> None:
    raw, secret = hexes(vector, "file", "class_secret")
    assert outcome(lambda: walk(raw, secret)) == vector["expect"]
    if vector["expect"] == "ok":
        assert walk(raw, secret).verdicts == vector["frames"]


@each("segment")
def test_a_stranger_reads_segments_as_we_do(vector: Vector) -> None:
    raw, secret = hexes(vector, "file", "class_secret")
    try:
        verdicts, contents = stranger.read_log(raw, secret)
    except stranger.Refused as refused:
        assert refused.why == vector["expect"]
        return
    assert vector["expect"] == "ok"
    assert verdicts == vector["frames"]
    ours = [one for one in walk(raw, secret).contents if one is not None]
    ours = [one for one in ours if not isinstance(one, int) and not isinstance(one, list)]
    assert len(contents) == len(ours)
    for theirs, own in zip(contents, ours, strict=True):
        if isinstance(theirs, tuple):
            assert theirs == own
        else:
            assert plain(theirs["columns"]) == plain(rows(own))


@each("records")
def test_records(vector: Vector) -> None:
    raw = bytes.fromhex(vector["content"])
    assert outcome(lambda: decode_records(raw)) == vector["expect"]
    if vector["expect"] == "ok":
        first, found = decode_records(raw)
        assert (first, plain(found)) == (vector["first"], vector["records"])
        assert stranger.read_records(raw) == (first, found)


@each("columns")
def test_columns(vector: Vector) -> None:
    raw = bytes.fromhex(vector["content"])
    assert outcome(lambda: decode_block(raw)) == vector["expect"]
    if vector["expect"] == "ok":
        block = decode_block(raw)
        assert (block.first_sequence, block.record_count) == (vector["first"], vector["records"])
        assert list(block.steps) == vector["steps"]
        assert list(block.times_us) == vector["times"]
        assert plain(rows(block)) == vector["columns"]


@each("columns")
def test_a_stranger_reads_columns_as_we_do(vector: Vector) -> None:
    raw = bytes.fromhex(vector["content"])
    if vector["expect"] != "ok":
        with pytest.raises(stranger.Refused):
            stranger.read_columns(raw)
        return
    found = plain(stranger.read_columns(raw))
    names = ("first", "records", "steps", "times", "columns")
    assert found == {name: vector[name] for name in names}


@each("objects")
def test_objects(vector: Vector) -> None:
    raw, key, name, secret = hexes(vector, "file", "key", "id", "dedup_secret")

    def opened() -> objects.OpenedObject:
        return objects.open_object(raw, key, name, dedup_secret=secret)

    assert outcome(opened) == vector["expect"]
    if vector["expect"] == "ok":
        assert opened().content.hex() == vector["content"]
        assert opened().data_class == vector["class"]


def test_another_version_of_zstd_gives_another_key_and_another_object() -> None:
    """One key and nonce never encrypt two plaintexts."""
    one, two = (
        v for v in load("objects") if v["name"] in ("compressed", "the same by another zstd")
    )
    assert one["content"] == two["content"]
    assert one["key"] != two["key"]
    assert one["id"] != two["id"]


def test_the_example_of_the_document_opens() -> None:
    (vector,) = load("example")
    raw, secret = hexes(vector, "file", "class_secret")
    walked = walk(raw, secret)
    assert walked.verdicts == vector["frames"]
    assert walked.contents[0] == (0, [[5, 1767225600000000, "finished", 0]])
    assert walked.vouched == struct.unpack_from("<Q", raw, 656)[0]
    assert stranger.read_log(raw, secret)[1] == [walked.contents[0]]
