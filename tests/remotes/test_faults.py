"""A bucket over a network that goes wrong: nothing hangs, nothing is lost, everything is said."""

from __future__ import annotations

import secrets
import ssl
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import trustme

from localstore.errors import LocalStoreError, RemoteError
from localstore.remotes import RemoteEntry
from localstored.remotes import bucketstore, open_remote
from localstored.remotes.base import MAX_PIECE_BYTES, Busy, Full, Stopped, Unreachable
from tests.house.servers import S3Server, free_port
from tests.remotes.faults import SLOW_DOWN, Fault, Front, Request, front
from tests.sync.contract import LINK, LOG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from localstored.remotes.base import Remote
    from localstored.remotes.counted import Counted


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the way to the network that a test gives itself."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)


@pytest.fixture
def network(rclone_s3: S3Server) -> Iterator[Front]:
    """What lies between us and the server."""
    with front(rclone_s3.endpoint) as made:
        yield made


@pytest.fixture
def entry(network: Front, rclone_s3: S3Server) -> RemoteEntry:
    """A remote behind that network."""
    return S3Server(network.endpoint, rclone_s3.credentials).entry()


class Waits:
    """Sleeps of no time."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


@contextmanager
def opened(
    entry: RemoteEntry,
    sleep: Callable[[float], object] = Waits(),  # noqa: B008 - what it counts is of no matter
    check: Callable[[], None] | None = None,
) -> Iterator[Counted]:
    remote = open_remote(entry, sleep=sleep, random=lambda: 1.0, check=check)
    try:
        yield remote
    finally:
        remote.close()


@pytest.fixture
def remote(entry: RemoteEntry) -> Iterator[Remote]:
    with opened(entry) as made:
        made.create(LINK, b"the first asks whether the server looks")
        made.delete(LINK)
        yield made


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second is long."""
    monkeypatch.setattr(bucketstore, "ANSWER_S", 0.5)
    monkeypatch.setattr(bucketstore, "PAGE_S", 0.5)
    monkeypatch.setattr(bucketstore, "SLOWEST_BYTES_PER_S", 10**9)


# ------------------------------------------------------------------ what passes
@pytest.mark.parametrize(
    "fault",
    [
        SLOW_DOWN,
        Fault(status=500, code="InternalError"),
        Fault(status=502),
        Fault(status=429),
        Fault(status=400, code="RequestTimeout"),
        Fault(cut_after=0),
        Fault(cut_after=40),
        Fault(commits=True, status=503, code="SlowDown"),
        Fault(commits=True, cut_after=0),
    ],
    ids=str,
)
def test_three_failures_in_passing_are_nobodys_concern(
    network: Front, remote: Remote, fault: Fault, tmp_path: Path
) -> None:
    content = secrets.token_bytes(5000)
    (tmp_path / "log").write_bytes(content)
    for step in (
        lambda: remote.create(LOG, content[:1000]),
        lambda: remote.append(LOG, 1000, content[1000:]),
        lambda: remote.create(LINK, content[:100]),
        lambda: remote.read(LOG, 0, 5000) == content or pytest.fail("other bytes"),
        lambda: remote.confirm(LOG, 5000, tmp_path / "log") or pytest.fail("not confirmed"),
        lambda: len(list(remote.list("projects/"))) == 2 or pytest.fail("not listed"),
        lambda: remote.delete(LINK),
    ):
        network.fails(fault, times=3)
        step()
    network.fails(fault, times=0)
    assert remote.have([LOG, LINK]) == {LOG: 5000}


def test_a_storm_ends_in_busy_and_does_not_hammer(network: Front, entry: RemoteEntry) -> None:
    waits = Waits()
    with opened(entry, waits) as remote:
        network.fails(SLOW_DOWN)
        network.seen.clear()
        with pytest.raises(Busy, match="503 SlowDown"):
            remote.read(LINK, 0, 1)
    assert len(network.seen) == 4
    assert sum(waits.seconds) == pytest.approx(1 + 2 + 4)


def test_one_request_is_sent_once_by_the_library(network: Front, remote: Remote) -> None:
    """Waiting and trying again is ours: two of them would multiply."""
    network.seen.clear()
    network.fails(Fault(status=500), times=1)
    remote.delete(LINK)
    assert [one.method for one in network.seen].count("DELETE") <= 2


def test_a_sync_cut_a_hundred_times_sends_each_piece_about_once(
    network: Front, entry: RemoteEntry, tmp_path: Path
) -> None:
    content = secrets.token_bytes(100 * 20_000)
    (tmp_path / "log").write_bytes(content)
    puts = 0

    def trouble(request: Request) -> Fault | None:
        nonlocal puts
        if request.method != "PUT":
            return None
        puts += 1
        return Fault(commits=puts % 2 == 0, cut_after=0) if puts % 3 == 0 else None

    with opened(entry) as remote:
        remote.create(LOG, content[:20_000])
        network.trouble = trouble
        for at in range(20_000, len(content), 20_000):
            remote.append(LOG, at, content[at : at + 20_000])
        network.trouble = lambda _: None
        assert remote.read(LOG, 0, len(content)) == content
        assert remote.confirm(LOG, len(content), tmp_path / "log")
    assert puts <= 250


# ------------------------------------------------------------------ what hangs
def test_a_server_that_never_answers_is_given_up(
    network: Front, remote: Remote, impatient: None
) -> None:
    network.fails(Fault(hangs=True))
    began = time.monotonic()
    with pytest.raises(Busy, match="in time"):
        remote.read(LINK, 0, 1)
    assert time.monotonic() - began < 10


def test_a_body_that_drips_is_given_up(network: Front, remote: Remote, impatient: None) -> None:
    remote.create(LINK, bytes(1000))
    network.fails(Fault(drips=0.1))
    with pytest.raises(Busy, match="in time"):
        remote.read(LINK, 0, 1000)


@pytest.mark.parametrize("fault", [Fault(hangs=True), Fault(drips=0.1), SLOW_DOWN], ids=str)
def test_whoever_waits_can_be_stopped_within_a_moment(
    network: Front, entry: RemoteEntry, fault: Fault
) -> None:
    stop = threading.Event()

    def check() -> None:
        if stop.is_set():
            raise Stopped

    with opened(entry, time.sleep, check) as remote:
        remote.create(LINK, bytes(2000))
        network.fails(fault)
        threading.Timer(0.3, stop.set).start()
        began = time.monotonic()
        with pytest.raises(Stopped):
            remote.read(LINK, 0, 2000)
        assert time.monotonic() - began < 5


def test_sixteen_wait_at_once_and_none_for_another(network: Front, remote: Remote) -> None:
    together = threading.Barrier(16, timeout=10)
    fine = []

    def trouble(request: Request) -> Fault | None:
        together.wait()  # each request waits until all sixteen are here
        return None

    def work(number: int) -> None:
        fine.append(remote.have([f"{LINK[:-4]}{number:04x}"]))

    network.trouble = trouble
    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(20)
    assert fine == [{}] * 16


# ------------------------------------------------------------------ what is a lie
def test_an_answer_that_is_shorter_than_it_says_is_no_file(network: Front, remote: Remote) -> None:
    remote.create(LINK, bytes(1000))
    network.fails(Fault(status=200, body=b"short", says=1000, cut_after=300))
    with pytest.raises(RemoteError):
        remote.read(LINK, 0, 1000)


def test_an_answer_that_is_longer_than_asked_is_cut(network: Front, remote: Remote) -> None:
    remote.create(LOG, b"12345")
    network.trouble = lambda one: (
        None
        if one.lists
        else Fault(status=200, body=b"1" * (2 * MAX_PIECE_BYTES), headers={"ETag": '"x"', **_DATE})
    )
    assert remote.read(LOG, 0, 3) == b"111"


_DATE = {"Last-Modified": "Sat, 21 Nov 2026 14:00:00 GMT"}


def page(names: list[str], more: str) -> bytes:
    """A page of a listing, as a server would send it."""
    rows = "".join(
        f"<Contents><Key>{name}</Key><LastModified>2026-11-21T14:00:00.000Z</LastModified>"
        f"<ETag>x</ETag><Size>1</Size></Contents>"
        for name in names
    )
    return (
        f"<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>{more}"
        f"</NextContinuationToken>{rows}</ListBucketResult>"
    ).encode()


def test_a_listing_that_goes_in_circles_ends(
    network: Front, remote: Remote, entry: RemoteEntry
) -> None:
    prefix = entry.url.rpartition("/")[2]
    names = [f"{prefix}/projects/{'0' * 64}/links/{at:064x}" for at in range(1000)]
    network.fails(Fault(status=200, body=page(names, "again")))
    with pytest.raises(Busy, match="without end"):
        list(remote.list("projects/"))


def test_a_listing_without_end_ends(
    network: Front, remote: Remote, entry: RemoteEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = entry.url.rpartition("/")[2]
    monkeypatch.setattr(bucketstore, "MAX_KEYS", 5000)
    count = iter(range(10**9))

    def trouble(request: Request) -> Fault | None:
        at = next(count)
        numbers = range(at * 1000, at * 1000 + 1000)
        names = [f"{prefix}/projects/{'0' * 64}/links/{one:064x}" for one in numbers]
        return Fault(status=200, body=page(names, str(at)))

    network.trouble = trouble
    with pytest.raises(Busy, match="without end"):
        list(remote.list("projects/"))


@pytest.mark.parametrize("body", [b"<html>sign in</html>", b"", b"\xff\xfe", b"<a>" * 100_000])
def test_a_portal_that_answers_everything_is_not_taken_for_the_bucket(
    network: Front, entry: RemoteEntry, body: bytes
) -> None:
    network.fails(Fault(status=200, body=body, headers={"ETag": '"x"', **_DATE}))
    with pytest.raises(Unreachable) as caught, opened(entry):
        pass
    assert not caught.value.permanent


# ------------------------------------------------------------------ what a person must mend
@pytest.mark.parametrize(
    ("fault", "hint"),
    [
        (Fault(status=401), "credentials"),
        (Fault(status=403, code="AccessDenied"), "credentials"),
        (Fault(status=403, code="RequestTimeTooSkewed"), "clock"),
        (Fault(status=400, code="ExpiredToken"), "credentials"),
        (Fault(status=404, code="NoSuchBucket"), "bucket"),
        (Fault(status=400, code="AuthorizationHeaderMalformed"), "region"),
        (Fault(status=407), "proxy"),
    ],
    ids=str,
)
def test_what_does_not_pass_by_itself_says_what_to_do(
    network: Front, remote: Remote, fault: Fault, hint: str
) -> None:
    network.fails(fault)
    for attempt in (lambda: list(remote.list("projects/")), lambda: remote.create(LINK, b"x")):
        network.seen.clear()
        with pytest.raises(Unreachable) as caught:
            attempt()
        assert caught.value.permanent
        assert hint in caught.value.hint
        assert len(network.seen) <= 2  # a HEAD tells no reason; a GET does


def test_a_full_bucket_is_told_apart(network: Front, remote: Remote) -> None:
    for fault in (Fault(status=507), Fault(status=403, code="QuotaExceeded")):
        network.trouble = lambda one, fault=fault: fault if one.method == "PUT" else None  # type: ignore[misc]
        with pytest.raises(Full):
            remote.create(LINK, b"x")


def test_wrong_keys_are_refused_for_good(rclone_s3: S3Server, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.touch(0o600)
    path.write_text('access_key_id = "AK"\nsecret_access_key = "wrong-and-secret"\n')
    server = S3Server(rclone_s3.endpoint, f"file:{path}")
    with pytest.raises(Unreachable) as caught:
        server.entry()
    assert caught.value.permanent
    assert "wrong-and-secret" not in str(caught.value)


def test_nobody_there_is_unreachable_and_may_pass(rclone_s3: S3Server) -> None:
    nobody = S3Server(f"http://127.0.0.1:{free_port()}", rclone_s3.credentials)
    with pytest.raises(Unreachable, match="cannot be reached") as caught:
        nobody.entry()
    assert not caught.value.permanent


def test_a_bucket_that_is_not_there_is_not_made(rclone_s3: S3Server) -> None:
    wrong = S3Server(rclone_s3.endpoint, rclone_s3.credentials, bucket="no-such-bucket")
    with pytest.raises(Unreachable) as caught:
        wrong.entry()
    assert caught.value.permanent


# ------------------------------------------------------------------ the way there
@pytest.fixture
def authority(tmp_path: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's certificate, and that of the private authority that signed it."""
    own = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.issue_cert("localhost").configure_cert(context)
    own.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return context, tmp_path / "ca.pem"


def test_a_private_authority_is_believed_when_it_is_named(
    rclone_s3: S3Server,
    authority: tuple[ssl.SSLContext, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context, ca_file = authority
    with front(rclone_s3.endpoint, context) as secure:
        server = S3Server(secure.endpoint, rclone_s3.credentials)
        with pytest.raises(Unreachable, match="certificate") as caught:
            server.entry()
        assert caught.value.permanent
        assert "--ca-file" in caught.value.hint
        monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
        entry = server.entry()
        monkeypatch.delenv("SSL_CERT_FILE")
        named = RemoteEntry(entry.name, entry.url, entry.id, **server.options, ca_file=str(ca_file))
        with opened(named) as remote:
            remote.create(LINK, b"hello")
            assert remote.read(LINK, 0, 9) == b"hello"


@pytest.mark.parametrize("how", ["option", "variable"])
def test_a_proxy_is_used_where_one_is_named(
    rclone_s3: S3Server, network: Front, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    entry = rclone_s3.entry()
    options = {**rclone_s3.options}
    if how == "option":
        options["proxy"] = network.endpoint
    else:
        monkeypatch.setenv("http_proxy", network.endpoint)
    with opened(RemoteEntry(entry.name, entry.url, entry.id, **options)) as remote:
        remote.create(LINK, b"hello")
    assert {"PUT", "GET", "HEAD"} <= {one.method for one in network.seen}


def test_a_proxy_sees_no_request_that_is_encrypted(
    rclone_s3: S3Server, network: Front, authority: tuple[ssl.SSLContext, Path]
) -> None:
    context, ca_file = authority
    with front(rclone_s3.endpoint, context) as secure:
        server = S3Server(secure.endpoint, rclone_s3.credentials)
        options = {**server.options, "ca_file": str(ca_file), "proxy": network.endpoint}
        plain = rclone_s3.entry()
        with opened(RemoteEntry("x", plain.url, plain.id, **options)) as remote:
            remote.create(LINK, b"hello")
    assert {one.method for one in network.seen} == {"CONNECT"}


def test_hosts_without_proxy_are_reached_directly(
    rclone_s3: S3Server, network: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", network.endpoint)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    with opened(rclone_s3.entry()) as remote:
        remote.create(LINK, b"hello")
    assert network.seen == []


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_certificates_that_are_not_there_are_named(
    rclone_s3: S3Server, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    options = {**rclone_s3.options, "endpoint": "https://localhost:1", "ca_file": str(path)}
    with pytest.raises(LocalStoreError, match=r"ca\.pem"):
        open_remote(RemoteEntry("x", "s3://bucket/x", "0" * 16, **options))
