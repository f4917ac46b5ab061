"""To a local S3 server: new objects, nothing to do, and a line that is cut; beside rclone, restic.

All use servers of their own with empty buckets, one after the other, in an order that turns.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import statistics
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from bench.artifacts import make as make_set
from bench.buckets import KEYS, rclone_words, s3_server, write_keys
from bench.core import OURS, Row, say
from bench.cutting import cut_line
from bench.sync import ask_module
from bench.workers.dataset import warm
from bench.workers.sizes import size_of
from tests.remotes.faults import front

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bench.core import Bench, Spent
    from bench.cutting import Line

_MIB: Final = 1 << 20
_FILES: Final = 8  # of the noise
_RUNS: Final = 10  # times the runs that are logged one by one elsewhere
_CUTS: Final = 100  # of a gibibyte
_PIECE_MB: Final = 4 * _MIB / 1e6
_LONG_S: Final = 1200.0
_WORDS: Final = "the bench's, and nobody else's"


@dataclass(frozen=True, slots=True)
class Kept:
    """A home with one artifact in it.

    Attributes:
        source: what it was made of. put_s: seconds that the script took that logged it.
    """

    home: Path
    source: Path
    put_s: float

    @property
    def sealed(self) -> Path:
        """The folder whose files leave, but `local`."""
        return self.home / "projects"

    @property
    def objects_bytes(self) -> int:
        """Bytes of all objects."""
        return sum(size_of(folder) for folder in self.sealed.glob("*/objects"))


def bench_uploads(bench: Bench) -> None:
    """All that goes to a bucket."""
    if "rclone" not in bench.programs:
        bench.remarks.append("no rclone, so no S3 server: uploads were not measured")
        return
    noise = _keep(bench, _noise(bench))
    _bench_new(bench, noise, f"{bench.size.artifact:g} GiB of new objects to S3")
    _bench_cuts(bench, noise)
    shutil.rmtree(noise.source)
    kept = _keep(bench, make_set(bench) / "1")
    _bench_new(bench, kept, "the artifact's new objects to S3")
    _bench_idle(bench)


def _noise(bench: Bench) -> Path:
    folder, rng = bench.scratch / "noise", random.Random(1)
    folder.mkdir()
    for number in range(_FILES):
        with (folder / f"{number}.bin").open("wb") as file:
            for _ in range(int(1024 * bench.size.artifact) // _FILES):
                file.write(rng.randbytes(_MIB))
    return folder


def _keep(bench: Bench, source: Path) -> Kept:
    say(f"… {source.name} is kept")
    home = bench.folder()
    bench.ask(OURS, "empty", home)
    warm(source)
    spent = bench.spend(bench.words(OURS, "put", home, source=str(source)))
    return Kept(home, source, spent.wall_s)


# ------------------------------------------------------------------ new objects
def _bench_new(bench: Bench, kept: Kept, what: str) -> None:
    """What is kept goes to an empty bucket: our objects, the same files, the source."""
    tools: dict[str, Callable[[str], Spent]] = {
        OURS: lambda endpoint: _sync(bench, kept.home, endpoint),
        "rclone": lambda endpoint: _copy(bench, kept.sealed, endpoint),
        "restic": lambda endpoint: _backup(bench, kept.source, endpoint),
    }
    row = bench.add(Row(what, "s", "rclone / 0.8, restic / 2"))
    both = bench.add(Row(f"{what}, with keeping them", "s", ""))
    size = bench.add(Row(f"{what}, bytes of objects", "MB", ""))
    present = [tool for tool in tools if tool in (OURS, *bench.programs)]
    found: dict[str, list[float]] = {tool: [] for tool in present}

    def step(tool: str) -> None:
        with s3_server(bench.scratch / "server") as endpoint:
            found[tool].append(tools[tool](endpoint).wall_s)

    for turn in range(bench.size.repeats):
        warm(kept.source)
        for tool in present[turn % len(present) :] + present[: turn % len(present)]:
            os.sync()
            bench.attempt(tool, what, step)
    row.values = {tool: statistics.median(times) for tool, times in found.items() if times}
    if OURS in row.values:
        both.values[OURS] = kept.put_s + row.values[OURS]
    if "restic" in row.values:
        both.values["restic"] = row.values["restic"]
    size.values[OURS] = kept.objects_bytes / 1e6


def _connect(bench: Bench, home: Path, endpoint: str) -> None:
    """Make the server's bucket the only remote of a home that remembers no other."""
    for path in [home / "remotes.toml", *home.glob("projects/*/local/catalog.db*")]:
        path.unlink(missing_ok=True)
    keys = write_keys(bench.scratch)
    options = ("--endpoint", endpoint, "--credentials", f"file:{keys}")
    bench.localstore(home, "remote", "add", "bucket", "s3://bench/ours", *options)


def _sync(bench: Bench, home: Path, endpoint: str) -> Spent:
    _connect(bench, home, endpoint)
    return bench.localstore(home, "sync", "now", timeout_s=_LONG_S)


def _copy(bench: Bench, folder: Path, endpoint: str, *more: str) -> Spent:
    return bench.spend([*rclone_words(folder, endpoint), *more], timeout_s=_LONG_S)


def _backup(bench: Bench, source: Path, endpoint: str) -> Spent:
    more = {
        "RESTIC_REPOSITORY": f"s3:{endpoint}/bench/restic",
        "RESTIC_PASSWORD": _WORDS,
        "RESTIC_CACHE_DIR": str(bench.folder()),
        "AWS_ACCESS_KEY_ID": KEYS[0],
        "AWS_SECRET_ACCESS_KEY": KEYS[1],
    }
    bench.spend(["restic", "--quiet", "init", "--repository-version", "2"], more=more)
    return bench.spend(["restic", "--quiet", "backup", "."], more=more, cwd=source)


# ------------------------------------------------------------------ a line that is cut
def _bench_cuts(bench: Bench, kept: Kept) -> None:
    """One connection breaks at a random byte, or all of them; what was sent and hashed for it."""
    size_mb = kept.objects_bytes / 1e6
    cuts = max(1, round(_CUTS * bench.size.artifact))
    label, most = f"{size_mb:,.0f} MB to S3, cut {cuts} times", size_mb + cuts * _PIECE_MB
    for everything, which in ((False, "one connection"), (True, "all connections")):
        sent = bench.add(Row(f"{label}, {which}, bytes sent", "MB", f"{most:,.0f}"))
        hashed = bench.add(
            Row(f"{label}, {which}, bytes hashed (SHA-256)", "MB", f"{size_mb:,.0f}")
        )
        with _cut(bench, kept, everything=everything) as (server, line):
            _connect(bench, kept.home, server)
            _move(kept.home, server, line.endpoint)
            found = ask_module(bench, "bench.workers.hashing", kept.home)
            say(f"{line.cuts} cuts: {found}")
            sent.values[OURS] = line.sent / 1e6
            hashed.values[OURS] = found["hashed"]["sha256"] / 1e6
        with _cut(bench, kept, everything=everything) as (_, line):
            copy = partial(_patient_copy, bench, kept.sealed, line.endpoint)
            if bench.attempt("rclone", label, copy):
                sent.values["rclone"] = line.sent / 1e6


@contextlib.contextmanager
def _cut(bench: Bench, kept: Kept, *, everything: bool) -> Iterator[tuple[str, Line]]:
    """A server with an empty bucket, and a line to it that is cut."""
    with s3_server(bench.scratch / "server") as server:
        size, cuts = kept.objects_bytes, max(1, round(_CUTS * bench.size.artifact))
        with cut_line(server, size, cuts, everything=everything) as line:
            yield server, line


def _patient_copy(bench: Bench, folder: Path, endpoint: str, _tool: str) -> None:
    _copy(bench, folder, endpoint, "--retries", "20")


def _move(home: Path, old: str, new: str) -> None:
    """The same bucket, over another line."""
    path = home / "remotes.toml"
    path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")


# ------------------------------------------------------------------ nothing to do
def _bench_idle(bench: Bench) -> None:
    """Many runs in a bucket, and nothing new: the time of the command, and its requests."""
    runs = _RUNS * bench.size.runs
    first = bench.add(Row(f"sync of {runs:,} runs to S3, first", "s", ""))
    idle = bench.add(Row(f"sync of {runs:,} runs in S3, nothing to do", "s", "2"))
    requests = bench.add(Row(f"sync of {runs:,} runs in S3, nothing to do, requests", "", ""))
    home = bench.folder()
    ask_module(bench, "bench.workers.store", home, bench.folder(), runs, 0)
    with s3_server(bench.scratch / "server") as server:
        first.values[OURS] = _sync(bench, home, server).wall_s
        idle.values[OURS] = statistics.median(
            bench.localstore(home, "sync", "now").wall_s for _ in range(bench.size.repeats)
        )
        with front(server) as counting:
            _move(home, server, counting.endpoint)
            bench.localstore(home, "sync", "now")
            requests.values[OURS] = len(counting.seen)
    with s3_server(bench.scratch / "server") as server:
        first.values["rclone"] = _copy(bench, home / "projects", server).wall_s
        idle.values["rclone"] = _copy(bench, home / "projects", server).wall_s
        with front(server) as counting:
            _copy(bench, home / "projects", counting.endpoint)
            requests.values["rclone"] = len(counting.seen)
