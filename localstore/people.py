"""Whose a key is: users, and the rotations from one generation of their keys to the next.

Pure and key-free (docs/format.md, sections 5.3 and 10.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from localstore import crypto
from localstore.errors import Damaged
from localstore.format import spec
from localstore.format.spec import CertKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from localstore.format.signed import SignedFile

Fields = dict[str, tuple[type, int | None]]
MAX_NUMBER: Final = 2**32 - 1  # of epochs and generations
_USER: Final[Fields] = {"user": (bytes, 16)}
# What the body of each kind must hold; anybody can sign nonsense, so it is refused by itself.
CERT_FIELDS: Final[dict[int, Fields]] = {
    CertKind.USER: {**_USER, "generation": (int, None), "box": (bytes, 32)},
    CertKind.DEVICE: {
        **_USER,
        "generation": (int, None),
        "sign": (bytes, 32),
        "box": (bytes, 32),
        "name": (bytes, None),
    },
    CertKind.DEPOSIT: {
        **_USER,
        "generation": (int, None),
        "sign": (bytes, 32),
        "not_after": (int, None),
    },
    CertKind.ROTATION: {
        **_USER,
        "generation": (int, None),
        "sign": (bytes, 32),
        "box": (bytes, 32),
        "kept": (list, None),
        "proof": (bytes, 64),
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A person: sign keys and box keys by generation.

    Attributes:
        disputed: the first generation that two rotations claim, 0 when there is none.
    """

    id: bytes
    sign: Mapping[int, bytes]
    box: Mapping[int, bytes]
    disputed: int = 0

    @property
    def contested(self) -> bool:
        """Whether two rotations compete and this reader has the key of neither."""
        return self.disputed > 0

    @property
    def generation(self) -> int:
        """The latest generation."""
        return max(self.sign)


def user_id(sign_public: bytes) -> bytes:
    """A user's id: the hash of the sign key of generation 1, 16 bytes."""
    return crypto.digest(spec.LABEL_USER, sign_public, size=16)


def well_formed(
    files: Iterable[SignedFile],
    fields: Mapping[int, Fields],
    least: Fields,
    refused: list[tuple[str, str]],
) -> Iterator[SignedFile]:
    """Files whose bodies hold what their kind must; `least` is what unknown kinds must hold."""
    for file in files:
        try:
            for name, (kind, size) in fields.get(file.kind, least).items():
                file.get(name, kind, size)
            yield file
        except Damaged as problem:
            refused.append((file.hash.hex(), problem.problem))


def fold_users(certs: Iterable[SignedFile], own: frozenset[bytes]) -> dict[bytes, User]:
    """Users by their id, from well-formed certificates in an order that does not change.

    Args:
        own: sign keys of the reader, which decide between competing rotations.
    """
    users: dict[bytes, User] = {}
    rotations: dict[tuple[bytes, int], list[SignedFile]] = {}
    for cert in certs:
        user = cert.get("user", bytes, 16)
        if cert.kind == CertKind.USER and user == user_id(cert.signer):
            box = cert.get("box", bytes, 32)
            users[user] = User(id=user, sign={1: cert.signer}, box={1: box})
        elif cert.kind == CertKind.ROTATION and _proves_new_key(cert):
            rotations.setdefault((user, cert.get("generation", int)), []).append(cert)
    line = _line_to(own, rotations)
    for user, generation in sorted(rotations):
        if user in users:
            users[user] = _rotated(users[user], rotations[user, generation], line)
    return users


def _line_to(
    own: frozenset[bytes], rotations: Mapping[tuple[bytes, int], list[SignedFile]]
) -> frozenset[bytes]:
    """The reader's own keys, and those of earlier generations that led to them."""
    line = set(own)
    for key in sorted(rotations, key=lambda one: one[1], reverse=True):
        line |= {cert.signer for cert in rotations[key] if cert.get("sign", bytes, 32) in line}
    return frozenset(line)


def _rotated(known: User, certs: list[SignedFile], line: frozenset[bytes]) -> User:
    """The user with one more generation, if one of the certificates follows the last key.

    Two rotations of one generation: a thief may have made one. The one that leads to the reader's
    own key, or else the smaller hash, goes on; without an own key everything of this user is
    flagged until a person decides.
    """
    generation = certs[0].get("generation", int)
    fitting = [cert for cert in certs if known.sign.get(generation - 1) == cert.signer]
    if not fitting or generation in known.sign:
        return known
    chosen = min(fitting, key=lambda cert: (cert.get("sign", bytes, 32) not in line, cert.hash))
    sign, others = chosen.get("sign", bytes, 32), {cert.get("sign", bytes, 32) for cert in fitting}
    decided = len(others) == 1 or (sign in line and len(others & line) == 1)
    return User(
        id=known.id,
        sign={**known.sign, generation: sign},
        box={**known.box, generation: chosen.get("box", bytes, 32)},
        disputed=known.disputed or (0 if decided else generation),
    )


def rotation_statement(signer: bytes, body: Mapping[str, Any]) -> bytes:
    """What the new key of a rotation signs, so that nobody can rotate to the key of another.

    Raises:
        Damaged: `kept` holds something else than keys.
    """
    kept = body["kept"]
    if not all(isinstance(one, bytes) and len(one) == spec.KEY_BYTES for one in kept):
        raise Damaged("a rotation that keeps what are no keys")
    generation = int(body["generation"]).to_bytes(4, "little")
    parts: list[bytes] = [body["user"], generation, signer, body["box"], *kept]
    return b"".join(parts)


def _proves_new_key(cert: SignedFile) -> bool:
    if not 1 < cert.get("generation", int) <= MAX_NUMBER:
        return False
    try:
        crypto.check_signature(
            cert.get("sign", bytes, 32),
            spec.SIGN_ROTATION,
            rotation_statement(cert.signer, cert.body),
            cert.get("proof", bytes, 64),
        )
    except Damaged:
        return False
    return True


def statements(
    certs: Iterable[SignedFile], user: bytes, own: frozenset[bytes]
) -> tuple[SignedFile, ...]:
    """A user's own statements, by generation: USER, and the rotations that were followed."""
    known = sorted(well_formed(certs, CERT_FIELDS, _USER, []), key=lambda cert: cert.hash)
    found = fold_users(known, own).get(user)
    if found is None:
        return ()
    out: dict[int, SignedFile] = {}
    for cert in known:
        if cert.kind == CertKind.USER and cert.signer == found.sign[1]:
            out.setdefault(1, cert)
        elif cert.kind == CertKind.ROTATION and is_followed(cert, found):
            out.setdefault(cert.get("generation", int), cert)
    return tuple(out[generation] for generation in sorted(out))


def is_followed(cert: SignedFile, user: User) -> bool:
    """Whether a ROTATION is the one by which this user came to the generation it names."""
    generation = cert.get("generation", int)
    return (
        cert.get("user", bytes, 16) == user.id
        and cert.signer == user.sign.get(generation - 1)
        and cert.get("sign", bytes, 32) == user.sign.get(generation)
        and _proves_new_key(cert)
    )
