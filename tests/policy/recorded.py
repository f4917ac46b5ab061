"""A run with a canary in everything that it records, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.sync.recording import Around

if TYPE_CHECKING:
    from pathlib import Path

    from localstored.remotes.base import Remote

CLASSES = ("meta", "metrics", "system", "console", "code", "media", "artifacts")
SCRIPT = """
import os, localstore
c = lambda field: f"CANARY-{field}-WXQ"
# The code: CODE-MARK
run = localstore.init(project="p", id="one", notes=c("meta"), config={
    "redacted": c("redacted"), "local": c("local"), "nested": {"local": c("local"), "n": 1}})
print(c("console"), flush=True)
run.log({c("metrics"): 1.5, "page": localstore.Html(c("media") * 2000)})
for name in ("secret-" + c("held"), "open-model"):
    made = localstore.Artifact(name, "dataset")
    with made.new_file("file") as file:
        file.write((c("held") if name.startswith("s") else c("artifacts")) * 4000)
    run.log_artifact(made, aliases=[name[:4] + "-alias"])
run.finish()
"""


def canary(field: str) -> bytes:
    """What is looked for."""
    return f"CANARY-{field}-WXQ".encode()


def record(home: Path) -> None:
    """Make the run, under the policy that is there."""
    work = home.parent / "work"
    work.mkdir(exist_ok=True)
    # Put together here: the script must not name what it prints.
    code = SCRIPT.replace("CODE-MARK", canary("code").decode())
    (work / "train.py").write_text(code)
    environment = {
        **{name: value for name, value in os.environ.items() if "LOCALSTORE" not in name},
        "LOCALSTORE_HOME": str(home),
        "LOCALSTORE_QUIET": "1",
        "LOCALSTORE_CODE_SAVING": "main",
        "LOCALSTORE_SYSTEM_METRICS": "false",
        "OMP_NUM_THREADS": canary("system").decode(),
    }
    done = subprocess.run(
        [sys.executable, "train.py", f"--redacted={canary('redacted').decode()}"],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr, done.stderr


class Witness(Around):
    """Keeps every byte and name that a remote is told."""

    def __init__(self, inner: Remote) -> None:
        super().__init__(inner)
        self.seen: list[bytes] = []

    def create(self, name: str, data: bytes) -> None:
        self.seen += [name.encode(), bytes(data)]
        super().create(name, data)

    def append(self, name: str, offset: int, data: bytes) -> None:
        self.seen += [name.encode(), bytes(data)]
        super().append(name, offset, data)

    @property
    def bytes(self) -> bytes:
        """All of it."""
        return b"\n".join(self.seen)
