"""trackio on its local SQLite files, its monitors off; read with its own storage class."""

from __future__ import annotations

import contextlib
import io
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from bench.workers.tasks import main

if TYPE_CHECKING:
    from pathlib import Path

    from bench.workers.tasks import Finish, Log


def _storage(folder: Path) -> Any:
    os.environ["TRACKIO_DIR"] = str(folder)  # read when trackio is imported
    from trackio.sqlite_storage import SQLiteStorage

    return SQLiteStorage


class Trackio:
    """See `bench.workers.tasks.Tool`."""

    def start(self, folder: Path, config: dict[str, float]) -> tuple[Log, Finish]:
        _, run = self.session(folder, config)
        return run.log, run.finish

    def session(self, folder: Path, config: dict[str, float] | None = None) -> tuple[Any, Any]:
        _storage(folder)
        import trackio

        with contextlib.redirect_stdout(io.StringIO()):
            run = trackio.init(
                project="bench", config=config, embed=False, auto_log_gpu=False, auto_log_cpu=False
            )

        def finish() -> None:
            with contextlib.redirect_stdout(io.StringIO()):
                trackio.finish()

        return trackio, SimpleNamespace(
            log=run.log, log_artifact=run.log_artifact, finish=finish, use=run.use_artifact
        )

    def settle(self, logged: Any) -> None:
        """Everything is done when `log_artifact` returns."""

    def fetch(self, folder: Path, into: Path) -> None:
        _, run = self.session(folder)
        run.use("set:latest").download(root=into)
        run.finish()

    def _rows(self, folder: Path) -> list[dict[str, Any]]:
        storage = _storage(folder)
        runs = storage.get_run_records("bench")
        rows: list[dict[str, Any]] = storage.get_logs("bench", run_id=runs[0]["id"]) if runs else []
        return rows

    def steps(self, folder: Path) -> list[int]:
        return [row["step"] for row in self._rows(folder)]

    def frame(self, folder: Path) -> Any:
        import pandas as pd

        return pd.DataFrame(self._rows(folder))

    def listing(self, folder: Path) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        storage = _storage(folder)
        configs = storage.get_all_run_configs("bench")
        return [
            (configs[run["id"]], storage.get_logs("bench", run_id=run["id"])[-1])
            for run in storage.get_run_records("bench")
        ]


if __name__ == "__main__":
    main(Trackio())
