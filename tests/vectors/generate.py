"""Writes the vectors beside it and chapter 15 of docs/format.md; every input is fixed.

    python tests/vectors/generate.py

What is random in life (nonces, ephemeral keys) is a hash of a name here, and compressed data is
laid out by hand, so the bytes do not depend on the version of any library.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec
import nacl.bindings as sodium

from localstore import crypto
from localstore.format import columns, records, segment, signed, spec
from localstore.format.spec import (
    CertKind,
    Compression,
    DataClass,
    FrameType,
    LinkKind,
    RecordKind,
    SlotKind,
)

HERE: Final = Path(__file__).parent
DOCUMENT: Final = HERE.parent.parent / "docs" / "format.md"
START_US: Final = 1_767_225_600_000_000  # 2026-01-01
pack: Final = msgspec.msgpack.encode
Vector = dict[str, Any]


def fixed(name: str, size: int = 32) -> bytes:
    """Bytes that stand for random ones."""
    return hashlib.shake_256(f"localstore vector {name}".encode()).digest(size)


# ------------------------------------------------------------------ what is random in life
def seal_box(recipient: bytes, secret: bytes, context: bytes, name: str) -> bytes:
    """A sealed box (format.md 4.4) with a fixed ephemeral key."""
    ephemeral = fixed(f"ephemeral {name}")
    public = crypto.box_public(ephemeral)
    nonce = hashlib.blake2b(public + recipient, digest_size=24).digest()
    return public + bytes(sodium.crypto_box(secret + context, nonce, recipient, ephemeral))


def seal_frame(
    key: bytes, owner: bytes, kind: int, index: int, content: bytes, how: int = Compression.NONE
) -> bytes:
    """A sealed frame (format.md 6.2, 6.3) with a fixed nonce."""
    plain = struct.pack("<I", len(content) | how << 28) + content
    plain = plain.ljust(crypto.padme(len(plain)), b"\0")
    header = struct.pack("<2sBBIQ", b"LF", kind, 0, 24 + len(plain) + 16, index)
    nonce = fixed(f"nonce {owner.hex()} {kind} {index}", 24)
    frame_key = crypto.derive(key, spec.LABEL_FRAME, owner)
    sealed = crypto.encrypt(frame_key, nonce, plain, spec.LABEL_FRAME + owner + header)
    frame = header + nonce + sealed
    return frame + struct.pack("<I", zlib.crc32(frame))


def zstd_of_equal_bytes(byte: int, count: int, *, blocks: int = 1) -> bytes:
    """A zstd frame of `count` equal bytes (256 to 65,791), cut into some run-length blocks."""
    out = bytes.fromhex("28b52ffd60") + struct.pack("<H", count - 256)
    sizes = [count // blocks] * (blocks - 1)
    sizes.append(count - sum(sizes))
    for at, size in enumerate(sizes):
        word = size << 3 | 1 << 1 | (at == len(sizes) - 1)
        out += word.to_bytes(3, "little") + bytes((byte,))
    return out


# ------------------------------------------------------------------ primitives
def padme_vectors() -> list[Vector]:
    lengths = [0, 1, 127, 128, 129, 136, 137, 255, 256, 257, 1000, 1024, 4095, 4096, 4097]
    lengths += [65535, 65536, 65537, 1_000_000, 4 * 1024 * 1024, 16 * 1024 * 1024 - 1]
    return [{"length": n, "padded": crypto.padme(n), "expect": "ok"} for n in lengths]


def hash_vectors() -> list[Vector]:
    key, salt, data = fixed("key"), fixed("salt", 16), b"abc"
    named = {n: v for n, v in vars(spec).items() if n.startswith("LABEL_")}
    vectors: list[Vector] = [
        {
            "name": name,
            "label": label.decode(),
            "key": key.hex(),
            "salt": salt.hex(),
            "data": data.hex(),
            "digest": crypto.digest(label, data).hex(),
            "digest_16": crypto.digest(label, data, size=16).hex(),
            "keyed_digest": crypto.keyed_digest(key, label, data).hex(),
            "derive": crypto.derive(key, label, salt).hex(),
            "derive_without_salt": crypto.derive(key, label).hex(),
            "expect": "ok",
        }
        for name, label in sorted(named.items())
    ]
    return vectors


def signature_vectors() -> list[Vector]:
    seed, message = fixed("signer"), b"message"
    good = crypto.sign(seed, spec.SIGN_LINK, message)
    base = {
        "seed": seed.hex(),
        "public": crypto.sign_public(seed).hex(),
        "label": spec.SIGN_LINK.decode(),
        "message": message.hex(),
        "signature": good.hex(),
        "expect": "ok",
    }
    flipped = bytes((good[0] ^ 1,)) + good[1:]
    return [
        {"name": "good", **base},
        {**base, "name": "flipped", "signature": flipped.hex(), "expect": "forged"},
        {**base, "name": "another label", "label": spec.SIGN_CERT.decode(), "expect": "forged"},
        {**base, "name": "key of small order", "public": "01" + "00" * 31, "expect": "forged"},
    ]


# ------------------------------------------------------------------ signed files
PROJECT: Final = fixed("project")
USER_ROOT: Final = fixed("user root", 16)
USER_SEED: Final = crypto.derive(USER_ROOT, spec.LABEL_USER_SIGN)
USER_ID: Final = crypto.digest(spec.LABEL_USER, crypto.sign_public(USER_SEED), size=16)
DEVICE_SEED: Final = fixed("device sign")


def signed_file(magic: bytes, kind: int, body: dict[str, Any], **change: bytes) -> bytes:
    """An envelope of the fixed user."""
    return signed.encode(
        magic,
        kind,
        project=change.get("project", PROJECT),
        seed=change.get("seed", USER_SEED),
        created_us=START_US,
        body=body,
    )


def genesis() -> bytes:
    """The genesis link of the fixed user."""
    body = {"parents": [], "entity": USER_ID, "user": USER_ID, "nonce": fixed("nonce", 16)}
    return signed_file(spec.LINK_MAGIC, LinkKind.GENESIS, body, project=signed.NO_PROJECT)


def resign(raw: bytes, magic: bytes, seed: bytes = USER_SEED) -> bytes:
    """The same head and body, changed by the signer and signed again."""
    return raw[:-64] + crypto.sign(seed, signed.SIGN_LABELS[magic], raw[:-64])


def envelope_vectors() -> list[Vector]:
    link = genesis()
    stone = {"parents": [fixed("tip")], "subject": fixed("subject", 16), "effective": START_US}
    user_box = crypto.box_public(crypto.derive(USER_ROOT, spec.LABEL_USER_BOX))
    cert = {"user": USER_ID, "generation": 1, "box": user_box}
    none = signed.NO_PROJECT
    tombstone = signed_file(spec.LINK_MAGIC, LinkKind.TOMBSTONE, stone)
    statement = signed_file(spec.CERT_MAGIC, CertKind.USER, cert, project=none)
    newer = resign(link[:4] + b"\x02" + link[5:], spec.LINK_MAGIC)
    # The map's first key `parents` once more in a longer form: str 8 instead of fixstr.
    body = link[84:-64].replace(b"\xa7parents", b"\xd9\x07parents")
    long_form = link[:80] + struct.pack("<I", len(body)) + body + bytes(64)
    cases = [
        ("genesis link", link, "LSLK", "ok"),
        ("tombstone", tombstone, "LSLK", "ok"),
        ("user certificate", statement, "LSCT", "ok"),
        ("a link where a certificate is wanted", link, "LSCT", "damaged"),
        ("body flipped", _flip(link, 100), "LSLK", "forged"),
        ("signer flipped", _flip(link, 50), "LSLK", "forged"),
        ("signature flipped", _flip(link, len(link) - 1), "LSLK", "forged"),
        ("a link signed again as a certificate", b"LSCT" + link[4:], "LSCT", "forged"),
        ("cut", link[:-1], "LSLK", "torn"),
        ("one byte more", link + b"\0", "LSLK", "torn"),
        ("another version", newer, "LSLK", "damaged"),
        ("not in the shortest form", resign(long_form, spec.LINK_MAGIC), "LSLK", "damaged"),
    ]
    return [
        {"name": name, "magic": magic, "file": raw.hex(), "expect": expect}
        | ({"hash": signed.file_hash(raw).hex()} if expect == "ok" else {})
        for name, raw, magic, expect in cases
    ]


def _flip(raw: bytes, at: int, bit: int = 1) -> bytes:
    return raw[:at] + bytes((raw[at] ^ bit,)) + raw[at + 1 :]


def keyslot_vectors() -> list[Vector]:
    private, seed = fixed("epoch box"), fixed("pair seed")
    recipient, subject = crypto.box_public(private), fixed("subject", 16)
    pair = crypto.box_public(crypto.derive(seed, spec.LABEL_PAIR))
    classes = {
        int(one): crypto.box_public(crypto.derive(seed, spec.LABEL_CLASS, bytes((one,))))
        for one in DataClass
    }

    def slot(name: str, **wrong: bytes) -> bytes:
        parts = (
            wrong.get("kind", bytes((SlotKind.PAIR,))),
            wrong.get("project", PROJECT),
            wrong.get("subject", subject),
            recipient,
            wrong.get("epoch", struct.pack("<I", 1)),
            wrong.get("pair", pair),
        )
        context = crypto.digest(spec.LABEL_SLOT_CONTEXT, *parts)
        body = {
            "subject": subject,
            "recipient": recipient,
            "epoch": 1,
            "cert": fixed("cert"),
            "box": seal_box(recipient, seed, context, name),
            "pair": pair,
            "classes": classes,
        }
        return signed_file(spec.KEYSLOT_MAGIC, SlotKind.PAIR, body, seed=DEVICE_SEED)

    cases = [
        ("good", slot("good"), "ok"),
        ("box of another kind", slot("kind", kind=bytes((SlotKind.EPOCH,))), "forged"),
        ("box of another project", slot("project", project=fixed("other")), "forged"),
        ("box of another subject", slot("subject", subject=fixed("other", 16)), "forged"),
        ("box of another epoch", slot("epoch", epoch=struct.pack("<I", 2)), "forged"),
        ("box of another pair", slot("pair", pair=fixed("other")), "forged"),
        ("flipped", _flip(slot("good"), 200), "forged"),
    ]
    return [
        {"name": name, "file": raw.hex(), "private": private.hex(), "expect": expect}
        | ({"secret": seed.hex()} if expect == "ok" else {})
        for name, raw, expect in cases
    ]


def recovery_vectors() -> list[Vector]:
    import base64

    def code(body: bytes) -> str:
        raw = body + crypto.digest(spec.LABEL_RECOVERY, body)[:2]
        text = base64.b32encode(raw).decode().rstrip("=")
        return "LS1-" + "-".join(text[at : at + 4] for at in range(0, len(text), 4))

    good = code(b"\x01" + USER_ROOT + USER_ID)
    facts = {"generation": 1, "root": USER_ROOT.hex(), "user": USER_ID.hex()}
    wrong = good[:-1] + ("A" if good[-1] != "A" else "B")
    return [
        {"name": "good", "code": good, "expect": "ok", **facts},
        {"name": "lower case and blanks", "code": " " + good.lower(), "expect": "ok", **facts},
        {"name": "mistyped", "code": wrong, "expect": "refused"},
        {"name": "short", "code": good[:-5], "expect": "refused"},
        {"name": "generation 0", "code": code(b"\0" + USER_ROOT + USER_ID), "expect": "refused"},
        {
            "name": "a root of another user",
            "code": code(b"\x01" + USER_ROOT + fixed("other", 16)),
            "expect": "refused",
        },
    ]


# ------------------------------------------------------------------ segments
class Log:
    """A log that is built frame by frame, with fixed keys."""

    def __init__(self, name: str, data_class: int = DataClass.METRICS, **change: Any) -> None:
        self.key, self.id = fixed(f"segment key {name}"), fixed(f"segment {name}", 16)
        self.class_secret = crypto.derive(
            fixed("pair seed"), spec.LABEL_CLASS, bytes((data_class,))
        )
        header = segment.SegmentHeader(
            data_class=data_class,
            project=PROJECT,
            subject=fixed("subject", 16),
            segment=self.id,
            writer=fixed("writer", 16),
            pair=crypto.box_public(crypto.derive(fixed("pair seed"), spec.LABEL_PAIR)),
            device=crypto.sign_public(DEVICE_SEED),
            cert=fixed("cert"),
            epoch=1,
            started_us=START_US,
            policy_tag=bytes(16),
            supersedes=segment.NOTHING_SUPERSEDED,
            commitment=crypto.derive(self.key, spec.LABEL_COMMIT, self.id),
            sealed_key=bytes(112),
        )
        header = replace(header, **change)
        public = crypto.box_public(self.class_secret)
        sealed = seal_box(public, self.key, header.context(), f"segment {name}")
        self.header = header.with_key(sealed).encode(DEVICE_SEED)
        self.frames: list[bytes] = []

    @property
    def raw(self) -> bytes:
        return self.header + b"".join(self.frames)

    def chain(self) -> bytes:
        return crypto.chain_step(segment.first_chain(self.header), self.frames)

    def seal(self, kind: int, content: bytes, how: int = Compression.NONE) -> None:
        frame = seal_frame(self.key, self.id, kind, len(self.frames), content, how)
        self.frames.append(frame)

    def refer(self, *names: str) -> None:
        self.frames.append(segment.encode_ref([fixed(n) for n in names], len(self.frames)))

    def head(self, *, final: bool = False) -> None:
        head = segment.Head(
            count=len(self.frames),
            length=len(self.raw),
            chain=self.chain(),
            time_us=START_US + 1_000_000 * len(self.frames),
            final=final,
        )
        self.frames.append(segment.encode_head(head, self.id, len(self.frames), DEVICE_SEED))


def point(step: int, **values: object) -> list[Any]:
    """A POINT record, one second after the one before."""
    return [int(RecordKind.POINT), START_US + step * 1_000_000, step, values]


def good_log(name: str = "good") -> Log:
    """RECORDS, COLUMNS, REF, HEAD, compressed RECORDS, final HEAD."""
    log = Log(name)
    first = [pack(point(step, loss=1.0 / (step + 1))) for step in range(2)]
    log.seal(FrameType.RECORDS, records.encode_records(0, first))
    table = columns.KeyTable()
    points = [point(step, loss=1.0 / (step + 1), ok=step % 2 == 0) for step in range(2, 6)]
    log.seal(FrameType.COLUMNS, columns.encode_block(2, points, table))
    log.refer("object 1", "object 2")
    log.head()
    long = pack([99, START_US, "x" * 127])  # a kind that nobody knows yet
    log.seal(FrameType.RECORDS, records.encode_records(6, [long]))
    log.head(final=True)
    return log


def segment_vectors() -> list[Vector]:
    log, other = good_log(), good_log("other")
    at = [len(log.header)]
    for frame in log.frames:
        at.append(at[-1] + len(frame))
    f, head = log.frames, log.header
    stale = Log("good")
    stale.frames = [*f[:4], f[4], f[3]]
    false_key = Log("good", commitment=fixed("another commitment"))
    false_context = Log("good")
    false_context.header = _other_context(false_context)
    longer = segment.encode_frame(70, 6, b"of a later version")
    ok = ["ok"] * 6
    cases: list[tuple[str, bytes, str, list[str]]] = [
        ("good", log.raw, "ok", ok),
        ("header flipped", _flip(log.raw, 60), "forged", []),
        ("header cut", log.raw[:300], "torn", []),
        ("another version", _flip(log.raw, 8, 3), "damaged", []),
        ("key of another commitment", false_key.raw, "forged", []),
        ("key sealed for another segment", false_context.header, "forged", []),
        ("no frames", head, "ok", []),
        ("cut inside the last frame", log.raw[:-1], "ok", [*["ok"] * 5, "torn"]),
        ("cut before the last frame", log.raw[: at[5]], "ok", ok[:5]),
        (
            "a sealed frame flipped",
            _flip(log.raw, at[1] + 60),
            "ok",
            ["ok", "damaged", "ok", "damaged", "ok", "damaged"],
        ),
        (
            "a sealed frame flipped, with a fitting checksum",
            head + f[0] + _refit(_flip(f[1], 60)) + b"".join(f[2:]),
            "ok",
            ["ok", "forged", "ok", "damaged", "ok", "damaged"],
        ),
        (
            "two frames swapped",
            head + f[1] + f[0] + b"".join(f[2:]),
            "ok",
            ["ok", "damaged", "ok", "damaged", "ok", "damaged"],
        ),
        (
            "a frame dropped",
            head + f[0] + b"".join(f[2:]),
            "ok",
            ["ok", "ok", "damaged", "ok", "damaged"],
        ),
        (
            "a frame repeated",
            head + f[0] + f[0] + b"".join(f[1:]),
            "ok",
            ["ok", "damaged", "ok", "ok", "damaged", "ok", "damaged"],
        ),
        (
            "a frame of another segment",
            head + f[0] + other.frames[1] + b"".join(f[2:]),
            "ok",
            ["ok", "forged", "ok", "damaged", "ok", "damaged"],
        ),
        (
            "references exchanged, which no key protects, but the chain does",
            head + b"".join(f[:2]) + segment.encode_ref([fixed("object 3")], 2) + b"".join(f[3:]),
            "ok",
            ["ok", "ok", "ok", "damaged", "ok", "damaged"],
        ),
        ("a stale head at the end", stale.raw, "ok", [*["ok"] * 5, "damaged"]),
        ("frames behind a final head", log.raw + longer, "ok", [*ok, "damaged"]),
        (
            "an unknown type that may be passed over",
            head + f[0] + segment.encode_frame(70, 1, b"of a later version"),
            "ok",
            ["ok", "ok"],
        ),
        (
            "an unknown type that may not",
            head + f[0] + segment.encode_frame(9, 1, b"of a later version"),
            "ok",
            ["ok", "damaged"],
        ),
    ]
    return [
        {
            "name": name,
            "class_secret": log.class_secret.hex(),
            "segment_key": log.key.hex(),
            "file": raw.hex(),
            "expect": expect,
            "frames": frames,
        }
        for name, raw, expect, frames in cases
    ]


def _refit(frame: bytes) -> bytes:
    return frame[:-4] + struct.pack("<I", zlib.crc32(frame[:-4]))


def _other_context(log: Log) -> bytes:
    header, _ = segment.decode_header(log.header)
    public = crypto.box_public(log.class_secret)
    context = replace(header, subject=fixed("other", 16)).context()
    return header.with_key(seal_box(public, log.key, context, "other")).encode(DEVICE_SEED)


# ------------------------------------------------------------------ records and columns
def record_vectors() -> list[Vector]:
    whole = [
        point(0, a=1, b=-1.5, c=None, d=True, e="ü", f=[1, [2]], g={"_type": "image", "w": 2}),
        [int(RecordKind.START), START_US, {"id": "run-1", "tags": ["a", "b"]}],
        [int(RecordKind.CONFIG), START_US, {"lr": 0.1}, ["old"]],
        [int(RecordKind.SUMMARY), START_US, {"best": 0.9}, []],
        [int(RecordKind.STATE), START_US, "finished", 0],
        [int(RecordKind.DEFINE), START_US, "loss", {"summary": "min"}],
        [int(RecordKind.EDIT), START_US, fixed("edit", 16), [fixed("seen", 16)], {"op": "tag"}],
        [int(RecordKind.GAP), START_US, 12, "no space on the disk"],
        [200, START_US, "of a later version"],
    ]
    good = records.encode_records(7, [pack(record) for record in whole])
    flat = [_plain(record) for record in whole]
    cases = [
        ("one of each kind", good, "ok", {"first": 7, "records": flat}),
        ("none", records.encode_records(0, []), "ok", {"first": 0, "records": []}),
        ("a byte more", good + b"\0", "damaged", {}),
        ("a byte less", good[:-1], "damaged", {}),
        ("a map instead of an array", records.encode_records(0, [b"\x80"]), "damaged", {}),
        ("no time", records.encode_records(0, [b"\x91\x01"]), "damaged", {}),
        ("a count beyond the bytes", b"\0\xff\xff\xff\xff\x0f", "damaged", {}),
        ("a number that does not end", b"\x80" * 11, "damaged", {}),
        ("an array that claims 4,294,967,295", b"\0\x01\x05\xdd" + b"\xff" * 4, "damaged", {}),
    ]
    return [
        {"name": name, "content": raw.hex(), "expect": expect, **more}
        for name, raw, expect, more in cases
    ]


def _plain(value: Any) -> Any:
    """The value as JSON: bytes as {"hex": …}, what JSON has no number for as {"float": …}."""
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, float):
        return {"float": struct.pack(">d", value).hex()}
    return value


def column_vectors() -> list[Vector]:
    nan, inf = float("nan"), float("inf")
    rows: dict[str, list[list[Any]]] = {
        "FLOAT64": [point(s, v=0.1 * s) for s in range(5)],
        "FLOAT64 with NaN, infinities and -0": [
            point(s, v=v) for s, v in enumerate([nan, inf, -inf, -0.0, 1e300])
        ],
        "FLOAT32": [point(s, v=0.5 * s) for s in range(5)],
        "INT": [point(s, v=v) for s, v in enumerate([5, 3, -(2**40), 2**62, 0])],
        "INT of one byte": [point(s, v=v) for s, v in enumerate([0, 1, 255, 256])],
        "INT of equal differences": [point(s, v=7 - 3 * s) for s in range(4)],
        "BOOL": [point(s, v=s % 3 == 0) for s in range(10)],
        "MIXED": [point(s, v=v) for s, v in enumerate([1, "a", None, [True], 2**64 - 1])],
        "CONSTANT": [point(s, v="same") for s in range(3)],
        "CONSTANT float": [point(s, v=1.25) for s in range(3)],
        "missing values": [point(0, a=1.5), point(1, b=2), point(2, a=3.25, b=4), point(3)],
        "repeated steps": [point(1, a=1), point(1, b=2), point(1, a=3), point(2, a=4)],
        "one row": [point(9, a=1)],
        "nested": [point(0, a={"b": 1, "c": {"d": 2}, "e": {"_type": "x"}})],
    }
    vectors = [_column_vector(name, points) for name, points in rows.items()]
    good = columns.encode_block(0, rows["INT"], columns.KeyTable())
    bad = {
        "a byte more": good + b"\0",
        "a byte less": good[:-1],
        "no rows": b"\0\0\0\0",
        "more rows than records": b"\0\x01\x02\0",
        "more rows than a block may have": b"\0\x81\x80\x40\x81\x80\x40\0",
        "an unknown code": good[:-1].replace(b"\x01\0\x03", b"\x01\0\x09"),
        "more values than a block may have": b"\0\x80\x80\x40\x80\x80\x40\0\0\0\0\0\0\0"
        + b"\x21"
        + b"\0\x06\x01\xc0" * 33,
    }
    return vectors + [
        {"name": name, "content": raw.hex(), "expect": "damaged"} for name, raw in bad.items()
    ]


def _column_vector(name: str, points: list[list[Any]]) -> Vector:
    content = columns.encode_block(3, points, columns.KeyTable())
    steps, times, rows = columns.rows_of(points)
    names = list(dict.fromkeys(key for row in rows for key in row))
    return {
        "name": name,
        "content": content.hex(),
        "expect": "ok",
        "first": 3,
        "records": len(points),
        "steps": steps,
        "times": times,
        "columns": {
            key: [[at, _plain(row[key])] for at, row in enumerate(rows) if key in row]
            for key in names
        },
    }


# ------------------------------------------------------------------ objects
def object_vectors() -> list[Vector]:
    secret, equal = fixed("dedup"), b"a" * 1000
    made = {
        "not compressed": _object(2, b"content", b"content", Compression.NONE),
        "compressed": _object(2, zstd_of_equal_bytes(97, 1000), equal, Compression.ZSTD),
        "the same by another zstd": _object(
            2, zstd_of_equal_bytes(97, 1000, blocks=2), equal, Compression.ZSTD
        ),
        "empty": _object(7, b"", b"", Compression.NONE),
    }
    vectors = [
        {
            "name": name,
            "dedup_secret": secret.hex(),
            "key": key.hex(),
            "id": crypto.sha256(raw).hex(),
            "file": raw.hex(),
            "class": raw[6],
            "content": content.hex(),
            "expect": "ok",
        }
        for name, (key, raw, content) in made.items()
    ]
    base, (key, raw, _) = vectors[0], made["not compressed"]
    flipped = _flip(raw, 20)
    other_class = _flip(raw, 6)
    long_zeros = _object(2, b"content", b"content", Compression.NONE, padded=136)
    claims = _object(2, b"content", b"contents", Compression.NONE)
    dirty = _object(2, b"content", b"content", Compression.NONE, fill=b"\x01")
    bomb = _object(2, zstd_of_equal_bytes(97, 1000), equal[1:], Compression.ZSTD)

    def changed(name: str, what: tuple[bytes, bytes], expect: str, **more: str) -> Vector:
        base_id = crypto.sha256(what[1]).hex()
        facts = {"key": what[0].hex(), "file": what[1].hex(), "id": base_id, "expect": expect}
        return {**base, "name": name, **facts, **more}

    return [
        *vectors,
        changed("flipped", (key, flipped), "forged", id=crypto.sha256(raw).hex()),
        changed("flipped, and named so", (key, flipped), "forged"),
        changed("class changed, and named so", (key, other_class), "forged"),
        changed("another dedup secret", (key, raw), "forged", dedup_secret=fixed("other").hex()),
        changed("another key", (fixed("other"), raw), "forged"),
        changed("cut, and named so", (key, raw[:100]), "torn"),
        changed("padded longer than Padmé says", long_zeros[:2], "damaged"),
        changed("padded with ones", dirty[:2], "damaged"),
        changed("claims another length", claims[:2], "damaged"),
        changed("claims another length after zstd", bomb[:2], "damaged"),
    ]


def _object(
    data_class: int, data: bytes, content: bytes, how: int, *, padded: int = 0, fill: bytes = b"\0"
) -> tuple[bytes, bytes, bytes]:
    words = struct.pack("<II", len(data) | how << 28, len(content))
    body = (words + data).ljust(padded or crypto.padme(8 + len(data)), fill)
    key = crypto.object_key(fixed("dedup"), data_class, body)
    header = spec.OBJECT_MAGIC + bytes((1, 1, data_class, 0))
    return key, header + crypto.encrypt(key, bytes(24), body, spec.LABEL_OBJECT + header), content


# ------------------------------------------------------------------ the worked example
def example_log() -> Log:
    """Chapter 15: one record and a final head."""
    log = Log("example", DataClass.META)
    record = pack([int(RecordKind.STATE), START_US, "finished", 0])
    log.seal(FrameType.RECORDS, records.encode_records(0, [record]))
    log.head(final=True)
    return log


def example_vectors() -> list[Vector]:
    log = example_log()
    header, _ = segment.decode_header(log.header)
    plain = records.encode_records(0, [pack([int(RecordKind.STATE), START_US, "finished", 0])])
    return [
        {
            "name": "chapter 15 of docs/format.md",
            "device_seed": DEVICE_SEED.hex(),
            "pair_seed": fixed("pair seed").hex(),
            "class_secret": log.class_secret.hex(),
            "ephemeral_secret": fixed("ephemeral segment example").hex(),
            "segment_key": log.key.hex(),
            "context": header.context().hex(),
            "frame_key": crypto.derive(log.key, spec.LABEL_FRAME, log.id).hex(),
            "content": plain.hex(),
            "chain": segment.first_chain(log.header).hex(),
            "chain_after": crypto.chain_step(segment.first_chain(log.header), log.frames[:1]).hex(),
            "file": log.raw.hex(),
            "expect": "ok",
            "frames": ["ok", "ok"],
        }
    ]


_HEADER_ROWS: Final = (
    (8, "magic"),
    (4, "version 1, suite 1, class meta, flags"),
    (4, "length of the header: 444"),
    (32, "project id"),
    (16, "subject"),
    (16, "segment id"),
    (16, "writer id"),
    (32, "pair"),
    (32, "device"),
    (32, "certificate"),
    (4, "epoch 1"),
    (4, "zero"),
    (8, "started: 2026-01-01"),
    (16, "policy tag: none"),
    (8, "supersedes: -1, nothing"),
    (32, "commitment"),
    (32, "sealed box: ephemeral public key"),
    (16, "sealed box: tag"),
    (64, "sealed box: segment key and context, encrypted"),
    (2, "no predecessors"),
    (2, "zero"),
    (64, "signature"),
)
_FRAME_ROWS: Final = (
    (2, "mark"),
    (2, "type 2 (RECORDS), flags"),
    (4, "length of the body: 24 + 128 + 16"),
    (8, "index 0"),
    (24, "nonce"),
    (128, "ciphertext"),
    (16, "tag"),
    (4, "CRC-32"),
)
_HEAD_ROWS: Final = (
    (2, "mark"),
    (2, "type 4 (HEAD), flags"),
    (4, "length of the body: 128"),
    (8, "index 1"),
    (8, "count: 1 frame before"),
    (8, "length: 632 bytes before"),
    (32, "chain"),
    (8, "time"),
    (8, "final, zeros"),
    (64, "signature"),
    (4, "CRC-32"),
)


def example_text() -> str:
    """The lines between the markers of chapter 15."""
    vector, log = example_vectors()[0], example_log()
    shown = ("device_seed", "pair_seed", "ephemeral_secret", "segment_key")
    computed = ("class_secret", "context", "frame_key", "content", "chain", "chain_after")
    lines = ["Inputs, and what is computed from them:", "", "```"]
    lines += [f"{name:<17} {vector[name]}" for name in shown + computed]
    lines += ["```", "", "`content` is: first sequence 0, count 1, length 21, and the record"]
    lines += ['`[5, 1767225600000000, "finished", 0]`. The file, 780 bytes:', "", "```"]
    at = 0
    for rows in (_HEADER_ROWS, _FRAME_ROWS, _HEAD_ROWS):
        for size, meaning in rows:
            for cut in range(0, size, 32):
                piece = log.raw[at + cut : at + min(cut + 32, size)]
                lines.append(
                    f"{at + cut:3}  {piece.hex():<64}  {meaning if not cut else ''}".rstrip()
                )
            at += size
    return "\n".join([*lines, "```"])


def all_vectors() -> dict[str, list[Vector]]:
    """Every file's vectors, by the file's stem."""
    return {
        "padme": padme_vectors(),
        "hashes": hash_vectors(),
        "signatures": signature_vectors(),
        "envelope": envelope_vectors(),
        "keyslot": keyslot_vectors(),
        "recovery": recovery_vectors(),
        "segment": segment_vectors(),
        "records": record_vectors(),
        "columns": column_vectors(),
        "objects": object_vectors(),
        "example": example_vectors(),
    }


def as_text(stem: str, vectors: list[Vector]) -> str:
    """The content of one file of vectors."""
    body = {"format": "localstore 1", "vectors": vectors}
    return json.dumps(body, indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def main() -> None:
    """Write everything."""
    for stem, vectors in all_vectors().items():
        (HERE / f"{stem}.json").write_text(as_text(stem, vectors), "utf-8")
    text = DOCUMENT.read_text("utf-8")
    before, rest = text.split("<!-- example:begin -->\n")
    _, after = rest.split("<!-- example:end -->")
    begin, end = "<!-- example:begin -->\n", "<!-- example:end -->"
    DOCUMENT.write_text(before + begin + example_text() + "\n" + end + after, "utf-8")


if __name__ == "__main__":
    main()
