"""The artifact that the bench keeps: 1 GiB in 20,033 files, and a second version of it.

What is in it, in bytes of content: 200 MB float32 weights (normal noise), 300 MB of CSV in 30
files, 20,000 text files of 4 KiB, 140 MB that nothing compresses, and one file of 300 MB whose
mebibytes are text and noise in turn. Made from fixed seeds: the same bytes everywhere.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Final

MIB: Final = 1 << 20
SMALL_BYTES: Final = 4096
_ROW_BYTES: Final = 64  # of a CSV line: a counter of 8 digits, five columns, a line feed
_COLUMNS: Final = 5
_COLUMN_BYTES: Final = 11  # comma, sign or blank, one digit, point, seven digits


class Size:
    """How large the set is; `scale` 1 is the whole of it."""

    def __init__(self, scale: float) -> None:
        self.weights = int(200e6 * scale) // 4 * 4
        self.tables = max(2, int(30 * scale))
        self.table = 10_000_000 // _ROW_BYTES * _ROW_BYTES
        self.small = int(20_000 * scale)
        self.big = int(300e6 * scale)
        self.random = int(140e6 * scale)


def _generator(seed: int) -> Any:
    import numpy as np

    return np.random.Generator(np.random.PCG64(seed))


def text(seed: int, size: int) -> bytes:
    """CSV of slowly wandering numbers: zstd makes about a third of it."""
    import numpy as np

    rng, rows = _generator(seed), -(-size // _ROW_BYTES)
    lines = np.full((rows, _ROW_BYTES), ord("\n"), dtype=np.uint8)
    _digits(lines[:, :8], np.arange(rows, dtype=np.int64))
    for column in range(_COLUMNS):
        left = 8 + column * _COLUMN_BYTES
        lines[:, left], lines[:, left + 1], lines[:, left + 3] = ord(","), ord(" "), ord(".")
        walk = 1_000_000 + np.abs(np.cumsum(rng.integers(-20_000, 20_001, rows)))
        _digits(lines[:, left + 2 : left + 3], walk // 10_000_000)
        _digits(lines[:, left + 4 : left + 11], walk)
    return bytes(lines.tobytes()[:size])


def _digits(into: Any, values: Any) -> None:
    """Write the last digits of `values` into columns of characters, right-aligned."""
    for at in range(into.shape[1]):
        into[:, -1 - at] = ord("0") + values // 10**at % 10


def noise(seed: int, size: int) -> bytes:
    """Bytes that nothing compresses."""
    return bytes(_generator(seed).bytes(size))


def weights(seed: int, size: int) -> bytes:
    """Float32 from a normal distribution, as a network before and after training."""
    import numpy as np

    return bytes(_generator(seed).standard_normal(size // 4, dtype=np.float32).tobytes())


def _big(size: int) -> bytes:
    spans = range(-(-size // MIB))
    content = b"".join((noise if at % 2 else text)(1000 + at, MIB) for at in spans)
    return content[:size]


def small_name(number: int) -> str:
    """Where the small file of a number lies: in folders of 500."""
    return f"small/{number // 500:03d}/{number:05d}.txt"


def make(root: Path, scale: float = 1.0) -> None:
    """Write version 1 into `root`."""
    size = Size(scale)
    _write(root / "weights.bin", weights(1, size.weights))
    _write(root / "random.bin", noise(2, size.random))
    _write(root / "big.bin", _big(size.big))
    for number in range(size.tables):
        _write(root / f"tables/part-{number:02d}.csv", text(100 + number, size.table))
    pool = text(3, size.small * SMALL_BYTES)
    for number in range(size.small):
        content = pool[number * SMALL_BYTES : (number + 1) * SMALL_BYTES]
        _write(root / small_name(number), content)


def change(old: Path, new: Path, scale: float = 1.0) -> None:
    """Make version 2 beside version 1, with hard links to what stays the same.

    4 KiB inserted into the big file 1 MB from its start, six spans of 1 MB of the weights, the
    second halves of two tables, 3 % of the small files; 1 % of them more, 0.5 % gone.
    """
    size, edited = Size(scale), {}
    big = (old / "big.bin").read_bytes()
    edited["big.bin"] = big[:1_000_000] + noise(4, 4096) + big[1_000_000:]
    edited["weights.bin"] = _retrained((old / "weights.bin").read_bytes())
    for number in range(2):
        name, half = f"tables/part-{number:02d}.csv", size.table // 2
        edited[name] = (old / name).read_bytes()[:half] + text(200 + number, size.table - half)
    for number in range(0, size.small, 33):
        edited[small_name(number)] = text(10_000 + number, SMALL_BYTES)
    for number in range(size.small, size.small + size.small // 100):
        edited[small_name(number)] = text(10_000 + number, SMALL_BYTES)
    gone = {small_name(number) for number in range(7, size.small, 200)}
    for name, content in edited.items():
        _write(new / name, content)
    for path in old.rglob("*"):
        name = path.relative_to(old).as_posix()
        if path.is_file() and name not in edited and name not in gone:
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            os.link(path, new / name)


def _retrained(content: bytes) -> bytes:
    changed, apart = bytearray(content), len(content) // 6
    for span in range(6):
        left = span * apart + apart // 3 // 4 * 4
        changed[left : left + 1_000_000] = weights(300 + span, 1_000_000)
    return bytes(changed[: len(content)])


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def warm(root: Path) -> int:
    """Read everything once, so that every tool finds it in memory; returns the bytes."""
    total = 0
    for path in root.rglob("*"):
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while count := len(file.read(MIB)):
                    total += count
    return total


if __name__ == "__main__":
    parts, part = Path(sys.argv[1]), float(sys.argv[2])
    make(parts / "1", part)
    change(parts / "1", parts / "2", part)
