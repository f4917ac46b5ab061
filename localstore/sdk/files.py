"""Files that belong to a run: media, saved files, code, requirements (docs/format.md, FILE).

A content travels in its record: sealed in the tail, it survives a kill when the call returns. The
block maker moves it into objects a moment later. What is too large for a record goes into objects
first, durable before its record exists.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final

from localstore import crypto
from localstore.format.records import decode_record
from localstore.format.spec import DataClass, RecordKind
from localstore.identity import now_us
from localstore.sdk.values import encode_any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from localstore.format.manifest import Part
    from localstore.format.records import Record
    from localstore.project import Project
    from localstore.stream import Refer
    from localstore.writer import Writer

# Smaller contents stay in their record: an object costs a file and its padding.
SMALL_BYTES: Final = 8 * 1024
# Far below the limit of a record; what is larger does not pass through the tail.
LARGE_BYTES: Final = 4 * 1024 * 1024
_FILE: Final = int(RecordKind.FILE)


def file_record(
    path: str, content: bytes, facts: Mapping[str, Any], parts: Sequence[Part] = ()
) -> list[Any]:
    """A FILE record; with `parts` the content stands in objects."""
    body = {**facts, "size": len(content), "hash": crypto.content_hash(content)}
    body |= {"parts": as_lists(parts)} if parts else {"data": content}
    return [_FILE, now_us(), path, body]


def as_lists(parts: Sequence[Part]) -> list[list[Any]]:
    """Parts as they stand in records."""
    return [[one.object_id, one.key, one.offset, one.length] for one in parts]


def add_file(
    project: Project,
    writer: Writer,
    data_class: DataClass,
    path: str,
    content: bytes,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Record a file of the run; when this returns, a SIGKILL does not lose it.

    Raises:
        OSError: the content is large, and the disk refused it.
    """
    parts: Sequence[Part] = ()
    if len(content) > LARGE_BYTES:
        from localstore.store.blobs import keep

        (parts,) = keep(project, data_class, [content], _referrer(writer, data_class))
    writer.append(data_class, file_record(path, content, facts or {}, parts))


def add_path(
    project: Project,
    writer: Writer,
    data_class: DataClass,
    path: str,
    source: Path,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """The same for a file on disk of any size, which is read in pieces.

    Raises:
        LocalStoreError: it cannot be read, or changes all the while.
        OSError: the disk refused.
    """
    from localstore.store.ingest import Ingest
    from localstore.store.sources import Source

    ingest = Ingest(project, data_class, refer=_referrer(writer, data_class))
    (entry,) = ingest.run([Source(path, source)])
    body = {**(facts or {}), "size": entry.size, "hash": entry.hash}
    writer.append(data_class, [_FILE, now_us(), path, {**body, "parts": as_lists(entry.parts)}])


def _referrer(writer: Writer, data_class: DataClass) -> Refer:
    """Makes references of the run to objects, durable on return."""

    def refer(objects: Sequence[bytes]) -> None:
        writer.refer(data_class, objects)
        if not writer.flush():
            raise OSError(errno.EIO, "the disk refuses references")

    return refer


def move_contents(
    project: Project, data_class: DataClass, bodies: list[bytes], refer: Refer
) -> list[bytes]:
    """Put great contents of FILE records into objects, all in one group; as many records.

    Raises:
        OSError: the disk refused.
    """
    great = {at: record for at, body in enumerate(bodies) if (record := _great_file(body))}
    if not great:
        return bodies
    from localstore.store.blobs import keep

    kept = keep(project, data_class, [record[3]["data"] for record in great.values()], refer)
    out = list(bodies)
    for (at, record), parts in zip(great.items(), kept, strict=True):
        del record[3]["data"]
        record[3]["parts"] = as_lists(parts)
        out[at] = encode_any(record)
    return out


def _great_file(body: bytes) -> Record | None:
    """The FILE record whose content is too great to stay in it; None for all others."""
    # A msgpack array's second byte is its first element: kinds are small positive integers.
    if len(body) <= SMALL_BYTES or body[1] != _FILE:
        return None
    record = decode_record(body)
    data = record[3].get("data")
    return record if isinstance(data, bytes) and len(data) > SMALL_BYTES else None
