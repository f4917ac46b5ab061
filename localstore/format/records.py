"""Records, and the frames that hold some of them row by row (docs/format.md, section 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from localstore.errors import Damaged
from localstore.format import spec
from localstore.format.packing import Reader, varint

if TYPE_CHECKING:
    from collections.abc import Sequence

Record = list[Any]

_DECODER: Final = msgspec.msgpack.Decoder(list[Any])
_NESTS: Final = frozenset({dict, list, tuple})
_TOO_DEEP: Final = "… nested too deep"


def decode_record(raw: bytes) -> Record:
    """One record: a msgpack array that begins with its kind and its time in microseconds.

    Raises:
        Damaged: not such an array.
    """
    try:
        record = _DECODER.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Damaged("a record that is not a msgpack array") from error
    if len(record) < 2 or type(record[0]) is not int or type(record[1]) is not int:
        raise Damaged("a record without kind and time")
    return record


def bounded(value: Any) -> Any:
    """The same value; where it is nested beyond MAX_NESTING, a copy that says so in text.

    Whoever handles values afterwards may walk them by recursion.
    """
    level = [value]
    for _ in range(spec.MAX_NESTING):
        level = [inner for one in level for inner in _inside(one)]
        if not level:
            return value
    return _cut(value, spec.MAX_NESTING)


def _inside(value: Any) -> list[Any]:
    """The arrays and maps in a value; arrays that are keys were read as tuples."""
    if type(value) is dict:
        keys = [key for key in value if type(key) is tuple]
        return keys + [one for one in value.values() if type(one) in _NESTS]
    return [one for one in value if type(one) in _NESTS] if type(value) in _NESTS else []


def _cut(value: Any, levels: int) -> Any:
    if type(value) not in _NESTS:
        return value
    if levels == 1:
        return _TOO_DEEP
    if type(value) is dict:
        return {_cut(key, levels - 1): _cut(one, levels - 1) for key, one in value.items()}
    return type(value)(_cut(one, levels - 1) for one in value)


def encode_records(first_sequence: int, records: Sequence[bytes]) -> bytes:
    """The content of a RECORDS frame: records of consecutive sequence numbers."""
    parts = [varint(first_sequence), varint(len(records))]
    for record in records:
        parts += (varint(len(record)), record)
    return b"".join(parts)


def decode_records(content: bytes) -> tuple[int, list[Record]]:
    """The first sequence number and the records of a RECORDS frame; see `bounded`.

    Raises:
        Damaged: the content breaks the layout.
    """
    reader = Reader(content)
    first, count = reader.varint(), reader.varint()
    if count > reader.left:
        raise Damaged(f"{count} records in {reader.left} bytes")
    records = [bounded(decode_record(reader.take(reader.varint()))) for _ in range(count)]
    if reader.left:
        raise Damaged(f"{reader.left} bytes after the last record")
    return first, records
