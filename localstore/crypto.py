"""The one module that computes with keys: suite 1 of docs/format.md, section 4.

X25519 sealed boxes, XChaCha20-Poly1305, Ed25519, BLAKE2b, BLAKE3 and Argon2id. Nothing else in
the project imports nacl or blake3. Bytes that do not fit are `Forged`.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
import zlib
from typing import TYPE_CHECKING, Any, Final, Protocol

import nacl.bindings as sodium
from nacl.exceptions import CryptoError

from localstore.errors import Damaged, Forged
from localstore.format import spec

if TYPE_CHECKING:
    from collections.abc import Iterable
    from io import BufferedReader, FileIO

try:
    # The public binding copies every argument: 8.7 us for a 64-byte record where the same
    # libsodium function through its own handle takes 1.6. Private, so it has a public fallback.
    from nacl._sodium import ffi as _ffi
    from nacl._sodium import lib as _lib

    _encrypt_in_place = _lib.crypto_aead_xchacha20poly1305_ietf_encrypt
    _decrypt_in_place = _lib.crypto_aead_xchacha20poly1305_ietf_decrypt
    _NULL = _ffi.NULL
except (ImportError, AttributeError):  # pragma: no cover - a PyNaCl with another layout
    _ffi = _lib = _encrypt_in_place = _decrypt_in_place = _NULL = None

Bytes = bytes | bytearray | memoryview


class Hasher(Protocol):
    """A hash that is fed piece by piece."""

    def update(self, data: Bytes, /) -> object:
        """Take more bytes."""

    def digest(self) -> bytes:
        """The hash of all bytes so far."""


_NO_KEYS_OF_SMALL_ORDER: Final = frozenset({bytes(32), bytes([1]) + bytes(31)})


def random_bytes(count: int) -> bytes:
    """Fresh bytes from the operating system.

    Never drawn ahead: a pool would repeat itself in a forked child or a restored virtual machine.
    """
    return os.urandom(count)


# ------------------------------------------------------------------ hashes and derived keys
def digest(label: bytes, *parts: Bytes, size: int = spec.HASH_BYTES) -> bytes:
    """BLAKE2b of the parts, laid end to end, with `label` as its person."""
    state = hashlib.blake2b(digest_size=size, person=label)
    for part in parts:
        state.update(part)
    return state.digest()


def keyed_digest(key: bytes, label: bytes, *parts: Bytes, size: int = spec.HASH_BYTES) -> bytes:
    """BLAKE2b keyed with `key`, `label` as its person."""
    state = hashlib.blake2b(digest_size=size, key=key, person=label)
    for part in parts:
        state.update(part)
    return state.digest()


def derive(secret: bytes, label: bytes, salt: bytes = b"") -> bytes:
    """A 32-byte key for one purpose: BLAKE2b of nothing, keyed (format.md section 4.2)."""
    return hashlib.blake2b(b"", digest_size=32, key=secret, person=label, salt=salt).digest()


def same(left: bytes, right: bytes) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(left, right)


def sha256(data: Bytes) -> bytes:
    """SHA-256: the id of an object, and the digest in receipts."""
    return hashlib.sha256(data).digest()


def object_key(dedup_secret: bytes, data_class: int, data: Bytes) -> bytes:
    """BLAKE3 keyed with the dedup secret, over an object's class and final padded bytes."""
    import blake3

    hasher = blake3.blake3(bytes((data_class,)), key=dedup_secret)
    return hasher.update(data).digest()


def content_hasher() -> Hasher:
    """BLAKE3 of a file's content, fed piece by piece; stands in manifests, which are sealed."""
    import blake3

    return blake3.blake3()


def content_hash(content: Bytes) -> bytes:
    """BLAKE3 of a whole content, 32 bytes."""
    import blake3

    return blake3.blake3(content).digest()


def stream_hash(stream: FileIO | BufferedReader) -> bytes:
    """BLAKE3 of all that an open file still gives, 32 bytes.

    Raises:
        OSError: the disk refused.
    """
    import blake3

    new: Any = blake3.blake3  # has what is used; the type of hashlib asks for more
    return bytes(hashlib.file_digest(stream, new).digest())


def chunk_hash(dedup_secret: bytes, data_class: int, chunk: Bytes) -> bytes:
    """By what a plain chunk is known again, 32 bytes; never leaves a sealed cache."""
    import blake3

    key = derive(dedup_secret, spec.LABEL_CHUNK, bytes((data_class,)))
    return blake3.blake3(chunk, key=key).digest()


# ------------------------------------------------------------------ X25519
def box_public(secret: bytes) -> bytes:
    """The X25519 public key of a 32-byte secret scalar."""
    return bytes(sodium.crypto_scalarmult_base(secret))


def seal(recipient: bytes, secret: bytes, context: bytes) -> bytes:
    """Seal `secret` and the 32-byte hash of its context to a public key.

    A sealed box has no associated data: the context stands inside, or a slot could be transplanted.

    Raises:
        Forged: the public key is of small order, so everybody could open the box.
    """
    try:
        return bytes(sodium.crypto_box_seal(secret + context, recipient))
    except CryptoError as error:
        raise Forged("a public key of small order") from error


def unseal(private: bytes, box: bytes, context: bytes) -> bytes:
    """Open what `seal` made for the owner of `private`.

    Raises:
        Forged: not sealed to this key, changed, or sealed in another context.
    """
    try:
        plain = bytes(sodium.crypto_box_seal_open(box, box_public(private), private))
    except (CryptoError, ValueError, TypeError) as error:
        raise Forged("a sealed box that does not open with this key") from error
    secret, inside = plain[: -spec.HASH_BYTES], plain[-spec.HASH_BYTES :]
    if not same(inside, context):
        raise Forged("a sealed box that belongs elsewhere")
    return secret


# ------------------------------------------------------------------ Ed25519
def sign_public(seed: bytes) -> bytes:
    """The Ed25519 public key of a 32-byte seed."""
    public, _ = sodium.crypto_sign_seed_keypair(seed)
    return bytes(public)


def sign(seed: bytes, label: bytes, message: Bytes) -> bytes:
    """A 64-byte Ed25519 signature over label, zero byte and message."""
    _, secret = sodium.crypto_sign_seed_keypair(seed)
    return bytes(sodium.crypto_sign(label + b"\0" + bytes(message), secret)[:64])


def check_signature(public: bytes, label: bytes, message: Bytes, signature: Bytes) -> None:
    """Verify what `sign` made.

    Raises:
        Forged: the signature does not fit.
    """
    if public in _NO_KEYS_OF_SMALL_ORDER:
        raise Forged("a signing key of small order")
    try:
        sodium.crypto_sign_open(bytes(signature) + label + b"\0" + bytes(message), public)
    except (CryptoError, ValueError, TypeError) as error:
        raise Forged("a signature that does not fit") from error


# ------------------------------------------------------------------ XChaCha20-Poly1305
def encrypt(key: bytes, nonce: bytes, plain: Bytes, context: Bytes) -> bytes:
    """Ciphertext and tag; `context` is authenticated and not stored."""
    return bytes(
        sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(bytes(plain), bytes(context), nonce, key)
    )


def decrypt(key: bytes, nonce: bytes, sealed: Bytes, context: Bytes) -> bytes:
    """Open what `encrypt` made.

    Raises:
        Forged: any bit of key, nonce, ciphertext or context differs.
    """
    try:
        return bytes(
            sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(
                bytes(sealed), bytes(context), bytes(nonce), key
            )
        )
    except (CryptoError, ValueError, TypeError) as error:
        raise Forged("ciphertext that does not open with its key") from error


def encrypt_within(
    key: bytes, nonce: bytes, buffer: bytearray, start: int, end: int, context: bytes
) -> None:
    """`encrypt`, in place: what stands from `start` to `end`; the tag comes behind it."""
    if _lib is None:
        sealed = encrypt(key, nonce, memoryview(buffer)[start:end], context)
        buffer[start : end + spec.TAG_BYTES] = sealed
        return
    at = _ffi.from_buffer("unsigned char[]", buffer) + start
    length = _ffi.new("unsigned long long *")
    _encrypt_in_place(at, length, at, end - start, context, len(context), _NULL, nonce, key)


def decrypt_within(
    key: bytes, nonce: bytes, buffer: bytearray, start: int, end: int, context: bytes
) -> None:
    """`decrypt`, in place: ciphertext and tag from `start` to `end`; the tag's bytes stay.

    Raises:
        Forged: any bit of key, nonce, ciphertext or context differs.
    """
    if end - start < spec.TAG_BYTES or len(key) != spec.KEY_BYTES:
        raise Forged("ciphertext shorter than a tag, or a key of another length")
    if _lib is None:
        plain = decrypt(key, nonce, memoryview(buffer)[start:end], context)
        buffer[start : end - spec.TAG_BYTES] = plain
        return
    at = _ffi.from_buffer("unsigned char[]", buffer) + start
    length = _ffi.new("unsigned long long *")
    if _decrypt_in_place(at, length, _NULL, at, end - start, context, len(context), nonce, key):
        raise Forged("ciphertext that does not open with its key")


def encrypt_with_nonce(key: bytes, plain: Bytes, context: Bytes) -> bytes:
    """A fresh nonce, then ciphertext and tag: for labels, caches and secret files."""
    nonce = random_bytes(spec.NONCE_BYTES)
    return nonce + encrypt(key, nonce, plain, context)


def decrypt_with_nonce(key: bytes, sealed: Bytes, context: Bytes) -> bytes:
    """Open what `encrypt_with_nonce` made.

    Raises:
        Forged: any bit differs, or it is shorter than a nonce and a tag.
    """
    cut = spec.NONCE_BYTES
    return decrypt(key, bytes(sealed[:cut]), sealed[cut:], context)


def argon2id(passphrase: bytes, salt: bytes, *, passes: int, memory_bytes: int) -> bytes:
    """A 32-byte key from a passphrase (RFC 9106)."""
    return bytes(
        sodium.crypto_pwhash_alg(
            32, passphrase, salt, passes, memory_bytes, sodium.crypto_pwhash_ALG_ARGON2ID13
        )
    )


# ------------------------------------------------------------------ padding
def padme(length: int) -> int:
    """The Padmé length for `length` bytes, never below 128 (Nikitin et al., PETS 2019).

    Leaks O(log log length) bits of the length and costs at most 12 %.
    """
    if length <= spec.PAD_FLOOR_BYTES:
        return spec.PAD_FLOOR_BYTES
    exponent = length.bit_length() - 1
    mask = (1 << (exponent - exponent.bit_length())) - 1
    return (length + mask) & ~mask


_PADDED: Final = [padme(length) for length in range(4097)]
_FRONT: Final = struct.Struct("<2sBBIQ24sI")  # frame header, nonce, first word of the content
_WORD: Final = struct.Struct("<I")
_MARK: Final = spec.FRAME_MARK
_FRAME_AT: Final = len(spec.LABEL_FRAME) + spec.ID_BYTES
_BODY_AT: Final = _FRAME_AT + 16 + spec.NONCE_BYTES
_MAX_PADDED_BYTES: Final = spec.MAX_FRAME_BODY_BYTES - spec.NONCE_BYTES - spec.TAG_BYTES


class FrameSealer:
    """Seals frames of one segment into one reused buffer (format.md section 6.2).

    Not for two threads at once: the caller holds the writer's lock while it uses the result.
    The buffer lies as `label ‖ segment ‖ frame header ‖ nonce ‖ ciphertext ‖ tag ‖ crc`: the
    additional data is its beginning, the frame is its end, and nothing is copied.
    """

    def __init__(self, segment_key: bytes, segment: bytes) -> None:
        self._key = derive(segment_key, spec.LABEL_FRAME, segment)
        self._front = spec.LABEL_FRAME + segment
        self._reserve(8192)

    def _reserve(self, size: int) -> None:
        self._size = size
        self._buffer = bytearray(_BODY_AT + size + spec.TAG_BYTES + _WORD.size)
        self._buffer[:_FRAME_AT] = self._front
        self._view = memoryview(self._buffer)
        if _ffi is not None:
            base = _ffi.from_buffer("unsigned char[]", self._buffer)
            self._pointers = (base, base + _BODY_AT - spec.NONCE_BYTES, base + _BODY_AT)
            self._length = _ffi.new("unsigned long long *")

    def seal(self, kind: int, index: int, content: bytes, compression: int = 0) -> memoryview:
        """The frame that holds `content`; valid until the next call.

        Args:
            kind: a FrameType of the sealed kind.
            index: ordinal of the frame in its log, or sequence number of a record in a tail.
            content: at most MAX_FRAME_BODY_BYTES once padded, with nonce and tag.
            compression: a Compression that was applied to `content`.

        Raises:
            Damaged: the content is too long for a frame.
        """
        size = len(content)
        padded = _PADDED[size + 4] if size < 4000 else padme(size + 4)
        if padded > self._size:
            self._grow(padded)
        buffer, view, end = self._buffer, self._view, _BODY_AT + padded
        word = size | compression << 28
        _FRONT.pack_into(
            buffer, _FRAME_AT, _MARK, kind, 0, 40 + padded, index, os.urandom(24), word
        )
        buffer[_BODY_AT + 4 : end] = content + bytes(padded - size - 4)
        if _lib is not None:
            base, nonce, body = self._pointers
            _encrypt_in_place(
                body, self._length, body, padded, base, _BODY_AT - 24, _NULL, nonce, self._key
            )
        else:
            self._encrypt_by_copy(padded)
        end += 16
        _WORD.pack_into(buffer, end, zlib.crc32(view[_FRAME_AT:end]))
        return view[_FRAME_AT : end + 4]

    def _grow(self, padded: int) -> None:
        # Never beyond the limit, so that every content that is too long comes by here.
        if padded > _MAX_PADDED_BYTES:
            raise Damaged(f"a frame of {padded} bytes, the most is {_MAX_PADDED_BYTES}")
        self._reserve(min(max(padded, 2 * self._size), _MAX_PADDED_BYTES))

    def _encrypt_by_copy(self, padded: int) -> None:
        """The same through the public binding, where the private one has another shape."""
        end, nonce_at = _BODY_AT + padded, _BODY_AT - 24
        nonce, plain = bytes(self._view[nonce_at:_BODY_AT]), self._view[_BODY_AT:end]
        sealed = encrypt(self._key, nonce, plain, self._view[:nonce_at])
        self._buffer[_BODY_AT : end + 16] = sealed


class FrameOpener:
    """Opens the frames that `FrameSealer` made for one segment."""

    def __init__(self, segment_key: bytes, segment: bytes) -> None:
        self._key = derive(segment_key, spec.LABEL_FRAME, segment)
        self._prefix = spec.LABEL_FRAME + segment

    def open(self, header: Bytes, body: Bytes) -> bytes:
        """The padded plain text of one sealed frame.

        Raises:
            Forged: the frame was changed, or belongs to another segment, type or place.
        """
        if len(body) < spec.NONCE_BYTES + spec.TAG_BYTES:
            raise Forged("a sealed frame shorter than a nonce and a tag")
        nonce, sealed = body[: spec.NONCE_BYTES], body[spec.NONCE_BYTES :]
        return decrypt(self._key, bytes(nonce), sealed, self._prefix + bytes(header))


def chain_step(previous: bytes, frames: Iterable[Bytes]) -> bytes:
    """Advance the hash chain of a log over some whole frames, in order."""
    for frame in frames:
        previous = digest(spec.LABEL_CHAIN, previous, frame)
    return previous
