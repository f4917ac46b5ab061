"""The least that a script can do by itself: `json.dumps` and one unbuffered write for each step."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bench.workers.tasks import main

if TYPE_CHECKING:
    from pathlib import Path

    from bench.workers.tasks import Finish, Log


class JsonLines:
    """See `bench.workers.tasks.Tool`."""

    def start(self, folder: Path, config: dict[str, float]) -> tuple[Log, Finish]:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config))
        file = (folder / "log.jsonl").open("ab", buffering=0)
        step = 0

        def log(data: dict[str, float]) -> None:
            nonlocal step
            file.write(json.dumps({"_step": step, **data}).encode() + b"\n")
            step += 1

        return log, file.close

    def _rows(self, folder: Path) -> list[dict[str, Any]]:
        lines = (folder / "log.jsonl").read_bytes().split(b"\n")[:-1]
        return [json.loads(line) for line in lines]

    def steps(self, folder: Path) -> list[int]:
        return [row["_step"] for row in self._rows(folder)]

    def frame(self, folder: Path) -> Any:
        import pandas as pd

        return pd.DataFrame(self._rows(folder))

    def listing(self, folder: Path) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        raise NotImplementedError("one file knows of one run")


if __name__ == "__main__":
    main(JsonLines())
