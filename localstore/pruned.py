"""Stubs: what stands here for bytes that were pruned (docs/format.md, sections 3 and 12).

Key-free. What is here is here: a stub beside its file means nothing, so a prune or a pull that was
killed leaves no doubt. Deletes no log and no object, and asks no remote.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from localstore.durable import (
    TEMPORARY_PREFIX,
    make_folder,
    replace_file,
    sync_disk,
    sync_folder,
    write_all,
)
from localstore.errors import AlreadyExists, Damaged, Pruned
from localstore.layout import FILE_MODE, log_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from localstore.layout import ProjectPaths

_FOLDER: Final = "stubs"
_OBJECTS: Final = "objects"
_BACK: Final = -1
_FEW: Final = 8
_ID16: Final = re.compile(r"[0-9a-f]{32}")
_ID32: Final = re.compile(r"[0-9a-f]{64}")
_REMOTE: Final = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogStub:
    """One log that was pruned.

    Attributes:
        size: in bytes. sha256: of all of them, hex. remote: id of the remote that has them.
        data_class: number of the class. at_us: when it was pruned.
        refs: object ids (hex) by the index of the REF frame that names them.
    """

    subject: str
    segment: str
    size: int
    sha256: str
    remote: str
    data_class: int
    at_us: int
    refs: Mapping[int, frozenset[str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the log, relative to the project."""
        return log_name(self.subject, self.segment)

    def encode(self) -> bytes:
        """The file: facts in the first line, then a line for each REF frame."""
        facts = {
            "name": self.name,
            "size": self.size,
            "sha256": self.sha256,
            "remote": self.remote,
            "class": self.data_class,
            "at_us": self.at_us,
        }
        frames = ({"frame": at, "objects": sorted(self.refs[at])} for at in sorted(self.refs))
        lines = (json.dumps(one, separators=(",", ":")) for one in (facts, *frames))
        return "".join(line + "\n" for line in lines).encode()


@dataclass(frozen=True, slots=True)
class ObjectStub:
    """One object that was pruned: its size in bytes, and the id of the remote that has it."""

    size: int
    remote: str


# ------------------------------------------------------------------ logs
def stub_path(paths: ProjectPaths, subject: str, segment: str) -> Path:
    """Where the stub of a log stands."""
    return paths.root / _FOLDER / subject / segment


def stub_places(paths: ProjectPaths, subject: str = "") -> Iterator[tuple[str, str]]:
    """Subject and segment (hex) of every stub of a log, of one subject or of all."""
    top = paths.root / _FOLDER
    for folder in [subject] if subject else _names(top):
        if _ID16.fullmatch(folder):
            for leaf in _names(top / folder):
                if _ID16.fullmatch(leaf):
                    yield folder, leaf


def pruned_logs(paths: ProjectPaths) -> frozenset[str]:
    """Names of all logs that have a stub, also of one that cannot be read."""
    return frozenset(log_name(subject, segment) for subject, segment in stub_places(paths))


def is_pruned(paths: ProjectPaths, subject: str, segment: str) -> bool:
    """Whether a log has a stub; the log itself may be here all the same."""
    return stub_path(paths, subject, segment).exists()


def read_stub(paths: ProjectPaths, subject: str, segment: str) -> LogStub | None:
    """The stub of a log; None when it has none.

    Raises:
        Damaged: it cannot be read, so what the log refers to is not known.
    """
    try:
        raw = stub_path(paths, subject, segment).read_bytes()
    except FileNotFoundError:
        return None
    name = f"{_FOLDER}/{subject}/{segment}"
    try:
        facts, *frames = [json.loads(line) for line in raw.splitlines()]
        return _as_stub(subject, segment, facts, frames)
    except (ValueError, KeyError, TypeError) as problem:
        hint = "delete it: `localstore repair` then brings the log back from a remote"
        what = "the stub of a pruned log cannot be read"
        raise Damaged(what, file=name, hint=hint) from problem


def _as_stub(subject: str, segment: str, facts: dict[str, Any], frames: list[Any]) -> LogStub:
    match facts:
        case {
            "name": str(name), "size": int(size), "sha256": str(sha256), "remote": str(remote),
            "class": int(data_class), "at_us": int(at_us),
        }:  # fmt: skip
            whole = _ID32.fullmatch(sha256) and _REMOTE.fullmatch(remote) and size > 0
        case _:
            raise ValueError("no facts")
    if not whole or name != log_name(subject, segment):
        raise ValueError("facts of another log")
    refs = {int(one["frame"]): _ids(one["objects"]) for one in frames}
    return LogStub(
        subject=subject, segment=segment, size=size, sha256=sha256, remote=remote,
        data_class=data_class, at_us=at_us, refs=refs,
    )  # fmt: skip


def _ids(raw: list[Any]) -> frozenset[str]:
    if not all(isinstance(one, str) and _ID32.fullmatch(one) for one in raw):
        raise ValueError("no ids of objects")
    return frozenset(raw)


def write_stub(paths: ProjectPaths, stub: LogStub) -> None:
    """Put the stub of a log there; durable on return."""
    replace_file(stub_path(paths, stub.subject, stub.segment), stub.encode())


def remove_stub(paths: ProjectPaths, subject: str, segment: str) -> None:
    """Take the stub of a log away; the log is here again, or is erased."""
    path = stub_path(paths, subject, segment)
    path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        path.parent.rmdir()  # of its last one


def absent_logs(paths: ProjectPaths, subject: str = "") -> Iterator[LogStub]:
    """The logs that were pruned and are not here; a stub that cannot be read is passed over."""
    for owner, segment in stub_places(paths, subject):
        if not paths.file(log_name(owner, segment)).exists():
            with contextlib.suppress(Damaged):
                stub = read_stub(paths, owner, segment)
                if stub is not None:
                    yield stub


# ------------------------------------------------------------------ objects
def _shard(paths: ProjectPaths, first: str) -> Path:
    return paths.root / _FOLDER / _OBJECTS / f"{first}.jsonl"


def object_stubs(paths: ProjectPaths, first: str = "") -> dict[str, ObjectStub]:
    """The objects that have a stub, by id (hex); the object itself may be here all the same.

    Args:
        first: two hex digits: only those whose ids begin so. Empty: all.
    """
    shards = [first] if first else [name.partition(".")[0] for name in _shards(paths)]
    out: dict[str, ObjectStub] = {}
    for shard in shards:
        out |= _read_shard(_shard(paths, shard))
    return out


def _shards(paths: ProjectPaths) -> list[str]:
    found = _names(paths.root / _FOLDER / _OBJECTS)
    return [name for name in found if re.fullmatch(r"[0-9a-f]{2}\.jsonl", name)]


def object_stub(paths: ProjectPaths, object_id: str) -> ObjectStub | None:
    """The stub of one object (hex); None when it has none."""
    return object_stubs(paths, object_id[:2]).get(object_id)


def _read_shard(path: Path) -> dict[str, ObjectStub]:
    """A line that cannot be read is passed over: its object counts as missing, and is healed."""
    out: dict[str, ObjectStub] = {}
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return out
    for line in raw[: raw.rfind(b"\n") + 1].splitlines():
        try:
            one = json.loads(line)
        except ValueError:
            continue
        match one:
            case {"object": str(object_id), "size": int(size), "remote": str(remote)}:
                if size == _BACK:
                    out.pop(object_id, None)
                elif _ID32.fullmatch(object_id) and _REMOTE.fullmatch(remote):
                    out[object_id] = ObjectStub(size, remote)
            case _:
                pass
    return out


def add_object_stubs(paths: ProjectPaths, stubs: Mapping[str, ObjectStub], at_us: int) -> None:
    """Write down that objects are about to be pruned; durable on return.

    Raises:
        OSError: the disk refused.
    """
    lines: dict[str, list[str]] = {}
    for object_id, stub in sorted(stubs.items()):
        body = {"object": object_id, "size": stub.size, "remote": stub.remote, "at_us": at_us}
        line = json.dumps(body, separators=(",", ":")) + "\n"
        lines.setdefault(object_id[:2], []).append(line)
    folder = make_folder(paths.root / _FOLDER / _OBJECTS)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        alone = len(lines) <= _FEW
        for first, some in lines.items():
            _append(_shard(paths, first), "".join(some).encode(), sync=alone)
        if alone or not sync_disk(handle):
            for first in () if alone else lines:
                _sync(_shard(paths, first))
            sync_folder(folder)
    finally:
        os.close(handle)


def _append(path: Path, data: bytes, *, sync: bool) -> None:
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(path, flags, FILE_MODE)
    try:
        size = os.fstat(handle).st_size
        # A crash may have cut the last line; the next one must not grow on to it.
        gap = b"\n" if size and os.pread(handle, 1, size - 1) != b"\n" else b""
        write_all(handle, gap + data, size)
        if sync:
            os.fsync(handle)
    finally:
        os.close(handle)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def drop_object_stubs(paths: ProjectPaths, gone: Collection[str]) -> int:
    """Take stubs of objects away, which are here again or not needed any more; counts them.

    Only for who holds the `lock`.
    """
    by_shard: dict[str, set[str]] = {}
    for object_id in gone:
        by_shard.setdefault(object_id[:2], set()).add(object_id)
    dropped = 0
    for first, ids in by_shard.items():
        path = _shard(paths, first)
        stubs = _read_shard(path)
        kept = {one: stub for one, stub in stubs.items() if one not in ids}
        dropped += len(stubs) - len(kept)
        if not kept:
            path.unlink(missing_ok=True)
        elif len(kept) < len(stubs):
            replace_file(path, _encode_shard(kept))
    return dropped


def _encode_shard(stubs: Mapping[str, ObjectStub]) -> bytes:
    bodies = (
        {"object": object_id, "size": stub.size, "remote": stub.remote, "at_us": 0}
        for object_id, stub in sorted(stubs.items())
    )
    return "".join(json.dumps(body, separators=(",", ":")) + "\n" for body in bodies).encode()


def drop_stale_stubs(paths: ProjectPaths) -> None:
    """Take away stubs of logs and objects that are here, and what a crash left beside them.

    Only for who holds the `lock`.
    """
    for left in (paths.root / _FOLDER).glob(f"*/{TEMPORARY_PREFIX}*"):
        left.unlink(missing_ok=True)
    for subject, segment in list(stub_places(paths)):
        if paths.file(log_name(subject, segment)).exists():
            remove_stub(paths, subject, segment)
    stubs = object_stubs(paths)
    drop_object_stubs(paths, [one for one in stubs if (paths.objects / one[:2] / one).exists()])


# ------------------------------------------------------------------ one at a time
@contextlib.contextmanager
def lock(paths: ProjectPaths) -> Iterator[None]:
    """Be the only one who prunes, pulls or tidies stubs of a project.

    Raises:
        AlreadyExists: another process is at it.
    """
    import fcntl

    path = make_folder(paths.local) / "prune.lock"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            what = f"another process prunes or pulls project {paths.id[:16]}"
            raise AlreadyExists(what, hint="wait for it, then try again") from None
        yield
    finally:
        os.close(handle)


# ------------------------------------------------------------------ for people
def error(paths: ProjectPaths, what: str, remote_id: str, word: str = "RUN") -> Pruned:
    """What to raise where somebody asks for pruned bytes.

    Args:
        what: what is not here, such as "the history of ada/digits/first".
        word: what to name in the command that brings it back.
    """
    where = remote_name(paths, remote_id)
    return Pruned(
        f"{what} was pruned here; it is on {where}",
        hint=f"`localstore pull {word}` brings it back",
    )


def remote_name(paths: ProjectPaths, remote_id: str) -> str:
    """The name of a remote in this home; its id where nobody knows it any more."""
    from localstore.errors import LocalStoreError
    from localstore.remotes import read_remotes

    with contextlib.suppress(LocalStoreError, OSError):
        for entry in read_remotes(paths.root.parent.parent).values():
            if entry.id == remote_id:
                return f"remote {entry.name!r}"
    return f"remote {remote_id}, which this store does not know any more"


def _names(folder: Path) -> list[str]:
    try:
        found = [entry.name for entry in os.scandir(folder)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(name for name in found if not name.startswith(TEMPORARY_PREFIX))
