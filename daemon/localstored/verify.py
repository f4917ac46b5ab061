"""What a file must be to deserve its name, as far as can be said without a key.

Used on both ways: before bytes of ours leave, and before bytes of a remote become visible here.
"""

from __future__ import annotations

import hashlib
import mmap
from typing import TYPE_CHECKING, Final, NoReturn

from localstore.crypto import digest
from localstore.errors import Damaged, Torn
from localstore.format import segment, signed, spec
from localstore.format.spec import DataClass, LinkKind
from localstore.format.version import check_format
from localstore.layout import FileKind, FileName
from localstored.inventory import OBJECT_HEADER_BYTES, check_header, object_class

if TYPE_CHECKING:
    from pathlib import Path

MAX_FORMAT_BYTES: Final = 4096
MAX_LOG_BYTES: Final = 64 << 30
MAX_TAIL_BYTES: Final = 512 << 20
_OBJECT_OVERHEAD_BYTES: Final = OBJECT_HEADER_BYTES + spec.TAG_BYTES
# What a remote may make us fetch under a name of each kind.
MAX_BYTES: Final = {
    FileKind.FORMAT: MAX_FORMAT_BYTES,
    FileKind.LINK: spec.MAX_SIGNED_FILE_BYTES,
    FileKind.CERT: spec.MAX_SIGNED_FILE_BYTES,
    FileKind.KEYSLOT: spec.MAX_SIGNED_FILE_BYTES,
    FileKind.OBJECT: spec.MAX_OBJECT_BYTES + _OBJECT_OVERHEAD_BYTES,
    FileKind.LOG: MAX_LOG_BYTES,
    FileKind.FORK: MAX_LOG_BYTES,
    FileKind.TAIL_COPY: MAX_TAIL_BYTES,
}
_MAGICS: Final = {
    FileKind.LINK: spec.LINK_MAGIC,
    FileKind.CERT: spec.CERT_MAGIC,
    FileKind.KEYSLOT: spec.KEYSLOT_MAGIC,
}
_HASH_PIECE_BYTES: Final = 1 << 20


def check_signed(raw: bytes, file: FileName, project: str) -> None:
    """Hold a link, certificate or keyslot against its name and project.

    Raises:
        Damaged: it breaks the format, or belongs under another name or in another project.
    """
    found = signed.decode(raw, _MAGICS[file.kind])
    if found.hash.hex()[: len(file.hash)] != file.hash:
        raise Damaged("its name is not the hash of its bytes")
    anywhere = file.kind is FileKind.CERT or (
        file.kind is FileKind.LINK and found.kind == LinkKind.GENESIS
    )
    if found.project.hex() != project and not (anywhere and found.project == signed.NO_PROJECT):
        raise Damaged("signed for another project")
    if file.kind is FileKind.KEYSLOT:
        recipient = digest(spec.LABEL_RECIPIENT, found.get("recipient", bytes, 32), size=16)
        if (found.get("subject", bytes, 16).hex(), recipient.hex()) != (
            file.subject,
            file.recipient,
        ):
            raise Damaged("a keyslot of another subject or recipient")


def check_object_header(raw: bytes) -> None:
    """Hold the beginning of an object against the format.

    Raises:
        Damaged: not an object, or of an unknown class.
    """
    if object_class(raw[:OBJECT_HEADER_BYTES]) not in DataClass._value2member_map_:
        raise Damaged("an object of an unknown class")


class FrameCheck:
    """Checks the frames of a log or a tail copy that arrives piece by piece in a file.

    Attributes:
        end: bytes of the file that are known to be whole frames (and the header).
    """

    def __init__(self, file: FileName, project: str, *, with_header: bool) -> None:
        self._file, self._project = file, project
        self._with_header, self.end = with_header, 0
        self._header: segment.SegmentHeader | None = None
        self._closed = False

    def advance(self, path: Path) -> None:
        """Check as far as the file has come; a frame that is not whole yet may still arrive.

        Raises:
            Damaged: what stands there cannot become a good file any more.
        """
        view = _mapped(path)
        if view is None:
            return
        if self._with_header and not self.end:
            try:
                self.end = self._check_header(view)
            except Torn:
                return
        while self.end < len(view) and not self._closed:
            try:
                frame = segment.decode_frame(view, self.end)
            except Torn:
                return
            if frame.kind == spec.FrameType.REF:
                segment.decode_ref(frame)
            if frame.kind == spec.FrameType.UNREF:
                segment.decode_unref(frame)
            if frame.kind == spec.FrameType.HEAD and self._header is not None:
                self._closed = _is_final(frame, self._header)
            if self._file.kind is FileKind.TAIL_COPY and frame.kind != spec.FrameType.RECORD:
                raise Damaged("a tail copy with something else than records", offset=self.end)
            self.end = frame.end

    def finish(self, path: Path) -> int:
        """How many bytes are whole, when nothing more will arrive.

        Raises:
            Damaged: more than a cut at the end is wrong, or not even the header is whole.
        """
        self.advance(path)
        view = _mapped(path)
        if view is None or (self._with_header and not self.end):
            raise Damaged("ends inside its header")
        if self._closed:
            return self.end  # what a stranger put behind the final head is not taken
        return segment.whole_frames_end(view, self.end)

    def _check_header(self, view: memoryview) -> int:
        header, start = segment.decode_header(bytes(view[: spec.MAX_HEADER_BYTES]))
        check_header(header, self._file)
        if header.project.hex() != self._project:
            raise Damaged("the header of another project")
        self._header = header
        return start


def _is_final(frame: segment.Frame, header: segment.SegmentHeader) -> bool:
    """Whether the writer itself signed that nothing follows."""
    try:
        head = segment.decode_head(frame, header.segment, header.device)
    except Damaged:
        return False  # a reader will name it; here it is only no reason to stop
    return head.final and head.length == frame.offset


_HEAD_FRAME_BYTES: Final = segment.FRAME_OVERHEAD_BYTES + segment.HEAD_BODY_BYTES


def is_closed(path: Path) -> bool:
    """Whether a log here ends with its writer's final head, so that nobody may add to it."""
    raw = path.read_bytes()
    view, at = memoryview(raw), len(raw) - _HEAD_FRAME_BYTES
    try:
        header, start = segment.decode_header(view)
        if at < start:
            return False
        frame = segment.decode_frame(view, at)
    except Damaged:
        return False
    return frame.kind == spec.FrameType.HEAD and _is_final(frame, header)


def _mapped(path: Path) -> memoryview | None:
    with path.open("rb") as handle:
        if not path.stat().st_size:
            return None
        return memoryview(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ))


# ------------------------------------------------------------------ whole files on our disk
def check_file(path: Path, file: FileName, project: str) -> None:
    """Hold a whole file, but a log, against its name; logs are checked frame by frame.

    Raises:
        Damaged: it does not deserve its name; carries the name.
    """
    try:
        _check_file(path, file, project)
    except Damaged as problem:
        raise problem.at(file.name) from problem


def _check_file(path: Path, file: FileName, project: str) -> None:
    size = path.stat().st_size
    if size > MAX_BYTES[file.kind]:
        raise Damaged(f"{size} bytes, the most is {MAX_BYTES[file.kind]}")
    match file.kind:
        case FileKind.FORMAT:
            check_format(path.read_bytes(), project)
        case FileKind.LINK | FileKind.CERT | FileKind.KEYSLOT:
            check_signed(path.read_bytes(), file, project)
        case FileKind.OBJECT:
            with path.open("rb") as handle:
                check_object_header(handle.read(OBJECT_HEADER_BYTES))
            if sha256_of(path, size) != file.hash:
                _misnamed()
        case FileKind.TAIL_COPY | FileKind.FORK:
            check = FrameCheck(file, project, with_header=file.kind is FileKind.FORK)
            if check.finish(path) != size:
                raise Damaged("ends inside a frame", offset=check.end)
            if file_digest(path, size) != file.hash:
                _misnamed()
        case FileKind.LOG | FileKind.LIVE_TAIL:
            pass


def _misnamed() -> NoReturn:
    raise Damaged("its name is not the hash of its bytes: changed, or not all here yet")


def sha256_of(path: Path, length: int) -> str:
    """SHA-256 (hex) of the first `length` bytes of a file."""
    return _hash_of(path, length, hashlib.sha256())


def file_digest(path: Path, length: int) -> str:
    """The hash (32 hex digits) that names a copy of the first `length` bytes of a file."""
    state = hashlib.blake2b(digest_size=spec.HASH_BYTES, person=spec.LABEL_FILE)
    return _hash_of(path, length, state)[:32]


def _hash_of(path: Path, length: int, state: hashlib._Hash | hashlib.blake2b) -> str:
    with path.open("rb") as handle:
        while length > 0:
            piece = handle.read(min(_HASH_PIECE_BYTES, length))
            if not piece:
                raise Damaged(f"{path.name} is {length} bytes shorter than it was")
            state.update(piece)
            length -= len(piece)
    return state.hexdigest()
