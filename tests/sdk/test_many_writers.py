"""One run from many threads, processes, forks and restarts."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections import Counter
from typing import TYPE_CHECKING

import pytest

import localstore
from localstore.errors import AlreadyExists, NotFound, UsageError
from localstore.layout import HomePaths
from localstore.projects import Projects
from localstore.vault import Vault
from tests.sdk.scripts import TIMEOUT_S, column, only_run, points, run_script, start

if TYPE_CHECKING:
    from pathlib import Path

    from localstore.project import Project

ONE_RANK = """
import sys, localstore
rank, count = int(sys.argv[1]), int(sys.argv[2])
run = localstore.init(project="shared", resume=(sys.argv[3] if sys.argv[3:] else None))
for step in range(count):
    run.log({f"rank{rank}": step, "all": rank * 10**6 + step}, step=step)
run.finish()
"""


def test_many_threads_lose_and_repeat_nothing() -> None:
    def work(number: int) -> None:
        for count in range(2000):
            run.log({"who": number, "count": count})

    with localstore.init(project="threads") as run:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = points()
    assert [row["_step"] for row in found] == list(range(16_000))
    for number in range(8):
        own = [row["count"] for row in found if row["who"] == number]
        assert own == list(range(2000))


def test_threads_that_log_while_others_flush_and_finish_raise_nothing() -> None:
    errors: list[BaseException] = []

    def guard(*arguments: object) -> None:
        errors.append(arguments[0].exc_value)  # type: ignore[attr-defined]

    def work() -> None:
        while not stop.is_set():
            run.log({"n": 1})
            taken.append(run.finished)

    before, threading.excepthook = threading.excepthook, guard
    stop, taken = threading.Event(), list[bool]()
    run = localstore.init(project="threads")
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        run.flush()
    run.finish()
    stop.set()
    for thread in threads:
        thread.join()
    threading.excepthook = before
    assert errors == []
    assert only_run().problems == []
    found = len(points())
    # The last call of each thread may have been on either side of the end.
    assert abs(found - taken.count(False)) <= 4


def test_processes_with_one_id_write_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALSTORE_RUN_ID", "together")
    ranks = [start(ONE_RANK, str(rank), "300") for rank in range(6)]
    for process in ranks:
        _, err = process.communicate(timeout=TIMEOUT_S)
        assert (process.returncode, err) == (0, "")
    run = only_run()
    assert (run.id, run.state, run.problems) == ("together", "finished", [])
    for rank in range(6):
        assert column(f"rank{rank}", run) == list(range(300))
    logs = list(HomePaths(localstore.Api().home.root).projects.glob("*/runs/*/*.log"))
    assert len(logs) == 12  # each its own, of points and of facts


def test_a_rank_that_starts_late_with_resume_replaces_nothing_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with localstore.init(project="shared", id="together") as run:
        for step in range(50):
            run.log({"rank0": step, "all": step}, step=step)
        monkeypatch.setenv("LOCALSTORE_RUN_ID", "together")
        code, _, err = run_script(ONE_RANK, "1", "30", "allow")
        assert (code, err) == (0, "")
        run.log({"rank0": 50}, step=50)
    assert column("rank0") == list(range(51))
    assert column("rank1") == list(range(30))
    assert only_run().gaps == {}


# ------------------------------------------------------------------ forks
def test_a_forked_child_and_its_parent_both_log() -> None:
    code, _, err = run_script("""
import os, localstore
run = localstore.init(project="fork")
for n in range(500): run.log({"parent": n})
child = os.fork()
if child == 0:
    for n in range(700): run.log({"child": n})
    run.finish()
    os._exit(0)
for n in range(500, 1500): run.log({"parent": n})
assert os.waitpid(child, 0)[1] == 0
""")
    assert (code, err) == (0, "")
    assert (column("parent"), column("child")) == (list(range(1500)), list(range(700)))
    assert (only_run().state, only_run().problems) == ("finished", [])


def test_a_child_that_vanishes_after_a_fork_loses_nothing() -> None:
    run_script("""
import os, localstore
run = localstore.init(project="fork")
run.log({"parent": 0})
if os.fork() == 0:
    for n in range(100): run.log({"child": n})
    os._exit(1)
os.wait()
run.log({"parent": 1})
""")
    assert (column("parent"), column("child")) == ([0, 1], list(range(100)))


def test_multiprocessing_workers_log_into_the_run_of_their_parent() -> None:
    code, _, err = run_script("""
import multiprocessing, localstore
def work(rank):
    for n in range(200): run.log({f"worker{rank}": n})
run = localstore.init(project="fork")
run.log({"parent": 0})
context = multiprocessing.get_context("fork")
workers = [context.Process(target=work, args=(rank,)) for rank in range(4)]
for worker in workers: worker.start()
for n in range(1, 300): run.log({"parent": n})
for worker in workers: worker.join()
""")
    assert (code, err) == (0, "")
    assert column("parent") == list(range(300))
    for rank in range(4):
        assert column(f"worker{rank}") == list(range(200))


def test_forks_in_the_middle_of_logging_threads_hang_and_lose_nothing() -> None:
    code, _, err = run_script("""
import os, threading, localstore
run = localstore.init(project="fork")
stop = threading.Event()
def work(name):
    n = 0
    while not stop.is_set():
        run.log({name: n}); n += 1
threads = [threading.Thread(target=work, args=(f"t{i}",)) for i in range(3)]
for t in threads: t.start()
children = []
for c in range(20):
    pid = os.fork()
    if pid == 0:
        for n in range(50): run.log({f"child{c}": n})
        run.flush()
        os._exit(0)
    children.append(pid)
codes = [os.waitpid(pid, 0)[1] for pid in children]
stop.set()
for t in threads: t.join()
assert codes == [0] * 20, codes
""")
    assert (code, err) == (0, "")
    for child in range(20):
        assert column(f"child{child}") == list(range(50))
    for number in range(3):
        found = column(f"t{number}")
        assert found == list(range(len(found)))


# ------------------------------------------------------------------ going on with a run
def first_part(steps: int, end: str = "run.finish()") -> None:
    run_script(f"""
import os, localstore
run = localstore.init(project="resume", id="again", config={{"lr": 1}}, name="first name")
for step in range({steps}): run.log({{"loss": step}})
{end}
""")


@pytest.mark.parametrize("end", ["run.finish()", "os._exit(9)"])
@pytest.mark.parametrize("resume", ["allow", "must", True, "auto"])
def test_a_run_goes_on_where_it_stopped(resume: str | bool, end: str) -> None:
    first_part(10, end)
    with localstore.init(project="resume", id="again", resume=resume) as run:
        assert (run.resumed, run.step, run.name, run.config["lr"]) == (True, 10, "first name", 1)
        run.log({"loss": 10})
        run.config.update({"more": 2})
    assert points() == [{"_step": step, "loss": step} for step in range(11)]
    assert only_run().config == {"lr": 1, "more": 2}
    assert (only_run().state, only_run().summary) == ("finished", {"loss": 10})


def test_resume_allow_begins_what_is_not_there() -> None:
    with localstore.init(project="resume", id="fresh", resume="allow") as run:
        assert not run.resumed
    assert only_run().id == "fresh"


def test_who_writes_beside_an_earlier_part_without_resume_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOCALSTORE_QUIET", "0")
    for resume, beside in ((None, False), (None, True), ("allow", False)):
        localstore.init(project="resume", id="again", resume=resume).finish()
        assert ("beside what this id has already" in capsys.readouterr().err) is beside


def test_resume_must_wants_a_run_that_is_there() -> None:
    with pytest.raises(NotFound):
        localstore.init(project="resume", id="again", resume="must")


def test_resume_never_wants_a_run_that_is_not_there() -> None:
    first_part(1)
    with pytest.raises(AlreadyExists):
        localstore.init(project="resume", id="again", resume="never")


@pytest.mark.parametrize("end", ["run.finish()", "os._exit(9)"])
def test_resume_from_replaces_what_stands_from_that_step_on(end: str) -> None:
    first_part(100, end)
    with localstore.init(project="resume", resume_from="again?_step=90") as run:
        assert run.step == 90
        for step in range(90, 95):
            run.log({"loss": -step})
    want = [*range(90), *(-step for step in range(90, 95))]
    assert points() == [{"_step": at, "loss": loss} for at, loss in enumerate(want)]


@pytest.mark.parametrize("end", ["run.finish()", "os._exit(9)"])
def test_a_restart_from_a_checkpoint_replaces_the_steps_that_it_repeats(end: str) -> None:
    first_part(100, end)
    with localstore.init(project="resume", id="again", resume="allow") as run:
        for step in range(90, 120):
            run.log({"loss": -step}, step=step)
        run.log({"loss": 0}, step=5)  # only its first point may go back
    want = [*range(90), *(-step for step in range(90, 120))]
    assert points() == [{"_step": at, "loss": loss} for at, loss in enumerate(want)]
    assert only_run().gaps == {"backwards step": 1}


@pytest.mark.parametrize("end", ["run.finish()", "os._exit(9)"])
def test_a_summary_is_over_all_parts_of_a_run(end: str) -> None:
    run_script(f"""
import os, localstore
run = localstore.init(project="resume", id="again")
run.define_metric("loss", summary="min,max,mean")
for loss in (4, 1, 7): run.log({{"loss": loss, "old": loss}})
{end}
""")
    with localstore.init(project="resume", id="again", resume="must") as run:
        run.log({"loss": 4})
        assert run.summary["loss"] == {"min": 1, "max": 7, "mean": 4.0}
    want = {"loss.min": 1, "loss.max": 7, "loss.mean": 4.0, "old": 7}
    assert only_run().summary == want


def test_restarts_of_restarts_replace_each_what_they_repeat() -> None:
    first_part(50)
    for round_, begin in ((1, 40), (2, 20), (3, 45)):
        with localstore.init(project="resume", id="again", resume="must") as run:
            for step in range(begin, begin + 10):
                run.log({"loss": 1000 * round_ + step}, step=step)
    want = [*range(20), *(2000 + s for s in range(20, 30)), *(3000 + s for s in range(45, 55))]
    assert column("loss") == want


@pytest.mark.parametrize(
    "text", ["again", "again?_step=", "?_step=4", "again?_step=-1", "a?_step=x"]
)
def test_a_malformed_resume_from_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        localstore.init(project="resume", resume_from=text)


def test_resume_from_a_run_that_is_not_there_is_refused() -> None:
    with pytest.raises(NotFound):
        localstore.init(project="resume", resume_from="nowhere?_step=5")


# ------------------------------------------------------------------ at once, on a fresh home
AT_ONCE = """
import sys, localstore
sys.stdin.readline()
run = localstore.init(project="crowd")
run.log({"n": int(sys.argv[1])})
run.finish()
"""


def crowd(count: int) -> None:
    """Let many processes meet a home that is not there yet."""
    import subprocess

    processes = [
        start(AT_ONCE, str(number), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        for number in range(count)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\\n")
        process.stdin.flush()
    for process in processes:
        _, err = process.communicate(timeout=600)
        assert (process.returncode, err) == (0, "")
    api = localstore.Api()
    assert len(api.projects()) == 1
    assert len(list(api.home.projects.iterdir())) == 1
    assert len([*api.home.root.glob(".new-*"), *api.home.root.rglob(".tmp-*")]) == 0
    found = Counter(value for run in api.runs() for value in column("n", run))
    assert found == Counter(range(count))


def test_fifty_processes_at_once_make_one_user_and_one_project() -> None:
    crowd(50)


@pytest.mark.fuzz
def test_five_hundred_processes_at_once_make_one_user_and_one_project() -> None:
    crowd(500)


# ------------------------------------------------------------------ two homes of one person
def named_here(home: HomePaths, name: str) -> list[Project]:
    identity = Vault(home).load()
    return Projects(home, identity).named("", name)


def test_projects_of_one_name_made_apart_are_one_and_have_one_place_to_write(
    tmp_path: Path,
) -> None:
    from localstore import identity, settings
    from tests.keys.conftest import carry

    homes = [HomePaths(tmp_path / "home"), HomePaths(tmp_path / "other")]
    with localstore.init(project="apart", dir=homes[0].root) as run:
        run.log({"at": 0})
    code = identity.recovery_code(Vault(homes[0]).load())
    # The other machine knows the person, and of the project nothing.
    Vault(homes[1]).create(identity.from_recovery_code(code, settings.account_name()), "file")
    with localstore.init(project="apart", dir=homes[1].root) as run:
        run.log({"at": 1})
    assert named_here(homes[0], "apart")[0].id != named_here(homes[1], "apart")[0].id
    carry(homes[0], homes[1])
    carry(homes[1], homes[0])
    ids = [[project.id for project in named_here(home, "apart")] for home in homes]
    assert ids[0] == ids[1]
    assert len(ids[0]) == 2
    for home in homes:
        with localstore.init(project="apart", dir=home.root) as run:
            run.log({"at": 2})
        runs = localstore.Api(home.root).runs("apart")
        assert sorted(column("at", run) for run in runs) == [[0], [1], [2]]
        newest = [p for p in home.all_projects() if p.id == ids[0][0].hex()]
        assert len(list(newest[0].runs.iterdir())) == 2


def test_a_home_that_is_moved_elsewhere_goes_on(tmp_path: Path) -> None:
    with localstore.init(project="moved", id="one") as run:
        run.log({"n": 1})
    (tmp_path / "home").rename(tmp_path / "elsewhere")
    os.environ["LOCALSTORE_HOME"] = str(tmp_path / "elsewhere")
    with localstore.init(project="moved", id="one", resume="must") as run:
        run.log({"n": 2})
    assert column("n") == [1, 2]


def test_a_project_that_was_removed_by_hand_is_made_anew(tmp_path: Path) -> None:
    localstore.init(project="removed").finish()
    shutil.rmtree(tmp_path / "home" / "projects")
    with localstore.init(project="removed") as run:
        run.log({"n": 1})
    assert column("n") == [1]


def test_a_working_folder_that_is_gone_costs_no_training(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    code, _, err = run_script(f"""
import os, localstore
os.chdir({str(tmp_path / "gone")!r})
os.rmdir(os.getcwd())
with localstore.init(project="gone") as run: run.log({{"n": 1}})
""")
    assert (code, err) == (0, "")
    assert column("n") == [1]


def test_where_no_thread_can_start_everything_is_kept_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        run = localstore.init(project="thread")
        for number in range(3000):
            run.log({"n": number})
    assert column("n") == list(range(3000))
    run.finish()
    assert (column("n"), only_run().state) == (list(range(3000)), "finished")


def test_a_second_thread_may_begin_a_run() -> None:
    def work() -> None:
        with localstore.init(project="thread") as run:
            run.log({"n": 1})

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert column("n") == [1]
    assert "localstore-writer" not in {one.name for one in threading.enumerate()}, sys.version
