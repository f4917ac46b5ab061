"""Which objects are needed: whoever wants to keep one is believed, who cancels must be vouched."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from localstore.errors import Damaged
from localstore.format import segment, spec
from localstore.format.references import LogRefs, RefFrame, needed, scan, vouched_cancels
from localstore.format.spec import CertKind
from localstore.layout import DIRECTORY_MODE
from localstore.store.references import References
from localstore.trust import Belief, read_project
from tests.sync.makers import NOW_US, Log, Project, frame, make_project

if TYPE_CHECKING:
    from pathlib import Path

S, G = "11" * 16, "22" * 16
X, Y = secrets.token_bytes(32), secrets.token_bytes(32)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project without runs."""
    return make_project(tmp_path / "home")


def wanted(project: Project, **words: object) -> dict[str, list[str]]:
    """What the logs on disk need; none of them may be damaged."""
    state, references = read_project(project.paths), References(project.paths)
    references.look()
    assert not references.problems
    return references.needed(state, state.erased(NOW_US), **words)  # type: ignore[arg-type]


class TestWhatKeeps:
    def test_a_ref_keeps_its_objects_and_names_its_log(self, project: Project) -> None:
        log, other = Log(project, S), Log(project, "33" * 16)
        log.ref(X, Y)
        log.ref(X)
        other.ref(X)
        found = wanted(project)
        assert sorted(found[X.hex()]) == sorted([log.name, other.name])
        assert found[Y.hex()] == [log.name]

    def test_a_ref_that_nobody_vouches_for_keeps(self, project: Project) -> None:
        stranger = (secrets.token_bytes(32), secrets.token_bytes(32))
        Log(project, S, writer=stranger).ref(X)
        assert X.hex() in wanted(project)

    def test_an_erased_subject_keeps_nothing_and_one_in_the_trash_does(
        self, project: Project
    ) -> None:
        Log(project, S).ref(X)
        Log(project, G).ref(Y)
        project.bury(S)
        project.bury(G, NOW_US + 1)
        assert set(wanted(project)) == {Y.hex()}

    def test_a_fork_keeps_what_its_log_does_not_name(self, project: Project) -> None:
        log = Log(project, S)
        begin = log.path.read_bytes()
        log.ref(X)
        fork = log.path.with_name(f"{log.id.hex()}-{'0' * 32}.fork")
        fork.write_bytes(begin + segment.encode_ref([Y], 0))
        assert set(wanted(project)) == {X.hex(), Y.hex()}

    def test_a_torn_end_is_no_damage_and_is_read_when_it_is_whole(self, project: Project) -> None:
        log = Log(project, S)
        begin, ref = log.path.read_bytes(), segment.encode_ref([X], 0)
        references, state = References(project.paths), read_project(project.paths)
        for cut in range(len(ref)):
            log.path.write_bytes(begin + ref[:cut])
            references.look()
            assert not references.problems
            assert references.needed(state, ()) == {}
        log.path.write_bytes(begin + ref)
        assert references.look()
        assert references.needed(state, ()) == {X.hex(): [log.name]}
        assert not references.look()

    def test_a_log_cut_anywhere_in_its_header_names_nothing_yet(self, project: Project) -> None:
        log = Log(project, S)
        raw = log.path.read_bytes()
        for cut in range(0, len(raw), 37):
            log.path.write_bytes(raw[:cut])
            assert wanted(project) == {}

    def test_a_log_of_many_pieces_is_read_whole(
        self, project: Project, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("localstore.store.references._PIECE_BYTES", 1000)
        log = Log(project, S)
        for _ in range(5):
            log.records(300)
        log.ref(X)
        for _ in range(5):
            log.records(700)
        log.ref(Y)
        assert set(wanted(project)) == {X.hex(), Y.hex()}


class TestDamage:
    def test_a_flipped_bit_anywhere_is_named_or_loses_no_object(self, project: Project) -> None:
        log = Log(project, S)
        log.ref(X)
        log.records(40)
        log.ref(Y)
        log.head()
        raw, state = log.path.read_bytes(), read_project(project.paths)
        for at in range(len(raw)):
            for bit in (1, 4):
                bad = bytearray(raw)
                bad[at] ^= bit
                log.path.write_bytes(bad)
                references = References(project.paths)
                references.look()
                found = references.needed(state, ())
                assert references.problems or found.keys() == {X.hex(), Y.hex()}, at

    def test_a_frame_cut_out_is_named(self, project: Project) -> None:
        log = Log(project, S)
        start = log.path.stat().st_size
        log.ref(X)
        end = log.path.stat().st_size
        log.records()
        raw = log.path.read_bytes()
        log.path.write_bytes(raw[:start] + raw[end:])
        references = References(project.paths)
        references.look()
        assert references.problems[log.name].offset == start

    def test_a_log_under_anothers_name_is_named(self, project: Project) -> None:
        log = Log(project, S)
        log.path.rename(log.path.with_name(f"{'44' * 16}.log"))
        references = References(project.paths)
        references.look()
        assert len(references.problems) == 1

    def test_a_log_that_cannot_be_opened_is_named(self, project: Project) -> None:
        log = Log(project, S)
        log.path.unlink()
        log.path.symlink_to(project.paths.root / "FORMAT")
        references = References(project.paths)
        references.look()
        assert "cannot be read" in references.problems[log.name].problem

    def test_what_erased_logs_say_does_not_matter(self, project: Project) -> None:
        Log(project, S).path.write_bytes(b"nonsense" * 100)
        references = References(project.paths)
        references.look({S})
        assert not references.problems

    def test_files_that_are_no_logs_are_passed_over(self, project: Project) -> None:
        folder = project.paths.runs / S
        folder.mkdir(parents=True, mode=DIRECTORY_MODE)
        (folder / "x.log").write_bytes(b"x")
        (folder / f"{G}.t0").write_bytes(frame(0))
        (project.paths.runs / "stray").write_bytes(b"x")
        assert wanted(project) == {}


class TestWhatCancels:
    @pytest.fixture
    def log(self, project: Project) -> Log:
        """Its first frame names X, its second Y."""
        log = Log(project, S)
        log.ref(X)
        log.ref(Y)
        return log

    def test_a_trusted_unref_cancels_one_frame_once_it_is_vouched_for(
        self, project: Project, log: Log
    ) -> None:
        other = Log(project, S)
        other.unref(log, 0)
        assert X.hex() in wanted(project)
        other.head()
        assert set(wanted(project)) == {Y.hex()}

    def test_a_log_may_cancel_its_own_frames_and_name_the_object_again(
        self, project: Project, log: Log
    ) -> None:
        log.unref(log, 0)
        log.head()
        assert set(wanted(project)) == {Y.hex()}
        log.ref(X)
        assert set(wanted(project)) == {X.hex(), Y.hex()}

    def test_an_unref_cut_anywhere_before_its_head_cancels_nothing(
        self, project: Project, log: Log
    ) -> None:
        other = Log(project, S)
        start = other.path.stat().st_size
        other.unref(log, 0)
        other.head()
        raw = other.path.read_bytes()
        for end in range(start, len(raw)):
            other.path.write_bytes(raw[:end])
            assert X.hex() in wanted(project)

    def test_an_unref_behind_the_last_head_cancels_nothing(
        self, project: Project, log: Log
    ) -> None:
        log.head(final=True)
        log.unref(log, 0)
        assert X.hex() in wanted(project)

    @pytest.mark.parametrize("lie", ["count", "length", "chain", "signature", "index"])
    def test_a_head_that_does_not_fit_vouches_for_nothing(
        self, project: Project, log: Log, lie: str
    ) -> None:
        log.unref(log, 0)
        right = segment.Head(
            count=log.count,
            length=log.path.stat().st_size,
            chain=log.chain,
            time_us=NOW_US,
            final=False,
        )
        wrong = segment.Head(
            count=right.count + (lie == "count"),
            length=right.length + (lie == "length"),
            chain=bytes(32) if lie == "chain" else right.chain,
            time_us=NOW_US,
            final=False,
        )
        seed = secrets.token_bytes(32) if lie == "signature" else log.seed
        index = log.count - 1 if lie == "index" else log.count
        log.append(segment.encode_head(wrong, log.id, index, seed))
        assert X.hex() in wanted(project)

    def test_a_machine_that_only_writes_cannot_make_objects_vanish(
        self, project: Project, log: Log
    ) -> None:
        writer = project.writer(CertKind.DEPOSIT, NOW_US + 10**15)
        other = Log(project, S, writer=writer)
        other.unref(log, 0)
        other.head()
        state = read_project(project.paths)
        header, _ = segment.decode_header(other.path.read_bytes())
        assert state.judge(header).belief is Belief.TRUSTED
        assert state.judge_cancel(header).belief is Belief.REFUSED
        assert X.hex() in wanted(project, believed=(Belief.TRUSTED, Belief.FLAGGED))

    def test_a_stranger_cannot_make_objects_vanish(self, project: Project, log: Log) -> None:
        stranger = (secrets.token_bytes(32), secrets.token_bytes(32))
        other = Log(project, S, writer=stranger)
        other.unref(log, 0)
        other.head()
        assert X.hex() in wanted(project)

    def test_another_device_of_the_person_can(self, project: Project, log: Log) -> None:
        other = Log(project, S, writer=project.writer())
        other.unref(log, 0, 1)
        other.head()
        assert wanted(project) == {}

    def test_a_log_of_another_subject_cancels_nothing(self, project: Project, log: Log) -> None:
        other = Log(project, "33" * 16)
        other.unref(log, 0)
        other.head()
        assert X.hex() in wanted(project)

    def test_of_two_versions_of_a_log_nobody_knows_which_was_meant(self, project: Project) -> None:
        log = Log(project, S)
        begin = log.path.read_bytes()
        log.ref(X)
        fork = log.path.with_name(f"{log.id.hex()}-{'0' * 32}.fork")
        fork.write_bytes(begin + segment.encode_ref([Y], 0))
        other = Log(project, S)
        other.unref(log, 0)
        other.head()
        assert set(wanted(project)) == {X.hex(), Y.hex()}
        fork.write_bytes(begin + segment.encode_ref([X], 0))
        assert wanted(project) == {}

    def test_a_broken_unref_is_damage(self, project: Project, log: Log) -> None:
        log.append(segment.encode_frame(spec.FrameType.UNREF, log.count, b"x" * 23))
        references = References(project.paths)
        references.look()
        assert "cancelled" in references.problems[log.name].problem


class TestPure:
    def test_what_is_cancelled_says_since_when(self, project: Project) -> None:
        log = Log(project, S)
        log.unref(log, 7)
        log.head(time_us=5)
        log.unref(log, 8)
        log.head(time_us=6)
        log.unref(log, 9)
        raw = memoryview(log.path.read_bytes())
        assert vouched_cancels(raw) == {(log.id.hex(), 7): 5, (log.id.hex(), 8): 6}

    def test_vouching_ends_where_damage_begins(self, project: Project) -> None:
        log = Log(project, S)
        log.unref(log, 7)
        log.head()
        whole = log.path.read_bytes()
        log.unref(log, 8)
        log.head()
        raw = bytearray(log.path.read_bytes())
        raw[len(whole) + 20] ^= 1
        assert vouched_cancels(memoryview(bytes(raw))) == {(log.id.hex(), 7): NOW_US}

    def test_a_bad_header_vouches_for_nothing(self, project: Project) -> None:
        raw = bytearray(Log(project, S).path.read_bytes())
        raw[50] ^= 1
        with pytest.raises(Damaged):
            vouched_cancels(memoryview(bytes(raw)))

    def test_a_piece_that_ends_inside_a_frame_goes_on_behind_it(self) -> None:
        raw = segment.encode_ref([X], 0) + segment.encode_ref([Y], 1)
        found = scan(memoryview(raw)[:-1], 0, whole=False)
        assert found.end == len(raw) // 2
        assert found.refs == {0: {X.hex()}}
        assert found.next_index == 1

    def test_a_cancelled_frame_of_another_log_is_not_this_one(self) -> None:
        logs = [LogRefs("a", S, G, {0: frozenset({"x"})}), LogRefs("b", G, S, {0: frozenset("y")})]
        assert needed(logs) == {"x": ["a"], "y": ["b"]}
        assert needed(logs, [RefFrame(S, G, 0)]) == {"y": ["b"]}
        assert needed(logs, [RefFrame(S, G, 1), RefFrame(S, S, 0)]) == {"x": ["a"], "y": ["b"]}
