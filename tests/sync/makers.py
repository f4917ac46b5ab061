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
    from pathlib import Path

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


def _cert(seed: bytes, kind: int, body: dict[str, object]) -> bytes:
    return signed.encode(
        spec.CERT_MAGIC, kind, project=signed.NO_PROJECT, seed=seed, created_us=NOW_US, body=body
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
