"""What records of one artifact mean: the same for every order of arrival, whatever they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localstore.artifacts.edits import Said
from localstore.artifacts.model import ArtifactState, fold
from localstore.errors import NotFound, UsageError
from localstore.format.spec import RecordKind

if TYPE_CHECKING:
    import random

A, B, C = bytes([1]) * 32, bytes([2]) * 32, bytes([3]) * 32


class Log:
    """Records of one artifact, as one or several machines make them."""

    def __init__(self) -> None:
        self.said: list[Said] = []
        self.now = 1000
        self.add([RecordKind.ARTIFACT, 1, {"name": "model", "type": "model"}])

    def add(self, record: list[Any], *, deposit: bool = False, writer: bytes = b"w") -> None:
        place = (b"segment", len(self.said))
        self.said.append(Said(record=record, place=place, writer=writer, deposit=deposit))

    def version(self, number: Any, digest: Any, at: int = 0, **body: Any) -> None:
        self.now += 1
        body.setdefault("size", 10)
        self.add([RecordKind.VERSION, at or self.now, number, digest, body])

    def edit(
        self,
        operation: dict[Any, Any],
        *seen: bytes,
        at: int = 0,
        own: int = 0,
        deposit: bool = False,
    ) -> bytes:
        self.now += 1
        name = (own or self.now).to_bytes(16, "big")
        record = [RecordKind.EDIT, at or self.now, name, list(seen), operation]
        self.add(record, deposit=deposit)
        return name

    def fold(self) -> ArtifactState:
        return fold(self.said)


@pytest.fixture
def log() -> Log:
    return Log()


def test_versions_are_numbered_and_latest_is_the_one_that_was_logged_last(log: Log) -> None:
    log.version(0, A, files=2, size=7, manifest=[bytes(32), bytes(32)])
    log.version(1, B)
    log.edit({"aliases": {"latest": B, "best": A}})

    state = log.fold()
    assert [version.label for version in state.versions] == ["v0", "v1"]
    assert state.versions[0].aliases == ("best",)
    assert (state.versions[0].files, state.versions[0].size) == (2, 7)
    assert state.latest == state.find("v1") == state.find("") == state.find(B.hex())
    assert state.highest == 1


def test_two_contents_that_claim_one_number_both_keep_a_name(log: Log) -> None:
    log.version(3, B)
    log.version(3, A)

    state = log.fold()
    assert {v.digest: v.label for v in state.versions} == {A: "v3", B: "v3.0202"}
    assert state.find("v3").digest == A
    assert state.find("v3.0202").digest == state.find("v3.020202").digest == B


def test_digits_grow_until_they_tell_contents_apart(log: Log) -> None:
    near = B[:4] + bytes(28)
    for digest in (A, B, near):
        log.version(0, digest)

    labels = {v.digest: v.label for v in log.fold().versions}
    assert labels == {A: "v0", near: "v0.0202020200", B: "v0.0202020202"}
    with pytest.raises(UsageError):
        log.fold().find("v0.0202")


def test_a_content_that_got_two_numbers_answers_to_both(log: Log) -> None:
    log.version(2, A)
    log.version(5, A)
    log.version(5, B)

    state = log.fold()
    assert state.find("v2") == state.find("v5") == state.get(A)
    assert state.versions[0].labels == ("v2", "v5")
    assert state.versions[1].label == "v5.0202"


def test_an_edit_wins_over_what_it_saw_even_when_its_clock_is_behind(log: Log) -> None:
    log.version(0, A)
    log.version(1, B)
    first = log.edit({"aliases": {"best": A}}, at=9000)
    between = log.edit({"version": A, "set": {"description": "x"}}, first, at=8000)
    log.edit({"aliases": {"best": B}}, between, at=10)

    assert log.fold().aliases["best"] == B


def test_of_edits_that_did_not_see_each_other_the_later_wins_then_the_larger_id(log: Log) -> None:
    log.version(0, A)
    log.version(1, B)
    log.edit({"aliases": {"best": B, "even": A}}, at=20, own=7)
    log.edit({"aliases": {"best": A, "even": B}}, at=20, own=8)
    log.edit({"aliases": {"best": B}}, at=19, own=9)

    state = log.fold()
    assert (state.aliases["best"], state.aliases["even"]) == (A, B)
    assert len(state.tips) == 3


def test_an_alias_can_be_taken_away(log: Log) -> None:
    log.version(0, A)
    first = log.edit({"aliases": {"best": A}})
    log.edit({"aliases": {"best": None}}, first)

    assert log.fold().aliases == {"latest": A}


def test_a_removed_tag_removes_only_the_additions_that_were_seen(log: Log) -> None:
    log.version(0, A)
    first = log.edit({"version": A, "tags_add": ["good", "new"]})
    log.edit({"version": A, "tags_remove": ["good", "new"]}, first)
    log.edit({"version": A, "tags_add": ["good"]})

    assert log.fold().versions[0].tags == ("good",)


def test_edits_change_description_metadata_and_time_to_live(log: Log) -> None:
    log.version(0, A, description="old", metadata={"lr": 1}, ttl_us=5)
    assert log.fold().versions[0].expires_us == 1001 + 5
    log.edit({"version": A, "set": {"description": "new", "ttl_us": None}})

    version = log.fold().versions[0]
    assert (version.description, version.metadata, version.ttl_us) == ("new", {"lr": 1}, None)


def test_a_version_expires_unless_an_own_alias_names_it(log: Log) -> None:
    log.version(0, A, ttl_us=5)
    log.version(1, B, ttl_us=5)
    log.version(2, C)
    log.edit({"aliases": {"kept": A}})

    assert [v.digest for v in log.fold().expired(1002 + 5)] == [B]
    assert log.fold().expired(1002 + 4) == ()


def test_a_deleted_version_is_gone_with_its_aliases_and_latest_falls_back(log: Log) -> None:
    log.version(0, A)
    log.version(1, B)
    log.edit({"aliases": {"latest": B, "best": B}})
    log.edit({"delete": B}, at=2)

    state = log.fold()
    assert state.aliases == {"latest": A}
    assert state.highest == 1
    with pytest.raises(NotFound):
        state.find("v1")


def test_a_deletion_keeps_the_labels_of_the_others(log: Log) -> None:
    log.version(3, A)
    log.version(3, B)
    log.edit({"delete": A})

    assert [version.label for version in log.fold().versions] == ["v3.0202"]


def test_content_logged_again_after_its_deletion_lives(log: Log) -> None:
    log.version(0, A)
    gone = log.edit({"delete": A})
    log.version(1, A, after=[gone])

    state = log.fold()
    assert [(v.label, v.labels) for v in state.versions] == [("v1", ("v1",))]
    log.edit({"delete": A})
    assert not log.fold().versions


def test_a_device_that_may_only_write_deletes_nothing(log: Log) -> None:
    log.version(0, A)
    log.edit({"delete": A}, deposit=True)
    log.edit({"aliases": {"best": A}}, deposit=True)

    assert log.fold().aliases == {"best": A, "latest": A}


def test_an_alias_of_a_version_that_has_not_arrived_waits_for_it(log: Log) -> None:
    log.version(0, A)
    log.edit({"aliases": {"best": B, "latest": B}})
    assert log.fold().aliases == {"latest": A}
    log.version(1, B)

    assert log.fold().aliases == {"best": B, "latest": B}


def test_edits_that_claim_to_have_seen_each_other_harm_nobody(log: Log) -> None:
    log.version(0, A)
    one, two = (7).to_bytes(16, "big"), (8).to_bytes(16, "big")
    log.edit({"aliases": {"best": A}}, two, own=7)
    log.edit({"aliases": {"best": None}}, one, own=8)

    assert log.fold().aliases == {"latest": A}


def test_what_logged_a_version_is_kept(log: Log) -> None:
    log.version(0, A, run={"id": "r1", "project": "p", "entity": "e"})
    log.version(4, A, run={"id": "r2"})

    assert [run.id for run in log.fold().versions[0].runs] == ["r1", "r2"]


@pytest.mark.parametrize(
    "record",
    [
        [RecordKind.VERSION, 5, -1, A, {}],
        [RecordKind.VERSION, 5, True, A, {}],
        [RecordKind.VERSION, 5, 1 << 62, A, {}],
        [RecordKind.VERSION, 5, 0, A[:31], {}],
        [RecordKind.VERSION, 5, 0, "text", {}],
        [RecordKind.VERSION, 5, 0, A],
        [RecordKind.EDIT, 5, b"short", [], {"delete": C}],
        [RecordKind.EDIT, 5, bytes(16), [], {"aliases": {"v1": C, "a:b": C, "\x1b[2J": C, 5: C}}],
        [RecordKind.EDIT, 5, bytes(16), [], {"aliases": {"x" * 1000: C, "best": "text"}}],
        [RecordKind.EDIT, 5, bytes(16), [], {"aliases": [C], "version": C, "set": [1]}],
        [RecordKind.EDIT, 5, bytes(16), [3, b"x"], {"version": C, "set": {"ttl_us": -4}}],
        [RecordKind.EDIT, 5, bytes(16), [], {"version": C, "tags_add": [1, "", "\n", "x" * 999]}],
        [RecordKind.EDIT, 5, bytes(16), [], {"delete": 5, "unknown": {}}],
        [RecordKind.ARTIFACT, 0, {"name": "a/b", "type": "model"}],
        [RecordKind.ARTIFACT, 0, {"type": 5}],
        [99, 5, "of a later localstore"],
    ],
)
def test_nonsense_changes_nothing(log: Log, record: list[Any]) -> None:
    log.version(0, C, description="d")
    before = log.fold()
    log.add(record)

    after = log.fold()
    assert (after.versions, after.aliases) == (before.versions, before.aliases)
    assert (after.name, after.type) == ("model", "model")


def test_a_version_with_a_senseless_description_is_shown_without_it(log: Log) -> None:
    body: dict[str, Any] = {
        "metadata": [1],
        "ttl_us": "x",
        "run": {"id": 5},
        "type": "a:b",
        "manifest": [b"x"],
    }
    log.version(0, A, 0, description=5, **body)

    version = log.fold().versions[0]
    assert (version.description, version.metadata, version.ttl_us) == ("", {}, None)
    assert (version.runs, version.type, version.manifests) == ((), "model", ())


_values = st.recursive(
    st.none() | st.integers(-5, 5) | st.text(max_size=3) | st.sampled_from([A, B, C, bytes(16)]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["aliases", "version", "set", "delete", "name", "type", "best", "after"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@given(
    st.lists(
        st.tuples(st.sampled_from(list(RecordKind)), st.lists(_values, max_size=4)), max_size=8
    )
)
def test_the_fold_survives_every_record(records: list[tuple[int, list[Any]]]) -> None:
    log = Log()
    for kind, more in records:
        log.add([int(kind), 5, *more])
    assert len(log.fold().versions) <= len(records)


_ids = st.integers(1, 6)
_edits = st.tuples(
    _ids,
    st.lists(_ids, max_size=2),
    st.integers(1, 4),
    st.sampled_from(
        [
            {"aliases": {"best": A, "latest": A}},
            {"aliases": {"best": B}},
            {"aliases": {"best": None}},
            {"version": A, "set": {"description": "one"}},
            {"version": A, "set": {"description": "two", "ttl_us": 5}},
            {"version": A, "tags_add": ["t"]},
            {"version": A, "tags_remove": ["t"]},
            {"delete": B},
        ]
    ),
)
_versions = st.tuples(st.integers(0, 2), st.sampled_from([A, B, C]), st.integers(1, 4))


@given(st.lists(_edits, max_size=10), st.lists(_versions, max_size=6), st.randoms())
def test_every_order_of_arrival_gives_one_state(
    edits: list[Any], versions: list[Any], order: random.Random
) -> None:
    log = Log()
    for own, seen, at, operation in edits:
        log.edit(operation, *(one.to_bytes(16, "big") for one in seen), at=at, own=own)
    for number, digest, at in versions:
        log.version(number, digest, at, description=f"at {at}")
    shuffled = list(log.said)
    order.shuffle(shuffled)

    assert fold(shuffled) == log.fold()


@given(st.lists(_versions, max_size=6))
def test_every_version_is_found_under_each_of_its_names(versions: list[Any]) -> None:
    log = Log()
    for number, digest, at in versions:
        log.version(number, digest, at)

    state = log.fold()
    labels = [label for version in state.versions for label in version.labels]
    assert len(labels) == len(set(labels))
    for version in state.versions:
        assert all(state.find(label) == version for label in version.labels)
    assert (state.latest is None) == (not versions)
