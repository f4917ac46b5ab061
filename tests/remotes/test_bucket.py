"""A bucket's own promises, on a flat store that is as good or as bad as a test wants."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from localstore.errors import Conflict, NotFound, Refused, RemoteError
from localstored.remotes.base import MAX_PIECE_BYTES, Busy, Entry, Unreachable, WrongOffset
from localstored.remotes.bucket import BucketRemote, claim_bucket
from localstored.remotes.bucketkeys import KeyTaken, Meta, piece_key
from tests.remotes.flat import FlatKeys
from tests.sync.contract import LINK, LOG, OTHER, PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

OBJECT = f"projects/{PROJECT}/objects/11/{'11' * 32}"


def bucket(keys: FlatKeys) -> BucketRemote:
    """A remote on these keys, with its first questions forgotten."""
    claim_bucket(keys, "flat")
    remote = BucketRemote(keys, where="flat")
    keys.asked.clear()
    return remote


def keys_of(keys: FlatKeys, name: str) -> list[str]:
    """What lies there of one file."""
    return sorted(key for key in keys.data if key == name or key.startswith(f"{name}."))


# ------------------------------------------------------------------ what lies where
def test_a_small_file_lies_under_its_own_name() -> None:
    keys = FlatKeys()
    bucket(keys).create(LINK, b"hello")
    assert keys.data[LINK] == b"hello"


def test_a_log_never_lies_under_its_own_name() -> None:
    keys = FlatKeys()
    bucket(keys).create(LOG, b"hello")
    assert LOG not in keys.data
    md5 = "5d41402abc4b2a76b9719d911017c592"
    assert keys_of(keys, LOG) == [f"{LOG}.000000000000-000000000005-{md5}"]


def test_a_large_file_lies_in_pieces_and_comes_back(tmp_path: Path) -> None:
    keys = FlatKeys()
    remote = bucket(keys)
    content = secrets.token_bytes(2 * MAX_PIECE_BYTES + 77)
    remote.create(OBJECT, content[:MAX_PIECE_BYTES])
    remote.append(OBJECT, MAX_PIECE_BYTES, content[MAX_PIECE_BYTES : 2 * MAX_PIECE_BYTES])
    remote.append(OBJECT, 2 * MAX_PIECE_BYTES, content[2 * MAX_PIECE_BYTES :])

    assert remote.have([OBJECT]) == {OBJECT: len(content)}
    assert list(remote.list(f"projects/{PROJECT}/objects/")) == [Entry(OBJECT, len(content))]
    for start in (0, 5, MAX_PIECE_BYTES - 3, MAX_PIECE_BYTES, 2 * MAX_PIECE_BYTES + 70):
        assert remote.read(OBJECT, start, 100) == content[start : start + 100]
    (tmp_path / "file").write_bytes(content)
    assert remote.confirm(OBJECT, len(content), tmp_path / "file")
    with pytest.raises(Conflict):
        remote.create(OBJECT, content[:MAX_PIECE_BYTES])
    remote.delete(OBJECT)
    assert keys_of(keys, OBJECT) == []


def test_a_short_file_that_is_no_log_does_not_grow() -> None:
    remote = bucket(FlatKeys())
    remote.create(LINK, b"whole")
    with pytest.raises(Refused, match="is whole"):
        remote.append(LINK, 5, b"more")


def test_a_prefix_that_ends_within_a_name_is_asked_of_the_server() -> None:
    keys = FlatKeys()
    remote = bucket(keys)
    names = [f"projects/{PROJECT}/objects/{a}{b}/{a}{b}{'00' * 31}" for a in "01f" for b in "09"]
    for name in names:
        remote.create(name, b"1")
    found = [entry.name for entry in remote.list(f"projects/{PROJECT}/objects/0")]
    assert found == [name for name in names if "/objects/0" in name]


def test_projects_are_asked_for_by_name_and_not_by_their_files() -> None:
    keys = FlatKeys()
    remote = bucket(keys)
    for project in (PROJECT, OTHER):
        remote.create(f"projects/{project}/FORMAT", b"1")
    keys.data["projects/README/x"] = b"not ours"
    keys.asked.clear()
    assert sorted(remote.projects()) == sorted([PROJECT, OTHER])
    assert keys.asked == ["folders projects"]


# ------------------------------------------------------------------ how many requests
def test_an_object_costs_one_request_where_the_server_looks_and_one_to_confirm(
    tmp_path: Path,
) -> None:
    keys = FlatKeys()
    remote = bucket(keys)
    remote.create(LINK, b"the first asks whether the server looks")
    keys.asked.clear()
    (tmp_path / "file").write_bytes(b"content")

    remote.create(OBJECT, b"content")
    assert remote.confirm(OBJECT, 7, tmp_path / "file")
    assert keys.asked == [f"put {OBJECT}", f"head {OBJECT}"]


def test_an_append_looks_once_and_sends_once() -> None:
    keys = FlatKeys()
    remote = bucket(keys)
    remote.create(LOG, b"abc")
    keys.asked.clear()
    remote.append(LOG, 3, b"def")
    assert [one.partition(" ")[0] for one in keys.asked] == ["list", "put"]


# ------------------------------------------------------------------ many at once
class Between(FlatKeys):
    """Lets something happen between a look and the next write."""

    def __init__(self, **words: bool) -> None:
        super().__init__(**words)
        self.meanwhile: Callable[[], object] | None = None

    def put(self, key: str, data: bytes, *, only_new: bool = False) -> None:
        happens, self.meanwhile = self.meanwhile, None
        if happens:
            happens()
        super().put(key, data, only_new=only_new)


@pytest.mark.parametrize("looks", [True, False])
def test_two_syncs_that_append_the_same_log_at_once_both_succeed(looks: bool) -> None:
    keys = Between(looks=looks)
    remote, other = bucket(keys), bucket(keys)
    remote.create(LOG, b"abc")
    keys.meanwhile = lambda: other.append(LOG, 3, b"defghi")
    remote.append(LOG, 3, b"def")
    assert remote.read(LOG, 0, 99) == b"abcdefghi"
    remote.append(LOG, 6, b"ghijkl")
    assert other.read(LOG, 0, 99) == b"abcdefghijkl"


def test_of_two_logs_under_one_name_made_at_once_one_stands_whole_and_the_other_is_told() -> None:
    keys = Between(looks=False)
    remote, other = bucket(keys), bucket(keys)
    keys.meanwhile = lambda: other.create(LOG, b"longer content")
    with pytest.raises(Conflict):
        remote.create(LOG, b"content")
    assert other.read(LOG, 0, 99) == b"longer content"


def test_a_log_that_somebody_made_at_once_and_got_further_with_is_a_success() -> None:
    keys = Between()
    remote, other = bucket(keys), bucket(keys)

    def happens() -> None:
        other.create(LOG, b"abc")
        other.append(LOG, 3, b"def")

    keys.meanwhile = happens
    remote.create(LOG, b"abc")
    assert remote.read(LOG, 0, 99) == b"abcdef"


def test_a_file_that_was_replaced_while_it_was_made_is_not_confirmed(tmp_path: Path) -> None:
    class Replaced(FlatKeys):
        def heads(self, keys: Sequence[str]) -> Sequence[Meta | None]:
            if LINK in self.data:
                self.data[LINK] = b"of another"
            return super().heads(keys)

    remote, source = bucket(Replaced(looks=False)), tmp_path / "source"
    source.write_bytes(b"ours")
    remote.create(LINK, b"ours")
    assert not remote.confirm(LINK, 4, source)
    with pytest.raises(Conflict):
        remote.create(LINK, b"ours")


# ------------------------------------------------------------------ merging
def grown(remote: BucketRemote, pieces: int, size: int = 100) -> bytes:
    """A log that grew by little."""
    content = secrets.token_bytes(pieces * size)
    remote.create(LOG, content[:size])
    for at in range(size, len(content), size):
        remote.append(LOG, at, content[at : at + size])
    return content


def test_a_log_that_grows_for_long_stays_in_few_pieces_with_the_same_bytes(tmp_path: Path) -> None:
    keys = FlatKeys()
    remote = bucket(keys)
    content = grown(remote, 300)
    assert len(keys_of(keys, LOG)) <= 28
    assert remote.read(LOG, 0, len(content)) == content
    (tmp_path / "log").write_bytes(content)
    assert remote.confirm(LOG, len(content), tmp_path / "log")


def test_small_pieces_go_only_when_the_server_has_confirmed_the_merged_one() -> None:
    class Corrupting(FlatKeys):
        def put(self, key: str, data: bytes, *, only_new: bool = False) -> None:
            super().put(key, data, only_new=only_new)
            if len(data) == 800:  # the merged piece
                self.data[key] = bytes(800)

    keys = Corrupting()
    remote = bucket(keys)
    content = grown(remote, 8)
    small = [key for key in keys_of(keys, LOG) if len(keys.data[key]) == 100]
    assert b"".join(keys.data[key] for key in small) == content


def test_a_reader_that_meets_a_merged_log_looks_again() -> None:
    keys = FlatKeys()
    remote, other = bucket(keys), bucket(keys)
    content = grown(remote, 7)
    get = keys.get

    def merged_first(key: str, start: int, end: int) -> bytes | None:
        keys.get = get  # type: ignore[method-assign]
        other.append(LOG, len(content), bytes(100))
        return get(key, start, end)

    keys.get = merged_first  # type: ignore[method-assign]
    assert remote.read(LOG, 0, 10_000) == content + bytes(100)
    assert len(keys_of(keys, LOG)) == 1


def test_a_merge_that_fails_is_no_failure_of_the_append() -> None:
    class NeverTwice(FlatKeys):
        def delete(self, keys: Sequence[str]) -> None:
            raise Busy("not now")

    remote = bucket(NeverTwice())
    content = grown(remote, 20)
    assert remote.read(LOG, 0, 10_000) == content


# ------------------------------------------------------------------ what is believed
def test_the_md5_in_a_keys_name_proves_nothing(tmp_path: Path) -> None:
    keys = FlatKeys()
    remote = bucket(keys)
    remote.create(LOG, b"hello")
    (tmp_path / "log").write_bytes(b"hello")
    keys.data[keys_of(keys, LOG)[0]] = b"jello"
    assert not remote.confirm(LOG, 5, tmp_path / "log")


def test_where_the_etag_is_no_md5_the_bytes_are_read_back(tmp_path: Path) -> None:
    keys = FlatKeys(md5=False)
    remote = bucket(keys)
    content = grown(remote, 30)
    (tmp_path / "log").write_bytes(content)
    assert remote.confirm(LOG, len(content), tmp_path / "log")
    (tmp_path / "log").write_bytes(content[:-1] + b"?")
    assert not remote.confirm(LOG, len(content), tmp_path / "log")
    remote.create(LINK, b"1")
    remote.create(LINK, b"1")
    with pytest.raises(Conflict):
        remote.create(LINK, b"2")


def test_an_etag_that_is_the_md5_of_something_else_is_no_damage(tmp_path: Path) -> None:
    """Some encryptions on the server answer 32 hex digits that are not the MD5 of our bytes."""

    class Encrypting(FlatKeys):
        def _meta(self, key: str) -> Meta:
            return super()._meta(key)._replace(etag="0" * 32)

    remote = bucket(Encrypting())
    remote.create(LINK, b"hello")
    remote.create(LINK, b"hello")
    (tmp_path / "link").write_bytes(b"hello")
    assert remote.confirm(LINK, 5, tmp_path / "link")


def test_a_stale_listing_costs_nothing_but_a_repetition() -> None:
    keys = FlatKeys()
    remote = bucket(keys)
    remote.create(LOG, b"abc")
    old = dict(keys.data)
    remote.append(LOG, 3, b"def")
    fresh, keys.data = keys.data, old
    with pytest.raises(WrongOffset) as caught:
        remote.append(LOG, 6, b"ghi")
    assert caught.value.size == 3
    remote.append(LOG, 3, b"defghi")
    keys.data = fresh | keys.data
    assert remote.read(LOG, 0, 99) == b"abcdefghi"


def test_a_server_that_lists_what_it_does_not_have_is_busy_and_not_believed() -> None:
    class Forgetful(FlatKeys):
        def get(self, key: str, start: int, end: int) -> bytes | None:
            return None if key.startswith(LOG) else super().get(key, start, end)

    remote = bucket(Forgetful())
    remote.create(LOG, b"abc")
    with pytest.raises(Busy):
        remote.read(LOG, 0, 3)


def test_keys_that_lie_about_their_length_are_passed_over() -> None:
    keys = FlatKeys()
    remote = bucket(keys)
    keys.data[piece_key(LOG, 0, 1 << 40, "00" * 16)] = b"short"
    keys.data[f"{LOG}/below"] = b"x"
    keys.data[f"projects/{PROJECT}/../{PROJECT}/FORMAT"] = b"x"
    assert list(remote.list("")) == []
    with pytest.raises(NotFound):
        remote.read(LOG, 0, 10)


def test_a_folder_of_endless_pieces_ends() -> None:
    class Endless(FlatKeys):
        def list(self, folder: str, after: str = "") -> Iterator[Meta]:
            for at in range(10_000_000):
                yield Meta(piece_key(LOG, at, at + 1, "00" * 16), 1, "")

    with pytest.raises(RemoteError, match="too many"):
        list(bucket(Endless()).list("projects/"))


# ------------------------------------------------------------------ the marker
def test_a_bucket_without_a_marker_is_no_empty_remote() -> None:
    with pytest.raises(Unreachable, match="no localstore remote") as caught:
        BucketRemote(FlatKeys(), where="flat")
    assert caught.value.permanent


def test_another_remote_in_its_place_is_not_taken_for_it() -> None:
    keys = FlatKeys()
    claim_bucket(keys, "flat")
    with pytest.raises(Unreachable, match="another remote") as caught:
        BucketRemote(keys, where="flat", want_id="0" * 16)
    assert caught.value.permanent


@pytest.mark.parametrize(
    ("content", "permanent"),
    [
        (b"localstore-remote 2\nid 0123456789abcdef\n", True),
        (b"<html>sign in</html>", False),
        (b"", False),
    ],
)
def test_what_is_no_marker_of_ours_is_said(content: bytes, permanent: bool) -> None:
    keys = FlatKeys()
    keys.data["LOCALSTORE-REMOTE"] = content
    with pytest.raises(Unreachable, match="version 1") as caught:
        BucketRemote(keys, where="flat")
    assert caught.value.permanent is permanent


def test_claiming_twice_gives_one_id_also_at_once() -> None:
    keys = Between()
    others: list[str] = []
    keys.meanwhile = lambda: others.append(claim_bucket(keys, "flat"))
    assert [claim_bucket(keys, "flat")] == others == [claim_bucket(keys, "flat")]


@pytest.mark.parametrize("looks", [True, False])
def test_whether_a_server_looks_is_found_out_without_a_trace(looks: bool) -> None:
    keys = FlatKeys(looks=looks)
    remote = bucket(keys)
    before = dict(keys.data)
    assert remote.capabilities.max_parallel == 16
    assert keys.asked == []
    assert remote.never_replaces() is looks
    assert remote.never_replaces() is looks
    assert remote.capabilities.atomic_create is looks
    assert keys.data == before
    assert len(keys.asked) == 1


def test_credentials_that_may_not_write_do_not_keep_from_reading() -> None:
    class ReadOnly(FlatKeys):
        def put(self, key: str, data: bytes, *, only_new: bool = False) -> None:
            raise Unreachable("403", permanent=True)

    keys = ReadOnly()
    keys.data["LOCALSTORE-REMOTE"] = b"localstore-remote 1\nid 0123456789abcdef\n"
    keys.data[LINK] = b"hello"
    remote = BucketRemote(keys, where="flat")
    assert not remote.never_replaces()
    assert remote.read(LINK, 0, 9) == b"hello"


def test_keys_say_what_was_taken() -> None:
    keys = FlatKeys()
    keys.put("a", b"1", only_new=True)
    with pytest.raises(KeyTaken):
        keys.put("a", b"2", only_new=True)
    assert keys.data["a"] == b"1"
