"""Builds small real projects with the format modules alone: signed, whole, and without a secret."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from localstore import crypto
from localstore.durable import TEMPORARY_PREFIX, make_folder
from localstore.format import segment, signed, spec
from localstore.format.spec import CertKind, DataClass, FrameType, LinkKind, SlotKind
from localstore.layout import HomePaths, ProjectPaths
from localstore.remotes import add_remote

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from localstored.remotes.base import Remote

NOW_US = 1_800_000_000_000_000
RECIPIENT = crypto.sign_public(bytes([9]) * 32)
TAG = crypto.digest(spec.LABEL_RECIPIENT, RECIPIENT, size=16).hex()
TEST_FRAME = FrameType.RECORDS


def write(path: Path, content: bytes) -> Path:
    """Put bytes somewhere, with the folders above."""
    make_folder(path.parent)
    path.write_bytes(content)
    return path


@dataclass
class Project:
    """A project in one home, and the seeds to sign more of it."""

    paths: ProjectPaths
    user_seed: bytes
    device_seed: bytes
    cert: bytes
    genesis: bytes
    subjects: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        return self.paths.id

    def link(self, kind: int, body: dict[str, object], created_us: int = NOW_US) -> Path:
        """Sign one link that knows the genesis."""
        raw = signed.encode(
            spec.LINK_MAGIC,
            kind,
            project=bytes.fromhex(self.id),
            seed=self.user_seed,
            created_us=created_us,
            body={"parents": [signed.file_hash(self.genesis)], **body},
        )
        return write(self.paths.links / signed.file_hash(raw).hex(), raw)

    def bury(self, subject: str, effective_us: int = NOW_US - 1) -> Path:
        """A tombstone for one run."""
        body = {"subject": bytes.fromhex(subject), "effective": effective_us}
        return self.link(LinkKind.TOMBSTONE, body, effective_us - 1)

    def keyslot(self, subject: str) -> Path:
        """A run's seed, sealed to the recipient of these tests."""
        body = {
            "subject": bytes.fromhex(subject),
            "recipient": RECIPIENT,
            "epoch": 1,
            "cert": self.cert,
            "box": secrets.token_bytes(112),
            "pair": secrets.token_bytes(32),
            "classes": {},
        }
        raw = signed.encode(
            spec.KEYSLOT_MAGIC,
            SlotKind.PAIR,
            project=bytes.fromhex(self.id),
            seed=self.device_seed,
            created_us=NOW_US,
            body=body,
        )
        name = f"{TAG}-{signed.file_hash(raw).hex()[:32]}"
        return write(self.paths.keys / subject / name, raw)

    def log(
        self,
        subject: str,
        data_class: int = DataClass.META,
        *,
        frames: int = 3,
        size: int = 100,
        tag: bytes = bytes(16),
        refs: list[bytes] | None = None,
        segment_id: bytes = b"",
    ) -> Path:
        """One segment of a run with some sealed-looking frames."""
        header = segment.SegmentHeader(
            data_class=data_class,
            project=bytes.fromhex(self.id),
            subject=bytes.fromhex(subject),
            segment=segment_id or secrets.token_bytes(16),
            writer=secrets.token_bytes(16),
            pair=secrets.token_bytes(32),
            device=crypto.sign_public(self.device_seed),
            cert=self.cert,
            epoch=1,
            started_us=NOW_US,
            policy_tag=tag,
            supersedes=segment.NOTHING_SUPERSEDED,
            commitment=bytes(32),
            sealed_key=bytes(112),
        )
        content = header.encode(self.device_seed)
        if refs:
            content += segment.encode_ref(refs, 0)
        content += b"".join(frame(index, size) for index in range(frames))
        return write(self.paths.runs / subject / f"{header.segment.hex()}.log", content)

    def run(self, **words: object) -> str:
        """A run with a keyslot, meta and metrics; returns its subject (hex)."""
        subject = secrets.token_hex(16)
        self.keyslot(subject)
        self.log(subject, DataClass.META)
        self.log(subject, DataClass.METRICS)
        self.subjects.append(subject)
        return subject

    def object(self, data_class: int = DataClass.ARTIFACTS, size: int = 500) -> bytes:
        """A sealed-looking object; returns its id."""
        head = spec.OBJECT_MAGIC + bytes([spec.FORMAT_VERSION, spec.SUITE, data_class, 0])
        content = head + secrets.token_bytes(size)
        name = crypto.sha256(content)
        write(self.paths.root / "objects" / name.hex()[:2] / name.hex(), content)
        return name

    def writer(
        self, kind: CertKind = CertKind.DEVICE, not_after_us: int = 0
    ) -> tuple[bytes, bytes]:
        """Another device of this user: its seed, and the hash of its certificate."""
        seed = secrets.token_bytes(32)
        user = crypto.digest(spec.LABEL_USER, crypto.sign_public(self.user_seed), size=16)
        body = {"user": user, "generation": 1, "sign": crypto.sign_public(seed)}
        if kind == CertKind.DEPOSIT:
            body |= {"not_after": not_after_us, "on_behalf_of": user}
            raw = _cert(self.user_seed, kind, body, bytes.fromhex(self.id))
        else:
            raw = _cert(self.user_seed, kind, {**body, "box": bytes(32), "name": b"sealed"})
        write(self.paths.certs / signed.file_hash(raw).hex(), raw)
        return seed, signed.file_hash(raw)


class Log:
    """A log with frames in order, references and heads that fit, as a writer appends them."""

    def __init__(
        self,
        project: Project,
        subject: str,
        data_class: int = DataClass.ARTIFACTS,
        *,
        writer: tuple[bytes, bytes] | None = None,
    ) -> None:
        self.seed, cert = writer or (project.device_seed, project.cert)
        self.id, self.count = secrets.token_bytes(16), 0
        header = segment.SegmentHeader(
            data_class=data_class,
            project=bytes.fromhex(project.id),
            subject=bytes.fromhex(subject),
            segment=self.id,
            writer=secrets.token_bytes(16),
            pair=secrets.token_bytes(32),
            device=crypto.sign_public(self.seed),
            cert=cert,
            epoch=1,
            started_us=NOW_US,
            policy_tag=bytes(16),
            supersedes=segment.NOTHING_SUPERSEDED,
            commitment=bytes(32),
            sealed_key=bytes(112),
        )
        raw = header.encode(self.seed)
        self.path = write(project.paths.runs / subject / f"{self.id.hex()}.log", raw)
        self.chain = segment.first_chain(raw)

    @property
    def name(self) -> str:
        """Relative to the project."""
        return f"runs/{self.path.parent.name}/{self.path.name}"

    def append(self, raw: bytes) -> int:
        """One more frame; returns its index."""
        with self.path.open("ab") as file:
            file.write(raw)
        self.chain = crypto.chain_step(self.chain, (raw,))
        self.count += 1
        return self.count - 1

    def records(self, size: int = 100) -> int:
        """A frame with random bytes for its sealed body."""
        return self.append(frame(self.count, size))

    def ref(self, *objects: bytes) -> int:
        """A REF frame."""
        return self.append(segment.encode_ref(list(objects), self.count))

    def unref(self, log: Log, *frames: int) -> int:
        """An UNREF frame that cancels REF frames of a log."""
        return self.append(segment.encode_unref([(log.id, at) for at in frames], self.count))

    def head(self, *, time_us: int = NOW_US, final: bool = False) -> int:
        """A head that fits."""
        head = segment.Head(
            count=self.count,
            length=self.path.stat().st_size,
            chain=self.chain,
            time_us=time_us,
            final=final,
        )
        return self.append(segment.encode_head(head, self.id, self.count, self.seed))


def frame(index: int, size: int = 100, kind: int = TEST_FRAME) -> bytes:
    """A frame with random bytes for its sealed body."""
    return segment.encode_frame(kind, index, secrets.token_bytes(size))


def make_project(home: Path) -> Project:
    """A project with its trust files, and nothing else."""
    user_seed, device_seed = secrets.token_bytes(32), secrets.token_bytes(32)
    user = crypto.digest(spec.LABEL_USER, crypto.sign_public(user_seed), size=16)
    genesis = signed.encode(
        spec.LINK_MAGIC,
        LinkKind.GENESIS,
        project=signed.NO_PROJECT,
        seed=user_seed,
        created_us=NOW_US - 1000,
        body={"parents": [], "entity": user, "user": user, "nonce": secrets.token_bytes(16)},
    )
    project_id = crypto.digest(spec.LABEL_PROJECT, genesis)
    paths = HomePaths(home).project(project_id.hex())
    write(paths.links / signed.file_hash(genesis).hex(), genesis)
    certs = [
        _cert(user_seed, CertKind.USER, {"user": user, "generation": 1, "box": bytes(32)}),
        _cert(
            user_seed,
            CertKind.DEVICE,
            {
                "user": user,
                "generation": 1,
                "sign": crypto.sign_public(device_seed),
                "box": bytes(32),
                "name": b"sealed",
            },
        ),
    ]
    for raw in certs:
        write(paths.certs / signed.file_hash(raw).hex(), raw)
    write(paths.root / "FORMAT", f"localstore 1\nproject {paths.id}\nrequires\n".encode())
    return Project(paths, user_seed, device_seed, signed.file_hash(certs[1]), genesis)


def _cert(
    seed: bytes, kind: int, body: Mapping[str, object], project: bytes = signed.NO_PROJECT
) -> bytes:
    return signed.encode(
        spec.CERT_MAGIC, kind, project=project, seed=seed, created_us=NOW_US, body=dict(body)
    )


def with_remote(home: Path, stick: Path, name: str = "stick") -> Path:
    """A home that knows a folder remote."""
    make_folder(home)
    add_remote(home, name, str(stick))
    return home


def synced_bytes(root: Path) -> dict[str, bytes]:
    """Every file that replicas exchange, below a home or a remote."""
    kept = ("FORMAT", "links", "certs", "keys", "runs", "objects")
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted((root / "projects").rglob("*"))
        if path.is_file()
        and path.relative_to(root).parts[2] in kept
        and path.suffix not in (".t0", ".t1")
        and not path.name.startswith(TEMPORARY_PREFIX)
    }


def contents(remote: Remote) -> dict[str, bytes]:
    """Every file of a remote, but stamps: those tell nothing of what replicas exchange."""
    return {
        entry.name: remote.read(entry.name, 0, entry.size)
        for entry in remote.list("projects/")
        if "/stamps/" not in entry.name
    }
