"""wandb in offline mode, with all that is not logging switched off.

It ships no reader of its offline files; `records` scans them with its own protobuf messages.
"""

from __future__ import annotations

import json
import os
import struct
from typing import TYPE_CHECKING, Any

from bench.workers.tasks import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.workers.tasks import Finish, Log

_BLOCK = 32 * 1024  # LevelDB's log: blocks of records, each with checksum, length and kind
_HEAD = struct.Struct("<IHB")
_FILE_HEAD_BYTES = 7
_BARE: dict[str, Any] = {
    "console": "off",
    "disable_git": True,
    "disable_code": True,
    "x_disable_stats": True,
    "x_disable_meta": True,
    "x_disable_machine_info": True,
}
_FULL, _FIRST, _LAST = 1, 2, 4


def records(content: bytes) -> Iterator[bytes]:
    """The records of a .wandb file, as far as they are whole."""
    at, parts = _FILE_HEAD_BYTES, b""
    while at + _HEAD.size <= len(content):
        left = _BLOCK - at % _BLOCK
        if left < _HEAD.size:
            at += left
            continue
        _, length, kind = _HEAD.unpack_from(content, at)
        body = content[at + _HEAD.size : at + _HEAD.size + length]
        if kind == 0 or len(body) < length:
            return
        parts = body if kind in (_FULL, _FIRST) else parts + body
        if kind in (_FULL, _LAST):
            yield parts
        at += _HEAD.size + length


class Wandb:
    """See `bench.workers.tasks.Tool`."""

    def start(self, folder: Path, config: dict[str, float]) -> tuple[Log, Finish]:
        _, run = self.session(folder, config)
        return run.log, run.finish

    def session(self, folder: Path, config: dict[str, float] | None = None) -> tuple[Any, Any]:
        for name in ("DATA", "CACHE", "CONFIG", "ARTIFACT"):
            os.environ[f"WANDB_{name}_DIR"] = str(folder)
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        settings = wandb.Settings(mode="offline", silent=True)
        if "BENCH_SURROUNDINGS" not in os.environ:
            settings = wandb.Settings(mode="offline", silent=True, **_BARE)
        run = wandb.init(project="bench", config=config, dir=str(folder), settings=settings)
        return wandb, run

    def settle(self, logged: Any) -> None:
        """The staged copy is made before `log_artifact` returns; offline nothing follows."""

    def fetch(self, folder: Path, into: Path) -> None:
        raise NotImplementedError("wandb gives artifacts back from its server alone")

    def _rows(self, folder: Path) -> Iterator[dict[str, Any]]:
        from wandb.proto import wandb_internal_pb2

        for path in sorted(folder.rglob("*.wandb")):
            for raw in records(path.read_bytes()):
                record = wandb_internal_pb2.Record()
                record.ParseFromString(raw)
                if record.WhichOneof("record_type") == "history":
                    yield {
                        item.key or ".".join(item.nested_key): json.loads(item.value_json)
                        for item in record.history.item
                    }

    def steps(self, folder: Path) -> list[int]:
        return [row["_step"] for row in self._rows(folder)]

    def frame(self, folder: Path) -> Any:
        import pandas as pd

        return pd.DataFrame(list(self._rows(folder)))

    def listing(self, folder: Path) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        raise NotImplementedError("wandb lists runs on its server alone")


if __name__ == "__main__":
    main(Wandb())
