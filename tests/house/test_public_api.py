"""What `import localstore` promises to those who write scripts."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

import localstore
from tests.house.sources import ROOT

if TYPE_CHECKING:
    from pathlib import Path

OF_THE_RUN = {"run", "config", "summary"}  # values that follow the current run
TYPED_SCRIPT = """
import localstore
from localstore import Api, ConfigError, Histogram, LocalStoreError, Run

def train(run: Run) -> float:
    loss: float = 0.5
    run.log({"loss": loss, "weights": Histogram([1.0, 2.0])}, step=3)
    run.config["lr"] = 1e-3
    run.summary["best"] = loss
    return loss

with localstore.init(project="digits", config={"lr": 1e-3}, tags=["a"]) as run:
    train(run)
    name: str = run.name
    tags: tuple[str, ...] = run.tags
localstore.log({"x": 1})
localstore.define_metric("val/*", summary="min", goal="minimize")
localstore.finish()
current: Run | None = localstore.run
try:
    for stored in Api().runs("digits", filters={"config.lr": {"$lt": 0.1}}, order="-created_at"):
        rows: list[dict[str, object]] = list(stored.scan_history(keys=["loss"]))
        state: str = stored.state
except ConfigError as error:
    hint: str = error.hint
except LocalStoreError as error:
    code: int = error.exit_code
"""


def run_python(code: str) -> str:
    """Run some code in a fresh interpreter; returns what it printed."""
    words = [sys.executable, "-I", "-W", "error", "-c", code]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def test_dir_shows_exactly_what_is_public() -> None:
    assert dir(localstore) == sorted(localstore.__all__)
    assert len(set(localstore.__all__)) == len(localstore.__all__)


@pytest.mark.parametrize("name", sorted(set(localstore.__all__) - OF_THE_RUN - {"__version__"}))
def test_a_public_name_is_importable_and_explains_itself(name: str) -> None:
    found = getattr(importlib.import_module("localstore"), name)
    assert len((found.__doc__ or "").strip()) > 20


def test_errors_can_be_caught_by_their_names_at_once() -> None:
    code = "import localstore\nprint(issubclass(localstore.errors.NotFound, Exception))"
    assert run_python(code) == "True\n"


@pytest.mark.parametrize("name", ["Run", "Api", "Histogram"])
def test_public_methods_explain_themselves(name: str) -> None:
    cls = getattr(localstore, name)
    public = {
        key: value
        for key, value in vars(cls).items()
        if not key.startswith("_") and (callable(value) or isinstance(value, property))
    }
    assert not [key for key, value in public.items() if not (value.__doc__ or "").strip()]


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert localstore.__version__ == version("localstore")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_thing"):
        localstore.no_such_thing  # noqa: B018


def test_a_script_with_types_passes_a_strict_type_checker(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(TYPED_SCRIPT)
    words = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--config-file="]
    done = subprocess.run([*words, str(script)], capture_output=True, text=True, cwd=tmp_path)
    # Only what is said of the script counts here; our own sources are checked by `make check`.
    said = [line for line in done.stdout.splitlines() if line.startswith("script.py")]
    assert not said, done.stdout
    assert done.returncode == 0, done.stdout + done.stderr


def test_importing_loads_no_library() -> None:
    """Importing must be nearly free: what is heavy is loaded when it is first used."""
    code = """
        import sys
        before = set(sys.modules)
        import localstore
        import json
        print(json.dumps(sorted({name.partition(".")[0] for name in set(sys.modules) - before})))
    """
    loaded = set(json.loads(run_python(textwrap.dedent(code))))
    assert loaded - sys.stdlib_module_names == {"localstore"}


def test_importing_starts_and_writes_nothing(tmp_path: Path) -> None:
    """Invariant I12."""
    code = f"""
        import os, threading
        os.environ["LOCALSTORE_HOME"] = {str(tmp_path / "home")!r}
        import localstore
        localstore.init, localstore.Api, localstore.Run, localstore.Histogram
        print(threading.active_count())
    """
    assert run_python(textwrap.dedent(code)).strip() == "1"
    assert list(tmp_path.iterdir()) == []


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "localstore/py.typed").is_file()
    assert (ROOT / "daemon/localstored/py.typed").is_file()
