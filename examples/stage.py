"""What the demo stands on: proofs, the cut network, the two programs that it calls, files on disk.

Knows nothing of the story that is told.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parent
CLI: Final = str(Path(sys.executable).with_name("localstore"))
CANARY: Final = "quartz7"  # begins every name that the demo gives, whatever it names
IN_CODE: Final = "MLPClassifier"  # stands in the training script, which is saved with its runs
PROJECT: Final = f"{CANARY}-digits"
STEPS: Final = 300
INSIDE: Final = "DEMO_NETWORK"  # how this process was cut off; set by `cut_network`


# ------------------------------------------------------------------ printing
class Proofs:
    """Prints what is proved, and remembers whether all held."""

    def __init__(self) -> None:
        self.held = 0
        self.failed: list[str] = []

    def check(self, what: str, holds: bool, facts: str) -> None:
        """One proof."""
        print(f"  {'proved' if holds else 'FAILED'}: {what}: {facts}", flush=True)
        if holds:
            self.held += 1
        else:
            self.failed.append(what)


def title(text: str) -> None:
    """Begin a chapter."""
    print(f"\n{text}", flush=True)


def indented(text: str) -> str:
    """Output of a command, set off from our own."""
    return "\n".join(f"  | {line}" for line in text.rstrip().splitlines())


# ------------------------------------------------------------------ network
def cut_network() -> None:
    """Start this script again in a network namespace that holds nothing, where that is allowed."""
    way = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-rn"]
    if sys.platform == "linux" and shutil.which("unshare"):
        if subprocess.run([*way, "true"], capture_output=True).returncode == 0:
            os.environ[INSIDE] = " ".join(way)
            os.execvp(way[0], [*way, sys.executable, *sys.argv])
    os.environ[INSIDE] = ""


def say_network(proofs: Proofs) -> None:
    """Print how the network was cut off, and prove it."""
    way = os.environ[INSIDE]
    if not way:
        print("network: NOT cut off: this machine forbids it (no Linux, or no unshare); going on")
        return
    lines = Path("/proc/net/dev").read_text("ascii").splitlines()[2:]
    interfaces = sorted(line.partition(":")[0].strip() for line in lines)
    answer = "it was reached"
    try:
        socket.create_connection(("192.0.2.1", 443), timeout=2).close()
        reached = True
    except OSError as error:
        reached, answer = False, str(error.strerror or error)
    print(f"network: cut off ({way}) for this script and all that it starts")
    proofs.check("no network is there", not reached, f"interfaces {interfaces}, connect: {answer}")


# ------------------------------------------------------------------ the command line
def command(home: Path, *words: str, stdin: str = "") -> str:
    """Run the `localstore` command with a home of its own; returns what it printed."""
    environment = os.environ | {"LOCALSTORE_HOME": str(home)}
    done = subprocess.run(
        [CLI, *words], input=stdin, capture_output=True, text=True, env=environment, timeout=120
    )
    if done.returncode != 0:
        raise SystemExit(
            f"localstore {' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        )
    return done.stdout


# ------------------------------------------------------------------ training
@dataclass(frozen=True, slots=True)
class Training:
    """One run of examples/digits.py; its name is also the alias of its model."""

    name: str
    width: int = 32
    lr: float = 0.01
    seed: int = 0
    kill_after: int = 0  # acknowledged steps; 0 lets it end

    def words(self) -> list[str]:
        """What the script is started with."""
        options = {"width": self.width, "lr": self.lr, "seed": self.seed, "steps": STEPS}
        return [word for key, value in options.items() for word in (f"--{key}", str(value))]


def watch(home: Path, job: Training) -> tuple[int, int]:
    """Run one training, and kill it in the middle if so wished.

    Returns:
        How many calls of `log` returned, for each of which a byte came; and the exit status.
    """
    process, pipe = start(home, HERE / "digits.py", job.name, job.words())
    count = 0
    while some := os.read(pipe, 1):
        count += len(some)
        if count == job.kill_after:
            process.kill()
    os.close(pipe)
    return count, process.wait()


def start(
    home: Path, script: Path, name: str, words: list[str]
) -> tuple[subprocess.Popen[bytes], int]:
    """Start one training; returns it and the reading end of its pipe of acknowledgements."""
    reader, writer = os.pipe()
    own = {
        "LOCALSTORE_HOME": str(home),
        "LOCALSTORE_QUIET": "1",
        "LOCALSTORE_CODE_SAVING": "main",
        "OMP_NUM_THREADS": "1",  # sums of floats come out the same only in the same order
    }
    names = ["--project", PROJECT, "--prefix", f"{CANARY}_"]
    names += ["--name", f"{CANARY}-{name}", "--alias", f"{CANARY}-{name}"]
    process = subprocess.Popen(
        [sys.executable, script.name, *words, *names, "--ack", str(writer)],
        pass_fds=[writer],
        cwd=script.parent,
        stdout=subprocess.DEVNULL,
        env=os.environ | own,
    )
    os.close(writer)
    return process, reader


def ending(status: int) -> str:
    """An exit status in words."""
    return "killed with SIGKILL" if status == -signal.SIGKILL else f"exit {status}"


# ------------------------------------------------------------------ what lies on disk
def files_below(folder: Path) -> list[Path]:
    """Every file, hidden ones too."""
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def size_of(folder: Path) -> int:
    """Bytes of all files of a folder."""
    return sum(path.stat().st_size for path in files_below(folder))


def objects_in(folder: Path) -> set[str]:
    """Names of the objects of a home or a remote."""
    return {path.name for path in files_below(folder) if path.parent.parent.name == "objects"}


def hits_in(folder: Path, needles: tuple[str, ...] = (CANARY, IN_CODE)) -> int:
    """How often one of some texts stands in the files of a folder, or in their names."""
    hits = 0
    for path in files_below(folder):
        content, name = path.read_bytes(), str(path.relative_to(folder))
        hits += sum(content.count(one.encode()) + name.count(one) for one in needles)
    return hits
