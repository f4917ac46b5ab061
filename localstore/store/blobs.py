"""Contents in memory as objects, and back: for files that belong to records.

Used by the thread that makes a training process's blocks: no thread is started here.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from localstore import crypto
from localstore.errors import Damaged, Forged
from localstore.format.manifest import Part
from localstore.layout import object_name
from localstore.store.objects import Group, ObjectFiles
from localstore.store.sealing import Hand

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from localstore.project import Project

_PIECE_BYTES: Final = 4 * 1024 * 1024
_LEVEL: Final = 3
_ROUNDS: Final = 3


def keep(
    project: Project,
    data_class: int,
    contents: Sequence[bytes],
    refer: Callable[[Sequence[bytes]], None],
) -> list[tuple[Part, ...]]:
    """Store contents in one group, cut every 4 MiB; durable and referred to on return.

    The same content makes the same objects, which are written once.

    Args:
        refer: makes REF frames for these object ids durable.

    Returns:
        The parts of each content, in their order.

    Raises:
        OSError: the disk refused, or objects vanish as fast as they are stored.
    """
    files, kept = ObjectFiles(project.paths), list[tuple[Part, ...]]()
    for _ in range(_ROUNDS):
        kept = _store(project, files, data_class, contents)
        objects = list(dict.fromkeys(part.object_id for parts in kept for part in parts))
        if objects:
            refer(objects)
        if all(map(files.has, objects)):
            return kept
    raise OSError(errno.ENOENT, "objects vanish from the store while it is written")


def _store(
    project: Project, files: ObjectFiles, data_class: int, contents: Sequence[bytes]
) -> list[tuple[Part, ...]]:
    group = Group(files)
    try:
        hand = Hand(data_class, project.dedup, _LEVEL)
        kept = [tuple(_pieces(hand, group, memoryview(one))) for one in contents]
        group.commit()
    finally:
        group.close()
    return kept


def _pieces(hand: Hand, group: Group, content: memoryview) -> Iterator[Part]:
    for at in range(0, len(content), _PIECE_BYTES):
        piece = content[at : at + _PIECE_BYTES]
        object_id, key, raw = hand.seal(piece)
        group.put(object_id, raw)
        yield Part(object_id, key, 0, len(piece))


def read_parts(project: Project, parts: Iterable[Part], size: int, content_hash: bytes) -> bytes:
    """A content that `keep`, or an ingest, stored.

    Args:
        size, content_hash: what the record says of it; BLAKE3, 32 bytes.

    Raises:
        NotFound: an object is not here.
        Damaged, Forged: an object's bytes are wrong, or they are not this content.
    """
    files = ObjectFiles(project.paths)
    pieces, total = [], 0
    for part in parts:
        total += part.length
        if total > size:
            break
        pieces.append(read_part(files, part))
    content = b"".join(pieces)
    if total != size:
        raise Damaged(f"a content of {size} bytes whose parts have {total}")
    if not crypto.same(crypto.content_hash(content), content_hash):
        raise Forged("a content whose bytes are not those of its hash")
    return content


def read_part(files: ObjectFiles, part: Part) -> bytes:
    """The bytes of one part."""
    content = files.read_object(part.object_id, part.key).content
    piece = content[part.offset : part.offset + part.length]
    if len(piece) != part.length:
        raise Damaged(
            f"a part of {part.length} bytes at {part.offset}, where {len(content)} bytes are",
            file=object_name(part.object_id),
        )
    return piece
