"""The main job on real input, with proofs: `make demo`.

Six runs train on scikit-learn's digits with all network cut off; one is killed in the middle. They
are synced to a folder; a second home, made from the recovery code alone, pulls, lists, compares and
exports. Then both go on with one model apart, and agree; one makes again what the other made.
Each proof is printed with its numbers; the exit status is 1 when any of them fails.
"""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from examples.models import (
    Places,
    tell_apart,
    tell_deleted,
    tell_once,
    tell_reproduced,
    tell_versions,
    tell_whole,
)
from examples.service import tell_bundle, tell_service
from examples.stage import (
    CANARY,
    INSIDE,
    PROJECT,
    STEPS,
    Proofs,
    Training,
    command,
    cut_network,
    ending,
    files_below,
    hits_in,
    indented,
    say_network,
    size_of,
    title,
    watch,
)
from localstore import Api

TRAININGS: Final = (
    Training("narrow", width=8),
    Training("middle"),
    Training("wide", width=64),
    Training("slow", lr=0.001),
    Training("fast", lr=0.05),
    Training("unlucky", width=64, lr=0.005, kill_after=150),
)


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
        print(f"  {name}: {count} calls of log() acknowledged, {ending(status)}")
        if status != (-signal.SIGKILL if job.kill_after else 0):
            proofs.check(f"{name} ended as meant", False, ending(status))
    total = sum(acknowledged.values())
    print(f"  {total} calls in {time.monotonic() - started:.1f} s, all runs side by side")
    return acknowledged


# ------------------------------------------------------------------ exports
def export(home: Path, ids: dict[str, str]) -> dict[str, bytes]:
    """The history of each run as CSV, byte for byte, by run name."""
    return {
        name: command(home, "export", run_id, "--format", "csv").encode()
        for name, run_id in sorted(ids.items())
    }


def list_runs(home: Path) -> list[dict[str, object]]:
    """What `localstore ls --json` knows of the demo's project."""
    found = json.loads(command(home, "ls", PROJECT, "--json"))["runs"]
    return sorted(found, key=lambda run: str(run["name"]))


def compare(exports: dict[str, bytes]) -> None:
    """A table of the runs from nothing but their exports."""
    print(f"  {'run':<24}{'steps':>6}{'best accuracy':>15}{'last val_loss':>15}")
    for name, text in exports.items():
        rows = list(csv.DictReader(io.StringIO(text.decode())))
        scores, losses = (
            [float(row[key]) for row in rows if row[key]]
            for key in (f"{CANARY}_accuracy", f"{CANARY}_val_loss")
        )
        print(f"  {name:<24}{len(scores):>6}{max(scores):>15.4f}{losses[-1]:>15.4f}")


def steps_in(text: bytes) -> list[int]:
    """The step of each row of an export."""
    return [int(row["_step"]) for row in csv.DictReader(io.StringIO(text.decode()))]


# ------------------------------------------------------------------ the story
def main() -> int:
    """Run the demo; returns the exit status."""
    if INSIDE not in os.environ:
        cut_network()
    for name in [name for name in os.environ if name.startswith("LOCALSTORE_")]:
        del os.environ[name]  # what a person has set is not the demo's
    proofs, started = Proofs(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="localstore-demo-") as folder:
        tell(Places(Path(folder)), proofs)
    if proofs.failed:
        print(f"\n{len(proofs.failed)} proofs FAILED: {'; '.join(proofs.failed)}")
        return 1
    print(f"\nall {proofs.held} proofs hold; {time.monotonic() - started:.0f} s")
    return 0


def tell(places: Places, proofs: Proofs) -> None:
    """All chapters, in a folder that is thrown away."""
    places.work.mkdir()
    title("1. Train with no network")
    say_network(proofs)
    print(f"  {len(TRAININGS)} runs of {STEPS} steps; one is killed after 150")
    acknowledged = train(places.first, proofs)
    tell_sync(places, proofs)
    exports = tell_same(places, set(acknowledged), proofs)
    prove_steps(acknowledged, exports, proofs)
    tell_versions(places, sum(not job.kill_after for job in TRAININGS), proofs)
    tell_apart(places, proofs)
    tell_reproduced(places, proofs)
    tell_once(places, proofs)
    tell_whole(places, proofs)
    tell_service(places, proofs)
    tell_bundle(places, proofs)
    prove_stayed(places, proofs)
    prove_sealed(places, exports, proofs)
    tell_deleted(places, proofs)
    hits = sum(map(hits_in, places.all()))
    proofs.check("still no name in the clear", hits == 0, f"{hits} hits in all three")


def tell_sync(places: Places, proofs: Proofs) -> None:
    """One home to a folder, and from there to another home."""
    title("2. Sync to a folder, as it might be a USB stick")
    command(places.first, "remote", "add", "stick", str(places.stick))
    print(indented(command(places.first, "sync", "now")))
    again = command(places.first, "sync", "now")
    idle = " pushed 0 " in again and " pulled 0 " in again
    proofs.check("a second sync has nothing to do", idle, again.strip())

    title("3. A second home, from the recovery code alone")
    code = command(places.first, "key", "recovery-code")
    command(places.second, "key", "recover", stdin=code)
    command(places.second, "remote", "add", "stick", str(places.stick))
    print(indented(command(places.second, "sync", "now")))
    print(indented(command(places.second, "ls", PROJECT)))


def tell_same(places: Places, names: set[str], proofs: Proofs) -> dict[str, bytes]:
    """Both homes have the same; returns the exports of the second one."""
    title("4. The same numbers in both homes")
    here, there = list_runs(places.first), list_runs(places.second)
    proofs.check(
        "every run arrived",
        [run["id"] for run in here] == [run["id"] for run in there]
        and {str(run["name"]) for run in here} == names,
        f"{len(here)} runs here, {len(there)} there",
    )
    ids = {str(run["name"]): str(run["id"]) for run in here}
    first_exports, second_exports = export(places.first, ids), export(places.second, ids)
    compare(second_exports)
    same = sum(first_exports[name] == second_exports[name] for name in ids)
    total = sum(map(len, first_exports.values()))
    proofs.check(
        "exports are byte-identical", same == len(ids), f"{same} of {len(ids)} files, {total} bytes"
    )
    ours, theirs = pictures(places.first), pictures(places.second)
    facts = f"{len(theirs)} of {len(ours)}, the first is {theirs[0][0]!r}"
    proofs.check("pictures and captions arrived", ours == theirs, facts)
    return second_exports


def pictures(home: Path) -> list[tuple[str, bytes]]:
    """Captions and bytes of what one network got wrong."""
    run = Api(home).run(f"{PROJECT}/{CANARY}-wide")
    found = run.media(run.summary[f"{CANARY}_mistakes"])
    return [(picture.caption, picture.content) for picture in found]


def prove_steps(acknowledged: dict[str, int], exports: dict[str, bytes], proofs: Proofs) -> None:
    """Every call of `log` that was acknowledged is there, once, in order; the killed run's too."""
    title("5. No acknowledged step is lost")
    for name, count in acknowledged.items():
        found = steps_in(exports.get(name, b""))
        # A log() may have done its work and been killed before it could say so: one step more.
        holds = found == list(range(len(found))) and count <= len(found) <= count + 1
        proofs.check(name, holds, f"{count} acknowledged, {len(found)} found in the second home")


def prove_stayed(places: Places, proofs: Proofs) -> None:
    """What is recorded for this machine alone is on no other one."""
    title("13. Host, account and console stay on their machine")
    name = f"{PROJECT}/{CANARY}-wide"
    here, there = Api(places.first).run(name), Api(places.second).run(name)
    facts, lines = (here.facts("host"), there.facts("host")), (here.console(), there.console())
    proofs.check(
        "host and account",
        set(facts[0]) == {"host", "user"} and not facts[1],
        f"{len(facts[0])} names in the first home, {len(facts[1])} in the second",
    )
    said = any(CANARY in line.text for line in lines[0])
    counted = f"{len(lines[0])} lines in the first home, {len(lines[1])} in the second"
    proofs.check("what the program printed", said and not lines[1], counted)
    told = json.loads(command(places.first, "sync", "explain", f"project:{PROJECT}", "--json"))
    files = [file for one in told for file in one["files"]]
    held = {Path(file["item"]).name for file in files if not file["leaves"]}
    left = held & {path.name for path in files_below(places.stick)}
    proofs.check("on the stick", bool(held) and not left, f"{len(left)} of {len(held)} such logs")


def prove_sealed(places: Places, exports: dict[str, bytes], proofs: Proofs) -> None:
    """No name that the demo gave, nor its code, stands in the clear in any file."""
    title("14. Nothing in the clear on any disk")
    print("  names of runs, metrics, artifacts, files, aliases; captions; output; the script")
    control = places.folder / "control"
    control.mkdir()
    (control / "export.csv").write_bytes(b"".join(exports.values()))
    found = hits_in(control), hits_in(places.work)
    facts = f"{found[0]} hits in the exports, {found[1]} in files that were fetched or checked out"
    proofs.check("the search works", min(found) > 0, facts)
    for place in places.all():
        hits, files, size = hits_in(place), len(files_below(place)), size_of(place)
        facts = f"{hits} hits in {files} files, {size} bytes"
        proofs.check(f"{place.name} holds none of it", hits == 0 and files > 0, facts)


if __name__ == "__main__":
    sys.exit(main())
