"""Buckets and wrappers pass the contract, on real servers and in memory."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest
from obstore.store import MemoryStore

from localstored.remotes import open_remote
from localstored.remotes.bucket import BucketRemote, claim_bucket
from localstored.remotes.bucketstore import BucketStore
from localstored.remotes.counted import Counted
from localstored.remotes.limited import Allowance, Limited
from localstored.remotes.memory import MemoryRemote
from localstored.remotes.retrying import Retrying
from tests.house.servers import CEPH
from tests.remotes.flat import FlatKeys
from tests.sync.contract import LINK, RemoteContract

if TYPE_CHECKING:
    from collections.abc import Iterator

    from localstored.remotes.base import Remote
    from tests.house.servers import S3Server


class TestBucketInMemory(RemoteContract):
    """The library's own store in memory: it refuses to replace, and its ETag is no MD5."""

    @pytest.fixture
    def remote(self) -> Iterator[Remote]:
        keys = BucketStore(MemoryStore(), "memory")
        claim_bucket(keys, "memory")
        remote = BucketRemote(keys, where="memory")
        yield remote
        remote.close()


class TestBucketThatReplaces(RemoteContract):
    """Keys in a dict, from a server that replaces whatever it is asked to."""

    @pytest.fixture
    def remote(self) -> Remote:
        keys = FlatKeys(looks=False)
        claim_bucket(keys, "flat")
        return BucketRemote(keys, where="flat")


class TestRclone(RemoteContract):
    @pytest.fixture
    def remote(self, rclone_s3: S3Server) -> Iterator[Remote]:
        remote = open_remote(rclone_s3.entry(secrets.token_hex(8)))
        yield remote
        remote.close()


@CEPH
class TestCeph(RemoteContract):
    @pytest.fixture
    def remote(self, ceph: S3Server) -> Iterator[Remote]:
        remote = open_remote(ceph.entry(secrets.token_hex(8)))
        yield remote
        remote.close()

    def test_it_refuses_to_replace(self, remote: Remote) -> None:
        remote.create(LINK, b"x")
        assert remote.capabilities.atomic_create


def no_sleep(seconds: float) -> None:
    """Tests do not wait."""


class TestWrapped(RemoteContract):
    """All wrappers around the shortest remote."""

    @pytest.fixture
    def remote(self) -> Remote:
        clock = iter(range(0, 10**12, 1000)).__next__
        limits = [Allowance(10**9, clock=clock, sleep=no_sleep) for _ in range(2)]
        limited = Limited(MemoryRemote(), upload=limits[0], download=limits[1])
        return Counted(Retrying(limited, sleep=no_sleep, random=lambda: 0.5), clock=clock)
