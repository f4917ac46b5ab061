"""The signed envelope of links, certificates, keyslots and tickets (docs/format.md, section 5).

One layout for four kinds of small file: a fixed head, a msgpack map, a signature over both. Bytes
are never rewritten, so keys of the map that this version does not know survive a copy.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from localstore import crypto
from localstore.errors import Damaged, Torn
from localstore.format import spec

if TYPE_CHECKING:
    from collections.abc import Mapping

_HEAD: Final = struct.Struct("<4sBBBB32s32sQI")
SIGN_LABELS: Final = {
    spec.LINK_MAGIC: spec.SIGN_LINK,
    spec.CERT_MAGIC: spec.SIGN_CERT,
    spec.KEYSLOT_MAGIC: spec.SIGN_KEYSLOT,
    spec.TICKET_MAGIC: spec.SIGN_TICKET,
}
NO_PROJECT: Final = bytes(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedFile:
    """One verified envelope.

    Attributes:
        magic: which of the four kinds of file it is.
        kind: a LinkKind, CertKind or SlotKind; 0 for a ticket.
        project: the project's id, or 32 zero bytes for what belongs to no project.
        signer: the Ed25519 public key that signed it.
        created_us: Unix time in microseconds, as the signer claims.
        body: the msgpack map.
        hash: BLAKE2b-256 of the whole file, its name.
    """

    magic: bytes
    kind: int
    project: bytes
    signer: bytes
    created_us: int
    body: Mapping[str, Any] = field(repr=False)  # a ticket's holds secrets
    hash: bytes
    raw: bytes = field(repr=False)

    def get(self, name: str, kind: type, size: int | None = None) -> Any:
        """A field of the body, of the type and size that the format wants.

        Raises:
            Damaged: the field is missing, or of another type or size.
        """
        value: Any = self.body.get(name)
        wrong_type = not isinstance(value, kind) or (kind is int and isinstance(value, bool))
        if wrong_type or (size is not None and len(value) != size):
            want = f"{kind.__name__}" + (f" of {size} bytes" if size is not None else "")
            raise Damaged(f"field {name!r} of a {self.magic.decode()} file is not {want}")
        return value


def file_hash(raw: bytes) -> bytes:
    """The name of a signed file: BLAKE2b-256 of its bytes."""
    return crypto.digest(spec.LABEL_FILE, raw)


def encode(
    magic: bytes, kind: int, *, project: bytes, seed: bytes, created_us: int, body: dict[str, Any]
) -> bytes:
    """Lay out and sign one envelope with the Ed25519 `seed`."""
    packed = msgspec.msgpack.encode(body)
    head = _HEAD.pack(
        magic,
        spec.FORMAT_VERSION,
        spec.SUITE,
        kind,
        0,
        project,
        crypto.sign_public(seed),
        created_us,
        len(packed),
    )
    signed = head + packed
    raw = signed + crypto.sign(seed, SIGN_LABELS[magic], signed)
    _check_length(raw, magic)
    return raw


def _check_length(raw: bytes, magic: bytes) -> None:
    most = spec.MAX_TICKET_BYTES if magic == spec.TICKET_MAGIC else spec.MAX_SIGNED_FILE_BYTES
    if len(raw) > most:
        raise Damaged(f"a signed file of {len(raw)} bytes, the most is {most}")


def decode(raw: bytes, magic: bytes) -> SignedFile:
    """Parse and verify one envelope (format.md section 5.1).

    The signature is checked against the signer that the file names; whether that signer may say
    this is for `localstore.trust` to decide.

    Raises:
        Torn: the bytes end early.
        Damaged: another magic, version or suite, or a body that is not a msgpack map in its
            shortest form (so that two readers cannot read two things into one signature).
        Forged: the signature does not fit.
    """
    _check_length(raw, magic)
    if len(raw) < _HEAD.size + spec.SIGNATURE_BYTES:
        raise Torn(f"a signed file of {len(raw)} bytes")
    found, version, suite, kind, flags, project, signer, created_us, length = _HEAD.unpack_from(raw)
    if found != magic:
        raise Damaged(f"magic {found!r}, want {magic!r}")
    if version != spec.FORMAT_VERSION or suite not in spec.SUPPORTED_SUITES or flags:
        raise Damaged(f"version {version}, suite {suite}, flags {flags} of a newer localstore")
    end = _HEAD.size + length
    if len(raw) != end + spec.SIGNATURE_BYTES:
        raise Torn(f"a signed file of {len(raw)} bytes, want {end + spec.SIGNATURE_BYTES}")
    crypto.check_signature(signer, SIGN_LABELS[magic], raw[:end], raw[end:])
    try:
        body = msgspec.msgpack.decode(raw[_HEAD.size : end], type=dict[str, Any])
        shortest = msgspec.msgpack.encode(body) == raw[_HEAD.size : end]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Damaged("a body that is not a msgpack map") from error
    if not shortest:
        raise Damaged("a body whose msgpack is not in its shortest form")
    return SignedFile(
        magic=magic,
        kind=kind,
        project=project,
        signer=signer,
        created_us=created_us,
        body=body,
        hash=file_hash(raw),
        raw=raw,
    )
