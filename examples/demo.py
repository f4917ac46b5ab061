"""The main job on real input, with proofs: `make demo`.

Six runs train on scikit-learn's digits with all network cut off; one is killed in the middle. They
are synced to a folder; a second home, made from the recovery code alone, pulls, lists, compares and
exports. Each proof is printed with its numbers; the exit status is 1 when any of them fails.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
CLI = str(Path(sys.executable).with_name("localstore"))
STEPS = 300
KILL_AFTER = 150  # acknowledged steps
CANARY = "quartz7"  # begins every name that the demo gives: project, runs, metrics, config
PROJECT = f"{CANARY}-digits"
INSIDE = "DEMO_NETWORK"  # how this process was cut off; set by `cut_network`


@dataclass(frozen=True, slots=True)
class Training:
    """One run of examples/digits.py."""

    name: str
    width: int
    lr: float
    killed: bool = False


TRAININGS = (
    Training("narrow", width=8, lr=0.01),
    Training("middle", width=32, lr=0.01),
    Training("wide", width=64, lr=0.01),
    Training("slow", width=32, lr=0.001),
    Training("fast", width=32, lr=0.05),
    Training("unlucky", width=64, lr=0.005, killed=True),
)


class Proofs:
    """Prints what is proved, and remembers whether all held."""

    def __init__(self) -> None:
        self.failed: list[str] = []

    def check(self, what: str, holds: bool, facts: str) -> None:
        """One proof."""
        print(f"  {'proved' if holds else 'FAILED'}: {what}: {facts}", flush=True)
        if not holds:
            self.failed.append(what)


def title(text: str) -> None:
    """Begin a chapter."""
    print(f"\n{text}", flush=True)


# ------------------------------------------------------------------ network
def cut_network() -> None:
    """Start this script again in a network namespace that holds nothing, where that is allowed."""
    ways = [["unshare", "-n"]] if os.geteuid() == 0 else [["unshare", "-rn"]]
    if sys.platform == "linux" and shutil.which("unshare"):
        for way in ways:
            if subprocess.run([*way, "true"], capture_output=True).returncode == 0:
                environment = os.environ | {INSIDE: " ".join(way)}
                os.execvpe(way[0], [*way, sys.executable, __file__], environment)
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
def localstore(home: Path, *words: str, stdin: str = "") -> str:
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
def train(home: Path, proofs: Proofs) -> dict[str, int]:
    """Train all runs side by side; returns the acknowledged steps of each by run name."""
    started = time.monotonic()
    acknowledged: dict[str, int] = {}
    with ThreadPoolExecutor(len(TRAININGS)) as watchers:
        ends = list(watchers.map(lambda job: watch(home, job), TRAININGS))
    for job, (count, status) in zip(TRAININGS, ends, strict=True):
        name = f"{CANARY}-{job.name}"
        acknowledged[name] = count
        end = "killed with SIGKILL" if status == -signal.SIGKILL else f"exit {status}"
        print(f"  {name}: {acknowledged[name]} steps acknowledged by log(), {end}")
        want = -signal.SIGKILL if job.killed else 0
        if status != want:
            proofs.check(f"{name} ended as meant", False, f"{end}, want {want}")
    total = sum(acknowledged.values())
    print(f"  {total} steps in {time.monotonic() - started:.1f} s, all runs side by side")
    return acknowledged


def start(home: Path, job: Training) -> tuple[subprocess.Popen[bytes], int]:
    """Start one training; returns it and the reading end of its pipe of acknowledgements."""
    reader, writer = os.pipe()
    words = ["--project", PROJECT, "--name", f"{CANARY}-{job.name}", "--prefix", f"{CANARY}_"]
    words += ["--width", str(job.width), "--lr", str(job.lr), "--steps", str(STEPS)]
    process = subprocess.Popen(
        [sys.executable, str(HERE / "digits.py"), *words, "--ack", str(writer)],
        pass_fds=[writer],
        env=os.environ
        | {"LOCALSTORE_HOME": str(home), "LOCALSTORE_QUIET": "1", "OMP_NUM_THREADS": "1"},
    )
    os.close(writer)
    return process, reader


def watch(home: Path, job: Training) -> tuple[int, int]:
    """Run one training, and kill it in the middle if so wished.

    Returns:
        How many calls of `log` returned, for each of which a byte came; and the exit status.
    """
    process, pipe = start(home, job)
    count = 0
    while some := os.read(pipe, 1):
        count += len(some)
        if job.killed and count == KILL_AFTER:
            process.kill()
    os.close(pipe)
    return count, process.wait()


# ------------------------------------------------------------------ exports
def export(home: Path, ids: dict[str, str]) -> dict[str, bytes]:
    """The history of each run as CSV, byte for byte, by run name."""
    return {
        name: localstore(home, "export", run_id, "--format", "csv").encode()
        for name, run_id in sorted(ids.items())
    }


def list_runs(home: Path) -> list[dict[str, object]]:
    """What `localstore ls --json` knows of the demo's project."""
    found = json.loads(localstore(home, "ls", PROJECT, "--json"))["runs"]
    return sorted(found, key=lambda run: str(run["name"]))


def compare(exports: dict[str, bytes]) -> None:
    """A table of the runs from nothing but their exports."""
    print(f"  {'run':<24}{'steps':>6}{'best accuracy':>15}{'last val_loss':>15}")
    for name, text in exports.items():
        rows = list(csv.DictReader(io.StringIO(text.decode())))
        best = max(float(row[f"{CANARY}_accuracy"]) for row in rows)
        last = float(rows[-1][f"{CANARY}_val_loss"])
        print(f"  {name:<24}{len(rows):>6}{best:>15.4f}{last:>15.4f}")


def steps_in(text: bytes) -> list[int]:
    """The step of each row of an export."""
    return [int(row["_step"]) for row in csv.DictReader(io.StringIO(text.decode()))]


# ------------------------------------------------------------------ what lies on disk
def files_below(folder: Path) -> list[Path]:
    """Every file, hidden ones too."""
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def size_of(folder: Path) -> int:
    """Bytes of all files of a folder."""
    return sum(path.stat().st_size for path in files_below(folder))


def plaintext_hits(folder: Path) -> int:
    """How often a name that the demo gave stands in the files of a folder, or in their names."""
    hits = 0
    for path in files_below(folder):
        hits += path.read_bytes().count(CANARY.encode())
        hits += str(path.relative_to(folder)).count(CANARY)
    return hits


# ------------------------------------------------------------------ the story
def main() -> int:
    """Run the demo; returns the exit status."""
    if INSIDE not in os.environ:
        cut_network()
    proofs = Proofs()
    with tempfile.TemporaryDirectory(prefix="localstore-demo-") as folder:
        tell(Path(folder), proofs)
    if proofs.failed:
        print(f"\n{len(proofs.failed)} proofs FAILED: {'; '.join(proofs.failed)}")
        return 1
    print("\nall proofs hold")
    return 0


def tell(folder: Path, proofs: Proofs) -> None:
    """All chapters, in a folder that is thrown away."""
    home, remote, second = folder / "home", folder / "stick", folder / "second-home"

    title("1. Train with no network")
    say_network(proofs)
    print(f"  {len(TRAININGS)} runs of {STEPS} steps; one is killed after {KILL_AFTER}")
    acknowledged = train(home, proofs)

    title("2. Sync to a folder, as it might be a USB stick")
    localstore(home, "remote", "add", "stick", str(remote))
    print(indented(localstore(home, "sync", "now")))
    again = localstore(home, "sync", "now")
    idle = " pushed 0 " in again and " pulled 0 " in again
    proofs.check("a second sync has nothing to do", idle, again.strip())

    title("3. A second home, from the recovery code alone")
    code = localstore(home, "key", "recovery-code")
    localstore(second, "key", "recover", stdin=code)
    localstore(second, "remote", "add", "stick", str(remote))
    print(indented(localstore(second, "sync", "now")))
    print(indented(localstore(second, "ls", PROJECT)))

    title("4. The same numbers in both homes")
    here, there = list_runs(home), list_runs(second)
    proofs.check(
        "every run arrived",
        [run["id"] for run in here] == [run["id"] for run in there]
        and {str(run["name"]) for run in here} == set(acknowledged),
        f"{len(here)} runs here, {len(there)} there",
    )
    ids = {str(run["name"]): str(run["id"]) for run in here}
    first_exports, second_exports = export(home, ids), export(second, ids)
    compare(second_exports)
    same = sum(first_exports[name] == second_exports[name] for name in ids)
    total = sum(map(len, first_exports.values()))
    proofs.check(
        "exports are byte-identical", same == len(ids), f"{same} of {len(ids)} files, {total} bytes"
    )
    prove_steps(acknowledged, second_exports, proofs)
    prove_sealed(folder, first_exports, sum(acknowledged.values()), proofs)


def prove_steps(acknowledged: dict[str, int], exports: dict[str, bytes], proofs: Proofs) -> None:
    """Every step that `log` acknowledged is there, once, in order; the killed run's too."""
    title("5. No acknowledged step is lost")
    for name, count in acknowledged.items():
        found = steps_in(exports.get(name, b""))
        # A log() may have done its work and been killed before it could say so: one step more.
        holds = found == list(range(len(found))) and count <= len(found) <= count + 1
        proofs.check(name, holds, f"{count} acknowledged, {len(found)} found in the second home")


def prove_sealed(folder: Path, exports: dict[str, bytes], steps: int, proofs: Proofs) -> None:
    """No name that the demo gave stands in the clear in any file."""
    title("6. Nothing in the clear on any disk")
    control = folder / "control"
    control.mkdir()
    (control / "export.csv").write_bytes(b"".join(exports.values()))
    hits = plaintext_hits(control)
    proofs.check("the search works", hits > 0, f"{hits} hits in an export, which is plain")
    for name in ("home", "stick", "second-home"):
        place = folder / name
        hits, files, size = plaintext_hits(place), len(files_below(place)), size_of(place)
        facts = f"{hits} hits in {files} files, {size} bytes, {size / steps:.0f} for each step"
        proofs.check(f"{name} holds no name in the clear", hits == 0 and files > 0, facts)


def indented(text: str) -> str:
    """Output of a command, set off from our own."""
    return "\n".join(f"  | {line}" for line in text.rstrip().splitlines())


if __name__ == "__main__":
    sys.exit(main())
