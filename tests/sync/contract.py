"""The suite that every remote passes."""

from __future__ import annotations

import hashlib
import secrets
from concurrent.futures import ThreadPoolExecutor

import pytest

from localstore.errors import Conflict, LocalStoreError, NotFound, Refused
from localstored.remotes.base import MAX_PIECE_BYTES, Entry, Receipt, Remote, WrongOffset

PROJECT = "ab" * 32
OTHER = "cd" * 32
LOG = f"projects/{PROJECT}/runs/{'11' * 16}/{'22' * 16}.log"
LINK = f"projects/{PROJECT}/links/{'33' * 32}"
HOSTILE_NAMES = [
    "",
    "x",
    "../x",
    "/etc/passwd",
    "projects/../x",
    f"projects/{PROJECT}/../../x",
    f"projects/{PROJECT}/links/../../../x",
    f"/projects/{PROJECT}/FORMAT",
    f"projects/{PROJECT}//FORMAT",
    f"projects/{PROJECT}/FORMAT/",
    f"projects/{PROJECT}/FORMAT\n",
    f"projects/{PROJECT}/FORMAT\0",
    f"projects/{PROJECT}/links/{'é' * 64}",
    f"projects/{PROJECT}/links/{chr(0xFF13) * 64}",
    f"projects/{PROJECT}/links/{'A' * 64}",
    f"projects/{PROJECT}/links/{'a' * 5000}",
    f"projects/{PROJECT.upper()}/FORMAT",
    f"projects/{PROJECT}/objects/00/{'11' * 32}",
    f"projects/{PROJECT}/runs/{'11' * 16}/{'22' * 16}.t0",
    f"projects/{PROJECT}/local/catalog.db",
    "LOCALSTORE-REMOTE",
]


class RemoteContract:
    """Inherit, and give a `remote` fixture that makes an empty remote."""

    @pytest.mark.parametrize("name", HOSTILE_NAMES)
    def test_a_hostile_name_reaches_nothing(self, remote: Remote, name: str) -> None:
        for attack in (
            lambda: remote.create(name, b"x"),
            lambda: remote.append(name, 0, b"x"),
            lambda: remote.read(name, 0, 1),
            lambda: remote.digest(name, 0),
            lambda: remote.receipt(name),
            lambda: remote.delete(name),
            lambda: remote.have([name]),
        ):
            with pytest.raises(Refused):
                attack()
        assert list(remote.list("")) == []

    def test_what_was_created_is_there_with_its_receipt(self, remote: Remote) -> None:
        remote.create(LINK, b"hello")

        assert remote.read(LINK, 0, 100) == b"hello"
        assert remote.read(LINK, 1, 3) == b"ell"
        assert remote.read(LINK, 5, 3) == b""
        assert remote.have([LINK, LOG]) == {LINK: 5}
        assert remote.receipt(LINK) == Receipt(LINK, 5, hashlib.sha256(b"hello").hexdigest())
        assert remote.digest(LINK, 2) == hashlib.sha256(b"he").digest()

    def test_a_listing_holds_what_begins_with_its_prefix(self, remote: Remote) -> None:
        other = f"projects/{OTHER}/FORMAT"
        for name in (LINK, LOG, other):
            remote.create(name, b"1234")

        assert sorted(e.name for e in remote.list("projects/")) == sorted([LINK, LOG, other])
        assert list(remote.list(f"projects/{OTHER}/")) == [Entry(other, 4)]
        assert list(remote.list(f"projects/{PROJECT}/runs/")) == [Entry(LOG, 4)]
        assert list(remote.list("nothing")) == []

    def test_the_same_bytes_again_are_a_success(self, remote: Remote) -> None:
        remote.create(LINK, b"same")
        remote.create(LINK, b"same")
        assert remote.read(LINK, 0, 9) == b"same"

    @pytest.mark.parametrize("other", [b"", b"othe", b"firs", b"first!", b"FIRST"])
    def test_other_bytes_never_replace_what_stands_there(
        self, remote: Remote, other: bytes
    ) -> None:
        remote.create(LINK, b"first")
        with pytest.raises(Conflict):
            remote.create(LINK, other)
        assert remote.read(LINK, 0, 9) == b"first"

    def test_a_log_grows_at_its_end(self, remote: Remote) -> None:
        remote.create(LOG, b"abc")
        remote.append(LOG, 3, b"def")
        assert remote.read(LOG, 0, 9) == b"abcdef"

    @pytest.mark.parametrize("offset", [0, 2, 4, 1 << 60])
    def test_an_append_at_a_wrong_offset_says_the_real_size(
        self, remote: Remote, offset: int
    ) -> None:
        remote.create(LOG, b"abc")
        with pytest.raises(WrongOffset) as caught:
            remote.append(LOG, offset, b"xyz")
        assert caught.value.size == 3
        assert remote.read(LOG, 0, 9) == b"abc"

    @pytest.mark.parametrize("written", range(7))
    def test_an_append_cut_at_any_byte_is_resumed_there(self, remote: Remote, written: int) -> None:
        remote.create(LOG, b"abc" + b"123456"[:written])
        remote.append(LOG, 3, b"123456")
        assert remote.read(LOG, 0, 20) == b"abc123456"

    def test_an_append_made_twice_counts_once(self, remote: Remote) -> None:
        remote.create(LOG, b"abc")
        remote.append(LOG, 3, b"def")
        remote.append(LOG, 3, b"def")
        assert remote.receipt(LOG).size == 6

    def test_an_append_to_nothing_is_not_found(self, remote: Remote) -> None:
        with pytest.raises(NotFound):
            remote.append(LOG, 0, b"x")

    def test_what_is_missing_is_not_found(self, remote: Remote) -> None:
        for ask in (
            lambda: remote.read(LOG, 0, 1),
            lambda: remote.digest(LOG, 0),
            lambda: remote.receipt(LOG),
        ):
            with pytest.raises(NotFound):
                ask()

    def test_a_digest_beyond_the_end_is_refused(self, remote: Remote) -> None:
        remote.create(LOG, b"abc")
        with pytest.raises(Refused):
            remote.digest(LOG, 4)

    def test_a_piece_over_the_limit_is_refused(self, remote: Remote) -> None:
        with pytest.raises(Refused):
            remote.create(LOG, bytes(MAX_PIECE_BYTES + 1))
        remote.create(LOG, bytes(MAX_PIECE_BYTES))
        with pytest.raises(Refused):
            remote.append(LOG, MAX_PIECE_BYTES, bytes(MAX_PIECE_BYTES + 1))

    def test_a_deleted_file_is_gone_and_may_be_deleted_again(self, remote: Remote) -> None:
        remote.create(LOG, b"abc")
        remote.delete(LOG)
        remote.delete(LOG)
        assert remote.have([LOG]) == {}
        remote.create(LOG, b"new")
        assert remote.read(LOG, 0, 9) == b"new"

    def test_of_many_that_create_other_bytes_at_once_one_wins_whole(self, remote: Remote) -> None:
        contents = [secrets.token_bytes(50_000) for _ in range(8)]

        def create(content: bytes) -> bool:
            try:
                remote.create(LINK, content)
            except LocalStoreError:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(create, contents))
        assert won.count(True) == 1
        assert remote.read(LINK, 0, 60_000) == contents[won.index(True)]

    def test_many_that_create_the_same_bytes_at_once_all_succeed(self, remote: Remote) -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: remote.create(LINK, b"same" * 1000), range(8)))
        assert remote.receipt(LINK).size == 4000
