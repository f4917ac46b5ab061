"""Whether the objects that logs need are here, open with their keys, and hold what they should.

For `localstore verify`; changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from localstore import pruned
from localstore.errors import Damaged, Forged, NotFound
from localstore.format import references, segment, spec
from localstore.format.manifest import Part, version_digest
from localstore.format.references import LogRefs, RefFrame
from localstore.format.spec import FrameType, RecordKind
from localstore.layout import object_name
from localstore.store.gc import TAKEN_PREFIX
from localstore.store.manifests import load_entries
from localstore.store.objects import ObjectFiles
from localstore.trust import Belief

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from localstore.format.records import Record
    from localstore.format.segment import Frame, SegmentHeader
    from localstore.layout import FileName, ProjectPaths
    from localstore.project import Project
    from localstore.reading import FrameWalk
    from localstore.trust import ProjectState

# What is cancelled by a device that was revoked since may be old and good: it is not missed, and
# not freed either.
_HEARD: Final = frozenset({Belief.TRUSTED, Belief.FLAGGED})


@dataclass(frozen=True, slots=True)
class Absent:
    """An object that logs need and that is not here.

    Attributes:
        id: in hex. logs: those that need it.
        taken: whether a collector has it in hand, or was killed with it.
    """

    id: str
    logs: list[str]
    taken: bool

    @property
    def name(self) -> str:
        """Its file, relative to the project."""
        return object_name(bytes.fromhex(self.id))


class NamedObjects:
    """What the logs of one project say of its objects. Needs no key.

    Attributes:
        pruned: how many needed objects were pruned here, as far as `absent` looked.
    """

    def __init__(self, paths: ProjectPaths) -> None:
        self._paths = paths
        self._logs: list[LogRefs] = []
        self._cancels: list[tuple[SegmentHeader, list[RefFrame]]] = []
        self.pruned = 0

    def add(self, file: FileName, walk: FrameWalk) -> Iterator[Damaged]:
        """Take in a log or fork; what is wrong with the bodies of its references."""
        refs: dict[int, frozenset[str]] = {}
        cancels: list[RefFrame] = []
        for frame in walk.frames:
            try:
                if frame.kind == FrameType.REF:
                    refs[frame.index] = frozenset(one.hex() for one in segment.decode_ref(frame))
                elif frame.kind == FrameType.UNREF:
                    cancels += _cancels(file, frame, walk.vouched)
            except Damaged as problem:
                yield problem
        if refs:
            self._logs.append(LogRefs(file.name, file.subject, file.segment, refs))
        if cancels:
            self._cancels.append((walk.header, cancels))

    def add_stub(self, stub: pruned.LogStub) -> None:
        """Take in a log that was pruned."""
        self._logs.append(LogRefs(stub.name, stub.subject, stub.segment, stub.refs))

    def needed(self, state: ProjectState, erased: Collection[str]) -> dict[str, list[str]]:
        """Objects (hex) that should be here, and the logs that need them."""
        cancelled = [
            frame
            for header, frames in self._cancels
            if state.judge_cancel(header).belief in _HEARD
            for frame in frames
        ]
        living = (log for log in self._logs if log.subject not in erased)
        return references.needed(living, cancelled)

    def absent(self, needed: Mapping[str, list[str]]) -> list[Absent]:
        """Of those, the ones that are not here, and were not pruned."""
        out, stubs = [], pruned.object_stubs(self._paths)
        for one, logs in sorted(needed.items()):
            path = self._paths.file(object_name(bytes.fromhex(one)))
            # The second look is behind the first: a collector may just have put it back.
            if not path.exists():
                taken = any(path.parent.glob(f"{TAKEN_PREFIX}{one}-*"))
                if path.exists():
                    continue
                if one in stubs and not taken:
                    self.pruned += 1
                else:
                    out.append(Absent(one, logs, taken))
        return out


def _cancels(file: FileName, frame: Frame, vouched: int) -> list[RefFrame]:
    found = segment.decode_unref(frame)
    if frame.end > vouched:
        return []
    return [RefFrame(file.subject, one.hex(), index) for one, index in found]


class Contents:
    """Opens the objects that records name, each once. Needs the project's keys."""

    def __init__(self, project: Project, needed: Collection[str]) -> None:
        self._project, self._needed = project, needed
        self._files = ObjectFiles(project.paths)
        self._sizes: dict[tuple[bytes, bytes], int] = {}

    @property
    def opened(self) -> int:
        """How many objects were opened."""
        return len(self._sizes)

    def check(self, records: Iterable[Record]) -> Iterator[Damaged]:
        """What is wrong with the objects of some records; each problem names its file.

        What is not here is not named again, nor is what nothing needs any more.
        """
        for record in records:
            match record:
                case [RecordKind.VERSION, _, _, bytes(digest), dict(body), *_]:
                    match body.get("manifest"):
                        case [bytes(manifest), bytes(key), *_] if manifest.hex() in self._needed:
                            yield from self._check_version(manifest, key, digest)
                case [RecordKind.FILE, _, _, dict(body), *_]:
                    yield from self._check_parts(parts_of(body.get("parts")))
                case _:
                    pass

    def _check_version(self, manifest: bytes, key: bytes, digest: bytes) -> Iterator[Damaged]:
        if (manifest, key) in self._sizes:
            return
        self._sizes[manifest, key] = 0
        try:
            entries = load_entries(self._project, manifest, key)
        except NotFound:
            return
        except Damaged as problem:
            yield problem
            return
        if version_digest(entries) != digest:
            yield Forged("a manifest of another version", file=object_name(manifest))
        for entry in entries:
            yield from self._check_parts(entry.parts)

    def _check_parts(self, parts: Iterable[Part]) -> Iterator[Damaged]:
        for part in parts:
            place = (part.object_id, part.key)
            if place not in self._sizes:
                try:
                    opened = self._files.read_object(part.object_id, part.key)
                except NotFound:
                    continue
                except Damaged as problem:
                    self._sizes[place] = -1
                    yield problem
                    continue
                self._sizes[place] = len(opened.content)
            if 0 <= self._sizes[place] < part.offset + part.length:
                file = object_name(part.object_id)
                yield Damaged("shorter than a file that lies in it", file=file)


def parts_of(raw: object) -> Iterator[Part]:
    """The parts that a FILE record names; what is none of the format's is passed over."""
    for one in raw if isinstance(raw, list) else ():
        match one:
            case [bytes(object_id), bytes(key), int(offset), int(length), *_]:
                if len(object_id) == spec.HASH_BYTES:
                    yield Part(object_id, key, offset, length)
            case _:
                pass
