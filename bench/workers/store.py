"""A large store, made fast: signed and whole files of the format, whose sealed bytes are noise.

Nothing in it can be opened with a key; who syncs has none and cannot tell. Prints what it made.

    python -m bench.workers.store HOME REMOTE RUNS OBJECTS
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
from pathlib import Path
from typing import Final

from localstore.format import segment, signed, spec
from localstore.format.spec import DataClass, SlotKind
from localstore.layout import object_name
from localstore.remotes import add_remote
from tests.sync.makers import RECIPIENT, TAG, Project, make_project

NOW_US: Final = 1_800_000_000_000_000
_OBJECT_BYTES: Final = 300
_LOG_BYTES: Final = 400
_CLASSES: Final = (DataClass.META, DataClass.METRICS, DataClass.ARTIFACTS)


class Store:
    """Writes files here and, byte for byte, on the remote, and the receipts for them."""

    def __init__(self, home: Path, remote: Path) -> None:
        home.mkdir(parents=True)
        self._homes = (home, remote)
        self.remote_id = add_remote(home, "folder", str(remote)).id
        self.project: Project = make_project(home)
        self._receipts: list[bytes] = []
        self._folders: set[str] = set()
        self._random = random.Random(1)
        root = self.project.paths.root
        for path in sorted(path for path in root.rglob("*") if path.is_file()):
            self.write(str(path.relative_to(root)), path.read_bytes())

    def write(self, name: str, content: bytes) -> None:
        """One file on both sides."""
        folder = name.rpartition("/")[0]
        for home in self._homes:
            root = home / "projects" / self.project.id
            if folder not in self._folders:
                (root / folder).mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
        self._folders.add(folder)
        line = {"name": name, "size": len(content), "at_us": NOW_US}
        line["sha256"] = hashlib.sha256(content).hexdigest()
        self._receipts.append(json.dumps(line).encode() + b"\n")

    def noise(self, size: int) -> bytes:
        """Bytes that look sealed."""
        return self._random.randbytes(size)

    def object(self) -> bytes:
        """One object; its id."""
        head = bytes([spec.FORMAT_VERSION, spec.SUITE, DataClass.ARTIFACTS, 0])
        content = spec.OBJECT_MAGIC + head + self.noise(_OBJECT_BYTES)
        object_id = hashlib.sha256(content).digest()
        self.write(object_name(object_id), content)
        return object_id

    def run(self, objects: list[bytes]) -> None:
        """One run: a keyslot, and a log for each of some classes, one of which names objects."""
        subject, project = self.noise(16), bytes.fromhex(self.project.id)
        slot = signed.encode(
            spec.KEYSLOT_MAGIC,
            SlotKind.PAIR,
            project=project,
            seed=self.project.device_seed,
            created_us=NOW_US,
            body={
                "subject": subject,
                "recipient": RECIPIENT,
                "epoch": 1,
                "cert": self.project.cert,
                "box": self.noise(112),
                "pair": self.noise(32),
                "classes": {},
            },
        )
        self.write(f"keys/{subject.hex()}/{TAG}-{signed.file_hash(slot).hex()[:32]}", slot)
        for data_class in _CLASSES:
            self._log(subject, data_class, objects if data_class == DataClass.ARTIFACTS else [])

    def _log(self, subject: bytes, data_class: int, objects: list[bytes]) -> None:
        from localstore import crypto

        header = segment.SegmentHeader(
            data_class=data_class,
            project=bytes.fromhex(self.project.id),
            subject=subject,
            segment=self.noise(16),
            writer=self.noise(16),
            pair=self.noise(32),
            device=crypto.sign_public(self.project.device_seed),
            cert=self.project.cert,
            epoch=1,
            started_us=NOW_US,
            policy_tag=bytes(16),
            supersedes=segment.NOTHING_SUPERSEDED,
            commitment=bytes(32),
            sealed_key=bytes(112),
        )
        content = header.encode(self.project.device_seed)
        count = 0
        if objects:
            content += segment.encode_ref(objects, 0)
            count = 1
        content += segment.encode_frame(spec.FrameType.RECORDS, count, self.noise(_LOG_BYTES))
        self.write(f"runs/{subject.hex()}/{header.segment.hex()}.log", content)

    def finish(self) -> None:
        """Write the receipts."""
        self.project.paths.receipts.mkdir()
        path = self.project.paths.receipts / f"{self.remote_id}.jsonl"
        path.write_bytes(b"".join(self._receipts))


def make(home: Path, remote: Path, runs: int, objects: int) -> dict[str, object]:
    """Make a home that is in step with a folder remote.

    Returns:
        The id of its project, and the number of its files.
    """
    store = Store(home, remote)
    each, left = divmod(objects, runs)
    for number in range(runs):
        store.run([store.object() for _ in range(each + (number < left))])
    store.finish()
    return {"project": store.project.id, "files": len(store._receipts)}


if __name__ == "__main__":
    print(
        json.dumps(make(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
    )
