"""Tasks about files: artifacts and images. See `bench.workers.tasks`."""

from __future__ import annotations

import statistics
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from bench.workers.sizes import size_of

if TYPE_CHECKING:
    from collections.abc import Callable

    Step = Callable[[], object]

SIDE: Final = 256  # pixels of the images
_FLUSHED_S: Final = 1.5  # records reach their files within a second
_STEP_S: Final = 0.005  # a training step


class FileTool(Protocol):
    """A tracker that keeps files; `folder` is where it keeps everything."""

    def session(self, folder: Path) -> tuple[Any, Any]:
        """Begin a run; returns the tool's module, for `Artifact` and `Image`, and the run."""

    def settle(self, logged: Any) -> None:
        """Wait until an artifact is kept, where that happens in the background."""

    def fetch(self, folder: Path, into: Path) -> None:
        """Write the newest version of the artifact `set` into a folder."""


def put(tool: FileTool, folder: Path, *, source: str) -> dict[str, float]:
    """Log a folder as the artifact `set`, as a script of a few lines does."""
    module, run = tool.session(folder)
    start = time.perf_counter()
    run.log_artifact(_artifact(module, "set", Path(source)))
    logged = time.perf_counter()
    run.finish()
    return {"called_s": logged - start, "finish_s": time.perf_counter() - logged}


def get(tool: FileTool, folder: Path, *, into: str) -> dict[str, float]:
    """Give the newest version back."""
    tool.fetch(folder, Path(into))
    return {}


def repeat(tool: FileTool, folder: Path, *, source: str, times: int) -> dict[str, float]:
    """Log one file several times in one run; the folder is weighed when each call has settled."""
    module, run = tool.session(folder)
    sizes = [size_of(folder)]
    for _ in range(times):
        tool.settle(run.log_artifact(_artifact(module, "same", Path(source))))
        time.sleep(_FLUSHED_S)
        sizes.append(size_of(folder))
    run.finish()
    return {
        "kept_bytes": sizes[-1] - sizes[0],
        "later_bytes": (sizes[-1] - sizes[1]) / (times - 1),
    }


def calls(tool: FileTool, folder: Path, *, sources: list[str]) -> dict[str, float]:
    """How long `log_artifact` keeps its caller; each source is an artifact with a name of its own.

    Before the next call the one before is settled. Making the artifact is timed apart.
    """
    module, run = tool.session(folder)
    made, called = [], []
    for number, source in enumerate(sources):
        start = time.perf_counter()
        artifact = _artifact(module, f"a{number}", Path(source))
        made.append(time.perf_counter() - start)
        start = time.perf_counter()
        logged = run.log_artifact(artifact)
        called.append(time.perf_counter() - start)
        tool.settle(logged)
    run.finish()
    return {
        "made_ms": statistics.median(made) * 1e3,
        "called_ms": statistics.median(called) * 1e3,
        "longest_ms": max(called) * 1e3,
    }


def _artifact(module: Any, name: str, source: Path) -> Any:
    artifact = module.Artifact(name, "dataset")
    (artifact.add_dir if source.is_dir() else artifact.add_file)(str(source))
    return artifact


# ------------------------------------------------------------------ a training beside it
def training(
    tool: FileTool, folder: Path, *, source: str, kind: str, steps: int
) -> dict[str, float]:
    """Steps of 5 ms: first alone, then while a folder that was logged is being kept.

    Args:
        tool: The tracker.
        folder: Where it keeps everything.
        source: The folder that is logged.
        kind: `numpy`: products of matrices in one thread; `python`: a loop that holds the GIL.
        steps: How many steps alone.
    """
    module, run = tool.session(folder)
    step = {"numpy": _numpy_step, "python": _python_step}[kind]()
    alone = [_step_s(step, run) for _ in range(steps)]
    start = time.perf_counter()
    logged = run.log_artifact(_artifact(module, "set", Path(source)))
    stopped_s = time.perf_counter() - start
    settling = threading.Thread(target=tool.settle, args=[logged])
    settling.start()
    beside = [_step_s(step, run)]
    while settling.is_alive():
        beside.append(_step_s(step, run))
    run.finish()
    over_s = time.perf_counter() - start
    return {
        "alone_ms": statistics.mean(alone) * 1e3,
        "beside_ms": statistics.mean(beside) * 1e3,
        "slowest_ms": max(beside) * 1e3,
        "steps_beside": len(beside),
        "stopped_s": stopped_s,
        "more_s": over_s - len(beside) * statistics.mean(alone),
    }


def _step_s(step: Step, run: Any) -> float:
    start = time.perf_counter()
    step()
    run.log({"loss": start})
    return time.perf_counter() - start


def _numpy_step() -> Step:
    import numpy as np

    left = np.ones((256, 256), dtype=np.float32)
    return _repeated(lambda: left @ left)


def _python_step() -> Step:
    return _repeated(lambda: sum(number * number for number in range(1000)))


def _repeated(unit: Step) -> Step:
    """As many units as a step of the wanted length takes on this machine."""
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < 20 * _STEP_S:
        unit()
        count += 1
    each = max(1, count // 20)

    def step() -> None:
        for _ in range(each):
            unit()

    return step


# ------------------------------------------------------------------ images
def images(tool: FileTool, folder: Path, *, count: int) -> dict[str, float]:
    """Log arrays as images, one each step: noise and smooth ones in turn."""
    import numpy as np

    module, run = tool.session(folder)
    rng = np.random.default_rng(1)
    ramp = np.linspace(0, 255, SIDE)
    smooth = (ramp[:, None, None] + ramp[None, :, None] + np.array([0, 40, 80])) / 2
    taken = []
    for number in range(count):
        noisy = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        array = noisy if number % 2 else ((smooth + number) % 256).astype(np.uint8)
        start = time.perf_counter()
        run.log({"sample": module.Image(array)})
        taken.append(time.perf_counter() - start)
    start = time.perf_counter()
    run.finish()
    return {
        "median_ms": statistics.median(taken) * 1e3,
        "finish_s": time.perf_counter() - start,
    }


TASKS: Final[dict[str, Callable[..., dict[str, float]]]] = {
    "put": put,
    "get": get,
    "repeat": repeat,
    "calls": calls,
    "training": training,
    "images": images,
}
