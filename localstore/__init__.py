"""localstore: private, offline-first experiment tracking.

    import localstore

    run = localstore.init(project="digits", config={"lr": 1e-3})
    run.log({"loss": 0.5})
    run.finish()

Records are sealed when `log` returns and survive SIGKILL; `localstore sync now` carries them to
remotes that a person added. Importing this package starts no thread, opens no socket and writes
nothing; everything below is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from localstore import errors
    from localstore.errors import ConfigError, LocalStoreError
    from localstore.media import (
        Audio,
        Html,
        Image,
        Object3D,
        Plotly,
        Table,
        Text,
        Video,
        plot,
        plot_table,
    )
    from localstore.query.api import Api
    from localstore.sdk.artifact import Artifact
    from localstore.sdk.mappings import Config, Summary
    from localstore.sdk.run import Run
    from localstore.sdk.start import (
        define_metric,
        finish,
        init,
        log,
        log_artifact,
        log_code,
        save,
        use_artifact,
    )
    from localstore.sdk.values import Histogram

    run: Run | None
    config: Config
    summary: Summary

__version__ = "0.1.0"
__all__ = [
    "init", "log", "finish", "define_metric", "save", "log_artifact", "use_artifact", "log_code",
    "run", "config", "summary",
    "Run", "Artifact", "Api", "Histogram", "Image", "Video", "Audio", "Text", "Html", "Table",
    "Plotly", "Object3D", "plot", "plot_table",
    "LocalStoreError", "ConfigError", "errors",
    "__version__",
]  # fmt: skip

_HOMES = {
    "init": "localstore.sdk.start",
    "log": "localstore.sdk.start",
    "finish": "localstore.sdk.start",
    "define_metric": "localstore.sdk.start",
    "save": "localstore.sdk.start",
    "log_artifact": "localstore.sdk.start",
    "use_artifact": "localstore.sdk.start",
    "log_code": "localstore.sdk.start",
    "Run": "localstore.sdk.run",
    "Artifact": "localstore.sdk.artifact",
    "Image": "localstore.media",
    "Video": "localstore.media",
    "Audio": "localstore.media",
    "Text": "localstore.media",
    "Html": "localstore.media",
    "Table": "localstore.media",
    "Plotly": "localstore.media",
    "Object3D": "localstore.media",
    "plot": "localstore.media",
    "plot_table": "localstore.media",
    "Histogram": "localstore.sdk.values",
    "Api": "localstore.query.api",
    "LocalStoreError": "localstore.errors",
    "ConfigError": "localstore.errors",
}


def __getattr__(name: str) -> Any:
    """Load public names when they are first used; `run`, `config`, `summary` follow the run."""
    from importlib import import_module

    if name == "errors":
        return import_module("localstore.errors")
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    if name in ("run", "config", "summary"):
        start = import_module("localstore.sdk.start")
        return start.current() if name == "run" else getattr(start.require(), name)
    raise AttributeError(f"module 'localstore' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
