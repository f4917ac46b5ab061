"""New objects into a local S3 server: ours beside `rclone copy` of the same sealed files.

Both get an empty bucket on a server of their own for each round, turn about; both confirm each file
on the server. python -m bench.buckets [MIB] prints one line a round.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.core import say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RCLONE: Final = Path(sys.executable).with_name("rclone")
_SMALLEST, _LARGEST = 128 * 1024, 2 * 1024 * 1024  # what our chunker cuts
KEYS: Final = ("AK" + "0" * 18, "bench" * 8)
_PROJECT: Final = "ab" * 32


@dataclass(frozen=True, slots=True)
class Pushes:
    """Seconds of each round, and what went in one."""

    ours_s: list[float]
    rclone_s: list[float]
    count: int
    size: int

    @property
    def share(self) -> float:
        """Our throughput as a share of rclone's, by the medians."""
        return statistics.median(self.rclone_s) / statistics.median(self.ours_s)


def make_objects(folder: Path, size: int, seed: int = 1) -> list[Path]:
    """Files that look sealed, named by their hash as objects are; `size` bytes together."""
    rng, made, files = random.Random(seed), 0, list[Path]()
    while made < size:
        content = rng.randbytes(rng.randint(_SMALLEST, _LARGEST))
        name = hashlib.sha256(content).hexdigest()
        path = folder / "objects" / name[:2] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        files.append(path)
        made += len(content)
    return files


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """`rclone serve s3` with an empty bucket `bench`; its URL."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "bench").mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["serve", "s3", "--config", "/dev/null", "--auth-key", ",".join(KEYS)]
    process = subprocess.Popen(
        [RCLONE, *words, "--addr", f"127.0.0.1:{port}", folder], stderr=subprocess.DEVNULL
    )
    try:
        _await(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


def _await(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        time.sleep(0.05)
    raise TimeoutError("rclone serve s3 did not start")


def push_ours(files: Sequence[Path], endpoint: str, keys: Path, threads: int = 16) -> float:
    """Seconds to create and confirm every file through an opened remote."""
    from localstore.remotes import RemoteEntry
    from localstored.remotes import claim, open_remote

    options = {"endpoint": endpoint, "credentials": f"file:{keys}"}
    url = "s3://bench/ours"
    remote = open_remote(RemoteEntry("bench", url, claim(url, **options), **options))

    def push(path: Path) -> None:
        name = f"projects/{_PROJECT}/objects/{path.parent.name}/{path.name}"
        remote.create(name, path.read_bytes())
        assert remote.confirm(name, path.stat().st_size, path)

    try:
        began = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(push, files))
        return time.perf_counter() - began
    finally:
        remote.close()


def rclone_words(folder: Path, endpoint: str, transfers: int = 16) -> list[str]:
    """The command that copies what leaves of a folder of projects, or any other folder."""
    to = (
        f":s3,provider=Rclone,access_key_id={KEYS[0]},secret_access_key={KEYS[1]},"
        f"endpoint='{endpoint}':bench/rclone"
    )
    options = ["--config", "/dev/null", "--transfers", str(transfers), "--exclude", "local/**"]
    return [str(RCLONE), "copy", *options, str(folder), to]


def push_rclone(folder: Path, endpoint: str, transfers: int = 16) -> float:
    """Seconds that `rclone copy` takes for the same files, as many at once."""
    words = rclone_words(folder, endpoint, transfers)
    began = time.perf_counter()
    subprocess.run(words, check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def write_keys(folder: Path) -> Path:
    """The server's credentials in a file, as `--credentials file:` wants it."""
    keys = folder / "keys.toml"
    keys.touch(0o600)
    keys.write_text(f'access_key_id = "{KEYS[0]}"\nsecret_access_key = "{KEYS[1]}"\n')
    return keys


def push_beside_rclone(work: Path, *, size: int, rounds: int = 3) -> Pushes:
    """Push the same new objects both ways, turn about.

    Args:
        work: a folder with room for twice `size` bytes.
    """
    source = work / "source"
    files = make_objects(source, size)
    keys = write_keys(work)
    ours, theirs = list[float](), list[float]()
    for _ in range(rounds):
        with s3_server(work / "server") as endpoint:
            theirs.append(push_rclone(source, endpoint))
        with s3_server(work / "server") as endpoint:
            ours.append(push_ours(files, endpoint, keys))
    total = sum(path.stat().st_size for path in files)
    return Pushes(ours, theirs, len(files), total)


def main() -> None:
    """Measure and print."""
    mib = int(sys.argv[1]) if len(sys.argv) > 1 else 1024
    with tempfile.TemporaryDirectory() as work:
        found = push_beside_rclone(Path(work), size=mib * 1024 * 1024)
    for ours, theirs in zip(found.ours_s, found.rclone_s, strict=True):
        rates = [found.size / 1e6 / seconds for seconds in (ours, theirs)]
        say(f"{found.count} files: ours {rates[0]:.0f} MB/s, rclone copy {rates[1]:.0f} MB/s")
    say(f"share of rclone's throughput: {found.share:.2f}")


if __name__ == "__main__":
    main()
