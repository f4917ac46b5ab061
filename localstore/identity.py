"""Who works in this home: a person with a device, or the holder of tickets.

The secret of a home is one msgpack map, plain or under an Argon2id passphrase (docs/format.md,
section 13); where it lies is for `localstore.vault`. A recovery code moves a person elsewhere.
"""

from __future__ import annotations

import base64
import os
import struct
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from localstore import crypto
from localstore.errors import (
    Damaged,
    Forged,
    KeyUnavailable,
    NotPermitted,
)
from localstore.format import signed, spec
from localstore.format.spec import CertKind, Protection
from localstore.people import user_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


_CHECK_BYTES: Final = 16
_HEAD: Final = struct.Struct("<4sBBBxI16s")
_PASSES: Final = range(2, 7)
_MEMORY_KIB: Final = range(64 * 1024, 1024 * 1024 + 1)
_RECOVERY_PREFIX: Final = "LS1-"


def now_us() -> int:
    """Unix time in microseconds."""
    return time.time_ns() // 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Deposit:
    """A ticket that this home has: write to one project, read nothing."""

    project: bytes
    device_seed: bytes = field(repr=False)
    cert: bytes = field(repr=False)
    naming: bytes = field(repr=False)
    dedup: bytes = field(repr=False)
    entity: str
    name: str
    not_after_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The secrets of one home. Never printed: `repr` shows ids only.

    Attributes:
        user: user id, 16 bytes; empty on a deposit-only machine.
        roots: user roots by generation, 16 bytes each.
        device_seed, device_box: Ed25519 seed and X25519 secret, 32 bytes each.
        device_cert: the device's certificate, whole file.
        user_certs: the user's own statements, whole files, oldest first.
        home_key: keys file names and sealed caches of this home.
        deposits: tickets by project id (hex).
    """

    user: bytes = b""
    user_name: str = ""
    roots: Mapping[int, bytes] = field(default_factory=dict, repr=False)
    device_seed: bytes = field(default=b"", repr=False)
    device_box: bytes = field(default=b"", repr=False)
    device_cert: bytes = field(default=b"", repr=False)
    user_certs: tuple[bytes, ...] = field(default=(), repr=False)
    home_key: bytes = field(default=b"", repr=False)
    deposits: Mapping[str, Deposit] = field(default_factory=dict, repr=False)

    @property
    def is_member(self) -> bool:
        """Whether this home belongs to a person, and so may read."""
        return bool(self.roots)

    @property
    def generation(self) -> int:
        """The latest generation of the user's keys."""
        return max(self.roots)

    def user_seed(self, generation: int | None = None) -> bytes:
        """Ed25519 seed of the user.

        Raises:
            NotPermitted: a deposit-only machine.
        """
        if not self.roots:
            raise NotPermitted(
                "this machine has deposit tickets only",
                hint="run this on a machine of the person who made the ticket",
            )
        root = self.roots[self.generation if generation is None else generation]
        return crypto.derive(root, spec.LABEL_USER_SIGN)

    def user_box(self, generation: int | None = None) -> bytes:
        """X25519 secret of the user."""
        root = self.roots[self.generation if generation is None else generation]
        return crypto.derive(root, spec.LABEL_USER_BOX)

    def own_keys(self) -> frozenset[bytes]:
        """The user's public sign keys of every generation known here."""
        return frozenset(crypto.sign_public(self.user_seed(g)) for g in self.roots)

    def recipients(self) -> frozenset[str]:
        """Tags (hex) of the public keys that keyslots for this home are sealed to."""
        boxes = [crypto.box_public(self.user_box(g)) for g in self.roots]
        if self.device_box:
            boxes.append(crypto.box_public(self.device_box))
        return frozenset(recipient_tag(box) for box in boxes)


def recipient_tag(box: bytes) -> str:
    """The first part of a keyslot's name: 32 hex digits."""
    return crypto.digest(spec.LABEL_RECIPIENT, box, size=16).hex()


# ------------------------------------------------------------------ making one
def new_member(user_name: str) -> Identity:
    """A new person on a new machine: user of generation 1, device, and their certificates."""
    root = crypto.random_bytes(16)
    seed = crypto.derive(root, spec.LABEL_USER_SIGN)
    return _with_device(
        Identity(
            user=user_id(crypto.sign_public(seed)),
            user_name=user_name,
            roots={1: root},
            user_certs=(_user_statement(root),),
        )
    )


def _user_statement(root: bytes) -> bytes:
    seed = crypto.derive(root, spec.LABEL_USER_SIGN)
    box = crypto.box_public(crypto.derive(root, spec.LABEL_USER_BOX))
    user = user_id(crypto.sign_public(seed))
    return signed.encode(
        spec.CERT_MAGIC,
        CertKind.USER,
        project=signed.NO_PROJECT,
        seed=seed,
        created_us=now_us(),
        body={"user": user, "generation": 1, "box": box},
    )


def _with_device(identity: Identity) -> Identity:
    """The same person with new device keys, certified by the latest user key."""
    seed, box = crypto.random_bytes(32), crypto.random_bytes(32)
    return replace(
        identity,
        device_seed=seed,
        device_box=box,
        device_cert=certify_device(identity, seed, box),
        home_key=identity.home_key or crypto.random_bytes(32),
    )


def certify_device(identity: Identity, seed: bytes, box: bytes) -> bytes:
    """A DEVICE certificate for the given keys; the machine's name is sealed to the user."""
    meta = crypto.derive(identity.roots[identity.generation], spec.LABEL_USER_META)
    name = crypto.encrypt_with_nonce(meta, os.uname().nodename.encode(), spec.LABEL_USER_META)
    return signed.encode(
        spec.CERT_MAGIC,
        CertKind.DEVICE,
        project=signed.NO_PROJECT,
        seed=identity.user_seed(),
        created_us=now_us(),
        body={
            "user": identity.user,
            "generation": identity.generation,
            "sign": crypto.sign_public(seed),
            "box": crypto.box_public(box),
            "name": name,
        },
    )


# ------------------------------------------------------------------ recovery code
def recovery_code(identity: Identity) -> str:
    """The latest user root as text, to be written down; moves the identity to another machine."""
    identity.user_seed()  # refuses where there is no user
    generation = identity.generation
    body = bytes((generation,)) + identity.roots[generation] + identity.user
    raw = body + crypto.digest(spec.LABEL_RECOVERY, body)[:2]
    text = base64.b32encode(raw).decode().rstrip("=")
    return _RECOVERY_PREFIX + "-".join(text[at : at + 4] for at in range(0, len(text), 4))


def from_recovery_code(code: str, user_name: str) -> Identity:
    """The person that a recovery code names, with new keys for this device.

    Raises:
        KeyUnavailable: not a recovery code, or mistyped.
    """
    text = "".join(code.split()).replace("-", "").upper()
    bad = KeyUnavailable(
        "that is no recovery code, or it is mistyped",
        hint="it begins with LS1- and has 14 groups of 4 letters and digits",
    )
    prefix = _RECOVERY_PREFIX.rstrip("-")
    if not text.startswith(prefix):
        raise bad
    try:
        raw = base64.b32decode(text[len(prefix) :])
    except ValueError:
        raise bad from None
    body, check = raw[:-2], raw[-2:]
    if len(raw) != 35 or crypto.digest(spec.LABEL_RECOVERY, body)[:2] != check or not body[0]:
        raise bad
    root, user = body[1:17], body[17:33]
    first = body[0] == 1
    if first and user_id(crypto.sign_public(crypto.derive(root, spec.LABEL_USER_SIGN))) != user:
        raise bad
    return _with_device(
        Identity(
            user=user,
            user_name=user_name,
            roots={body[0]: root},
            user_certs=(_user_statement(root),) if first else (),
        )
    )


# ------------------------------------------------------------------ as bytes
def to_bytes(identity: Identity) -> bytes:
    """The msgpack map of an identity's secrets."""
    deposits = {
        project: {name: getattr(deposit, name) for name in Deposit.__dataclass_fields__}
        for project, deposit in identity.deposits.items()
    }
    return msgspec.msgpack.encode(
        {
            "user": identity.user,
            "user_name": identity.user_name,
            "roots": dict(identity.roots),
            "device_seed": identity.device_seed,
            "device_box": identity.device_box,
            "device_cert": identity.device_cert,
            "user_certs": list(identity.user_certs),
            "home_key": identity.home_key,
            "deposits": deposits,
        }
    )


def from_bytes(raw: bytes) -> Identity:
    """What `to_bytes` wrote.

    Raises:
        Damaged: not such a map.
    """
    try:
        body = msgspec.msgpack.decode(raw, type=dict[str, Any])
        body["user_certs"] = tuple(body["user_certs"])
        body["deposits"] = {k: Deposit(**v) for k, v in body["deposits"].items()}
        return Identity(**body)
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise no_identity() from error


def no_identity() -> Damaged:
    return Damaged(
        "the secret of this home is damaged",
        hint="move it away, then `localstore key recover` with your recovery code",
    )


def lock(identity: Identity, passphrase: str = "") -> bytes:
    """The content of a secret file, under a passphrase when one is given (Argon2id)."""
    plain = to_bytes(identity)
    if not passphrase:
        head = _HEAD.pack(spec.SECRET_MAGIC, 1, Protection.PLAIN, 0, 0, bytes(16))
        return head + plain + crypto.digest(spec.LABEL_SECRET, head, plain, size=_CHECK_BYTES)
    salt = crypto.random_bytes(16)
    passes, memory_kib = 3, 256 * 1024
    head = _HEAD.pack(spec.SECRET_MAGIC, 1, Protection.ARGON2ID, passes, memory_kib, salt)
    key = _stretch(passphrase, salt, passes, memory_kib)
    return head + crypto.encrypt_with_nonce(key, plain, spec.LABEL_SECRET + head)


def unlock(raw: bytes, passphrase: Callable[[], str]) -> Identity:
    """Read a secret file.

    Args:
        passphrase: called only when the file is protected.

    Raises:
        Damaged: not a secret file, or with cost parameters outside what we would ever write.
        KeyUnavailable: the passphrase is wrong.
    """
    if len(raw) < _HEAD.size or raw[:4] != spec.SECRET_MAGIC or raw[4] != 1:
        raise Damaged("not a secret file of this version")
    _, _, protection, passes, memory_kib, salt = _HEAD.unpack_from(raw)
    head, body = raw[: _HEAD.size], raw[_HEAD.size :]
    if protection == Protection.PLAIN:
        plain, check = body[:-_CHECK_BYTES], body[-_CHECK_BYTES:]
        if crypto.digest(spec.LABEL_SECRET, head, plain, size=_CHECK_BYTES) != check:
            raise no_identity()
        return from_bytes(plain)
    if protection != Protection.ARGON2ID or passes not in _PASSES or memory_kib not in _MEMORY_KIB:
        raise Damaged(f"a secret file that asks for {passes} passes over {memory_kib} KiB")
    key = _stretch(passphrase(), salt, passes, memory_kib)
    try:
        return from_bytes(crypto.decrypt_with_nonce(key, body, spec.LABEL_SECRET + head))
    except Forged:
        raise KeyUnavailable("the passphrase does not open the key") from None


def _stretch(passphrase: str, salt: bytes, passes: int, memory_kib: int) -> bytes:
    # A variable or a file may hold bytes that are no UTF-8: they come here as surrogates.
    raw = passphrase.encode("utf-8", "surrogateescape")
    try:
        return crypto.argon2id(raw, salt, passes=passes, memory_bytes=memory_kib * 1024)
    except (RuntimeError, MemoryError):
        what = f"the key asks for {memory_kib // 1024} MiB of memory, which are not here"
        raise KeyUnavailable(what) from None
