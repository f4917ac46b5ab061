"""The suite that every remote passes."""

from __future__ import annotations

import hashlib
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from localstore.errors import Conflict, LocalStoreError, NotFound, Refused
from localstored.remotes.base import MAX_PIECE_BYTES, Entry, Remote, WrongOffset

if TYPE_CHECKING:
    from pathlib import Path

PROJECT = "ab" * 32
OTHER = "cd" * 32
LOG = f"projects/{PROJECT}/runs/{'11' * 16}/{'22' * 16}.log"
LINK = f"projects/{PROJECT}/links/{'33' * 32}"
STAMPS = f"projects/{PROJECT}/stamps/"
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
    f"{STAMPS}{'a' * 16}",
    f"{STAMPS}{'a' * 16}-{'b' * 16}.shut",
    f"{STAMPS}{'a' * 16}-{'b' * 17}",
]


def source(folder: Path, content: bytes) -> Path:
    """A local file to hold a remote's bytes against."""
    path = folder / "source"
    path.write_bytes(content)
    return path


class RemoteContract:
    """Inherit, and give a `remote` fixture that makes an empty remote."""

    @pytest.mark.parametrize("name", HOSTILE_NAMES)
    def test_a_hostile_name_reaches_nothing(
        self, remote: Remote, name: str, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        mine = source(tmp_path_factory.mktemp("mine"), b"x")
        for attack in (
            lambda: remote.create(name, b"x"),
            lambda: remote.append(name, 0, b"x"),
            lambda: remote.read(name, 0, 1),
            lambda: remote.digest(name, 0),
            lambda: remote.confirm(name, 1, mine),
            lambda: remote.delete(name),
            lambda: remote.have([name]),
        ):
            with pytest.raises(Refused):
                attack()
        assert list(remote.list("")) == []

    def test_what_was_created_is_there(self, remote: Remote) -> None:
        remote.create(LINK, b"hello")

        assert remote.read(LINK, 0, 100) == b"hello"
        assert remote.read(LINK, 1, 3) == b"ell"
        assert remote.read(LINK, 5, 3) == b""
        assert remote.have([LINK, LOG]) == {LINK: 5}
        assert remote.digest(LINK, 2) == hashlib.sha256(b"he").digest()

    @pytest.mark.parametrize(
        ("content", "length", "same"),
        [
            (b"hello", 5, True),
            (b"hello, and more", 5, True),
            (b"hello, and more", 6, False),
            (b"hello", 3, True),
            (b"hello", 0, True),
            (b"hallo", 5, False),
            (b"hallo", 1, True),
            (b"hell", 5, False),
        ],
    )
    def test_it_confirms_our_bytes_and_no_others(
        self,
        remote: Remote,
        tmp_path_factory: pytest.TempPathFactory,
        content: bytes,
        length: int,
        same: bool,
    ) -> None:
        remote.create(LOG, b"hello")
        mine = source(tmp_path_factory.mktemp("mine"), content)
        assert remote.confirm(LOG, length, mine) is same

    def test_it_confirms_a_log_that_grew_over_many_pieces(
        self, remote: Remote, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        content = secrets.token_bytes(2 * MAX_PIECE_BYTES + 1000)
        pieces = [
            content[:10],
            *(content[at : at + MAX_PIECE_BYTES] for at in (10, 10 + MAX_PIECE_BYTES)),
        ]
        remote.create(LOG, pieces[0])
        remote.append(LOG, 10, pieces[1])
        remote.append(LOG, 10 + MAX_PIECE_BYTES, pieces[2])
        size = sum(map(len, pieces))
        folder = tmp_path_factory.mktemp("mine")
        assert remote.confirm(LOG, size, source(folder, content))
        for at in (0, 11, MAX_PIECE_BYTES, size - 1):
            other = bytearray(content)
            other[at] ^= 1
            assert not remote.confirm(LOG, size, source(folder, bytes(other)))

    def test_it_names_the_projects_that_have_files(self, remote: Remote) -> None:
        assert list(remote.projects()) == []
        remote.create(LOG, b"1")
        remote.create(LINK, b"2")
        remote.create(f"projects/{OTHER}/FORMAT", b"3")
        assert sorted(remote.projects()) == [PROJECT, OTHER]

    def test_it_keeps_stamps(self, remote: Remote) -> None:
        names = [f"{STAMPS}{'a' * 16}-{'b' * 16}", f"{STAMPS}{'a' * 16}-{'c' * 16}.open"]
        for name in names:
            remote.create(name, b"")
            remote.create(name, b"")
        remote.create(LINK, b"1")
        assert sorted(remote.list(STAMPS), key=str) == [Entry(name, 0) for name in names]
        remote.delete(names[1])
        assert list(remote.list(STAMPS)) == [Entry(names[0], 0)]

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
        assert remote.have([LOG]) == {LOG: 6}

    def test_an_append_to_nothing_is_not_found(self, remote: Remote) -> None:
        with pytest.raises(NotFound):
            remote.append(LOG, 0, b"x")

    def test_what_is_missing_is_not_found(
        self, remote: Remote, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        mine = source(tmp_path_factory.mktemp("mine"), b"")
        for ask in (
            lambda: remote.read(LOG, 0, 1),
            lambda: remote.digest(LOG, 0),
            lambda: remote.confirm(LOG, 0, mine),
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
        if remote.capabilities.atomic_create:
            assert won.count(True) == 1
            assert remote.read(LINK, 0, 60_000) == contents[won.index(True)]
        assert remote.read(LINK, 0, 60_000) in contents

    def test_many_that_create_the_same_bytes_at_once_all_succeed(self, remote: Remote) -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: remote.create(LINK, b"same" * 1000), range(8)))
        assert remote.have([LINK]) == {LINK: 4000}

    def test_many_that_write_at_once_do_not_disturb_one_another(
        self, remote: Remote, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        folder = tmp_path_factory.mktemp("mine")

        def push(number: int) -> bool:
            name = f"projects/{PROJECT}/runs/{number:032x}/{number:032x}.log"
            content = secrets.token_bytes(100_000)
            remote.create(name, content[:1000])
            remote.append(name, 1000, content[1000:])
            (folder / str(number)).write_bytes(content)
            return remote.confirm(name, len(content), folder / str(number))

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(push, range(24))) == [True] * 24
        assert len(list(remote.list(f"projects/{PROJECT}/runs/"))) == 24
