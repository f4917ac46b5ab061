"""The demo's last chapters: the service sends by itself, and a bundle crosses the air gap.

The network is that of the demo's own namespace: its loopback interface is taken down and up again.
Where there is no namespace, the server of the bucket is stopped and started in its place.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from examples.stage import (
    CANARY,
    INSIDE,
    PROJECT,
    ROOT,
    Proofs,
    Training,
    command,
    ending,
    files_below,
    hits_in,
    indented,
    title,
    watch,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from examples.models import Places

_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 1
_LIMIT_S: Final = 60.0
_KEY: Final = "demo-key"
_SECRET: Final = "demo-secret"  # noqa: S105 - of a server that lives for some seconds


# ------------------------------------------------------------------ the network
def beside_python(program: str) -> str:
    """A program that was installed with this Python."""
    return shutil.which(program, path=Path(sys.executable).parent) or program


def switch_loopback(*, up: bool) -> None:
    """Connect this namespace with itself, or cut it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(handle, _SIOCGIFFLAGS, request))[1]
        flags = flags | _IFF_UP if up else flags & ~_IFF_UP
        fcntl.ioctl(handle, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags))


class Bucket:
    """An S3 server on this machine, and the network to it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "demo").mkdir(parents=True)
        self._server: subprocess.Popen[bytes] | None = None
        self._own_network = bool(os.environ[INSIDE])
        if self._own_network:
            switch_loopback(up=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._address = f"127.0.0.1:{free.getsockname()[1]}"
        self.endpoint = f"http://{self._address}"
        self._start()

    def _start(self) -> None:
        words = ["serve", "s3", "--addr", self._address, "--auth-key", f"{_KEY},{_SECRET}"]
        self._server = subprocess.Popen(
            [beside_python("rclone"), *words, "--vfs-cache-mode", "off", str(self._folder)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        eventually(self._answers, "the bucket's server to answer")

    def _answers(self) -> bool:
        host, _, port = self._address.partition(":")
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            return False
        return True

    def cut(self) -> None:
        """No way to the server any more."""
        if self._own_network:
            switch_loopback(up=False)
        else:
            self.close()

    def connect(self) -> None:
        """There is a way again."""
        if self._own_network:
            switch_loopback(up=True)
        else:
            self._start()

    def close(self) -> None:
        """End the server."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._server = None


def eventually(is_so: Callable[[], bool], what: str) -> None:
    """Wait for something; end the demo when it does not come."""
    end = time.monotonic() + _LIMIT_S
    while not is_so():
        if time.monotonic() > end:
            raise SystemExit(f"waited {_LIMIT_S:.0f} s for {what}")
        time.sleep(0.1)


# ------------------------------------------------------------------ the service
@contextlib.contextmanager
def service(home: Path, log: Path) -> Iterator[None]:
    """The service of a home, until the end of the block."""
    words = [beside_python("localstored"), "--home", str(home)]
    with log.open("wb") as out:
        process = subprocess.Popen(words, stdout=out, stderr=out, cwd=ROOT)
    try:
        yield
    finally:
        process.terminate()
        try:
            print(f"  the service stopped: {ending(process.wait(10))}")
        except subprocess.TimeoutExpired:
            process.kill()
            raise SystemExit("the service did not stop within 10 s") from None


def standings(home: Path) -> dict[str, bool]:
    """Whether each remote is in step, by name, as `sync status` says."""
    found = json.loads(command(home, "sync", "status", "--json"))
    behind: dict[str, int] = {}
    for one in found["standing"]:
        behind[one["remote"]] = behind.get(one["remote"], 0) + one["behind_items"]
    return {remote: files == 0 for remote, files in behind.items()}


def tell_service(places: Places, proofs: Proofs) -> None:
    """Runs made while the network is cut arrive by themselves when it is back."""
    title("11. The service: runs without a network, then with one")
    bucket = Bucket(places.folder / "cloud")
    try:
        _add_remotes(places, bucket)
        with service(places.first, places.folder / "service.log"):
            _prove_arrival(places, bucket, proofs)
    finally:
        bucket.close()
    for name in ("cloud", "drive"):
        command(places.first, "remote", "rm", name)


def _add_remotes(places: Places, bucket: Bucket) -> None:
    credentials = places.work / "bucket.toml"
    credentials.write_text(f'access_key_id = "{_KEY}"\nsecret_access_key = "{_SECRET}"\n')
    credentials.chmod(0o600)
    command(places.first, "remote", "add", "drive", str(places.folder / "drive"))
    said = command(
        places.first,
        *("remote", "add", "cloud", "s3://demo/localstore", "--endpoint", bucket.endpoint),
        *("--credentials", f"file:{credentials}"),
    )
    print(indented(said))


def _prove_arrival(places: Places, bucket: Bucket, proofs: Proofs) -> None:
    home = places.first
    eventually(lambda: all(standings(home).values()), "the service to send what there was")
    proofs.check("what was there has arrived", True, f"in step: {sorted(standings(home))}")
    bucket.cut()
    before = {path.name for path in files_below(places.folder / "cloud")}
    for job in (Training("offline-1", width=16), Training("offline-2", lr=0.02)):
        count, status = watch(home, job)
        print(f"  {CANARY}-{job.name}: {count} calls of log() acknowledged, {ending(status)}")
    eventually(lambda: standings(home)["drive"], "the drive to have both runs")
    stands, now = standings(home), {path.name for path in files_below(places.folder / "cloud")}
    cut_off = not stands["cloud"] and now == before
    proofs.check(
        "with the network cut, the drive has them and the bucket not", cut_off, str(stands)
    )
    bucket.connect()
    eventually(lambda: standings(home)["cloud"], "the bucket to have both runs")
    new = {path.name for path in files_below(places.folder / "cloud")} - before
    proofs.check(
        "with the network back, they arrived in the bucket by themselves",
        bool(new),
        f"{len(new)} new files",
    )
    folders = (places.folder / "cloud", places.folder / "drive")
    hits = sum(map(hits_in, folders))
    proofs.check(
        "drive and bucket hold no name and no code in the clear", hits == 0, f"{hits} hits"
    )


# ------------------------------------------------------------------ the air gap
def tell_bundle(places: Places, proofs: Proofs) -> None:
    """A bundle goes to a third home, and its receipt comes back."""
    title("12. A bundle for a machine that has no network, and its receipt back")
    first, third, carried = places.first, places.folder / "third-home", places.folder / "carried"
    carried.mkdir()
    bundle, receipt = carried / "runs.bundle", carried / "runs.receipt"
    code = command(first, "key", "recovery-code")
    print(indented(command(first, "bundle", "export", str(bundle))))
    print(indented(command(third, "bundle", "inspect", str(bundle))))
    hits = hits_in(carried)
    proofs.check("the bundle holds no name and no code in the clear", hits == 0, f"{hits} hits")
    command(third, "key", "recover", stdin=code)
    print(indented(command(third, "bundle", "import", str(bundle), "--receipt", str(receipt))))
    here, there = (
        {run["id"] for run in json.loads(command(home, "ls", PROJECT, "--json"))["runs"]}
        for home in (first, third)
    )
    proofs.check("the third home lists the same runs", here == there, f"{len(there)} runs")
    print(indented(command(first, "bundle", "receipt", str(receipt), "--as", "third")))
    later = carried / "later.bundle"
    command(first, "bundle", "export", str(later), "--since-receipt", "third")
    sizes = bundle.stat().st_size, later.stat().st_size
    facts = f"{sizes[0]} bytes, then {sizes[1]}"
    proofs.check("what was received is not carried again", sizes[1] < sizes[0] // 20, facts)
