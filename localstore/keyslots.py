"""Keyslots: secrets sealed to a public key, each in a small signed file (docs/format.md 5.4).

They stand outside the logs because what is inside an append-only file cannot be destroyed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from localstore import crypto
from localstore.durable import create_file
from localstore.errors import Damaged
from localstore.format import signed, spec
from localstore.format.spec import SlotKind
from localstore.identity import now_us, recipient_tag
from localstore.people import MAX_NUMBER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from localstore.format.signed import SignedFile
    from localstore.layout import ProjectPaths

NO_CERT: Final = bytes(32)
_NO_PAIR: Final = bytes(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One verified keyslot file; who may have signed it is for its reader to ask."""

    kind: int
    subject: bytes
    recipient: bytes
    epoch: int
    cert: bytes
    box: bytes
    signer: bytes
    pair: bytes
    classes: dict[int, bytes]
    hash: bytes
    created_us: int
    name: str

    def open(self, private: bytes, project: bytes) -> bytes:
        """The secret inside.

        Raises:
            Forged: not sealed to `private`, or sealed for another subject, project or kind.
        """
        context = _context(self.kind, project, self.subject, self.recipient, self.epoch, self.pair)
        return crypto.unseal(private, self.box, context)


def _context(
    kind: int, project: bytes, subject: bytes, recipient: bytes, epoch: int, pair: bytes
) -> bytes:
    return crypto.digest(
        spec.LABEL_SLOT_CONTEXT,
        bytes((kind,)),
        project,
        subject,
        recipient,
        epoch.to_bytes(4, "little"),
        pair,
    )


def epoch_subject(number: int) -> bytes:
    """Subject of the slots of an epoch's seed."""
    return crypto.digest(
        spec.LABEL_SUBJECT, b"epoch" + number.to_bytes(4, "little"), size=spec.ID_BYTES
    )


def project_subject() -> bytes:
    """Subject of the slots of a project's own secrets."""
    return crypto.digest(spec.LABEL_SUBJECT, b"project", size=spec.ID_BYTES)


def write_slot(
    paths: ProjectPaths,
    kind: SlotKind,
    *,
    subject: bytes,
    recipient: bytes,
    secret: bytes,
    signer_seed: bytes,
    epoch: int = 0,
    cert: bytes = NO_CERT,
    pair: bytes = b"",
    classes: dict[int, bytes] | None = None,
) -> str:
    """Seal `secret` to `recipient`, sign, and store it; returns the file's name."""
    project = bytes.fromhex(paths.id)
    raw = encode_slot(
        project,
        kind,
        subject=subject,
        recipient=recipient,
        secret=secret,
        signer_seed=signer_seed,
        epoch=epoch,
        cert=cert,
        pair=pair,
        classes=classes,
    )
    return store_slot(paths, raw)


def encode_slot(
    project: bytes,
    kind: SlotKind,
    *,
    subject: bytes,
    recipient: bytes,
    secret: bytes,
    signer_seed: bytes,
    epoch: int = 0,
    cert: bytes = NO_CERT,
    pair: bytes = b"",
    classes: dict[int, bytes] | None = None,
) -> bytes:
    """The bytes of a keyslot; see `write_slot`."""
    context = _context(kind, project, subject, recipient, epoch, pair or _NO_PAIR)
    body: dict[str, Any] = {
        "subject": subject,
        "recipient": recipient,
        "epoch": epoch,
        "cert": cert,
        "box": crypto.seal(recipient, secret, context),
    }
    if pair:
        body |= {"pair": pair, "classes": classes or {}}
    return signed.encode(
        spec.KEYSLOT_MAGIC,
        kind,
        project=project,
        seed=signer_seed,
        created_us=now_us(),
        body=body,
    )


def store_slot(paths: ProjectPaths, raw: bytes) -> str:
    """Put the bytes of a keyslot under their name."""
    slot = _parse(signed.decode(raw, spec.KEYSLOT_MAGIC), "")
    name = slot_name(slot.subject, slot.recipient, slot.hash)
    create_file(paths.file(name), raw)
    return name


def slot_name(subject: bytes, recipient: bytes, file_hash: bytes) -> str:
    """`keys/<subject>/<recipient tag>-<hash>`."""
    return f"keys/{subject.hex()}/{recipient_tag(recipient)}-{file_hash.hex()[:32]}"


def _parse(file: SignedFile, name: str) -> Slot:
    classes = file.body.get("classes", {})
    if not isinstance(classes, dict) or not all(
        isinstance(k, int) and isinstance(v, bytes) and len(v) == spec.KEY_BYTES
        for k, v in classes.items()
    ):
        raise Damaged("a keyslot whose class keys are no map of keys")
    pair = file.get("pair", bytes, 32) if file.kind == SlotKind.PAIR else _NO_PAIR
    if not 0 <= file.get("epoch", int) <= MAX_NUMBER:
        raise Damaged(f"a keyslot of epoch {file.get('epoch', int)}")
    return Slot(
        kind=file.kind,
        subject=file.get("subject", bytes, 16),
        recipient=file.get("recipient", bytes, 32),
        epoch=file.get("epoch", int),
        cert=file.get("cert", bytes, 32),
        box=file.get("box", bytes),
        signer=file.signer,
        pair=pair,
        classes=classes,
        hash=file.hash,
        created_us=file.created_us,
        name=name,
    )


def read_slots(
    paths: ProjectPaths, subject: bytes, problems: list[Damaged] | None = None
) -> Iterator[Slot]:
    """The verified slots of one subject, sorted by name; damaged ones go to `problems`."""
    folder = paths.keys / subject.hex()
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        name = f"keys/{subject.hex()}/{path.name}"
        try:
            yield _read_slot(paths, subject, name)
        except FileNotFoundError:
            continue  # destroyed while we looked
        except Damaged as problem:
            if problems is not None:
                problems.append(problem.at(name))
        except OSError as error:
            if problems is not None:
                problems.append(Damaged(f"cannot be read: {error.strerror}", file=name))


def _read_slot(paths: ProjectPaths, subject: bytes, name: str) -> Slot:
    file = signed.decode(paths.file(name).read_bytes(), spec.KEYSLOT_MAGIC)
    slot = _parse(file, name)
    if file.project != bytes.fromhex(paths.id) or slot.subject != subject:
        raise Damaged("a keyslot of another project or subject")
    if slot_name(subject, slot.recipient, slot.hash) != name:
        raise Damaged("its name does not fit its bytes")
    return slot
