"""COLUMNS frames: many points of one segment, turned on their side (docs/format.md, section 8).

Values of one key stand together, bytes of one significance stand together, and zstd sees what is
alike side by side. 1,024 points of ten keys take a quarter of what their records take.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Final

import msgspec

from localstore.errors import Damaged
from localstore.format import spec
from localstore.format.packing import Reader, varint
from localstore.format.records import bounded
from localstore.format.spec import ColumnCode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_PRESENCE: Final = 0x80
_WIDTHS: Final = {1: "B", 2: "H", 4: "I", 8: "Q"}
_I64: Final = range(-(1 << 63), 1 << 63)
_encode: Final = msgspec.msgpack.Encoder().encode
Cells = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Column:
    """The values of one key: `rows` are the row numbers that have one, None when all do."""

    values: Cells
    rows: Sequence[int] | None


@dataclass(frozen=True, slots=True)
class Block:
    """One decoded COLUMNS frame.

    Attributes:
        first_sequence, record_count: the sequence numbers that the block covers.
        steps: int, shape (rows,). times_us: int, Unix time in microseconds, shape (rows,).
        columns: by key id.
        names: ids that this block defines.
    """

    first_sequence: int
    record_count: int
    steps: Sequence[int]
    times_us: Sequence[int]
    columns: Mapping[int, Column]
    names: Mapping[int, str]


# ------------------------------------------------------------------ from points to rows
def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts become dotted keys; a dict with `_type` is a value."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and "_type" not in value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value  # a key that is no text is nobody's of ours
    return flat


def rows_of(points: Iterable[Sequence[Any]]) -> tuple[list[int], list[int], list[dict[str, Any]]]:
    """Steps, times and values; neighbours of one step become one row, the later value wins."""
    steps: list[int] = []
    times: list[int] = []
    rows: list[dict[str, Any]] = []
    for _kind, time_us, step, values in points:
        flat = flatten(values) if dict in set(map(type, values.values())) else values
        if steps and steps[-1] == step:
            rows[-1] = {**rows[-1], **flat}
            times[-1] = time_us
        else:
            steps.append(step)
            times.append(time_us)
            rows.append(flat)
    return steps, times, rows


class KeyTable:
    """Ids of a segment's keys; says which definitions the next block must carry.

    A name stands in the block that uses it first, again in blocks 1, 2, 4, 8 … and in the last, so
    that no single damaged frame takes the names of others with it.
    """

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._blocks = 0
        self._defined = 0

    def id_of(self, name: str) -> int:
        """The id of a key, new ones counted up from 0."""
        return self._ids.setdefault(name, len(self._ids))

    def definitions(self, *, last: bool) -> dict[str, int]:
        """What the block must define, after all its ids were asked for."""
        self._blocks += 1
        whole = last or self._blocks & (self._blocks - 1) == 0
        names = list(self._ids.items())
        chosen = names if whole else names[self._defined :]
        self._defined = len(names)
        return dict(chosen)


# ------------------------------------------------------------------ encoding
def encode_block(
    first_sequence: int,
    points: Sequence[Sequence[Any]],
    table: KeyTable,
    *,
    last: bool = False,
) -> bytes:
    """The content of a COLUMNS frame for POINT records of consecutive sequence numbers."""
    steps, times, rows = rows_of(points)
    columns = [varint(table.id_of(name)) + cells for name, cells in _encoded_columns(rows)]
    definitions = table.definitions(last=last)
    parts = [varint(first_sequence), varint(len(points)), varint(len(steps))]
    parts.append(varint(len(definitions)))
    for name, number in definitions.items():
        text = name.encode("utf-8", "surrogatepass")
        parts += (varint(number), varint(len(text)), text)
    parts += (_integers(steps), _integers(times), varint(len(columns)), *columns)
    return b"".join(parts)


def _encoded_columns(rows: Sequence[Mapping[str, Any]]) -> Iterable[tuple[str, bytes]]:
    keys = tuple(rows[0]) if rows else ()
    if all(tuple(row) == keys for row in rows):
        whole = zip(*(row.values() for row in rows), strict=True)
        for name, values in zip(keys, whole, strict=True):
            yield name, _column(values, b"")
        return
    names = dict.fromkeys(name for row in rows for name in row)
    for name in names:
        present = [name in row for row in rows]
        values = tuple(row[name] for row in rows if name in row)
        yield name, _column(values, b"" if all(present) else _bitmap(present))


def _bitmap(flags: Sequence[bool]) -> bytes:
    bits = bytearray((len(flags) + 7) // 8)
    for at, flag in enumerate(flags):
        if flag:
            bits[at >> 3] |= 1 << (at & 7)
    return bytes(bits)


def _column(values: Cells, bitmap: bytes) -> bytes:
    code, data = _cells(values)
    return bytes((code | (_PRESENCE if bitmap else 0),)) + bitmap + data


def _cells(values: Cells) -> tuple[ColumnCode, bytes]:
    kinds = set(map(type, values))
    if kinds == {float}:
        return _floats(values)
    if kinds == {int}:
        if min(values) in _I64 and max(values) in _I64 and max(values) - min(values) in _I64:
            return ColumnCode.INT, _integers(values)
    elif kinds == {bool}:
        return ColumnCode.BOOL, _bitmap(values)
    packed = _encode(values[0])
    if all(_encode(value) == packed for value in values):
        return ColumnCode.CONSTANT, varint(len(packed)) + packed
    packed = _encode(values)
    return ColumnCode.MIXED, varint(len(packed)) + packed


def _floats(values: Cells) -> tuple[ColumnCode, bytes]:
    wide = array("d", values)
    raw = wide.tobytes()
    if len(values) > 1 and raw == raw[:8] * len(values):
        packed = _encode(values[0])
        return ColumnCode.CONSTANT, varint(len(packed)) + packed
    narrow = array("f", values)
    if array("d", narrow).tobytes() == raw:
        return ColumnCode.FLOAT32, _planes(narrow)
    return ColumnCode.FLOAT64, _planes(wide)


def _planes(cells: array[Any]) -> bytes:
    """First all lowest bytes, then all second bytes, and so on; little-endian."""
    if sys.byteorder == "big":  # pragma: no cover
        cells.byteswap()
    raw, width = cells.tobytes(), cells.itemsize
    return b"".join(raw[at::width] for at in range(width))


def _zigzag(number: int) -> bytes:
    return varint(number << 1 if number >= 0 else (-number << 1) - 1)


def _integers(values: Sequence[int]) -> bytes:
    """First value, smallest difference, width, and what each difference has above the smallest."""
    differences = [after - before for before, after in pairwise(values)]
    least = min(differences, default=0)
    spread = max(differences, default=0) - least
    width = next(w for w in (0, 1, 2, 4, 8) if spread >> (8 * w) == 0)
    head = _zigzag(values[0]) + _zigzag(least) + bytes((width,))
    if not width:
        return head
    return head + _planes(array(_WIDTHS[width], [d - least for d in differences]))


# ------------------------------------------------------------------ decoding
def decode_block(content: bytes) -> Block:
    """Parse a COLUMNS frame.

    Raises:
        Damaged: the content breaks the layout.
    """
    reader = Reader(content)
    first, records, rows = reader.varint(), reader.varint(), reader.varint()
    if not 0 < rows <= records <= spec.MAX_BLOCK_ROWS:
        raise Damaged(f"a block of {rows} rows from {records} records")
    names = {}
    for _ in range(_count(reader)):
        number = reader.varint()
        names[number] = reader.take(reader.varint()).decode("utf-8", "replace")
    steps, times = _read_integers(reader, rows), _read_integers(reader, rows)
    columns, cells = {}, 0
    for _ in range(_count(reader)):
        number = reader.varint()
        columns[number] = column = _read_column(reader, rows)
        cells += len(column.values)
        if cells > spec.MAX_BLOCK_CELLS:
            raise Damaged(f"a block of more than {spec.MAX_BLOCK_CELLS} values")
    if reader.left:
        raise Damaged(f"{reader.left} bytes after the last column")
    return Block(first, records, steps, times, columns, names)


def _count(reader: Reader) -> int:
    count = reader.varint()
    if count > reader.left:
        raise Damaged(f"{count} items in {reader.left} bytes")
    return count


def _read_column(reader: Reader, rows: int) -> Column:
    code = reader.byte()
    present: list[int] | None = None
    if code & _PRESENCE:
        present = [at for at, flag in enumerate(_read_bits(reader, rows)) if flag]
    count = rows if present is None else len(present)
    return Column(_read_cells(reader, code & ~_PRESENCE, count), present)


def _read_cells(reader: Reader, code: int, count: int) -> Cells:
    match code:
        case ColumnCode.FLOAT64:
            return _read_planes(reader, "d", count)
        case ColumnCode.FLOAT32:
            return _read_planes(reader, "f", count)
        case ColumnCode.INT:
            return _read_integers(reader, count)
        case ColumnCode.BOOL:
            return _read_bits(reader, count)
        case ColumnCode.CONSTANT:
            return _repeated(_read_value(reader), count)
        case ColumnCode.MIXED:
            values = _read_value(reader)
            if not isinstance(values, list) or len(values) != count:
                raise Damaged("a mixed column of another length than its rows")
            return values
    raise Damaged(f"column code {code} of a newer localstore")


def _repeated(value: Any, count: int) -> Cells:
    """One value in every row; numbers as an array, which readers take without a copy."""
    if type(value) is float:
        return array("d", (value,)) * count
    if type(value) is int and value in _I64:
        return array("q", (value,)) * count
    return [value] * count


def _read_value(reader: Reader) -> Any:
    try:
        return bounded(msgspec.msgpack.decode(reader.take(reader.varint())))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Damaged("a column that is not msgpack") from error


def _read_bits(reader: Reader, count: int) -> list[bool]:
    bits = reader.take((count + 7) // 8)
    return [bool(bits[at >> 3] >> (at & 7) & 1) for at in range(count)]


def _read_planes(reader: Reader, code: str, count: int) -> array[Any]:
    cells: array[Any] = array(code)
    width = cells.itemsize
    planes = reader.take(width * count)
    raw = bytearray(len(planes))
    for at in range(width):
        raw[at::width] = planes[at * count : (at + 1) * count]
    cells.frombytes(bytes(raw))
    if sys.byteorder == "big":  # pragma: no cover
        cells.byteswap()
    return cells


def _read_zigzag(reader: Reader) -> int:
    number = reader.varint()
    return -((number + 1) >> 1) if number & 1 else number >> 1


def _read_integers(reader: Reader, count: int) -> Sequence[int]:
    if count == 0:
        raise Damaged("a column of no numbers")
    first, least, width = _read_zigzag(reader), _read_zigzag(reader), reader.byte()
    if width == 0:
        if first not in _I64 or first + least * (count - 1) not in _I64:
            raise Damaged("numbers beyond 64 bits")
        return range(first, first + least * count, least) if least else [first] * count
    if width not in _WIDTHS:
        raise Damaged(f"numbers of width {width}")
    above = _read_planes(reader, _WIDTHS[width], count - 1)
    differences = (extra + least for extra in above) if least else above
    values = list(accumulate(differences, initial=first))
    if min(values) not in _I64 or max(values) not in _I64:
        raise Damaged("numbers beyond 64 bits")
    return values
