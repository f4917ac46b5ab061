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
        _, run = self.session(folder, config)
        return run.log, lambda: run.finish(quiet=True)

    def session(self, folder: Path, config: dict[str, float] | None = None) -> tuple[Any, Any]:
        import localstore

        return localstore, localstore.init(project="bench", config=config, dir=folder)

    def settle(self, logged: Any) -> None:
        logged.wait()

    def fetch(self, folder: Path, into: Path) -> None:
        from localstore import Api

        Api(folder).artifact("bench/set:latest").download(root=into)

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
