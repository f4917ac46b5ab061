"""localstore, as a script uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.workers.tasks import main

if TYPE_CHECKING:
    from pathlib import Path

    from bench.workers.tasks import Finish, Log


class Ours:
    """See `bench.workers.tasks.Tool`."""

    def start(self, folder: Path, config: dict[str, float]) -> tuple[Log, Finish]:
        import localstore

        run = localstore.init(project="bench", config=config, dir=folder)
        return run.log, lambda: run.finish(quiet=True)

    def steps(self, folder: Path) -> list[int]:
        from localstore import Api

        return list(Api(folder).runs("bench")[0].table().steps)

    def frame(self, folder: Path) -> Any:
        from localstore import Api

        return Api(folder).runs("bench")[0].history()

    def listing(self, folder: Path) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        from localstore import Api

        return [(run.config, run.summary) for run in Api(folder).runs("bench")]


if __name__ == "__main__":
    main(Ours())
