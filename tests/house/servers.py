"""Real servers for tests, as pytest fixtures: one of each for a whole session, on free ports.

`ceph` is a Ceph RADOS gateway with a monitor and a store in memory: the production software. It
takes some ten seconds to start and needs root and Debian's packages: mark its tests with
`CEPH`. `rclone_s3` is rclone's small server, which ignores conditions and so shows what does
without them. Everything that is started here ends with the session, also when that is killed.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from localstore.remotes import RemoteEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CEPH = pytest.mark.real("root", "radosgw", "ceph-mon", "ceph-osd")
BUCKET: Final = "localstore-tests"
ACCESS_KEY, SECRET_KEY = "AK" + "0" * 18, secrets.token_hex(20)
_START_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class S3Server:
    """A server that speaks S3 and has one empty bucket."""

    endpoint: str
    credentials: str
    bucket: str = BUCKET

    def entry(self, prefix: str = "", name: str = "cloud") -> RemoteEntry:
        """A place of its own in the bucket that is a remote now."""
        from localstored.remotes import claim

        url = f"s3://{self.bucket}/{prefix or secrets.token_hex(8)}"
        return RemoteEntry(name, url, claim(url, **self.options), **self.options)

    @property
    def options(self) -> dict[str, str]:
        """What `remote add` is told of it."""
        return {"endpoint": self.endpoint, "credentials": self.credentials}


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def spawn(*words: str | Path, **given: object) -> subprocess.Popen[bytes]:
    """A process that dies with this one."""
    tied = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    return subprocess.Popen([*tied, *map(str, words)], **{**quiet, **given})  # type: ignore[call-overload, no-any-return]


@contextlib.contextmanager
def ending(processes: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """End processes, the last first, whatever happens."""
    try:
        yield
    finally:
        for one in reversed(processes):
            one.kill()
            one.wait(10)


def until(ready: Callable[[], bool], what: str, limit_s: float = _START_S) -> None:
    """Wait for something that is on its way."""
    end = time.monotonic() + limit_s
    while not ready():
        if time.monotonic() > end:
            pytest.fail(f"{what} did not start within {limit_s} s")
        time.sleep(0.05)


def listens(port: int) -> bool:
    """Whether somebody does."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _keys_file(folder: Path) -> str:
    path = folder / "credentials.toml"
    path.touch(0o600)
    path.write_text(f'access_key_id = "{ACCESS_KEY}"\nsecret_access_key = "{SECRET_KEY}"\n')
    return f"file:{path}"


# ------------------------------------------------------------------ rclone
@pytest.fixture(scope="session")
def rclone_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """`rclone serve s3`: up in a moment."""
    folder = tmp_path_factory.mktemp("rclone")
    (folder / "data" / BUCKET).mkdir(parents=True)
    port = free_port()
    rclone = Path(sys.executable).with_name("rclone")
    words = ["serve", "s3", "--config", "/dev/null", "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}"]
    with (folder / "log").open("wb") as log:
        process = spawn(rclone, *words, "--addr", f"127.0.0.1:{port}", folder / "data", stderr=log)
    with ending([process]):
        until(lambda: listens(port), "rclone")
        yield S3Server(f"http://127.0.0.1:{port}", _keys_file(folder))


# ------------------------------------------------------------------ Ceph
_CEPH_CONF = """
[global]
fsid = {fsid}
mon initial members = a
mon host = v2:127.0.0.1:{mon_port}
ms bind ipv4 = true
public addr = 127.0.0.1
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
osd pool default size = 1
osd pool default min size = 1
mon allow pool size one = true
osd pool default pg num = 1
osd pool default pgp num = 1
osd crush chooseleaf type = 0
osd pool default pg autoscale mode = off
mon max pg per osd = 1000
run dir = {folder}/run
admin socket = {folder}/run/$name.$pid.asok
log file = {folder}/log/$name.log
pid file = {folder}/run/$name.pid
keyring = {folder}/keyring
[mon]
mon data = {folder}/mon
[osd]
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 2147483648
osd class load list = *
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw thread pool size = 32
rgw enable ops log = false
"""


class _Ceph:
    """The steps that make a cluster of one of each."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self.fsid = folder, free_port(), self._uuid()
        for name in ("mon", "osd", "run", "log"):
            (folder / name).mkdir(parents=True)
        conf = _CEPH_CONF.format(
            folder=folder, fsid=self.fsid, mon_port=free_port(), port=self.port
        )
        (folder / "ceph.conf").write_text(conf)
        self._mon = conf.partition("mon host = ")[2].partition("\n")[0]

    @staticmethod
    def _uuid() -> str:
        return Path("/proc/sys/kernel/random/uuid").read_text().strip()

    def _do(self, *words: str, limit_s: float = 30) -> None:
        done = subprocess.run(
            [*words[:1], "-c", "ceph.conf", *words[1:]] if words[0] in _WITH_CONF else words,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=limit_s,
        )
        assert done.returncode == 0, f"{words}: {done.stderr[-2000:]}"

    def _run(self, *words: str) -> subprocess.Popen[bytes]:
        with (self.folder / "log" / f"{words[0]}.err").open("wb") as log:
            return spawn(words[0], "-c", "ceph.conf", "-f", *words[1:], cwd=self.folder, stderr=log)

    def make_keys(self) -> None:
        """One keyring for all, which is how everybody finds theirs."""
        caps = [word for what in ("mon", "osd", "mgr") for word in ("--cap", what, "allow *")]
        for name in ("mon.", "client.admin", "client.rgw", "osd.0"):
            self._do("ceph-authtool", "-C", f"k.{name}", "--gen-key", "-n", name, *caps)
            with (self.folder / "keyring").open("a") as ring:
                ring.write((self.folder / f"k.{name}").read_text())

    def start(self) -> Iterator[subprocess.Popen[bytes]]:
        """Start monitor, store and gateway, each when the one before answers."""
        self.make_keys()
        self._do(
            "monmaptool", "--create", "--fsid", self.fsid, "--addv", "a", f"[{self._mon}]", "monmap"
        )
        self._do("ceph-mon", "--mkfs", "-i", "a", "--monmap", "monmap", "--keyring", "keyring")
        yield self._run("ceph-mon", "-i", "a")
        uuid = self._uuid()
        self._do("ceph", "osd", "new", uuid)
        self._do("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", uuid)
        yield self._run("ceph-osd", "-i", "0")
        yield self._run("radosgw", "-n", "client.rgw")
        user = ["--uid=tests", "--display-name=tests"]
        keys = [f"--access-key={ACCESS_KEY}", f"--secret-key={SECRET_KEY}"]
        self._do("radosgw-admin", "-n", "client.rgw", "user", "create", *user, *keys, limit_s=60)


_WITH_CONF: Final = frozenset({"ceph-mon", "ceph", "ceph-osd", "radosgw-admin"})


def make_bucket(server: S3Server) -> None:
    """Make the server's bucket: to a server that has its bucket in its name, it is a key."""
    from obstore.exceptions import BaseError
    from obstore.store import S3Store

    root = S3Store(
        server.bucket,
        endpoint=server.endpoint,
        access_key_id=ACCESS_KEY,
        secret_access_key=SECRET_KEY,
        virtual_hosted_style_request=True,
        client_options={"allow_http": True},
        retry_config={"max_retries": 2},
    )
    with contextlib.suppress(BaseError):  # a bucket has no ETag, and the library misses it
        root.put(server.bucket, b"", use_multipart=False)


@pytest.fixture(scope="session")
def ceph() -> Iterator[S3Server]:
    """A Ceph RADOS gateway; the whole cluster is in memory and in a short folder of its own."""
    # A path of a Unix socket has room for 107 characters, and pytest's folders are long.
    folder = Path("/tmp") / f"ls-ceph-{secrets.token_hex(4)}"
    folder.mkdir(0o700)
    processes: list[subprocess.Popen[bytes]] = []
    try:
        with ending(processes):
            cluster = _Ceph(folder)
            for process in cluster.start():
                processes.append(process)
            until(lambda: listens(cluster.port), "radosgw")
            server = S3Server(f"http://127.0.0.1:{cluster.port}", _keys_file(folder))
            make_bucket(server)
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)
