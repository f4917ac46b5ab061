"""What the runs of the bench log: full-entropy doubles, or curves as trainings make them."""

from __future__ import annotations

import math
import random
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = 4096  # rows that are made before the clock starts, and then used again and again


def _float32(value: float) -> float:
    """A double that holds no more than a float32, as most losses do."""
    widened: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return widened


def _any_double(rng: random.Random) -> float:
    while True:
        value: float = struct.unpack("<d", rng.randbytes(8))[0]
        if math.isfinite(value):
            return value


def random_rows(keys: int) -> list[dict[str, float]]:
    """Full-entropy doubles: nothing can be compressed away."""
    rng = random.Random(1)
    return [{f"metric_{key}": _any_double(rng) for key in range(keys)} for _ in range(ROWS)]


def uniform_rows(keys: int) -> list[dict[str, float]]:
    """What `random.random` gives: 53 random bits in each double."""
    rng = random.Random(1)
    return [{f"metric_{key}": rng.random() for key in range(keys)} for _ in range(ROWS)]


def real_rows(keys: int) -> list[dict[str, float]]:
    """60 % float32 noise; a learning rate, an epoch, a counter and a constant in ten keys."""
    rng = random.Random(1)
    kinds: list[Callable[[int], float]] = [
        *[lambda step: _float32(2 * math.exp(-step / 1500) + 0.1 * rng.gauss(0, 1))] * 6,
        lambda step: 1e-3 * 0.5 * (1 + math.cos(math.pi * step / ROWS)),
        lambda step: step / 500,
        lambda step: step * 64,
        lambda step: 0.9,
    ]
    return [{f"metric_{key}": kinds[key % 10](step) for key in range(keys)} for step in range(ROWS)]


def rows_of(kind: str, keys: int) -> list[dict[str, float]]:
    """Rows by the name of their kind."""
    return {"real": real_rows, "uniform": uniform_rows, "random": random_rows}[kind](keys)
